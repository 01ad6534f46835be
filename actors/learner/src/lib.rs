//! The learner: from batches of judged groups to new weights.
//!
//! * [`objective`]: losses over flat, packed token log-probabilities; [`ObjectiveConfig`] chooses one.
//! * [`evaluate_case`]: the same losses on one JSON line, in float64: what `counterpoint loss` runs.
//! * [`pack`](mod@pack): a batch as rows `[prompt | answer 1 | answer 2 ...]` in micro-batches of bounded size.
//! * [`AdamW`], [`Schedule`]: the optimiser on the flat parameter buffer.
//! * [`Learner`]: one optimiser step as a plain call, without any actor; [`Engine`] runs it on a thread of its own, and
//!   [`LearnerActor`] feeds that thread.
//! * [`checkpoint`]: complete or absent; a Hugging Face directory with what a resume needs beside the weights.
//!
//! A step changes the parameters only after its loss and its gradient were found finite, so a step that fails leaves the
//! weights of the version before it. Micro-batches bound memory and change nothing else: every normaliser of a loss is
//! computed over the whole batch. Limits: the logits of one micro-batch are held whole (trained tokens × vocabulary).
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]
#![forbid(unsafe_code)]

mod actor;
pub mod checkpoint;
mod config;
mod decay;
mod engine;
mod error;
mod grad_norms;
mod head;
mod inspect;
mod learner;
mod measure;
pub mod objective;
mod off_policy;
mod optimizer;
pub mod pack;
mod regularise;
mod report;
mod route;
mod schedule;
mod trunk;
mod turns;

pub use actor::{LearnerActor, LearnerActorMsg, LearnerArgs, SaveState};
pub use checkpoint::{Additions, CheckpointConfig, CheckpointStore, Extra, LoadedCheckpoint, SavedDtype};
pub use config::{ComputeDtype, LearnerConfig, OldLogprobs, OnNotFinite};
pub use decay::WeightDecayGroups;
pub use engine::{Command, Engine, EngineEvent, EngineSettings, SaveRequest};
pub use error::LearnerError;
pub use head::HEAD_CHUNK;
pub use learner::{Learner, LearnerSetup};
pub use objective::case::{CaseResult, evaluate_case};
pub use objective::{Objective, ObjectiveConfig};
pub use optimizer::{AdamW, AdamWSettings, OptimizerState, Piece, clip_scale, norms};
pub use schedule::{DecayType, LrSchedulerType, Schedule};
