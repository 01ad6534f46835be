//! Rational expressions in a prime field: whether two of them are identical, exactly up to chance, without expanding either.
//!
//! An identity of rational functions with integer coefficients holds at every point of every field. Two that differ agree at
//! a random point of a field of 2^61 elements with a chance of about their degree in 2^61; three fields are asked. So
//! (x + 1)^100000 costs seventeen squarings, and 2^100000 + 1 differs from 2^100000 although neither is ever written out.
//! π and e are names like any other here, and i is a root of −1.

use dashu::base::{Signed, UnsignedAbs};
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::evaluate::{Domain, Failure, Outcome, Seed};
use super::names::Names;
use crate::math::{Budget, Constant, Function};

/// A prime p with (p − 1)/4 prime, and a root of −1 modulo it.
#[derive(Clone, Copy)]
pub(super) struct Field {
    prime: u64,
    root: u64,
}

/// The largest number of which the factorial is taken.
const LARGEST_FACTORIAL: i64 = 4096;

pub(super) const FIELDS: [Field; 3] = [
    Field { prime: 2_305_842_952_213_672_517, root: 1_729_560_547_120_747_229 },
    Field { prime: 2_305_841_964_559_336_517, root: 1_902_018_000_948_863_573 },
    Field { prime: 2_305_840_976_905_011_653, root: 993_944_975_035_608_005 },
];

/// The domain of one field. Each name has a value that only the field and the name's place among the names determine.
pub(super) struct Modular<'a> {
    field: Field,
    /// Which point of the field.
    point: u32,
    names: &'a Names,
    budget: &'a mut Budget,
    bound: Vec<(String, i64)>,
}

impl<'a> Modular<'a> {
    pub(super) fn new(field: Field, point: u32, names: &'a Names, budget: &'a mut Budget) -> Self {
        Self { field, point, names, budget, bound: Vec::new() }
    }

    fn reduced(&self, value: &UBig) -> u64 {
        value % self.field.prime
    }

    fn signed(&self, value: &IBig) -> u64 {
        let size = self.reduced(&value.unsigned_abs());
        if value.is_negative() { self.field.negated(size) } else { size }
    }

    /// A value for what has no value of its own.
    fn named(&self, key: &str) -> u64 {
        let mut seed = Seed::of(key);
        let (a, b, c) = (seed.next(), seed.next(), seed.next());
        [a, b, c].iter().fold((self.field.prime >> 7) + u64::from(self.point), |value, part| {
            self.field.times(value ^ self.signed(part.numerator()), self.field.prime >> 3)
        })
    }
}

impl Field {
    pub(super) fn product(self, a: u64, b: u64) -> u64 {
        self.times(a, b)
    }

    fn times(self, a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b) % u128::from(self.prime);
        product as u64
    }

    fn plus(self, a: u64, b: u64) -> u64 {
        (a + b) % self.prime
    }

    fn negated(self, a: u64) -> u64 {
        if a == 0 { 0 } else { self.prime - a }
    }

    fn raised(self, mut base: u64, mut exponent: u64) -> u64 {
        let mut power = 1;
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = self.times(power, base);
            }
            base = self.times(base, base);
            exponent >>= 1;
        }
        power
    }

    fn inverse(self, a: u64) -> Outcome<u64> {
        if a == 0 { Err(Failure::Undefined) } else { Ok(self.raised(a, self.prime - 2)) }
    }
}

impl Domain for Modular<'_> {
    type Value = u64;

    fn budget(&mut self) -> &mut Budget {
        self.budget
    }

    fn rational(&mut self, value: &RBig) -> Outcome<u64> {
        let above = self.signed(value.numerator());
        if value.is_int() {
            return Ok(above);
        }
        let below = self.reduced(value.denominator());
        Ok(self.field.times(above, self.field.inverse(below)?))
    }

    fn constant(&mut self, constant: Constant) -> Outcome<u64> {
        match constant {
            Constant::I => Ok(self.field.root),
            Constant::Pi => Ok(self.named("the constant pi")),
            Constant::E => Ok(self.named("the constant e")),
            Constant::Infinity => Err(Failure::Unsupported),
        }
    }

    fn symbol(&mut self, name: &str) -> Outcome<u64> {
        if let Some((_, value)) = self.bound.iter().rev().find(|(known, _)| known == name) {
            return Ok(self.signed(&IBig::from(*value)));
        }
        Ok(self.named(&self.names.key(name)))
    }

    fn add(&mut self, a: &u64, b: &u64) -> Outcome<u64> {
        Ok(self.field.plus(*a, *b))
    }

    fn multiply(&mut self, a: &u64, b: &u64) -> Outcome<u64> {
        Ok(self.field.times(*a, *b))
    }

    fn divide(&mut self, a: &u64, b: &u64) -> Outcome<u64> {
        Ok(self.field.times(*a, self.field.inverse(*b)?))
    }

    fn negate(&mut self, a: &u64) -> Outcome<u64> {
        Ok(self.field.negated(*a))
    }

    fn rational_power(&mut self, base: &u64, exponent: &RBig) -> Outcome<u64> {
        if !exponent.is_int() {
            return Err(Failure::Unsupported);
        }
        // By Fermat, exponents count modulo p − 1.
        let size = exponent.numerator().unsigned_abs();
        let reduced = &size % (self.field.prime - 1);
        self.budget.spend(2)?;
        if *base == 0 {
            return match (size.is_zero(), exponent.is_negative()) {
                (true, _) => Ok(1),
                (_, true) => Err(Failure::Undefined),
                _ => Ok(0),
            };
        }
        let raised = self.field.raised(*base, reduced);
        if exponent.is_negative() { self.field.inverse(raised) } else { Ok(raised) }
    }

    fn power(&mut self, _: &u64, _: &u64) -> Outcome<u64> {
        Err(Failure::Unsupported)
    }

    fn function(&mut self, _: Function, _: &[u64]) -> Outcome<u64> {
        Err(Failure::Unsupported)
    }

    fn factorial(&mut self, a: &u64) -> Outcome<u64> {
        let n = self.integer(a).filter(|n| (0..=LARGEST_FACTORIAL).contains(n)).ok_or(Failure::Unsupported)?;
        self.budget.spend(n as u64 / 32)?;
        Ok((2..=n as u64).fold(1, |product, factor| self.field.times(product, factor)))
    }

    /// Small values only: others are residues that say nothing of the size.
    fn integer(&self, a: &u64) -> Option<i64> {
        let a = i64::try_from(*a).ok()?;
        if a <= 1 << 20 { Some(a) } else { None }
    }

    fn bind(&mut self, name: &str, value: i64) -> Outcome<()> {
        self.bound.push((name.to_owned(), value));
        Ok(())
    }

    fn release(&mut self) {
        self.bound.pop();
    }
}
