use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `[weight_sync]`: how new weights reach the generators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WeightSyncConfig {
    /// n: publish the weights every so many optimiser steps. Default 1. The paper publishes every 16. More than
    /// `replay.max_staleness` + 1 cannot flow and is refused.
    pub every: u64,
    /// Seconds a generator may take to load published weights, the end of running answers included when
    /// `generator.on_swap = "drain"`. Default 120.
    pub deadline_seconds: f64,
    /// A directory in which each publication also appears as a model directory, for other processes: `version-000057` with a
    /// manifest of SHA-256 checksums, complete or absent, and `latest`, a link to the newest. With `lora.publish = "separate"` the
    /// adapter alone. In the number format of `learner.compute_dtype`. Training does not wait for it: where the disk is slow,
    /// publications are skipped; one that fails is tried three times, then the log says so. Of one run; relative to the current
    /// directory. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// How many of the newest publications stay in `directory`, default 2, at least 1.
    pub keep: usize,
}

impl Default for WeightSyncConfig {
    fn default() -> Self {
        Self { every: 1, deadline_seconds: 120.0, directory: None, keep: 2 }
    }
}

impl WeightSyncConfig {
    /// Pushes one line per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.every == 0 {
            errors.push("weight_sync.every: must be at least 1, got 0".to_owned());
        }
        if self.keep == 0 {
            errors.push("weight_sync.keep: must be at least 1, got 0".to_owned());
        }
        if self.directory.as_ref().is_some_and(|directory| directory.as_os_str().is_empty()) {
            errors.push(
                "weight_sync.directory: must name a directory, got an empty text; leave it out for none".to_owned(),
            );
        }
        if !(self.deadline_seconds > 0.0 && self.deadline_seconds <= 1e9) {
            errors.push(format!(
                "weight_sync.deadline_seconds: must be above 0 and at most 1e9, got {}",
                self.deadline_seconds
            ));
        }
    }
}
