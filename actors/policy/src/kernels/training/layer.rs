//! The layers of a training pass, forward and backward, as each thread of the team sees them.
//!
//! Threads share the tokens evenly for all that works token by token, heads of rows (one after the other, to whoever is free)
//! for attention, and outputs for gradients by matrices, which sum over all tokens. They wait for each other where one reads
//! what another wrote: twice a layer forward, four times backward. Who does what changes no sum.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use super::super::gemm::Rows;
use super::super::level::Level;
use super::super::pass::share;
use super::super::rowwise::{rms_norm, rotate};
use super::super::team::Barrier;
use super::backward::inverse_root;
use super::places::{Affine, KeptRows, LayerPlaces, Places, ScratchRows, Sizes};
use super::product::{Operand, Product, multiply};
use super::rowwise::{Columns, Normed, add_columns, gated_to, norm_backward};
use super::{PackedRows, RowSpan};
use crate::ModelConfig;

/// How many tokens are summed at a time in gradients by matrices: their panel and a tile's columns stay in near caches.
pub(super) const TOKENS: usize = 512;

/// Attention's index among the two halves of a layer, and the MLP's.
pub(super) const ATTENTION: usize = 0;
pub(super) const MLP: usize = 1;

/// Memory of one thread.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) panel: Vec<f32>,
    pub(super) head: Vec<f32>,
}

/// What all threads of a pass know.
pub(super) struct Pass<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) sizes: Sizes,
    pub(super) level: Level,
    pub(super) weights: &'a Places,
    /// Cosines, signed sines, and the same with the other sign, (positions, D).
    pub(super) rotations: [&'a [f32]; 3],
    pub(super) work: &'a PackedRows<'a>,
    pub(super) spans: &'a [RowSpan],
    /// What each layer reads and, last, what the last one gives.
    pub(super) inputs: &'a [Rows<*mut f32>],
    /// One of each layer, or one for all in turn.
    pub(super) kept: &'a [KeptRows],
    pub(super) scratch: ScratchRows,
    pub(super) threads: usize,
    pub(super) barrier: &'a Barrier,
    /// Heads that have been taken, of each attention of the pass in turn.
    pub(super) taken: &'a [AtomicUsize],
}

// SAFETY: threads write to disjoint places: their own tokens, the heads that they took, or their own outputs of a gradient,
// with a barrier wherever one reads what another wrote. Everything else is only read.
unsafe impl Sync for Pass<'_> {}

/// One thread at work.
pub(super) struct Worker<'a> {
    pub(super) pass: &'a Pass<'a>,
    pub(super) thread: usize,
    pub(super) room: &'a mut Room,
    /// Attentions so far.
    pub(super) attentions: usize,
}

impl Worker<'_> {
    /// The tokens of this thread.
    pub(super) fn tokens(&self) -> Range<usize> {
        share(self.pass.work.tokens.len(), self.thread, self.pass.threads)
    }

    pub(super) fn picks(&self) -> Range<usize> {
        share(self.pass.work.picks.len(), self.thread, self.pass.threads)
    }

    pub(super) fn meet(&self) {
        if self.pass.threads > 1 {
            self.pass.barrier.wait();
        }
    }

    pub(super) fn kept(&self, layer: usize) -> KeptRows {
        // One for all, if not one of each.
        self.pass.kept.get(layer).copied().unwrap_or(self.pass.kept[0])
    }

    /// All layers, from tokens to what the output projection reads, `normed`: (M, hidden).
    ///
    /// # Safety
    /// Every thread of the pass calls it once, and the buffers have room.
    pub(super) unsafe fn forward(&mut self, normed: Rows<*mut f32>) {
        let Sizes { hidden, epsilon, .. } = self.pass.sizes;
        let (weights, inputs) = (self.pass.weights, self.pass.inputs);
        // SAFETY: the caller's; tokens and picks are this thread's own.
        unsafe {
            for token in self.tokens() {
                let entry = weights.embedding.add(self.pass.work.tokens[token] as usize * hidden);
                std::ptr::copy_nonoverlapping(entry, inputs[0].row(token), hidden);
            }
            for layer in 0..weights.layers.len() {
                self.layer(layer, true);
            }
            self.meet();
            for pick in self.picks() {
                let x = inputs[weights.layers.len()].row(self.pass.work.picks[pick] as usize);
                rms_norm(self.pass.level, x, weights.norm, normed.row(pick), hidden, epsilon);
            }
        }
    }

    /// One layer forward; not to its end, if what it gives is known.
    pub(super) unsafe fn layer(&mut self, number: usize, whole: bool) {
        let (pass, kept) = (self.pass, self.kept(number));
        let (layer, scratch) = (&pass.weights.layers[number], &pass.scratch);
        let Sizes { hidden, inner, mixed, .. } = pass.sizes;
        let (input, tokens) = (pass.inputs[number], self.tokens());
        // SAFETY: the caller's.
        unsafe {
            self.norm(ATTENTION, input, layer.input_norm);
            self.affine(layer.qkv, [hidden, pass.sizes.qkv], scratch.normed[ATTENTION], kept.qkv, false);
            tokens.clone().for_each(|token| self.turn(layer, &kept, token));
            self.meet();
            self.attention(number, false);
            self.meet();
            for token in tokens.clone() {
                std::ptr::copy_nonoverlapping(input.row(token), kept.middle.row(token), hidden);
            }
            self.affine(layer.output, [mixed, hidden], kept.mixed, kept.middle, true);
            self.norm(MLP, kept.middle, layer.post_norm);
            self.affine(layer.gate_up, [hidden, 2 * inner], scratch.normed[MLP], kept.gate_up, false);
            if whole {
                let output = pass.inputs[number + 1];
                for token in tokens {
                    gated_to(pass.level, kept.gate_up.row(token), inner, scratch.active.row(token));
                    std::ptr::copy_nonoverlapping(kept.middle.row(token), output.row(token), hidden);
                }
                self.affine(layer.down, [inner, hidden], scratch.active, output, true);
            }
        }
    }

    /// Norms own tokens for one half of a layer, and keeps what they were scaled by.
    pub(super) unsafe fn norm(&self, half: usize, x: Rows<*mut f32>, weight: *const f32) {
        let Sizes { hidden, epsilon, .. } = self.pass.sizes;
        let scratch = &self.pass.scratch;
        for token in self.tokens() {
            // SAFETY: the caller's.
            unsafe {
                let to = scratch.normed[half].row(token);
                *scratch.scales[half].add(token) = rms_norm(self.pass.level, x.row(token), weight, to, hidden, epsilon);
            }
        }
    }

    /// y = x·Wᵀ + b of own tokens, on top of y if `add`; `sizes`: in, out.
    unsafe fn affine(
        &mut self,
        of: Affine,
        [input, output]: [usize; 2],
        x: Rows<*mut f32>,
        y: Rows<*mut f32>,
        add: bool,
    ) {
        let weight = Operand::new(of.weight, input).transposed();
        // Whole, so that sums are the sampler's.
        // SAFETY: the caller's.
        unsafe { self.product(x.into(), weight, y, self.tokens(), output, [input, input], of.bias, add) };
    }

    /// The gradient by x of the same, given that by y.
    pub(super) unsafe fn affine_backward(
        &mut self,
        of: Affine,
        [input, output]: [usize; 2],
        by_y: Rows<*mut f32>,
        by_x: Rows<*mut f32>,
    ) {
        let weight = Operand::new(of.weight, input);
        // SAFETY: the caller's.
        unsafe {
            self.product(by_y.into(), weight, by_x, self.tokens(), input, [output, output], std::ptr::null(), false)
        };
    }

    /// Adds this thread's outputs of the gradients by weights and biases.
    pub(super) unsafe fn by_affine(
        &mut self,
        by: Affine,
        [input, output]: [usize; 2],
        x: Rows<*mut f32>,
        by_y: Rows<*mut f32>,
    ) {
        let own = share(output, self.thread, self.pass.threads);
        let (tokens, to) = (self.pass.work.tokens.len(), Rows { start: by.weight, stride: input });
        // SAFETY: the caller's.
        unsafe {
            self.product(
                Operand::from(by_y).transposed(),
                x.into(),
                to,
                own.clone(),
                input,
                [tokens, TOKENS],
                std::ptr::null(),
                true,
            );
            if !by.bias.is_null() {
                let sum = Columns { a: by_y, b: None, factor: std::ptr::null(), rows: tokens, columns: own };
                add_columns(self.pass.level, &sum, by.bias);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a product is")]
    unsafe fn product(
        &mut self,
        a: Operand,
        b: Operand,
        c: Rows<*mut f32>,
        rows: Range<usize>,
        columns: usize,
        [depth, block]: [usize; 2],
        bias: *const f32,
        add: bool,
    ) {
        let mut product = Product { a, b, c, rows, columns, depth, block, bias, add, room: &mut self.room.panel };
        // SAFETY: the caller's.
        unsafe { multiply(self.pass.level, &mut product) };
    }

    /// Norms and rotates queries and keys.
    unsafe fn turn(&self, layer: &LayerPlaces, kept: &KeptRows, token: usize) {
        let Sizes { heads, kv_heads, width, epsilon, .. } = self.pass.sizes;
        let [cos, sin] = self.rotation(token, 1);
        // SAFETY: the caller's.
        unsafe {
            let qkv = kept.qkv.row(token);
            if !layer.qk_norm[0].is_null() {
                std::ptr::copy_nonoverlapping(qkv, kept.unnormed.row(token), (heads + kv_heads) * width);
            }
            for head in 0..heads + kv_heads {
                let (x, norm) = (qkv.add(head * width), layer.qk_norm[usize::from(head >= heads)]);
                if !norm.is_null() {
                    rms_norm(self.pass.level, x, norm, x, width, epsilon);
                }
                rotate(self.pass.level, x, cos, sin);
            }
        }
    }

    /// The other way: from the gradients by what attention reads to those by the product. Where queries and keys are normed,
    /// each token's share of the gradient by the norms' weights takes the place of what was normed.
    pub(super) unsafe fn turn_back(&mut self, layer: &LayerPlaces, kept: &KeptRows, token: usize) {
        let Sizes { heads, kv_heads, width, epsilon, .. } = self.pass.sizes;
        let by_qkv = self.pass.scratch.by_qkv;
        for head in 0..heads + kv_heads {
            let [cos, sin] = self.rotation(token, 2);
            // SAFETY: the caller's.
            unsafe {
                let by_y = by_qkv.row(token).add(head * width);
                rotate(self.pass.level, by_y, cos, sin);
                let weight = layer.qk_norm[usize::from(head >= heads)].cast_const();
                if weight.is_null() {
                    continue;
                }
                let x = kept.unnormed.row(token).add(head * width);
                let scale = inverse_root(x, width, epsilon);
                let by_weight = &mut self.room.head[..width];
                for (i, share) in by_weight.iter_mut().enumerate() {
                    *share = *by_y.add(i) * *x.add(i) * scale;
                }
                norm_backward(self.pass.level, Normed { x, weight, by_y, scale, width }, std::ptr::null(), by_y);
                std::ptr::copy_nonoverlapping(by_weight.as_ptr(), x, width);
            }
        }
    }

    /// Cosines and sines of a token's position; with `sines` 2 the sines have the other sign.
    fn rotation(&self, token: usize, sines: usize) -> [&[f32]; 2] {
        let start = self.pass.work.positions[token] as usize * self.pass.sizes.width;
        [0, sines].map(|table| &self.pass.rotations[table][start..][..self.pass.sizes.width])
    }
}
