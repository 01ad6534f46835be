//! The grammar from relations down to terms with their signs. Each level is a loop over the next; only brackets and arguments
//! recurse.

use super::input::{Failure, Input, Parsed, accept, fail, nested, next, peek, peek_at};
use super::products::product;
use super::token::Kind;
use crate::math::{Expr, Relation};

/// The most quotients, ratios and set differences side by side: each makes the expression deeper.
pub(super) const LONGEST_CHAIN: usize = 12;

/// One item of a list: a side, or a chain of relations between sides.
pub(super) fn item(i: &mut Input<'_, '_>) -> Parsed {
    // `= 5`, `\approx 5`: what stood before was left out.
    if matches!(peek(i), Some(Kind::Relation(Relation::Equal | Relation::Approximately))) {
        next(i)?;
    }
    let first = label_or_side(i)?;
    let mut chain = Vec::new();
    loop {
        let relation = match peek(i) {
            Some(Kind::Relation(relation)) => relation,
            Some(Kind::Arrow) => Relation::Tends,
            _ => break,
        };
        next(i)?;
        chain.push((relation, side(i)?));
    }
    Ok(if chain.is_empty() { first } else { Expr::Relation(Box::new(first), chain) })
}

/// `Answer: 5` is 5.
fn label_or_side(i: &mut Input<'_, '_>) -> Parsed {
    let first = side(i)?;
    if matches!(first, Expr::Text(_)) && !i.state.within.builder && accept(i, Kind::Colon) {
        return side(i);
    }
    Ok(first)
}

/// One side of a relation: sets joined by ∩, ∪ and ∖, in this order of binding.
fn side(i: &mut Input<'_, '_>) -> Parsed {
    let first = ratio(i)?;
    let mut differences = vec![vec![vec![first]]];
    let mut length = 0;
    while let Some(kind @ (Kind::Union | Kind::Intersection | Kind::SetMinus)) = peek(i) {
        next(i)?;
        let operand = ratio(i)?;
        length += 1;
        // Each level holds at least one of the next, so `last_mut` finds it.
        match (kind, differences.last_mut()) {
            (Kind::SetMinus, _) | (_, None) => differences.push(vec![vec![operand]]),
            (Kind::Union, Some(unions)) => unions.push(vec![operand]),
            (_, Some(unions)) => match unions.last_mut() {
                Some(intersections) => intersections.push(operand),
                None => unions.push(vec![operand]),
            },
        }
    }
    if differences.len() > LONGEST_CHAIN {
        return Err(Failure::Budget);
    }
    if length == 0 {
        return differences.into_iter().flatten().flatten().next().map_or_else(|| fail(i), Ok);
    }
    let intersection = |operands| one_or(Expr::Intersection, operands);
    let union = |unions: Vec<Vec<Expr>>| one_or(Expr::Union, unions.into_iter().map(intersection).collect());
    let difference = |a, b| Expr::Difference(Box::new(a), Box::new(b));
    differences.into_iter().map(union).reduce(difference).map_or_else(|| fail(i), Ok)
}

/// The only element, or all of them under a node.
pub(super) fn one_or(node: impl FnOnce(Vec<Expr>) -> Expr, mut elements: Vec<Expr>) -> Expr {
    if elements.len() == 1 { elements.remove(0) } else { node(elements) }
}

/// `a : b`.
fn ratio(i: &mut Input<'_, '_>) -> Parsed {
    let first = sum(i)?;
    if matches!(first, Expr::Number(_))
        && peek(i) == Some(Kind::Word("to"))
        && matches!(peek_at(i, 1), Some(Kind::Number(_)))
    {
        // `2 to 3`
        next(i)?;
        let second = sum(i)?;
        return Ok(Expr::Ratio(vec![first, second]));
    }
    if peek(i) != Some(Kind::Colon) || i.state.within.builder || matches!(first, Expr::Text(_)) {
        return Ok(first);
    }
    let mut parts = vec![first];
    while accept(i, Kind::Colon) {
        parts.push(sum(i)?);
    }
    Ok(Expr::Ratio(parts))
}

/// Terms with their signs.
pub(super) fn sum(i: &mut Input<'_, '_>) -> Parsed {
    let mut terms = vec![signed(i)?];
    let mut chain = 0;
    loop {
        match peek(i) {
            Some(Kind::Plus) => {
                next(i)?;
                terms.push(signed(i)?);
            }
            Some(Kind::Minus) => {
                next(i)?;
                terms.push(negated(signed(i)?));
            }
            Some(kind @ (Kind::PlusMinus | Kind::MinusPlus)) => {
                next(i)?;
                chain += 1;
                let term = signed(i)?;
                let term = if kind == Kind::PlusMinus { term } else { negated(term) };
                terms = vec![Expr::PlusMinus(Some(Box::new(total(terms))), Box::new(term))];
            }
            Some(kind @ (Kind::Over | Kind::Choose)) => {
                next(i)?;
                let below = nested(i, Default::default(), sum)?;
                let (above, below) = (Box::new(total(terms)), Box::new(below));
                return Ok(match kind {
                    Kind::Over => Expr::Quotient(above, below),
                    _ => Expr::Binomial(above, below),
                });
            }
            _ => break,
        }
        if chain > LONGEST_CHAIN {
            return Err(Failure::Budget);
        }
    }
    Ok(total(terms))
}

pub(super) fn negated(term: Expr) -> Expr {
    match term {
        Expr::Unit(value, unit) => Expr::Unit(Box::new(negated(*value)), unit),
        term => Expr::Negate(Box::new(term)),
    }
}

/// The sum of terms; a unit behind the last one belongs to all.
fn total(mut terms: Vec<Expr>) -> Expr {
    if terms.len() > 1 && terms.iter().filter(|term| matches!(term, Expr::Unit(..))).count() == 1 {
        match terms.pop() {
            Some(Expr::Unit(value, unit)) => {
                terms.push(*value);
                return Expr::Unit(Box::new(Expr::Sum(terms)), unit);
            }
            other => terms.extend(other),
        }
    }
    match terms.as_slice() {
        [Expr::NumberSet(_) | Expr::Bracketed(..) | Expr::Union(_), Expr::Negate(set)] if is_set(set) => {
            let taken = terms.pop();
            if let (Some(whole), Some(Expr::Negate(taken))) = (terms.pop(), taken) {
                return Expr::Difference(Box::new(whole), taken);
            }
            Expr::Sum(terms)
        }
        _ => one_or(Expr::Sum, terms),
    }
}

fn is_set(expr: &Expr) -> bool {
    matches!(expr, Expr::Set(_) | Expr::Builder(..) | Expr::NumberSet(_) | Expr::Union(_))
}

/// A product behind any number of signs.
fn signed(i: &mut Input<'_, '_>) -> Parsed {
    let mut negative = false;
    loop {
        match peek(i) {
            Some(Kind::Plus) => {
                next(i)?;
            }
            Some(Kind::Minus) => {
                next(i)?;
                negative = !negative;
            }
            Some(kind @ (Kind::PlusMinus | Kind::MinusPlus)) => {
                next(i)?;
                let value = nested(i, i.state.within, signed)?;
                let value = if kind == Kind::MinusPlus { negated(value) } else { value };
                let value = if negative { negated(value) } else { value };
                return Ok(Expr::PlusMinus(None, Box::new(value)));
            }
            _ => break,
        }
    }
    let value = product(i)?;
    Ok(if negative { negated(value) } else { value })
}
