//! Reads questions from JSONL: one JSON object per line, columns named by `[data]`.
//!
//! The whole file is read and checked before anything is trained; up to ten bad lines are reported at once, each with file
//! and line. A byte order mark, CRLF and blank lines are tolerated. A truth that is a number becomes its text; one that a
//! double cannot hold exactly is refused, since it would be judged against another number.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use counterpoint_rollout::{ChatMessage, Prompt, PromptContent};
use serde_json::{Map, Number, Value};

use crate::config::DataConfig;

/// Bad lines reported at once.
const MOST_PROBLEMS: usize = 10;

/// Whole numbers up to this are exact in a double.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// What is wrong with a data file.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It could not be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It has no question.
    #[error("{path}: holds no question; expected one JSON object per line", path = path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// Some lines are not questions.
    #[error("{}", problems.join("\n"))]
    Lines {
        /// The first ten, each with file and line.
        problems: Vec<String>,
    },
}

/// Reads all questions of a file, in its order.
pub fn read(path: &Path, config: &DataConfig) -> Result<Vec<Arc<Prompt>>, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    parse(path, &bytes, config)
}

fn parse(path: &Path, bytes: &[u8], config: &DataConfig) -> Result<Vec<Arc<Prompt>>, DataError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut prompts = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut problems = Vec::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let number = index + 1;
        let prompt = match question(line, config, &name, number) {
            Ok(None) => continue,
            Ok(Some(prompt)) => match seen.insert(prompt.id.clone(), number) {
                None => Ok(prompt),
                Some(first) => Err(format!("id {:?} stands in line {first} already; ids must be unique", prompt.id)),
            },
            Err(problem) => Err(problem),
        };
        match prompt {
            Ok(prompt) => prompts.push(Arc::new(prompt)),
            Err(problem) => problems.push(format!("{}:{number}: {problem}", path.display())),
        }
        if problems.len() == MOST_PROBLEMS {
            break;
        }
    }
    if !problems.is_empty() {
        return Err(DataError::Lines { problems });
    }
    if prompts.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    Ok(prompts)
}

/// The question of one line; `None` for a blank line.
fn question(line: &[u8], config: &DataConfig, file: &str, number: usize) -> Result<Option<Prompt>, String> {
    let text = std::str::from_utf8(line)
        .map_err(|e| format!("not valid UTF-8 at byte {} of the line; convert the file to UTF-8", e.valid_up_to() + 1))?
        .trim();
    if text.is_empty() {
        return Ok(None);
    }
    let value: Value =
        serde_json::from_str(text).map_err(|e| format!("not valid JSON: {}", crate::commands::in_line(&e)))?;
    let Value::Object(row) = value else {
        return Err(format!("expected a JSON object, got {}", kind(&value)));
    };
    let content = content(column(&row, &config.prompt_column, "prompt_column")?, config)?;
    let answer = scalar(column(&row, &config.answer_column, "answer_column")?)
        .map_err(|e| format!("column {:?}: {e}", config.answer_column))?;
    let id = match &config.id_column {
        None => format!("{file}:{number}"),
        Some(name) => scalar(column(&row, name, "id_column")?).map_err(|e| format!("column {name:?}: {e}"))?,
    };
    let source = row.get("data_source").and_then(Value::as_str).unwrap_or(file).to_owned();
    let used = [Some(&config.prompt_column), Some(&config.answer_column), config.id_column.as_ref()];
    let info = row.into_iter().filter(|(name, _)| !used.contains(&Some(name))).collect();
    Ok(Some(Prompt { id, content, answer, source, info }))
}

fn column<'r>(row: &'r Map<String, Value>, name: &str, key: &str) -> Result<&'r Value, String> {
    row.get(name).filter(|v| !v.is_null()).ok_or_else(|| {
        let columns = row.keys().map(|k| format!("{k:?}")).collect::<Vec<_>>().join(", ");
        format!("no column {name:?} (data.{key}); the line has {}", if columns.is_empty() { "none" } else { &columns })
    })
}

/// A question from its column: a text, or messages; the configured system prompt goes first.
fn content(value: &Value, config: &DataConfig) -> Result<PromptContent, String> {
    let content = prompt_content(value).map_err(|e| format!("column {:?}: {e}", config.prompt_column))?;
    let Some(system) = &config.system_prompt else { return Ok(content) };
    let mut messages = vec![ChatMessage { role: "system".to_owned(), content: system.clone() }];
    match content {
        PromptContent::Text(text) => messages.push(ChatMessage { role: "user".to_owned(), content: text }),
        PromptContent::Chat(chat) if chat[0].role == "system" => {
            return Err(format!(
                "column {:?}: has a system message of its own, and data.system_prompt is set; drop one of them",
                config.prompt_column
            ));
        }
        PromptContent::Chat(chat) => messages.extend(chat),
    }
    Ok(PromptContent::Chat(messages))
}

/// A question from JSON: a text that is not empty, or an array of at least one `{"role", "content"}`.
pub fn prompt_content(value: &Value) -> Result<PromptContent, String> {
    match value {
        Value::String(text) if text.is_empty() => Err("is empty".to_owned()),
        Value::String(text) => Ok(PromptContent::Text(text.clone())),
        Value::Array(items) if !items.is_empty() => {
            let messages: Result<Vec<_>, _> =
                items.iter().cloned().map(serde_json::from_value::<ChatMessage>).collect();
            messages
                .map(PromptContent::Chat)
                .map_err(|e| format!("not chat messages of {{\"role\", \"content\"}}: {e}"))
        }
        other => Err(format!("expected a text or an array of chat messages, got {}", kind(other))),
    }
}

/// A text, or a number as its text.
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

pub(crate) fn kind(value: &Value) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(bytes: &[u8], edit: impl FnOnce(&mut DataConfig)) -> Result<Vec<Arc<Prompt>>, String> {
        let mut config = DataConfig::default();
        edit(&mut config);
        parse(Path::new("dir/a.jsonl"), bytes, &config).map_err(|e| e.to_string())
    }

    #[test]
    fn texts_numbers_marks_and_line_ends_of_any_kind_are_read() {
        let file = b"\xef\xbb\xbf{\"prompt\":\"1+1=\",\"answer\":2}\r\n\r\n{\"prompt\":\"x\",\"answer\":\"18.0\"}";
        let prompts = parse_with(file, |_| ()).unwrap();
        assert_eq!(prompts.len(), 2);
        assert_eq!((prompts[0].id.as_str(), prompts[0].answer.as_str()), ("a.jsonl:1", "2"));
        assert_eq!((prompts[1].id.as_str(), prompts[1].answer.as_str()), ("a.jsonl:3", "18.0"));
        assert_eq!(prompts[0].source, "a.jsonl");
    }

    #[test]
    fn other_columns_are_kept_for_the_verifier_and_data_source_names_the_source() {
        let file = br#"{"prompt":"q","answer":"a","id":7,"data_source":"gsm8k","level":{"grade":3}}"#;
        let prompts = parse_with(file, |c| c.id_column = Some("id".into())).unwrap();
        assert_eq!(prompts[0].source, "gsm8k");
        let info = serde_json::to_value(&prompts[0].info).unwrap();
        assert_eq!(info, serde_json::json!({"data_source": "gsm8k", "level": {"grade": 3}}));
    }

    #[test]
    fn a_system_prompt_makes_a_chat() {
        let file = br#"{"prompt":"q","answer":"a"}
{"prompt":[{"role":"user","content":"q"}],"answer":"a"}"#;
        let prompts = parse_with(file, |c| c.system_prompt = Some("s".into())).unwrap();
        let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
        let expected = PromptContent::Chat(vec![message("system", "s"), message("user", "q")]);
        assert_eq!([&prompts[0].content, &prompts[1].content], [&expected, &expected]);
        let own = br#"{"prompt":[{"role":"system","content":"t"}],"answer":"a"}"#;
        assert!(parse_with(own, |c| c.system_prompt = Some("s".into())).unwrap_err().contains("drop one of them"));
    }

    #[test]
    fn every_bad_line_is_named_with_what_is_wrong() {
        let file =
            b"{\"prompt\":\"q\"}\n{\n[1]\n{\"prompt\":\"q\",\"answer\":true}\n{\"prompt\":\"\",\"answer\":1}\n\xff\n\
            {\"prompt\":\"q\",\"answer\":12345678901234567890123}\n";
        let error = parse_with(file, |_| ()).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 7, "{error}");
        assert_eq!(lines[0], "dir/a.jsonl:1: no column \"answer\" (data.answer_column); the line has \"prompt\"");
        assert!(lines[1].starts_with("dir/a.jsonl:2: not valid JSON"));
        assert_eq!(lines[2], "dir/a.jsonl:3: expected a JSON object, got an array");
        assert_eq!(lines[3], "dir/a.jsonl:4: column \"answer\": expected a text or a number, got true or false");
        assert_eq!(lines[4], "dir/a.jsonl:5: column \"prompt\": is empty");
        assert_eq!(lines[5], "dir/a.jsonl:6: not valid UTF-8 at byte 1 of the line; convert the file to UTF-8");
        assert!(lines[6].contains("write it in quotes"));
    }

    #[test]
    fn two_equal_ids_are_refused_with_both_lines() {
        let file = br#"{"prompt":"q","answer":"a","n":7}
{"prompt":"r","answer":"a","n":"7"}"#;
        let error = parse_with(file, |c| c.id_column = Some("n".into())).unwrap_err();
        assert_eq!(error, "dir/a.jsonl:2: id \"7\" stands in line 1 already; ids must be unique");
    }

    #[test]
    fn an_empty_file_is_no_data() {
        assert!(parse_with(b"\n\r\n", |_| ()).unwrap_err().starts_with("dir/a.jsonl: holds no question"));
    }
}
