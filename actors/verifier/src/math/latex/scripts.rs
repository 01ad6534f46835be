//! What is raised or lowered: powers, degrees and minutes, subscripts, selections (`{}_nC_k`).

use super::input::{Input, Parsed, accept, expect, fail, nested, next, peek, peek_at, rest};
use super::literals::{literal, whole_number};
use super::operands::argument;
use super::products::selections;
use super::token::Kind;
use crate::math::Expr;

/// What follows `^`: a power, or the small circle of degrees, a prime, an ordinal's ending.
pub(super) fn power(i: &mut Input<'_, '_>, base: Expr) -> Parsed {
    expect(i, Kind::Caret)?;
    let group = usize::from(peek(i) == Some(Kind::GroupOpen));
    let closes = |kind| group == 0 || kind == Some(Kind::GroupClose);
    let special = match peek_at(i, group) {
        Some(Kind::Degree | Kind::Letter('o') | Kind::Word("o")) if matches!(base, Expr::Number(_)) => {
            Some(Kind::Degree)
        }
        Some(Kind::Degree) => Some(Kind::Degree),
        Some(Kind::Prime) => Some(Kind::Prime),
        Some(kind @ (Kind::Word(_) | Kind::Plus | Kind::Minus | Kind::Times)) => Some(kind),
        _ => None,
    };
    if let Some(kind) = special.filter(|_| closes(peek_at(i, group + 1)))
        && (group == 1
            || !matches!(kind, Kind::Plus | Kind::Minus | Kind::Times)
            || !peek_at(i, 1).is_some_and(|k| k.starts_operand()))
    {
        let mark = rest(i).get(group).copied();
        for _ in 0..=2 * group {
            next(i)?;
        }
        return match kind {
            Kind::Degree => degrees(i, base),
            Kind::Prime => Ok(primed(base)),
            Kind::Word(word) => Ok(Expr::Unit(Box::new(base), word.to_owned())),
            _ => {
                let sign = mark.map_or("", |t| &i.state.text[t.at..t.end]);
                Ok(Expr::Power(Box::new(base), Box::new(Expr::Symbol(sign.to_owned()))))
            }
        };
    }
    let exponent = nested(i, Default::default(), exponent)?;
    if let (Expr::Symbol(name), Expr::Number(_) | Expr::Symbol(_)) = (&base, &exponent)
        && let Some(n) = name.strip_prefix("C_")
    {
        i.state.ambiguous = true;
        if i.state.alternative {
            let n = n.parse().map_or_else(|_| Expr::Symbol(n.to_owned()), whole_number);
            return Ok(Expr::Binomial(Box::new(n), Box::new(exponent)));
        }
    }
    Ok(Expr::Power(Box::new(base), Box::new(exponent)))
}

/// `{}_{n}C_{k}`, `^{n}P_{k}`: selections.
pub(super) fn choose(i: &mut Input<'_, '_>) -> Parsed {
    next(i)?;
    let n = argument(i)?;
    let ordered = accept(i, Kind::Letter('P'));
    if !ordered {
        expect(i, Kind::Letter('C'))?;
    }
    expect(i, Kind::Underscore)?;
    let k = argument(i)?;
    Ok(selections(ordered, n, k))
}

/// An exponent: a group, or a sign and an operand; further powers belong to it.
pub(super) fn exponent(i: &mut Input<'_, '_>) -> Parsed {
    let mut negative = false;
    while let Some(Kind::Minus | Kind::Plus) = peek(i) {
        negative ^= next(i)?.kind == Kind::Minus;
    }
    let mut value = argument(i)?;
    if peek(i) == Some(Kind::Bang) {
        next(i)?;
        value = Expr::Factorial(Box::new(value));
    }
    if peek(i) == Some(Kind::Caret) {
        value = nested(i, Default::default(), |i| power(i, value))?;
    }
    Ok(if negative { Expr::Negate(Box::new(value)) } else { value })
}

/// `°`, with °C and °F, and with the minutes that follow: `45^\circ 30'`.
pub(super) fn degrees(i: &mut Input<'_, '_>, value: Expr) -> Parsed {
    let scale = match rest(i) {
        [scale, after @ ..] if !scale.spaced || scale.text || after.is_empty() => match scale.kind {
            Kind::Letter('C') | Kind::Word("C" | "Celsius" | "celsius") => Some('C'),
            Kind::Letter('F') | Kind::Word("F" | "Fahrenheit" | "fahrenheit") => Some('F'),
            _ => None,
        },
        _ => None,
    };
    let Some(scale) = scale else { return with_minutes(i, value) };
    next(i)?;
    Ok(Expr::Unit(Box::new(value), format!("°{scale}")))
}

/// `45^\circ 30'`, `45^\circ 30^{\prime}`: the minutes behind degrees, if any.
fn with_minutes(i: &mut Input<'_, '_>, degrees: Expr) -> Parsed {
    let kinds: Vec<Kind<'_>> = rest(i).iter().take(5).map(|token| token.kind).collect();
    let (minutes, length) = match kinds.as_slice() {
        [Kind::Number(minutes), Kind::Prime, ..] => (*minutes, 2),
        [Kind::Number(minutes), Kind::Caret, Kind::Prime, ..] => (*minutes, 3),
        [Kind::Number(minutes), Kind::Caret, Kind::GroupOpen, Kind::Prime, Kind::GroupClose] => (*minutes, 5),
        _ => return Ok(Expr::Degrees(Box::new(degrees))),
    };
    if !minutes.is_digits() {
        return Ok(Expr::Degrees(Box::new(degrees)));
    }
    for _ in 0..length {
        next(i)?;
    }
    let Some(minutes) = literal(minutes) else { return fail(i) };
    let part = Expr::Quotient(Box::new(Expr::Number(minutes)), Box::new(whole_number(60)));
    Ok(Expr::Degrees(Box::new(Expr::Sum(vec![degrees, part]))))
}

/// A subscript behind something other than a symbol: the base of a numeral, else part of nothing and refused.
pub(super) fn subscripted(i: &mut Input<'_, '_>, value: Expr) -> Parsed {
    expect(i, Kind::Underscore)?;
    let subscript = subscript(i)?;
    match value {
        Expr::Number(number) => match subscript.parse() {
            Ok(base @ 2..=36) => Ok(Expr::Based(number, base)),
            _ => fail(i),
        },
        Expr::Symbol(name) => Ok(Expr::Symbol(format!("{name}_{subscript}"))),
        // `\mathbb{R}_{>0}` and `\mathbb{R}_+` are the same part of the numbers as `\mathbb{R}^+`.
        Expr::NumberSet(_) => {
            let sign = match subscript.as_str() {
                "+" | ">0" => "+",
                "-" | "<0" => "-",
                "\\ge0" | "\\geq0" | "\\geqslant0" | "≥0" => "≥0",
                _ => return fail(i),
            };
            Ok(Expr::Power(Box::new(value), Box::new(Expr::Symbol(sign.to_owned()))))
        }
        // `(A)_1`, `\mathbf{v}_1`
        Expr::Text(name) => Ok(Expr::Text(format!("{name}_{subscript}"))),
        _ => fail(i),
    }
}

/// The text of a subscript without markup and spaces.
pub(super) fn subscript(i: &mut Input<'_, '_>) -> Parsed<String> {
    let mut text = String::new();
    let mut open = 0_usize;
    loop {
        let token = next(i)?;
        match token.kind {
            Kind::GroupOpen => open += 1,
            Kind::GroupClose if open == 0 => return fail(i),
            Kind::GroupClose => open -= 1,
            _ => text.push_str(&i.state.text[token.at..token.end]),
        }
        if open == 0 {
            return Ok(text);
        }
    }
}

fn primed(value: Expr) -> Expr {
    match value {
        Expr::Symbol(name) => Expr::Symbol(format!("{name}'")),
        value => Expr::Unit(Box::new(value), "'".to_owned()),
    }
}
