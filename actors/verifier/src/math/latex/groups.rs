//! What stands in brackets, braces, bars and environments.

use super::grammar::{item, one_or};
use super::input::{Input, Parsed, Within, accept, expect, fail, nested, next, peek, peek_at, rest};
use super::lists::{list, opens_reversed};
use super::token::{Fence, Kind, Side};
use crate::math::{Bracket, Expr, Function};

/// Several items as a tuple; one item as it is.
pub(super) fn as_tuple(items: Vec<Expr>) -> Expr {
    one_or(|items| Expr::Bracketed(Bracket::Round, items, Bracket::Round), items)
}

/// `(…)`, `[…)`, `]…[`, `\{…\}`, `\lfloor…\rfloor`.
pub(super) fn brackets(i: &mut Input<'_, '_>) -> Parsed {
    match peek(i) {
        Some(Kind::Open(Fence::Curly)) => set(i, Kind::Close(Fence::Curly)),
        Some(Kind::Open(Fence::Floor)) => rounded(i, Function::Floor, Kind::Close(Fence::Floor)),
        Some(Kind::Open(Fence::Ceil)) => rounded(i, Function::Ceil, Kind::Close(Fence::Ceil)),
        Some(Kind::Open(fence)) => interval(i, fence),
        Some(Kind::Close(Fence::Square)) if opens_reversed(i) => interval(i, Fence::Round),
        _ => fail(i),
    }
}

fn rounded(i: &mut Input<'_, '_>, function: Function, close: Kind<'_>) -> Parsed {
    next(i)?;
    let inside = nested(i, Within::default(), item)?;
    expect(i, close)?;
    Ok(Expr::Apply(function, vec![inside]))
}

fn interval(i: &mut Input<'_, '_>, open: Fence) -> Parsed {
    let reversed = next(i)?.kind == Kind::Close(Fence::Square);
    let within = Within { bracket: open == Fence::Square || reversed, ..Within::default() };
    let items = nested(i, within, bracket_items)?;
    let close = match peek(i) {
        Some(Kind::Close(Fence::Round | Fence::Angle)) => Bracket::Round,
        Some(Kind::Close(Fence::Square)) => Bracket::Square,
        // `[0, 1[`
        Some(Kind::Open(Fence::Square)) => Bracket::Round,
        _ => return fail(i),
    };
    next(i)?;
    let open = if open == Fence::Square { Bracket::Square } else { Bracket::Round };
    bracketed(i, open, items, close)
}

/// Items between commas or semicolons.
fn bracket_items(i: &mut Input<'_, '_>) -> Parsed<Vec<Expr>> {
    let mut items = list(i)?;
    while accept(i, Kind::Semicolon) {
        items.extend(list(i)?);
    }
    Ok(items)
}

fn bracketed(i: &Input<'_, '_>, open: Bracket, mut items: Vec<Expr>, close: Bracket) -> Parsed {
    match items.as_slice() {
        [] => fail(i),
        [Expr::Matrix(_)] => Ok(items.remove(0)),
        [_] if (open, close) == (Bracket::Round, Bracket::Round) => Ok(items.remove(0)),
        // `2[x + 1]` groups; `[5]` alone is left to the comparison.
        [_] if open == close => Ok(Expr::Bracketed(open, items, close)),
        [_] => fail(i),
        _ => Ok(Expr::Bracketed(open, items, close)),
    }
}

/// `{…}` that is no argument: a set if it holds several items, else it only groups.
pub(super) fn braces(i: &mut Input<'_, '_>) -> Parsed {
    // `{}`
    if peek_at(i, 1) == Some(Kind::GroupClose) {
        next(i)?;
        next(i)?;
        return super::operands::factor(i);
    }
    let set = set(i, Kind::GroupClose)?;
    match set {
        // The braces do not show: `{1, 2}` is typeset as a list.
        Expr::Set(items) => Ok(one_or(Expr::List, items)),
        set => Ok(set),
    }
}

/// `\{a, b\}`, `\{x \mid …\}`.
fn set(i: &mut Input<'_, '_>, close: Kind<'_>) -> Parsed {
    next(i)?;
    let plain = close == Kind::GroupClose;
    let within = Within { builder: !plain, ..Within::default() };
    let mut items = nested(i, within, list)?;
    let mut conditions = Vec::new();
    if matches!(peek(i), Some(Kind::Mid | Kind::Bar(Side::Either) | Kind::Colon)) && items.len() == 1 {
        next(i)?;
        conditions = nested(i, Within::default(), list)?;
        if conditions.is_empty() {
            return fail(i);
        }
    }
    while accept(i, Kind::Semicolon) {
        items.extend(nested(i, within, list)?);
    }
    // `\{1, 2}` and `{1, 2\}` are meant well.
    match peek(i) {
        Some(Kind::Close(Fence::Curly) | Kind::GroupClose) => {
            next(i)?;
        }
        None if plain => {}
        _ => return fail(i),
    }
    if conditions.is_empty() {
        return Ok(Expr::Set(items));
    }
    Ok(Expr::Builder(Box::new(items.remove(0)), conditions))
}

/// `|x|`, `\|v\|`.
pub(super) fn bars(i: &mut Input<'_, '_>) -> Parsed {
    let double = match peek(i) {
        Some(Kind::Bar(Side::Left | Side::Either)) => false,
        Some(Kind::DoubleBar(Side::Left | Side::Either)) => true,
        _ => return fail(i),
    };
    next(i)?;
    let within = Within { bars: true, ..Within::default() };
    let inside = nested(i, within, item)?;
    match (peek(i), double) {
        (Some(Kind::Bar(Side::Right | Side::Either)), false)
        | (Some(Kind::DoubleBar(Side::Right | Side::Either)), true) => {
            next(i)?;
        }
        _ => return fail(i),
    }
    let function = if matches!(inside, Expr::Matrix(_)) { Function::Det } else { Function::Abs };
    Ok(Expr::Apply(function, vec![inside]))
}

/// A matrix, a determinant, a system or a distinction of cases.
pub(super) fn environment(i: &mut Input<'_, '_>, name: &str) -> Parsed {
    next(i)?;
    let rows = nested(i, Within::default(), rows)?;
    match peek(i) {
        Some(Kind::End(end)) if end == name => {
            next(i)?;
        }
        _ => return fail(i),
    }
    let Some(width) = rows.first().map(Vec::len) else { return fail(i) };
    if name == "cases" || name == "dcases" || name == "rcases" {
        return cases(i, rows);
    }
    if rows.iter().any(|row| row.len() != width) {
        return fail(i);
    }
    match name {
        "vmatrix" => Ok(Expr::Apply(Function::Det, vec![Expr::Matrix(rows)])),
        "Vmatrix" => Ok(Expr::Apply(Function::Abs, vec![Expr::Matrix(rows)])),
        "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "smallmatrix" | "psmallmatrix" | "bsmallmatrix" | "array"
        | "tabular" => Ok(Expr::Matrix(rows)),
        _ => fail(i),
    }
}

fn rows(i: &mut Input<'_, '_>) -> Parsed<Vec<Vec<Expr>>> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    loop {
        match peek(i) {
            None => return fail(i),
            Some(Kind::End(_)) => break,
            Some(Kind::NewLine) => {
                next(i)?;
                if !row.is_empty() {
                    rows.push(std::mem::take(&mut row));
                }
                continue;
            }
            Some(Kind::Ampersand | Kind::Comma | Kind::Quad | Kind::Dot) => {
                next(i)?;
                continue;
            }
            _ => {}
        }
        row.push(cell(i)?);
    }
    if !row.is_empty() {
        rows.push(row);
    }
    Ok(rows)
}

/// A cell; the word before a condition is left out.
fn cell(i: &mut Input<'_, '_>) -> Parsed {
    if let [word, after, ..] = rest(i)
        && matches!(word.kind, Kind::Word("if" | "when" | "for" | "If" | "where"))
        && !matches!(after.kind, Kind::End(_) | Kind::NewLine)
    {
        next(i)?;
    }
    item(i)
}

/// A column of relations is a list of them; values with conditions are cases.
fn cases(i: &Input<'_, '_>, rows: Vec<Vec<Expr>>) -> Parsed {
    if rows.iter().all(|row| row.len() == 1) {
        return Ok(one_or(Expr::List, rows.into_iter().flatten().collect()));
    }
    let mut cases = Vec::with_capacity(rows.len());
    for row in rows {
        match <[Expr; 2]>::try_from(row) {
            Ok([value, condition]) => cases.push((value, condition)),
            Err(_) => return fail(i),
        }
    }
    Ok(Expr::Piecewise(cases))
}
