use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `[checkpoint]`: when a run is saved, and how much of it stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Save every so many optimiser steps, and at the end. Default 50; 0 saves at the end only.
    pub every: u64,
    /// How many checkpoints stay; older ones are removed once a newer one is complete. Default 2, at least 1. One takes
    /// three times the float32 size of the model.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 50, keep: 2 }
    }
}

impl CheckpointConfig {
    /// Pushes one line per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.keep == 0 {
            errors.push("checkpoint.keep: must be at least 1, got 0".to_owned());
        }
    }

    /// Whether the run is saved after optimiser step `step`, counted from 1.
    pub fn due(&self, step: u64) -> bool {
        self.every > 0 && step.is_multiple_of(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_every_so_many_steps_or_never() {
        let due = |every: u64| (1..=6).filter(|s| CheckpointConfig { every, keep: 1 }.due(*s)).collect::<Vec<_>>();
        assert_eq!(due(3), [3, 6]);
        assert_eq!(due(0), Vec::<u64>::new());
        let mut errors = Vec::new();
        CheckpointConfig { every: 0, keep: 0 }.validate(&mut errors);
        assert_eq!(errors, ["checkpoint.keep: must be at least 1, got 0"]);
    }
}
