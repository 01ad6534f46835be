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
}

impl Default for WeightSyncConfig {
    fn default() -> Self {
        Self { every: 1, deadline_seconds: 120.0 }
    }
}

impl WeightSyncConfig {
    /// Pushes one line per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.every == 0 {
            errors.push("weight_sync.every: must be at least 1, got 0".to_owned());
        }
        if !(self.deadline_seconds > 0.0 && self.deadline_seconds <= 1e9) {
            errors.push(format!(
                "weight_sync.deadline_seconds: must be above 0 and at most 1e9, got {}",
                self.deadline_seconds
            ));
        }
    }
}
