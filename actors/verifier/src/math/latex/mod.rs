//! LaTeX and plain text to [`Expr`]: `repair` rewrites oddities, `lexer` makes tokens, `numerals` joins numbers, the grammar
//! reads them.
//!
//! Bounded: texts longer than [`LONGEST_TEXT`], nesting deeper than [`DEEPEST`] and more work than the [`Budget`] allows are
//! refused. Recursion is counted, so no text overflows the stack.

mod commands;
mod functions;
mod grammar;
mod groups;
mod input;
mod lexer;
mod lists;
mod literals;
mod numerals;
mod operands;
mod products;
mod repair;
mod scripts;
#[cfg(test)]
mod tests;
mod token;
mod words;

use input::Failure;
use token::{Fence, Kind, Token};

use super::{Budget, DEEPEST, Expr, LONGEST_TEXT, OverBudget};

/// Why a text is no mathematics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is too long, too deep or too much work.
    #[error("over budget: longer, deeper or more work than a judgement may cost")]
    Budget,
    /// It has another form than answers have.
    #[error("unexpected {found} at byte {at}")]
    Syntax {
        /// Where, in bytes, in the text (as repaired, which differs from the original only after rare signs).
        at: usize,
        /// What stands there.
        found: String,
    },
}

impl From<OverBudget> for ParseError {
    fn from(_: OverBudget) -> Self {
        Self::Budget
    }
}

/// Where a text comes from, which decides what is ambiguous in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A formula: `1,2` are two numbers.
    Formula,
    /// Running text: `1,2` is a decimal.
    Prose,
}

impl Style {
    /// The style of a text that could be either: a formula if it has any mark of LaTeX.
    pub fn of(text: &str) -> Self {
        let marked = text.contains(['\\', '{', '^', '_']) || text.matches('$').nth(1).is_some();
        if marked { Self::Formula } else { Self::Prose }
    }
}

/// What a text means.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The meaning that is most likely.
    pub expr: Expr,
    /// Some mark in it has a second meaning, which [`read`] gives with `alternative` (`1/2x`, `1,2`, `5 m`).
    pub ambiguous: bool,
}

/// Parses an answer.
///
/// # Errors
/// [`ParseError`] if it is over budget, or neither mathematics nor words.
pub fn parse(text: &str, budget: &mut Budget) -> Result<Expr, ParseError> {
    read(text, Style::of(text), false, budget).map(|reading| reading.expr)
}

/// Parses an answer in a given style. `alternative` reads what is ambiguous the other way.
///
/// # Errors
/// [`ParseError`] if it is over budget, or neither mathematics nor words.
pub fn read(text: &str, style: Style, alternative: bool, budget: &mut Budget) -> Result<Reading, ParseError> {
    if text.len() > LONGEST_TEXT {
        return Err(ParseError::Budget);
    }
    let text = &*repair::repair(text);
    let tokens = strip_layout(systems(lexer::tokens(text, budget)?));
    let (tokens, commas) = numerals::join(text, tokens, style, alternative);
    let meant = conclusion(&tokens);
    let (result, marks) = lists::answer(text, meant, alternative, budget);
    match result {
        Ok(expr) if within_depth(&expr, DEEPEST) => Ok(Reading { expr, ambiguous: commas || marks }),
        Ok(_) | Err(Failure::Budget) => Err(ParseError::Budget),
        Err(Failure::Syntax(_)) if has_words(&tokens) => {
            Ok(Reading { expr: Expr::Text(as_words(text, &tokens)), ambiguous: false })
        }
        Err(Failure::Syntax(left)) => {
            let token = tokens.len().checked_sub(left).and_then(|at| tokens.get(at));
            Err(ParseError::Syntax {
                at: token.map_or(text.len(), |t| t.at),
                found: token.map_or_else(|| "end".into(), |t| format!("`{}`", &text[t.at..t.end])),
            })
        }
    }
}

/// `\left\{\begin{array}…\end{array}\right.`: a brace on one side only makes the rows a system or a distinction of cases.
fn systems(mut tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let mut at = 0;
    while at + 1 < tokens.len() {
        if let (Kind::Open(Fence::Curly), Kind::Begin(name)) = (tokens[at].kind, tokens[at + 1].kind)
            && let Some(length) = tokens[at..].iter().position(|token| token.kind == Kind::End(name))
            && tokens.get(at + length + 1).is_none_or(|after| after.kind != Kind::Close(Fence::Curly))
        {
            if matches!(name, "array" | "matrix") {
                tokens[at + 1].kind = Kind::Begin("cases");
                tokens[at + length].kind = Kind::End("cases");
            }
            tokens.remove(at);
        }
        at += 1;
    }
    tokens
}

/// Leaves out the environments that only lay out: what they hold stays.
fn strip_layout(mut tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let layout = |name: &str| {
        matches!(
            name,
            "align"
                | "aligned"
                | "gather"
                | "gathered"
                | "equation"
                | "split"
                | "eqnarray"
                | "center"
                | "math"
                | "displaymath"
        )
    };
    let mut rows = 0_usize;
    tokens.retain(|token| match token.kind {
        Kind::Begin(name) | Kind::End(name) if layout(name) => false,
        Kind::Begin(_) => {
            rows += 1;
            true
        }
        Kind::End(_) => {
            rows = rows.saturating_sub(1);
            true
        }
        Kind::Ampersand => rows > 0,
        _ => true,
    });
    tokens
}

/// What stands behind the last arrow outside all brackets, if anything does.
fn conclusion<'t, 'a>(tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    let mut open = 0_i64;
    let mut start = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open(_) | Kind::GroupOpen | Kind::Begin(_) => open += 1,
            Kind::Close(_) | Kind::GroupClose | Kind::End(_) => open -= 1,
            Kind::Implies if open == 0 && at + 1 < tokens.len() => start = at + 1,
            _ => {}
        }
    }
    &tokens[start..]
}

fn has_words(tokens: &[Token<'_>]) -> bool {
    tokens.iter().any(|t| matches!(t.kind, Kind::Word(_) | Kind::Unknown(_)) || t.text)
}

/// The text without markup, single spaces.
fn as_words(text: &str, tokens: &[Token<'_>]) -> String {
    let mut words = String::with_capacity(text.len());
    for token in tokens.iter().filter(|t| !matches!(t.kind, Kind::GroupOpen | Kind::GroupClose | Kind::Quad)) {
        if token.spaced && !words.is_empty() {
            words.push(' ');
        }
        words.push_str(&text[token.at..token.end]);
    }
    words.truncate(words.trim_end_matches(['.', ' ']).len());
    words
}

/// Whether an expression is nested at most so deep.
fn within_depth(expr: &Expr, left: usize) -> bool {
    let Some(left) = left.checked_sub(1) else { return false };
    let mut fits = true;
    expr.for_each_part(&mut |part| fits = fits && within_depth(part, left));
    fits
}
