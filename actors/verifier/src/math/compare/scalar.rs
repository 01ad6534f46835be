//! Values: numbers, and functions of names.

use std::cmp::Ordering;

use dashu::base::Abs;
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::evaluate::{Failure, Outcome, evaluate};
use super::exact::Exact;
use super::fast::Fast;
use super::modular::{FIELDS, Modular};
use super::names::Names;
use super::numeric::Numeric;
use super::points::{MOST_POINTS, Point};
use super::precise::Precise;
use super::real::{Complex, Real, is_real};
use super::surd::Surd;
use super::{Comparison, Rule, Verdict, tree};
use crate::math::{Expr, OverBudget};

/// Two values at one point.
type Pair<R> = (Complex<R>, Complex<R>);

/// Bits of floating point: at first, and where those do not tell.
const BITS: usize = 256;
const MORE_BITS: usize = 1024;

/// The points at which functions must agree to many digits.
const ACCEPTING_POINTS: usize = 3;

/// A failure that ends the judgement, apart from those that only end one attempt.
pub(super) fn attempt<T>(outcome: Outcome<T>) -> Result<Result<T, Failure>, OverBudget> {
    match outcome {
        Err(Failure::OverBudget) => Err(OverBudget),
        other => Ok(other),
    }
}

impl Comparison<'_> {
    /// Two expressions without units, percentages or angles of their own.
    pub(super) fn values(&mut self, a: &Expr, b: &Expr) -> Verdict {
        if a == b {
            return Ok(Some(Rule::Form));
        }
        let names = Names::of(a, b, self.budget)?;
        let decided =
            if names.all().is_empty() { self.constants(a, b, &names)? } else { self.functions(a, b, &names)? };
        match decided {
            Decided::Equal(rule) => Ok(Some(rule)),
            Decided::Different => Ok(None),
            Decided::TooBig => Err(OverBudget),
            Decided::Open => self.same_parts(a, b),
        }
    }

    fn constants(&mut self, a: &Expr, b: &Expr, names: &Names) -> Result<Decided, OverBudget> {
        let x = attempt(evaluate(a, &mut Exact::of_constants(self.budget)))?;
        let y = attempt(evaluate(b, &mut Exact::of_constants(self.budget)))?;
        if let (Ok(x), Ok(y)) = (&x, &y) {
            if x == y {
                return Ok(Decided::Equal(Rule::Number));
            }
            if let (Some(x), Some(y)) = (x.as_rational(), y.as_rational()) {
                let close = self.approximates(a, x, b, y);
                return Ok(if close { Decided::Equal(Rule::Decimal) } else { Decided::Different });
            }
        }
        if matches!(x, Err(Failure::Undefined)) || matches!(y, Err(Failure::Undefined)) {
            return Ok(Decided::Different);
        }
        let mut too_big = false;
        if matches!(x, Err(Failure::TooBig)) || matches!(y, Err(Failure::TooBig)) {
            match self.identity(a, b, names)? {
                Decided::Open => too_big = true,
                decided => return Ok(decided),
            }
        }
        let decimal = self.decimal_against(a, x.as_ref().ok(), b, y.as_ref().ok());
        if let Some(decided) = self.digits::<Fast>(a, b, names, (), decimal.as_ref())? {
            return Ok(decided);
        }
        for bits in [BITS, MORE_BITS] {
            if let Some(decided) = self.digits::<Precise>(a, b, names, bits, decimal.as_ref())? {
                return Ok(decided);
            }
        }
        Ok(if too_big { Decided::TooBig } else { Decided::Open })
    }

    /// Two constants in floating point. `None` where the precision does not tell.
    fn digits<R: Real + Accepts>(
        &mut self,
        a: &Expr,
        b: &Expr,
        names: &Names,
        setting: R::Setting,
        decimal: Option<&Decimal>,
    ) -> Result<Option<Decided>, OverBudget> {
        let point = Point::none(names);
        let x = attempt(evaluate(a, &mut Numeric::<R>::new(&point, setting, self.budget)))?;
        let y = attempt(evaluate(b, &mut Numeric::<R>::new(&point, setting, self.budget)))?;
        let (x, y) = match (x, y) {
            (Ok(x), Ok(y)) => (x, y),
            (Err(Failure::Unsupported), _) | (_, Err(Failure::Unsupported)) => return Ok(Some(Decided::Open)),
            (Err(Failure::Undefined), _) | (_, Err(Failure::Undefined)) => return Ok(Some(Decided::Different)),
            _ => return Ok(None),
        };
        if let Some(decimal) = decimal {
            let value = if decimal.is_first { &y } else { &x };
            return Ok(match self.within(decimal, value) {
                Some(true) => Some(Decided::Equal(Rule::Decimal)),
                Some(false) => Some(Decided::Different),
                None => None,
            });
        }
        if x.apart(&y) {
            return Ok(Some(Decided::Different));
        }
        Ok(if R::ACCEPTS && x.agrees(&y) { Some(Decided::Equal(Rule::Digits)) } else { None })
    }

    /// The one of two values that is a decimal, where the other has no exact rational value.
    fn decimal_against(&self, a: &Expr, x: Option<&Surd>, b: &Expr, y: Option<&Surd>) -> Option<Decimal> {
        let of = |expr: &Expr, value: Option<&Surd>, is_first| {
            let value = value.and_then(Surd::as_rational).filter(|_| is_decimal(expr))?;
            Some(Decimal { value: value.clone(), is_first })
        };
        of(a, x, true).or_else(|| of(b, y, false))
    }

    /// Whether a value known in floating point agrees with a decimal.
    fn within<R: Real>(&self, decimal: &Decimal, value: &Complex<R>) -> Option<bool> {
        if !is_real(value) {
            return Some(false);
        }
        let wanted = rounded(&decimal.value, self.options.decimals);
        let same = value.re.rounded(self.options.decimals)? == wanted;
        // Rounded to so many decimals the two agree; what share of the value that is, the rounded value tells well enough.
        let close = |share: &RBig| {
            let nearly = value.re.rounded(self.options.decimals + 8)?;
            let nearly = RBig::from_parts(nearly, UBig::from(10u8).pow(self.options.decimals as usize + 8));
            Some(is_within(&nearly, &decimal.value, share))
        };
        if same && decimal.value.clone().abs() >= tiny() {
            return Some(true);
        }
        if same && close(&hundredth())? {
            return Some(true);
        }
        match self.tolerance() {
            Some(tolerance) => close(&tolerance),
            None => Some(false),
        }
    }

    /// Whether of two exact numbers one is a decimal that agrees with the other as far as it must.
    fn approximates(&self, a: &Expr, x: &RBig, b: &Expr, y: &RBig) -> bool {
        let (first, second) = (is_decimal(a), is_decimal(b));
        if !first && !second {
            return false;
        }
        let is_whole = |is_decimal: bool, value: &RBig| !is_decimal && value.is_int();
        let tolerated = self.tolerance().is_some_and(|tolerance| is_within(x, y, &tolerance));
        if tolerated {
            return true;
        }
        if is_whole(first, x) || is_whole(second, y) {
            return false;
        }
        let same = rounded(x, self.options.decimals) == rounded(y, self.options.decimals);
        let larger = x.clone().abs().max(y.clone().abs());
        same && (larger >= tiny() || is_within(x, y, &hundredth()))
    }

    fn tolerance(&self) -> Option<RBig> {
        let tolerance = self.options.relative_tolerance;
        if tolerance > 0.0 { RBig::try_from(tolerance).ok() } else { None }
    }

    fn functions(&mut self, a: &Expr, b: &Expr, names: &Names) -> Result<Decided, OverBudget> {
        let mut too_big = false;
        if !names.any_whole() {
            match self.identity(a, b, names)? {
                Decided::Open => {}
                Decided::TooBig => too_big = true,
                decided => return Ok(decided),
            }
        }
        let mut decided = self.at_points(a, b, names, names.imaginary)?;
        if matches!(decided, Decided::Open) && !names.imaginary {
            // Nowhere both real: then they are compared as complex functions.
            decided = self.at_points(a, b, names, true)?;
        }
        Ok(if matches!(decided, Decided::Open) && too_big { Decided::TooBig } else { decided })
    }

    /// Whether the two agree in prime fields; open if they are no rational functions.
    fn identity(&mut self, a: &Expr, b: &Expr, names: &Names) -> Result<Decided, OverBudget> {
        for field in FIELDS {
            let x = attempt(evaluate(a, &mut Modular::new(field, 0, names, self.budget)))?;
            let y = attempt(evaluate(b, &mut Modular::new(field, 0, names, self.budget)))?;
            match (x, y) {
                (Ok(x), Ok(y)) if x == y => {}
                (Ok(_), Ok(_)) => return Ok(Decided::Different),
                (Err(Failure::TooBig), _) | (_, Err(Failure::TooBig)) => return Ok(Decided::TooBig),
                _ => return Ok(Decided::Open),
            }
        }
        Ok(Decided::Equal(Rule::Identity))
    }

    /// Whether the two agree at points where both are defined. With `complex`, a value that is not real is one too.
    fn at_points(&mut self, a: &Expr, b: &Expr, names: &Names, complex: bool) -> Result<Decided, OverBudget> {
        let mut usable = Vec::new();
        let mut too_big = false;
        for index in 0..MOST_POINTS {
            let point = Point::numbered(index, names);
            match self.both_at::<Fast>(a, b, &point, (), complex)? {
                Ok((x, y)) if x.apart(&y) => return Ok(Decided::Different),
                Ok(_) | Err(Failure::Unsure) => usable.push(index),
                Err(Failure::Unsupported) => return Ok(Decided::Open),
                Err(failure) => too_big |= failure == Failure::TooBig,
            }
        }
        if usable.is_empty() && too_big {
            return Ok(Decided::TooBig);
        }
        let mut agreeing = 0;
        for index in usable {
            let point = Point::numbered(index, names);
            for bits in [BITS, MORE_BITS] {
                match self.both_at::<Precise>(a, b, &point, bits, complex)? {
                    Ok((x, y)) if x.apart(&y) => return Ok(Decided::Different),
                    Ok((x, y)) if x.agrees(&y) => {
                        agreeing += 1;
                        break;
                    }
                    Ok(_) | Err(Failure::Unsure) => {}
                    Err(_) => break,
                }
            }
            if agreeing == ACCEPTING_POINTS {
                return Ok(Decided::Equal(Rule::Points));
            }
        }
        Ok(Decided::Open)
    }

    fn both_at<R: Real>(
        &mut self,
        a: &Expr,
        b: &Expr,
        point: &Point<'_>,
        setting: R::Setting,
        complex: bool,
    ) -> Result<Outcome<Pair<R>>, OverBudget> {
        let x = attempt(self.one_at(a, point, setting, complex))?;
        let Ok(x) = x else { return Ok(Err(x.err().unwrap_or(Failure::Unsure))) };
        let y = attempt(self.one_at(b, point, setting, complex))?;
        Ok(y.map(|y| (x, y)))
    }

    pub(super) fn one_at<R: Real>(
        &mut self,
        expr: &Expr,
        point: &Point<'_>,
        setting: R::Setting,
        complex: bool,
    ) -> Outcome<Complex<R>> {
        let mut domain = Numeric::<R>::new(point, setting, self.budget);
        let value = evaluate(expr, &mut domain)?;
        if domain.left_the_reals && !complex { Err(Failure::Undefined) } else { Ok(value) }
    }

    /// How two real constants compare; `None` if they are not real, or not told apart though not found equal.
    pub(super) fn order(&mut self, a: &Expr, b: &Expr) -> Result<Option<Ordering>, OverBudget> {
        if a == b {
            return Ok(Some(Ordering::Equal));
        }
        let x = attempt(evaluate(a, &mut Exact::of_constants(self.budget)))?;
        let y = attempt(evaluate(b, &mut Exact::of_constants(self.budget)))?;
        if let (Ok(x), Ok(y)) = (&x, &y) {
            if x == y {
                return Ok(Some(Ordering::Equal));
            }
            if let (Some(x), Some(y)) = (x.as_rational(), y.as_rational()) {
                return Ok(Some(x.cmp(y)));
            }
        }
        let difference = tree::minus(a, b);
        let names = Names::default();
        let point = Point::none(&names);
        let fast = attempt(self.one_at::<Fast>(&difference, &point, (), true))?;
        if let Ok(value) = &fast
            && is_real(value)
            && let Some(sign) = value.re.sign()
        {
            return Ok(Some(sign));
        }
        let precise = attempt(self.one_at::<Precise>(&difference, &point, BITS, true))?;
        let Ok(value) = precise else { return Ok(None) };
        if !is_real(&value) {
            return Ok(None);
        }
        let zero = Precise::of(&RBig::ZERO, BITS);
        Ok(value.re.sign().or(if value.re.agrees(&zero) { Some(Ordering::Equal) } else { None }))
    }
}

/// What an attempt at two values came to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decided {
    Equal(Rule),
    Different,
    /// A number would have been too big to make, and nothing else told.
    TooBig,
    /// There is no saying, or there are no values.
    Open,
}

/// Whether a value of this kind of number may be accepted by its digits.
trait Accepts {
    const ACCEPTS: bool;
}

impl Accepts for Fast {
    const ACCEPTS: bool = false;
}

impl Accepts for Precise {
    const ACCEPTS: bool = true;
}

struct Decimal {
    value: RBig,
    is_first: bool,
}

fn tiny() -> RBig {
    RBig::from_parts(IBig::ONE, 1000u16.into())
}

fn hundredth() -> RBig {
    RBig::from_parts(IBig::ONE, 100u8.into())
}

fn is_within(x: &RBig, y: &RBig, share: &RBig) -> bool {
    let larger = x.clone().abs().max(y.clone().abs());
    (x.clone() - y.clone()).abs() <= larger * share.clone()
}

fn rounded(value: &RBig, decimals: u32) -> IBig {
    let scale = RBig::from(UBig::from(10u8).pow(decimals as usize));
    (value.clone() * scale + RBig::from_parts(IBig::ONE, 2u8.into())).floor()
}

/// A number written as a decimal, or such a percentage.
fn is_decimal(expr: &Expr) -> bool {
    match expr {
        Expr::Number(number) => number.decimals.is_some() && !number.repeating,
        Expr::Negate(a) | Expr::Percent(a) | Expr::Unit(a, _) => is_decimal(a),
        _ => false,
    }
}
