//! `[data]`: where the questions come from.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Files;

/// `[data]`: the questions. Columns that make no question reach the verifier as the prompt's `info`. configs/DATA.md shows every
/// schema.
///
/// ```
/// use counterpoint_data::DataConfig;
///
/// let config: DataConfig = toml::from_str(
///     r#"
///     train = ["data/part-*.parquet", "more.jsonl.gz"]
///     answer_column = "reward_model.ground_truth"
///     eval_share = 0.02
///     on_error = "skip"
///     "#,
/// )
/// .unwrap();
/// let mut errors = Vec::new();
/// config.validate(&mut errors);
/// assert_eq!(errors, [""; 0]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Training questions: a JSONL (also .gz, .zst) or Parquet file, a directory of them, a glob, or a list of these. Required
    /// unless `data.task` is set. Relative to the current directory.
    #[serde(skip_serializing_if = "Files::is_empty")]
    pub train: Files,
    /// Held-out questions for evaluations, given like `data.train`; without it and `data.eval_share` there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<Files>,
    /// Share of the training questions that is held out for evaluations instead, above 0 and at most 0.5; equal questions go to
    /// the same side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_share: Option<f64>,
    /// Seed of the choice by `data.eval_share`. At most 2^63 - 1.
    pub split_seed: u64,
    /// Column of the question, a text or an array of chat messages `{"role", "content"}`; dots lead into nested columns. Without
    /// it known schemas are recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_column: Option<String>,
    /// Column of the true answer, a text or a number, as in "reward_model.ground_truth". Without it known schemas are recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_column: Option<String>,
    /// What part of that column is the answer: all of it, what follows the last "####" (hashes), the last "\boxed" (boxed).
    pub answer_from: AnswerFrom,
    /// Column of the question's unique id (text or whole number); without it ids are "FILE-NAME:LINE".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_column: Option<String>,
    /// Column whose text names a question's source, by which verifiers can be chosen; the file's name where there is none.
    pub source_column: String,
    /// Put before every question as a system message; a text question then becomes a chat of system and user message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Whether a text question becomes the user message of a chat, as instruction-tuned models want it.
    pub as_chat: bool,
    /// Leaves out questions with more tokens than this, chat template included. Not set: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompt_tokens: Option<u64>,
    /// What a row that is no question does: "stop" the run with the first ten named, or be left out and counted ("skip").
    pub on_error: OnError,
    /// Questions are held in memory up to this many MiB of text; a larger data set is read again from disk row by row.
    pub memory_mib: u64,
    /// Makes questions instead of reading them; `data.train` must then be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<crate::tasks::Task>,
    /// How hard those questions are, and how many.
    #[serde(skip_serializing_if = "crate::tasks::TaskOptions::is_default")]
    pub task_options: crate::tasks::TaskOptions,
}

/// What part of the column is the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswerFrom {
    /// What the schema says: the end of a worked solution, all of anything else.
    #[default]
    Auto,
    /// All of it.
    Whole,
    /// What follows the last `####`.
    Hashes,
    /// The content of the last `\boxed`.
    Boxed,
}

/// What becomes of a row that is no question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// Nothing is read; the first ten such rows are named.
    #[default]
    Stop,
    /// It is left out and counted.
    Skip,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Files::default(),
            eval: None,
            eval_share: None,
            split_seed: 0,
            prompt_column: None,
            answer_column: None,
            answer_from: AnswerFrom::Auto,
            id_column: None,
            source_column: "data_source".to_owned(),
            system_prompt: None,
            as_chat: false,
            max_prompt_tokens: None,
            on_error: OnError::Stop,
            memory_mib: 256,
            task: None,
            task_options: crate::tasks::TaskOptions::default(),
        }
    }
}

impl DataConfig {
    /// Whether the config asks for held-out questions.
    pub fn holds_out(&self) -> bool {
        self.eval.is_some() || self.eval_share.is_some() || self.task.is_some() && self.task_options.held_out > 0
    }

    /// Pushes one message per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        self.validate_origin(errors);
        if self.split_seed > i64::MAX as u64 {
            errors.push(format!("data.split_seed: must be at most {}, got {}", i64::MAX, self.split_seed));
        }
        if let Some(share) = self.eval_share.filter(|share| !(*share > 0.0 && *share <= 0.5)) {
            errors.push(format!("data.eval_share: must be above 0 and at most 0.5, got {share}"));
        }
        if self.max_prompt_tokens == Some(0) {
            errors.push("data.max_prompt_tokens: must be at least 1, got 0".to_owned());
        }
        let columns = [
            ("prompt_column", self.prompt_column.as_ref()),
            ("answer_column", self.answer_column.as_ref()),
            ("id_column", self.id_column.as_ref()),
            ("source_column", Some(&self.source_column)),
        ];
        for (key, column) in columns {
            if column.is_some_and(String::is_empty) {
                errors.push(format!("data.{key}: must name a column, got an empty text"));
            }
        }
    }

    fn validate_origin(&self, errors: &mut Vec<String>) {
        match (&self.task, self.train.is_empty()) {
            (None, true) => {
                errors.push("data.train: is required: name a file of questions (or set data.task)".to_owned())
            }
            (Some(_), false) => errors.push("data.train: cannot be set beside data.task; drop one of them".to_owned()),
            _ => {}
        }
        if self.eval.as_ref().is_some_and(Files::is_empty) {
            errors.push(
                "data.eval: must name a file, got an empty text; leave the key out for no evaluations".to_owned(),
            );
        }
        if self.eval.is_some() && self.eval_share.is_some() {
            errors.push("data.eval_share: cannot be set beside data.eval; drop one of them".to_owned());
        }
        match &self.task {
            Some(task) => self.task_options.validate(*task, errors),
            None if !self.task_options.is_default() => {
                errors.push("data.task_options: are of no use without data.task".to_owned());
            }
            None => {}
        }
        if self.task.is_some() {
            if self.eval_share.is_some() {
                errors.push("data.eval_share: is for files; a task has data.task_options.held_out".to_owned());
            }
            if self.eval.is_some() && self.task_options.held_out > 0 {
                errors.push(
                    "data.eval: set data.task_options.held_out = 0 beside it: a task holds out its own".to_owned(),
                );
            }
        }
    }

    /// What to call the training data in a message.
    pub fn train_name(&self) -> String {
        match self.task {
            Some(task) => format!("data.task = \"{task}\""),
            None => self.train.to_string(),
        }
    }

    /// One file, with everything else at its default.
    pub fn of_file(path: &Path) -> Self {
        Self { train: path.into(), ..Self::default() }
    }
}
