//! Sampling: the engine, and the actors around it.
//!
//! * [`Engine`]: continuous batching at token level over a KV cache, as a plain library: submit, step, events. [`sample_all`]
//!   runs a list of requests through it, for `eval` and `generate`.
//! * [`draw`]: one token per row from its distribution and one keyed uniform number.
//! * [`GeneratorActor`]: leases in, groups out, weights swapped between two decode steps.
//! * [`EvaluatorActor`]: how well a snapshot answers held-out prompts.
//!
//! An engine of an actor lives on an OS thread of its own, which measures durations and knows no tokio clock. The tokens of
//! a group depend on its weights and its noise keys, not on what else is sampled (up to float ties).
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

mod actor;
mod backend;
mod config;
mod cpu;
mod engine;
mod error;
mod eval_report;
mod eval_stats;
mod evaluator;
mod filter;
mod kv;
mod probe;
mod request;
mod sample;
mod sample_all;
mod schedule;
mod serve;
mod stop;
mod thread;
mod torch;

pub use actor::{GeneratorActor, GeneratorActorMsg, GeneratorStart, GeneratorState};
pub use config::{EvalConfig, EvalMode, GeneratorConfig};
pub use engine::Engine;
pub use error::GeneratorError;
pub use eval_report::{EvalReport, EvalTally, PassAtK, pass_at_k};
pub use eval_stats::{AnswerScore, Estimate, EvalFigures, PromptScores};
pub use evaluator::{Asked, Evaluate, EvaluatorActor, EvaluatorMsg, EvaluatorStart, EvaluatorState, FIRST_EVAL_GROUP};
pub use filter::Filters;
pub use request::{Detokenize, EngineOptions, Event, Noise, OnSwap, Request, Sampled, detokenizer};
pub use sample::{Drawn, draw};
pub use sample_all::{Outcome, SampleAll, sample_all};
