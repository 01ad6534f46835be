use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use counterpoint_policy::{Device, Kind, Threads};

use crate::decay::WeightDecayGroups;
use crate::{DecayType, LrSchedulerType};

/// Section `[learner]`: the optimiser and the size of its work. Defaults are the paper's where it has one (arXiv
/// 2505.18116, appendix, and the scripts of its reference code).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LearnerConfig {
    /// Peak learning rate of AdamW. Default 1e-6 (the paper, 7B and 32B); small models want 1e-4 and more.
    pub learning_rate: f64,
    /// How the learning rate goes on after the warm-up: `constant` (default, the paper); `linear` or `cosine` down to
    /// `min_lr_ratio` at `run.max_steps`; `warmup_stable_decay` (or `wsd`): constant, and down over the last `decay_share`.
    pub lr_scheduler_type: LrSchedulerType,
    /// Optimiser steps of linear warm-up; the first of them already moves. Default 0. (The paper: 10 rollout steps = 160
    /// optimiser steps.)
    pub warmup_steps: u64,
    /// Where a falling learning rate ends, as a share of `learning_rate`. Default 0.
    pub min_lr_ratio: f64,
    /// The last share of `run.max_steps`, over which `warmup_stable_decay` falls. Default 0.2.
    pub decay_share: f64,
    /// How `warmup_stable_decay` falls: `linear` (default), `cosine` or `1-sqrt`.
    pub decay_type: DecayType,
    /// What becomes of a step whose loss or gradient is NaN or infinite: `stop` (default) ends the run, with the batch saved
    /// beside its metrics for inspection; `skip` leaves weights and optimiser as they were, counts the step and goes on, up
    /// to ten times in a row.
    pub on_not_finite: OnNotFinite,
    /// π_old of the objective's likelihood ratio: `behaviour` (default): the policy that sampled each token; `decoupled`: the
    /// weights before this step (the proximal policy), with proximal over behaviour as an importance weight on each token's
    /// gradient (AReaL, arXiv 2505.24298).
    pub old_logprobs: OldLogprobs,
    /// The importance weight of `decoupled` is cut off at this. Default 5.0.
    pub importance_cap: f64,
    /// Whether to report the gradient's norm by layer too. Default false.
    pub grad_norm_by_layer: bool,
    /// Decoupled weight decay on matrices; norms and biases have none. Default 0.1 (the paper).
    pub weight_decay: f64,
    /// Decay of groups that shall have another: `{ embeddings = 0.0, norms_and_biases = 0.0 }`; embeddings include the output
    /// projection. Default: none.
    pub weight_decay_groups: WeightDecayGroups,
    /// Tensors that are not trained: words of their names, as `["embed_tokens", "layers.0", "mlp.down_proj"]`. Default: none.
    /// They take no decay, and no memory for gradients and moments; what is published is as large as ever ([lora] makes it small).
    pub frozen: Vec<String>,
    /// Decay of AdamW's mean gradient. Default 0.9.
    pub adam_beta1: f64,
    /// Decay of AdamW's mean squared gradient. Default 0.999.
    pub adam_beta2: f64,
    /// Added to the root in AdamW's denominator. Default 1e-8.
    pub adam_epsilon: f64,
    /// The gradient of the whole model is scaled down to this L2 norm if it is longer. Default 1.0 (the paper).
    pub max_grad_norm: f64,
    /// Tokens of one forward and backward pass. Bounds memory; changes no result. A single answer longer
    /// than this still goes through, alone. Default: 16384 on a GPU, 2048 on a CPU, whose caches hold no more (the tiny policy
    /// trains 1.6 times as many tokens per second with 2048 as with 16384).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<usize>,
    /// Whether to keep only what each layer reads and compute the rest again in backward: the activations of one layer instead of
    /// all, for a third more work. Changes no result. Default false.
    pub activation_checkpointing: bool,
    /// Number format of the forward and backward passes: `"float32"`, `"bfloat16"`, or `"auto"` (default): bfloat16 on a GPU,
    /// float32 on a CPU. Weights, gradients, optimiser and checkpoints are float32 always, and so are log-softmax, log-probs and
    /// the loss. Generators then compute in the same format; the log-probs of the two still differ by bfloat16's rounding (up to
    /// some hundredths), since sampling and training multiply in different shapes.
    pub compute_dtype: ComputeDtype,
    /// Whether kernels of our own go through the layers where they can (a CPU, float32, all parameters trained); false: libtorch
    /// everywhere. Default: true.
    pub kernels: bool,
    /// CPU threads of the learner's tensor operations: `"auto"` (default; the runtime shares the cores out) or a number.
    pub threads: Threads,
    /// Batches that may be queued ahead of the one being trained. Default 1; 0 lets the learner wait for each.
    pub prefetch: usize,
}

/// In which number format passes compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// What the device gains from.
    Auto,
    /// IEEE single precision.
    Float32,
    /// The upper half of it.
    Bfloat16,
}

/// What becomes of a step that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNotFinite {
    /// The run ends; the batch is saved.
    Stop,
    /// The step changes nothing and counts.
    Skip,
}

/// What the objective's ratio is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OldLogprobs {
    /// The policy that sampled.
    Behaviour,
    /// The weights before this step.
    Decoupled,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-6,
            lr_scheduler_type: LrSchedulerType::Constant,
            warmup_steps: 0,
            min_lr_ratio: 0.0,
            decay_share: 0.2,
            decay_type: DecayType::Linear,
            on_not_finite: OnNotFinite::Stop,
            old_logprobs: OldLogprobs::Behaviour,
            importance_cap: 5.0,
            grad_norm_by_layer: false,
            weight_decay: 0.1,
            weight_decay_groups: WeightDecayGroups::default(),
            frozen: Vec::new(),
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            micro_batch_tokens: None,
            activation_checkpointing: false,
            compute_dtype: ComputeDtype::Auto,
            kernels: true,
            threads: Threads::AUTO,
            prefetch: 1,
        }
    }
}

impl LearnerConfig {
    /// Tokens of a micro-batch on a device.
    pub fn micro_batch_tokens_on(&self, device: Device) -> usize {
        self.micro_batch_tokens.unwrap_or(if device.is_cuda() { 16_384 } else { 2048 })
    }

    /// The number format of passes on a device.
    pub fn compute_kind_on(&self, device: Device) -> Kind {
        match self.compute_dtype {
            ComputeDtype::Auto if device.is_cuda() => Kind::BFloat16,
            ComputeDtype::Auto | ComputeDtype::Float32 => Kind::Float,
            ComputeDtype::Bfloat16 => Kind::BFloat16,
        }
    }

    /// Pushes one line per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        let mut require = |ok: bool, key: &str, rule: &str, got: &dyn std::fmt::Display| {
            if !ok {
                errors.push(format!("learner.{key}: must be {rule}, got {got}"));
            }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        require(positive(self.learning_rate), "learning_rate", "> 0", &self.learning_rate);
        require((0.0..=1.0).contains(&self.min_lr_ratio), "min_lr_ratio", "in [0, 1]", &self.min_lr_ratio);
        require((0.0..=1.0).contains(&self.decay_share), "decay_share", "in [0, 1]", &self.decay_share);
        require(positive(self.importance_cap), "importance_cap", "> 0", &self.importance_cap);
        require(self.weight_decay.is_finite() && self.weight_decay >= 0.0, "weight_decay", ">= 0", &self.weight_decay);
        let WeightDecayGroups { embeddings, norms_and_biases } = self.weight_decay_groups;
        for (key, rate) in [("embeddings", embeddings), ("norms_and_biases", norms_and_biases)] {
            let rate = rate.unwrap_or(0.0);
            let key = format!("weight_decay_groups.{key}");
            require(rate.is_finite() && rate >= 0.0, &key, ">= 0", &rate);
        }
        require((0.0..1.0).contains(&self.adam_beta1), "adam_beta1", "in [0, 1)", &self.adam_beta1);
        require((0.0..1.0).contains(&self.adam_beta2), "adam_beta2", "in [0, 1)", &self.adam_beta2);
        require(positive(self.adam_epsilon), "adam_epsilon", "> 0", &self.adam_epsilon);
        require(positive(self.max_grad_norm), "max_grad_norm", "> 0", &self.max_grad_norm);
        require(self.micro_batch_tokens != Some(0), "micro_batch_tokens", "at least 1", &0);
        self.threads.validate("learner.threads", errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_a_number_or_the_word_auto() {
        let read = |text: &str| serde_json::from_str::<LearnerConfig>(text).map(|c| c.threads);
        assert_eq!(read(r#"{"threads": "auto"}"#).unwrap(), Threads::AUTO);
        assert_eq!(read(r#"{"threads": 3}"#).unwrap(), Threads::Count(3));
        assert!(read(r#"{"threads": "many"}"#).is_err());
    }

    #[test]
    fn every_problem_is_reported_under_its_key() {
        let mut errors = Vec::new();
        LearnerConfig::default().validate(&mut errors);
        assert_eq!(errors, Vec::<String>::new());
        let bad = LearnerConfig {
            learning_rate: f64::NAN,
            adam_beta2: 1.0,
            threads: Threads::Count(0),
            ..Default::default()
        };
        bad.validate(&mut errors);
        assert_eq!(
            errors,
            [
                "learner.learning_rate: must be > 0, got NaN",
                "learner.adam_beta2: must be in [0, 1), got 1",
                "learner.threads: must be \"auto\" or between 1 and 1024, got 0",
            ]
        );
    }
}
