//! One file per command of the program.

mod calibrate;
pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod eval;
pub(crate) mod generate;
mod jsonl;
pub(crate) mod loss;
pub(crate) mod merge;
mod published;
mod rates;
pub(crate) mod run;
mod sampler;
pub(crate) mod schema;
pub(crate) mod score;
pub(crate) mod sft;
mod trainer;
pub(crate) mod verify;
