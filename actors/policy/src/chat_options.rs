//! How chats become text, beyond what the model's directory says.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::PolicyError;
use crate::template;

/// Variables that belong to the chat itself.
const OWN: [&str; 2] = ["messages", "add_generation_prompt"];

/// What a user may set about a model's chat template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// Put as a system message before a chat that begins with none. A prompt that is a text or tokens goes through no template,
    /// and so gets none.
    pub system_prompt: Option<String>,
    /// A template in a file of its own, instead of the model's.
    pub template: Option<PathBuf>,
    /// Variables of the template, as `enable_thinking`; they win over the special tokens that templates see as variables.
    pub variables: Map<String, Value>,
    /// The day that `strftime_now` gives, as `2024-07-26`; today where there is none.
    pub date: Option<String>,
}

impl ChatOptions {
    /// Refuses what no template can be rendered with.
    ///
    /// # Errors
    /// A variable of a name that the chat itself uses; a date that is none.
    pub fn check(&self) -> Result<(), PolicyError> {
        if let Some(name) = OWN.into_iter().find(|name| self.variables.contains_key(*name)) {
            return Err(PolicyError::Template(format!("the variable {name:?} is the chat's own and cannot be set")));
        }
        self.day().map(drop).map_err(PolicyError::Template)
    }

    /// The second at which the day begins.
    pub(crate) fn day(&self) -> Result<i64, String> {
        match &self.date {
            // Today's prompts need no better than the second, and f64 holds that.
            None => Ok(template::midnight(counterpoint_rollout::clock::unix_seconds() as i64)),
            Some(text) => {
                template::day(text).ok_or_else(|| format!("the date must be a day as \"2024-07-26\", got {text:?}"))
            }
        }
    }
}
