//! Verifiers: who says which of a group's answers are right.
//!
//! **Contract.** A [`Verifier`] gets a [`Question`] (the prompt with its truth, and the texts of the answers) and returns one
//! verdict per answer, in order. It may be slow, hang, panic or answer nonsense: each of these costs a
//! [`Void`](Verdict::Void) verdict and never an `Incorrect` one, since a fault of the verifier must not teach the model.
//!
//! **From the name to the judgement.** [`VerifierConfig`] (section `[verifier]`) names a kind; the [`Registry`] builds it from
//! its options; [`Judge`] asks it, under a deadline and on the right threads; [`VerifierPool`] is the actor that lets at most
//! `verifier.workers` groups be judged at once. [`Judge`] needs no actor: `counterpoint verify` and the evaluator use it alone.
//!
//! **Life.** The pool calls [`Verifier::start`] before the first question, which may start processes, and [`Verifier::stop`]
//! when it ends. Kinds made of other verifiers get those from their [`Parts`].
//!
//! **Limits.** A verifier in this process that blocks or loops for ever cannot be killed. Its thread is given up, its slot is
//! free again, and past `verifier.max_abandoned` such threads the pool fails with a clear error. Whoever owns the tokio
//! runtime must end it with `Runtime::shutdown_timeout`: merely dropping a runtime waits for such a thread for ever.
//!
//! A verifier of one's own:
//!
//! ```
//! use std::sync::Arc;
//! use counterpoint_verifier::{Question, Registry, Verdict, Verifier, async_trait};
//!
//! struct Parity;
//!
//! #[async_trait]
//! impl Verifier for Parity {
//!     async fn verify(&self, question: &Question) -> Vec<Verdict> {
//!         let parity = |text: &str| text.trim().parse::<i64>().ok().map(|n| n % 2 == 0);
//!         let truth = parity(question.answer());
//!         question.each(|response| truth.is_some() && parity(response) == truth)
//!     }
//! }
//!
//! let mut registry = Registry::default();
//! registry.register("parity", |_options| Ok(Arc::new(Parity)))?;
//! # Ok::<(), counterpoint_verifier::VerifierError>(())
//! ```
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

mod choice;
mod code;
mod compose;
mod config;
mod contain;
mod countdown;
mod dapo;
mod decimal;
mod error;
mod exact;
mod extract;
mod fence;
mod format;
mod http;
mod json;
mod judge;
mod kinds;
pub mod math;
mod normal;
mod numeric;
mod options;
mod pattern;
mod pause;
mod pool;
mod process;
mod question;
mod queue;
mod registry;
mod scheduler;
mod self_test;
mod votes;

pub use async_trait::async_trait;
pub use choice::{Choice, ChoiceOptions, Numbers};
pub use code::{Code, CodeOptions, Network, WithoutFence};
pub use compose::{
    AllOptions, AnyOptions, BySource, BySourceOptions, Combined, First, FirstOptions, Shadow, ShadowOptions,
    WeightedOptions,
};
pub use config::{Definition, TruncatedPolicy, VerifierConfig};
pub use contain::{Limits, MARKER};
pub use countdown::Countdown;
pub use counterpoint_rollout::{Verdict, VoidReason};
pub use dapo::{Dapo, DapoStyle};
pub use decimal::Decimal;
pub use error::VerifierError;
pub use exact::Exact;
pub use extract::Extract;
pub use format::{Format, FormatOptions};
pub use http::{Dialect, HttpOptions, HttpVerifier, Scores, Secret};
pub use json::{Json, JsonExtract, JsonOptions};
pub use judge::{Judge, Judged, Unfinished};
pub use math::Math;
pub use normal::{Case, Punctuation, UnicodeForm};
pub use numeric::{Numeric, NumericOptions, Percent, Several};
pub use options::parse_options;
pub use pattern::{Decides, GroupName, RegexOptions, RegexVerifier, Take};
pub use pool::{PoolArgs, PoolMsg, VerifierPool};
pub use process::{Process, ProcessOptions};
pub use question::{Home, Mode, Question, Verifier};
pub use queue::Ticket;
pub use registry::{Parts, Registry};
pub use scheduler::{StartVerifier, VerifierActor};
pub use self_test::{Finding, Known, Pace, SelfTest};
pub use votes::Votes;
