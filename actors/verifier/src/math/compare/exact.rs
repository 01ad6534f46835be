//! Exact values of constant expressions: rational numbers, and what square roots of them make. Nothing is rounded, and no
//! number grows past [`LARGEST_BITS`]: its size is estimated before it is made.

use dashu::base::{Abs, BitTest, Gcd, Signed, UnsignedAbs};
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::evaluate::{Domain, Failure, Outcome, bits_of};
use super::surd::{Surd, within_limits};
use crate::math::{Budget, Constant, Function, LARGEST_BITS};

/// The domain of [`Surd`]s. Names have the values that are bound to them, and no others.
pub(super) struct Exact<'a> {
    budget: &'a mut Budget,
    bound: Vec<(String, i64)>,
}

impl<'a> Exact<'a> {
    pub(super) fn of_constants(budget: &'a mut Budget) -> Self {
        Self { budget, bound: Vec::new() }
    }
}

impl Domain for Exact<'_> {
    type Value = Surd;

    fn budget(&mut self) -> &mut Budget {
        self.budget
    }

    fn rational(&mut self, value: &RBig) -> Outcome<Surd> {
        Ok(Surd::rational(within_limits(value.clone())?))
    }

    fn constant(&mut self, constant: Constant) -> Outcome<Surd> {
        match constant {
            Constant::I => Ok(Surd::imaginary_unit()),
            Constant::Pi | Constant::E | Constant::Infinity => Err(Failure::Unsupported),
        }
    }

    fn symbol(&mut self, name: &str) -> Outcome<Surd> {
        let bound = self.bound.iter().rev().find(|(known, _)| known == name);
        bound.map(|(_, value)| Surd::rational(RBig::from(*value))).ok_or(Failure::Unsupported)
    }

    fn add(&mut self, a: &Surd, b: &Surd) -> Outcome<Surd> {
        a.plus(b, self.budget)
    }

    fn multiply(&mut self, a: &Surd, b: &Surd) -> Outcome<Surd> {
        a.times(b, self.budget)
    }

    fn divide(&mut self, a: &Surd, b: &Surd) -> Outcome<Surd> {
        if b.is_zero() {
            return Err(Failure::Undefined);
        }
        let inverse = b.inverse(self.budget)?;
        a.times(&inverse, self.budget)
    }

    fn negate(&mut self, a: &Surd) -> Outcome<Surd> {
        Ok(a.negated())
    }

    fn rational_power(&mut self, base: &Surd, exponent: &RBig) -> Outcome<Surd> {
        let index = exponent.denominator();
        if index.is_one() {
            return self.whole_power(base, exponent.numerator());
        }
        let base = base.as_rational().ok_or(Failure::Unsupported)?;
        let root = if *index == UBig::from(2u8) {
            Surd::square_root(base, self.budget)?
        } else {
            Surd::rational(self.perfect_root(base, index)?)
        };
        self.whole_power(&root, exponent.numerator())
    }

    fn power(&mut self, base: &Surd, exponent: &Surd) -> Outcome<Surd> {
        let exponent = exponent.as_rational().ok_or(Failure::Unsupported)?;
        self.rational_power(base, exponent)
    }

    fn function(&mut self, function: Function, arguments: &[Surd]) -> Outcome<Surd> {
        match (function, arguments) {
            (Function::Re, [a]) => Ok(a.part(false)),
            (Function::Im, [a]) => Ok(a.part(true)),
            (Function::Conjugate, [a]) => Ok(a.conjugate()),
            (Function::Abs, [a]) if a.is_real() => match a.is_negative() {
                Some(true) => Ok(a.negated()),
                Some(false) => Ok(a.clone()),
                None => Err(Failure::Unsupported),
            },
            (Function::Abs, [a]) => {
                let norm = a.times(&a.conjugate(), self.budget)?;
                Surd::square_root(norm.as_rational().ok_or(Failure::Unsupported)?, self.budget)
            }
            (Function::Exp, [a]) if a.is_zero() => Ok(Surd::rational(RBig::ONE)),
            _ => {
                let rational = arguments.iter().map(Surd::as_rational).collect::<Option<Vec<_>>>();
                let value = rational_function(function, &rational.ok_or(Failure::Unsupported)?)?;
                Ok(Surd::rational(value))
            }
        }
    }

    fn factorial(&mut self, a: &Surd) -> Outcome<Surd> {
        let n = a.as_rational().ok_or(Failure::Unsupported)?;
        if !n.is_int() {
            return Err(Failure::Unsupported);
        }
        if n.is_negative() {
            return Err(Failure::Undefined);
        }
        // n! has more than n·log2(n/3) bits, so that past 2^12 it is too big whatever n is.
        let n = u64::try_from(n.numerator()).ok().filter(|n| *n < 1 << 12).ok_or(Failure::TooBig)?;
        let mut product = UBig::ONE;
        for factor in 2..=n {
            product *= factor;
            if factor % 16 == 0 {
                self.budget.spend(1 + product.bit_len() as u64 / 256)?;
            }
        }
        Ok(Surd::rational(within_limits(product.into())?))
    }

    fn integer(&self, a: &Surd) -> Option<i64> {
        let value = a.as_rational()?;
        if value.is_int() { i64::try_from(value.numerator()).ok() } else { None }
    }

    fn bind(&mut self, name: &str, value: i64) -> Outcome<()> {
        self.bound.push((name.to_owned(), value));
        Ok(())
    }

    fn release(&mut self) {
        self.bound.pop();
    }
}

impl Exact<'_> {
    fn whole_power(&mut self, base: &Surd, exponent: &IBig) -> Outcome<Surd> {
        if base.is_zero() {
            return match exponent.sign() {
                _ if exponent.is_zero() => Ok(Surd::rational(RBig::ONE)),
                dashu::base::Sign::Positive => Ok(base.clone()),
                dashu::base::Sign::Negative => Err(Failure::Undefined),
            };
        }
        let size = exponent.unsigned_abs();
        let raised = match base.as_rational() {
            Some(base) => Surd::rational(self.rational_to_whole(base, &size)?),
            None => self.surd_to_whole(base, &size)?,
        };
        if exponent.is_negative() { raised.inverse(self.budget) } else { Ok(raised) }
    }

    fn rational_to_whole(&mut self, base: &RBig, size: &UBig) -> Outcome<RBig> {
        let (numerator, denominator) = base.clone().into_parts();
        if denominator.is_one() && numerator.clone().abs().is_one() {
            let odd = size.bit(0);
            return Ok(if odd { base.clone() } else { RBig::ONE });
        }
        // Of b bits, b^n has more than (b − 1)·n: known to be too big before it is made.
        let largest = numerator.clone().abs().bit_len().max(denominator.bit_len()) as u64;
        let size = u64::try_from(size).ok().filter(|size| *size <= LARGEST_BITS).ok_or(Failure::TooBig)?;
        if (largest - 1) * size > LARGEST_BITS {
            return Err(Failure::TooBig);
        }
        self.budget.spend(1 + largest * size / 64)?;
        let size = isize::try_from(size).map_err(|_| Failure::TooBig)?;
        within_limits(base.pow(size))
    }

    fn surd_to_whole(&mut self, base: &Surd, size: &UBig) -> Outcome<Surd> {
        let size = u64::try_from(size).map_err(|_| Failure::TooBig)?;
        let mut power = Surd::rational(RBig::ONE);
        for bit in (0..u64::BITS - size.leading_zeros()).rev() {
            power = power.times(&power, self.budget)?;
            if size >> bit & 1 == 1 {
                power = power.times(base, self.budget)?;
            }
        }
        Ok(power)
    }

    /// The root of a rational number whose root is rational; an odd one of a negative number is negative.
    fn perfect_root(&mut self, base: &RBig, index: &UBig) -> Outcome<RBig> {
        let index = usize::try_from(index).ok().filter(|index| *index <= 64).ok_or(Failure::Unsupported)?;
        if base.is_negative() && index % 2 == 0 {
            return Err(Failure::Unsupported);
        }
        self.budget.spend(1 + bits_of(base) / 8)?;
        let (numerator, denominator) = (base.numerator().unsigned_abs(), base.denominator());
        let (above, below) = (numerator.nth_root(index), denominator.nth_root(index));
        if above.pow(index) != numerator || below.pow(index) != *denominator {
            return Err(Failure::Unsupported);
        }
        let root = RBig::from_parts(above.into(), below);
        Ok(if base.is_negative() { -root } else { root })
    }
}

/// Functions whose values at rational numbers are rational.
fn rational_function(function: Function, arguments: &[&RBig]) -> Outcome<RBig> {
    let value = match (function, arguments) {
        (Function::Floor, [a]) => a.floor().into(),
        (Function::Ceil, [a]) => a.ceil().into(),
        (Function::Sign, [a]) => a.signum(),
        (Function::Min, [first, rest @ ..]) => (*rest.iter().fold(first, |a, b| if b < a { b } else { a })).clone(),
        (Function::Max, [first, rest @ ..]) => (*rest.iter().fold(first, |a, b| if b > a { b } else { a })).clone(),
        (Function::Gcd, [_, ..]) => integers(arguments)?.into_iter().fold(UBig::ZERO, |a, b| greatest(&a, &b)).into(),
        (Function::Lcm, [_, ..]) => {
            let mut multiple = UBig::ONE;
            for number in integers(arguments)? {
                if number.is_zero() {
                    return Ok(RBig::ZERO);
                }
                let common = greatest(&multiple, &number);
                multiple = multiple / common * number;
                if multiple.bit_len() as u64 > LARGEST_BITS {
                    return Err(Failure::TooBig);
                }
            }
            multiple.into()
        }
        (Function::Mod, [_, modulus]) if modulus.is_zero() => return Err(Failure::Undefined),
        (Function::Mod, [a, modulus]) => {
            let whole: RBig = ((*a).clone() / (*modulus).clone()).floor().into();
            (*a).clone() - whole * (*modulus).clone()
        }
        _ => return Err(Failure::Unsupported),
    };
    within_limits(value)
}

fn greatest(a: &UBig, b: &UBig) -> UBig {
    match (a.is_zero(), b.is_zero()) {
        (true, _) => b.clone(),
        (_, true) => a.clone(),
        _ => a.gcd(b),
    }
}

fn integers(arguments: &[&RBig]) -> Outcome<Vec<UBig>> {
    let whole = |a: &&RBig| if a.is_int() { Ok(a.numerator().unsigned_abs()) } else { Err(Failure::Unsupported) };
    arguments.iter().map(whole).collect()
}
