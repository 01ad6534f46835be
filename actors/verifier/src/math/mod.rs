//! The kind `math`: finds the final answer in a completion and compares it with the truth by meaning.
//!
//! Three steps, each pure: `extract` finds the text of the final answer, `latex` parses it to an [`Expr`], `compare` decides
//! whether two of them mean the same. Every step draws on one [`Budget`].

mod budget;
mod expr;

pub use budget::{Budget, DEEPEST, LARGEST_BITS, LONGEST_TEXT, MOST_TERMS, OverBudget};
pub use expr::{Bracket, Constant, Expr, Function, Number, Relation};
