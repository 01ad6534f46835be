//! The way back through the layers. [`Worker`] says how threads share it.

use std::sync::atomic::Ordering;

use super::super::gemm::Rows;
use super::attend::{self, ByHead, Head};
use super::layer::{ATTENTION, MLP, Worker};
use super::places::{KeptRows, LayerPlaces, Places, Sizes};
use super::rowwise::{Columns, Normed, add_columns, gated_backward, norm_backward};
use crate::kernels::pass::share;

impl Worker<'_> {
    /// Adds the gradients by all parameters but the output projection to `by`, given that by what forward gave, (M, hidden).
    /// `again`: whether layers have to be computed again first.
    ///
    /// # Safety
    /// Every thread of the pass calls it once after forward on the same work, and the buffers have room.
    pub(super) unsafe fn backward(&mut self, by_normed: Rows<*mut f32>, by: &Places, again: bool) {
        // SAFETY: the caller's.
        unsafe {
            self.through_final_norm(by_normed, by);
            for number in (0..self.pass.weights.layers.len()).rev() {
                if again {
                    // Others may still read what this overwrites.
                    self.meet();
                    self.layer(number, false);
                }
                self.layer_backward(number, &by.layers[number]);
            }
            self.meet();
            self.through_embedding(by.embedding);
        }
    }

    unsafe fn through_final_norm(&mut self, by_normed: Rows<*mut f32>, by: &Places) {
        let Sizes { hidden: width, .. } = self.pass.sizes;
        let (pass, scratch) = (self.pass, &self.pass.scratch);
        let last = pass.inputs[pass.weights.layers.len()];
        // SAFETY: the caller's.
        unsafe {
            for pick in self.picks() {
                let (x, by_x) = (scratch.picked.row(pick), scratch.by_picked.row(pick));
                std::ptr::copy_nonoverlapping(last.row(pass.work.picks[pick] as usize), x, width);
                let scale = inverse_root(x, width, pass.sizes.epsilon);
                *scratch.picked_scales.add(pick) = scale;
                let row = Normed { x, weight: pass.weights.norm, by_y: by_normed.row(pick), scale, width };
                norm_backward(pass.level, row, std::ptr::null(), by_x);
            }
            self.meet();
            let own = self.tokens();
            for token in own.clone() {
                std::ptr::write_bytes(scratch.by_output.row(token), 0, width);
            }
            for (pick, token) in pass.work.picks.iter().map(|token| *token as usize).enumerate() {
                if own.contains(&token) {
                    let (from, to) = (scratch.by_picked.row(pick), scratch.by_output.row(token));
                    (0..width).for_each(|i| *to.add(i) += *from.add(i));
                }
            }
            let (a, b) = (by_normed, Some(scratch.picked));
            let (rows, columns) = (pass.work.picks.len(), share(width, self.thread, pass.threads));
            add_columns(pass.level, &Columns { a, b, factor: scratch.picked_scales, rows, columns }, by.norm);
        }
    }

    unsafe fn layer_backward(&mut self, number: usize, by: &LayerPlaces) {
        let (pass, kept) = (self.pass, self.kept(number));
        let (layer, scratch, input) = (&pass.weights.layers[number], &pass.scratch, pass.inputs[number]);
        let Sizes { hidden, inner, mixed, qkv, .. } = pass.sizes;
        // SAFETY: the caller's.
        unsafe {
            self.affine_backward(layer.down, [inner, hidden], scratch.by_output, scratch.active);
            for token in self.tokens() {
                gated_backward(pass.level, kept.gate_up.row(token), inner, scratch.active.row(token));
            }
            let (by_gate_up, active) = (kept.gate_up, scratch.active);
            self.norm(MLP, kept.middle, layer.post_norm);
            self.affine_backward(layer.gate_up, [hidden, 2 * inner], by_gate_up, scratch.by_normed[MLP]);
            self.meet();
            self.by_affine(by.down, [inner, hidden], active, scratch.by_output);
            self.by_affine(by.gate_up, [hidden, 2 * inner], scratch.normed[MLP], by_gate_up);
            self.by_norm(MLP, kept.middle, by.post_norm);
            self.norm_backward(MLP, kept.middle, layer.post_norm, [scratch.by_output, scratch.by_middle]);
            self.affine_backward(layer.output, [mixed, hidden], scratch.by_middle, scratch.by_mixed);
            self.meet();
            self.attention(number, true);
            self.by_affine(by.output, [mixed, hidden], kept.mixed, scratch.by_middle);
            self.meet();
            for token in self.tokens() {
                self.turn_back(layer, &kept, token);
            }
            self.norm(ATTENTION, input, layer.input_norm);
            self.affine_backward(layer.qkv, [hidden, qkv], scratch.by_qkv, scratch.by_normed[ATTENTION]);
            self.meet();
            self.by_affine(by.qkv, [hidden, qkv], scratch.normed[ATTENTION], scratch.by_qkv);
            self.by_norm(ATTENTION, input, by.input_norm);
            self.by_head_norms(by, &kept);
            self.norm_backward(ATTENTION, input, layer.input_norm, [scratch.by_middle, scratch.by_output]);
        }
    }

    /// The gradient by a half's part of the stream: that on its way past the half, and that through its norm.
    unsafe fn norm_backward(
        &self,
        half: usize,
        x: Rows<*mut f32>,
        weight: *const f32,
        [past, to]: [Rows<*mut f32>; 2],
    ) {
        let scratch = &self.pass.scratch;
        for token in self.tokens() {
            // SAFETY: the caller's.
            unsafe {
                let (x, by_y) = (x.row(token).cast_const(), scratch.by_normed[half].row(token).cast_const());
                let scale = *scratch.scales[half].add(token);
                let row = Normed { x, weight, by_y, scale, width: self.pass.sizes.hidden };
                norm_backward(self.pass.level, row, past.row(token), to.row(token));
            }
        }
    }

    /// This thread's part of the gradient by a norm's weights.
    unsafe fn by_norm(&self, half: usize, x: Rows<*mut f32>, to: *mut f32) {
        let (scratch, rows) = (&self.pass.scratch, self.pass.work.tokens.len());
        let columns = share(self.pass.sizes.hidden, self.thread, self.pass.threads);
        let sum = Columns { a: scratch.by_normed[half], b: Some(x), factor: scratch.scales[half], rows, columns };
        // SAFETY: the caller's.
        unsafe { add_columns(self.pass.level, &sum, to) };
    }

    /// The same of the norms of queries and keys, from what [`Self::turn_back`] left.
    unsafe fn by_head_norms(&self, by: &LayerPlaces, kept: &KeptRows) {
        let Sizes { heads, kv_heads, width, .. } = self.pass.sizes;
        if by.qk_norm[0].is_null() {
            return;
        }
        for head in 0..heads + kv_heads {
            let Rows { start, stride } = kept.unnormed;
            let (rows, columns) = (self.pass.work.tokens.len(), share(width, self.thread, self.pass.threads));
            // SAFETY: the caller's.
            unsafe {
                let a = Rows { start: start.add(head * width), stride };
                let sum = Columns { a, b: None, factor: std::ptr::null(), rows, columns };
                add_columns(self.pass.level, &sum, by.qk_norm[usize::from(head >= heads)]);
            }
        }
    }

    /// Attention of the heads that this thread takes; with `back` their gradients.
    pub(super) unsafe fn attention(&mut self, layer: usize, back: bool) {
        let (pass, kept) = (self.pass, self.kept(layer));
        let Sizes { heads, kv_heads, width, .. } = pass.sizes;
        let queries = heads / kv_heads;
        let turn = &pass.taken[self.attentions];
        self.attentions += 1;
        loop {
            let number = turn.fetch_add(1, Ordering::Relaxed);
            let (row, head) = (number / kv_heads, number % kv_heads);
            let Some(span) = pass.spans.get(row) else { return };
            // Of the row's first token, from some head on.
            // SAFETY: the row has the token, and a token the heads.
            let at = |rows: Rows<*mut f32>, head: usize| unsafe {
                Rows { start: rows.row(span.start).add(head * width), ..rows }
            };
            let of_head = |rows| [head * queries, heads + head, heads + kv_heads + head].map(|first| at(rows, first));
            let mixed = at(kept.mixed, head * queries);
            // SAFETY: the caller's; a head has a total per token.
            let totals = unsafe { kept.totals.row(span.start).add(head * queries) };
            let mut one = Head {
                segments: &span.segments,
                width,
                queries,
                window: pass.config.window(layer).map(|window| window as usize),
                scale: (1.0 / (width as f64).sqrt()) as f32,
                of: of_head(kept.qkv),
                mixed,
                totals: Rows { start: totals, ..kept.totals },
                room: &mut self.room.head,
            };
            // SAFETY: the caller's; this thread alone took the head.
            unsafe {
                match back {
                    false => attend::forward(pass.level, &mut one),
                    true => {
                        let by_mixed = at(pass.scratch.by_mixed, head * queries);
                        let by = ByHead { mixed: by_mixed, of: of_head(pass.scratch.by_qkv) };
                        attend::backward(pass.level, &mut one, by);
                    }
                }
            }
        }
    }

    /// Adds the gradients by what the first layer reads to the tokens' entries: this thread's columns of all.
    unsafe fn through_embedding(&self, by_embedding: *mut f32) {
        let (pass, hidden) = (self.pass, self.pass.sizes.hidden);
        let own = share(hidden, self.thread, pass.threads);
        for (row, token) in pass.work.tokens.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe {
                let (from, to) = (pass.scratch.by_output.row(row), by_embedding.add(*token as usize * hidden));
                own.clone().for_each(|i| *to.add(i) += *from.add(i));
            }
        }
    }
}

/// 1/√(mean(x²) + ε)
pub(super) unsafe fn inverse_root(x: *const f32, width: usize, epsilon: f32) -> f32 {
    // SAFETY: the caller's.
    let x = unsafe { std::slice::from_raw_parts(x, width) };
    1.0 / (x.iter().map(|x| x * x).sum::<f32>() / width as f32 + epsilon).sqrt()
}
