use std::path::Path;

use counterpoint_policy::checkpoint::{Export, stored_kind};
use counterpoint_policy::{Kind, PolicyError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `[checkpoint]`: when a run is saved, how, and how much of it stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Save every so many optimiser steps, and at the end. Default 50; 0 saves at the end only.
    pub every: u64,
    /// How many of the newest checkpoints stay, default 2, at least 1; the one with the best evaluation stays as well (link
    /// `best`). Older ones are removed once a newer one is complete. One takes three times the float32 size of the model, and
    /// its size in `dtype` on top if that is not float32.
    pub keep: usize,
    /// Save also after an evaluation that beats all before it, so that the best weights seen are kept; not in
    /// `eval.mode = "overlap"`, where training has gone on. Default false.
    pub save_best: bool,
    /// Number format of the weights for others to load: `float32` (default), `bfloat16`, `float16`, or `model`, that of
    /// `model.path`. The run itself goes on from float32 whatever is chosen.
    pub dtype: SavedDtype,
    /// Weights are split into files of at most this size, `"5GB"` by default: a number and `KB`, `MB`, `GB` or `TB` (powers of
    /// 1000).
    pub max_shard_size: String,
}

/// Number formats of saved weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SavedDtype {
    /// IEEE single precision.
    Float32,
    /// The upper half of it.
    Bfloat16,
    /// IEEE half precision.
    Float16,
    /// That of the model that the run starts from.
    Model,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 50, keep: 2, save_best: false, dtype: SavedDtype::Float32, max_shard_size: "5GB".to_owned() }
    }
}

impl CheckpointConfig {
    /// Pushes one line per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.keep == 0 {
            errors.push("checkpoint.keep: must be at least 1, got 0".to_owned());
        }
        if bytes(&self.max_shard_size).is_none() {
            errors.push(format!(
                "checkpoint.max_shard_size: must be a size above 0 such as \"5GB\" or \"200MB\", got {:?}",
                self.max_shard_size
            ));
        }
    }

    /// Whether the run is saved after optimiser step `step`, counted from 1.
    pub fn due(&self, step: u64) -> bool {
        self.every > 0 && step.is_multiple_of(self.every)
    }

    /// How the weights of a run that starts from the model in `source` are written.
    pub fn export(&self, source: &Path) -> Result<Export, PolicyError> {
        let kind = match self.dtype {
            SavedDtype::Float32 => Kind::Float,
            SavedDtype::Bfloat16 => Kind::BFloat16,
            SavedDtype::Float16 => Kind::Half,
            SavedDtype::Model => stored_kind(source)?,
        };
        Ok(Export { kind, max_shard_bytes: bytes(&self.max_shard_size).unwrap_or(Export::DEFAULT_SHARD_BYTES) })
    }
}

/// A size as Hugging Face's tools write it; `None` for anything else, and for less than a byte.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let power = ["KB", "MB", "GB", "TB"].iter().position(|known| unit.eq_ignore_ascii_case(known))?;
    let number: f64 = number.trim_end().parse().ok()?;
    let bytes = number * 1000f64.powi(power as i32 + 1);
    (bytes >= 1.0 && bytes < 2f64.powi(63)).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_every_so_many_steps_or_never() {
        let config = |every: u64| CheckpointConfig { every, keep: 1, ..Default::default() };
        let due = |every: u64| (1..=6).filter(|s| config(every).due(*s)).collect::<Vec<_>>();
        assert_eq!(due(3), [3, 6]);
        assert_eq!(due(0), Vec::<u64>::new());
        let mut errors = Vec::new();
        CheckpointConfig { every: 0, keep: 0, ..Default::default() }.validate(&mut errors);
        assert_eq!(errors, ["checkpoint.keep: must be at least 1, got 0"]);
    }

    #[test]
    fn sizes_are_read_as_hugging_face_reads_them() {
        let read = ["5GB", "200 mb", "1.5KB", "0.001KB", "2TB"].map(bytes);
        assert_eq!(read, [Some(5_000_000_000), Some(200_000_000), Some(1500), Some(1), Some(2_000_000_000_000)]);
        for text in ["", "5", "GB", "-1GB", "0MB", "nanMB", "infGB", "5GiB", "9999999999TB", "\u{e9}"] {
            assert_eq!(bytes(text), None, "{text}");
            let mut errors = Vec::new();
            CheckpointConfig { max_shard_size: text.to_owned(), ..Default::default() }.validate(&mut errors);
            assert_eq!(errors.len(), 1, "{text}");
        }
    }
}
