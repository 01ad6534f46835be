//! Sets of real numbers as unions of intervals: what intervals, finite sets, and inequalities and equations in one unknown are
//! made into, so that the different ways to write a set are one.

use std::cmp::Ordering;

use super::collections::is_infinite;
use super::evaluate::evaluate;
use super::exact::Exact;
use super::interval::{End, Interval, MOST_INTERVALS, NOWHERE, Region, everything, point};
use super::scalar::attempt;
use super::{Comparison, Rule, Verdict, tree};
use crate::math::{Bracket, Expr, Function, Number, OverBudget, Relation};

/// Why something is no region.
#[derive(Debug)]
pub(super) enum Stop {
    OverBudget,
    /// It is no set of real numbers that is known, or its ends cannot be put in order.
    NoRegion,
}

impl From<OverBudget> for Stop {
    fn from(_: OverBudget) -> Self {
        Self::OverBudget
    }
}

pub(super) type Made<T> = Result<T, Stop>;

/// The unknown within a region's conditions, whatever it is called outside.
pub(super) const UNKNOWN: &str = "\u{0}";

fn made<T>(outcome: Made<T>) -> Result<Option<T>, OverBudget> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Stop::NoRegion) => Ok(None),
        Err(Stop::OverBudget) => Err(OverBudget),
    }
}

impl Comparison<'_> {
    /// Whether the two are the same set of real numbers. Those that say something of an unknown are the sets where it is true.
    pub(super) fn regions(&mut self, a: &Expr, b: &Expr) -> Verdict {
        if let (Some(left), Some(right)) = (unknown(a), unknown(b))
            && !self.is_same(&left, &right)?
        {
            return Ok(None);
        }
        // `(1, 2), (3, 4)` are intervals only beside what cannot be a point.
        let pairs = |expr: &Expr| matches!(expr, Expr::List(items) if items.iter().all(is_pair));
        let is_tuple = |expr: &Expr| pairs(expr) || is_pair(expr);
        if pairs(a) && is_tuple(b) || is_tuple(a) && pairs(b) {
            return Ok(None);
        }
        let Some(x) = made(self.region(a))? else { return Ok(None) };
        let Some(y) = made(self.region(b))? else { return Ok(None) };
        if x.len() != y.len() {
            return Ok(None);
        }
        for (x, y) in x.iter().zip(&y) {
            if !self.same_end(&x.low, &y.low)? || !self.same_end(&x.high, &y.high)? {
                return Ok(None);
            }
        }
        Ok(Some(Rule::Region))
    }

    fn same_end(&mut self, a: &End, b: &End) -> Result<bool, OverBudget> {
        match (&a.at, &b.at) {
            (None, None) => Ok(true),
            (Some(x), Some(y)) => Ok(a.closed == b.closed && self.is_same(x, y)?),
            _ => Ok(false),
        }
    }

    fn region(&mut self, expr: &Expr) -> Made<Region> {
        match unknown(expr) {
            Some(unknown) => {
                let hidden = hide(expr, &unknown);
                self.region_of(&hidden)
            }
            None => self.region_of(expr),
        }
    }

    pub(super) fn region_of(&mut self, expr: &Expr) -> Made<Region> {
        self.budget.spend(1)?;
        match expr {
            Expr::Bracketed(left, items, right) if items.len() == 2 => {
                let end = |at: &Expr, bracket: Bracket, infinity: bool| match is_infinite(at) {
                    true if infinity == matches!(at, Expr::Negate(_)) => Err(Stop::NoRegion),
                    true => Ok(NOWHERE),
                    false => Ok(End { at: Some(at.clone()), closed: bracket == Bracket::Square }),
                };
                let low = end(&items[0], *left, false)?;
                let high = end(&items[1], *right, true)?;
                self.joined(vec![Interval { low, high }])
            }
            Expr::Set(items) => {
                let points = super::collections::flattened(items).into_iter().map(point).collect();
                self.joined(points)
            }
            Expr::NumberSet('R') => Ok(everything()),
            Expr::Power(base, part) if **base == Expr::NumberSet('R') => part_of_line(part).ok_or(Stop::NoRegion),
            Expr::Union(items) => {
                let mut all = Vec::new();
                for item in items {
                    all.extend(self.region_of(item)?);
                }
                self.joined(all)
            }
            Expr::Intersection(items) => {
                let mut region = everything();
                for item in items {
                    let other = self.region_of(item)?;
                    region = self.intersection(&region, &other)?;
                }
                Ok(region)
            }
            Expr::Difference(a, b) => {
                let (a, b) = (self.region_of(a)?, self.region_of(b)?);
                let rest = self.complement(&b)?;
                self.intersection(&a, &rest)
            }
            Expr::Builder(head, conditions) => self.described(head, conditions),
            Expr::Relation(first, rest) => self.chain(first, rest),
            Expr::List(items) => self.alternatives(items),
            _ => Err(Stop::NoRegion),
        }
    }

    /// `\{x \mid …\}`, `\{x \in A \mid …\}`
    fn described(&mut self, head: &Expr, conditions: &[Expr]) -> Made<Region> {
        let integers = |expr: &Expr| match expr {
            Expr::Relation(name, rest) => {
                is_unknown(name) && matches!(rest.as_slice(), [(Relation::In, Expr::NumberSet('Z'))])
            }
            _ => false,
        };
        if let Some(at) = std::iter::once(head).chain(conditions).position(integers) {
            let others: Vec<Expr> = std::iter::once(head)
                .chain(conditions)
                .enumerate()
                .filter(|(i, _)| *i != at)
                .map(|(_, e)| e.clone())
                .collect();
            let Some((head, conditions)) = others.split_first() else { return Err(Stop::NoRegion) };
            let region = self.described(head, conditions)?;
            return self.integers_in(&region);
        }
        let mut region = match head {
            Expr::Relation(..) => self.region_of(head)?,
            Expr::Symbol(name) if name == UNKNOWN => everything(),
            _ => return Err(Stop::NoRegion),
        };
        for condition in conditions {
            let other = self.region_of(condition)?;
            region = self.intersection(&region, &other)?;
        }
        Ok(region)
    }

    /// The whole numbers of a bounded region, as points.
    fn integers_in(&mut self, region: &Region) -> Made<Region> {
        let mut points = Vec::new();
        for interval in region {
            let (Some(low), Some(high)) = (&interval.low.at, &interval.high.at) else { return Err(Stop::NoRegion) };
            let (first, last) = (self.whole_part(low)?, self.whole_part(high)?);
            if last.saturating_sub(first) > MOST_INTERVALS as i64 {
                return Err(Stop::NoRegion);
            }
            for value in first..=last {
                let value = whole(value);
                let above = self.known_order(low, &value)?;
                let below = self.known_order(&value, high)?;
                let inside =
                    |order: Ordering, end: &End| order == Ordering::Less || order == Ordering::Equal && end.closed;
                if inside(above, &interval.low) && inside(below, &interval.high) {
                    points.push(point(value));
                }
            }
        }
        self.joined(points)
    }

    /// The floor of a real constant, where it is a number of moderate size.
    fn whole_part(&mut self, value: &Expr) -> Made<i64> {
        let floor = Expr::Apply(Function::Floor, vec![value.clone()]);
        match attempt(evaluate(&floor, &mut Exact::of_constants(self.budget)))? {
            Ok(value) => {
                value.into_rational().and_then(|value| i64::try_from(value.numerator()).ok()).ok_or(Stop::NoRegion)
            }
            Err(_) => Err(Stop::NoRegion),
        }
    }

    /// Points, or intervals, or several relations of one unknown: `x > 1, x < 2` holds at once, `x < 1 or x > 2` cannot, and `or` is not told from a comma.
    fn alternatives(&mut self, items: &[Expr]) -> Made<Region> {
        if items.iter().all(is_pair) {
            return self.region_of(&Expr::Union(items.to_vec()));
        }
        if !items.iter().any(|item| matches!(item, Expr::Relation(..)) || super::is_collection(item)) {
            return self.region_of(&Expr::Set(items.to_vec()));
        }
        if !items.iter().all(|item| matches!(item, Expr::Relation(..))) {
            return Err(Stop::NoRegion);
        }
        let mut regions = Vec::new();
        for item in items {
            regions.push(self.region_of(item)?);
        }
        let mut both = everything();
        for region in &regions {
            both = self.intersection(&both, region)?;
        }
        if both.is_empty() { self.joined(regions.concat()) } else { Ok(both) }
    }

    fn chain(&mut self, first: &Expr, rest: &[(Relation, Expr)]) -> Made<Region> {
        let (mut left, mut region) = (first, everything());
        for (relation, right) in rest {
            let link = self.link(left, *relation, right)?;
            region = self.intersection(&region, &link)?;
            left = right;
        }
        Ok(region)
    }
}

/// What the sign behind ℝ leaves of it.
fn part_of_line(sign: &Expr) -> Option<Region> {
    let Expr::Symbol(sign) = sign else { return None };
    let zero = |closed| End { at: Some(whole(0)), closed };
    let positive = |closed| Interval { low: zero(closed), high: NOWHERE };
    let negative = Interval { low: NOWHERE, high: zero(false) };
    Some(match sign.as_str() {
        "+" => vec![positive(false)],
        "-" => vec![negative],
        "≥0" => vec![positive(true)],
        "*" => vec![negative, positive(false)],
        _ => return None,
    })
}

fn is_pair(expr: &Expr) -> bool {
    matches!(expr, Expr::Bracketed(_, ends, _) if ends.len() == 2)
}

pub(super) fn whole(value: i64) -> Expr {
    Expr::Number(Number { value: value.into(), decimals: None, repeating: false })
}

pub(super) fn is_unknown(expr: &Expr) -> bool {
    matches!(expr, Expr::Symbol(name) if name == UNKNOWN)
}

pub(super) fn mentions_unknown(expr: &Expr) -> bool {
    tree::contains(expr, &is_unknown)
}

fn hide(expr: &Expr, unknown: &Expr) -> Expr {
    if expr == unknown { Expr::Symbol(UNKNOWN.to_owned()) } else { tree::rebuilt(expr, |part| hide(part, unknown)) }
}

/// What the relations of an object are about: the side that is a name, or the one name in it.
fn unknown(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Relation(first, rest) => {
            let mut sides = std::iter::once(&**first).chain(rest.iter().map(|(_, side)| side));
            let absolute = |side: &Expr| matches!(side, Expr::Apply(Function::Abs, _));
            if let Some(name) = sides.find(|side| tree::is_name(side) && !absolute(side)) {
                return Some(name.clone());
            }
            match tree::names_in(expr).as_slice() {
                [name] => Some(Expr::Symbol((*name).to_owned())),
                _ => None,
            }
        }
        Expr::List(items) => items.iter().find_map(unknown),
        Expr::Builder(head, _) => match &**head {
            Expr::Relation(..) => unknown(head),
            head if tree::is_name(head) => Some(head.clone()),
            _ => None,
        },
        _ => None,
    }
}
