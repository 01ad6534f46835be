//! Elementary functions of floating point numbers, in fixed point: 10 to 50 times as fast as those of the bignum crate at the
//! precisions that comparing needs, so that what a step costs does not depend on which function it is.
//!
//! Every result is rounded to `bits` from one that has at least 16 bits more; only the sine and cosine of an angle past π/4 may
//! be small without being known to that share, and are within 2^(−`bits` − 8). Arguments are as [`super::precise`] admits them.

use std::sync::LazyLock;

use dashu::base::{Abs, BitTest, Sign, Signed, SquareRoot};
use dashu::float::round::mode::HalfEven;
use dashu::float::{Context, FBig};
use dashu::integer::{IBig, UBig};

pub(super) type Float = FBig<HalfEven, 2>;

/// Bits past those of the result: for the steps of a series, the doublings after it and a multiple of a constant.
const GUARD: usize = 64;

/// How many bits of ln 2 and π are kept.
const KEPT: usize = 1280;

static LN_2: LazyLock<IBig> = LazyLock::new(|| {
    let context = Context::<HalfEven>::new(KEPT + GUARD);
    let two = context.convert_int::<2>(2.into()).value();
    context.ln(two.repr(), None).map_or(IBig::ZERO, |ln| fixed(&ln.value(), KEPT))
});

static PI: LazyLock<IBig> = LazyLock::new(|| pi_anew(KEPT));

fn pi_anew(places: usize) -> IBig {
    fixed(&Context::<HalfEven>::new(places + GUARD).pi::<2>(None).value(), places)
}

fn pi(places: usize) -> IBig {
    KEPT.checked_sub(places).map_or_else(|| pi_anew(places), |fewer| &*PI >> fewer)
}

/// ⌊value·2^places⌋
fn fixed(value: &Float, places: usize) -> IBig {
    shifted(value.repr().significand().clone(), value.repr().exponent() + places as isize)
}

fn shifted(value: IBig, by: isize) -> IBig {
    if by >= 0 { value << by.unsigned_abs() } else { value >> by.unsigned_abs() }
}

fn rounded(value: IBig, places: usize, bits: usize) -> Float {
    Float::from_parts(value, -(places as isize)).with_precision(bits).value()
}

/// An exponent of 2 above the value, 2^(size − 1) ≤ |value| < 2^size; of zero the least.
pub(super) fn size(value: &Float) -> isize {
    let repr = value.repr();
    if repr.significand().is_zero() {
        return isize::MIN;
    }
    repr.exponent() + repr.significand().bit_len() as isize
}

fn is_zero(value: &Float) -> bool {
    value.repr().significand().is_zero()
}

/// How often an argument is halved before its series: as many halvings as are worth the terms that they save.
fn halvings(bits: usize) -> usize {
    bits.isqrt() / 2
}

/// Of a number below 2^20. `bits` ≤ 1024, here and below.
pub(super) fn exp(x: &Float, bits: usize) -> Float {
    let places = bits + GUARD;
    let ln_2 = &*LN_2 >> (KEPT - places);
    let x = fixed(x, places);
    // x = n·ln 2 + rest, the rest not negative.
    let mut n = &x / &ln_2;
    if x.is_negative() {
        n -= 1;
    }
    let k = halvings(bits);
    let rest: IBig = (x - &n * &ln_2) >> k;
    let one = IBig::ONE << places;
    let (mut sum, mut term) = (one.clone(), one);
    for index in 1_u32.. {
        term = ((term * &rest) >> places) / index;
        if term.is_zero() {
            break;
        }
        sum += &term;
    }
    for _ in 0..k {
        sum = (&sum * &sum) >> places;
    }
    // Below 2^21 by the argument's size.
    let n = isize::try_from(&n).unwrap_or(0);
    Float::from_parts(sum, n - places as isize).with_precision(bits).value()
}

/// Of a positive number that is not 1.
pub(super) fn ln(x: &Float, bits: usize) -> Float {
    // x = m·2^e with 3/4 ≤ m < 3/2.
    let mut e = size(x);
    let significand = x.repr().significand();
    if (significand * 4_u8) < (IBig::from(3_u8) << significand.bit_len()) {
        e -= 1;
    }
    // Near 1 the logarithm is as small as the distance, and must be known to as many bits.
    let away = if e == 0 { (-size(&(x - Float::ONE))).max(0).unsigned_abs() } else { 0 };
    let places = bits + GUARD + away;
    let one = IBig::ONE << places;
    let mut root = shifted(significand.clone(), x.repr().exponent() - e + places as isize);
    let k = halvings(bits);
    for _ in 0..k {
        root = IBig::from((root << places).unsigned_abs_value().sqrt());
    }
    // ln m = 2^(k + 1)·artanh((r − 1)/(r + 1)) with r the 2^k-th root of m
    let distance = &root - &one;
    let below = distance.is_negative();
    let y = (distance.abs() << places) / (&root + &one);
    let series = odd_series(&y, places, false) << (k + 1);
    let ln_m = if below { -series } else { series };
    if e == 0 {
        return rounded(ln_m, places, bits);
    }
    rounded(ln_m + (&*LN_2 >> (KEPT - places)) * e, places, bits)
}

/// y ± y³/3 + y⁵/5 ± …: the inverse tangent, or the hyperbolic one, of a small y that is not negative.
fn odd_series(y: &IBig, places: usize, alternating: bool) -> IBig {
    let square: IBig = (y * y) >> places;
    let (mut sum, mut power) = (y.clone(), y.clone());
    for index in 1_u32.. {
        power = (power * &square) >> places;
        if power.is_zero() {
            break;
        }
        let term = &power / (2 * index + 1);
        if alternating && index % 2 == 1 {
            sum -= term;
        } else {
            sum += term;
        }
    }
    sum
}

/// The sine and the cosine of a number below 2^60 that is not 0, and whether both are known to `bits` of their own.
pub(super) fn sin_cos(x: &Float, bits: usize) -> (Float, Float, bool) {
    let size = size(x);
    if size < -2 * bits as isize {
        // x − x³/6 and 1 − x²/2 are x and 1 up to the rounding.
        return (x.clone().with_precision(bits).value(), Float::ONE.with_precision(bits).value(), true);
    }
    let places = bits + GUARD + size.unsigned_abs();
    let right = pi(places) >> 1;
    let angle = fixed(x, places).abs();
    let quarters: IBig = (&angle + (&right >> 1)) / &right;
    let rest = angle - &quarters * &right;
    let backwards = rest.is_negative();
    let (sin, cos) = small_sin_cos(&rest.abs(), places, halvings(bits));
    let sin = if backwards { -sin } else { sin };
    let reduced = !quarters.is_zero();
    let turned = (quarters.bit(0), quarters.bit(1));
    let (sin, cos) = match turned {
        (false, false) => (sin, cos),
        (true, false) => (cos, -sin),
        (false, true) => (-sin, -cos),
        (true, true) => (-cos, sin),
    };
    let sin = if x.sign() == Sign::Negative { -sin } else { sin };
    (rounded(sin, places, bits), rounded(cos, places, bits), !reduced)
}

/// Of an angle from 0 to π/4, in fixed point.
fn small_sin_cos(angle: &IBig, places: usize, k: usize) -> (IBig, IBig) {
    let angle: IBig = angle >> k;
    let square: IBig = (&angle * &angle) >> places;
    // The sine, and the cosine less one.
    let (mut sin, mut cos) = (IBig::ZERO, IBig::ZERO);
    let mut term = angle;
    for index in 1_u32.. {
        // term is x^(2·index − 1)/(2·index − 1)!
        let next: IBig = ((&term * &square) >> places) / ((2 * index) * (2 * index + 1));
        if index % 2 == 1 {
            sin += &term
        } else {
            sin -= &term
        }
        if next.is_zero() {
            break;
        }
        term = next;
    }
    let mut term: IBig = square.clone() >> 1;
    for index in 1_u32.. {
        if term.is_zero() {
            break;
        }
        if index % 2 == 1 {
            cos -= &term
        } else {
            cos += &term
        }
        term = ((term * &square) >> places) / ((2 * index + 1) * (2 * index + 2));
    }
    let one = IBig::ONE << places;
    for _ in 0..k {
        let doubled = (&sin * (&one + &cos)) >> (places - 1);
        cos = -((&sin * &sin) >> (places - 1));
        sin = doubled;
    }
    (sin, one + cos)
}

/// The angle of the point (x, y), which is not the origin nor on the axis of the positive x.
pub(super) fn angle(y: &Float, x: &Float, bits: usize) -> Float {
    let (up, right) = (y.clone().abs(), x.clone().abs());
    let steep = up > right;
    let (small, large) = if steep { (&right, &up) } else { (&up, &right) };
    let ratio = Context::<HalfEven>::new(bits + GUARD).div(small.repr(), large.repr());
    let Ok(ratio) = ratio.map(|ratio| ratio.value()) else { return Float::ZERO };
    let away = if is_zero(&ratio) { 0 } else { size(&ratio).min(0).unsigned_abs() };
    let beside = !steep && x.sign() == Sign::Positive;
    let flat = away > 2 * bits;
    if flat && beside {
        // t − t³/3 is t up to the rounding.
        let angle = ratio.with_precision(bits).value();
        return if y.sign() == Sign::Negative { -angle } else { angle };
    }
    // Only where it is the whole result must a small angle be known to bits of its own.
    let places = bits + GUARD + if beside { away } else { 0 };
    let one = IBig::ONE << places;
    let mut tangent = fixed(&ratio, places);
    let k = halvings(bits);
    for _ in 0..k {
        // tan(a/2) = t/(1 + √(1 + t²))
        let root: UBig = ((&one << places) + &tangent * &tangent).unsigned_abs_value().sqrt();
        tangent = (tangent << places) / (&one + IBig::from(root));
    }
    let mut angle = odd_series(&tangent, places, true) << k;
    if steep {
        angle = (pi(places) >> 1) - angle;
    }
    if x.sign() == Sign::Negative {
        angle = pi(places) - angle;
    }
    let angle = rounded(angle, places, bits);
    if y.sign() == Sign::Negative { -angle } else { angle }
}

/// The magnitude of what is known not to be negative.
trait Magnitude {
    fn unsigned_abs_value(self) -> UBig;
}

impl Magnitude for IBig {
    fn unsigned_abs_value(self) -> UBig {
        self.into_parts().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of many sizes and both signs, also beside the multiples of π/2 and beside 1.
    fn numbers(bits: usize) -> Vec<Float> {
        let context = Context::<HalfEven>::new(bits);
        let of = |n: i64| context.convert_int::<2>(n.into()).value();
        let mut numbers = Vec::new();
        for (above, below) in [(1, 3), (2, 1), (7, 5), (997, 12_345), (12_345, 997), (355, 113), (99, 100), (1, 1000)] {
            let ratio = context.div(of(above).repr(), of(below).repr()).unwrap().value();
            for scale in [-600, -300, -40, -3, 0, 1, 15] {
                numbers.push(ratio.clone() << scale);
            }
        }
        let right = context.pi::<2>(None).value() >> 1;
        numbers.extend((1..5).map(|n| &right * of(n)));
        numbers.extend([1_isize, 20, 100, 250].map(|n| of(1) + (of(1) >> n)));
        numbers.extend([1_isize, 20, 100, 250].map(|n| of(1) - (of(1) >> (n + 1))));
        let negative: Vec<_> = numbers.iter().map(|number| -number.clone()).collect();
        numbers.into_iter().chain(negative).map(|number| number.with_precision(bits).value()).collect()
    }

    /// To one in the last place of `bits`, or absolutely to 2^`floor`.
    fn assert_near(ours: &Float, theirs: &Float, bits: usize, floor: isize, what: &str) {
        let difference = size(&(ours.clone().with_precision(0).value() - theirs.clone().with_precision(0).value()));
        let allowed = (size(theirs) - bits as isize).max(floor);
        assert!(difference <= allowed, "{what}: 2^{difference}, allowed 2^{allowed}: {ours} and {theirs}");
    }

    #[test]
    fn the_functions_agree_with_those_of_the_crate_to_the_last_place() {
        for bits in [256, 1024] {
            // Theirs with many bits to spare.
            let exact = Context::<HalfEven>::new(bits + 100);
            for x in numbers(bits).iter().step_by(if bits > 256 { 7 } else { 1 }) {
                let theirs = exact.exp(x.repr(), None).unwrap().value();
                assert_near(&exp(x, bits), &theirs, bits, isize::MIN, "exp");
                if x.sign() == Sign::Positive {
                    let theirs = exact.ln(x.repr(), None).unwrap().value();
                    assert_near(&ln(x, bits), &theirs, bits, isize::MIN, "ln");
                }
                let (sin, cos) = exact.sin_cos(x.repr(), None);
                let (our_sin, our_cos, known) = sin_cos(x, bits);
                let floor = if known { isize::MIN } else { -(bits as isize) - 8 };
                assert_near(&our_sin, &sin.unwrap().value(), bits, floor, "sin");
                assert_near(&our_cos, &cos.unwrap().value(), bits, floor, "cos");
            }
        }
    }

    #[test]
    fn angles_agree_in_all_quadrants() {
        let bits = 256;
        let exact = Context::<HalfEven>::new(bits + 100);
        let numbers = numbers(bits);
        for (at, y) in numbers.iter().enumerate() {
            for x in [&numbers[(at * 5 + 3) % numbers.len()], &numbers[(at * 11 + 60) % numbers.len()]] {
                let theirs = exact.atan2(y.repr(), x.repr(), None).unwrap().value();
                assert_near(&angle(y, x, bits), &theirs, bits, isize::MIN, "angle");
            }
            let theirs = exact.atan2(y.repr(), Float::ZERO.repr(), None).unwrap().value();
            assert_near(&angle(y, &Float::ZERO, bits), &theirs, bits, isize::MIN, "angle");
        }
        let half_turn = angle(&Float::ZERO, &-Float::ONE, bits);
        assert_near(&half_turn, &exact.pi::<2>(None).value(), bits, isize::MIN, "half a turn");
    }
}
