//! The elementary functions of complex numbers with error bounds: circular and hyperbolic ones with their inverses, extremes,
//! remainders, common divisors.

use std::cmp::Ordering;

use super::evaluate::{Domain, Failure, Outcome};
use super::numeric::{Numeric, Pair};
use super::real::{Complex, Real, is_real, is_zero, real_part};
use crate::math::Function;

impl<R: Real> Numeric<'_, R> {
    fn sin_cos(&mut self, a: &Pair<R>) -> Outcome<(Pair<R>, Pair<R>)> {
        self.pay(R::function_steps(self.setting))?;
        let (sin, cos) = a.re.sin_cos()?;
        if is_real(a) {
            return Ok((self.real(sin), self.real(cos)));
        }
        // sin(x + iy) = sin x·cosh y + i·cos x·sinh y, and the cosine likewise.
        self.pay(R::function_steps(self.setting))?;
        let (up, down) = (a.im.exp()?, a.im.negate().exp()?);
        let cosh = self.half_of_real(&up.add(&down));
        let sinh = self.half_of_real(&up.add(&down.negate()));
        Ok((
            Complex { re: sin.multiply(&cosh), im: cos.multiply(&sinh) },
            Complex { re: cos.multiply(&cosh), im: sin.multiply(&sinh).negate() },
        ))
    }

    pub(super) fn trigonometric(&mut self, function: Function, a: &Pair<R>) -> Outcome<Pair<R>> {
        let (sin, cos) = self.sin_cos(a)?;
        match function {
            Function::Sin => Ok(sin),
            Function::Cos => Ok(cos),
            Function::Tan => self.divide(&sin, &cos),
            Function::Cot => self.divide(&cos, &sin),
            Function::Sec => self.inverted(&cos),
            _ => self.inverted(&sin),
        }
    }

    pub(super) fn hyperbolic(&mut self, function: Function, a: &Pair<R>) -> Outcome<Pair<R>> {
        let up = self.exp(a)?;
        let down = self.inverted(&up)?;
        let (sum, difference) = (self.add(&up, &down)?, self.minus(&up, &down)?);
        match function {
            Function::Sinh => self.half(&difference),
            Function::Cosh => self.half(&sum),
            Function::Tanh => self.divide(&difference, &sum),
            _ => self.divide(&sum, &difference),
        }
    }

    /// √(1 − a²)
    fn complement(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        let one = self.real(self.exactly(1));
        let square = self.multiply(a, a)?;
        let rest = self.minus(&one, &square)?;
        self.square_root(&rest)
    }

    fn arcsin(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        self.pay(R::function_steps(self.setting))?;
        let rest = self.complement(a)?;
        if is_real(a) && is_real(&rest) {
            return Ok(self.real(a.re.angle(&rest.re)?));
        }
        // −i·ln(i·a + √(1 − a²))
        let sum = self.add(&Self::turned(a), &rest)?;
        let ln = self.ln(&sum)?;
        self.negate(&Self::turned(&ln))
    }

    fn arctan(&mut self, a: &Pair<R>) -> Outcome<Pair<R>> {
        self.pay(R::function_steps(self.setting))?;
        let one = self.real(self.exactly(1));
        if is_real(a) {
            return Ok(self.real(a.re.angle(&one.re)?));
        }
        // (i/2)·(ln(1 − ia) − ln(1 + ia))
        let turned = Self::turned(a);
        let (below, above) = (self.minus(&one, &turned)?, self.add(&one, &turned)?);
        let (below, above) = (self.ln(&below)?, self.ln(&above)?);
        let difference = self.minus(&below, &above)?;
        self.half(&Self::turned(&difference))
    }

    pub(super) fn inverse_trigonometric(&mut self, function: Function, a: &Pair<R>) -> Outcome<Pair<R>> {
        match function {
            Function::Arcsin => self.arcsin(a),
            Function::Arccos => {
                let arcsin = self.arcsin(a)?;
                let right = self.real(self.half_of_real(&R::pi(self.setting)));
                self.minus(&right, &arcsin)
            }
            Function::Arctan => self.arctan(a),
            // Odd, as computer algebra has it; at zero a right angle.
            _ if is_zero(a) => Ok(self.real(self.half_of_real(&R::pi(self.setting)))),
            _ => {
                let inverse = self.inverted(a)?;
                self.arctan(&inverse)
            }
        }
    }

    pub(super) fn inverse_hyperbolic(&mut self, function: Function, a: &Pair<R>) -> Outcome<Pair<R>> {
        let one = self.real(self.exactly(1));
        if function == Function::Artanh {
            let (above, below) = (self.add(&one, a)?, self.minus(&one, a)?);
            let quotient = self.divide(&above, &below)?;
            let ln = self.ln(&quotient)?;
            return self.half(&ln);
        }
        let square = self.multiply(a, a)?;
        let shifted = if function == Function::Arsinh { self.add(&square, &one)? } else { self.minus(&square, &one)? };
        let root = self.square_root(&shifted)?;
        let sum = self.add(a, &root)?;
        self.ln(&sum)
    }

    pub(super) fn extreme(&mut self, function: Function, arguments: &[Pair<R>]) -> Outcome<Pair<R>> {
        let wanted = if function == Function::Min { Ordering::Less } else { Ordering::Greater };
        let (first, rest) = arguments.split_first().ok_or(Failure::Unsupported)?;
        let mut best = first.clone();
        for other in rest {
            let difference = self.minus(other, &best)?;
            if !is_real(&difference) {
                return Err(Failure::Unsupported);
            }
            if difference.re.sign().ok_or(Failure::Unsure)? == wanted {
                best = other.clone();
            }
        }
        Ok(best)
    }

    pub(super) fn remainder(&mut self, a: &Pair<R>, modulus: &Pair<R>) -> Outcome<Pair<R>> {
        let quotient = self.divide(a, modulus)?;
        let whole = self.real(real_part(&quotient)?.floor()?);
        let multiple = self.multiply(&whole, modulus)?;
        self.minus(a, &multiple)
    }

    /// Of whole numbers: the largest or smallest common one.
    pub(super) fn common(&mut self, function: Function, arguments: &[Pair<R>]) -> Outcome<Pair<R>> {
        let whole =
            arguments.iter().map(|a| self.integer(a)).collect::<Option<Vec<_>>>().ok_or(Failure::Unsupported)?;
        let greatest = |mut a: u64, mut b: u64| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        let mut total = u64::from(function == Function::Lcm);
        for number in whole {
            let number = number.unsigned_abs();
            let divisor = greatest(total, number);
            total = if function == Function::Gcd {
                divisor
            } else {
                // Only 0 and 0 have the divisor 0, and their common multiple is 0.
                let share = total.checked_div(divisor).unwrap_or(0);
                share.checked_mul(number).ok_or(Failure::TooBig)?
            };
        }
        let total = i64::try_from(total).map_err(|_| Failure::TooBig)?;
        Ok(self.real(self.exactly(total)))
    }
}
