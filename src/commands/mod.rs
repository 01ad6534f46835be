//! One file per command of the program.

pub(crate) mod check;
pub(crate) mod convert;
mod estimate;
pub(crate) mod eval;
pub(crate) mod generate;
mod jsonl;
pub(crate) mod loss;
pub(crate) mod merge;
pub(crate) mod run;
mod sampler;
pub(crate) mod schema;
pub(crate) mod score;
pub(crate) mod sft;
pub(crate) mod verify;
