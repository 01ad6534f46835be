//! Sets of real numbers as unions of intervals: what intervals, finite sets, and inequalities and equations in one unknown are
//! made into, so that the different ways to write a set are one.

use std::cmp::Ordering;

use super::collections::is_infinite;
use super::evaluate::evaluate;
use super::exact::Exact;
use super::scalar::attempt;
use super::{Comparison, Rule, Verdict, tree};
use crate::math::{Bracket, Expr, Function, Number, OverBudget, Relation};

/// An end of an interval: a value, or infinity where there is none.
#[derive(Clone, Debug)]
struct End {
    at: Option<Expr>,
    closed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Interval {
    low: End,
    high: End,
}

/// Intervals that do not touch, in order.
pub(super) type Region = Vec<Interval>;

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

type Made<T> = Result<T, Stop>;

/// The most intervals of one region.
const MOST_INTERVALS: usize = 64;

/// The unknown within a region's conditions, whatever it is called outside.
const UNKNOWN: &str = "\u{0}";

const NOWHERE: End = End { at: None, closed: false };

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

    fn region_of(&mut self, expr: &Expr) -> Made<Region> {
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

    /// Where one relation holds.
    fn link(&mut self, left: &Expr, relation: Relation, right: &Expr) -> Made<Region> {
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

    fn known_order(&mut self, a: &Expr, b: &Expr) -> Made<Ordering> {
        self.order(a, b)?.ok_or(Stop::NoRegion)
    }

    /// How two ends compare, as numbers on the line; an open low end lies behind its value, an open high end before it.
    fn order_of_ends(&mut self, a: &End, a_low: bool, b: &End, b_low: bool) -> Made<Ordering> {
        let infinite = |low: bool| if low { Ordering::Less } else { Ordering::Greater };
        match (&a.at, &b.at) {
            (None, None) => Ok(infinite(a_low).cmp(&infinite(b_low))),
            (None, _) => Ok(infinite(a_low)),
            (_, None) => Ok(infinite(b_low).reverse()),
            (Some(x), Some(y)) => {
                let nudge = |end: &End, low: bool| if end.closed { 0 } else { i32::from(low) * 2 - 1 };
                Ok(self.known_order(x, y)?.then(nudge(a, a_low).cmp(&nudge(b, b_low))))
            }
        }
    }

    fn is_empty(&mut self, interval: &Interval) -> Made<bool> {
        let (Some(low), Some(high)) = (&interval.low.at, &interval.high.at) else { return Ok(false) };
        Ok(match self.known_order(low, high)? {
            Ordering::Less => false,
            Ordering::Equal => !(interval.low.closed && interval.high.closed),
            Ordering::Greater => true,
        })
    }

    /// Whether nothing lies between the end of one interval and the start of the next.
    fn touch(&mut self, high: &End, low: &End) -> Made<bool> {
        let (Some(x), Some(y)) = (&high.at, &low.at) else { return Ok(true) };
        Ok(match self.known_order(y, x)? {
            Ordering::Less => true,
            Ordering::Equal => high.closed || low.closed,
            Ordering::Greater => false,
        })
    }

    /// The union of any intervals, as a region.
    fn joined(&mut self, intervals: Vec<Interval>) -> Made<Region> {
        if intervals.len() > MOST_INTERVALS {
            return Err(Stop::NoRegion);
        }
        let mut sorted: Region = Vec::with_capacity(intervals.len());
        for interval in intervals {
            if self.is_empty(&interval)? {
                continue;
            }
            let mut place = sorted.len();
            while place > 0 && self.order_of_ends(&interval.low, true, &sorted[place - 1].low, true)? == Ordering::Less
            {
                place -= 1;
            }
            sorted.insert(place, interval);
        }
        let mut region: Region = Vec::with_capacity(sorted.len());
        for interval in sorted {
            match region.last_mut() {
                Some(last) if self.touch(&last.high, &interval.low)? => {
                    if self.order_of_ends(&last.high, false, &interval.high, false)? == Ordering::Less {
                        last.high = interval.high;
                    }
                }
                _ => region.push(interval),
            }
        }
        Ok(region)
    }

    fn intersection(&mut self, a: &Region, b: &Region) -> Made<Region> {
        let mut parts = Vec::new();
        for x in a {
            for y in b {
                let low = match self.order_of_ends(&x.low, true, &y.low, true)? {
                    Ordering::Less => &y.low,
                    _ => &x.low,
                };
                let high = match self.order_of_ends(&x.high, false, &y.high, false)? {
                    Ordering::Greater => &y.high,
                    _ => &x.high,
                };
                parts.push(Interval { low: low.clone(), high: high.clone() });
            }
        }
        self.joined(parts)
    }

    fn complement(&mut self, region: &Region) -> Made<Region> {
        let mut gaps = Vec::new();
        let mut low = NOWHERE;
        for interval in region {
            if let Some(at) = &interval.low.at {
                let high = End { at: Some(at.clone()), closed: !interval.low.closed };
                gaps.push(Interval { low, high });
            }
            let Some(at) = &interval.high.at else { return self.joined(gaps) };
            low = End { at: Some(at.clone()), closed: !interval.high.closed };
        }
        gaps.push(Interval { low, high: NOWHERE });
        self.joined(gaps)
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

fn everything() -> Region {
    vec![Interval { low: NOWHERE, high: NOWHERE }]
}

fn point(at: Expr) -> Interval {
    let end = End { at: Some(at), closed: true };
    Interval { low: end.clone(), high: end }
}

fn whole(value: i64) -> Expr {
    Expr::Number(Number { value: value.into(), decimals: None, repeating: false })
}

fn is_unknown(expr: &Expr) -> bool {
    matches!(expr, Expr::Symbol(name) if name == UNKNOWN)
}

fn mentions_unknown(expr: &Expr) -> bool {
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
