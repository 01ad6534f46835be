//! The kind `json`: the response gives a JSON value that equals the truth, or that a JSON Schema accepts.
//!
//! **Limits.** A value nested deeper than 128 levels is none. Numbers are compared as 64-bit integers, or else as doubles.
//! A response in which values begin again and again and never end is void (`budget`) after [`MOST_WORK`] bytes.
//! Schemas are compiled once, or once per question where the data has them; references to other documents are refused, and
//! patterns run in time linear in the text.

use std::sync::Arc;

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use jsonschema::{PatternOptions, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};

use crate::fence::blocks;
use crate::{Question, Verifier, VerifierError};

/// The most bytes that are read, some of them again and again, to find the last value in a response.
const MOST_WORK: usize = 1 << 24;

/// Options of the kind `json`.
///
/// ```
/// use counterpoint_verifier::{Json, JsonOptions, Verdict};
///
/// let json = Json::new(JsonOptions::default())?;
/// assert_eq!(json.judge("Here it is: {\"b\": [1, 2], \"a\": 1.0}", r#"{"a": 1, "b": [1, 2]}"#), Verdict::Correct);
/// assert_eq!(json.judge(r#"{"a": 1, "b": [2, 1]}"#, r#"{"a": 1, "b": [1, 2]}"#), Verdict::Incorrect);
///
/// let schema = serde_json::json!({"type": "object", "required": ["name"]});
/// let json = Json::new(JsonOptions { schema: Some(schema), ..JsonOptions::default() })?;
/// assert_eq!(json.judge(r#"{"name": "Ada"}"#, ""), Verdict::Correct);
/// assert_eq!(json.judge(r#"{"nom": "Ada"}"#, ""), Verdict::Incorrect);
/// # Ok::<(), counterpoint_verifier::VerifierError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JsonOptions {
    /// Where in the response the value stands. Default: `any`.
    pub extract: JsonExtract,
    /// A JSON Schema (drafts 4 to 2020-12) that the value must fulfil; then the truth does not count. Default: none.
    pub schema: Option<Value>,
    /// The column of the data that holds the schema of each question, as an object or its text. Default: none.
    pub schema_column: Option<String>,
    /// Whether lists are equal in any order. Default: false.
    pub any_order: bool,
    /// Whether objects may have more keys than those of the truth. Default: false.
    pub extra_keys: bool,
}

/// Where in a response the JSON value stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JsonExtract {
    /// The whole response, or its last fenced block that is JSON, or else the last object or list in it.
    #[default]
    Any,
    /// The whole response.
    Whole,
    /// The last fenced block; what it holds must be JSON.
    Fence,
}

/// The kind `json`; see [`JsonOptions`].
#[derive(Debug)]
pub struct Json {
    options: JsonOptions,
    schema: Option<Arc<Validator>>,
}

/// What the values of a question are held against.
enum Measure {
    Truth(Value),
    Schema(Arc<Validator>),
}

impl Json {
    /// Compiles the schema.
    ///
    /// # Errors
    /// A schema that is none; options that make no sense together.
    pub fn new(options: JsonOptions) -> Result<Self, VerifierError> {
        let bad = |problem: &str| Err(VerifierError::BadOption(problem.into()));
        let by_schema = options.schema.is_some() || options.schema_column.is_some();
        if options.schema.is_some() && options.schema_column.is_some() {
            return bad("schema: there is a schema_column too; leave one of them out");
        }
        if by_schema && (options.any_order || options.extra_keys) {
            return bad("any_order, extra_keys: say how a value equals the truth, which does not count with a schema");
        }
        let compiled = options.schema.as_ref().map(compile).transpose();
        let schema = compiled.map_err(|error| VerifierError::BadOption(format!("schema: {error}")))?;
        Ok(Self { options, schema })
    }

    /// The verdict on one response, for a schema in the options or a truth.
    pub fn judge(&self, response: &str, answer: &str) -> Verdict {
        match self.measure(answer, &Map::new()) {
            Ok(measure) => self.verdict(response, &measure),
            Err(reason) => Verdict::Void(reason),
        }
    }

    fn measure(&self, answer: &str, info: &Map<String, Value>) -> Result<Measure, VoidReason> {
        let void = |problem: String| VoidReason::Verifier(problem.chars().take(200).collect());
        if let Some(schema) = &self.schema {
            return Ok(Measure::Schema(Arc::clone(schema)));
        }
        let Some(column) = &self.options.schema_column else {
            let truth = serde_json::from_str(answer).map_err(|error| void(format!("the truth is no JSON: {error}")))?;
            return Ok(Measure::Truth(truth));
        };
        let schema = match info.get(column) {
            None => return Err(void(format!("the data has no column `{column}`"))),
            Some(Value::String(text)) => serde_json::from_str(text).map_err(|error| error.to_string()),
            Some(value) => Ok(value.clone()),
        };
        let compiled = schema.and_then(|schema| compile(&schema));
        compiled.map(Measure::Schema).map_err(|error| void(format!("{column}: {error}")))
    }

    fn verdict(&self, response: &str, measure: &Measure) -> Verdict {
        let value = match self.find(response) {
            Ok(Some(value)) => value,
            Ok(None) => return Verdict::Incorrect,
            Err(reason) => return Verdict::Void(reason),
        };
        Verdict::from(match measure {
            Measure::Truth(truth) => self.equal(&value, truth),
            Measure::Schema(schema) => schema.is_valid(&value),
        })
    }

    /// The value that a response gives.
    fn find(&self, response: &str) -> Result<Option<Value>, VoidReason> {
        let read = |text: &str| serde_json::from_str(text).ok();
        let found = match self.options.extract {
            JsonExtract::Whole => read(response),
            JsonExtract::Fence => blocks(response).pop().and_then(|block| read(&block.text())),
            JsonExtract::Any => {
                let within = || blocks(response).into_iter().rev().find_map(|block| read(&block.text()));
                read(response).or_else(within)
            }
        };
        match found {
            None if self.options.extract == JsonExtract::Any => last_value(response),
            found => Ok(found),
        }
    }

    fn equal(&self, value: &Value, truth: &Value) -> bool {
        match (value, truth) {
            (Value::Number(a), Value::Number(b)) => same_number(a, b),
            (Value::Array(a), Value::Array(b)) if a.len() != b.len() => false,
            (Value::Array(a), Value::Array(b)) if self.options.any_order => self.same_items(a, b),
            (Value::Array(a), Value::Array(b)) => a.iter().zip(b).all(|(a, b)| self.equal(a, b)),
            (Value::Object(a), Value::Object(b)) => {
                let enough = if self.options.extra_keys { a.len() >= b.len() } else { a.len() == b.len() };
                enough && b.iter().all(|(key, b)| a.get(key).is_some_and(|a| self.equal(a, b)))
            }
            _ => value == truth,
        }
    }

    /// Whether each item has a partner of its own. Where `extra_keys` makes several fit, a greedy choice could take the wrong
    /// one, so partners are moved along if that frees one (an augmenting path).
    fn same_items(&self, values: &[Value], truths: &[Value]) -> bool {
        let fits: Vec<Vec<usize>> = truths
            .iter()
            .map(|truth| (0..values.len()).filter(|&index| self.equal(&values[index], truth)).collect())
            .collect();
        let mut owner: Vec<Option<usize>> = vec![None; values.len()];
        (0..truths.len()).all(|truth| place(truth, &fits, &mut owner, &mut vec![false; values.len()]))
    }
}

/// Finds a value for this truth, if need be by finding another for the truth that has it.
fn place(truth: usize, fits: &[Vec<usize>], owner: &mut [Option<usize>], tried: &mut [bool]) -> bool {
    for &value in &fits[truth] {
        if std::mem::replace(&mut tried[value], true) {
            continue;
        }
        if owner[value].is_none_or(|other| place(other, fits, owner, tried)) {
            owner[value] = Some(truth);
            return true;
        }
    }
    false
}

fn same_number(a: &Number, b: &Number) -> bool {
    match (a.as_i64(), b.as_i64(), a.as_u64(), b.as_u64()) {
        (Some(a), Some(b), ..) => a == b,
        (.., Some(a), Some(b)) => a == b,
        _ => a.as_f64() == b.as_f64(),
    }
}

/// The last object or list in a text that is not part of another.
fn last_value(text: &str) -> Result<Option<Value>, VoidReason> {
    let (mut last, mut at, mut work) = (None, 0, 0);
    while let Some(start) = text[at..].find(['{', '[']).map(|offset| at + offset) {
        let rest = &text[start..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        at = match values.next() {
            Some(Ok(value)) => {
                last = Some(value);
                start + values.byte_offset()
            }
            Some(Err(error)) => {
                work += read_before(rest, &error);
                start + 1
            }
            None => start + 1,
        };
        if work > MOST_WORK {
            return Err(VoidReason::Budget);
        }
    }
    Ok(last)
}

/// How many bytes a parser read before it failed.
fn read_before(text: &str, error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    lines.map(str::len).sum::<usize>() + error.column()
}

fn compile(schema: &Value) -> Result<Arc<Validator>, String> {
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    options.build(schema).map(Arc::new).map_err(|error| error.to_string())
}

#[async_trait]
impl Verifier for Json {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        match self.measure(question.answer(), &question.prompt.info) {
            Ok(measure) => question.each(|response| self.verdict(response, &measure)),
            Err(reason) => question.each(|_| Verdict::Void(reason.clone())),
        }
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let measure = self.measure(question.answer(), &question.prompt.info).ok()?;
        let violations = |schema: &Validator, value: &Value| {
            let told = schema.iter_errors(value).take(5);
            told.map(|error| format!("{}: {error}", error.instance_path())).collect::<Vec<_>>()
        };
        let explain = |response: &String| match (self.find(response).ok().flatten(), &measure) {
            (None, _) => json!({"value": null}),
            (Some(value), Measure::Truth(truth)) => json!({"value": value, "truth": truth}),
            (Some(value), Measure::Schema(schema)) => json!({"violations": violations(schema, &value), "value": value}),
        };
        Some(question.responses.iter().map(explain).collect())
    }
}

#[cfg(test)]
mod tests {
    use counterpoint_rollout::{Prompt, PromptContent};
    use proptest::prelude::*;

    use super::*;
    use crate::parse_options;

    fn verifier(options: Value) -> Json {
        Json::new(parse_options(options).unwrap()).unwrap()
    }

    fn right(options: Value, response: &str, answer: &str) -> bool {
        verifier(options).judge(response, answer) == Verdict::Correct
    }

    #[test]
    fn values_are_equal_whatever_their_spelling() {
        for (response, truth) in [
            (r#"{"b": 2, "a": 1}"#, r#"{"a":1,"b":2}"#),
            ("1.0", "1"),
            ("1e2", "100"),
            (r#""\u00e9""#, "\"é\""),
            ("18446744073709551615", "18446744073709551615"),
            ("null", "null"),
            ("[[], {}]", "[[],{}]"),
        ] {
            assert!(right(json!({}), response, truth), "{response}");
        }
        for (response, truth) in [
            ("[2, 1]", "[1, 2]"),
            ("[1, 2, 3]", "[1, 2]"),
            (r#"{"a": 1, "b": 2}"#, r#"{"a": 1}"#),
            (r#"{"a": "1"}"#, r#"{"a": 1}"#),
            ("true", "1"),
            ("9007199254740993", "9007199254740992"),
            ("nonsense", "1"),
            ("{'a': 1}", r#"{"a": 1}"#),
        ] {
            assert!(!right(json!({}), response, truth), "{response}");
        }
    }

    #[test]
    fn the_value_is_found_in_fences_and_among_words() {
        let truth = r#"{"a": [1]}"#;
        for response in [
            "```json\n{\"a\": [1]}\n```",
            "First:\n```json\n{\"a\": 0}\n```\nBetter:\n```json\n{\"a\": [1]}\n```\nDone.",
            "The result is {\"a\": [1]}.",
            "{\"a\": 0} no, {\"a\": [1]}",
            "```\n{\"a\": [1]}",
            "```json\n{\"a\": [1]}\n```\n```\nnot json\n```",
        ] {
            assert!(right(json!({}), response, truth), "{response}");
        }
        assert!(!right(json!({}), "{\"a\": [1]} no, {\"a\": 0}", truth));
        assert!(!right(json!({}), "{\"b\": {\"a\": [1]}}", truth));
        assert!(!right(json!({"extract": "whole"}), "It is {\"a\": [1]}", truth));
        assert!(!right(json!({"extract": "fence"}), "{\"a\": [1]}", truth));
        assert!(right(json!({"extract": "fence"}), "```json\n{\"a\": [1]}\n```", truth));
    }

    #[test]
    fn order_and_extra_keys_may_be_forgiven() {
        let any = || json!({"any_order": true});
        assert!(right(any(), "[[2, 1], 3, 3]", "[3, [1, 2], 3]"));
        assert!(!right(any(), "[1, 1, 2]", "[1, 2, 2]"));
        let extra = || json!({"extra_keys": true});
        assert!(right(extra(), r#"{"a": {"x": 1, "y": 2}, "b": 0}"#, r#"{"a": {"x": 1}}"#));
        assert!(!right(extra(), r#"{"a": {}}"#, r#"{"a": {"x": 1}}"#));
        // The first truth fits both values, the second only the first value.
        let both = json!({"any_order": true, "extra_keys": true});
        assert!(right(both, r#"[{"a": 1, "b": 2}, {"a": 1}]"#, r#"[{"a": 1}, {"b": 2}]"#));
    }

    #[test]
    fn a_schema_decides_without_a_truth() {
        let schema = json!({"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}},
                            "required": ["age"], "additionalProperties": false});
        assert!(right(json!({"schema": schema}), r#"{"age": 7}"#, ""));
        for wrong in [r#"{"age": -1}"#, r#"{"age": "7"}"#, r#"{"age": 7, "x": 0}"#, "{}", "[]", "7"] {
            assert!(!right(json!({"schema": schema}), wrong, ""), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_schema_may_come_with_the_question() {
        let json = verifier(json!({"schema_column": "schema"}));
        let ask = async |info: Value| {
            let content = PromptContent::Text(String::new());
            let info = info.as_object().unwrap().clone();
            let prompt = Prompt { id: "1".into(), content, answer: String::new(), source: String::new(), info };
            json.verify(&Question::new(Arc::new(prompt), vec!["[1]".into(), "{}".into()])).await
        };
        let list = [Verdict::Correct, Verdict::Incorrect];
        assert_eq!(ask(json!({"schema": {"type": "array"}})).await, list);
        assert_eq!(ask(json!({"schema": "{\"type\": \"array\"}"})).await, list);
        for broken in [json!({}), json!({"schema": "{"}), json!({"schema": {"type": "arry"}})] {
            assert!(matches!(ask(broken).await[0], Verdict::Void(VoidReason::Verifier(_))));
        }
    }

    #[test]
    fn schemas_that_reach_out_or_are_none_and_options_at_odds_are_refused() {
        for (options, problem) in [
            (json!({"schema": {"$ref": "https://example.org/s.json"}}), "schema: "),
            (json!({"schema": {"type": "arry"}}), "schema: "),
            (json!({"schema": {"pattern": "(?=a)"}}), "schema: "),
            (json!({"schema": {}, "schema_column": "s"}), "schema: there is a schema_column too"),
            (json!({"schema": {}, "any_order": true}), "any_order, extra_keys: "),
        ] {
            let error = Json::new(parse_options(options).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn a_truth_that_is_no_json_is_void_and_depth_has_an_end() {
        assert!(matches!(verifier(json!({})).judge("1", "one"), Verdict::Void(_)));
        assert!(!right(json!({}), &"[".repeat(100_000), "[]"));
        assert!(!right(json!({}), &format!("{}{}", "[".repeat(200), "]".repeat(200)), "[1]"));
        let many = format!("{{\"a\": [{}] }} and {{\"b\": 1}} $x_{{1}}$", "{\"c\": []},".repeat(999) + "0");
        assert!(right(json!({}), &many, r#"{"b": 1}"#));
        let endless = ("[".to_owned() + &"1,".repeat(500)).repeat(400);
        assert_eq!(verifier(json!({})).judge(&endless, "[]"), Verdict::Void(VoidReason::Budget));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from);
            let object = prop::collection::btree_map("[a-c]", inner, 0..4);
            prop_oneof![list, object.prop_map(|object| Value::Object(object.into_iter().collect()))]
        })
    }

    proptest! {
        // A case takes long in a debug build.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_value_equals_itself_however_it_is_printed_and_another_only_if_it_is_the_same(a in value(), b in value()) {
            let json = Json::new(JsonOptions::default()).unwrap();
            prop_assert_eq!(json.judge(&serde_json::to_string_pretty(&a).unwrap(), &a.to_string()), Verdict::Correct);
            prop_assert_eq!(json.judge(&a.to_string(), &b.to_string()), Verdict::from(a == b));
        }
    }
}
