//! The sections that belong to the program itself; the others stand with the actors they configure.

use std::path::PathBuf;

use counterpoint_policy::{ChatOptions, device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `[run]`: where a run lives and when it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Run directory: resolved config, metrics, samples, checkpoints. Relative to the current directory.
    pub dir: PathBuf,
    /// Seed of the data order and of all sampling noise. At most 2^63 - 1, the largest whole number of TOML.
    pub seed: u64,
    /// Optimiser steps after which the run is done.
    pub max_steps: u64,
    /// Ends the run early, as done, when an evaluation reaches this accuracy, in [0, 1]. Needs `data.eval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_accuracy: Option<f64>,
    /// Seconds without any group judged and any step done after which the run stops as stalled, saying what it waited for.
    /// Best longer than `replay.lease_deadline_seconds`, by which a lost group is noticed and sampled again.
    pub stall_seconds: f64,
    /// Where the model runs: "auto" (a CUDA device if there is one, else the CPU), "cpu", "cuda" or "cuda:INDEX".
    pub device: String,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("runs/default"),
            seed: 0,
            max_steps: 100,
            target_accuracy: None,
            stall_seconds: 900.0,
            device: "auto".to_owned(),
        }
    }
}

impl RunConfig {
    /// Pushes one message per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.dir.as_os_str().is_empty() {
            errors.push("run.dir: must name a directory, got an empty text".to_owned());
        }
        if self.seed > i64::MAX as u64 {
            errors.push(format!("run.seed: must be at most {}, got {}", i64::MAX, self.seed));
        }
        if self.max_steps == 0 {
            errors.push("run.max_steps: must be at least 1, got 0".to_owned());
        }
        if let Some(target) = self.target_accuracy.filter(|t| !(0.0..=1.0).contains(t)) {
            errors.push(format!("run.target_accuracy: must lie between 0 and 1, got {target}"));
        }
        if !(self.stall_seconds > 0.0 && self.stall_seconds <= 1e9) {
            errors.push(format!("run.stall_seconds: must be above 0 and at most 1e9, got {}", self.stall_seconds));
        }
        if !device::is_name(&self.device) {
            errors.push(format!(
                "run.device: must be \"auto\", \"cpu\", \"cuda\" or \"cuda:INDEX\", got {:?}",
                self.device
            ));
        }
    }
}

/// `[model]`: what is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Hugging Face model directory (config.json, safetensors, tokenizer.json). Required. Relative to the current directory.
    pub path: PathBuf,
    /// Type of the weights that are trained; "float32" is the only one so far. What training and sampling compute in is
    /// `learner.compute_dtype`.
    pub dtype: Dtype,
    /// Put as a system message before every chat that begins with none; a question that is a text or tokens stays as it is (see
    /// `data.system_prompt`, which makes chats of texts).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// A file with a chat template (Jinja), instead of the model's own. Relative to the current directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<PathBuf>,
    /// Variables of the chat template, as `enable_thinking = false`; they win over the special tokens that a template sees.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub template_variables: Map<String, Value>,
    /// The day that a chat template's `strftime_now` gives, as "2024-07-26"; without it the day on which the program starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_date: Option<String>,
}

/// Types of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision.
    Float32,
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Float32 => 4,
        }
    }
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            dtype: Dtype::Float32,
            system_prompt: None,
            chat_template: None,
            template_variables: Map::new(),
            template_date: None,
        }
    }
}

impl ModelSection {
    /// Pushes one message per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.path.as_os_str().is_empty() {
            errors.push("model.path: is required: name a Hugging Face model directory".to_owned());
        }
        let ChatOptions { variables, date, .. } = self.chat_options();
        let parts = [
            ("model.template_variables", ChatOptions { variables, ..ChatOptions::default() }),
            ("model.template_date", ChatOptions { date, ..ChatOptions::default() }),
        ];
        for (key, part) in parts {
            if let Err(problem) = part.check() {
                errors.push(format!("{key}: {problem}"));
            }
        }
    }

    /// How chats become text.
    pub fn chat_options(&self) -> ChatOptions {
        ChatOptions {
            system_prompt: self.system_prompt.clone(),
            template: self.chat_template.clone(),
            variables: self.template_variables.clone(),
            date: self.template_date.clone(),
        }
    }
}

/// `[telemetry]`: what a run shows of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Whether to serve /metrics, /healthz, /readyz, /status and the status page.
    pub enabled: bool,
    /// Address or name to listen on. Anything but loopback lets other machines read the run's status.
    pub host: String,
    /// Port to listen on; 0 takes any free one. The bound address is written to `address` in the run directory.
    pub port: u16,
    /// Judged groups written to samples.jsonl per optimiser step.
    pub samples_per_step: u32,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { enabled: true, host: "127.0.0.1".to_owned(), port: 9184, samples_per_step: 8 }
    }
}

impl TelemetryConfig {
    /// Pushes one message per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.host.is_empty() {
            errors.push(
                "telemetry.host: must name an address, got an empty text; \"127.0.0.1\" is the usual one".to_owned(),
            );
        }
    }
}
