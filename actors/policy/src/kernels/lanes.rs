//! Sixteen floats at a time, whatever the processor has. Every kernel is written once over [`Lanes`], so that sums run in the
//! same order at every level.
//!
//! Everything is `inline(always)`: the bodies become part of functions that are compiled for the instructions they use
//! (`at_each_level`), and would be calls otherwise.
#![allow(clippy::missing_safety_doc, reason = "the trait says it for all")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use half::bf16;

use super::aligned::LINE;

/// Sixteen floats.
///
/// # Safety
/// The processor has the implementation's instructions. Pointers are to sixteen floats, at any address.
pub(super) unsafe trait Lanes: Copy {
    /// The largest tile of a product that stays in registers: rows, and vectors of columns.
    const TILE: (usize, usize);

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The same of numbers in bfloat16, which are the upper halves of floats.
    unsafe fn widen(from: *const bf16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self · factor + term`.
    unsafe fn fma(self, factor: Self, term: Self) -> Self;
    /// Where `self` is greater, `self`; else `other`, also if either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// Where `self` is less, `self`; else `other`, also if either is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// 2^n of whole numbers n between -126 and 127.
    unsafe fn power_of_two(self) -> Self;
    /// `self`, but 0 where `x < bound`.
    unsafe fn zero_where_less(self, x: Self, bound: Self) -> Self;

    /// Has a line brought to the second-level cache. Any address will do.
    #[inline(always)]
    fn fetch(_line: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is part of the target, and a fetch of any address does no harm.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(_line.cast());
        }
    }

    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LINE] {
        let mut array = [0.0; LINE];
        // SAFETY: the array has sixteen floats.
        unsafe { self.store(array.as_mut_ptr()) };
        array
    }

    /// The sum, in the same order at every level.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller's.
        let mut a = unsafe { self.to_array() };
        let mut half = LINE / 2;
        while half > 0 {
            for i in 0..half {
                a[i] += a[i + half];
            }
            half /= 2;
        }
        a[0]
    }

    /// The largest; NaN may be passed over.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller's.
        let mut a = unsafe { self.to_array() };
        let mut half = LINE / 2;
        while half > 0 {
            for i in 0..half {
                a[i] = if a[i] > a[i + half] { a[i] } else { a[i + half] };
            }
            half /= 2;
        }
        a[0]
    }

    /// e^self to about an ulp (Cephes, expf.c); 0 below -87, e^88 above 88, NaN for NaN.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let s = |value| Self::splat(value);
            let x = s(88.0).min(s(-87.5).max(self));
            // To the nearest whole number: adding 1.5 · 2^23 leaves no bits for a fraction.
            let magic = 12_582_912.0;
            let n = x.fma(s(std::f32::consts::LOG2_E), s(magic)).add(s(-magic));
            // ln 2 in two parts, the first of which has so few bits that its product is exact.
            let r = n.fma(s(2.121_944_4e-4), n.fma(s(-0.693_359_4), x));
            let mut p = s(1.987_569_1e-4);
            for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
                p = p.fma(r, s(coefficient));
            }
            let y = p.fma(r.mul(r), r).add(s(1.0));
            y.mul(n.power_of_two()).zero_where_less(self, s(-87.0))
        }
    }
}

/// Plain arrays.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LINE]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, of: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| of(self.0[i], other.0[i])))
    }
}

// SAFETY: no instructions beyond the target's.
unsafe impl Lanes for Portable {
    const TILE: (usize, usize) = (2, 1);

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LINE])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; unaligned.
        Self(unsafe { from.cast::<[f32; LINE]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> Self {
        // SAFETY: the caller's; unaligned.
        let halves = unsafe { from.cast::<[bf16; LINE]>().read_unaligned() };
        Self(halves.map(|half| f32::from_bits(u32::from(half.to_bits()) << 16)))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's; unaligned.
        unsafe { to.cast::<[f32; LINE]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        // Not mul_add: without the instruction that is a call.
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + term.0[i]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        Self(self.0.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23)))
    }
    #[inline(always)]
    unsafe fn zero_where_less(self, x: Self, bound: Self) -> Self {
        Self(std::array::from_fn(|i| if x.0[i] < bound.0[i] { 0.0 } else { self.0[i] }))
    }
}

/// Two registers of eight.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2([__m256; 2]);

/// Operations of [`Avx2`], register by register.
#[cfg(target_arch = "x86_64")]
macro_rules! halves {
    ($a:ident, $b:ident, $of:ident) => {
        // SAFETY: the caller's: the processor has AVX2 and FMA.
        Self(unsafe { [$of($a.0[0], $b.0[0]), $of($a.0[1], $b.0[1])] })
    };
}

#[cfg(target_arch = "x86_64")]
// SAFETY: AVX2 and FMA, which the trait's contract asks for.
unsafe impl Lanes for Avx2 {
    const TILE: (usize, usize) = (6, 1);

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self([_mm256_set1_ps(value); 2]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]) }
    }
    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            Self([
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ])
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            _mm256_storeu_ps(to, self.0[0]);
            _mm256_storeu_ps(to.add(8), self.0[1]);
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        halves!(self, other, _mm256_add_ps)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        halves!(self, other, _mm256_mul_ps)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        halves!(self, other, _mm256_div_ps)
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            Self([
                _mm256_fmadd_ps(self.0[0], factor.0[0], term.0[0]),
                _mm256_fmadd_ps(self.0[1], factor.0[1], term.0[1]),
            ])
        }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        halves!(self, other, _mm256_max_ps)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        halves!(self, other, _mm256_min_ps)
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let of = |n| {
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                    _mm256_cvtps_epi32(n),
                    _mm256_set1_epi32(127),
                )))
            };
            Self([of(self.0[0]), of(self.0[1])])
        }
    }
    #[inline(always)]
    unsafe fn zero_where_less(self, x: Self, bound: Self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let of = |i: usize| _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x.0[i], bound.0[i]), self.0[i]);
            Self([of(0), of(1)])
        }
    }
}

/// One register of sixteen.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

#[cfg(target_arch = "x86_64")]
// SAFETY: AVX-512F, which the trait's contract asks for.
unsafe impl Lanes for Avx512 {
    const TILE: (usize, usize) = (8, 3);

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, term.0)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm512_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
        }
    }
    #[inline(always)]
    unsafe fn zero_where_less(self, x: Self, bound: Self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let keep = !_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x.0, bound.0);
            Self(_mm512_maskz_mov_ps(keep, self.0))
        }
    }
}
