use std::time::Duration;

use counterpoint_policy::kernels::WeightFormat;
use counterpoint_policy::{ModelConfig, Threads, Tokenizer, device};
use counterpoint_rollout::GeneratorId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cpu::least_cache;
use crate::{EngineOptions, Filters, OnSwap};

/// Section `[generator]`: who samples the answers that are trained, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorConfig {
    /// How many generators, each with its own engine and weights. Default: 1.
    pub count: u32,
    /// Where generators run, taken in turn: `["cuda:1", "cuda:2"]` gives one to each of two devices beside the learner's. Names as of
    /// `run.device`. Default: none given, all on `run.device`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Logits are divided by this, in sampling and in training alike; above 0, since without noise all K answers would be
    /// one. Default: 1.0 (NFT, arXiv 2505.18116).
    pub temperature: f64,
    /// Tokens after which an answer is cut off. Default: 128.
    #[serde(alias = "max_completion_length")]
    pub max_new_tokens: usize,
    /// Seconds of an engine's own work, evaluation pauses not counted, after which an answer is cut off with the token that it
    /// has just got, as if it had reached `max_new_tokens`. Where answers end then depends on the machine: two runs are no
    /// longer the same, not even without staleness. Default: none given, no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<f64>,
    /// Tokens beyond which a prompt is not sampled but dropped (`too_long`). Default: 512.
    pub max_prompt_tokens: usize,
    /// Answers that one generator samples at the same time; bounds the memory of its cache. Default: 256.
    pub slots: usize,
    /// Tokens of prompts that are prefilled in one step while answers run, so that a long prompt does not stall them. With the
    /// kernels a prompt is cut where the number is reached, and the answers do not depend on it; without, prompts are run whole
    /// and the number bounds how many, as it does for answers whose cache is computed again (`on_swap = "recompute"`, and after
    /// a suspension). Default: 512.
    pub prefill_chunk: usize,
    /// With the kernels, mebibytes of keys and values that a generator holds at most. Answers begin when there is room for them;
    /// if those that run outgrow it, the youngest are suspended, and computed again when there is room: nothing is lost but
    /// time. Default: none given, what `slots` answers come to need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_memory_mb: Option<u64>,
    /// Whether kernels of our own run the model where they can (a CPU, float32, adapters folded in); false: libtorch
    /// everywhere. They need the memory of the weights once more. Default: true.
    pub kernels: bool,
    /// How the kernels hold the matrices: `float32`, as the learner has them, or `bfloat16`, rounded to eight significant bits, which
    /// takes half the memory and less time where few answers run at once or the model is large. Sampler and learner then differ as
    /// the metrics of the mismatch show; evaluations always use float32. Default: `float32`.
    pub kernel_weights: WeightFormat,
    /// CPU threads of each generator's tensor operations: `"auto"` (the runtime shares the cores out between generators
    /// and learner) or a number. Default: `"auto"`.
    pub threads: Threads,
    /// What happens to running answers when new weights arrive: `keep` (they go on with the new weights on the cache they
    /// have), `recompute` (they go on with the new weights on a cache that is computed again from their tokens, which keep
    /// their log-probs and versions; the longer the answers the longer the pause) or `drain` (they finish with the old ones, and
    /// nothing starts meanwhile). Default: `keep`.
    pub on_swap: OnSwap,
    /// Where `replay.max_staleness` is above 0, after so many finished groups one whose tokens are all of the loaded weights is
    /// scored again with these by libtorch, on a thread of its own: the `logprob_probe` metrics, which say how far sampler and
    /// learner are apart where no trained token does (without staleness all of them do). 0: never. Default: 256.
    pub probe_every: u64,
    /// Texts that end an answer, as the token does that ends a sequence: with the token that completes one of them, which is
    /// still trained; the verifier sees the text before it. Special tokens are no text. Default: none.
    pub stop: Vec<String>,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            count: 1,
            devices: Vec::new(),
            temperature: 1.0,
            max_new_tokens: 128,
            max_seconds: None,
            max_prompt_tokens: 512,
            slots: 256,
            prefill_chunk: 512,
            kv_memory_mb: None,
            kernels: true,
            kernel_weights: WeightFormat::Float32,
            threads: Threads::AUTO,
            on_swap: OnSwap::Keep,
            probe_every: 256,
            stop: Vec::new(),
        }
    }
}

impl GeneratorConfig {
    /// Pushes one message per problem, each starting with the key.
    pub fn validate(&self, errors: &mut Vec<String>) {
        let mut at_least_one = |key: &str, value: usize| {
            if value == 0 {
                errors.push(format!("generator.{key}: must be at least 1, got 0"));
            }
        };
        at_least_one("count", self.count as usize);
        at_least_one("max_new_tokens", self.max_new_tokens);
        at_least_one("max_prompt_tokens", self.max_prompt_tokens);
        at_least_one("slots", self.slots);
        at_least_one("prefill_chunk", self.prefill_chunk);
        self.threads.validate("generator.threads", errors);
        for device in self.devices.iter().filter(|device| !device::is_name(device)) {
            errors.push(format!(
                "generator.devices: each must be \"auto\", \"cpu\", \"cuda\" or \"cuda:INDEX\", got {device:?}"
            ));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            errors.push(format!("generator.temperature: must be > 0, got {}", self.temperature));
        }
        if self.kv_memory_mb == Some(0) {
            errors.push("generator.kv_memory_mb: must be at least 1, got 0".to_owned());
        }
        if let Some(seconds) = self.max_seconds.filter(|seconds| !(*seconds > 0.0 && *seconds <= 1e9)) {
            errors.push(format!("generator.max_seconds: must be above 0 and at most 1e9, got {seconds}"));
        }
        check_stop("generator.stop", &self.stop, errors);
    }

    /// Why the memory for keys and values is too little for this model, if it is: the longest answer must fit beside its prompt.
    pub fn lacks_kv_memory(&self, model: &ModelConfig) -> Option<String> {
        let mebibytes = self.kv_memory_mb.filter(|_| self.kernels)?;
        let needed = least_cache(model, self.max_prompt_tokens, self.max_new_tokens).div_ceil(1 << 20);
        (mebibytes < needed).then(|| {
            format!(
                "generator.kv_memory_mb: {mebibytes} is too little for one answer of generator.max_new_tokens to a prompt of \
                 generator.max_prompt_tokens; it must be at least {needed}"
            )
        })
    }

    /// Where a generator runs, if it is said.
    pub fn device_of(&self, id: GeneratorId) -> Option<&str> {
        let turn = (id.0 as usize).checked_rem(self.devices.len())?;
        self.devices.get(turn).map(String::as_str)
    }

    /// How a generator's engine samples for training.
    pub fn engine_options(&self, tokenizer: &Tokenizer) -> EngineOptions {
        EngineOptions {
            slots: self.slots,
            prefill_chunk: self.prefill_chunk,
            kv_bytes: self.kv_memory_mb.map(|mebibytes| mebibytes.saturating_mul(1 << 20)),
            kernels: self.kernels,
            kernel_weights: self.kernel_weights,
            max_prompt_tokens: self.max_prompt_tokens,
            max_new_tokens: self.max_new_tokens,
            max_time: self.max_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            temperature: self.temperature,
            filters: Filters::default(),
            on_swap: self.on_swap,
            eos_tokens: tokenizer.eos_tokens().to_vec(),
            stop: self.stop.clone(),
        }
    }
}

fn check_stop(key: &str, stop: &[String], errors: &mut Vec<String>) {
    if stop.iter().any(String::is_empty) {
        errors.push(format!("{key}: a stop string must not be empty"));
    }
}

/// Whether training stands still during an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvalMode {
    /// Decoding and learning freeze, and the training clock stops.
    #[default]
    Pause,
    /// Everything goes on; the evaluation takes what cores it gets.
    Overlap,
}

/// Section `[eval]`: how well the policy answers prompts that it is not trained on, now and then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Optimiser steps between two evaluations; 0 evaluates at the start and the end only. Default: 10.
    pub every: u64,
    /// Answers per prompt. Default: 8.
    pub samples: u32,
    /// Logits are divided by this; 0 takes the likeliest token, and then one sample is enough. Default: 1.0.
    pub temperature: f64,
    /// Only so many of the likeliest tokens may be drawn; 0: all. Default: 0.
    pub top_k: u32,
    /// Only the likeliest tokens whose probabilities add up to this may be drawn; 1: all. Default: 1.0.
    pub top_p: f64,
    /// Only tokens at least this share as likely as the likeliest may be drawn; 0: all. Default: 0.0.
    pub min_p: f64,
    /// Divides the positive and multiplies the negative logits of tokens that the prompt or the answer has already; 1 changes
    /// nothing. It comes first, then temperature, top_k, top_p and min_p, as in transformers. Default: 1.0.
    pub repetition_penalty: f64,
    /// Texts that end an answer; see `generator.stop`. Default: as there.
    pub stop: Option<Vec<String>>,
    /// `pause` (training stands still, and its clock with it) or `overlap`. Default: `pause`.
    pub mode: EvalMode,
    /// Tokens after which an answer is cut off. Default: as `generator.max_new_tokens`.
    pub max_new_tokens: Option<usize>,
    /// The first so many prompts only. Default: all.
    pub limit: Option<usize>,
    /// Whether the first evaluation comes before the first step. Default: true.
    pub at_start: bool,
    /// Seconds after which an evaluation is given up. Default: 3600.
    pub timeout_seconds: f64,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            every: 10,
            samples: 8,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop: None,
            mode: EvalMode::Pause,
            max_new_tokens: None,
            limit: None,
            at_start: true,
            timeout_seconds: 3600.0,
        }
    }
}

impl EvalConfig {
    /// Pushes one message per problem, each starting with the key.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.samples == 0 {
            errors.push("eval.samples: must be at least 1, got 0".to_owned());
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            errors.push(format!("eval.temperature: must be >= 0, got {}", self.temperature));
        }
        errors.extend(self.filters().problems().into_iter().map(|(key, what)| format!("eval.{key}: {what}")));
        check_stop("eval.stop", self.stop.as_deref().unwrap_or_default(), errors);
        for (key, value) in [("max_new_tokens", self.max_new_tokens), ("limit", self.limit)] {
            if value == Some(0) {
                errors.push(format!("eval.{key}: must be at least 1, got 0"));
            }
        }
        if !(self.timeout_seconds > 0.0 && self.timeout_seconds <= 1e9) {
            errors.push(format!("eval.timeout_seconds: must be > 0 and at most 1e9, got {}", self.timeout_seconds));
        }
    }

    /// What reshapes the distribution beside the temperature.
    pub fn filters(&self) -> Filters {
        let Self { repetition_penalty, top_k, top_p, min_p, .. } = *self;
        Filters { repetition_penalty, top_k, top_p, min_p }
    }

    /// How the evaluator's engine samples.
    pub fn engine_options(&self, generator: &GeneratorConfig, tokenizer: &Tokenizer) -> EngineOptions {
        EngineOptions {
            max_new_tokens: self.max_new_tokens.unwrap_or(generator.max_new_tokens),
            max_time: None,
            kernel_weights: WeightFormat::Float32,
            temperature: self.temperature,
            filters: self.filters(),
            stop: self.stop.clone().unwrap_or_else(|| generator.stop.clone()),
            on_swap: OnSwap::Keep,
            ..generator.engine_options(tokenizer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_problem_is_named_at_once() {
        let mut errors = Vec::new();
        GeneratorConfig::default().validate(&mut errors);
        EvalConfig::default().validate(&mut errors);
        assert_eq!(errors, Vec::<String>::new());

        GeneratorConfig { count: 0, temperature: 0.0, slots: 0, max_seconds: Some(0.0), ..Default::default() }
            .validate(&mut errors);
        EvalConfig { samples: 0, temperature: f64::NAN, limit: Some(0), timeout_seconds: 0.0, ..Default::default() }
            .validate(&mut errors);
        let keys: Vec<&str> = errors.iter().filter_map(|e| e.split(':').next()).collect();
        let expected = [
            "generator.count",
            "generator.slots",
            "generator.temperature",
            "generator.max_seconds",
            "eval.samples",
            "eval.temperature",
            "eval.limit",
            "eval.timeout_seconds",
        ];
        assert_eq!(keys, expected);
    }
}
