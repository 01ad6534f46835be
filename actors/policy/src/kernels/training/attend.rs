//! Attention within a row `[prompt | answer 1 | answer 2 ...]`, forward and backward, one key head at a time.
//!
//! Each answer is laid behind the prompt in turn, so that a query sees one run of positions, up to its own. Keys and values lie
//! in the thread's room twice, position by position and dimension by dimension, because sixteen lanes are sixteen positions where
//! scores are computed and sixteen dimensions where values are added up. Forward adds in the sampler's order. With p the
//! weights and o the output of a query q whose gradient is ∂o:
//!
//! ```text
//! ∂s = p (∂o·v − ∂o·o) · scale      ∂q = Σ ∂s k      ∂k = Σ ∂s q      ∂v = Σ p ∂o
//! ```
//!
//! p is computed again from the logarithm of the softmax's denominator, which is all that forward keeps.
#![allow(clippy::needless_range_loop, reason = "indices run over several arrays at once, which unroll into registers")]

use std::ops::Range;

use super::super::aligned::{LINE, round_up, stride};
use super::super::attend::{seen_from, seen_until, softmax};
use super::super::gemm::Rows;
use super::super::lanes::Lanes;
use super::super::level::at_each_level;
use super::product::{load_part, store_part};

/// A key head of a row, and the query heads that it serves. Pointers are to the first token of the row.
pub(super) struct Head<'a> {
    /// The prompt, then each answer: tokens of the row.
    pub(super) segments: &'a [Range<usize>],
    /// Of a head.
    pub(super) width: usize,
    /// How many query heads.
    pub(super) queries: usize,
    pub(super) window: Option<usize>,
    pub(super) scale: f32,
    /// The first query head, the key and the value.
    pub(super) of: [Rows<*mut f32>; 3],
    /// The first query head's result.
    pub(super) mixed: Rows<*mut f32>,
    /// ln Σ e^score of each query head.
    pub(super) totals: Rows<*mut f32>,
    pub(super) room: &'a mut [f32],
}

/// Gradients of a [`Head`]: by the results, given, and by query, key and value, written.
#[derive(Clone, Copy)]
pub(super) struct ByHead {
    pub(super) mixed: Rows<*mut f32>,
    pub(super) of: [Rows<*mut f32>; 3],
}

/// Floats that a head of rows with so many positions (of a prompt and its longest answer) needs.
pub(super) fn room(width: usize, positions: usize) -> usize {
    let (columns, wide) = (stride(positions), round_up(width));
    2 * width * columns + 4 * positions * wide + 8 * columns + 8 * wide
}

/// The room, divided.
struct Room {
    /// Distance between two dimensions.
    columns: usize,
    /// Distance between two positions.
    wide: usize,
    /// Keys and values by dimension.
    across: [*mut f32; 2],
    /// Keys, values and their gradients by position.
    along: [*mut f32; 4],
    /// Four rows of positions each: weights, gradients by scores.
    weights: *mut f32,
    by_scores: *mut f32,
    /// Four heads each: queries, gradients by results.
    query: *mut f32,
    by_mixed: *mut f32,
}

impl Head<'_> {
    fn positions(&self) -> usize {
        let prompt = self.segments.first().map_or(0, Range::len);
        prompt + self.segments.iter().skip(1).map(Range::len).max().unwrap_or(0)
    }

    fn divide(&mut self) -> Room {
        let positions = self.positions();
        let (columns, wide) = (stride(positions), round_up(self.width));
        let mut rest = &mut self.room[..room(self.width, positions)];
        // What stood there is never used, but might be no number, which no weight of zero could undo.
        rest.fill(0.0);
        let mut take = |count: usize| {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(count);
            rest = others;
            own.as_mut_ptr()
        };
        let across = [take(self.width * columns), take(self.width * columns)];
        let along = [(); 4].map(|()| take(positions * wide));
        let (weights, by_scores) = (take(4 * columns), take(4 * columns));
        Room { columns, wide, across, along, weights, by_scores, query: take(4 * wide), by_mixed: take(4 * wide) }
    }

    /// Lays keys and values of a segment behind `before` positions.
    #[inline(always)]
    unsafe fn lay(&self, room: &Room, segment: &Range<usize>, before: usize) {
        for (position, token) in (before..).zip(segment.clone()) {
            for kind in 0..2 {
                // SAFETY: the caller's: the room has the position, the row the token.
                unsafe {
                    let from = self.of[1 + kind].row(token);
                    std::ptr::copy_nonoverlapping(from, room.along[kind].add(position * room.wide), self.width);
                    for dimension in 0..self.width {
                        *room.across[kind].add(dimension * room.columns + position) = *from.add(dimension);
                    }
                }
            }
        }
    }

    /// The positions that are seen from one.
    fn seen(&self, position: usize) -> Range<usize> {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
    }

    fn before(&self, segment: usize) -> usize {
        if segment == 0 { 0 } else { self.segments[0].len() }
    }
}

at_each_level! {
    /// Computes the results and totals of a head.
    pub(super) unsafe fn forward(head: &mut Head<'_>) = forward_body
}

/// # Safety
/// The rows have what the segments name, and nobody else touches the results and totals.
#[inline(always)]
unsafe fn forward_body<V: Lanes>(head: &mut Head<'_>) {
    let room = head.divide();
    for (number, segment) in head.segments.iter().enumerate() {
        let before = head.before(number);
        // SAFETY: the caller's.
        unsafe { head.lay(&room, segment, before) };
        for (position, token) in (before..).zip(segment.clone()) {
            let seen = head.seen(position);
            for first in (0..head.queries).step_by(4) {
                // SAFETY: the caller's.
                unsafe {
                    match head.queries - first {
                        1 => mix::<V, 1>(head, &room, token, &seen, first),
                        2 => mix::<V, 2>(head, &room, token, &seen, first),
                        3 => mix::<V, 3>(head, &room, token, &seen, first),
                        _ => mix::<V, 4>(head, &room, token, &seen, first),
                    }
                }
            }
        }
    }
}

/// Products of G vectors with what lies across, for sixteen positions.
#[inline(always)]
unsafe fn products<V: Lanes, const G: usize>(
    of: [*const f32; G],
    across: *const f32,
    columns: usize,
    width: usize,
) -> [V; G] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [V::splat(0.0); G];
        for dimension in 0..width {
            let line = V::load(across.add(dimension * columns));
            for head in 0..G {
                sums[head] = V::splat(*of[head].add(dimension)).fma(line, sums[head]);
            }
        }
        sums
    }
}

/// -∞ for those of sixteen positions that are not seen, ∞ for the others.
#[inline(always)]
unsafe fn bounds<V: Lanes>(seen: &Range<usize>, position: usize) -> V {
    // SAFETY: both are to sixteen floats.
    unsafe { V::load(seen_from(seen.start, position / LINE)).min(V::load(seen_until(seen.end, position / LINE))) }
}

fn from_whole_line(seen: &Range<usize>) -> std::iter::StepBy<Range<usize>> {
    (seen.start - seen.start % LINE..seen.end).step_by(LINE)
}

#[inline(always)]
unsafe fn mix<V: Lanes, const G: usize>(head: &Head<'_>, room: &Room, token: usize, seen: &Range<usize>, first: usize) {
    let (width, columns) = (head.width, room.columns);
    // SAFETY: the caller's.
    unsafe {
        let mut query = [head.of[0].row(token).cast_const(); G];
        for of in 0..G {
            query[of] = query[of].add((first + of) * width);
        }
        for position in from_whole_line(seen) {
            let sums = products::<V, G>(query, room.across[0].add(position), columns, width);
            let bounds = bounds::<V>(seen, position);
            for of in 0..G {
                sums[of].mul(V::splat(head.scale)).min(bounds).store(room.weights.add(of * columns + position));
            }
        }
        let mut totals = [0f32; G];
        for of in 0..G {
            let (largest, total) = softmax::<V>(room.weights.add(of * columns), seen.start, seen.end);
            *head.totals.row(token).add(first + of) = largest + total.ln();
            totals[of] = total;
        }
        for line in (0..room.wide).step_by(LINE) {
            let mut sums = [V::splat(0.0); G];
            for position in seen.clone() {
                let value = V::load(room.along[1].add(position * room.wide + line));
                for of in 0..G {
                    sums[of] = V::splat(*room.weights.add(of * columns + position)).fma(value, sums[of]);
                }
            }
            for of in 0..G {
                let to = head.mixed.row(token).add((first + of) * width + line);
                store_part(sums[of].div(V::splat(totals[of])), to, width - line);
            }
        }
    }
}

at_each_level! {
    /// Computes the gradients of a head whose results and totals are there.
    pub(super) unsafe fn backward(head: &mut Head<'_>, by: ByHead) = backward_body
}

/// # Safety
/// As of [`forward_body`]; nobody else touches the gradients by this head's queries, key and value.
#[inline(always)]
unsafe fn backward_body<V: Lanes>(head: &mut Head<'_>, by: ByHead) {
    let room = head.divide();
    for (number, segment) in head.segments.iter().enumerate() {
        let before = head.before(number);
        // SAFETY: the caller's.
        unsafe { head.lay(&room, segment, before) };
        for (position, token) in (before..).zip(segment.clone()) {
            let seen = head.seen(position);
            for first in (0..head.queries).step_by(4) {
                // SAFETY: the caller's.
                unsafe {
                    match head.queries - first {
                        1 => unmix::<V, 1>(head, &by, &room, token, &seen, first),
                        2 => unmix::<V, 2>(head, &by, &room, token, &seen, first),
                        3 => unmix::<V, 3>(head, &by, &room, token, &seen, first),
                        _ => unmix::<V, 4>(head, &by, &room, token, &seen, first),
                    }
                }
            }
        }
        if number > 0 {
            // SAFETY: the caller's.
            unsafe { collect(head, &by, &room, segment, before) };
        }
    }
    if let Some(prompt) = head.segments.first() {
        // SAFETY: the caller's. The prompt's have grown with every answer.
        unsafe { collect(head, &by, &room, prompt, 0) };
    }
}

/// Writes the gradients by a segment's keys and values out, and leaves zeros.
#[inline(always)]
unsafe fn collect(head: &Head<'_>, by: &ByHead, room: &Room, segment: &Range<usize>, before: usize) {
    for (position, token) in (before..).zip(segment.clone()) {
        for kind in 0..2 {
            // SAFETY: the caller's.
            unsafe {
                let from = room.along[2 + kind].add(position * room.wide);
                std::ptr::copy_nonoverlapping(from, by.of[1 + kind].row(token), head.width);
                std::ptr::write_bytes(from, 0, room.wide);
            }
        }
    }
}

#[inline(always)]
unsafe fn unmix<V: Lanes, const G: usize>(
    head: &Head<'_>,
    by: &ByHead,
    room: &Room,
    token: usize,
    seen: &Range<usize>,
    first: usize,
) {
    let (width, columns, wide) = (head.width, room.columns, room.wide);
    // SAFETY: the caller's.
    unsafe {
        // Filled up to whole lines by the zeros that stand there.
        let mut along = [0f32; G];
        for of in 0..G {
            let at = (first + of) * width;
            std::ptr::copy_nonoverlapping(head.of[0].row(token).add(at), room.query.add(of * wide), width);
            std::ptr::copy_nonoverlapping(by.mixed.row(token).add(at), room.by_mixed.add(of * wide), width);
            let mut sum = V::splat(0.0);
            for line in (0..width).step_by(LINE) {
                let mixed = load_part::<V>(head.mixed.row(token).add(at + line), width - line);
                sum = mixed.fma(V::load(room.by_mixed.add(of * wide + line)), sum);
            }
            along[of] = sum.sum();
        }
        let [query, by_mixed]: [[*const f32; G]; 2] =
            [room.query, room.by_mixed].map(|start| std::array::from_fn(|of| start.add(of * wide).cast_const()));
        for position in from_whole_line(seen) {
            let scores = products::<V, G>(query, room.across[0].add(position), columns, width);
            let by_weights = products::<V, G>(by_mixed, room.across[1].add(position), columns, width);
            let bounds = bounds::<V>(seen, position);
            for of in 0..G {
                let total = V::splat(-*head.totals.row(token).add(first + of));
                let weight = scores[of].mul(V::splat(head.scale)).min(bounds).add(total).exp();
                let by_score = by_weights[of].add(V::splat(-along[of])).mul(weight).mul(V::splat(head.scale));
                weight.store(room.weights.add(of * columns + position));
                by_score.store(room.by_scores.add(of * columns + position));
            }
        }
        for line in (0..wide).step_by(LINE) {
            let [mut of_query, mut of_mixed] = [[V::splat(0.0); G]; 2];
            for of in 0..G {
                of_query[of] = V::load(query[of].add(line));
                of_mixed[of] = V::load(by_mixed[of].add(line));
            }
            let mut by_query = [V::splat(0.0); G];
            for position in seen.clone() {
                let [key, _, by_key, by_value] = room.along.map(|start| start.add(position * wide + line));
                let (key, mut of_key, mut of_value) = (V::load(key), V::load(by_key), V::load(by_value));
                for of in 0..G {
                    let by_score = V::splat(*room.by_scores.add(of * columns + position));
                    by_query[of] = by_score.fma(key, by_query[of]);
                    of_key = by_score.fma(of_query[of], of_key);
                    of_value = V::splat(*room.weights.add(of * columns + position)).fma(of_mixed[of], of_value);
                }
                of_key.store(by_key);
                of_value.store(by_value);
            }
            for of in 0..G {
                let to = by.of[0].row(token).add((first + of) * width + line);
                store_part(by_query[of], to, width - line);
            }
        }
    }
}
