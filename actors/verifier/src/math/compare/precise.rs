//! Binary floating point of any precision with a running error bound: what an identity is accepted by.

use std::cmp::Ordering;

use dashu::base::{Approximation, BitTest, Signed, UnsignedAbs};
use dashu::float::round::mode::HalfEven;
use dashu::float::{Context, FpResult};
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::evaluate::{Failure, Outcome};
use super::fixed_point::{self, Float};
use super::real::Real;

/// A number within 2^`error` of `value`, computed to so many bits.
#[derive(Clone, Debug)]
pub(super) struct Precise {
    value: Float,
    /// The base-2 logarithm of the error bound: −∞ for an exact value, +∞ where nothing is known.
    error: f64,
    bits: usize,
}

/// Two values count as one if they agree to so many bits (39 digits) of the larger one, or absolutely to so many (48 digits).
const AGREEMENT: f64 = 130.0;
const ABSOLUTE_AGREEMENT: f64 = 160.0;

/// The largest exponent of 2 in the argument of an exponential, and of a sine.
const LARGEST_EXPONENTIAL: f64 = 20.0;
const LARGEST_ANGLE: f64 = 60.0;

/// The exponent of 2 past which nothing is rounded to an integer.
const LARGEST_INTEGER: f64 = 2048.0;

/// The logarithm of 2^a + 2^b, or a little more.
fn plus(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY || high == f64::INFINITY {
        high
    } else {
        high + (low - high).exp2().ln_1p() * std::f64::consts::LOG2_E + 1e-9
    }
}

/// An exponent of 2 above the value, and above half of it: 2^(size − 1) ≤ |value| < 2^size.
fn size(value: &Float) -> f64 {
    let repr = value.repr();
    if repr.significand().is_zero() {
        return f64::NEG_INFINITY;
    }
    repr.exponent() as f64 + repr.significand().unsigned_abs().bit_len() as f64
}

impl Precise {
    fn context(&self) -> Context<HalfEven> {
        Context::new(self.bits)
    }

    fn unknown(bits: usize) -> Self {
        Self { value: Float::ZERO, error: f64::INFINITY, bits }
    }

    /// The result of an operation, with the error that its arguments had.
    fn settled(result: FpResult<Float>, carried: f64, bits: usize) -> Self {
        match result {
            Ok(Approximation::Exact(value)) if value.repr().is_finite() => Self { value, error: carried, bits },
            Ok(Approximation::Inexact(value, _)) if value.repr().is_finite() => Self::near(value, carried, bits),
            _ => Self::unknown(bits),
        }
    }

    /// A value that was rounded, with the error that its arguments had.
    fn near(value: Float, carried: f64, bits: usize) -> Self {
        let rounding = size(&value) - bits as f64 + 1.0;
        Self { error: plus(carried, rounding), value, bits }
    }

    fn is_zero(&self) -> bool {
        self.value.repr().significand().is_zero()
    }

    fn size(&self) -> f64 {
        size(&self.value)
    }

    /// Whether the value is more than twice its error.
    fn is_clear_of_zero(&self) -> bool {
        self.size() - 1.0 > self.error + 1.0
    }

    fn is_known(&self) -> bool {
        self.error < f64::INFINITY
    }

    /// The nearest integer at or below the value, if the error leaves but one.
    fn whole_below(&self) -> Option<IBig> {
        if !self.is_known() || self.size() > LARGEST_INTEGER {
            return None;
        }
        let floor = self.value.floor();
        if self.error > f64::NEG_INFINITY {
            let above = &self.value - &floor;
            let below = Float::ONE - &above;
            let nearest = size(&above).min(size(&below)) - 1.0;
            if nearest <= self.error {
                return None;
            }
        }
        Some(floor.to_int().value())
    }
}

impl Real for Precise {
    type Setting = usize;
    const ARITHMETIC: u64 = 1;

    fn function_steps(bits: usize) -> u64 {
        bits as u64 * 10 / 256
    }

    fn of(value: &RBig, bits: usize) -> Self {
        let context = Context::<HalfEven>::new(bits);
        let whole = |value: IBig| Self::settled(Ok(context.convert_int(value)), f64::NEG_INFINITY, bits);
        let above = whole(value.numerator().clone());
        if value.is_int() {
            return above;
        }
        above.divide(&whole(value.denominator().clone().into())).unwrap_or_else(|_| Self::unknown(bits))
    }

    fn pi(bits: usize) -> Self {
        Self::settled(Ok(Context::<HalfEven>::new(bits).pi(None)), f64::NEG_INFINITY, bits)
    }

    fn add(&self, other: &Self) -> Self {
        let sum = self.context().add(self.value.repr(), other.value.repr());
        Self::settled(sum, plus(self.error, other.error), self.bits)
    }

    fn multiply(&self, other: &Self) -> Self {
        if !self.is_known() || !other.is_known() {
            return Self::unknown(self.bits);
        }
        let product = self.context().mul(self.value.repr(), other.value.repr());
        // |a|·db + |b|·da + da·db
        let carried = plus(plus(self.size() + other.error, other.size() + self.error), self.error + other.error);
        Self::settled(product, if carried.is_nan() { f64::NEG_INFINITY } else { carried }, self.bits)
    }

    fn negate(&self) -> Self {
        Self { value: -self.value.clone(), ..*self }
    }

    fn divide(&self, other: &Self) -> Outcome<Self> {
        if !other.is_clear_of_zero() {
            return Err(Failure::Unsure);
        }
        let quotient = self.context().div(self.value.repr(), other.value.repr());
        // Half the divisor is left at least: (da + |a/b|·db) / (|b|/2)
        let ratio = self.size() - other.size() + 1.0;
        let carried = plus(self.error, ratio + other.error) - (other.size() - 1.0) + 1.0;
        Ok(Self::settled(quotient, carried, self.bits))
    }

    fn square_root(&self) -> Outcome<Self> {
        if !self.is_known() {
            return Err(Failure::Unsure);
        }
        if self.error == f64::NEG_INFINITY && self.value.repr().significand().is_zero() {
            return Ok(self.clone());
        }
        if !self.is_clear_of_zero() {
            let most = plus(self.size(), self.error) / 2.0 + 1.0;
            return Ok(Self { value: Float::ZERO, error: most, bits: self.bits });
        }
        let root = self.context().sqrt(self.value.repr());
        let least = (self.size() - 1.0) / 2.0;
        Ok(Self::settled(root, self.error - least, self.bits))
    }

    fn exp(&self) -> Outcome<Self> {
        if self.error > -1.0 || self.size() > LARGEST_EXPONENTIAL {
            return Err(Failure::Unsure);
        }
        if self.is_zero() {
            return Ok(Self { value: Float::ONE, ..self.clone() });
        }
        let mut power = Self::near(fixed_point::exp(&self.value, self.bits), f64::NEG_INFINITY, self.bits);
        power.error = plus(power.error, power.size() + self.error + 1.0);
        Ok(power)
    }

    fn ln(&self) -> Outcome<Self> {
        if !self.is_clear_of_zero() || self.value.is_negative() {
            return Err(Failure::Unsure);
        }
        let carried = self.error - (self.size() - 1.0) + 1.0;
        if self.value == Float::ONE {
            return Ok(Self { value: Float::ZERO, error: carried, bits: self.bits });
        }
        Ok(Self::near(fixed_point::ln(&self.value, self.bits), carried, self.bits))
    }

    fn sin_cos(&self) -> Outcome<(Self, Self)> {
        if !self.is_known() || self.size() > LARGEST_ANGLE {
            return Err(Failure::Unsure);
        }
        if self.is_zero() {
            return Ok((self.clone(), Self { value: Float::ONE, ..self.clone() }));
        }
        let (sin, cos, known) = fixed_point::sin_cos(&self.value, self.bits);
        let carried = if known { self.error } else { plus(self.error, -(self.bits as f64) - 8.0) };
        Ok((Self::near(sin, carried, self.bits), Self::near(cos, carried, self.bits)))
    }

    fn angle(&self, x: &Self) -> Outcome<Self> {
        let away = plus(self.error, x.error);
        let least = self.size().max(x.size()) - 1.0;
        if away + 1.0 >= least || away == f64::INFINITY {
            return Err(Failure::Unsure);
        }
        let carried = away - least + 2.0;
        if self.is_zero() && !x.value.is_negative() {
            return Ok(Self { value: Float::ZERO, error: carried, bits: self.bits });
        }
        Ok(Self::near(fixed_point::angle(&self.value, &x.value, self.bits), carried, self.bits))
    }

    fn floor(&self) -> Outcome<Self> {
        let whole = self.whole_below().ok_or(Failure::Unsure)?;
        Ok(Self::of(&RBig::from(whole), self.bits))
    }

    fn sign(&self) -> Option<Ordering> {
        if self.error == f64::NEG_INFINITY && self.value.repr().significand().is_zero() {
            Some(Ordering::Equal)
        } else if self.size() - 1.0 > self.error {
            Some(if self.value.is_negative() { Ordering::Less } else { Ordering::Greater })
        } else {
            None
        }
    }

    fn integer(&self) -> Option<i64> {
        let exact = self.error == f64::NEG_INFINITY && self.size() < 62.0 && self.value.repr().is_int();
        if exact { i64::try_from(self.value.to_int().value()).ok() } else { None }
    }

    fn rounded(&self, decimals: u32) -> Option<IBig> {
        let scale = Self::of(&RBig::from(UBig::from(10u8).pow(decimals as usize)), self.bits);
        let half = Self::of(&RBig::from_parts(IBig::ONE, 2u8.into()), self.bits);
        self.multiply(&scale).add(&half).whole_below()
    }

    fn apart(&self, other: &Self) -> bool {
        let difference = self.add(&other.negate());
        difference.is_known() && difference.size() - 1.0 > difference.error
    }

    fn agrees(&self, other: &Self) -> bool {
        let difference = self.add(&other.negate());
        let error = difference.error.max(difference.size());
        let larger = self.size().max(other.size());
        error < larger - AGREEMENT || error < -ABSOLUTE_AGREEMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: i64) -> Precise {
        Precise::of(&RBig::from(value), 256)
    }

    #[test]
    fn the_root_of_two_squared_is_two_to_many_digits() {
        let root = of(2).square_root().unwrap();
        let two = root.multiply(&root);
        assert!(two.agrees(&of(2)) && !two.apart(&of(2)));
        let off = of(2).add(&Precise::of(&RBig::from_parts(1.into(), UBig::from(10u8).pow(45)), 256));
        assert!(two.apart(&off));
    }

    #[test]
    fn exact_values_say_that_they_are_integers() {
        assert_eq!(of(12).multiply(&of(3)).integer(), Some(36));
        assert_eq!(of(1).divide(&of(3)).unwrap().integer(), None);
        assert_eq!(of(7).divide(&of(2)).unwrap().floor().unwrap().integer(), Some(3));
    }

    #[test]
    fn sine_of_pi_is_zero_within_its_error_and_divides_nothing() {
        let (sin, cos) = Precise::pi(256).sin_cos().unwrap();
        assert!(sin.agrees(&of(0)) && cos.agrees(&of(-1)) && sin.sign().is_none());
        assert!(of(1).divide(&sin).is_err());
    }

    #[test]
    fn arguments_too_large_to_reduce_are_unknown() {
        let huge = Precise::of(&RBig::from(IBig::ONE << 4000), 256);
        assert!(huge.sin_cos().is_err() && huge.exp().is_err());
    }
}
