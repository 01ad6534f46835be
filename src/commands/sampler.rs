//! A model with its engine and tokenizer, for the commands that sample.

use std::path::Path;
use std::sync::Arc;

use counterpoint_generator::{Engine, EngineOptions, Noise, detokenizer};
use counterpoint_policy::{ChatOptions, Kind, Snapshot, Tokenizer, checkpoint, device};
use counterpoint_rollout::{PolicyVersion, Purpose};

use super::published::checked;
use crate::error::Failure;

/// An idle engine and what belongs to it.
pub(super) struct Sampler {
    pub(super) engine: Engine,
    pub(super) tokenizer: Tokenizer,
}

impl Sampler {
    /// Loads a model directory, whose chats become text as `chat` says; `options` gets its tokenizer.
    pub(super) fn load(
        dir: &Path,
        on: &str,
        chat: &ChatOptions,
        options: impl FnOnce(&Tokenizer) -> EngineOptions,
    ) -> Result<Self, Failure> {
        let device = device::choose(on).map_err(Failure::usage)?;
        let dir = &checked(dir)?;
        let tokenizer = Tokenizer::with_options(dir, chat).map_err(Failure::usage)?;
        let options = options(&tokenizer);
        options.check().map_err(Failure::usage)?;
        let (model, flat) = checkpoint::load(dir, Kind::Float, device).map_err(Failure::usage)?;
        let context = usize::try_from(model.max_positions).unwrap_or(usize::MAX);
        if options.max_new_tokens >= context {
            return Err(Failure::Usage(format!(
                "max_new_tokens: {} leave no room for a prompt in the model's context of {context} tokens",
                options.max_new_tokens
            )));
        }
        let snapshot = Snapshot::new(Arc::new(model), PolicyVersion::default(), flat).map_err(Failure::failed)?;
        let engine = Engine::new(Arc::new(snapshot), options, detokenizer(&tokenizer)).map_err(Failure::failed)?;
        Ok(Self { engine, tokenizer })
    }
}

/// The noise of the command line's samples.
pub(super) fn noise(seed: u64) -> Noise {
    Noise { seed, purpose: Purpose::Cli, epoch: 0, attempt: 0 }
}
