//! Sets, lists and tuples.
//!
//! A list without brackets is a set. A tuple has an order, and so has a list or set that is compared with one: `(1, 2)` is
//! `1, 2` and not `2, 1`. A pair in round brackets may be an open interval as well, which is told only by what it is compared with.

use std::borrow::Cow;

use super::{Comparison, Rule, Verdict, matrix, plain};
use crate::math::{Bracket, Constant, Expr, OverBudget};

impl Comparison<'_> {
    /// At least one of the two is a collection.
    pub(super) fn collections(&mut self, a: &Expr, b: &Expr) -> Verdict {
        use Expr::{Bracketed, List, Set};
        match (a, b) {
            (Set(x) | List(x), Set(y) | List(y)) => self.elements(x, y),
            (Bracketed(..), Bracketed(..)) => self.tuples(a, b),
            (Bracketed(left, x, right), List(y)) | (List(y), Bracketed(left, x, right)) => {
                let is_tuple = x.len() > 2 || (*left, *right) == (Bracket::Round, Bracket::Round);
                let found = if is_tuple { self.in_order(x, y)? } else { None };
                if found.is_some() { Ok(found) } else { self.regions(a, b) }
            }
            (Bracketed(_, items, _), other) | (other, Bracketed(_, items, _))
                if matrix::along_axes(other, items.len()).is_some() =>
            {
                let components = matrix::along_axes(other, items.len()).unwrap_or_default();
                self.in_order(items, &components)
            }
            (Bracketed(_, items, _), other) | (other, Bracketed(_, items, _)) if is_vector(other) => {
                self.vector(items, other)
            }
            (Set(items), other) | (other, Set(items)) if items.len() == 1 && !super::is_collection(other) => {
                self.same(&items[0], other)
            }
            _ => {
                let found = self.regions(a, b)?;
                if found.is_some() { Ok(found) } else { self.same_operands(a, b) }
            }
        }
    }

    /// Each element of one is in the other.
    fn elements(&mut self, a: &[Expr], b: &[Expr]) -> Verdict {
        let (a, b) = (flattened(a), flattened(b));
        let same = self.covers(&a, &b)? && self.covers(&b, &a)?;
        Ok(same.then_some(Rule::Set))
    }

    pub(super) fn covers(&mut self, a: &[Expr], b: &[Expr]) -> Result<bool, OverBudget> {
        for (place, wanted) in b.iter().enumerate() {
            // The one in the same place first: most lists come in the same order.
            let here = a.get(place).into_iter();
            let others = a.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, item)| item);
            let mut found = false;
            for item in here.chain(others) {
                if self.is_same(item, wanted)? {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn in_order(&mut self, a: &[Expr], b: &[Expr]) -> Verdict {
        if a.len() != b.len() {
            return Ok(None);
        }
        for (a, b) in a.iter().zip(b) {
            if !self.is_same(a, b)? {
                return Ok(None);
            }
        }
        Ok(Some(Rule::Tuple))
    }

    /// Of two items the brackets say which ends belong to the interval; of more they are a matter of taste.
    fn tuples(&mut self, a: &Expr, b: &Expr) -> Verdict {
        let (Expr::Bracketed(a, x, c), Expr::Bracketed(b, y, d)) = (a, b) else { return Ok(None) };
        if x.len() == 2 && y.len() == 2 {
            let ends = |left: Bracket, items: &[Expr], right: Bracket| {
                let end = |bracket, item| if is_infinite(item) { Bracket::Round } else { bracket };
                (end(left, &items[0]), end(right, &items[1]))
            };
            if ends(*a, x, *c) != ends(*b, y, *d) {
                return Ok(None);
            }
        }
        self.in_order(x, y)
    }

    /// Unions and intersections have no order; a difference and a set by its property do.
    fn same_operands(&mut self, a: &Expr, b: &Expr) -> Verdict {
        match (a, b) {
            (Expr::Union(x), Expr::Union(y)) | (Expr::Intersection(x), Expr::Intersection(y)) => {
                let same = self.covers(x, y)? && self.covers(y, x)?;
                Ok(same.then_some(Rule::Set))
            }
            (Expr::Builder(x, conditions), Expr::Builder(y, others)) => self.same_builders(x, conditions, y, others),
            _ => self.same_parts(a, b),
        }
    }

    /// With the counting name of one in place of the other's, where each has one.
    fn same_builders(&mut self, x: &Expr, conditions: &[Expr], y: &Expr, others: &[Expr]) -> Verdict {
        let (own, other) = (super::tree::names_in(x), super::tree::names_in(y));
        let renamed = |expr: &Expr| match (own.as_slice(), other.as_slice()) {
            ([own], [other]) => super::tree::substituted(expr, other, &Expr::Symbol((*own).to_owned())),
            _ => expr.clone(),
        };
        let (y, others) = (renamed(y), others.iter().map(renamed).collect::<Vec<_>>());
        let same = self.is_same(x, &y)? && self.covers(conditions, &others)? && self.covers(&others, conditions)?;
        Ok(same.then_some(Rule::Set))
    }
}

pub(super) fn is_infinite(expr: &Expr) -> bool {
    match expr {
        Expr::Constant(Constant::Infinity) => true,
        Expr::Negate(a) => is_infinite(a),
        _ => false,
    }
}

fn is_vector(expr: &Expr) -> bool {
    super::tree::contains(expr, &|part| matches!(part, Expr::Matrix(_)))
}

/// The items of a list, with those of lists within it and the values of what has ±.
pub(super) fn flattened(items: &[Expr]) -> Vec<Expr> {
    let mut flat = Vec::with_capacity(items.len());
    for item in items {
        match plain(item) {
            Cow::Owned(Expr::List(inner)) => flat.extend(inner),
            Cow::Borrowed(Expr::List(inner)) => flat.extend(flattened(inner)),
            item => flat.push(item.into_owned()),
        }
    }
    flat
}
