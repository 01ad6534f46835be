//! Double precision with a running error bound: settles nearly every difference in less than a microsecond.
//!
//! Sums, products, quotients and square roots carry their exact rounding error (by error-free transformations), so whole numbers
//! stay exact. The elementary functions are taken to be right within four units in the last place, which every usual C
//! library keeps well below: a verdict does not depend on which it is.

use std::cmp::Ordering;

use dashu::base::Approximation;
use dashu::integer::IBig;
use dashu::rational::RBig;

use super::evaluate::{Failure, Outcome};
use super::real::Real;

/// A number within `error` of `value`. Where nothing is known the error is infinite.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fast {
    value: f64,
    error: f64,
}

/// Covers four units in the last place, and the rounding of the bounds themselves.
const FUNCTION_ERROR: f64 = 1e-15;
const SLACK: f64 = 1.0 + 1e-12;
/// Below this, products lose digits that their remainder does not show.
const UNDERFLOW: f64 = 1e-290;

impl Fast {
    fn new(value: f64, error: f64) -> Self {
        if value.is_finite() && !error.is_nan() {
            Self { value, error: error * SLACK }
        } else {
            Self { value: 0.0, error: f64::INFINITY }
        }
    }

    fn of_function(value: f64, error: f64) -> Self {
        Self::new(value, error + value.abs() * FUNCTION_ERROR)
    }
}

impl Real for Fast {
    type Setting = ();
    fn function_steps(_: Self::Setting) -> u64 {
        1
    }
    const ARITHMETIC: u64 = 0;

    fn of(value: &RBig, (): ()) -> Self {
        match value.to_f64() {
            Approximation::Exact(value) => Self::new(value, 0.0),
            Approximation::Inexact(value, _) => Self::new(value, value.abs() * f64::EPSILON + f64::MIN_POSITIVE),
        }
    }

    fn pi((): ()) -> Self {
        Self { value: std::f64::consts::PI, error: 1.3e-16 }
    }

    fn add(&self, other: &Self) -> Self {
        let (a, b) = (self.value, other.value);
        let sum = a + b;
        let part = sum - a;
        let remainder = (a - (sum - part)) + (b - part);
        Self::new(sum, self.error + other.error + remainder.abs())
    }

    fn multiply(&self, other: &Self) -> Self {
        let (a, b) = (self.value, other.value);
        let product = a * b;
        let remainder = a.mul_add(b, -product).abs();
        let lost = if product.abs() < UNDERFLOW && a != 0.0 && b != 0.0 { UNDERFLOW } else { 0.0 };
        // An unknown factor makes the product unknown, even if the other is zero.
        let carried = a.abs() * other.error + b.abs() * self.error + self.error * other.error;
        let unknown = self.error.is_infinite() || other.error.is_infinite();
        Self::new(product, if unknown { f64::INFINITY } else { carried + remainder + lost })
    }

    fn negate(&self) -> Self {
        Self { value: -self.value, ..*self }
    }

    fn divide(&self, other: &Self) -> Outcome<Self> {
        let (a, b) = (self.value, other.value);
        let least = b.abs() - other.error * SLACK;
        if least.is_nan() || least <= 0.0 {
            return Err(Failure::Unsure);
        }
        let quotient = a / b;
        let remainder = (-quotient).mul_add(b, a).abs();
        let lost = if quotient.abs() < UNDERFLOW && a != 0.0 { UNDERFLOW } else { 0.0 };
        Ok(Self::new(quotient, (remainder + self.error + quotient.abs() * other.error) / least + lost))
    }

    fn square_root(&self) -> Outcome<Self> {
        if self.error.is_infinite() {
            return Err(Failure::Unsure);
        }
        if self.value <= self.error {
            let most = (self.value.abs() + self.error).sqrt();
            return Ok(Self::new(self.value.max(0.0).sqrt(), most));
        }
        let root = self.value.sqrt();
        let remainder = (-root).mul_add(root, self.value).abs();
        Ok(Self::new(root, (remainder + self.error) / root))
    }

    fn exp(&self) -> Outcome<Self> {
        let value = self.value.exp();
        let error = value * self.error.exp_m1();
        Ok(if self.value == 0.0 { Self::new(1.0, error) } else { Self::of_function(value, error + UNDERFLOW) })
    }

    fn ln(&self) -> Outcome<Self> {
        if self.value <= self.error * 2.0 {
            return Err(Failure::Unsure);
        }
        Ok(Self::of_function(self.value.ln(), 2.0 * self.error / self.value))
    }

    fn sin_cos(&self) -> Outcome<(Self, Self)> {
        let (sin, cos) = self.value.sin_cos();
        Ok((Self::of_function(sin, self.error), Self::of_function(cos, self.error)))
    }

    fn angle(&self, x: &Self) -> Outcome<Self> {
        let away = self.error + x.error;
        let least = self.value.abs().max(x.value.abs()) - away;
        if least.is_nan() || least <= 0.0 || least.is_infinite() {
            return Err(Failure::Unsure);
        }
        Ok(Self::of_function(self.value.atan2(x.value), 2.0 * away / least))
    }

    fn floor(&self) -> Outcome<Self> {
        let (low, high) = ((self.value - self.error).floor(), (self.value + self.error).floor());
        if low == high && low.abs() < 9e15 { Ok(Self::new(low, 0.0)) } else { Err(Failure::Unsure) }
    }

    fn sign(&self) -> Option<Ordering> {
        if self.value.abs() > self.error {
            self.value.partial_cmp(&0.0)
        } else if self.error == 0.0 {
            Some(Ordering::Equal)
        } else {
            None
        }
    }

    fn integer(&self) -> Option<i64> {
        let whole = self.error == 0.0 && self.value.fract() == 0.0 && self.value.abs() < 9e15;
        if whole { Some(self.value as i64) } else { None }
    }

    fn rounded(&self, decimals: u32) -> Option<IBig> {
        let scale = 10f64.powi(i32::try_from(decimals).ok()?);
        let (value, error) = (self.value * scale, self.error * scale + self.value.abs() * scale * f64::EPSILON);
        let (low, high) = ((value - error + 0.5).floor(), (value + error + 0.5).floor());
        if low == high && low.abs() < 9e15 { Some(IBig::from(low as i64)) } else { None }
    }

    fn apart(&self, other: &Self) -> bool {
        (self.value - other.value).abs() > (self.error + other.error) * SLACK
    }

    fn agrees(&self, other: &Self) -> bool {
        let size = self.value.abs().max(other.value.abs()).max(1.0);
        !self.apart(other) && self.error + other.error < size * 1e-8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: i64) -> Fast {
        Fast::of(&RBig::from(value), ())
    }

    #[test]
    fn whole_numbers_stay_exact_through_arithmetic() {
        let six = of(2).multiply(&of(3)).add(&of(0)).divide(&of(1)).unwrap();
        assert_eq!(six.integer(), Some(6));
        assert_eq!(of(49).square_root().unwrap().integer(), Some(7));
        assert_eq!(of(1).divide(&of(3)).unwrap().integer(), None);
    }

    #[test]
    fn what_overflows_is_unknown_and_never_apart() {
        let huge = of(10).exp().unwrap().exp().unwrap();
        assert!(!huge.apart(&of(3)) && !huge.agrees(&huge) && huge.sign().is_none());
        assert!(!huge.multiply(&of(0)).apart(&of(3)));
    }

    #[test]
    fn a_third_thrice_is_one_within_its_error() {
        let third = of(1).divide(&of(3)).unwrap();
        let one = third.add(&third).add(&third);
        assert!(one.agrees(&of(1)) && !one.apart(&of(1)));
        assert!(third.apart(&Fast::of(&RBig::from_parts(333_333_333.into(), 1_000_000_000u64.into()), ())));
    }
}
