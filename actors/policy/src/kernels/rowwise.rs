//! What happens to one row at a time: norms, rotation, the gated activation.

use super::aligned::LINE;
use super::lanes::Lanes;
use super::level::at_each_level;

at_each_level! {
    /// RMSNorm (`x · weight / √(mean(x²) + epsilon)`) of `width` floats, from `x` to `y`, which may be the same place. Returns
    /// what x is multiplied by besides the weight.
    pub(super) unsafe fn rms_norm(x: *const f32, weight: *const f32, y: *mut f32, width: usize, epsilon: f32) -> f32 = norm_body
}

/// # Safety
/// The pointers are to `width` floats.
#[inline(always)]
unsafe fn norm_body<V: Lanes>(x: *const f32, weight: *const f32, y: *mut f32, width: usize, epsilon: f32) -> f32 {
    let whole = width - width % LINE;
    // SAFETY: the caller's; every access ends at `width` or before.
    unsafe {
        let mut squares = V::splat(0.0);
        for i in (0..whole).step_by(LINE) {
            let x = V::load(x.add(i));
            squares = x.fma(x, squares);
        }
        let mut sum = squares.sum();
        for i in whole..width {
            sum += *x.add(i) * *x.add(i);
        }
        let scale = 1.0 / (sum / width as f32 + epsilon).sqrt();
        for i in (0..whole).step_by(LINE) {
            V::load(x.add(i)).mul(V::splat(scale)).mul(V::load(weight.add(i))).store(y.add(i));
        }
        for i in whole..width {
            *y.add(i) = *x.add(i) * scale * *weight.add(i);
        }
        scale
    }
}

at_each_level! {
    /// `gate · sigmoid(gate) · up`, where `up` stands `width` floats behind `gate`, in place of `gate`.
    pub(super) unsafe fn gated(gate: *mut f32, width: usize) = gated_body
}

/// # Safety
/// `gate` is to `2 · width` floats, and readable and writable up to a whole line after those.
#[inline(always)]
unsafe fn gated_body<V: Lanes>(gate: *mut f32, width: usize) {
    // SAFETY: the caller's. The last vector may write into `up`, of which it has read what it overwrites and all before it.
    unsafe {
        let one = V::splat(1.0);
        for i in (0..width).step_by(LINE) {
            let (x, up) = (V::load(gate.add(i)), V::load(gate.add(width + i)));
            let negated = x.mul(V::splat(-1.0));
            x.div(one.add(negated.exp())).mul(up).store(gate.add(i));
        }
    }
}

at_each_level! {
    /// Rotates the halves of a head against each other, in place: `cos` and signed `sin` as in [`crate::Transformer`].
    pub(super) unsafe fn rotate(x: *mut f32, cos: &[f32], sin: &[f32]) = rotate_body
}

/// # Safety
/// `x` is to as many floats as `cos` and `sin` have.
#[inline(always)]
unsafe fn rotate_body<V: Lanes>(x: *mut f32, cos: &[f32], sin: &[f32]) {
    let half = cos.len() / 2;
    let whole = half - half % LINE;
    let (cos, sin) = (cos.as_ptr(), sin.as_ptr());
    // SAFETY: the caller's; every access ends at `2 · half` or before.
    unsafe {
        for i in (0..whole).step_by(LINE) {
            let (a, b) = (V::load(x.add(i)), V::load(x.add(half + i)));
            let (cosines, sines) = ([cos.add(i), cos.add(half + i)], [sin.add(i), sin.add(half + i)]);
            a.mul(V::load(cosines[0])).add(b.mul(V::load(sines[0]))).store(x.add(i));
            b.mul(V::load(cosines[1])).add(a.mul(V::load(sines[1]))).store(x.add(half + i));
        }
        for i in whole..half {
            let (a, b) = (*x.add(i), *x.add(half + i));
            *x.add(i) = a * *cos.add(i) + b * *sin.add(i);
            *x.add(half + i) = b * *cos.add(half + i) + a * *sin.add(half + i);
        }
    }
}
