use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One question, as read from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Names the prompt in files and logs and keys its sampling noise; unique within a data set.
    pub id: String,
    /// The question itself.
    pub content: PromptContent,
    /// What a right answer is; its meaning is the verifier's affair.
    pub answer: String,
    /// Where the prompt came from (a file name or the data's own source column).
    pub source: String,
    /// The data's other columns, for verifiers that need more than the answer (unit tests, tolerances).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub info: Map<String, Value>,
}

/// The question as plain text, as the messages of a chat, which the model's template turns into text, or as tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PromptContent {
    /// Goes to the tokenizer as it is.
    Text(String),
    /// Goes through the model's chat template first.
    Chat(Vec<ChatMessage>),
    /// Goes to the model as it is.
    Tokens(Vec<u32>),
}

/// One message of a chat prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the message.
    pub content: String,
    /// What else the message has, for the model's template: `name`, `reasoning_content`, `tool_calls`.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl ChatMessage {
    /// A message that has a text and nothing else.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), fields: Map::new() }
    }
}

impl PromptContent {
    /// The question in one string, for files and logs that people read.
    pub fn display(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Tokens(tokens) => format!("{tokens:?}"),
            Self::Chat(messages) => {
                messages.iter().map(|m| format!("{}: {}", m.role, m.content)).collect::<Vec<_>>().join("\n")
            }
        }
    }
}
