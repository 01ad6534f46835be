//! Intervals of the real line, and what is made of several: unions, intersections, complements.

use std::cmp::Ordering;

use super::Comparison;
use super::region::{Made, Stop};
use crate::math::Expr;

/// An end of an interval: a value, or infinity where there is none.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) at: Option<Expr>,
    pub(super) closed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Interval {
    pub(super) low: End,
    pub(super) high: End,
}

/// Intervals that do not touch, in order.
pub(super) type Region = Vec<Interval>;

pub(super) const NOWHERE: End = End { at: None, closed: false };

/// The most intervals of one region.
pub(super) const MOST_INTERVALS: usize = 64;

pub(super) fn everything() -> Region {
    vec![Interval { low: NOWHERE, high: NOWHERE }]
}

pub(super) fn point(at: Expr) -> Interval {
    let end = End { at: Some(at), closed: true };
    Interval { low: end.clone(), high: end }
}

impl Comparison<'_> {
    pub(super) fn known_order(&mut self, a: &Expr, b: &Expr) -> Made<Ordering> {
        self.order(a, b)?.ok_or(Stop::NoRegion)
    }

    /// How two ends compare, as numbers on the line; an open low end lies behind its value, an open high end before it.
    pub(super) fn order_of_ends(&mut self, a: &End, a_low: bool, b: &End, b_low: bool) -> Made<Ordering> {
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

    pub(super) fn is_empty(&mut self, interval: &Interval) -> Made<bool> {
        let (Some(low), Some(high)) = (&interval.low.at, &interval.high.at) else { return Ok(false) };
        Ok(match self.known_order(low, high)? {
            Ordering::Less => false,
            Ordering::Equal => !(interval.low.closed && interval.high.closed),
            Ordering::Greater => true,
        })
    }

    /// Whether nothing lies between the end of one interval and the start of the next.
    pub(super) fn touch(&mut self, high: &End, low: &End) -> Made<bool> {
        let (Some(x), Some(y)) = (&high.at, &low.at) else { return Ok(true) };
        Ok(match self.known_order(y, x)? {
            Ordering::Less => true,
            Ordering::Equal => high.closed || low.closed,
            Ordering::Greater => false,
        })
    }

    /// The union of any intervals, as a region.
    pub(super) fn joined(&mut self, intervals: Vec<Interval>) -> Made<Region> {
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

    pub(super) fn intersection(&mut self, a: &Region, b: &Region) -> Made<Region> {
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

    pub(super) fn complement(&mut self, region: &Region) -> Made<Region> {
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
