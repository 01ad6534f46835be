//! Keys and values, in blocks of 16 positions of one sequence.
//!
//! A block holds all layers of its positions: for each layer and key head the keys, turned so that the 16 positions of one
//! dimension lie side by side (a vector of scores is then a sum of vectors, without a sum across one), then the values, one
//! position behind another. Blocks are counted: a prompt's full blocks are shared by its answers and never written again.
//!
//! Whoever takes a block gives it back. Memory that was used once is kept for the next. It is taken some megabytes at a time, so
//! that the kernel can map it in large pages: a decode step touches a few lines of very many.

use super::aligned::{Aligned, round_up};
use crate::ModelConfig;

/// Positions of a block.
pub const BLOCK: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Blocks {
    pub(super) shape: BlockShape,
    slabs: Vec<Aligned>,
    /// Where each block lies.
    memory: Vec<Place>,
    holders: Vec<u32>,
    free: Vec<u32>,
    /// Blocks that there may be at most.
    limit: usize,
}

/// The number of a slab, and the first float in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    slab: usize,
    start: usize,
}

/// Floats of a slab, unless a block is larger.
const SLAB: usize = (8 << 20) / size_of::<f32>();

/// Where things lie in a block, in floats.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockShape {
    layers: usize,
    kv_heads: usize,
    pub(super) width: usize,
    /// From one position's values to the next.
    pub(super) value_stride: usize,
}

impl BlockShape {
    fn head(self) -> usize {
        BLOCK * (self.width + self.value_stride)
    }

    fn floats(self) -> usize {
        self.layers * self.kv_heads * self.head()
    }

    /// The keys of a layer's head.
    pub(super) fn keys(self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * self.head()
    }

    /// The values of a layer's head.
    pub(super) fn values(self, layer: usize, head: usize) -> usize {
        self.keys(layer, head) + BLOCK * self.width
    }
}

impl Blocks {
    /// None yet, and at most `limit`.
    pub fn new(config: &ModelConfig, limit: usize) -> Self {
        let width = config.head_dim as usize;
        let shape = BlockShape {
            layers: config.layers,
            kv_heads: config.kv_heads as usize,
            width,
            value_stride: round_up(width),
        };
        Self { shape, slabs: Vec::new(), memory: Vec::new(), holders: Vec::new(), free: Vec::new(), limit }
    }

    /// Bytes of one block.
    pub fn block_bytes(config: &ModelConfig) -> u64 {
        (Self::new(config, 0).shape.floats() * size_of::<f32>()) as u64
    }

    /// How many can still be taken.
    pub fn available(&self) -> usize {
        self.free.len() + self.limit.saturating_sub(self.memory.len())
    }

    /// How many are taken.
    pub fn used(&self) -> usize {
        self.memory.len() - self.free.len()
    }

    /// Takes a block, whose content is finite; `None` if there may be no more.
    pub fn take(&mut self) -> Option<u32> {
        if let Some(block) = self.free.pop() {
            self.holders[block as usize] = 1;
            return Some(block);
        }
        if self.memory.len() >= self.limit {
            return None;
        }
        let size = self.shape.floats();
        let behind = self.memory.last().map(|last| Place { start: last.start + size, ..*last });
        let place = behind.filter(|place| place.start + size <= self.slabs[place.slab].len()).unwrap_or_else(|| {
            let most = (SLAB / size).clamp(1, self.limit - self.memory.len());
            self.slabs.push(Aligned::zeros(most * size));
            Place { slab: self.slabs.len() - 1, start: 0 }
        });
        self.memory.push(place);
        self.holders.push(1);
        Some(self.memory.len() as u32 - 1)
    }

    /// One more holds it.
    pub fn share(&mut self, block: u32) {
        self.holders[block as usize] += 1;
    }

    /// A block of one's own with the same content.
    pub fn copy(&mut self, block: u32) -> Option<u32> {
        let copy = self.take()?;
        let (from, to, size) = (self.memory[block as usize], self.memory[copy as usize], self.shape.floats());
        if from.slab == to.slab {
            self.slabs[to.slab].copy_within(from.start..from.start + size, to.start);
        } else {
            let source = std::mem::take(&mut self.slabs[from.slab]);
            self.slabs[to.slab][to.start..][..size].copy_from_slice(&source[from.start..][..size]);
            self.slabs[from.slab] = source;
        }
        Some(copy)
    }

    /// One fewer holds it; the last one's is free.
    pub fn give_back(&mut self, block: u32) {
        let holders = &mut self.holders[block as usize];
        // No data leads here: tables are emptied as they are given back.
        assert!(*holders > 0, "block {block} was given back more often than it was taken");
        *holders -= 1;
        if *holders == 0 {
            self.free.push(block);
        }
    }

    /// The memory of every block.
    pub(super) fn pointers(&mut self, into: &mut Vec<*mut f32>) {
        let slabs: Vec<*mut f32> = self.slabs.iter_mut().map(|slab| slab.as_mut_ptr()).collect();
        into.clear();
        into.extend(self.memory.iter().map(|place| slabs[place.slab].wrapping_add(place.start)));
    }
}
