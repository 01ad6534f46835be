use std::sync::Arc;
use std::time::Duration;

use counterpoint_policy::kernels::WeightFormat;
use counterpoint_policy::{PolicyError, Tokenizer};
use counterpoint_rollout::{Completion, DropReason, GroupId, NoiseKey, PolicyVersion, Prompt, Purpose};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Filters, GeneratorError};

/// One group to sample, as the engine sees it: tokens and noise.
#[derive(Clone, Debug)]
pub struct Request {
    /// The group's number; names it in events.
    pub group: GroupId,
    /// The prompt's tokens, at least one.
    pub prompt: Vec<u32>,
    /// One noise key per answer: there are as many answers as keys, at least one.
    pub noise: Vec<NoiseKey>,
    /// Sampling must not start with weights older than this. Requests behind this one wait with it.
    pub min_version: PolicyVersion,
}

/// What keys the noise of a group, beside the prompt and the sample: see [`NoiseKey::new`].
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The run's seed.
    pub seed: u64,
    /// What the answers are for.
    pub purpose: Purpose,
    /// Which pass over the data.
    pub epoch: u32,
    /// How often the prompt was given back in this epoch.
    pub attempt: u32,
}

impl Request {
    /// `answers` answers to `prompt`, at any version.
    pub fn new(
        group: GroupId,
        prompt: &Prompt,
        answers: u32,
        noise: Noise,
        tokenizer: &Tokenizer,
    ) -> Result<Self, PolicyError> {
        let Noise { seed, purpose, epoch, attempt } = noise;
        let key = |sample| NoiseKey::new(seed, purpose, epoch, &prompt.id, attempt, sample);
        Ok(Self {
            group,
            prompt: tokenizer.encode_prompt(&prompt.content)?,
            noise: (0..answers).map(key).collect(),
            min_version: PolicyVersion::default(),
        })
    }
}

/// What an engine reports.
#[derive(Debug)]
pub enum Event {
    /// The group's first token was sampled.
    Started {
        /// Which group.
        group: GroupId,
        /// The weights of its first token.
        version: PolicyVersion,
    },
    /// All answers of a group are there.
    Finished(Sampled),
    /// The group is given up.
    Dropped {
        /// Which group.
        group: GroupId,
        /// `TooLong` or `Cancelled`.
        reason: DropReason,
    },
}

/// A group's answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Which group.
    pub group: GroupId,
    /// As submitted.
    pub prompt_tokens: Vec<u32>,
    /// In the order of the request's noise keys.
    pub completions: Vec<Completion>,
    /// The weights of the group's first token.
    pub start_version: PolicyVersion,
}

/// What happens to running sequences when new weights arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSwap {
    /// They go on with the new weights, on the cache that they have; each token's version is recorded.
    #[default]
    Keep,
    /// They go on with the new weights, on a cache that is computed again from their tokens with these weights; what they have
    /// keeps its log-probs and versions.
    Recompute,
    /// They finish with the old weights, nothing starts meanwhile, then the weights are swapped.
    Drain,
}

/// How an engine samples.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Sequences that are sampled at the same time, at least one.
    pub slots: usize,
    /// A longer prompt is dropped.
    pub max_prompt_tokens: usize,
    /// An answer that reaches this many tokens is cut off, at least one.
    pub max_new_tokens: usize,
    /// An answer that the engine has worked on for so long is cut off at the next step, `Length` as the reason; `None`: never.
    pub max_time: Option<Duration>,
    /// While answers run, a step takes at most about so many tokens of prompts, and of sequences whose cache is computed again,
    /// at least one.
    pub prefill_chunk: usize,
    /// With the kernels, memory for keys and values, in bytes; `None`: what the slots come to need.
    pub kv_bytes: Option<u64>,
    /// Whether kernels of our own run the model where they can, instead of libtorch.
    pub kernels: bool,
    /// How the kernels hold the matrices.
    pub kernel_weights: WeightFormat,
    /// Logits are divided by this; 0 takes the likeliest token.
    pub temperature: f64,
    /// What else reshapes the distribution; none for training.
    pub filters: Filters,
    /// What happens to running sequences when new weights arrive.
    pub on_swap: OnSwap,
    /// Tokens that end an answer.
    pub eos_tokens: Vec<u32>,
    /// Texts that end an answer with the token that completes one of them: the token stays, the text is cut before.
    pub stop: Vec<String>,
}

impl EngineOptions {
    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), GeneratorError> {
        let problem = |text: String| Err(GeneratorError::Options(text));
        for (name, value) in [
            ("slots", self.slots),
            ("max_prompt_tokens", self.max_prompt_tokens),
            ("max_new_tokens", self.max_new_tokens),
            ("prefill_chunk", self.prefill_chunk),
        ] {
            if value == 0 {
                return problem(format!("{name} must be at least 1, got 0"));
            }
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return problem(format!("temperature must be a finite number of at least 0, got {}", self.temperature));
        }
        if let Some((name, what)) = self.filters.problems().first() {
            return problem(format!("{name} {what}"));
        }
        if self.stop.iter().any(String::is_empty) {
            return problem("stop: a stop string must not be empty".to_owned());
        }
        Ok(())
    }
}

/// Turns an answer's tokens into text, special tokens left out.
pub type Detokenize = Arc<dyn Fn(&[u32]) -> String + Send + Sync>;

/// The tokenizer's way to do so. What it cannot decode becomes an empty text, with a warning: a verifier calls it wrong.
pub fn detokenizer(tokenizer: &Tokenizer) -> Detokenize {
    let tokenizer = tokenizer.clone();
    Arc::new(move |tokens| {
        tokenizer.decode(tokens, true).unwrap_or_else(|error| {
            tracing::warn!(%error, ?tokens, "an answer cannot be decoded");
            String::new()
        })
    })
}
