//! Which columns make a question: the mapping of a file, found by its columns or named in the config, and its use on a row.

mod column;
mod detect;
mod extract;

use std::fmt;

use counterpoint_rollout::{ChatMessage, Prompt, PromptContent};
use serde_json::{Map, Value};

pub use column::Column;
pub use detect::detect;
pub use extract::{after_hashes, last_box};

use crate::config::{AnswerFrom, DataConfig};
use crate::question::{prompt_content, scalar};

/// The schemas that are known by their columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// `prompt` and `answer` (or `solution`, `ground_truth`).
    PromptAnswer,
    /// `question` and `answer`.
    QuestionAnswer,
    /// `problem` and `answer`, or `solution`.
    ProblemSolution,
    /// `messages`, with the answer as last message or in a column.
    Messages,
    /// verl's `prompt` and `reward_model.ground_truth`.
    Verl,
    /// TRL's prompt-only chat: a `prompt` of messages, and no column of answers.
    PromptOnly,
    /// As the config says.
    Config,
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PromptAnswer => "prompt/answer",
            Self::QuestionAnswer => "question/answer",
            Self::ProblemSolution => "problem/solution",
            Self::Messages => "messages",
            Self::Verl => "verl",
            Self::PromptOnly => "prompt-only chat",
            Self::Config => "from the config",
        })
    }
}

/// What part of a text is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// All of it.
    Whole,
    /// What follows the last `####`.
    Hashes,
    /// The content of the last `\boxed`.
    Boxed,
}

/// Where the answer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// In a column.
    Column(Column, Take),
    /// The last message of the chat, an assistant's, which is then no part of the question.
    LastMessage(Take),
    /// Nowhere: the verifier must do without, or with the other columns.
    Nowhere,
}

/// How the rows of one file become questions. Its text is the line that `check` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What was recognised.
    pub schema: Schema,
    /// The question.
    pub prompt: Column,
    /// The truth.
    pub answer: Answer,
    /// The id, if a column has it.
    pub id: Option<Column>,
    /// Names the source where a row has a text there.
    pub source: Column,
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: prompt = {}, answer = ", self.schema, self.prompt)?;
        let part = |take: &Take| match take {
            Take::Whole => "",
            Take::Hashes => " after the last ####",
            Take::Boxed => " in the last \\boxed",
        };
        match &self.answer {
            Answer::Column(column, take) => write!(f, "{column}{}", part(take))?,
            Answer::LastMessage(take) => write!(f, "the last message{}", part(take))?,
            Answer::Nowhere => write!(f, "none (the verifier must not need one)")?,
        }
        match &self.id {
            Some(id) => write!(f, ", id = {id}")?,
            None => write!(f, ", id = file and row")?,
        }
        write!(f, ", source = {} or the file's name", self.source)
    }
}

/// What a row's question has from outside the row.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'a> {
    /// The file's short name, for ids and sources.
    pub file: &'a str,
    /// The row's number.
    pub number: u64,
    /// System prompt and form of texts.
    pub config: &'a DataConfig,
}

impl Mapping {
    /// The question of a row; columns that it does not use are its `info`.
    ///
    /// # Errors
    /// What the row lacks, in one line.
    pub fn question(&self, mut row: Map<String, Value>, outside: Outside<'_>) -> Result<Prompt, String> {
        let value = self.prompt.required(&row, "prompt_column")?;
        let mut content = prompt_content(value).map_err(|e| format!("column {}: {e}", self.prompt))?;
        let last = match &mut content {
            PromptContent::Chat(chat) if self.schema == Schema::Messages => {
                // A question ends before its answer.
                chat.pop_if(|message| message.role == "assistant")
            }
            _ => None,
        };
        if matches!(&content, PromptContent::Chat(chat) if chat.is_empty()) {
            return Err(format!("column {}: has an answer and no question", self.prompt));
        }
        let answer = self.answer_of(&row, last)?;
        let id = match &self.id {
            None => format!("{}:{}", outside.file, outside.number),
            Some(column) => scalar(column.required(&row, "id_column")?).map_err(|e| format!("column {column}: {e}"))?,
        };
        let source = self.source.find(&row).and_then(Value::as_str).unwrap_or(outside.file).to_owned();
        let content = framed(content, outside.config).map_err(|e| format!("column {}: {e}", self.prompt))?;
        self.prompt.remove(&mut row);
        // A solution of which only the end is the answer stays: a verifier may want to compare with it.
        if let Answer::Column(column, Take::Whole) = &self.answer {
            column.remove(&mut row);
        }
        if let Some(column) = &self.id {
            column.remove(&mut row);
        }
        Ok(Prompt { id, content, answer, source, info: row })
    }

    fn answer_of(&self, row: &Map<String, Value>, last: Option<ChatMessage>) -> Result<String, String> {
        match &self.answer {
            Answer::Nowhere => Ok(String::new()),
            Answer::Column(column, take) => {
                let text =
                    scalar(column.required(row, "answer_column")?).map_err(|e| format!("column {column}: {e}"))?;
                take.of(&text).map_err(|e| format!("column {column}: {e}"))
            }
            Answer::LastMessage(take) => {
                let problem = || format!("column {}: the last message is not an assistant's answer", self.prompt);
                take.of(&last.ok_or_else(problem)?.content).map_err(|e| format!("column {}: {e}", self.prompt))
            }
        }
    }
}

impl Take {
    fn of(self, text: &str) -> Result<String, String> {
        let part = match self {
            Self::Whole => Some(text),
            Self::Hashes => after_hashes(text),
            Self::Boxed => last_box(text),
        };
        part.map(str::to_owned).ok_or_else(|| match self {
            Self::Hashes => "has no answer behind a last ####".to_owned(),
            _ => "has no \\boxed answer, or its last one is never closed".to_owned(),
        })
    }
}

impl AnswerFrom {
    fn take(self) -> Option<Take> {
        match self {
            Self::Auto => None,
            Self::Whole => Some(Take::Whole),
            Self::Hashes => Some(Take::Hashes),
            Self::Boxed => Some(Take::Boxed),
        }
    }
}

/// The question with the configured system prompt first, or as a chat if that is wanted. Token ids stay what they are.
pub(crate) fn framed(content: PromptContent, config: &DataConfig) -> Result<PromptContent, String> {
    let message = |role: &str, content: String| ChatMessage::new(role, content);
    let system = config.system_prompt.as_ref().map(|text| message("system", text.clone()));
    let chat = match content {
        PromptContent::Text(text) if system.is_none() && !config.as_chat => return Ok(PromptContent::Text(text)),
        PromptContent::Text(text) => vec![message("user", text)],
        PromptContent::Chat(chat) if system.is_some() && chat.first().is_some_and(|m| m.role == "system") => {
            return Err("has a system message of its own, and data.system_prompt is set; drop one of them".to_owned());
        }
        PromptContent::Chat(chat) => chat,
        PromptContent::Tokens(_) if system.is_some() => {
            return Err("is token ids, to which no system prompt can be added; drop data.system_prompt".to_owned());
        }
        PromptContent::Tokens(tokens) => return Ok(PromptContent::Tokens(tokens)),
    };
    Ok(PromptContent::Chat(system.into_iter().chain(chat).collect()))
}
