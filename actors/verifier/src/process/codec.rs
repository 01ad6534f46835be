//! The protocol's lines, to and from JSON. Pure: no process, no clock.

use std::time::Duration;

use counterpoint_rollout::{Prompt, PromptContent, Verdict, VoidReason};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Question;

/// What a child must say first.
const PROTOCOL: &str = "counterpoint-verifier";

/// The version of the protocol that is spoken here.
const VERSION: u64 = 1;

/// The longest reason of a void verdict that is kept, in characters: it goes into logs and files.
const LONGEST_REASON: usize = 200;

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    prompt: PromptView<'a>,
    responses: &'a [String],
    deadline_seconds: f64,
}

#[derive(Serialize)]
struct PromptView<'a> {
    id: &'a str,
    #[serde(flatten)]
    content: ContentView<'a>,
    answer: &'a str,
    source: &'a str,
    info: &'a Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ContentView<'a> {
    Text(&'a str),
    Messages(&'a [counterpoint_rollout::ChatMessage]),
    Tokens(&'a [u32]),
}

impl<'a> PromptView<'a> {
    fn new(prompt: &'a Prompt) -> Self {
        let content = match &prompt.content {
            PromptContent::Text(text) => ContentView::Text(text),
            PromptContent::Chat(messages) => ContentView::Messages(messages),
            PromptContent::Tokens(tokens) => ContentView::Tokens(tokens),
        };
        let Prompt { id, answer, source, info, .. } = prompt;
        Self { id, content, answer, source, info }
    }
}

/// The line that asks for verdicts within `left`.
pub(super) fn request(id: u64, question: &Question, left: Duration) -> Vec<u8> {
    let prompt = PromptView::new(&question.prompt);
    let deadline_seconds = left.as_secs_f64();
    let request = Request { id, prompt, responses: &question.responses, deadline_seconds };
    // Every map here has text for keys and a vector takes every write, so there is nothing to fail.
    let mut line = serde_json::to_vec(&request).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a child's first line. The error says what is wrong with it.
pub(super) fn hello(line: &[u8]) -> Result<(), String> {
    let expected = || format!("{{\"protocol\": \"{PROTOCOL}\", \"version\": {VERSION}}}");
    let Ok(Value::Object(hello)) = serde_json::from_slice(line) else {
        return Err(format!("its first line is {}, not {}", shown(line), expected()));
    };
    if hello.get("protocol").and_then(Value::as_str) != Some(PROTOCOL) {
        return Err(format!("its first line is {}, not {}", shown(line), expected()));
    }
    match hello.get("version").and_then(Value::as_u64) {
        Some(VERSION) => Ok(()),
        _ => Err(format!("its first line is {}; this program speaks version {VERSION}", shown(line))),
    }
}

/// A later line of a child.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// An answer to a request, which may be no good: then the error says why.
    Answer(u64, Result<Answer, String>),
    /// Nobody can say what this is an answer to.
    Nonsense(String),
}

/// What a child says of one request.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// One verdict per response.
    Verdicts(Vec<Verdict>),
    /// It could not judge, for this reason.
    Error(String),
}

impl Answer {
    /// The verdicts for so many responses; an error if there are more or fewer.
    pub(super) fn verdicts(self, responses: usize) -> Result<Vec<Verdict>, String> {
        match self {
            Self::Verdicts(verdicts) if verdicts.len() == responses => Ok(verdicts),
            Self::Verdicts(verdicts) => Err(format!("{} verdicts for {responses} responses", verdicts.len())),
            Self::Error(reason) => Ok(vec![Verdict::Void(VoidReason::Verifier(reason)); responses]),
        }
    }
}

/// Reads an answer.
pub(super) fn reply(line: &[u8]) -> Reply {
    let mut reply = match serde_json::from_slice(line) {
        Ok(Value::Object(reply)) => reply,
        Ok(_) => return Reply::Nonsense(format!("{} is no JSON object", shown(line))),
        // Python writes NaN as such, which is no JSON; but the line is whole, and says which request it is for.
        Err(error) => match leading_id(line) {
            Some(id) => return Reply::Answer(id, Err(format!("{} is no JSON: {error}", shown(line)))),
            None => return Reply::Nonsense(format!("{} is no JSON: {error}", shown(line))),
        },
    };
    let Some(id) = reply.get("id").and_then(Value::as_u64) else {
        return Reply::Nonsense(format!("{} has no `id` of a request", shown(line)));
    };
    if let Some(error) = reply.get("error").and_then(Value::as_str) {
        return Reply::Answer(id, Ok(Answer::Error(reason(error))));
    }
    let answer = match reply.remove("verdicts") {
        Some(Value::Array(verdicts)) => Ok(Answer::Verdicts(verdicts.iter().map(verdict).collect())),
        Some(_) => Err(format!("{}: `verdicts` is no list", shown(line))),
        None => Err(format!("{} has neither `verdicts` nor `error`", shown(line))),
    };
    Reply::Answer(id, answer)
}

/// One verdict; what is none becomes void, and leaves the others alone.
fn verdict(value: &Value) -> Verdict {
    let protocol = Verdict::Void(VoidReason::Protocol);
    match value {
        Value::String(word) => match word.as_str() {
            "correct" => Verdict::Correct,
            "incorrect" => Verdict::Incorrect,
            "void" => Verdict::Void(VoidReason::Verifier("no reason given".into())),
            _ => protocol,
        },
        Value::Object(object) if object.len() == 1 => match (object.get("score"), object.get("void")) {
            // Compared before it is rounded, since 1.00000001 rounds to 1.
            (Some(score), None) => match score.as_f64() {
                Some(score) if (0.0..=1.0).contains(&score) => Verdict::from_score(score as f32),
                _ => protocol,
            },
            (None, Some(Value::String(text))) => Verdict::Void(VoidReason::Verifier(reason(text))),
            _ => protocol,
        },
        _ => protocol,
    }
}

fn reason(text: &str) -> String {
    text.chars().take(LONGEST_REASON).collect()
}

/// The number in a line that begins with `{"id": number`.
fn leading_id(line: &[u8]) -> Option<u64> {
    let rest = line.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"id\"")?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

/// A line as people may read it in a log.
pub(super) fn shown(line: &[u8]) -> String {
    const MOST: usize = 120;
    let text = String::from_utf8_lossy(&line[..line.len().min(4 * MOST)]);
    let short: String = text.trim_end().chars().take(MOST).collect();
    let cut = if short.len() < line.trim_ascii_end().len() { "…" } else { "" };
    format!("{short:?}{cut}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn asked(content: PromptContent) -> Value {
        let info = Map::from_iter([("unit".to_owned(), json!("cm"))]);
        let prompt = Prompt { id: "p\n1".into(), content, answer: "4".into(), source: "s.jsonl".into(), info };
        let question = Question::new(Arc::new(prompt), vec!["four\n".into(), "{\"id\":1}".into()]);
        let line = request(7, &question, Duration::from_millis(1500));
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_request_is_one_line_with_the_prompt_and_its_responses() {
        let prompt = json!({"id": "p\n1", "text": "2 + 2", "answer": "4", "source": "s.jsonl", "info": {"unit": "cm"}});
        assert_eq!(
            asked(PromptContent::Text("2 + 2".into())),
            json!({"id": 7, "prompt": prompt, "responses": ["four\n", "{\"id\":1}"], "deadline_seconds": 1.5})
        );
        let message = counterpoint_rollout::ChatMessage::new("user", "2 + 2");
        assert_eq!(asked(PromptContent::Tokens(vec![3, 12]))["prompt"]["tokens"], json!([3, 12]));
        let chat = asked(PromptContent::Chat(vec![message]));
        assert_eq!(chat["prompt"]["messages"], json!([{"role": "user", "content": "2 + 2"}]));
        assert_eq!(chat["prompt"].get("text"), None);
    }

    #[test]
    fn a_hello_names_the_protocol_and_its_version_and_may_say_more() {
        assert_eq!(hello(br#"{"protocol": "counterpoint-verifier", "version": 1, "name": "x"}"#), Ok(()));
        let wrong = |line: &str| hello(line.as_bytes()).unwrap_err();
        assert_eq!(
            wrong("Loading model"),
            r#"its first line is "Loading model", not {"protocol": "counterpoint-verifier", "version": 1}"#
        );
        assert!(wrong(r#"{"protocol": "mcp", "version": 1}"#).contains("not {\"protocol\""));
        assert!(wrong(r#"{"protocol": "counterpoint-verifier", "version": 2}"#).ends_with("speaks version 1"));
        assert!(wrong(r#"{"protocol": "counterpoint-verifier"}"#).ends_with("speaks version 1"));
    }

    #[test]
    fn every_form_of_a_verdict_is_read_and_what_is_none_is_void_by_itself() {
        let line = br#"{"id": 3, "verdicts": ["correct", "incorrect", "void", {"void": "no unit"}, {"score": 0.25},
            {"score": 1}, {"score": 0}, {"score": 1.5}, {"score": -0.1}, {"score": "1"}, {"score": 1.00000001}, "right", 1,
            true, null, [], {}, {"score": 1, "void": "both"}], "more": 1}"#;
        let void = |reason: &str| Verdict::Void(VoidReason::Verifier(reason.into()));
        let mut expected = vec![Verdict::Correct, Verdict::Incorrect, void("no reason given"), void("no unit")];
        expected.extend([Verdict::Soft(0.25), Verdict::Correct, Verdict::Incorrect]);
        expected.extend(vec![Verdict::Void(VoidReason::Protocol); 11]);
        assert_eq!(reply(line), Reply::Answer(3, Ok(Answer::Verdicts(expected))));
    }

    #[test]
    fn an_error_is_void_with_its_reason_for_every_response() {
        let long = format!(r#"{{"id": 3, "error": "{}"}}"#, "é".repeat(1000));
        let Reply::Answer(3, Ok(answer)) = reply(long.as_bytes()) else { panic!("no answer") };
        let reason = "é".repeat(LONGEST_REASON);
        assert_eq!(answer.verdicts(2), Ok(vec![Verdict::Void(VoidReason::Verifier(reason)); 2]));
    }

    #[test]
    fn a_bad_answer_is_attributed_wherever_its_id_can_be_read() {
        let attributed = [
            r#"{"id": 12, "verdicts": [{"score": NaN}]}"#,
            r#" { "id":12,"verdicts":["correct"#,
            r#"{"id": 12, "verdicts": "correct"}"#,
            r#"{"id": 12}"#,
        ];
        for line in attributed {
            assert!(matches!(reply(line.as_bytes()), Reply::Answer(12, Err(_))), "{line}");
        }
        let nonsense: [&[u8]; 9] = [
            b"",
            b"ready",
            b"[]",
            b"null",
            br#"{"id": "12", "verdicts": []}"#,
            br#"{"id": -1, "verdicts": []}"#,
            br#"{"verdicts": ["correct"]}"#,
            b"{\"verdicts\": [\"\xff\"]}",
            br#"{"id": 99999999999999999999999, "#,
        ];
        for line in nonsense {
            assert!(matches!(reply(line), Reply::Nonsense(_)), "{}", shown(line));
        }
        let two = Answer::Verdicts(vec![Verdict::Correct; 2]);
        assert_eq!(two.verdicts(3), Err("2 verdicts for 3 responses".into()));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (hello(&line), reply(&line), shown(&line));
        }

        #[test]
        fn nothing_but_a_score_within_the_unit_interval_is_a_soft_verdict(score in any::<f64>()) {
            let line = format!(r#"{{"id": 1, "verdicts": [{{"score": {score:?}}}]}}"#);
            if let Reply::Answer(1, Ok(Answer::Verdicts(verdicts))) = reply(line.as_bytes()) {
                prop_assert_eq!(verdicts[0].score().is_some(), (0.0..=1.0).contains(&score));
            } else {
                prop_assert!(!score.is_finite());
            }
        }
    }
}
