//! Attention of one row to the positions of its sequence.
#![allow(clippy::needless_range_loop, reason = "indices run over several arrays at once, which unroll into registers")]

use super::aligned::LINE;
use super::blocks::{BLOCK, BlockShape};
use super::lanes::Lanes;
use super::level::at_each_level;

/// What the query heads of one key head look at.
#[derive(Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) shape: BlockShape,
    /// Of all blocks.
    pub(super) memory: &'a [*mut f32],
    /// The sequence's blocks.
    pub(super) blocks: &'a [u32],
    /// Those of the sequence whose turn is next: fetched meanwhile, since the caches of a whole batch fit no cache near by.
    pub(super) next: &'a [u32],
    pub(super) layer: usize,
    /// Which key head.
    pub(super) head: usize,
    /// The first position that is seen, and the one behind the last.
    pub(super) first: usize,
    pub(super) end: usize,
}

impl Reach<'_> {
    #[inline(always)]
    unsafe fn keys(&self, block: usize) -> *const f32 {
        // SAFETY: the caller's: the table names blocks that exist.
        unsafe { self.memory[self.blocks[block] as usize].add(self.shape.keys(self.layer, self.head)) }
    }

    /// How far the same part of the next sequence's block is from here; nowhere, if it has none.
    #[inline(always)]
    fn ahead(&self, block: usize) -> isize {
        let memory = |blocks: &[u32]| self.memory[blocks[block] as usize] as isize;
        if block < self.next.len() { memory(self.next) - memory(self.blocks) } else { 0 }
    }

    #[inline(always)]
    unsafe fn values(&self, block: usize) -> *const f32 {
        // SAFETY: the caller's: the table names blocks that exist.
        unsafe { self.memory[self.blocks[block] as usize].add(self.shape.values(self.layer, self.head)) }
    }
}

at_each_level! {
    /// Writes key and value of a position.
    pub(super) unsafe fn append(reach: &Reach<'_>, position: usize, key: *const f32, value: *const f32) = append_body
}

/// # Safety
/// `key` and `value` have a head's width; the table reaches to `position`, and nobody else touches that position.
#[inline(always)]
unsafe fn append_body<V: Lanes>(reach: &Reach<'_>, position: usize, key: *const f32, value: *const f32) {
    let (shape, within) = (reach.shape, position % BLOCK);
    // SAFETY: the caller's.
    unsafe {
        let memory = reach.memory[reach.blocks[position / BLOCK] as usize];
        let keys = memory.add(shape.keys(reach.layer, reach.head) + within);
        for dimension in 0..shape.width {
            *keys.add(dimension * BLOCK) = *key.add(dimension);
        }
        let values = memory.add(shape.values(reach.layer, reach.head) + within * shape.value_stride);
        std::ptr::copy_nonoverlapping(value, values, shape.width);
    }
}

at_each_level! {
    /// softmax(q·kᵀ · scale)·v of `heads` query heads that share a key head; queries and results lie one behind another.
    /// `scores`: room for `heads` rows of the sequence's positions, in whole blocks.
    pub(super) unsafe fn attend(
        reach: &Reach<'_>, heads: usize, query: *const f32, scale: f32, scores: *mut f32, mixed: *mut f32,
    ) = attend_body
}

/// # Safety
/// The pointers are to as much as the table's positions and the heads' widths need; no position that is seen is being written.
#[inline(always)]
unsafe fn attend_body<V: Lanes>(
    reach: &Reach<'_>,
    heads: usize,
    query: *const f32,
    scale: f32,
    scores: *mut f32,
    mixed: *mut f32,
) {
    let width = reach.shape.width;
    let columns = reach.end.next_multiple_of(BLOCK);
    let mut head = 0;
    while head < heads {
        let together = (heads - head).min(4);
        // SAFETY: the caller's.
        unsafe {
            let (query, mixed) = (query.add(head * width), mixed.add(head * width));
            match together {
                1 => some::<V, 1>(reach, columns, query, scale, scores, mixed),
                2 => some::<V, 2>(reach, columns, query, scale, scores, mixed),
                3 => some::<V, 3>(reach, columns, query, scale, scores, mixed),
                _ => some::<V, 4>(reach, columns, query, scale, scores, mixed),
            }
        }
        head += together;
    }
}

#[inline(always)]
unsafe fn some<V: Lanes, const G: usize>(
    reach: &Reach<'_>,
    columns: usize,
    query: *const f32,
    scale: f32,
    scores: *mut f32,
    mixed: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        products::<V, G>(reach, columns, query, scale, scores);
        let mut totals = [0f32; G];
        for head in 0..G {
            totals[head] = softmax::<V>(scores.add(head * columns), reach.first, reach.end).1;
        }
        let mut start = 0;
        while start < reach.shape.value_stride {
            let lines = (reach.shape.value_stride - start) / LINE;
            if lines >= 2 {
                mix::<V, G, 2>(reach, columns, scores, &totals, start, mixed);
                start += 2 * LINE;
            } else {
                mix::<V, G, 1>(reach, columns, scores, &totals, start, mixed);
                start += LINE;
            }
        }
    }
}

/// Sixteen times ∞, then -∞ as often, then ∞ again: what is no less than what is seen, and less than all that is not.
static EDGES: [f32; 3 * BLOCK] = {
    let mut edges = [f32::INFINITY; 3 * BLOCK];
    let mut i = BLOCK;
    while i < 2 * BLOCK {
        edges[i] = f32::NEG_INFINITY;
        i += 1;
    }
    edges
};

/// Sixteen bounds for a block's scores: -∞ at positions before `first`.
pub(super) fn seen_from(first: usize, block: usize) -> *const f32 {
    let unseen = first.saturating_sub(block * BLOCK).min(BLOCK);
    EDGES[2 * BLOCK - unseen..].as_ptr()
}

/// Sixteen bounds for a block's scores: -∞ from position `end` on.
pub(super) fn seen_until(end: usize, block: usize) -> *const f32 {
    let seen = end.saturating_sub(block * BLOCK).min(BLOCK);
    EDGES[BLOCK - seen..].as_ptr()
}

/// The scores of every position in the blocks with one that is seen; -∞ for those that are not.
#[inline(always)]
unsafe fn products<V: Lanes, const G: usize>(
    reach: &Reach<'_>,
    columns: usize,
    query: *const f32,
    scale: f32,
    scores: *mut f32,
) {
    let width = reach.shape.width;
    // SAFETY: the caller's.
    unsafe {
        for block in reach.first / BLOCK..columns / BLOCK {
            let (keys, ahead) = (reach.keys(block), reach.ahead(block));
            let mut sums = [V::splat(0.0); G];
            for dimension in 0..width {
                let keys = keys.add(dimension * BLOCK);
                V::fetch(keys.wrapping_byte_offset(ahead));
                let keys = V::load(keys);
                for head in 0..G {
                    sums[head] = V::splat(*query.add(head * width + dimension)).fma(keys, sums[head]);
                }
            }
            let seen = V::load(seen_from(reach.first, block)).min(V::load(seen_until(reach.end, block)));
            for head in 0..G {
                sums[head].mul(V::splat(scale)).min(seen).store(scores.add(head * columns + block * BLOCK));
            }
        }
    }
}

/// e^(score - largest) in place; returns the largest and the sum.
#[inline(always)]
pub(super) unsafe fn softmax<V: Lanes>(scores: *mut f32, first: usize, end: usize) -> (f32, f32) {
    let (start, columns) = (first - first % BLOCK, end.next_multiple_of(BLOCK));
    // SAFETY: the caller's.
    unsafe {
        let mut largest = V::splat(f32::NEG_INFINITY);
        for column in (start..columns).step_by(LINE) {
            largest = V::load(scores.add(column)).max(largest);
        }
        let most = largest.largest();
        let largest = V::splat(-most);
        let mut sum = V::splat(0.0);
        for column in (start..columns).step_by(LINE) {
            let weight = V::load(scores.add(column)).add(largest).exp();
            weight.store(scores.add(column));
            sum = sum.add(weight);
        }
        (most, sum.sum())
    }
}

/// J lines of the values, from `start` on, weighted and divided by the totals.
#[inline(always)]
unsafe fn mix<V: Lanes, const G: usize, const J: usize>(
    reach: &Reach<'_>,
    columns: usize,
    weights: *const f32,
    totals: &[f32; G],
    start: usize,
    mixed: *mut f32,
) {
    let BlockShape { width, value_stride, .. } = reach.shape;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0.0); J]; G];
        let mut position = reach.first;
        while position < reach.end {
            let block = position / BLOCK;
            let (values, ahead) = (reach.values(block).add(start), reach.ahead(block));
            for position in position..reach.end.min((block + 1) * BLOCK) {
                let values = values.add(position % BLOCK * value_stride);
                for line in 0..J {
                    V::fetch(values.wrapping_byte_offset(ahead).wrapping_add(line * LINE));
                }
                for head in 0..G {
                    let weight = V::splat(*weights.add(head * columns + position));
                    for line in 0..J {
                        sums[head][line] = weight.fma(V::load(values.add(line * LINE)), sums[head][line]);
                    }
                }
            }
            position = (block + 1) * BLOCK;
        }
        for head in 0..G {
            for line in 0..J {
                let sum = sums[head][line].div(V::splat(totals[head]));
                let (from, to) = (start + line * LINE, mixed.add(head * width + start + line * LINE));
                if from + LINE <= width {
                    sum.store(to);
                } else {
                    let array = sum.to_array();
                    std::ptr::copy_nonoverlapping(array.as_ptr(), to, width - from);
                }
            }
        }
    }
}
