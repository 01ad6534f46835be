//! Complex floating point with error bounds, over any [`Real`]: what two expressions are worth at a point, and how surely.

use std::cmp::Ordering;

use dashu::base::{BitTest, Signed, UnsignedAbs};
use dashu::rational::RBig;

use super::evaluate::{Domain, Failure, Outcome};
use super::points::Point;
use super::real::{Complex, Real, is_real, is_zero, real_part};
use crate::math::{Budget, Constant, Function};

/// The largest whole exponent that is reached by multiplications.
const LARGEST_EXPONENT: u64 = 1 << 20;

/// The largest number of which the factorial is taken in floating point.
const LARGEST_FACTORIAL: i64 = 1024;

/// The domain of [`Complex`] numbers at one point.
pub(super) struct Numeric<'a, R: Real> {
    point: &'a Point<'a>,
    pub(super) setting: R::Setting,
    budget: &'a mut Budget,
    bound: Vec<(String, i64)>,
    /// A root or logarithm of a negative number was taken, so that the value is not one that real analysis knows.
    pub(super) left_the_reals: bool,
}

pub(super) type Pair<R> = Complex<R>;

impl<'a, R: Real> Numeric<'a, R> {
    pub(super) fn new(point: &'a Point<'a>, setting: R::Setting, budget: &'a mut Budget) -> Self {
        Self { point, setting, budget, bound: Vec::new(), left_the_reals: false }
    }

    pub(super) fn exactly(&self, value: i64) -> R {
        R::of(&RBig::from(value), self.setting)
    }

    pub(super) fn real(&self, re: R) -> Pair<R> {
        Complex { re, im: self.exactly(0) }
    }

    pub(super) fn pay(&mut self, steps: u64) -> Outcome<()> {
        Ok(self.budget.spend(steps)?)
    }

    pub(super) fn minus(&mut self, a: &Pair<R>, b: &Pair<R>) -> Outcome<Pair<R>> {
        let b = self.negate(b)?;
        self.add(a, &b)
    }

    pub(super) fn half(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        let half = self.real(R::of(&RBig::from_parts(1.into(), 2u8.into()), self.setting));
        self.multiply(a, &half)
    }

    /// i·a
    pub(super) fn turned(a: &Pair<R>) -> Pair<R> {
        Complex { re: a.im.negate(), im: a.re.clone() }
    }

    fn norm(a: &Pair<R>) -> R {
        a.re.multiply(&a.re).add(&a.im.multiply(&a.im))
    }

    fn absolute(&mut self, a: &Pair<R>) -> Outcome<R> {
        self.pay(R::ARITHMETIC * 3)?;
        if is_real(a) {
            return match a.re.sign() {
                Some(Ordering::Less) => Ok(a.re.negate()),
                Some(_) => Ok(a.re.clone()),
                // |v| with v zero up to its error is the root of its square, error and all.
                None => a.re.multiply(&a.re).square_root(),
            };
        }
        Self::norm(a).square_root()
    }

    pub(super) fn exp(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        self.pay(R::function_steps(self.setting))?;
        let size = a.re.exp()?;
        if is_real(a) {
            return Ok(self.real(size));
        }
        self.pay(R::function_steps(self.setting))?;
        let (sin, cos) = a.im.sin_cos()?;
        Ok(Complex { re: size.multiply(&cos), im: size.multiply(&sin) })
    }

    pub(super) fn ln(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        self.pay(R::function_steps(self.setting))?;
        if is_real(a) {
            return match a.re.sign() {
                Some(Ordering::Greater) => Ok(self.real(a.re.ln()?)),
                Some(Ordering::Less) => {
                    self.left_the_reals = true;
                    Ok(Complex { re: a.re.negate().ln()?, im: R::pi(self.setting) })
                }
                Some(Ordering::Equal) => Err(Failure::Undefined),
                None => Err(Failure::Unsure),
            };
        }
        self.pay(R::function_steps(self.setting))?;
        let size = self.half_of_real(&Self::norm(a).ln()?);
        Ok(Complex { re: size, im: self.argument(a)? })
    }

    pub(super) fn half_of_real(&self, a: &R) -> R {
        a.multiply(&R::of(&RBig::from_parts(1.into(), 2u8.into()), self.setting))
    }

    fn argument(&mut self, a: &Pair<R>) -> Outcome<R> {
        self.pay(R::function_steps(self.setting))?;
        // On the negative real axis the angle jumps: there the sign of the imaginary part must be known.
        if a.im.sign().is_none() && a.re.sign() != Some(Ordering::Greater) {
            return Err(Failure::Unsure);
        }
        match (a.re.sign(), a.im.sign()) {
            (Some(Ordering::Equal), Some(Ordering::Equal)) => Err(Failure::Undefined),
            _ => a.im.angle(&a.re),
        }
    }

    pub(super) fn square_root(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        self.pay(R::ARITHMETIC * 4)?;
        if is_real(a) {
            return match a.re.sign() {
                Some(Ordering::Less) => {
                    self.left_the_reals = true;
                    Ok(Self::turned(&Complex { re: a.re.negate().square_root()?, im: self.exactly(0) }))
                }
                _ => Ok(self.real(a.re.square_root()?)),
            };
        }
        let size = Self::norm(a).square_root()?;
        let outer = self.half_of_real(&size.add(&a.re)).square_root()?;
        let inner = self.half_of_real(&size.add(&a.re.negate())).square_root()?;
        match a.im.sign() {
            Some(Ordering::Less) => Ok(Complex { re: outer, im: inner.negate() }),
            Some(_) => Ok(Complex { re: outer, im: inner }),
            None => Err(Failure::Unsure),
        }
    }

    fn whole_power(&mut self, base: &Pair<R>, mut size: u64) -> Outcome<Pair<R>> {
        let (mut power, mut square) = (self.real(self.exactly(1)), base.clone());
        while size > 0 {
            if size & 1 == 1 {
                power = self.multiply(&power, &square)?;
            }
            size >>= 1;
            if size > 0 {
                square = self.multiply(&square, &square)?;
            }
        }
        Ok(power)
    }

    pub(super) fn inverted(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        let one = self.real(self.exactly(1));
        self.divide(&one, a)
    }

    /// exp(exponent · ln base)
    fn general_power(&mut self, base: &Pair<R>, exponent: &Pair<R>) -> Outcome<Pair<R>> {
        if is_zero(base) {
            return match exponent.re.sign() {
                Some(Ordering::Greater) => Ok(self.real(self.exactly(0))),
                _ => Err(Failure::Undefined),
            };
        }
        let ln = self.ln(base)?;
        let product = self.multiply(&ln, exponent)?;
        self.exp(&product)
    }
}

impl<R: Real> Domain for Numeric<'_, R> {
    type Value = Complex<R>;

    fn budget(&mut self) -> &mut Budget {
        self.budget
    }

    fn rational(&mut self, value: &RBig) -> Outcome<Pair<R>> {
        Ok(self.real(R::of(value, self.setting)))
    }

    fn constant(&mut self, constant: Constant) -> Outcome<Pair<R>> {
        self.pay(R::function_steps(self.setting) / 2)?;
        match constant {
            Constant::Pi => Ok(self.real(R::pi(self.setting))),
            Constant::E => Ok(self.real(self.exactly(1).exp()?)),
            Constant::I => Ok(Complex { re: self.exactly(0), im: self.exactly(1) }),
            Constant::Infinity => Err(Failure::Unsupported),
        }
    }

    fn symbol(&mut self, name: &str) -> Outcome<Pair<R>> {
        if let Some((_, value)) = self.bound.iter().rev().find(|(known, _)| known == name) {
            return Ok(self.real(self.exactly(*value)));
        }
        let value = self.point.value(name).ok_or(Failure::Unsupported)?;
        Ok(self.real(R::of(value, self.setting)))
    }

    fn add(&mut self, a: &Pair<R>, b: &Pair<R>) -> Outcome<Pair<R>> {
        self.pay(R::ARITHMETIC)?;
        Ok(Complex { re: a.re.add(&b.re), im: if is_real(b) { a.im.clone() } else { a.im.add(&b.im) } })
    }

    fn multiply(&mut self, a: &Pair<R>, b: &Pair<R>) -> Outcome<Pair<R>> {
        self.pay(R::ARITHMETIC)?;
        if is_real(a) && is_real(b) {
            return Ok(Complex { re: a.re.multiply(&b.re), im: a.im.clone() });
        }
        let re = a.re.multiply(&b.re).add(&a.im.multiply(&b.im).negate());
        Ok(Complex { re, im: a.re.multiply(&b.im).add(&a.im.multiply(&b.re)) })
    }

    fn divide(&mut self, a: &Pair<R>, b: &Pair<R>) -> Outcome<Pair<R>> {
        self.pay(R::ARITHMETIC)?;
        if is_zero(b) {
            return Err(Failure::Undefined);
        }
        if is_real(b) {
            let im = if is_real(a) { a.im.clone() } else { a.im.divide(&b.re)? };
            return Ok(Complex { re: a.re.divide(&b.re)?, im });
        }
        let conjugate = Complex { re: b.re.clone(), im: b.im.negate() };
        let above = self.multiply(a, &conjugate)?;
        let below = Self::norm(b);
        Ok(Complex { re: above.re.divide(&below)?, im: above.im.divide(&below)? })
    }

    fn negate(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        Ok(Complex { re: a.re.negate(), im: a.im.negate() })
    }

    fn rational_power(&mut self, base: &Pair<R>, exponent: &RBig) -> Outcome<Pair<R>> {
        let (numerator, index) = (exponent.numerator().unsigned_abs(), exponent.denominator());
        if numerator.is_zero() {
            return Ok(self.real(self.exactly(1)));
        }
        if exponent.is_int()
            && let Some(size) = u64::try_from(&numerator).ok().filter(|size| *size <= LARGEST_EXPONENT)
        {
            let power = self.whole_power(base, size)?;
            return if exponent.is_negative() { self.inverted(&power) } else { Ok(power) };
        }
        if exponent.denominator().bit_len() == 2 && !index.bit(0) {
            // An index of 2, since 3 has its last bit set.
            let root = self.square_root(base)?;
            let numerator = RBig::from(exponent.numerator().clone());
            return self.rational_power(&root, &numerator);
        }
        let negative = is_real(base) && base.re.sign() == Some(Ordering::Less);
        let exact = Complex { re: R::of(exponent, self.setting), im: self.exactly(0) };
        if negative && index.bit(0) {
            let size = self.negate(base)?;
            let power = self.general_power(&size, &exact)?;
            return if numerator.bit(0) { self.negate(&power) } else { Ok(power) };
        }
        self.general_power(base, &exact)
    }

    fn power(&mut self, base: &Pair<R>, exponent: &Pair<R>) -> Outcome<Pair<R>> {
        if let Some(whole) = self.integer(exponent) {
            return self.rational_power(base, &RBig::from(whole));
        }
        self.general_power(base, exponent)
    }

    fn function(&mut self, function: Function, arguments: &[Pair<R>]) -> Outcome<Pair<R>> {
        use Function as F;
        match (function, arguments) {
            (F::Sin | F::Cos | F::Tan | F::Cot | F::Sec | F::Csc, [a]) => self.trigonometric(function, a),
            (F::Arcsin | F::Arccos | F::Arctan | F::Arccot, [a]) => self.inverse_trigonometric(function, a),
            (F::Sinh | F::Cosh | F::Tanh | F::Coth, [a]) => self.hyperbolic(function, a),
            (F::Arsinh | F::Arcosh | F::Artanh, [a]) => self.inverse_hyperbolic(function, a),
            (F::Exp, [a]) => self.exp(a),
            (F::Ln, [a]) => self.ln(a),
            (F::Log, [a, base]) => {
                let (above, below) = (self.ln(a)?, self.ln(base)?);
                self.divide(&above, &below)
            }
            (F::Abs, [a]) => Ok(Complex { re: self.absolute(a)?, im: self.exactly(0) }),
            (F::Floor, [a]) => Ok(self.real(real_part(a)?.floor()?)),
            (F::Ceil, [a]) => Ok(self.real(real_part(a)?.negate().floor()?.negate())),
            (F::Sign, [a]) => {
                let sign = real_part(a)?.sign().ok_or(Failure::Unsure)?;
                Ok(self.real(self.exactly(sign as i64)))
            }
            (F::Re, [a]) => Ok(self.real(a.re.clone())),
            (F::Im, [a]) => Ok(self.real(a.im.clone())),
            (F::Conjugate, [a]) => Ok(Complex { re: a.re.clone(), im: a.im.negate() }),
            (F::Arg, [a]) => {
                let angle = self.argument(a)?;
                Ok(self.real(angle))
            }
            (F::Min | F::Max, [_, ..]) => self.extreme(function, arguments),
            (F::Gcd | F::Lcm, [_, ..]) => self.common(function, arguments),
            (F::Mod, [a, modulus]) => self.remainder(a, modulus),
            _ => Err(Failure::Unsupported),
        }
    }

    fn factorial(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        let n = self.integer(a).ok_or(Failure::Unsupported)?;
        if n < 0 {
            return Err(Failure::Undefined);
        }
        if n > LARGEST_FACTORIAL {
            return Err(Failure::TooBig);
        }
        self.pay(n.unsigned_abs() * R::ARITHMETIC)?;
        let product = (2..=n).fold(self.exactly(1), |product, factor| product.multiply(&self.exactly(factor)));
        Ok(self.real(product))
    }

    fn integer(&self, a: &Pair<R>) -> Option<i64> {
        if is_real(a) { a.re.integer() } else { None }
    }

    fn bind(&mut self, name: &str, value: i64) -> Outcome<()> {
        self.bound.push((name.to_owned(), value));
        Ok(())
    }

    fn release(&mut self) {
        self.bound.pop();
    }
}
