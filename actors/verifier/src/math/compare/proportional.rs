//! Whether two expressions differ by a constant factor only, so that as equations or inequalities they say the same.

use super::Comparison;
use super::evaluate::{Domain, Failure, Outcome, evaluate};
use super::fast::Fast;
use super::fraction::Fractions;
use super::modular::{FIELDS, Modular};
use super::names::Names;
use super::numeric::Numeric;
use super::points::{MOST_POINTS, Point};
use super::precise::Precise;
use super::real::Real;
use super::scalar::attempt;
use crate::math::{Expr, OverBudget};

/// Bits for equations that are not rational.
const BITS: usize = 256;

impl Comparison<'_> {
    /// Whether one expression, or its numerator, is a constant multiple of the other, with a positive factor if so required.
    pub(super) fn proportional(&mut self, a: &Expr, b: &Expr, positive: bool) -> Result<bool, OverBudget> {
        let names = Names::of(a, b, self.budget)?;
        if names.all().is_empty() {
            return Ok(false);
        }
        for numerators in [false, true] {
            // The sign of a numerator says nothing of the sign of the whole.
            if positive && numerators {
                break;
            }
            let found = match self.proportional_in_fields(a, b, &names, numerators)? {
                Some(found) => {
                    found && (!positive || self.proportional_at_points::<Fast>(a, b, &names, (), false, true)?)
                }
                None => {
                    self.proportional_at_points::<Fast>(a, b, &names, (), numerators, positive)?
                        && self.proportional_at_points::<Precise>(a, b, &names, BITS, numerators, positive)?
                }
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `None` if the two are not rational.
    fn proportional_in_fields(
        &mut self,
        a: &Expr,
        b: &Expr,
        names: &Names,
        numerators: bool,
    ) -> Result<Option<bool>, OverBudget> {
        if names.any_whole() {
            return Ok(None);
        }
        for field in FIELDS {
            let mut first: Option<(u64, u64)> = None;
            for point in 1..=2 {
                let x = attempt(one_side(a, &mut Modular::new(field, point, names, self.budget), numerators))?;
                let y = attempt(one_side(b, &mut Modular::new(field, point, names, self.budget), numerators))?;
                let (Ok(x), Ok(y)) = (x, y) else { return Ok(None) };
                if (x == 0) != (y == 0) {
                    return Ok(Some(false));
                }
                if let Some((u, v)) = first
                    && field.product(x, v) != field.product(u, y)
                {
                    return Ok(Some(false));
                }
                first = Some((x, y));
            }
        }
        Ok(Some(true))
    }

    /// Whether the ratio of the two is the same wherever both are defined. In double precision this only refuses.
    fn proportional_at_points<R: Real>(
        &mut self,
        a: &Expr,
        b: &Expr,
        names: &Names,
        setting: R::Setting,
        numerators: bool,
        positive: bool,
    ) -> Result<bool, OverBudget> {
        const NEEDED: usize = 4;
        let mut first = None;
        let mut agreeing = 0;
        for index in 0..MOST_POINTS {
            let point = Point::numbered(index, names);
            let x = attempt(one_side(a, &mut Numeric::<R>::new(&point, setting, self.budget), numerators))?;
            let y = attempt(one_side(b, &mut Numeric::<R>::new(&point, setting, self.budget), numerators))?;
            let (Ok(x), Ok(y)) = (x, y) else { continue };
            if positive {
                match (x.re.sign(), y.re.sign()) {
                    (Some(x), Some(y)) if x == y => {}
                    (Some(_), Some(_)) => return Ok(false),
                    _ => continue,
                }
            }
            let Some((u, v)) = &first else {
                first = Some((x, y));
                continue;
            };
            let mut domain = Numeric::<R>::new(&point, setting, self.budget);
            let (Ok(left), Ok(right)) = (domain.multiply(&x, v), domain.multiply(u, &y)) else { continue };
            if left.apart(&right) {
                return Ok(false);
            }
            if left.agrees(&right) {
                agreeing += 1;
            }
            if agreeing == NEEDED {
                return Ok(true);
            }
        }
        Ok(agreeing > 0)
    }
}

fn one_side<D: Domain>(expr: &Expr, domain: &mut D, numerator: bool) -> Outcome<D::Value> {
    let value = if numerator { evaluate(expr, &mut Fractions(domain))?.above } else { evaluate(expr, domain)? };
    if domain.budget().left() == 0 { Err(Failure::OverBudget) } else { Ok(value) }
}
