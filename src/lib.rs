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
pub mod http;
pub mod rundir;
pub mod runtime;
pub mod status;

pub use app::App;
pub use counterpoint_rollout::{Verdict, VoidReason};

/// What a verifier of one's own is made of.
pub mod verifier {
    pub use counterpoint_verifier::{Mode, Question, Registry, Verifier, VerifierError, async_trait, parse_options};
}
