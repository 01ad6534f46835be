//! The whole answer: the label of a choice, groups between semicolons, lists.

use super::grammar::item;
use super::groups::as_tuple;
use super::input::{Failure, Input, Parsed, accept, fail, input, next, peek, peek_at, rest};
use super::literals::whole_number;
use super::token::{Fence, Kind, Token};
use crate::math::compare::{INTEGER_MARK, substituted};
use crate::math::{Budget, Expr, Relation};

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
        // `3/7, or about 0.43` is one value, said twice.
        let again = matches!(peek(i), Some(Kind::Word("about" | "approximately" | "roughly")));
        let exact = if again { items.pop() } else { None };
        if let Some(exact) = exact {
            next(i)?;
            items.push(Expr::Relation(Box::new(exact), vec![(Relation::Approximately, item(i)?)]));
        } else {
            let item = item(i)?;
            push_item(&mut items, item);
        }
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
pub(super) fn condition_follows(i: &Input<'_, '_>) -> bool {
    const WORDS: &[&str] = &["where", "for", "with", "when", "if", "provided"];
    match rest(i) {
        [word, after @ ..] => {
            matches!(word.kind, Kind::Word(word) if WORDS.contains(&word))
                && after.iter().take(16).any(|t| matches!(t.kind, Kind::Relation(_)))
        }
        [] => false,
    }
}

/// `k\pi, k \in \mathbb{Z}` are the multiples of π: that the parameter is an integer its name then says.
fn drop_parameters(items: &mut Vec<Expr>) {
    let name = match items.split_last() {
        Some((Expr::Text(words), before)) => integer_in_words(words, before),
        Some((last, _)) => integer_parameter(last),
        None => None,
    };
    if let Some(name) = name
        && items[0] != Expr::Symbol(name.clone())
        && items[..items.len() - 1].iter().any(|item| mentions(item, &name))
    {
        items.pop();
        let marked = Expr::Symbol(format!("{name}{INTEGER_MARK}"));
        for item in items {
            *item = substituted(item, &name, &marked);
        }
    }
}

/// `where k is an integer`: the name, which must occur before.
fn integer_in_words(words: &str, before: &[Expr]) -> Option<String> {
    let mut words = words.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    if !words.clone().any(|word| word == "integer" || word == "integers") {
        return None;
    }
    let is_name = |word: &&str| word.chars().count() == 1 && before.iter().any(|item| mentions(item, word));
    words.find(is_name).map(str::to_owned)
}

/// `k \in \mathbb{Z}`: the name.
fn integer_parameter(item: &Expr) -> Option<String> {
    match item {
        Expr::Relation(name, chain) => match (&**name, chain.as_slice()) {
            (Expr::Symbol(name), [(Relation::In, Expr::NumberSet('Z' | 'N'))]) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// `2k\pi (k \in \mathbb{Z})`: the condition in brackets behind a term becomes an item of its own.
fn push_item(items: &mut Vec<Expr>, mut item: Expr) {
    let value = match &mut item {
        Expr::Relation(_, chain) => chain.last_mut().map(|(_, side)| side),
        value => Some(value),
    };
    let term = match value {
        Some(Expr::Sum(terms)) => terms.last_mut(),
        other => other,
    };
    let term = match term {
        Some(Expr::Negate(term)) => Some(&mut **term),
        other => other,
    };
    let mut condition = None;
    if let Some(Expr::Product(factors)) = term
        && factors.len() > 1
        && factors.last().and_then(integer_parameter).is_some()
    {
        condition = factors.pop();
        if factors.len() == 1 {
            factors.push(whole_number(1));
        }
    }
    items.push(item);
    items.extend(condition);
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
