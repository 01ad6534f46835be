//! What happens to one row at a time, and sums over the rows of a column: the derivatives of norms and of the gated activation.

use std::ops::Range;

use super::super::aligned::LINE;
use super::super::gemm::Rows;
use super::super::lanes::Lanes;
use super::super::level::at_each_level;
use super::product::{load_part, store_part};

/// One row of RMSNorm, y = x · weight · s with s = 1/√(mean(x²) + ε).
#[derive(Clone, Copy)]
pub(super) struct Normed {
    pub(super) x: *const f32,
    pub(super) weight: *const f32,
    pub(super) by_y: *const f32,
    /// s
    pub(super) scale: f32,
    pub(super) width: usize,
}

at_each_level! {
    /// The gradient by x, `s (weight · ∂y − x s²/n Σ weight · ∂y · x)`, on top of `base`, if that is not null, to `to`, which may
    /// be `base` or `by_y`.
    pub(super) unsafe fn norm_backward(row: Normed, base: *const f32, to: *mut f32) = norm_backward_body
}

/// # Safety
/// The pointers are to `width` floats.
#[inline(always)]
unsafe fn norm_backward_body<V: Lanes>(row: Normed, base: *const f32, to: *mut f32) {
    let Normed { x, weight, by_y, scale, width } = row;
    // SAFETY: the caller's; parts end at `width`.
    unsafe {
        let mut sum = V::splat(0.0);
        for i in (0..width).step_by(LINE) {
            let left = width - i;
            let weighted = load_part::<V>(weight.add(i), left).mul(load_part(by_y.add(i), left));
            sum = weighted.fma(load_part(x.add(i), left), sum);
        }
        let along = V::splat(-sum.sum() * scale * scale / width as f32);
        for i in (0..width).step_by(LINE) {
            let left = width - i;
            let weighted = load_part::<V>(weight.add(i), left).mul(load_part(by_y.add(i), left));
            let by_x = load_part::<V>(x.add(i), left).fma(along, weighted).mul(V::splat(scale));
            let sum = if base.is_null() { by_x } else { load_part::<V>(base.add(i), left).add(by_x) };
            store_part(sum, to.add(i), left);
        }
    }
}

at_each_level! {
    /// `gate · sigmoid(gate) · up`, where `up` stands `width` floats behind `gate`, to `to`: the sampler's numbers.
    pub(super) unsafe fn gated_to(gate: *const f32, width: usize, to: *mut f32) = gated_to_body
}

/// # Safety
/// `gate` is to `2 · width` floats, `to` to `width`.
#[inline(always)]
unsafe fn gated_to_body<V: Lanes>(gate: *const f32, width: usize, to: *mut f32) {
    for i in (0..width).step_by(LINE) {
        // SAFETY: the caller's; parts end at `width`.
        unsafe {
            let one = V::splat(1.0);
            let (x, up) = (load_part::<V>(gate.add(i), width - i), load_part::<V>(gate.add(width + i), width - i));
            let active = x.div(one.add(x.mul(V::splat(-1.0)).exp())).mul(up);
            store_part(active, to.add(i), width - i);
        }
    }
}

at_each_level! {
    /// The same with its derivative: puts the gradients by gate and up in their place, given that by the result, and the result
    /// in the place of its gradient.
    pub(super) unsafe fn gated_backward(gate: *mut f32, width: usize, by_result: *mut f32) = gated_backward_body
}

/// # Safety
/// `gate` is to `2 · width` floats, `by_result` to `width`.
#[inline(always)]
unsafe fn gated_backward_body<V: Lanes>(gate: *mut f32, width: usize, by_result: *mut f32) {
    // SAFETY: the caller's; parts end at `width`.
    unsafe {
        let (one, up) = (V::splat(1.0), gate.add(width));
        for i in (0..width).step_by(LINE) {
            let left = width - i;
            let (x, y) = (load_part::<V>(gate.add(i), left), load_part::<V>(up.add(i), left));
            let by = load_part::<V>(by_result.add(i), left);
            let sigmoid = one.div(one.add(x.mul(V::splat(-1.0)).exp()));
            let active = x.mul(sigmoid);
            // (x σ)' = σ + x σ (1 − σ)
            let slope = active.fma(one.add(sigmoid.mul(V::splat(-1.0))), sigmoid);
            store_part(by.mul(y).mul(slope), gate.add(i), left);
            store_part(by.mul(active), up.add(i), left);
            store_part(active.mul(y), by_result.add(i), left);
        }
    }
}

/// A sum over rows: Σ a (· b) (· factor), column by column.
#[derive(Clone)]
pub(super) struct Columns {
    pub(super) a: Rows<*mut f32>,
    pub(super) b: Option<Rows<*mut f32>>,
    /// One number per row, if not null.
    pub(super) factor: *const f32,
    pub(super) rows: usize,
    /// Those that this call sums.
    pub(super) columns: Range<usize>,
}

at_each_level! {
    /// Adds the sums to `to`, whose first float is column 0's.
    pub(super) unsafe fn add_columns(sum: &Columns, to: *mut f32) = add_columns_body
}

/// # Safety
/// The matrices have the rows and columns, `to` the columns, and nobody else touches those.
#[inline(always)]
unsafe fn add_columns_body<V: Lanes>(sum: &Columns, to: *mut f32) {
    for column in sum.columns.clone().step_by(LINE) {
        let left = sum.columns.end - column;
        // SAFETY: the caller's; parts end at the last column.
        unsafe {
            let mut total = V::splat(0.0);
            for row in 0..sum.rows {
                let mut term = load_part::<V>(sum.a.start.add(row * sum.a.stride + column), left);
                if let Some(b) = sum.b {
                    term = term.mul(load_part(b.start.add(row * b.stride + column), left));
                }
                let factor = if sum.factor.is_null() { 1.0 } else { *sum.factor.add(row) };
                total = term.fma(V::splat(factor), total);
            }
            let to = to.add(column);
            store_part(load_part::<V>(to, left).add(total), to, left);
        }
    }
}
