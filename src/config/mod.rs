//! One run's settings: a TOML file, dotted overrides from the command line, and every mistake named at once.
//!
//! [`load`] goes through four gates, and reports all problems of the first gate that finds any: the syntax; the keys and
//! types, against the JSON Schema that the structs generate; the values; the relations between them. A message names file
//! and line (or the command line), the key, and what would be right. Relative paths in a config are relative to the current
//! directory.

mod diff;
mod document;
mod hints;
mod reference;
mod relations;
mod schema;
mod sections;

use std::fmt;
use std::path::Path;

use counterpoint_generator::{EvalConfig, GeneratorConfig};
use counterpoint_learner::{CheckpointConfig, LearnerConfig, ObjectiveConfig};
use counterpoint_policy::LoraConfig;
use counterpoint_replay::{FeedConfig, ReplayConfig};
use counterpoint_verifier::{Registry, VerifierConfig};
use counterpoint_weight_sync::WeightSyncConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use counterpoint_data::DataConfig;
pub use diff::refuse_changes;
pub use reference::reference;
pub use sections::{Dtype, ModelSection, RunConfig, TelemetryConfig};

use document::Document;
use schema::Schema;

/// All settings of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where a run lives and when it ends.
    pub run: RunConfig,
    /// What is trained.
    pub model: ModelSection,
    /// The questions.
    pub data: DataConfig,
    /// How questions become groups and batches.
    pub feed: FeedConfig,
    /// How answers are sampled.
    pub generator: GeneratorConfig,
    /// How answers are judged.
    pub verifier: VerifierConfig,
    /// How old, how many and how long groups may be before they are trained.
    pub replay: ReplayConfig,
    /// The optimiser and its memory.
    pub learner: LearnerConfig,
    /// Low-rank adapters instead of all parameters.
    pub lora: LoraConfig,
    /// The loss.
    pub objective: ObjectiveConfig,
    /// When new weights reach the generators.
    pub weight_sync: WeightSyncConfig,
    /// When and how accuracy is measured.
    pub eval: EvalConfig,
    /// When the run's state is saved.
    pub checkpoint: CheckpointConfig,
    /// What the run shows of itself.
    pub telemetry: TelemetryConfig,
}

/// What is wrong with a config: one line per problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Each with its place, key and what would be right.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// The settings as TOML, every default written out.
    pub fn to_toml(&self) -> String {
        // Cannot fail for a validated config: every key is a string, every number fits i64 or f64, and sections are structs.
        toml::to_string(self).unwrap_or_else(|e| format!("# could not be written as TOML: {e}\n"))
    }

    /// Every problem of values and relations but those of [`Self::stalls`]; each message starts with its key. `registry` knows the kinds of verifier.
    pub fn problems(&self, registry: &Registry) -> Vec<String> {
        let mut errors = Vec::new();
        self.run.validate(&mut errors);
        self.model.validate(&mut errors);
        self.data.validate(&mut errors);
        self.feed.validate(&mut errors);
        self.generator.validate(&mut errors);
        self.verifier.validate(&mut errors);
        registry.validate(&self.verifier, &mut errors);
        self.replay.validate(&mut errors);
        self.learner.validate(&mut errors);
        self.lora.validate(&mut errors);
        self.objective.validate(&mut errors);
        self.weight_sync.validate(&mut errors);
        self.eval.validate(&mut errors);
        self.checkpoint.validate(&mut errors);
        self.telemetry.validate(&mut errors);
        relations::validate(self, &mut errors);
        errors
    }

    /// Why no step would ever be trained, though every setting is possible: each message starts with its key, and has the
    /// numbers and what would flow.
    pub fn stalls(&self) -> Vec<String> {
        let mut errors = Vec::new();
        relations::flow(self, &mut errors);
        errors
    }
}

/// The JSON Schema of the config.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

/// Reads a config file and applies `KEY=VALUE` overrides. `registry` knows the kinds of verifier.
pub fn load(path: &Path, overrides: &[String], registry: &Registry) -> Result<Config, ConfigError> {
    parse(&path.display().to_string(), &read(path)?, overrides, registry)
}

/// The `[verifier]` section of a config file; the others need only be well formed.
pub fn load_verifier(path: &Path, registry: &Registry) -> Result<VerifierConfig, ConfigError> {
    let (Config { verifier, .. }, document) = typed(&path.display().to_string(), &read(path)?, &[])?;
    let mut errors = Vec::new();
    verifier.validate(&mut errors);
    registry.validate(&verifier, &mut errors);
    gate(document.located(keyed(errors)))?;
    Ok(verifier)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| ConfigError { problems: vec![format!("{file}: {e}")] })?;
    String::from_utf8(bytes).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|b| **b == b'\n').count();
        ConfigError { problems: vec![format!("{file}:{line}: not valid UTF-8; save the file as UTF-8")] }
    })
}

/// The same for a text that stands in `file`.
pub fn parse(file: &str, text: &str, overrides: &[String], registry: &Registry) -> Result<Config, ConfigError> {
    let (config, document) = typed(file, text, overrides)?;
    let problems = [config.problems(registry), config.stalls()].concat();
    gate(document.located(keyed(problems)))?;
    Ok(config)
}

/// As [`load`], and lets pass what cannot flow, with the messages that would have refused it.
pub fn load_forced(
    path: &Path,
    overrides: &[String],
    registry: &Registry,
) -> Result<(Config, Vec<String>), ConfigError> {
    let (config, document) = typed(&path.display().to_string(), &read(path)?, overrides)?;
    gate(document.located(keyed(config.problems(registry))))?;
    let stalls = config.stalls();
    Ok((config, document.located(keyed(stalls))))
}

/// Settings that a run recorded: keys and types are checked, values are not, since they were when the run began.
pub(crate) fn recorded(file: &str, text: &str) -> Result<Config, ConfigError> {
    typed(file, text, &[]).map(|(config, _)| config)
}

/// The first two gates.
fn typed(file: &str, text: &str, overrides: &[String]) -> Result<(Config, Document), ConfigError> {
    let schema = Schema::new(json_schema());
    let mut document = Document::parse(file, text).map_err(|problems| ConfigError { problems })?;
    gate(overrides.iter().filter_map(|o| document.set(o, |key| schema.is_text(key)).err()).collect())?;
    // What serde takes is right, aliases included. What it refuses is told by the schema, which finds every mistake.
    let config = serde_path_to_error::deserialize(document.table().clone()).or_else(|e| {
        gate(schema.check(&document))?;
        let key = e.path().to_string();
        let message = e.into_inner().message().trim().replace('\n', ", ");
        Err(ConfigError { problems: vec![format!("{}{key}: {message}", document.place(&key))] })
    })?;
    Ok((config, document))
}

/// Messages with the key that each starts with.
fn keyed(messages: Vec<String>) -> Vec<(String, String)> {
    messages.into_iter().map(|m| (m.split(':').next().unwrap_or_default().to_owned(), m)).collect()
}

fn gate(problems: Vec<String>) -> Result<(), ConfigError> {
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[model]\npath = \"m\"\n\n[data]\ntrain = \"t.jsonl\"\n";

    fn parse(file: &str, text: &str, overrides: &[String]) -> Result<Config, ConfigError> {
        super::parse(file, text, overrides, &Registry::default())
    }

    fn problems(extra: &str, overrides: &[&str]) -> Vec<String> {
        let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
        parse("a.toml", &format!("{GOOD}{extra}"), &overrides).map_or_else(|e| e.problems, |_| Vec::new())
    }

    #[test]
    fn the_shortest_config_is_accepted_and_survives_a_round_trip() {
        let config = parse("a.toml", GOOD, &[]).unwrap();
        assert_eq!(parse("b.toml", &config.to_toml(), &[]).unwrap(), config);
    }

    #[test]
    fn variables_of_the_chat_template_are_read_and_may_not_change_in_a_run() {
        let text = "[model]\npath = \"m\"\ntemplate_variables = { enable_thinking = false, day = \"1 Jan\" }\n\n[data]\ntrain = \"t\"\n";
        let config = parse("a.toml", text, &[]).unwrap();
        assert_eq!(parse("b.toml", &config.to_toml(), &[]).unwrap(), config);
        let variables = &config.model.chat_options().variables;
        assert_eq!(
            serde_json::to_value(variables).unwrap(),
            serde_json::json!({"enable_thinking": false, "day": "1 Jan"})
        );
        let other = parse("a.toml", text, &["model.template_variables.enable_thinking=true".to_owned()]).unwrap();
        let refused = refuse_changes(&config, &other);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].starts_with("model.template_variables.enable_thinking: "), "{refused:?}");
        let errors = problems("", &["model.template_date=\"today\"", "model.template_variables.messages=1"]);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors.iter().any(|e| e.contains("model.template_date: ") && e.contains("2024-07-26")), "{errors:?}");
        assert!(errors.iter().any(|e| e.contains("model.template_variables: ")), "{errors:?}");
    }

    #[test]
    fn what_is_required_is_asked_for() {
        let errors = parse("a.toml", "", &[]).unwrap_err().problems;
        assert_eq!(
            errors,
            [
                "a.toml: model.path: is required: name a Hugging Face model directory",
                "a.toml: data.train: is required: name a file of questions (or set data.task)"
            ]
        );
    }

    #[test]
    fn every_unknown_key_is_named_at_once_with_its_line_and_the_nearest_known_one() {
        let errors = problems("[generator]\ntemprature = 1.0\n[lerner]\n[run]\nlearning_rate = 1.0\n", &["run.sed=1"]);
        assert_eq!(errors.len(), 4, "{errors:#?}");
        let has = |text: &str| assert!(errors.iter().any(|e| e == text), "{text} in {errors:#?}");
        has("a.toml:7: unknown key \"generator.temprature\": did you mean \"generator.temperature\"?");
        has("a.toml:8: unknown key \"lerner\": did you mean \"learner\"?");
        has("a.toml:10: unknown key \"run.learning_rate\": did you mean \"learner.learning_rate\"?");
        has("command line: unknown key \"run.sed\": did you mean \"run.seed\"?");
    }

    #[test]
    fn a_second_name_that_a_section_declares_is_taken() {
        assert_eq!(problems("[objective]\nweight = \"1\"\n", &[]), Vec::<String>::new());
        let errors = problems("[objective]\nweight = \"2\"\n", &[]);
        assert!(errors[0].starts_with("a.toml:7: objective.weight: expected \"one\" or "), "{errors:?}");
    }

    #[test]
    fn names_of_other_trainers_are_explained() {
        let errors = problems("[generator]\ntop_p = 0.9\n[learner]\nper_device_train_batch_size = 4\n", &[]);
        assert!(
            errors[0].contains("a.toml:7: unknown key \"generator.top_p\": training samples with temperature only"),
            "{errors:?}"
        );
        assert!(errors[1].contains("use learner.micro_batch_tokens"), "{errors:?}");
    }

    #[test]
    fn every_wrong_type_is_named_at_once() {
        let errors = problems("[run]\nseed = \"x\"\nmax_steps = -1\n[telemetry]\nenabled = 1\nport = 99999\n", &[]);
        assert_eq!(
            errors,
            [
                "a.toml:7: run.seed: expected a whole number, got \"x\"",
                "a.toml:8: run.max_steps: expected a whole number that is not negative, got -1",
                "a.toml:10: telemetry.enabled: expected true or false, got 1",
                "a.toml:11: telemetry.port: expected a whole number up to 65535, got 99999",
            ]
        );
        let dtype = problems("", &["model.dtype=bfloat16"]);
        assert_eq!(dtype, ["command line: model.dtype: expected \"float32\", got \"bfloat16\""]);
    }

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let errors =
            problems("[run]\nmax_steps = 0\ntarget_accuracy = 60\ndevice = \"gpu\"\n", &["feed.answers_per_prompt=1"]);
        assert!(errors.len() >= 4, "{errors:#?}");
        assert_eq!(errors[0], "a.toml:7: run.max_steps: must be at least 1, got 0");
    }

    #[test]
    fn a_publish_interval_that_cannot_flow_is_refused() {
        let errors = problems("", &["weight_sync.every=6", "replay.max_staleness=4"]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("command line: weight_sync.every: 6 with replay.max_staleness = 4 cannot flow"));
        assert!(problems("", &["weight_sync.every=5", "replay.max_staleness=4"]).is_empty());
    }

    #[test]
    fn each_key_has_a_description_in_the_schema() {
        let schema = Schema::new(json_schema());
        let root = json_schema();
        for (section, table) in schema.properties(&root) {
            for (key, leaf) in schema.properties(table) {
                assert!(leaf.get("description").is_some(), "{section}.{key} has no doc comment");
            }
        }
    }
}
