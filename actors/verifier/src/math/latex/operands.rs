//! Operands: symbols, words, fractions, roots and functions, with what stands behind them (powers, factorials).

use super::functions::{apply, cis};
use super::grammar::{one_or, sum};
use super::groups::{bars, braces, brackets, environment};
use super::input::{Failure, Input, Parsed, accept, expect, fail, nested, next, peek, peek_at, rest};
use super::lists::list;
use super::literals::{number, whole_number};
use super::products::product;
use super::scripts::{choose, degrees, power, subscript, subscripted};
use super::token::{Fence, Kind};
use crate::math::{Constant, Expr, Function, Relation};

/// The most powers, factorials and percent signs behind one operand.
const LONGEST_TAIL: usize = 6;

/// An operand and what stands behind it.
pub(super) fn factor(i: &mut Input<'_, '_>) -> Parsed {
    let mut value = nested(i, i.state.within, primary)?;
    for _ in 0..LONGEST_TAIL {
        value = match peek(i) {
            Some(Kind::Caret) => power(i, value)?,
            Some(Kind::Bang) => {
                next(i)?;
                Expr::Factorial(Box::new(value))
            }
            Some(Kind::Percent) => {
                next(i)?;
                Expr::Percent(Box::new(value))
            }
            Some(Kind::Degree) => {
                next(i)?;
                degrees(i, value)?
            }
            Some(Kind::Underscore) => subscripted(i, value)?,
            _ => return Ok(value),
        };
    }
    match peek(i) {
        Some(Kind::Caret | Kind::Bang | Kind::Percent | Kind::Degree | Kind::Underscore) => Err(Failure::Budget),
        _ => Ok(value),
    }
}

/// The argument of `\frac`, `\sqrt` or `^`: a group, or one operand without what stands behind it.
pub(super) fn argument(i: &mut Input<'_, '_>) -> Parsed {
    match peek(i) {
        Some(Kind::GroupOpen) => group(i),
        Some(_) => nested(i, Default::default(), primary),
        None => fail(i),
    }
}

/// What is in braces, which must be one expression.
pub(super) fn group(i: &mut Input<'_, '_>) -> Parsed {
    expect(i, Kind::GroupOpen)?;
    let inside = nested(i, Default::default(), |i| {
        let items = list(i)?;
        if items.is_empty() { fail(i) } else { Ok(one_or(Expr::List, items)) }
    })?;
    // At the end a brace may have been cut off.
    if peek(i).is_some() {
        expect(i, Kind::GroupClose)?;
    }
    Ok(inside)
}

pub(super) fn primary(i: &mut Input<'_, '_>) -> Parsed {
    let Some(kind) = peek(i) else { return fail(i) };
    match kind {
        Kind::Number(numeral) => number(i, numeral),
        Kind::Letter(_) | Kind::Name(_) => symbol(i),
        Kind::Word(word) => words(i, word),
        Kind::Constant(constant) => {
            next(i)?;
            Ok(Expr::Constant(constant))
        }
        Kind::Function(function) => apply(i, function, None),
        Kind::Cis => cis(i),
        Kind::LogTen => apply(i, Function::Log, Some(whole_number(10))),
        Kind::Frac => {
            next(i)?;
            let above = argument(i)?;
            Ok(Expr::Quotient(Box::new(above), Box::new(argument(i)?)))
        }
        Kind::Binom => {
            next(i)?;
            let above = argument(i)?;
            Ok(Expr::Binomial(Box::new(above), Box::new(argument(i)?)))
        }
        Kind::Sqrt | Kind::Cbrt => root(i),
        Kind::Overline => overline(i),
        Kind::Caret | Kind::Underscore => choose(i),
        Kind::Big(name) => big(i, name),
        Kind::NumberSet(letter) => {
            next(i)?;
            Ok(Expr::NumberSet(letter))
        }
        Kind::EmptySet => {
            next(i)?;
            Ok(Expr::Set(Vec::new()))
        }
        Kind::Dots => {
            next(i)?;
            Ok(Expr::Symbol("…".into()))
        }
        Kind::Currency(sign) => {
            next(i)?;
            let negative = accept(i, Kind::Minus);
            let value = nested(i, i.state.within, product)?;
            let value = if negative { Expr::Negate(Box::new(value)) } else { value };
            Ok(Expr::Unit(Box::new(value), sign.to_owned()))
        }
        Kind::Open(_) | Kind::Close(Fence::Square) => brackets(i),
        Kind::Boxed => {
            next(i)?;
            argument(i)
        }
        Kind::GroupOpen => braces(i),
        Kind::Bar(_) | Kind::DoubleBar(_) => bars(i),
        Kind::Begin(name) => environment(i, name),
        _ => fail(i),
    }
}

/// A variable with its subscript and primes; a function that has a name only, with its arguments.
fn symbol(i: &mut Input<'_, '_>) -> Parsed {
    let token = next(i)?;
    let mut name = match token.kind {
        Kind::Letter(letter) => letter.to_string(),
        Kind::Name(name) => name.to_owned(),
        _ => return fail(i),
    };
    let bare = name.len();
    loop {
        match peek(i) {
            Some(Kind::Underscore) => {
                next(i)?;
                let subscript = subscript(i)?;
                name.push('_');
                name.push_str(&subscript);
            }
            Some(Kind::Prime) => {
                next(i)?;
                name.push('\'');
            }
            _ => break,
        }
        if name.len() > 256 {
            return fail(i);
        }
    }
    let function = matches!(token.kind, Kind::Letter('f' | 'g' | 'h' | 'F' | 'G' | 'H') | Kind::Name("phi" | "psi"));
    if function && let Some(inverse) = inverse_mark(i) {
        for _ in 0..inverse {
            next(i)?;
        }
        name.push_str("^{-1}");
    }
    if let Some(length) = statement_of_chance(i, &name) {
        let (first, last) = (rest(i)[0], rest(i)[length - 1]);
        for _ in 0..length {
            next(i)?;
        }
        return Ok(Expr::Symbol(format!("{name}{}", &i.state.text[first.at..last.end])));
    }
    if calls(i, function) {
        let arguments = nested(i, Default::default(), arguments)?;
        return Ok(Expr::Call(name, arguments));
    }
    Ok(match name.as_str() {
        "e" if bare == name.len() => Expr::Constant(Constant::E),
        "i" if bare == name.len() => Expr::Constant(Constant::I),
        _ => Expr::Symbol(name),
    })
}

/// Whether `^{-1}` and a bracket follow; the number of its tokens.
fn inverse_mark(i: &Input<'_, '_>) -> Option<usize> {
    let one = |kind| matches!(kind, Kind::Number(numeral) if numeral.text == "1");
    match rest(i) {
        [caret, open, minus, digit, close, bracket, ..]
            if caret.kind == Kind::Caret
                && open.kind == Kind::GroupOpen
                && minus.kind == Kind::Minus
                && one(digit.kind)
                && close.kind == Kind::GroupClose
                && bracket.kind == Kind::Open(Fence::Round) =>
        {
            Some(5)
        }
        _ => None,
    }
}

/// `P(X = 4) =`, `E[X] =`: a probability or mean that is said to be something; how many tokens its brackets hold, them included.
fn statement_of_chance(i: &Input<'_, '_>, name: &str) -> Option<usize> {
    const LONGEST: usize = 24;
    let close = match (name, peek(i)?) {
        ("P" | "Pr" | "E" | "V", Kind::Open(Fence::Round)) => Kind::Close(Fence::Round),
        ("P" | "Pr" | "E" | "V", Kind::Open(Fence::Square)) => Kind::Close(Fence::Square),
        _ => return None,
    };
    let length = rest(i).iter().take(LONGEST).position(|token| token.kind == close)? + 1;
    let says = matches!(peek_at(i, length)?, Kind::Relation(Relation::Equal | Relation::Approximately));
    (says && !rest(i)[1..length].iter().any(|token| matches!(token.kind, Kind::Open(_)))).then_some(length)
}

/// Whether a bracket with arguments follows. Letters that seldom name functions do so in `P(x) =`.
fn calls(i: &Input<'_, '_>, function: bool) -> bool {
    match rest(i) {
        [open, ..] if function => open.kind == Kind::Open(Fence::Round) && !open.spaced,
        [open, argument, close, relation, ..] => {
            open.kind == Kind::Open(Fence::Round)
                && matches!(argument.kind, Kind::Letter(_) | Kind::Number(_) | Kind::Name(_))
                && close.kind == Kind::Close(Fence::Round)
                && matches!(relation.kind, Kind::Relation(_))
        }
        _ => false,
    }
}

/// Arguments in round brackets.
fn arguments(i: &mut Input<'_, '_>) -> Parsed<Vec<Expr>> {
    expect(i, Kind::Open(Fence::Round))?;
    let items = list(i)?;
    expect(i, Kind::Close(Fence::Round))?;
    if items.is_empty() { fail(i) } else { Ok(items) }
}

/// Words in a row; before a number some only introduce it or are its currency.
fn words(i: &mut Input<'_, '_>, first: &str) -> Parsed {
    const INTRODUCE: &[&str] = &[
        "approximately",
        "about",
        "exactly",
        "roughly",
        "approx",
        "equals",
        "is",
        "around",
        "maybe",
        "perhaps",
        "possibly",
        "either",
        "both",
    ];
    const CURRENCIES: &[&str] = &["Rs", "USD", "EUR", "GBP", "RMB", "US"];
    let value_follows = |kind: Option<Kind<'_>>| {
        kind.is_some_and(|k| {
            k.starts_operand() && !matches!(k, Kind::Letter(_)) || matches!(k, Kind::Minus | Kind::Currency(_))
        })
    };
    let after = if peek_at(i, 1) == Some(Kind::Dot) { 2 } else { 1 };
    if INTRODUCE.contains(&first) && value_follows(peek_at(i, 1)) {
        next(i)?;
        return nested(i, i.state.within, sum);
    }
    if CURRENCIES.contains(&first) && value_follows(peek_at(i, after)) {
        for _ in 0..after {
            next(i)?;
        }
        let value = nested(i, i.state.within, product)?;
        return Ok(Expr::Unit(Box::new(value), first.to_owned()));
    }
    let mut text = String::new();
    while let Some(token) = rest(i).first().copied() {
        if !matches!(token.kind, Kind::Word(_) | Kind::Letter(_) | Kind::Prime) {
            break;
        }
        if token.spaced && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&i.state.text[token.at..token.end]);
        next(i)?;
    }
    Ok(Expr::Text(text))
}

/// `\sqrt[3]{x}`, `\sqrt2`, `sqrt(2)`.
fn root(i: &mut Input<'_, '_>) -> Parsed {
    let cube = next(i)?.kind == Kind::Cbrt;
    let mut index = whole_number(if cube { 3 } else { 2 });
    if accept(i, Kind::Open(Fence::Square)) {
        index = nested(i, Default::default(), sum)?;
        expect(i, Kind::Close(Fence::Square))?;
    }
    let radicand = argument(i)?;
    Ok(Expr::Root(Box::new(radicand), Box::new(index)))
}

/// A bar over something: the name of a segment, digits as they stand, else a conjugate.
fn overline(i: &mut Input<'_, '_>) -> Parsed {
    next(i)?;
    let letters =
        rest(i).iter().skip(1).take_while(|t| matches!(t.kind, Kind::Letter(c) if c.is_ascii_uppercase())).count();
    if letters >= 2 && peek_at(i, letters + 1) == Some(Kind::GroupClose) {
        return Ok(Expr::Symbol(subscript(i)?));
    }
    let inside = argument(i)?;
    Ok(Expr::Apply(Function::Conjugate, vec![inside]))
}

/// `\sum_{k=1}^{n} a_k`.
fn big(i: &mut Input<'_, '_>, name: &str) -> Parsed {
    next(i)?;
    let (mut below, mut above) = (None, None);
    for _ in 0..2 {
        let slot = match peek(i) {
            Some(Kind::Underscore) => &mut below,
            Some(Kind::Caret) => &mut above,
            _ => break,
        };
        next(i)?;
        let negative = accept(i, Kind::Minus);
        let limit = argument(i)?;
        *slot = Some(Box::new(if negative { Expr::Negate(Box::new(limit)) } else { limit }));
    }
    let body = nested(i, i.state.within, product)?;
    Ok(Expr::Big(name.to_owned(), below, above, Box::new(body)))
}
