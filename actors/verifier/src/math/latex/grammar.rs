//! The grammar from lists down to products. Each level is a loop over the next; only brackets and arguments recurse.

use super::groups::as_tuple;
use super::input::{Failure, Input, Parsed, accept, expect, fail, input, nested, next, peek, peek_at, rest};
use super::operands::factor;
use super::token::{Fence, Kind, Side, Token};
use super::words::is_unit_letter;
use crate::math::{Budget, Expr, Function, Relation};

/// The most quotients, ratios and set differences side by side: each makes the expression deeper.
const LONGEST_CHAIN: usize = 12;

/// The whole answer, and whether something in it is ambiguous.
pub(super) fn answer(
    text: &str,
    tokens: &[Token<'_>],
    alternative: bool,
    budget: &mut Budget,
) -> (Result<Expr, Failure>, bool) {
    let mut i = input(text, tokens, alternative, budget);
    let result = whole(&mut i);
    (result, i.state.ambiguous)
}

fn whole(i: &mut Input<'_, '_>) -> Parsed {
    let choice = choice_label(i);
    if let Some(letter) = choice
        && rest(i).is_empty()
    {
        return Ok(Expr::Symbol(letter.to_string()));
    }
    let groups = semicolon_groups(i)?;
    // A brace too many at the end is what cutting a text leaves.
    while accept(i, Kind::GroupClose) || accept(i, Kind::Dot) {}
    if !rest(i).is_empty() {
        return fail(i);
    }
    let expr = ungroup(groups).map_or_else(|| fail(i), Ok)?;
    Ok(match choice {
        Some(letter) => Expr::Choice(letter, Box::new(expr)),
        None => expr,
    })
}

/// `(B) 5`, `B. 5`, `B)`: the label, and the option's own text behind it.
fn choice_label(i: &mut Input<'_, '_>) -> Option<char> {
    let is_choice = |letter: char| letter.is_ascii_uppercase() && letter <= 'J';
    let (letter, length) = match rest(i) {
        [open, a, close, after, ..]
            if open.kind == Kind::Open(Fence::Round)
                && close.kind == Kind::Close(Fence::Round)
                && (a.text && !after.text || after.spaced)
                && !matches!(after.kind, Kind::Relation(_) | Kind::Plus | Kind::Minus | Kind::Caret | Kind::Times) =>
        {
            (a.kind, 3)
        }
        [a, mark, after, ..]
            if matches!(mark.kind, Kind::Dot | Kind::Close(Fence::Round)) && after.spaced && !mark.spaced =>
        {
            (a.kind, 2)
        }
        [a, mark] if matches!(mark.kind, Kind::Dot | Kind::Close(Fence::Round)) => (a.kind, 2),
        _ => return None,
    };
    let Kind::Letter(letter) = letter else { return None };
    if !is_choice(letter) {
        return None;
    }
    (0..length).all(|_| next(i).is_ok()).then_some(letter)
}

/// Items by semicolon: `(x, y); (z, w)`, `p=1, q=2; p=3, q=4`.
fn semicolon_groups(i: &mut Input<'_, '_>) -> Parsed<Vec<Vec<Expr>>> {
    let mut groups = vec![list(i)?];
    while accept(i, Kind::Semicolon) {
        let group = list(i)?;
        if !group.is_empty() {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// Groups of one are items of one list; larger ones are tuples.
fn ungroup(mut groups: Vec<Vec<Expr>>) -> Option<Expr> {
    if groups.len() == 1 {
        let mut items = groups.pop()?;
        return match items.len() {
            0 => None,
            1 => items.pop(),
            _ => Some(Expr::List(by_unknown(items))),
        };
    }
    if groups.iter().all(|group| group.len() == 1) {
        return Some(Expr::List(groups.into_iter().flatten().collect()));
    }
    Some(Expr::List(groups.into_iter().map(as_tuple).collect()))
}

/// `p = 5, q = 2 and p = 7, q = 2`: where the same unknowns come round again, each round is a tuple.
fn by_unknown(items: Vec<Expr>) -> Vec<Expr> {
    let unknown = |item: &Expr| match item {
        Expr::Relation(first, chain) if chain[0].0 == Relation::Equal => match &**first {
            Expr::Symbol(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    };
    let Some(unknowns) = items.iter().map(unknown).collect::<Option<Vec<String>>>() else { return items };
    let Some(round) = unknowns.iter().skip(1).position(|name| *name == unknowns[0]).map(|at| at + 1) else {
        return items;
    };
    let repeats = unknowns.iter().enumerate().all(|(at, name)| *name == unknowns[at % round]);
    let distinct = (1..round).all(|at| !unknowns[..at].contains(&unknowns[at]));
    if round == 1 || unknowns.len() % round != 0 || !repeats || !distinct {
        return items;
    }
    let mut items = items.into_iter();
    (0..unknowns.len() / round).map(|_| as_tuple(items.by_ref().take(round).collect())).collect()
}

/// Items between commas, `and` and wide spaces, up to what closes or ends the list.
pub(super) fn list(i: &mut Input<'_, '_>) -> Parsed<Vec<Expr>> {
    let mut items = Vec::new();
    separators(i);
    while !ends_list(i) {
        items.push(item(i)?);
        if !(separators(i) || condition_follows(i) && next(i).is_ok()) {
            break;
        }
    }
    if items.len() > 1 {
        drop_parameters(&mut items);
    }
    Ok(items)
}

/// Whether the next word introduces a condition: `where k \in \mathbb{Z}`.
fn condition_follows(i: &Input<'_, '_>) -> bool {
    const WORDS: &[&str] = &["where", "for", "with", "when", "if", "provided"];
    match rest(i) {
        [word, after @ ..] => {
            matches!(word.kind, Kind::Word(word) if WORDS.contains(&word))
                && after.iter().take(16).any(|t| matches!(t.kind, Kind::Relation(_)))
        }
        [] => false,
    }
}

/// `k\pi, k \in \mathbb{Z}` are the multiples of π: that the parameter is an integer goes without saying.
fn drop_parameters(items: &mut Vec<Expr>) {
    let is_integer = |item: &Expr| match item {
        Expr::Relation(name, chain) => match (&**name, chain.as_slice()) {
            (Expr::Symbol(name), [(Relation::In, Expr::NumberSet('Z' | 'N'))]) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    };
    if let Some(name) = items.last().and_then(is_integer)
        && items[0] != Expr::Symbol(name.clone())
        && items[..items.len() - 1].iter().any(|item| mentions(item, &name))
    {
        items.pop();
    }
}

fn mentions(expr: &Expr, name: &str) -> bool {
    let mut found = matches!(expr, Expr::Symbol(symbol) if symbol == name);
    expr.for_each_part(&mut |part| found = found || mentions(part, name));
    found
}

fn ends_list(i: &Input<'_, '_>) -> bool {
    match peek(i) {
        // `]0, 1[` begins with a closing bracket.
        Some(Kind::Close(Fence::Square)) => i.state.within.bracket || !opens_reversed(i),
        Some(Kind::Close(_) | Kind::GroupClose | Kind::Semicolon | Kind::End(_) | Kind::Ampersand | Kind::Mid) => true,
        None => true,
        _ => false,
    }
}

/// Whether the `]` at the front opens an interval.
pub(super) fn opens_reversed(i: &Input<'_, '_>) -> bool {
    peek_at(i, 1).is_some_and(|kind| kind.starts_operand() || matches!(kind, Kind::Minus | Kind::Plus))
}

/// Passes separators; whether there were any. A point ends a sentence, and a line break outside of rows an item.
fn separators(i: &mut Input<'_, '_>) -> bool {
    let mut any = false;
    while let Some(kind) = peek(i) {
        match kind {
            Kind::Comma | Kind::GroupComma | Kind::And | Kind::Quad | Kind::NewLine | Kind::Dot => {
                if next(i).is_err() {
                    return any;
                }
                any = true;
            }
            _ => break,
        }
    }
    any
}

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

fn negated(term: Expr) -> Expr {
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
            Some(_) if letter_is_unit(i, &factors) => break,
            Some(kind) if juxtaposed(i, kind, &factors) => {
                let fraction = kind == Kind::Frac;
                let factor = factor(i)?;
                push_beside(&mut factors, factor, fraction);
            }
            _ => break,
        }
        if chain > LONGEST_CHAIN {
            return Err(Failure::Budget);
        }
    }
    unit(i, point(factors))
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
    match factors.pop() {
        Some(Expr::Number(whole)) if fraction && whole.is_whole() && proper(&factor) => {
            factors.push(Expr::Mixed(Box::new(Expr::Number(whole)), Box::new(factor)));
        }
        last => {
            factors.extend(last);
            factors.push(factor);
        }
    }
}

/// `A(1, 2)` is a point with its name.
fn point(mut factors: Vec<Expr>) -> Expr {
    if let [Expr::Symbol(name), Expr::Bracketed(_, items, _)] = factors.as_slice()
        && items.len() > 1
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && let (Some(place), Some(name)) = (factors.pop(), factors.pop())
    {
        return Expr::Relation(Box::new(name), vec![(Relation::Equal, place)]);
    }
    one_or(Expr::Product, factors)
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
