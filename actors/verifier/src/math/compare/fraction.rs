//! Expressions as one fraction over any domain: nothing is divided, so that an equation can be judged by its numerator.

use dashu::base::{Signed, UnsignedAbs};
use dashu::rational::RBig;

use super::evaluate::{Domain, Outcome};
use crate::math::{Budget, Constant, Function};

/// A value and what it is to be divided by; `None` is one.
#[derive(Clone, Debug)]
pub(super) struct Fraction<V> {
    pub(super) above: V,
    pub(super) below: Option<V>,
}

/// The domain of [`Fraction`]s over another.
pub(super) struct Fractions<'d, D>(pub(super) &'d mut D);

type Pair<D> = Fraction<<D as Domain>::Value>;

fn whole<V>(above: V) -> Fraction<V> {
    Fraction { above, below: None }
}

impl<D: Domain> Fractions<'_, D> {
    fn product(&mut self, a: Option<&D::Value>, b: Option<&D::Value>) -> Outcome<Option<D::Value>> {
        match (a, b) {
            (Some(a), Some(b)) => self.0.multiply(a, b).map(Some),
            (a, b) => Ok(a.or(b).cloned()),
        }
    }

    fn scaled(&mut self, a: &D::Value, b: Option<&D::Value>) -> Outcome<D::Value> {
        match b {
            Some(b) => self.0.multiply(a, b),
            None => Ok(a.clone()),
        }
    }

    /// The division done after all, where an operation needs the value.
    fn value(&mut self, a: &Pair<D>) -> Outcome<D::Value> {
        match &a.below {
            Some(below) => self.0.divide(&a.above, below),
            None => Ok(a.above.clone()),
        }
    }
}

impl<D: Domain> Domain for Fractions<'_, D> {
    type Value = Pair<D>;

    fn budget(&mut self) -> &mut Budget {
        self.0.budget()
    }

    fn rational(&mut self, value: &RBig) -> Outcome<Pair<D>> {
        self.0.rational(value).map(whole)
    }

    fn constant(&mut self, constant: Constant) -> Outcome<Pair<D>> {
        self.0.constant(constant).map(whole)
    }

    fn symbol(&mut self, name: &str) -> Outcome<Pair<D>> {
        self.0.symbol(name).map(whole)
    }

    fn add(&mut self, a: &Pair<D>, b: &Pair<D>) -> Outcome<Pair<D>> {
        let (left, right) = (self.scaled(&a.above, b.below.as_ref())?, self.scaled(&b.above, a.below.as_ref())?);
        let above = self.0.add(&left, &right)?;
        Ok(Fraction { above, below: self.product(a.below.as_ref(), b.below.as_ref())? })
    }

    fn multiply(&mut self, a: &Pair<D>, b: &Pair<D>) -> Outcome<Pair<D>> {
        let above = self.0.multiply(&a.above, &b.above)?;
        Ok(Fraction { above, below: self.product(a.below.as_ref(), b.below.as_ref())? })
    }

    fn divide(&mut self, a: &Pair<D>, b: &Pair<D>) -> Outcome<Pair<D>> {
        // That the divisor is not zero is for the domain to say.
        let one = self.0.rational(&RBig::ONE)?;
        self.0.divide(&one, &b.above)?;
        let above = self.scaled(&a.above, b.below.as_ref())?;
        Ok(Fraction { above, below: self.product(a.below.as_ref(), Some(&b.above))? })
    }

    fn negate(&mut self, a: &Pair<D>) -> Outcome<Pair<D>> {
        Ok(Fraction { above: self.0.negate(&a.above)?, below: a.below.clone() })
    }

    fn rational_power(&mut self, base: &Pair<D>, exponent: &RBig) -> Outcome<Pair<D>> {
        if !exponent.is_int() {
            let base = self.value(base)?;
            return self.0.rational_power(&base, exponent).map(whole);
        }
        let size = RBig::from(exponent.numerator().unsigned_abs());
        let above = self.0.rational_power(&base.above, &size)?;
        let below = base.below.as_ref().map(|below| self.0.rational_power(below, &size)).transpose()?;
        if !exponent.is_negative() {
            return Ok(Fraction { above, below });
        }
        let one = whole(self.0.rational(&RBig::ONE)?);
        self.divide(&one, &Fraction { above, below })
    }

    fn power(&mut self, base: &Pair<D>, exponent: &Pair<D>) -> Outcome<Pair<D>> {
        let (base, exponent) = (self.value(base)?, self.value(exponent)?);
        self.0.power(&base, &exponent).map(whole)
    }

    fn function(&mut self, function: Function, arguments: &[Pair<D>]) -> Outcome<Pair<D>> {
        let arguments = arguments.iter().map(|a| self.value(a)).collect::<Outcome<Vec<_>>>()?;
        self.0.function(function, &arguments).map(whole)
    }

    fn factorial(&mut self, a: &Pair<D>) -> Outcome<Pair<D>> {
        let a = self.value(a)?;
        self.0.factorial(&a).map(whole)
    }

    fn integer(&self, a: &Pair<D>) -> Option<i64> {
        if a.below.is_none() { self.0.integer(&a.above) } else { None }
    }

    fn bind(&mut self, name: &str, value: i64) -> Outcome<()> {
        self.0.bind(name, value)
    }

    fn release(&mut self) {
        self.0.release();
    }
}
