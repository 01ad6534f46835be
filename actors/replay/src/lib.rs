//! The replay actor: the hub through which every group passes, and the owner of every wait for one.
//!
//! ```text
//! feed -> admission -> lease -> generator -> replay -> verifier -> replay -> buffer -> batch -> learner
//! ```
//!
//! * [`ReplayActor`] is a thin shell with the messages; [`core::ReplayCore`] makes all decisions and can be driven by hand.
//! * [`feed`]: the stream of prompts over epochs. [`admission`]: which lease may be issued. [`ledger`]: the account of every
//!   group. [`batch`]: when a batch may be closed, with the proof that nothing gets too old and nothing deadlocks. [`cut`]: what a
//!   checkpoint holds.
//!
//! Limits: at most (η + 1)·B groups are in flight, and memory is proportional to these, the prompts and one epoch's order. The
//! actor keeps no state outside itself: if it dies, the run goes on from the last [`Cut`].
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

mod actor;
pub mod admission;
pub mod batch;
mod buffer;
mod config;
pub mod core;
pub mod cut;
mod deadlines;
mod error;
pub mod feed;
mod generators;
pub mod ledger;
mod recent;
mod status;

pub use actor::{ReplayActor, ReplayArgs, ReplayMsg, ReplayState};
pub use buffer::Counts;
pub use config::{FeedConfig, OnStraggler, OnVoid, ReplayConfig};
pub use cut::Cut;
pub use error::ReplayError;
pub use ledger::LedgerTotals;
pub use recent::Outcome;
pub use status::{GeneratorStatus, ReplayStatus};
