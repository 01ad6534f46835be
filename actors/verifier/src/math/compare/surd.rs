//! Exact numbers of the form Σ q·√n, with rational q and square-free n, real or times i: closed under all four operations,
//! and each number has one form only, so that equality is equality of forms.

use dashu::base::{Abs, BitTest, Gcd, Signed, SquareRootRem};
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::evaluate::{Failure, Outcome, bits_of};
use crate::math::{Budget, LARGEST_BITS};

/// The most terms of one number, and the largest radicand: what is more is computed in floating point.
const MOST_TERMS: usize = 48;
const LARGEST_RADICAND: u64 = 1 << 40;

/// What stands behind the rational factor: √n, or i·√n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unit {
    imaginary: bool,
    radicand: u64,
}

const ONE: Unit = Unit { imaginary: false, radicand: 1 };

static ZERO: RBig = RBig::ZERO;

/// See the module. The terms are in order of their units, no factor is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Surd {
    terms: Vec<(Unit, RBig)>,
}

impl Surd {
    pub(super) fn rational(value: RBig) -> Self {
        Self { terms: if value.is_zero() { Vec::new() } else { vec![(ONE, value)] } }
    }

    pub(super) fn imaginary_unit() -> Self {
        Self { terms: vec![(Unit { imaginary: true, radicand: 1 }, RBig::ONE)] }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.terms.is_empty()
    }

    pub(super) fn is_real(&self) -> bool {
        self.terms.iter().all(|(unit, _)| !unit.imaginary)
    }

    pub(super) fn as_rational(&self) -> Option<&RBig> {
        match self.terms.as_slice() {
            [] => Some(&ZERO),
            [(ONE, value)] => Some(value),
            _ => None,
        }
    }

    pub(super) fn into_rational(mut self) -> Option<RBig> {
        match self.terms.as_slice() {
            [] => Some(RBig::ZERO),
            [(ONE, _)] => self.terms.pop().map(|(_, value)| value),
            _ => None,
        }
    }

    /// Only the real terms, or the imaginary ones made real.
    pub(super) fn part(&self, imaginary: bool) -> Self {
        let chosen = self.terms.iter().filter(|(unit, _)| unit.imaginary == imaginary);
        Self { terms: chosen.map(|(unit, value)| (Unit { imaginary: false, ..*unit }, value.clone())).collect() }
    }

    pub(super) fn conjugate(&self) -> Self {
        self.reflected(|unit| unit.imaginary)
    }

    pub(super) fn negated(&self) -> Self {
        self.reflected(|_| true)
    }

    /// The sign changed of those terms.
    fn reflected(&self, changes: impl Fn(Unit) -> bool) -> Self {
        let change = |(unit, value): &(Unit, RBig)| (*unit, if changes(*unit) { -value } else { value.clone() });
        Self { terms: self.terms.iter().map(change).collect() }
    }

    pub(super) fn plus(&self, other: &Self, budget: &mut Budget) -> Outcome<Self> {
        let mut terms = Vec::with_capacity(self.terms.len() + other.terms.len());
        let (mut left, mut right) = (self.terms.iter().peekable(), other.terms.iter().peekable());
        while let (Some((a, x)), Some((b, y))) = (left.peek(), right.peek()) {
            match a.cmp(b) {
                std::cmp::Ordering::Less => terms.extend(left.next().cloned()),
                std::cmp::Ordering::Greater => terms.extend(right.next().cloned()),
                std::cmp::Ordering::Equal => {
                    let sum = checked(x, y, budget)? + y;
                    if !sum.is_zero() {
                        terms.push((*a, within_limits(sum)?));
                    }
                    left.next();
                    right.next();
                }
            }
        }
        terms.extend(left.chain(right).cloned());
        Self { terms }.of_few_terms()
    }

    pub(super) fn times(&self, other: &Self, budget: &mut Budget) -> Outcome<Self> {
        let mut total = Self { terms: Vec::new() };
        for (a, x) in &self.terms {
            let mut row = Vec::with_capacity(other.terms.len());
            for (b, y) in &other.terms {
                let (unit, factor) = product(*a, *b)?;
                let value = within_limits(checked(x, y, budget)? * y * RBig::from(factor))?;
                row.push((unit, value));
            }
            row.sort_unstable_by_key(|(unit, _)| *unit);
            total = total.plus(&Self { terms: row }, budget)?;
        }
        Ok(total)
    }

    /// 1/self: the product with its conjugates is rational, and takes one square root off at a time.
    pub(super) fn inverse(&self, budget: &mut Budget) -> Outcome<Self> {
        let (mut above, mut below) = (Self::rational(RBig::ONE), self.clone());
        while below.as_rational().is_none() {
            budget.spend(1)?;
            let conjugate = match below.terms.iter().find(|(unit, _)| *unit != ONE) {
                Some((unit, _)) if unit.imaginary => below.conjugate(),
                Some((unit, _)) => {
                    let prime = smallest_factor(unit.radicand, budget)?;
                    below.reflected(|unit| unit.radicand % prime == 0)
                }
                None => return Err(Failure::Unsupported),
            };
            above = above.times(&conjugate, budget)?;
            below = below.times(&conjugate, budget)?;
        }
        match below.as_rational() {
            Some(value) if !value.is_zero() => above.times(&Self::rational(RBig::ONE / value), budget),
            _ => Err(Failure::Undefined),
        }
    }

    /// The principal square root of a rational number.
    pub(super) fn square_root(value: &RBig, budget: &mut Budget) -> Outcome<Self> {
        if value.is_zero() {
            return Ok(Self { terms: Vec::new() });
        }
        // √(a/b) = √(ab)/b
        let (numerator, denominator) = (value.numerator(), value.denominator());
        budget.spend(bits_of(value) / 16)?;
        let product = numerator.clone().abs() * IBig::from(denominator.clone());
        let product = UBig::try_from(product).map_err(|_| Failure::Unsupported)?;
        let (outside, radicand) = squares_out(product, budget)?;
        let factor = RBig::from_parts(outside.into(), denominator.clone());
        Ok(Self { terms: vec![(Unit { imaginary: numerator.is_negative(), radicand }, factor)] })
    }

    fn of_few_terms(self) -> Outcome<Self> {
        if self.terms.len() > MOST_TERMS { Err(Failure::Unsupported) } else { Ok(self) }
    }

    /// Whether a real number is negative, where each term has the same sign; `None` where that does not tell.
    pub(super) fn is_negative(&self) -> Option<bool> {
        if !self.is_real() {
            return None;
        }
        let negative = self.terms.iter().filter(|(_, value)| value.is_negative()).count();
        if negative == 0 {
            Some(false)
        } else if negative == self.terms.len() {
            Some(true)
        } else {
            None
        }
    }
}

/// √a·√b = gcd·√(a/gcd · b/gcd), and i·i = −1.
fn product(a: Unit, b: Unit) -> Outcome<(Unit, IBig)> {
    let common = a.radicand.gcd(b.radicand);
    let radicand = (a.radicand / common).checked_mul(b.radicand / common).ok_or(Failure::Unsupported)?;
    if radicand >= LARGEST_RADICAND {
        return Err(Failure::Unsupported);
    }
    let factor = IBig::from(common);
    let both = a.imaginary && b.imaginary;
    Ok((Unit { imaginary: a.imaginary != b.imaginary, radicand }, if both { -factor } else { factor }))
}

/// n = s²·m with m free of squares, as (s, m).
fn squares_out(n: UBig, budget: &mut Budget) -> Outcome<(UBig, u64)> {
    let (whole, rest) = n.sqrt_rem();
    if rest.is_zero() {
        return Ok((whole, 1));
    }
    let mut n = u64::try_from(&n).ok().filter(|n| *n < LARGEST_RADICAND).ok_or(Failure::Unsupported)?;
    let (mut outside, mut radicand) = (1u64, 1u64);
    let mut factor = 2;
    // With the factors up to the cube root taken out, what is left has at most two.
    while factor * factor * factor <= n {
        while n % (factor * factor) == 0 {
            n /= factor * factor;
            outside *= factor;
        }
        if n % factor == 0 {
            n /= factor;
            radicand *= factor;
        }
        factor += 1;
    }
    budget.spend(factor / 64)?;
    let root = n.isqrt();
    if root * root == n {
        outside *= root;
    } else {
        // One factor below the cube root may be left in n twice only if n is its square, which was seen.
        radicand *= n;
    }
    Ok((UBig::from(outside), radicand))
}

fn smallest_factor(n: u64, budget: &mut Budget) -> Outcome<u64> {
    let mut factor = 2;
    while factor * factor <= n {
        if n.is_multiple_of(factor) {
            return Ok(factor);
        }
        factor += 1;
        if factor % 64 == 0 {
            budget.spend(1)?;
        }
    }
    Ok(n)
}

/// Pays for an operation on two numbers, before it is done; gives back the first.
fn checked(a: &RBig, b: &RBig, budget: &mut Budget) -> Outcome<RBig> {
    budget.spend(1 + (bits_of(a) + bits_of(b)) / 64)?;
    Ok(a.clone())
}

pub(super) fn within_limits(value: RBig) -> Outcome<RBig> {
    let largest = value.numerator().bit_len().max(value.denominator().bit_len());
    if largest as u64 > LARGEST_BITS { Err(Failure::TooBig) } else { Ok(value) }
}
