use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use counterpoint_policy::Threads;

use crate::LrSchedulerType;

/// Section `[learner]`: the optimiser and the size of its work. Defaults are the paper's where it has one (arXiv
/// 2505.18116, appendix, and the scripts of its reference code).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LearnerConfig {
    /// Peak learning rate of AdamW. Default 1e-6 (the paper, 7B and 32B); small models want 1e-4 and more.
    pub learning_rate: f64,
    /// How the learning rate goes on after the warm-up: `constant` (default, the paper) or `cosine` down to zero at
    /// `run.max_steps`.
    pub lr_scheduler_type: LrSchedulerType,
    /// Optimiser steps of linear warm-up; the first of them already moves. Default 0. (The paper: 10 rollout steps = 160
    /// optimiser steps.)
    pub warmup_steps: u64,
    /// Decoupled weight decay on matrices; norms and biases have none. Default 0.1 (the paper).
    pub weight_decay: f64,
    /// Decay of AdamW's mean gradient. Default 0.9.
    pub adam_beta1: f64,
    /// Decay of AdamW's mean squared gradient. Default 0.999.
    pub adam_beta2: f64,
    /// Added to the root in AdamW's denominator. Default 1e-8.
    pub adam_epsilon: f64,
    /// The gradient of the whole model is scaled down to this L2 norm if it is longer. Default 1.0 (the paper).
    pub max_grad_norm: f64,
    /// Tokens of one forward and backward pass. Bounds memory; changes no result. A single answer longer
    /// than this still goes through, alone. Default 16384.
    pub micro_batch_tokens: usize,
    /// CPU threads of the learner's tensor operations: `"auto"` (default; the runtime shares the cores out) or a number.
    pub threads: Threads,
    /// Batches that may be queued ahead of the one being trained. Default 1; 0 lets the learner wait for each.
    pub prefetch: usize,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-6,
            lr_scheduler_type: LrSchedulerType::Constant,
            warmup_steps: 0,
            weight_decay: 0.1,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            micro_batch_tokens: 16_384,
            threads: Threads::AUTO,
            prefetch: 1,
        }
    }
}

impl LearnerConfig {
    /// Pushes one line per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        let mut require = |ok: bool, key: &str, rule: &str, got: &dyn std::fmt::Display| {
            if !ok {
                errors.push(format!("learner.{key}: must be {rule}, got {got}"));
            }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        require(positive(self.learning_rate), "learning_rate", "> 0", &self.learning_rate);
        require(self.weight_decay.is_finite() && self.weight_decay >= 0.0, "weight_decay", ">= 0", &self.weight_decay);
        require((0.0..1.0).contains(&self.adam_beta1), "adam_beta1", "in [0, 1)", &self.adam_beta1);
        require((0.0..1.0).contains(&self.adam_beta2), "adam_beta2", "in [0, 1)", &self.adam_beta2);
        require(positive(self.adam_epsilon), "adam_epsilon", "> 0", &self.adam_epsilon);
        require(positive(self.max_grad_norm), "max_grad_norm", "> 0", &self.max_grad_norm);
        require(self.micro_batch_tokens > 0, "micro_batch_tokens", "at least 1", &self.micro_batch_tokens);
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
