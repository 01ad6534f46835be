//! What the grammar reads from: the tokens with the state of one parse.

use winnow::error::ParserError;
use winnow::prelude::*;
use winnow::stream::{Stateful, TokenSlice};
use winnow::token::any;

use super::token::{Kind, Token};
use crate::math::{Budget, DEEPEST, Expr};

pub(super) type Input<'t, 'a> = Stateful<TokenSlice<'t, Token<'a>>, State<'t, 'a>>;

pub(super) type Parsed<T = Expr> = Result<T, Failure>;

/// Why a parse failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Budget,
    /// How many tokens were left.
    Syntax(usize),
}

impl<'t, 'a> ParserError<Input<'t, 'a>> for Failure {
    type Inner = Self;

    fn from_input(input: &Input<'t, 'a>) -> Self {
        // A budget used up is the cause of whatever went wrong.
        if input.state.budget.left() == 0 { Self::Budget } else { Self::Syntax(input.input.len()) }
    }

    fn is_backtrack(&self) -> bool {
        matches!(self, Self::Syntax(_))
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

#[derive(Debug)]
pub(super) struct State<'t, 'a> {
    pub(super) text: &'a str,
    pub(super) budget: &'t mut Budget,
    /// How deep the parser has recursed.
    depth: usize,
    pub(super) within: Within,
    /// Read what is ambiguous the less likely way.
    pub(super) alternative: bool,
    /// Something ambiguous was met.
    pub(super) ambiguous: bool,
}

/// What is open around the current token, up to the nearest bracket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Within {
    /// An absolute value: a bar closes it.
    pub(super) bars: bool,
    /// The left part of a set: a bar or colon ends it.
    pub(super) builder: bool,
    /// An interval: `[` may close it.
    pub(super) bracket: bool,
}

pub(super) fn input<'t, 'a>(
    text: &'a str,
    tokens: &'t [Token<'a>],
    alternative: bool,
    budget: &'t mut Budget,
) -> Input<'t, 'a> {
    let within = Within::default();
    let state = State { text, budget, depth: 0, within, alternative, ambiguous: false };
    Stateful { input: TokenSlice::new(tokens), state }
}

/// The tokens that are left.
pub(super) fn rest<'i, 'a>(i: &'i Input<'_, 'a>) -> &'i [Token<'a>] {
    &i.input
}

/// The next token's kind.
pub(super) fn peek<'a>(i: &Input<'_, 'a>) -> Option<Kind<'a>> {
    i.input.first().map(|token| token.kind)
}

/// The kind of the token behind the next `n`.
pub(super) fn peek_at<'a>(i: &Input<'_, 'a>, n: usize) -> Option<Kind<'a>> {
    i.input.get(n).map(|token| token.kind)
}

/// Takes the next token, whatever it is.
pub(super) fn next<'a>(i: &mut Input<'_, 'a>) -> Parsed<Token<'a>> {
    i.state.budget.spend(1).map_err(|_| Failure::Budget)?;
    any.parse_next(i).copied()
}

/// Takes the next token if it is of the kind.
pub(super) fn accept(i: &mut Input<'_, '_>, kind: Kind<'_>) -> bool {
    let found = peek(i) == Some(kind);
    found && next(i).is_ok()
}

/// Takes the next token, which must be of the kind.
pub(super) fn expect<'a>(i: &mut Input<'_, 'a>, kind: Kind<'_>) -> Parsed<Token<'a>> {
    if peek(i) == Some(kind) { next(i) } else { fail(i) }
}

pub(super) fn fail<T>(i: &Input<'_, '_>) -> Parsed<T> {
    Err(Failure::from_input(i))
}

/// Goes one level deeper, with other brackets around if `within` says so.
pub(super) fn nested<'t, 'a, T>(
    i: &mut Input<'t, 'a>,
    within: Within,
    parser: impl FnOnce(&mut Input<'t, 'a>) -> Parsed<T>,
) -> Parsed<T> {
    if i.state.depth >= DEEPEST {
        return Err(Failure::Budget);
    }
    i.state.depth += 1;
    let outer = std::mem::replace(&mut i.state.within, within);
    let result = parser(i);
    i.state.within = outer;
    i.state.depth -= 1;
    result
}
