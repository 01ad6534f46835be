use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// CPU threads of an engine's tensor operations, as configured: `"auto"` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Threads {
    /// The runtime shares the cores out.
    Auto(Auto),
    /// So many.
    Count(usize),
}

/// The word `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// The word.
    Auto,
}

impl Threads {
    /// `"auto"`.
    pub const AUTO: Self = Self::Auto(Auto::Auto);

    /// The number, or the runtime's choice.
    pub fn or(self, choice: usize) -> usize {
        if let Self::Count(count) = self { count } else { choice }
    }

    /// Pushes a message if it is no usable number; `key` is the setting's dotted key.
    pub fn validate(self, key: &str, errors: &mut Vec<String>) {
        if let Self::Count(count) = self
            && !(1..=1024).contains(&count)
        {
            errors.push(format!("{key}: must be \"auto\" or between 1 and 1024, got {count}"));
        }
    }
}
