//! Sampling: the engine, and the actors around it.
//!
//! * [`Engine`]: continuous batching at token level over a KV cache, as a plain library: submit, step, events.
//! * [`draw`]: one token per row from its distribution and one keyed uniform number.

mod engine;
mod error;
mod kv;
mod request;
mod sample;
mod schedule;

pub use engine::Engine;
pub use error::GeneratorError;
pub use request::{Detokenize, EngineOptions, Event, Noise, OnSwap, Request, Sampled};
pub use sample::{Drawn, draw};
