//! Joins and splits the numbers that the lexer found: separators of thousands, the decimal comma, `\frac12`.
//!
//! A comma between digits separates thousands or items. It separates thousands where only groups of three digits follow, no
//! space stands beside it, and, inside brackets, other commas with spaces separate the items or a group begins with 0:
//! `1,234` and `(1,000, 2,000)` against `(100,200)` and `32, 349`.

use super::Style;
use super::token::{Kind, Numeral, Token};
use crate::math::Function;

/// The tokens with whole numbers; `alternative` reads a lone comma between digits the other way. Also says whether there was one.
pub(super) fn join<'a>(
    text: &'a str,
    tokens: Vec<Token<'a>>,
    style: Style,
    alternative: bool,
) -> (Vec<Token<'a>>, bool) {
    let tokens = split(tokens);
    let lists = comma_lists(&tokens);
    let mut joined = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        // In `1,23,456` the first comma has shown what commas mean.
        let follows =
            at >= 2 && tokens[at - 1].kind == Kind::Comma && !tokens[at].spaced && digits(&tokens[at - 2]).is_some();
        // `\log_2 125`
        let script = at >= 1 && matches!(tokens[at - 1].kind, Kind::Underscore | Kind::Caret);
        let length = if follows || script { 1 } else { thousands(&tokens[at..], lists[at]).unwrap_or(1) };
        joined.push(merge(text, &tokens[at..at + length], false));
        at += length;
    }
    decimal_comma(text, joined, style, alternative)
}

fn merge<'a>(text: &'a str, tokens: &[Token<'a>], comma: bool) -> Token<'a> {
    let (first, last) = (tokens[0], tokens[tokens.len() - 1]);
    if tokens.len() == 1 {
        return first;
    }
    Token { kind: Kind::Number(Numeral { text: &text[first.at..last.end], comma }), end: last.end, ..first }
}

fn digits<'a>(token: &Token<'a>) -> Option<&'a str> {
    match token.kind {
        Kind::Number(number) => Some(number.text),
        _ => None,
    }
}

/// A group of three digits, a fraction behind it allowed if it is the last; whether there was a fraction.
fn group_of_three(digits: &str) -> Option<bool> {
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let fraction = digits.len() > length;
    (length == 3 && (!fraction || digits[3..].starts_with('.') && digits[4..].bytes().all(|b| b.is_ascii_digit())))
        .then_some(fraction)
}

/// How many tokens make up the number with separated thousands at the front.
fn thousands(tokens: &[Token<'_>], list: CommaList) -> Option<usize> {
    let first = digits(tokens.first()?)?;
    if !matches!(first.len(), 1..=3) || !first.bytes().all(|b| b.is_ascii_digit()) {
        return dotted_thousands(tokens);
    }
    let leading_zero = first.len() > 1 && first.starts_with('0') || first == "0";
    // A separator is one kind throughout.
    let by_comma = matches!(tokens.get(1)?.kind, Kind::Comma | Kind::GroupComma);
    let mut length = 1;
    let mut zeros = false;
    loop {
        let group = match (by_comma, tokens.get(length)) {
            (true, Some(comma)) if comma.kind == Kind::GroupComma || comma.kind == Kind::Comma && !comma.spaced => {
                let grouped = comma.kind == Kind::GroupComma;
                tokens.get(length + 1).filter(|t| grouped || !t.spaced).map(|t| (t, 2))
            }
            (false, Some(number)) if number.spaced => Some((number, 1)),
            _ => None,
        };
        let Some((group, step)) = group else { break };
        let Some(group) = digits(group) else { break };
        let Some(fraction) = group_of_three(group) else {
            // A group of another length shows that the commas separate items.
            return None;
        };
        zeros |= group.starts_with('0');
        length += step;
        if fraction {
            break;
        }
    }
    let plain_comma = tokens[1..length].iter().any(|t| t.kind == Kind::Comma);
    let separates = length > 1 && !leading_zero && (!plain_comma || list.thousands || zeros && length <= 3);
    separates.then_some(length)
}

/// `1.000.000`: two points and more separate thousands.
fn dotted_thousands(tokens: &[Token<'_>]) -> Option<usize> {
    let (whole, group) = digits(tokens.first()?)?.split_once('.')?;
    if !matches!(whole.len(), 1..=3) || group.len() != 3 {
        return None;
    }
    let is_group = |t: &&Token<'_>| !t.spaced && digits(t).is_some_and(|d| d.len() == 4 && d.starts_with('.'));
    let groups = tokens[1..].iter().take_while(is_group).count();
    (groups > 0).then_some(groups + 1)
}

/// What commas mean around a token.
#[derive(Clone, Copy, Default)]
struct CommaList {
    /// One without spaces separates thousands.
    thousands: bool,
}

fn comma_lists(tokens: &[Token<'_>]) -> Vec<CommaList> {
    // Per bracket: its commas with a space beside them. The outermost has no brackets.
    let mut spaced = vec![0_usize];
    let mut group_of = Vec::with_capacity(tokens.len());
    let mut open = vec![0_usize];
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open(_) => {
                open.push(spaced.len());
                spaced.push(0);
            }
            Kind::Close(_) if open.len() > 1 => {
                open.pop();
            }
            _ => {}
        }
        let group = open[open.len() - 1];
        group_of.push(group);
        let separates = token.kind == Kind::Semicolon
            || token.kind == Kind::Comma && (token.spaced || tokens.get(at + 1).is_some_and(|t| t.spaced));
        spaced[group] += usize::from(separates);
    }
    group_of.into_iter().map(|group| CommaList { thousands: group == 0 || spaced[group] > 0 }).collect()
}

/// `3{,}14` always, `3,14` where nothing but a sign, a currency or a unit stands beside it.
fn decimal_comma<'a>(text: &'a str, tokens: Vec<Token<'a>>, style: Style, alternative: bool) -> (Vec<Token<'a>>, bool) {
    let commas = tokens.iter().filter(|t| matches!(t.kind, Kind::Comma | Kind::Semicolon | Kind::And)).count();
    let mut joined = Vec::with_capacity(tokens.len());
    let mut ambiguous = false;
    let mut at = 0;
    while at < tokens.len() {
        let taken = match &tokens[at..] {
            [a, comma, b, ..] if is_integer(a) && is_integer(b) && comma.kind == Kind::GroupComma => 3,
            [a, comma, b, ..]
                if is_integer(a)
                    && is_integer(b)
                    && comma.kind == Kind::Comma
                    && !comma.spaced
                    && !b.spaced
                    && commas == 1
                    && !tokens.iter().any(|t| matches!(t.kind, Kind::Open(_) | Kind::Close(_) | Kind::GroupOpen)) =>
            {
                ambiguous = true;
                if (style == Style::Prose) == alternative { 1 } else { 3 }
            }
            _ => 1,
        };
        joined.push(merge(text, &tokens[at..at + taken], taken == 3));
        at += taken;
    }
    (joined, ambiguous)
}

fn is_integer(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::Number(number) if number.is_digits())
}

/// TeX's arguments without braces are one digit long: `\frac12`, `\binom52`, `\log_28`.
fn split(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let mut out: Vec<Token<'_>> = Vec::with_capacity(tokens.len() + 4);
    for (at, token) in tokens.iter().enumerate() {
        let argument = match out.as_slice() {
            [.., last] if matches!(last.kind, Kind::Frac | Kind::Binom) => true,
            [.., log, under] if log.kind == Kind::Function(Function::Log) && under.kind == Kind::Underscore => {
                !tokens.get(at + 1).is_some_and(|next| next.kind.starts_operand())
            }
            _ => false,
        };
        match token.kind {
            Kind::Number(number) if argument && number.is_digits() && number.text.len() > 1 => {
                let (first, rest) = number.text.split_at(1);
                let part = |text| Kind::Number(Numeral { text, comma: false });
                out.push(Token { kind: part(first), end: token.at + 1, ..*token });
                out.push(Token { kind: part(rest), at: token.at + 1, spaced: false, ..*token });
            }
            _ => out.push(*token),
        }
    }
    out
}
