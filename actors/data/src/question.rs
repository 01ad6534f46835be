//! From JSON to the parts of a question: what a prompt may be, what an answer may be.

use counterpoint_rollout::{ChatMessage, PromptContent};
use serde_json::{Number, Value};

/// Whole numbers up to this are exact in a double.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A question from JSON: a text that is not empty, an array of at least one `{"role", "content"}`, or an array of at least
/// one token id.
///
/// # Errors
/// Anything else, said in one line.
pub fn prompt_content(value: &Value) -> Result<PromptContent, String> {
    match value {
        Value::String(text) if text.is_empty() => Err("is empty".to_owned()),
        Value::String(text) => Ok(PromptContent::Text(text.clone())),
        Value::Array(items) if items.first().is_some_and(Value::is_number) => tokens(items),
        Value::Array(items) if !items.is_empty() => {
            let messages: Result<Vec<_>, _> =
                items.iter().cloned().map(serde_json::from_value::<ChatMessage>).collect();
            messages
                .map(PromptContent::Chat)
                .map_err(|e| format!("not chat messages of {{\"role\", \"content\"}}: {e}"))
        }
        other => {
            Err(format!("expected a text, an array of chat messages or an array of token ids, got {}", kind(other)))
        }
    }
}

/// Token ids; whether the model has them is seen when they are encoded.
fn tokens(items: &[Value]) -> Result<PromptContent, String> {
    let token = |(place, item): (usize, &Value)| {
        let id = item.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("item {} of the token ids is {item}; expected a whole number from 0 on", place + 1))
    };
    items.iter().enumerate().map(token).collect::<Result<_, _>>().map(PromptContent::Tokens)
}

/// A text, or a number as its text.
///
/// # Errors
/// Anything else, or a number that a double does not hold exactly: it would be judged against another number.
pub fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if inexact(number) => {
            Err(format!("{number} is too large to be read exactly as a number; write it in quotes"))
        }
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("expected a text or a number, got {}", kind(other))),
    }
}

fn inexact(number: &Number) -> bool {
    number.is_f64() && number.as_f64().is_some_and(|n| n.abs() >= LARGEST_EXACT)
}

/// What a JSON value is, in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(items) if items.is_empty() => "an empty array",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
