//! Counterpoint as a library: what the binary does, and what a program with verifiers of its own needs to do the same.
//!
//! [`App`] is the whole program; [`config::load`] and [`runtime::run`] are a training run without a command line.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod app;
pub mod cli;
mod commands;
pub mod config;
pub mod console;
pub mod data;
pub mod error;
mod flow;
pub mod http;
mod lora;
pub mod rundir;
pub mod runtime;
pub mod status;

pub use app::App;
pub use counterpoint_rollout::{Verdict, VoidReason};

/// What an objective of one's own is made of.
pub mod objective {
    pub use counterpoint_learner::LearnerError;
    pub use counterpoint_learner::objective::{Answer, Loss, Objective, Plan, Reduction, Tokens};
    pub use counterpoint_policy::{Kind, Tensor};
    pub use serde_json::{Map, Value};
}

/// What a verifier of one's own is made of, and a verifier actor of one's own.
pub mod verifier {
    pub use counterpoint_rollout::{Group, GroupId, Reply, VerifierMsg, VerifyRequest, convertible};
    pub use counterpoint_verifier::{
        Home, Judge, Judged, Mode, Parts, PoolArgs, Question, Registry, Verifier, VerifierError, async_trait,
        parse_options,
    };
    pub use ractor;
}
