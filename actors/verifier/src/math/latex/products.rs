//! Products and quotients, mixed numbers, and the units behind a value.

use super::grammar::{LONGEST_CHAIN, negated, one_or};
use super::input::{Failure, Input, Parsed, expect, next, peek, peek_at, rest};
use super::lists::condition_follows;
use super::operands::factor;
use super::token::{Fence, Kind, Side};
use super::words::is_unit_letter;
use crate::math::{Expr, Function, Relation};

/// Factors, written with signs or side by side, with the unit behind them.
pub(super) fn product(i: &mut Input<'_, '_>) -> Parsed {
    let mut factors = vec![factor(i)?];
    let mut chain = 0;
    loop {
        match peek(i) {
            Some(Kind::Times) => {
                next(i)?;
                factors.push(signed_factor(i)?);
            }
            Some(Kind::Divide) => {
                next(i)?;
                let below = divisor(i)?;
                factors = vec![Expr::Quotient(Box::new(one_or(Expr::Product, factors)), Box::new(below))];
                chain += 1;
            }
            Some(Kind::Modulo) => {
                next(i)?;
                let modulus = factor(i)?;
                factors = vec![Expr::Apply(Function::Mod, vec![one_or(Expr::Product, factors), modulus])];
                chain += 1;
            }
            Some(Kind::Open(Fence::Round)) if matches!(peek_at(i, 1), Some(Kind::Word("mod") | Kind::Modulo)) => {
                next(i)?;
                next(i)?;
                let modulus = factor(i)?;
                expect(i, Kind::Close(Fence::Round))?;
                factors = vec![Expr::Apply(Function::Mod, vec![one_or(Expr::Product, factors), modulus])];
                chain += 1;
            }
            Some(_) if letter_is_unit(i, &factors) => break,
            Some(kind) if juxtaposed(i, kind, &factors) => {
                let fraction = kind == Kind::Frac || kind == Kind::GroupOpen && peek_at(i, 1) == Some(Kind::Frac);
                let factor = factor(i)?;
                push_beside(&mut factors, factor, fraction);
            }
            _ => break,
        }
        if chain > LONGEST_CHAIN {
            return Err(Failure::Budget);
        }
    }
    if let Some((value, unit)) = fraction_of_units(&factors) {
        return Ok(Expr::Unit(Box::new(value), unit));
    }
    // `10\text{ (square units)}`
    if factors.len() > 1
        && matches!(factors.last(), Some(Expr::Text(_)))
        && let Some(Expr::Text(unit)) = factors.pop()
    {
        return Ok(Expr::Unit(Box::new(one_or(Expr::Product, factors)), unit));
    }
    let value = point(i, factors);
    unit(i, value)
}

fn signed_factor(i: &mut Input<'_, '_>) -> Parsed {
    let mut negative = false;
    loop {
        match peek(i) {
            Some(Kind::Minus) => negative = !negative,
            Some(Kind::Plus) => {}
            _ => break,
        }
        next(i)?;
    }
    let factor = factor(i)?;
    Ok(if negative { negated(factor) } else { factor })
}

/// What a slash divides by. `1/2x` is half of x and `a/bc` is a by bc; both can be meant the other way.
fn divisor(i: &mut Input<'_, '_>) -> Parsed {
    let first = signed_factor(i)?;
    let more =
        |i: &Input<'_, '_>, last: &Expr| peek(i).is_some_and(|kind| juxtaposed(i, kind, std::slice::from_ref(last)));
    if !more(i, &first) {
        return Ok(first);
    }
    i.state.ambiguous = true;
    if matches!(first, Expr::Number(_)) != i.state.alternative {
        return Ok(first);
    }
    let mut below = vec![first];
    while below.last().is_some_and(|last| more(i, last)) {
        below.push(factor(i)?);
    }
    Ok(Expr::Product(below))
}

/// Whether an operand stands right behind another one, as a factor of the same product.
fn juxtaposed(i: &Input<'_, '_>, kind: Kind<'_>, before: &[Expr]) -> bool {
    let within = i.state.within;
    match kind {
        Kind::Number(_) => !matches!(before.last(), Some(Expr::Number(_) | Expr::Mixed(..) | Expr::Text(_))),
        Kind::Bar(Side::Either) | Kind::DoubleBar(Side::Either) => !within.bars && !within.builder,
        Kind::Open(Fence::Square) if within.bracket => {
            peek_at(i, 1).is_some_and(|next| next.starts_operand() || matches!(next, Kind::Minus))
        }
        _ => kind.starts_operand() && !matches!(before, [Expr::Text(_)]),
    }
}

/// A number and a fraction side by side are a mixed number.
fn push_beside(factors: &mut Vec<Expr>, factor: Expr, fraction: bool) {
    let proper = |fraction: &Expr| match fraction {
        Expr::Quotient(above, below) => match (&**above, &**below) {
            (Expr::Number(a), Expr::Number(b)) => a.is_whole() && b.is_whole() && a.value < b.value,
            _ => false,
        },
        _ => false,
    };
    let mixed = |whole, part| Box::new(Expr::Mixed(Box::new(Expr::Number(whole)), Box::new(part)));
    match (factors.pop(), factor) {
        (Some(Expr::Number(whole)), part) if fraction && whole.is_whole() && proper(&part) => {
            factors.push(*mixed(whole, part));
        }
        // What stands behind the fraction belongs to the whole number too: `33\frac13\%`.
        (Some(Expr::Number(whole)), Expr::Percent(part)) if fraction && whole.is_whole() && proper(&part) => {
            factors.push(Expr::Percent(mixed(whole, *part)));
        }
        (Some(Expr::Number(whole)), Expr::Degrees(part)) if fraction && whole.is_whole() && proper(&part) => {
            factors.push(Expr::Degrees(mixed(whole, *part)));
        }
        (last, factor) => {
            factors.extend(last);
            factors.push(factor);
        }
    }
}

/// `60 \frac{\text{km}}{\text{h}}`: the value, and the unit as it would be on one line.
fn fraction_of_units(factors: &[Expr]) -> Option<(Expr, String)> {
    let name = |expr: &Expr| match expr {
        Expr::Text(name) | Expr::Symbol(name) => Some(name.clone()),
        Expr::Power(base, power) => match (&**base, &**power) {
            (Expr::Text(name) | Expr::Symbol(name), Expr::Number(power)) => Some(format!("{name}^{}", power.value)),
            _ => None,
        },
        _ => None,
    };
    let (Expr::Quotient(above, below), values) = factors.split_last()? else { return None };
    // Two letters are rather variables.
    let is_word = |expr: &Expr| match expr {
        Expr::Power(base, _) => matches!(**base, Expr::Text(_)),
        expr => matches!(expr, Expr::Text(_)),
    };
    if values.is_empty() || !is_word(above) && !is_word(below) {
        return None;
    }
    Some((one_or(Expr::Product, values.to_vec()), format!("{}/{}", name(above)?, name(below)?)))
}

/// `A(1, 2)` is a point with its name; `C(5, 2)` may be a binomial coefficient.
fn point(i: &mut Input<'_, '_>, mut factors: Vec<Expr>) -> Expr {
    let [Expr::Symbol(name), Expr::Bracketed(_, items, _)] = factors.as_slice() else {
        return one_or(Expr::Product, factors);
    };
    if items.len() < 2 || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
        return one_or(Expr::Product, factors);
    }
    if let ("C" | "P", [n, k]) = (name.as_str(), items.as_slice()) {
        i.state.ambiguous = true;
        if i.state.alternative {
            return selections(name == "P", n.clone(), k.clone());
        }
    }
    let place = factors.remove(1);
    Expr::Relation(Box::new(factors.remove(0)), vec![(Relation::Equal, place)])
}

/// How many ways there are to choose k of n, in order or not.
pub(super) fn selections(ordered: bool, n: Expr, k: Expr) -> Expr {
    if !ordered {
        return Expr::Binomial(Box::new(n), Box::new(k));
    }
    let factorial = |value| Box::new(Expr::Factorial(Box::new(value)));
    Expr::Quotient(factorial(n.clone()), factorial(Expr::Sum(vec![n, negated(k)])))
}

/// `5 m`: one letter behind a number can be a unit. Rather a variable in a formula, rather a unit in running text.
fn letter_is_unit(i: &mut Input<'_, '_>, factors: &[Expr]) -> bool {
    let [Expr::Number(_)] = factors else { return false };
    let Some(Kind::Letter(letter)) = peek(i) else { return false };
    let ends = |kind| {
        matches!(
            kind,
            None | Some(Kind::Dot | Kind::GroupClose | Kind::Close(_) | Kind::Comma | Kind::Quad | Kind::And)
        )
    };
    let alone = match peek_at(i, 1) {
        Some(Kind::Caret) => match peek_at(i, 2) {
            Some(Kind::GroupOpen) => ends(peek_at(i, 5)),
            _ => ends(peek_at(i, 3)),
        },
        Some(Kind::Divide) => matches!(peek_at(i, 2), Some(Kind::Letter('s' | 'h'))),
        after => ends(after),
    };
    if !is_unit_letter(letter) || !alone {
        return false;
    }
    i.state.ambiguous = true;
    i.state.alternative
}

/// The words behind a value are its unit.
fn unit(i: &mut Input<'_, '_>, value: Expr) -> Parsed {
    if matches!(value, Expr::Text(_)) {
        return Ok(value);
    }
    let skip = usize::from(peek(i) == Some(Kind::Quad));
    let begins = match peek_at(i, skip) {
        // `2 to 3`
        Some(Kind::Word("to")) => !matches!(peek_at(i, skip + 1), Some(Kind::Number(_))),
        Some(Kind::Word(_) | Kind::Currency(_)) => true,
        Some(Kind::Prime) => matches!(value, Expr::Number(_) | Expr::Degrees(_)),
        Some(Kind::Letter(_)) if skip == 0 => {
            let number = [value];
            let is_unit = letter_is_unit(i, &number);
            let [value] = number;
            return if is_unit { named_unit(i, value) } else { Ok(value) };
        }
        _ => false,
    };
    if !begins || skip == 0 && condition_follows(i) {
        return Ok(value);
    }
    if skip > 0 {
        expect(i, Kind::Quad)?;
    }
    named_unit(i, value)
}

fn named_unit(i: &mut Input<'_, '_>, value: Expr) -> Parsed {
    let mut unit = String::new();
    while let Some(token) = rest(i).first().copied() {
        let more = match token.kind {
            Kind::Word(_) | Kind::Letter(_) | Kind::Currency(_) | Kind::Prime => true,
            Kind::Divide | Kind::Times => matches!(peek_at(i, 1), Some(Kind::Word(_) | Kind::Letter(_))),
            Kind::Minus | Kind::Dot | Kind::Open(_) | Kind::Close(_) | Kind::Degree => token.text,
            Kind::Caret if unit_power(i, &mut unit)? => continue,
            _ => false,
        };
        if !more {
            break;
        }
        if token.spaced && !unit.is_empty() && !unit.ends_with('/') {
            unit.push(' ');
        }
        unit.push_str(&i.state.text[token.at..token.end]);
        next(i)?;
    }
    Ok(Expr::Unit(Box::new(value), unit.trim().to_owned()))
}

/// The power of a unit: `^2`, `^{2}`, `^{-1}`.
fn unit_power(i: &mut Input<'_, '_>, unit: &mut String) -> Parsed<bool> {
    let group = peek_at(i, 1) == Some(Kind::GroupOpen);
    let sign = peek_at(i, 1 + usize::from(group)) == Some(Kind::Minus);
    let at = 1 + usize::from(group) + usize::from(sign);
    let (Some(Kind::Number(power)), closed) = (peek_at(i, at), peek_at(i, at + 1)) else { return Ok(false) };
    if group && closed != Some(Kind::GroupClose) {
        return Ok(false);
    }
    for _ in 0..=at + usize::from(group) {
        next(i)?;
    }
    unit.push_str(if sign { "^-" } else { "^" });
    unit.push_str(power.text);
    Ok(true)
}
