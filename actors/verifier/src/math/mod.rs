//! The kind `math`: finds the final answer in a completion and compares it with the truth by meaning.
//!
//! Three steps, each pure: `extract` finds the text of the final answer, `latex` parses it to an [`Expr`], `compare` decides
//! whether two of them mean the same. Every step draws on one [`Budget`].

mod budget;
mod compare;
mod expr;
mod extract;
mod judge;
mod latex;
mod print;
mod verifier;

pub use budget::{Budget, DEEPEST, LARGEST_BITS, LONGEST_TEXT, MOST_TERMS, OverBudget};
pub use compare::{Compare, Rule, equal};
pub use expr::{Bracket, Constant, Expr, Function, Number, Relation};
pub(crate) use extract::closing_brace;
pub use extract::{Candidate, Method, Search, conclusion};
pub use judge::{Answer, Judgement, Math, Reason, Truth};
pub use latex::{ParseError, Reading, Style, parse, read};
