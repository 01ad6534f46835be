//! Where a relation in one unknown holds: the unknown alone, under an absolute value, or in a polynomial of degree two at most.

use std::cmp::Ordering;

use super::collections::is_infinite;
use super::interval::{End, Interval, NOWHERE, Region, everything, point};
use super::region::{Made, Stop, UNKNOWN, is_unknown, mentions_unknown, whole};
use super::{Comparison, tree};
use crate::math::{Expr, Function, Relation};

impl Comparison<'_> {
    /// Where one relation holds.
    pub(super) fn link(&mut self, left: &Expr, relation: Relation, right: &Expr) -> Made<Region> {
        use Relation::{Equal, Greater, GreaterEqual, In, Less, LessEqual, NotEqual, NotIn};
        if let (Equal, Some(values)) = (relation, tree::signs_expanded(right)) {
            let mut points = Vec::new();
            for value in &values {
                points.extend(self.link(left, Equal, value)?);
            }
            return self.joined(points);
        }
        match relation {
            In if is_unknown(left) => self.region_of(right),
            NotIn if is_unknown(left) => {
                let region = self.region_of(right)?;
                self.complement(&region)
            }
            NotEqual => {
                let region = self.link(left, Equal, right)?;
                self.complement(&region)
            }
            // The set where left ≥ right is the complement of where left < right, and so on: one form is enough.
            Greater => self.link(right, Less, left),
            GreaterEqual => self.link(right, LessEqual, left),
            Equal | Less | LessEqual => {
                if let Some(region) = self.isolated(left, relation, right)? {
                    return Ok(region);
                }
                if let Some(region) = self.absolute(left, relation, right)? {
                    return Ok(region);
                }
                self.quadratic(&tree::minus(left, right), relation)
            }
            _ => Err(Stop::NoRegion),
        }
    }

    /// The unknown alone on one side.
    fn isolated(&mut self, left: &Expr, relation: Relation, right: &Expr) -> Made<Option<Region>> {
        let (value, below) = match (is_unknown(left), is_unknown(right)) {
            (true, false) if !mentions_unknown(right) => (right, true),
            (false, true) if !mentions_unknown(left) => (left, false),
            _ => return Ok(None),
        };
        if is_infinite(value) {
            return Err(Stop::NoRegion);
        }
        if let Expr::Set(_) | Expr::List(_) = value {
            return Err(Stop::NoRegion);
        }
        let end = End { at: Some(value.clone()), closed: relation != Relation::Less };
        Ok(Some(match (relation, below) {
            (Relation::Equal, _) => vec![point(value.clone())],
            (_, true) => vec![Interval { low: NOWHERE, high: end }],
            (_, false) => vec![Interval { low: end, high: NOWHERE }],
        }))
    }

    /// |u| < c is −c < u < c; c < |u| is u < −c or u > c.
    fn absolute(&mut self, left: &Expr, relation: Relation, right: &Expr) -> Made<Option<Region>> {
        let inside = |expr: &Expr| match expr {
            Expr::Apply(Function::Abs, items) if items.len() == 1 => Some(items[0].clone()),
            _ => None,
        };
        match (inside(left), inside(right)) {
            (Some(u), None) if !mentions_unknown(right) && relation != Relation::Equal => {
                let (low, high) =
                    (self.link(&tree::negated(right.clone()), relation, &u)?, self.link(&u, relation, right)?);
                self.intersection(&low, &high).map(Some)
            }
            (None, Some(u)) if !mentions_unknown(left) && relation != Relation::Equal => {
                let mut both = self.link(left, relation, &u)?;
                both.extend(self.link(&u, relation, &tree::negated(left.clone()))?);
                self.joined(both).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Where a polynomial of degree one or two is zero, negative or not positive. Its coefficients are found from three of its
    /// values, and that it is one from three more.
    fn quadratic(&mut self, polynomial: &Expr, relation: Relation) -> Made<Region> {
        let at = |x: i64| tree::substituted(polynomial, UNKNOWN, &whole(x));
        let (zero, one, minus_one) = (at(0), at(1), at(-1));
        let half = |expr: Expr| Expr::Quotient(Box::new(expr), Box::new(whole(2)));
        let b = half(tree::minus(&one, &minus_one));
        let a = tree::minus(&half(Expr::Sum(vec![one, minus_one])), &zero);
        for x in [3, -5, 11] {
            let square = Expr::Product(vec![a.clone(), whole(x * x)]);
            let value = Expr::Sum(vec![square, Expr::Product(vec![b.clone(), whole(x)]), zero.clone()]);
            if self.values(&at(x), &value)?.is_none() {
                return Err(Stop::NoRegion);
            }
        }
        let steepness = self.known_order(&a, &whole(0))?;
        let mut roots = if steepness == Ordering::Equal {
            let slope = self.known_order(&b, &whole(0))?;
            if slope == Ordering::Equal {
                let value = self.known_order(&zero, &whole(0))?;
                let holds = value == Ordering::Equal && relation != Relation::Less
                    || value == Ordering::Less && relation != Relation::Equal;
                return Ok(if holds { everything() } else { Vec::new() });
            }
            vec![(tree::negated(Expr::Quotient(Box::new(zero), Box::new(b))), slope)]
        } else {
            self.roots(&a, &b, &zero, steepness)?
        };
        if relation == Relation::Equal {
            let points = roots.into_iter().map(|(root, _)| point(root)).collect();
            return self.joined(points);
        }
        // Between the roots the sign changes at each; before the first it is the opposite of the first slope.
        let closed = relation == Relation::LessEqual;
        let end = |root: &Expr| End { at: Some(root.clone()), closed };
        let region = match roots.as_mut_slice() {
            [] if steepness == Ordering::Less => everything(),
            [] => Vec::new(),
            [(root, Ordering::Greater)] => vec![Interval { low: NOWHERE, high: end(root) }],
            [(root, Ordering::Less)] => vec![Interval { low: end(root), high: NOWHERE }],
            // A double root: the value is zero there only.
            [(root, Ordering::Equal)] if steepness == Ordering::Greater => {
                if closed {
                    vec![point(root.clone())]
                } else {
                    Vec::new()
                }
            }
            [(_, Ordering::Equal)] if closed => everything(),
            [(root, Ordering::Equal)] => self.complement(&vec![point(root.clone())])?,
            [(first, Ordering::Less), (second, _)] => vec![Interval { low: end(first), high: end(second) }],
            [(first, _), (second, _), ..] => {
                vec![Interval { low: NOWHERE, high: end(first) }, Interval { low: end(second), high: NOWHERE }]
            }
        };
        Ok(region)
    }

    /// The real roots of a·x² + b·x + c in order, each with the sign of the slope there.
    fn roots(&mut self, a: &Expr, b: &Expr, c: &Expr, steepness: Ordering) -> Made<Vec<(Expr, Ordering)>> {
        let product = |items: &[&Expr]| Expr::Product(items.iter().map(|item| (*item).clone()).collect());
        let four = whole(4);
        let discriminant = tree::minus(&product(&[b, b]), &product(&[&four, a, c]));
        let twice = product(&[&whole(2), a]);
        let over = |expr: Expr| Expr::Quotient(Box::new(expr), Box::new(twice.clone()));
        let opposite = tree::negated(b.clone());
        match self.known_order(&discriminant, &whole(0))? {
            Ordering::Less => Ok(Vec::new()),
            Ordering::Equal => Ok(vec![(over(opposite), Ordering::Equal)]),
            Ordering::Greater => {
                let root = Expr::Root(Box::new(discriminant), Box::new(whole(2)));
                let left = over(tree::minus(&opposite, &root));
                let right = over(Expr::Sum(vec![opposite, root]));
                let (first, second) = if steepness == Ordering::Greater { (left, right) } else { (right, left) };
                Ok(vec![(first, steepness.reverse()), (second, steepness)])
            }
        }
    }
}
