//! What the lexer makes of a text and the grammar reads.

use crate::math::{Constant, Function, Relation};

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    /// First byte in the source.
    pub(super) at: usize,
    /// First byte behind it.
    pub(super) end: usize,
    /// White space, or a command that makes some, stands before it.
    pub(super) spaced: bool,
    /// It stands inside `\text{…}` and its like.
    pub(super) text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    Number(Numeral<'a>),
    /// A variable, or a word of one letter.
    Letter(char),
    /// A symbol whose name has several letters: `alpha`.
    Name(&'a str),
    Word(&'a str),
    Constant(Constant),
    Function(Function),
    /// `\operatorname{cis}`: cosine plus i sine.
    Cis,
    /// `\lg`.
    LogTen,
    Frac,
    Binom,
    Sqrt,
    Cbrt,
    /// `\overline`, `\bar`, `\dot`: a conjugate, a segment, the digits that repeat.
    Overline,
    /// `\sum`, `\int`, `\lim`, …
    Big(&'a str),
    NumberSet(char),
    EmptySet,
    Plus,
    Minus,
    PlusMinus,
    MinusPlus,
    Times,
    Divide,
    Modulo,
    Colon,
    Caret,
    Underscore,
    Prime,
    Bang,
    Percent,
    Degree,
    Relation(Relation),
    /// `\implies`, `\Rightarrow`: what follows is what was meant.
    Implies,
    /// `\to`.
    Arrow,
    Union,
    Intersection,
    SetMinus,
    Comma,
    /// A comma that never separates items: `{,}` and `,\!`.
    GroupComma,
    Semicolon,
    /// `and`, `or`.
    And,
    /// Wide space: separates what could not stand side by side.
    Quad,
    Dot,
    Dots,
    Currency(&'a str),
    Open(Fence),
    Close(Fence),
    /// `|`, and which side it bounds where that was written (`\left|`, `\rvert`).
    Bar(Side),
    /// `\|`.
    DoubleBar(Side),
    /// `\mid`, `\middle|`.
    Mid,
    /// `\boxed`: the group behind it is an answer of its own.
    Boxed,
    /// `{` that groups.
    GroupOpen,
    GroupClose,
    Begin(&'a str),
    End(&'a str),
    Ampersand,
    NewLine,
    Over,
    Choose,
    /// Any other character.
    Unknown(char),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fence {
    Round,
    Square,
    /// `\{`.
    Curly,
    Angle,
    Floor,
    Ceil,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Either,
}

/// A number as written. Separators may stand among its digits; all but the decimal mark are ignored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Numeral<'a> {
    pub(super) text: &'a str,
    /// The decimal mark is the comma.
    pub(super) comma: bool,
}

impl Numeral<'_> {
    /// Only digits, without separators or a decimal mark.
    pub(super) fn is_digits(&self) -> bool {
        self.text.bytes().all(|b| b.is_ascii_digit())
    }
}

impl Kind<'_> {
    /// Whether an operand can begin with it.
    pub(super) fn starts_operand(&self) -> bool {
        use Kind::*;
        matches!(
            self,
            Number(_)
                | Letter(_)
                | Name(_)
                | Constant(_)
                | Function(_)
                | LogTen
                | Cis
                | Frac
                | Binom
                | Sqrt
                | Cbrt
                | Overline
                | Big(_)
                | NumberSet(_)
                | EmptySet
                | Dots
                | Open(_)
                | Bar(Side::Left | Side::Either)
                | DoubleBar(Side::Left | Side::Either)
                | Boxed
                | GroupOpen
                | Begin(_)
        )
    }
}
