//! The shapes of requests and replies. Pure: a question to bodies, a reply to verdicts.

use counterpoint_rollout::{PromptContent, Verdict, VoidReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Question;

/// What is said over HTTP. All are a POST of JSON, replied to with status 200 and JSON; more fields than named are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Counterpoint's own. `{"version": 1, "items": [{"id", "prompt", "response", "answer", "info"}]}`, where `prompt` is a
    /// string or a list of messages, as in the data, and `info` holds the data's other columns. Reply, in any order:
    /// `{"items": [{"id", "verdict": "correct" | "incorrect" | "void", "score", "reason"}]}`. Of `verdict` and `score` one is
    /// enough; a score between the ends makes a soft verdict.
    #[default]
    Counterpoint,
    /// OpenRLHF's `--remote_rm_url`. `{"query": [prompt + response], "prompts": [...], "labels": [...]}`; reply
    /// `{"rewards": [...]}`, in order. The messages of a chat are joined with line breaks, each after its role.
    Openrlhf,
    /// The same with `query` alone, for old servers that refuse the other fields.
    OpenrlhfQuery,
    /// slime's `--rm-url`, one request per response. `{"prompt", "response", "label"}`; the reply is a number, or an object
    /// with one under `reward_key`.
    Slime,
}

/// What scores mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// 0 is wrong, 1 is right, what lies between is partly right.
    #[default]
    Unit,
    /// -1 is wrong, 1 is right, what lies between is partly right.
    Signed,
}

/// A verdict, and what the server says of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, reason: None }
    }
}

/// A reward as servers send it: most are numbers, some come from a Python function that returns a truth value.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Score {
    Right(bool),
    Number(f64),
}

/// A dialect with its settings.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) dialect: Dialect,
    pub(super) scores: Scores,
    pub(super) reward_key: String,
}

impl Wire {
    /// The bodies to send: one with all responses, or one for each.
    pub(super) fn requests(&self, question: &Question) -> Vec<Vec<u8>> {
        let bodies = match self.dialect {
            Dialect::Counterpoint => vec![counterpoint_request(question)],
            Dialect::Openrlhf => {
                let mut body = openrlhf_query(question);
                let each = |text: &str| vec![Value::from(text); question.responses.len()];
                body["prompts"] = each(&plain_prompt(question)).into();
                body["labels"] = each(question.answer()).into();
                vec![body]
            }
            Dialect::OpenrlhfQuery => vec![openrlhf_query(question)],
            Dialect::Slime => {
                let (prompt, label) = (&question.prompt.content, question.answer());
                let body = |response| json!({"prompt": prompt, "response": response, "label": label});
                question.responses.iter().map(body).collect()
            }
        };
        bodies.into_iter().map(|body| body.to_string().into_bytes()).collect()
    }

    /// The judgements in the reply to one of these bodies, in the order of the responses.
    ///
    /// # Errors
    /// If the reply as a whole is not of the dialect. A single score that is no score is a void verdict of its own.
    pub(super) fn judgements(&self, reply: &[u8], question: &Question) -> Result<Vec<Judgement>, String> {
        // Checked first, because the JSON parser does not look into the strings that it skips.
        let reply = std::str::from_utf8(reply).map_err(|error| error.to_string())?;
        match self.dialect {
            Dialect::Counterpoint => self.counterpoint(reply, question),
            Dialect::Openrlhf | Dialect::OpenrlhfQuery => self.openrlhf(reply, question.responses.len()),
            Dialect::Slime => self.slime(reply),
        }
    }

    fn counterpoint(&self, reply: &str, question: &Question) -> Result<Vec<Judgement>, String> {
        #[derive(Deserialize)]
        struct Reply {
            items: Vec<Item>,
        }
        let Reply { items } = parse(reply)?;
        let mut judgements: Vec<Option<Judgement>> = vec![None; question.responses.len()];
        if items.len() != judgements.len() {
            return Err(format!("{} items for {} responses", items.len(), judgements.len()));
        }
        let ids: Vec<String> = (0..judgements.len()).map(|index| id(question, index)).collect();
        for item in items {
            let Some(index) = ids.iter().position(|id| *id == item.id) else {
                return Err(format!("unknown id `{}`", item.id));
            };
            if judgements[index].is_some() {
                return Err(format!("two items with the id `{}`", item.id));
            }
            judgements[index] = Some(self.item(item));
        }
        // As many items as responses, all with an id of ours, no two with the same: none is missing.
        Ok(judgements.into_iter().flatten().collect())
    }

    fn item(&self, item: Item) -> Judgement {
        let score = item.score.map(|score| self.verdict(score));
        let verdict = match (item.verdict, score) {
            (Some(Word::Void), _) => {
                let reason = item.reason.clone().unwrap_or_else(|| "void, without a reason".into());
                Verdict::Void(VoidReason::Verifier(reason))
            }
            (Some(Word::Correct), Some(Verdict::Incorrect)) | (Some(Word::Incorrect), Some(Verdict::Correct)) => {
                Verdict::Void(VoidReason::Protocol)
            }
            (_, Some(verdict)) => verdict,
            (Some(Word::Correct), None) => Verdict::Correct,
            (Some(Word::Incorrect), None) => Verdict::Incorrect,
            (None, None) => Verdict::Void(VoidReason::Protocol),
        };
        Judgement { verdict, reason: item.reason }
    }

    fn openrlhf(&self, reply: &str, responses: usize) -> Result<Vec<Judgement>, String> {
        #[derive(Deserialize)]
        struct Reply {
            rewards: Vec<Option<Score>>,
        }
        let Reply { rewards } = parse(reply)?;
        if rewards.len() != responses {
            return Err(format!("{} rewards for {responses} responses", rewards.len()));
        }
        Ok(rewards.into_iter().map(|score| self.optional(score).into()).collect())
    }

    fn slime(&self, reply: &str) -> Result<Vec<Judgement>, String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Reply {
            Bare(Option<Score>),
            Object(Map<String, Value>),
        }
        let score = match parse(reply)? {
            Reply::Bare(score) => score,
            Reply::Object(mut fields) => {
                let key = &self.reward_key;
                let reward = fields.remove(key).ok_or_else(|| format!("an object without `{key}` (reward_key)"))?;
                serde_json::from_value(reward).map_err(|_| format!("`{key}` is no number"))?
            }
        };
        Ok(vec![self.optional(score).into()])
    }

    fn optional(&self, score: Option<Score>) -> Verdict {
        score.map_or(Verdict::Void(VoidReason::Protocol), |score| self.verdict(score))
    }

    fn verdict(&self, score: Score) -> Verdict {
        let unit = match (score, self.scores) {
            (Score::Right(right), _) => return right.into(),
            (Score::Number(score), Scores::Unit) => score,
            (Score::Number(score), Scores::Signed) => f64::midpoint(score, 1.0),
        };
        // Compared before it is rounded to single precision, where the next number above 1 would become 1.
        if (0.0..=1.0).contains(&unit) { Verdict::from_score(unit as f32) } else { Verdict::Void(VoidReason::Protocol) }
    }
}

#[derive(Deserialize)]
struct Item {
    id: String,
    verdict: Option<Word>,
    score: Option<Score>,
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Correct,
    Incorrect,
    Void,
}

fn parse<'a, T: Deserialize<'a>>(reply: &'a str) -> Result<T, String> {
    serde_json::from_str(reply).map_err(|error| error.to_string())
}

/// Unique within a request, and of use in a server's log.
fn id(question: &Question, index: usize) -> String {
    format!("{}/{index}", question.prompt.id)
}

fn counterpoint_request(question: &Question) -> Value {
    let prompt = &question.prompt;
    let item = |(index, response): (usize, &String)| {
        json!({
            "id": id(question, index),
            "prompt": prompt.content,
            "response": response,
            "answer": prompt.answer,
            "info": prompt.info,
        })
    };
    json!({"version": 1, "items": question.responses.iter().enumerate().map(item).collect::<Vec<_>>()})
}

fn openrlhf_query(question: &Question) -> Value {
    let prompt = plain_prompt(question);
    json!({"query": question.responses.iter().map(|response| format!("{prompt}{response}")).collect::<Vec<_>>()})
}

/// The prompt as one text that an answer can follow.
fn plain_prompt(question: &Question) -> String {
    match &question.prompt.content {
        PromptContent::Text(text) => text.clone(),
        chat @ PromptContent::Chat(_) => format!("{}\nassistant: ", chat.display()),
        tokens @ PromptContent::Tokens(_) => tokens.display(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use counterpoint_rollout::{ChatMessage, Prompt};
    use proptest::prelude::*;

    use super::*;

    const PROTOCOL: Verdict = Verdict::Void(VoidReason::Protocol);

    fn wire(dialect: Dialect, scores: Scores) -> Wire {
        Wire { dialect, scores, reward_key: "score".into() }
    }

    fn asked(content: PromptContent) -> Question {
        let info = json!({"unit": "apples"}).as_object().unwrap().clone();
        let prompt = Prompt { id: "p7".into(), content, answer: "4".into(), source: "test".into(), info };
        Question::new(Arc::new(prompt), vec!["four".into(), "5".into()])
    }

    fn question() -> Question {
        asked(PromptContent::Text("2 + 2 = ".into()))
    }

    fn chat() -> Question {
        let message = |role: &str, content: &str| ChatMessage::new(role, content);
        asked(PromptContent::Chat(vec![message("system", "be brief"), message("user", "2 + 2?")]))
    }

    fn sent(dialect: Dialect, question: &Question) -> Vec<Value> {
        let bodies = wire(dialect, Scores::Unit).requests(question);
        bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
    }

    fn read(dialect: Dialect, scores: Scores, reply: &str) -> Result<Vec<Verdict>, String> {
        let judgements = wire(dialect, scores).judgements(reply.as_bytes(), &question())?;
        Ok(judgements.into_iter().map(|judgement| judgement.verdict).collect())
    }

    #[test]
    fn each_dialect_sends_its_shape() {
        let item = |id: &str, response: &str| json!({"id": id, "prompt": "2 + 2 = ", "response": response, "answer": "4", "info": {"unit": "apples"}});
        let items = json!({"version": 1, "items": [item("p7/0", "four"), item("p7/1", "5")]});
        assert_eq!(sent(Dialect::Counterpoint, &question()), [items]);
        let query = json!(["2 + 2 = four", "2 + 2 = 5"]);
        let new = json!({"query": query, "prompts": ["2 + 2 = ", "2 + 2 = "], "labels": ["4", "4"]});
        assert_eq!(sent(Dialect::Openrlhf, &question()), [new]);
        assert_eq!(sent(Dialect::OpenrlhfQuery, &question()), [json!({"query": query})]);
        let sample = |response: &str| json!({"prompt": "2 + 2 = ", "response": response, "label": "4"});
        assert_eq!(sent(Dialect::Slime, &question()), [sample("four"), sample("5")]);
    }

    #[test]
    fn a_chat_is_sent_as_messages_where_the_dialect_has_room_for_them_and_else_as_text() {
        let messages = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "2 + 2?"}]);
        assert_eq!(sent(Dialect::Counterpoint, &chat())[0]["items"][0]["prompt"], messages);
        assert_eq!(sent(Dialect::Slime, &chat())[0]["prompt"], messages);
        let body = &sent(Dialect::Openrlhf, &chat())[0];
        assert_eq!(body["prompts"][0], "system: be brief\nuser: 2 + 2?\nassistant: ");
        assert_eq!(body["query"][1], "system: be brief\nuser: 2 + 2?\nassistant: 5");
    }

    #[test]
    fn items_are_matched_by_id_and_not_by_order() {
        let reply = r#"{"items": [{"id": "p7/1", "verdict": "incorrect", "reason": "5"}, {"id": "p7/0", "verdict": "correct"}],
                        "more": 1}"#;
        let judgements = wire(Dialect::Counterpoint, Scores::Unit).judgements(reply.as_bytes(), &question()).unwrap();
        assert_eq!(judgements[0], Verdict::Correct.into());
        assert_eq!(judgements[1], Judgement { verdict: Verdict::Incorrect, reason: Some("5".into()) });
    }

    #[test]
    fn an_item_has_a_verdict_or_a_score_or_both_without_contradiction() {
        let one = |fields: &str| {
            let reply = format!(r#"{{"items": [{{"id": "p7/0", {fields}}}, {{"id": "p7/1", "score": 1}}]}}"#);
            read(Dialect::Counterpoint, Scores::Unit, &reply).unwrap()[0].clone()
        };
        assert_eq!(one(r#""verdict": "correct", "score": null"#), Verdict::Correct);
        assert_eq!(one(r#""verdict": "incorrect", "score": 0.25"#), Verdict::Soft(0.25));
        assert_eq!(one(r#""score": 0"#), Verdict::Incorrect);
        assert_eq!(one(r#""verdict": "correct", "score": 0"#), PROTOCOL);
        assert_eq!(one(r#""verdict": "incorrect", "score": 1.0"#), PROTOCOL);
        assert_eq!(one(r#""verdict": "correct", "score": 1.5"#), PROTOCOL);
        assert_eq!(one(r#""reason": "?""#), PROTOCOL);
        let void = |reason: &str| Verdict::Void(VoidReason::Verifier(reason.into()));
        assert_eq!(one(r#""verdict": "void", "score": 1, "reason": "no sandbox""#), void("no sandbox"));
        assert_eq!(one(r#""verdict": "void""#), void("void, without a reason"));
    }

    #[test]
    fn a_reply_with_wrong_ids_or_a_wrong_count_is_refused_as_a_whole() {
        for (items, error) in [
            (r#"{"id": "p7/0", "score": 1}"#, "1 items for 2 responses"),
            (r#"{"id": "p7/0", "score": 1}, {"id": "p7/0", "score": 1}"#, "two items with the id `p7/0`"),
            (r#"{"id": "p7/0", "score": 1}, {"id": "p8/1", "score": 1}"#, "unknown id `p8/1`"),
            (r#"{"id": "p7/0", "score": 1}, {"score": 1}"#, "missing field `id`"),
            (r#"{"id": "p7/0", "score": 1}, {"id": 1, "score": 1}"#, "expected a string"),
            (r#"{"id": "p7/0", "score": 1}, {"id": "p7/1", "verdict": "yes"}"#, "unknown variant `yes`"),
            (r#"{"id": "p7/0", "score": 1}, {"id": "p7/1", "score": NaN}"#, "expected"),
        ] {
            let got = read(Dialect::Counterpoint, Scores::Unit, &format!("{{\"items\": [{items}]}}")).unwrap_err();
            assert!(got.contains(error), "{got}");
        }
    }

    #[test]
    fn rewards_are_scores_in_order_and_one_that_is_none_is_void_alone() {
        let rewards = |scores, list: &str| read(Dialect::Openrlhf, scores, &format!("{{\"rewards\": {list}}}"));
        assert_eq!(rewards(Scores::Unit, "[1, 0.0]").unwrap(), [Verdict::Correct, Verdict::Incorrect]);
        assert_eq!(rewards(Scores::Unit, "[0.5, true]").unwrap(), [Verdict::Soft(0.5), Verdict::Correct]);
        assert_eq!(rewards(Scores::Unit, "[-1, 1.00000001]").unwrap(), [PROTOCOL, PROTOCOL]);
        assert_eq!(rewards(Scores::Unit, "[null, 1]").unwrap(), [PROTOCOL, Verdict::Correct]);
        assert_eq!(rewards(Scores::Signed, "[-1, 1]").unwrap(), [Verdict::Incorrect, Verdict::Correct]);
        assert_eq!(rewards(Scores::Signed, "[0, false]").unwrap(), [Verdict::Soft(0.5), Verdict::Incorrect]);
        assert_eq!(rewards(Scores::Signed, "[-1.1, 2]").unwrap(), [PROTOCOL, PROTOCOL]);
        for wrong in
            ["[1]", "[1, 1, 1]", "[NaN, 1]", "[1, Infinity]", "[1, 1e999]", "[\"1\", 1]", "[[1], [1]]", "1", "{}"]
        {
            assert!(rewards(Scores::Unit, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sample_gets_a_bare_number_or_an_object_with_one() {
        let sample = |reply: &str| read(Dialect::Slime, Scores::Unit, reply);
        assert_eq!(sample("1.0").unwrap(), [Verdict::Correct]);
        assert_eq!(sample(" 0 ").unwrap(), [Verdict::Incorrect]);
        assert_eq!(sample(r#"{"score": 0.5, "acc": false}"#).unwrap(), [Verdict::Soft(0.5)]);
        assert_eq!(sample("null").unwrap(), [PROTOCOL]);
        assert_eq!(sample(r#"{"score": null}"#).unwrap(), [PROTOCOL]);
        assert_eq!(sample(r#"{"reward": 1}"#).unwrap_err(), "an object without `score` (reward_key)");
        assert_eq!(sample(r#"{"score": "1"}"#).unwrap_err(), "`score` is no number");
        for wrong in ["", "NaN", "\"1\"", "[1]", "1 1"] {
            assert!(sample(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn invalid_utf8_is_refused_also_where_the_parser_would_skip_it() {
        let reply = b"{\"rewards\": [1, 1], \"extra_logs\": \"\xff\"}";
        assert!(wire(Dialect::Openrlhf, Scores::Unit).judgements(reply, &question()).is_err());
    }

    proptest! {
        // Whatever a server sends, there is an error or one verdict per response, and no verdict is a score out of range.
        #[test]
        fn any_reply_is_an_error_or_has_a_verdict_for_each_response(reply in ".{0,60}", score in any::<f64>()) {
            for dialect in [Dialect::Counterpoint, Dialect::Openrlhf, Dialect::Slime] {
                for reply in [reply.clone(), format!("{{\"rewards\": [{score}, {score}]}}"), score.to_string()] {
                    if let Ok(verdicts) = read(dialect, Scores::Signed, &reply) {
                        prop_assert_eq!(verdicts.len(), if dialect == Dialect::Slime { 1 } else { 2 });
                        for score in verdicts.iter().filter_map(Verdict::score) {
                            prop_assert!((0.0..=1.0).contains(&score));
                        }
                    }
                }
            }
        }
    }
}
