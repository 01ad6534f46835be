//! Questions made on the spot: verifiable data at hand, deterministic by seed, with a held-out part that shares no question.
//!
//! Equal questions in another dress (`2 + 3` and `3 + 2`, a word and its reversal) count as the same when sides are chosen, so
//! that what is evaluated was not trained on.

mod build;
mod make;
mod options;
mod rng;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use build::{Made, make};
pub use options::{Operation, TaskOptions};

/// The tasks that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// `What is 12 + 7?`: sums, differences, products and quotients without remainder, `*` and `/` first.
    Arithmetic,
    /// Reach a target with each given number once and + - * /. Needs the verifier `countdown`.
    Countdown,
    /// Letters in reverse order.
    Reverse,
    /// Numbers in ascending order.
    Sort,
    /// The larger of two numbers, with `decimals` digits behind the point. Guessing is right half the time.
    Compare,
    /// How often a letter occurs.
    CountLetters,
    /// The remainder of a division.
    Remainder,
    /// A number in binary.
    Binary,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Arithmetic,
        Self::Countdown,
        Self::Reverse,
        Self::Sort,
        Self::Compare,
        Self::CountLetters,
        Self::Remainder,
        Self::Binary,
    ];

    /// As the config names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Countdown => "countdown",
            Self::Reverse => "reverse",
            Self::Sort => "sort",
            Self::Compare => "compare",
            Self::CountLetters => "count_letters",
            Self::Remainder => "remainder",
            Self::Binary => "binary",
        }
    }

    /// The kind of verifier that suits its answers, with that kind's default options.
    pub fn verifier(self) -> &'static str {
        match self {
            Self::Countdown => "countdown",
            Self::Reverse | Self::Sort | Self::Binary => "exact",
            Self::Arithmetic | Self::Compare | Self::CountLetters | Self::Remainder => "math",
        }
    }

    /// The question's text where the options give none.
    pub fn template(self) -> &'static str {
        match self {
            Self::Arithmetic => "What is {input}? Answer with the number only.",
            Self::Countdown => {
                "Use each of the numbers {input} exactly once, with + - * / and parentheses, to make {target}. Answer with the \
                 expression only."
            }
            Self::Reverse => "Write the letters {input} in reverse order. Answer with the letters only.",
            Self::Sort => {
                "Sort the numbers {input} in ascending order. Answer with the numbers only, separated by commas."
            }
            Self::Compare => "Which number is larger, {input} or {other}? Answer with the number only.",
            Self::CountLetters => "How often does the letter {letter} occur in {input}? Answer with the number only.",
            Self::Remainder => {
                "What is the remainder when {input} is divided by {divisor}? Answer with the number only."
            }
            Self::Binary => "Write {input} in binary. Answer with the digits only.",
        }
    }

    /// What a template of this task must hold in braces.
    pub fn places(self) -> &'static [&'static str] {
        match self {
            Self::Arithmetic | Self::Reverse | Self::Sort | Self::Binary => &["input"],
            Self::Countdown => &["input", "target"],
            Self::Compare => &["input", "other"],
            Self::CountLetters => &["input", "letter"],
            Self::Remainder => &["input", "divisor"],
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
