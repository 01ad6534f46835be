//! The configuration sections `[feed]` and `[replay]`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[feed]`: which prompts are asked, in which order, and how many make one optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeedConfig {
    /// B: mixed groups per optimiser step. Default 32 (the NFT paper's 512 prompts per rollout in 16 steps).
    pub prompts_per_step: u32,
    /// K: answers sampled per prompt. Default 16 (the NFT paper).
    #[serde(alias = "num_generations", alias = "group_size")]
    pub answers_per_prompt: u32,
    /// Passes over the data. Default: none given, as many as `run.max_steps` needs.
    pub epochs: Option<u32>,
    /// Whether every epoch has its own random order (a function of `run.seed` and the epoch). Default true.
    pub shuffle: bool,
    /// How often a prompt may come back to the feed in one epoch, because its group was lost, cancelled or too old, before it
    /// counts as used and is listed. Default 3.
    pub max_attempts: u32,
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self { prompts_per_step: 32, answers_per_prompt: 16, epochs: None, shuffle: true, max_attempts: 3 }
    }
}

impl FeedConfig {
    /// Pushes one message per value that cannot work. That one answer per prompt teaches nothing is left to whoever looks at the
    /// flow as a whole: such a run starts, and ends with a clear word.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.prompts_per_step == 0 {
            errors.push("feed.prompts_per_step: must be at least 1, got 0".into());
        }
        if self.answers_per_prompt == 0 {
            errors.push("feed.answers_per_prompt: must be at least 2, got 0".into());
        }
        if self.epochs == Some(0) {
            errors
                .push("feed.epochs: must be at least 1, or left out for as many as run.max_steps needs, got 0".into());
        }
    }
}

/// What happens when a batch could be closed but for groups that still run and would become too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStraggler {
    /// Wait for them: nothing sampled is ever thrown away for its age, and long answers are not filtered out.
    #[default]
    Wait,
    /// Cancel exactly those that block; their prompts go back to the feed.
    Drop,
}

/// What becomes of a group some of whose verdicts stay void after `replay.void_retries`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnVoid {
    /// It is dropped: r̂ is always the rate of all K answers.
    #[default]
    Drop,
    /// The answers that were judged make the group, if their scores differ: r̂ is their rate, and only they are trained.
    RateRest,
}

/// `[replay]`: how far sampling may run ahead of training, and how long anything is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayConfig {
    /// η: optimiser steps by which a trained group may be older than the weights it trains. 0 is the synchronous, deterministic
    /// algorithm. Default 4: nearly free with behaviour log-probs in the loss, while 8 was seen to cost quality.
    pub max_staleness: u32,
    /// What to do about groups that hold a full batch up: `wait` (default) or `drop`.
    pub on_straggler: OnStraggler,
    /// Most groups in flight: leased, generating, being verified, ready or with the learner. Bounds the memory of a long buffer;
    /// at least `feed.prompts_per_step`, or no batch would ever be full. Default: none given, what admission allows,
    /// (max_staleness + 1) * prompts_per_step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u64>,
    /// Seconds from a lease until its group must be generated; then the group is dropped as lost. Default 600.
    pub lease_deadline_seconds: f64,
    /// r: how often a group with a void verdict, or whose verdicts were lost, is judged again. Default 1.
    pub void_retries: u32,
    /// What becomes of a group some of whose verdicts stay void: `drop` (default) or `rate_rest`, which trains its other
    /// answers.
    pub on_void: OnVoid,
    /// Share of groups with void verdicts among the last 10·B finished ones above which the run fails; 1 never fails. Default 0.5.
    pub max_void_share: f64,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            max_staleness: 4,
            on_straggler: OnStraggler::Wait,
            max_in_flight: None,
            lease_deadline_seconds: 600.0,
            void_retries: 1,
            on_void: OnVoid::Drop,
            max_void_share: 0.5,
        }
    }
}

impl ReplayConfig {
    /// Pushes one message per value that cannot work.
    pub fn validate(&self, errors: &mut Vec<String>) {
        let seconds = self.lease_deadline_seconds;
        if !(seconds > 0.0 && seconds.is_finite()) {
            errors.push(format!(
                "replay.lease_deadline_seconds: must be a finite number of seconds above 0, got {seconds}"
            ));
        }
        if self.max_in_flight == Some(0) {
            errors.push("replay.max_in_flight: must be at least 1, or left out, got 0".into());
        }
        if !(self.max_void_share > 0.0 && self.max_void_share <= 1.0) {
            errors.push(format!("replay.max_void_share: must be above 0 and at most 1, got {}", self.max_void_share));
        }
    }

    /// `lease_deadline_seconds`; a value that `validate` refuses becomes the longest duration.
    pub fn lease_deadline(&self) -> Duration {
        Duration::try_from_secs_f64(self.lease_deadline_seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let mut errors = Vec::new();
        FeedConfig::default().validate(&mut errors);
        ReplayConfig::default().validate(&mut errors);
        assert_eq!(errors, Vec::<String>::new());
    }

    #[test]
    fn every_bad_value_is_named_with_its_key() {
        let feed = FeedConfig { prompts_per_step: 0, answers_per_prompt: 0, epochs: Some(0), ..FeedConfig::default() };
        let replay = ReplayConfig {
            lease_deadline_seconds: f64::NAN,
            max_in_flight: Some(0),
            max_void_share: 1.5,
            ..ReplayConfig::default()
        };
        let mut errors = Vec::new();
        feed.validate(&mut errors);
        replay.validate(&mut errors);
        let keys: Vec<&str> = errors.iter().filter_map(|e| e.split(':').next()).collect();
        assert_eq!(
            keys,
            [
                "feed.prompts_per_step",
                "feed.answers_per_prompt",
                "feed.epochs",
                "replay.lease_deadline_seconds",
                "replay.max_in_flight",
                "replay.max_void_share"
            ]
        );
    }

    #[test]
    fn the_names_of_other_tools_for_k_are_understood() {
        for key in ["answers_per_prompt", "num_generations", "group_size"] {
            let config: FeedConfig = serde_json::from_str(&format!("{{\"{key}\": 8}}")).unwrap();
            assert_eq!(config.answers_per_prompt, 8, "{key}");
        }
        assert!(serde_json::from_str::<FeedConfig>("{\"answers\": 8}").is_err());
    }
}
