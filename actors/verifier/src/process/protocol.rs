//! The lines that a verifier in a process of its own exchanges with us. Pure: bytes and values.
//!
//! JSON, one object per line, UTF-8. First the child says what it speaks; then each request is answered by one reply.
//!
//! ```text
//! child:  {"protocol": "counterpoint-verifier", "version": 1}
//! we:     {"id": 1, "prompt": {"id", "text" | "messages", "answer", "source", "info"}, "responses": ["…", "…"],
//!          "deadline_seconds": 29.9}
//! child:  {"id": 1, "verdicts": ["correct", "incorrect", {"score": 0.5}, {"void": "why"}]}
//! ```
//!
//! One verdict per response, in order; `true`, `false` and a bare number in [0, 1] are understood too. Other keys are ignored.
//! A child may write what it likes on standard error, which goes to the log.

use std::time::Duration;

use counterpoint_rollout::{PromptContent, Verdict, VoidReason};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Question;

/// The protocol's name in the child's first line.
pub(super) const NAME: &str = "counterpoint-verifier";
/// The only version so far.
pub(super) const VERSION: u64 = 1;

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    prompt: PromptLine<'a>,
    responses: &'a [String],
    deadline_seconds: f64,
}

#[derive(Serialize)]
struct PromptLine<'a> {
    id: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
    answer: &'a str,
    source: &'a str,
    info: &'a Map<String, Value>,
}

#[derive(Serialize)]
enum Content<'a> {
    #[serde(rename = "text")]
    Text(&'a str),
    #[serde(rename = "messages")]
    Messages(&'a [counterpoint_rollout::ChatMessage]),
}

/// The line that asks a question, its end included.
pub(super) fn request(id: u64, question: &Question, left: Duration) -> Vec<u8> {
    let prompt = &*question.prompt;
    let content = match &prompt.content {
        PromptContent::Text(text) => Content::Text(text),
        PromptContent::Chat(messages) => Content::Messages(messages),
    };
    let prompt =
        PromptLine { id: &prompt.id, content, answer: &prompt.answer, source: &prompt.source, info: &prompt.info };
    let request = Request { id, prompt, responses: &question.responses, deadline_seconds: left.as_secs_f64() };
    // Texts, numbers and maps with text keys: nothing that JSON cannot say.
    let mut line = serde_json::to_vec(&request).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Checks the child's first line.
pub(super) fn hello(line: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Hello {
        protocol: String,
        version: u64,
    }
    let expected = format!("{{\"protocol\": \"{NAME}\", \"version\": {VERSION}}}");
    let shown = || String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
    match serde_json::from_slice::<Hello>(line) {
        Ok(hello) if hello.protocol == NAME && hello.version == VERSION => Ok(()),
        _ => Err(format!("its first line must be {expected}, not {:?}", shown())),
    }
}

/// A reply of the child.
#[derive(Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) id: u64,
    pub(super) verdicts: Vec<Verdict>,
}

/// Reads a reply; what is no verdict is void, what is no reply is an error.
pub(super) fn reply(line: &[u8]) -> Result<Reply, String> {
    #[derive(Deserialize)]
    struct Line {
        id: u64,
        verdicts: Vec<Value>,
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| format!("no reply: {error}"))?;
    Ok(Reply { id: line.id, verdicts: line.verdicts.iter().map(verdict).collect() })
}

/// One verdict, in any of the forms that the protocol allows.
pub(crate) fn verdict(value: &Value) -> Verdict {
    let breach = Verdict::Void(VoidReason::Protocol);
    match value {
        Value::Bool(right) => Verdict::from(*right),
        Value::Number(score) => score.as_f64().map_or(breach, |score| Verdict::from_score(score as f32)),
        Value::String(word) => match word.as_str() {
            "correct" => Verdict::Correct,
            "incorrect" => Verdict::Incorrect,
            "void" => Verdict::Void(VoidReason::Verifier("void".into())),
            _ => breach,
        },
        Value::Object(object) => match (object.get("score"), object.get("void")) {
            (Some(Value::Number(score)), None) => verdict(&Value::Number(score.clone())),
            (None, Some(Value::String(why))) => Verdict::Void(VoidReason::Verifier(why.clone())),
            _ => breach,
        },
        _ => breach,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_a_verdict_is_read_and_anything_else_is_a_breach() {
        let breach = Verdict::Void(VoidReason::Protocol);
        for (value, expected) in [
            (json!("correct"), Verdict::Correct),
            (json!("incorrect"), Verdict::Incorrect),
            (json!(true), Verdict::Correct),
            (json!(0), Verdict::Incorrect),
            (json!(1.0), Verdict::Correct),
            (json!({"score": 0.25}), Verdict::Soft(0.25)),
            (json!({"void": "no idea"}), Verdict::Void(VoidReason::Verifier("no idea".into()))),
            (json!(1.5), breach.clone()),
            (json!(-1), breach.clone()),
            (json!("Correct"), breach.clone()),
            (json!(null), breach.clone()),
            (json!({"score": "NaN"}), breach.clone()),
            (json!({"score": 1, "void": "both"}), breach),
        ] {
            assert_eq!(verdict(&value), expected, "{value}");
        }
    }

    #[test]
    fn a_request_is_one_line_whatever_the_texts_hold() {
        let question = Question::pair("a\nb\r\u{2028}\0", "4\n");
        let line = request(7, &question, Duration::from_millis(1500));
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["responses"][0], "a\nb\r\u{2028}\0");
        assert_eq!((&value["id"], &value["prompt"]["answer"]), (&json!(7), &json!("4\n")));
        assert_eq!(value["deadline_seconds"], 1.5);
    }

    #[test]
    fn a_hello_of_another_protocol_or_version_is_refused_with_what_is_due() {
        assert_eq!(hello(br#"{"protocol": "counterpoint-verifier", "version": 1, "name": "mine"}"#), Ok(()));
        for line in [&br#"{"protocol": "counterpoint-verifier", "version": 2}"#[..], b"hello", b"", b"\xff"] {
            let error = hello(line).unwrap_err();
            assert!(error.contains("\"version\": 1"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_reply_or_an_error(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = reply(&line);
            let _ = hello(&line);
        }
    }
}
