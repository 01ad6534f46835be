//! The nouns that every actor of Counterpoint shares, and the messages that cross from one actor to another.
//!
//! This crate knows nobody: no tensor library, no async runtime, no actor framework. What it holds is plain data, so a
//! verifier or a replay buffer can be built and tested in seconds, and so that a message can be read without knowing who
//! sends it.
//!
//! * [`Prompt`], [`Completion`], [`Group`], [`ScoredGroup`], [`Batch`]: what flows.
//! * [`Lease`]: the right to sample one group; nothing exists without one.
//! * [`GroupState`], [`DropReason`]: where a group can be, and why it can end untrained.
//! * [`contract`]: the messages between actors; [`Reply`] is how one answers.
//! * [`NoiseKey`]: counter-based sampling noise.
//! * [`telemetry`]: every metric's name, unit, help and buckets, and the only functions that record one.
//! * [`invariant`]: what must always hold, each rule with an id.
//! * [`convertible!`], [`panic_text`]: glue that actors share.
#![forbid(unsafe_code)]

pub mod clock;
pub mod contract;
mod glue;
mod group;
pub mod invariant;
mod noise;
mod prompt;
mod prompt_set;
mod reply;
mod state;
pub mod telemetry;
mod verdict;

pub use contract::{GeneratorId, GeneratorMsg, VerifierMsg, VerifyRequest};
pub use glue::panic_text;
pub use group::{Batch, Completion, FinishReason, Group, GroupId, Lease, PolicyVersion, ScoredGroup, VersionSpan};
pub use noise::{NoiseKey, Purpose};
pub use prompt::{ChatMessage, Prompt, PromptContent};
pub use prompt_set::PromptSet;
pub use reply::{Lost, Reply};
pub use state::{DropReason, GroupState};
pub use verdict::{Verdict, VoidReason};
