//! The kind `format`: whether a response has the form that was asked for, whatever it says. For use with `all` and
//! `weighted`, beside a kind that looks at the answer.

use async_trait::async_trait;
use counterpoint_rollout::Verdict;
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::pattern::one_line;
use crate::{Question, Verifier, VerifierError};

/// Options of the kind `format`. What is not set is not asked for.
///
/// ```
/// use counterpoint_verifier::{Format, FormatOptions, Verdict};
///
/// let options = FormatOptions { tags: vec!["think".into(), "answer".into()], ..FormatOptions::default() };
/// let format = Format::new(options)?;
/// assert_eq!(format.judge("<think>2 + 2</think>\n<answer>4</answer>"), Verdict::Correct);
/// assert_eq!(format.judge("<answer>4</answer><think>2 + 2</think>"), Verdict::Incorrect);
/// assert_eq!(format.judge("<think>2 + 2</think> 4"), Verdict::Incorrect);
/// # Ok::<(), counterpoint_verifier::VerifierError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FormatOptions {
    /// Tags that must stand in the response, in this order, one after the other, each opened (`<think>`) and closed
    /// (`</think>`) once. Default: none.
    pub tags: Vec<String>,
    /// Whether nothing but white space may stand outside these tags. Default: false.
    pub only_tags: bool,
    /// Whether each of these tags must hold more than white space. Default: false.
    pub filled_tags: bool,
    /// Texts that must stand in the response. Default: none.
    pub contains: Vec<String>,
    /// Texts that must not. Default: none.
    pub excludes: Vec<String>,
    /// A regular expression (syntax of Rust's `regex` crate) that must match somewhere in the response; `.` matches line
    /// breaks too. Default: none.
    pub pattern: Option<String>,
    /// How many `\boxed{` there must be. Default: any number.
    pub boxes: Option<usize>,
    /// The fewest characters (Unicode's) of a response, white space at its ends left out. Default: none.
    pub min_chars: Option<usize>,
    /// The most. Default: none.
    pub max_chars: Option<usize>,
    /// The fewest words, as white space separates them. Default: none.
    pub min_words: Option<usize>,
    /// The most. Default: none.
    pub max_words: Option<usize>,
    /// Whether the score is the share of these demands that are met; otherwise one that is not met makes the response wrong.
    /// Default: false.
    pub partial: bool,
}

/// The kind `format`; see [`FormatOptions`].
#[derive(Debug)]
pub struct Format {
    options: FormatOptions,
    pattern: Option<Regex>,
}

/// A demand, and what is wrong if it is not met.
type Demand = Result<(), String>;

impl Format {
    /// Checks the options.
    ///
    /// # Errors
    /// No demand at all, demands that nothing can meet, a tag or a pattern that is none.
    pub fn new(options: FormatOptions) -> Result<Self, VerifierError> {
        let bad = |problem: String| Err(VerifierError::BadOption(problem));
        let named = |tag: &String| !tag.is_empty() && tag.chars().all(|c| c.is_alphanumeric() || "_-.:".contains(c));
        if let Some(tag) = options.tags.iter().find(|tag| !named(tag)) {
            return bad(format!("tags: {tag:?} is no name of a tag; write \"think\" for <think>"));
        }
        if let Some(tag) = options.tags.iter().enumerate().find(|(i, tag)| options.tags[..*i].contains(tag)) {
            return bad(format!("tags: `{}` stands there twice; each tag is asked for once", tag.1));
        }
        if options.tags.is_empty() && (options.only_tags || options.filled_tags) {
            return bad("tags: none are given, so only_tags and filled_tags have no effect".into());
        }
        for (name, least, most) in
            [("chars", options.min_chars, options.max_chars), ("words", options.min_words, options.max_words)]
        {
            if let (Some(least), Some(most)) = (least, most)
                && least > most
            {
                return bad(format!("min_{name}: {least} is more than max_{name}, {most}: nothing could pass"));
            }
        }
        let pattern = match &options.pattern {
            Some(pattern) => match RegexBuilder::new(pattern).dot_matches_new_line(true).size_limit(1 << 20).build() {
                Ok(regex) => Some(regex),
                Err(error) => return bad(format!("pattern: {}", one_line(&error))),
            },
            None => None,
        };
        if options == (FormatOptions { partial: options.partial, ..FormatOptions::default() }) {
            return bad(
                "asks for nothing: set at least one of its options, as in tags = [\"think\", \"answer\"]".into()
            );
        }
        Ok(Self { options, pattern })
    }

    /// The verdict on one response.
    pub fn judge(&self, response: &str) -> Verdict {
        let demands = self.demands(response);
        let met = demands.iter().filter(|demand| demand.is_ok()).count();
        match self.options.partial {
            true => Verdict::from_score(met as f32 / demands.len() as f32),
            false => Verdict::from(met == demands.len()),
        }
    }

    /// Every demand that is made, in the order of the options; at least one.
    fn demands(&self, response: &str) -> Vec<Demand> {
        let options = &self.options;
        let mut demands = Vec::new();
        if !options.tags.is_empty() {
            demands.push(self.tags(response));
        }
        let demand = |met: bool, problem: String| if met { Ok(()) } else { Err(problem) };
        demands.extend(options.contains.iter().map(|text| demand(response.contains(text), format!("lacks {text:?}"))));
        demands.extend(options.excludes.iter().map(|text| demand(!response.contains(text), format!("has {text:?}"))));
        if let Some(pattern) = &self.pattern {
            demands.push(demand(pattern.is_match(response), "the pattern does not match".into()));
        }
        let counts = [
            ("boxes", options.boxes, options.boxes, response.matches("\\boxed{").count()),
            ("characters", options.min_chars, options.max_chars, response.trim().chars().count()),
            ("words", options.min_words, options.max_words, response.split_whitespace().count()),
        ];
        for (name, least, most, count) in counts {
            if least.is_some() || most.is_some() {
                let range = least.unwrap_or(0)..=most.unwrap_or(usize::MAX);
                demands.push(demand(range.contains(&count), format!("{count} {name}")));
            }
        }
        demands
    }

    fn tags(&self, response: &str) -> Demand {
        let mut outside = String::new();
        let mut rest = response;
        for tag in &self.options.tags {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            for mark in [&open, &close] {
                match response.matches(mark.as_str()).count() {
                    1 => {}
                    count => return Err(format!("{mark} stands there {count} times")),
                }
            }
            let Some((before, inside)) = rest.split_once(&open) else {
                return Err(format!("{open} is not in its place"));
            };
            let Some((inside, after)) = inside.split_once(&close) else {
                return Err(format!("{close} is not in its place"));
            };
            if self.options.filled_tags && inside.trim().is_empty() {
                return Err(format!("{open} is empty"));
            }
            outside.push_str(before);
            rest = after;
        }
        outside.push_str(rest);
        match self.options.only_tags && !outside.trim().is_empty() {
            true => Err("there is text outside the tags".into()),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Verifier for Format {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        question.each(|response| self.judge(response))
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let explain = |response: &String| {
            let demands = self.demands(response);
            let problems: Vec<_> = demands.iter().filter_map(|demand| demand.as_ref().err()).collect();
            json!({"demands": demands.len(), "problems": problems})
        };
        Some(question.responses.iter().map(explain).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_options;

    fn format(options: Value) -> Format {
        Format::new(parse_options(options).unwrap()).unwrap()
    }

    fn passes(options: Value, response: &str) -> bool {
        format(options).judge(response) == Verdict::Correct
    }

    #[test]
    fn tags_stand_once_in_order_and_one_after_the_other() {
        let tags = || json!({"tags": ["think", "answer"]});
        assert!(passes(tags(), "a <think>b</think> c <answer>d</answer> e"));
        for wrong in [
            "",
            "<think>b</think>",
            "<answer>d</answer><think>b</think>",
            "<think>b<answer>d</answer></think>",
            "<think>b</think><think>c</think><answer>d</answer>",
            "<think>b</think></think><answer>d</answer>",
            "<think>b<answer>d</answer>",
            "<THINK>b</THINK><answer>d</answer>",
        ] {
            assert!(!passes(tags(), wrong), "{wrong}");
        }
    }

    #[test]
    fn tags_may_have_to_hold_everything_and_something() {
        let only = || json!({"tags": ["a"], "only_tags": true});
        assert!(passes(only(), "\n<a></a> "));
        assert!(!passes(only(), "<a></a> b"));
        assert!(!passes(only(), "b <a></a>"));
        let filled = || json!({"tags": ["a"], "filled_tags": true});
        assert!(passes(filled(), "<a>b</a>"));
        assert!(!passes(filled(), "<a> \n</a>"));
    }

    #[test]
    fn lengths_texts_patterns_and_boxes_are_demands_of_their_own() {
        for (options, right, wrong) in [
            (json!({"contains": ["####"]}), "#### 4", "4"),
            (json!({"excludes": ["As an AI"]}), "4", "As an AI, 4"),
            (json!({"pattern": "^Step 1.*Answer"}), "Step 1\nAnswer", "Answer\nStep 1"),
            (json!({"boxes": 1}), r"\boxed{4}", r"\boxed{4} \boxed{5}"),
            (json!({"min_chars": 2}), " éé ", " é "),
            (json!({"max_chars": 2}), "éé\n", "ééé"),
            (json!({"min_words": 2}), "a b", "ab"),
            (json!({"max_words": 2}), "a\nb", "a b c"),
        ] {
            assert!(passes(options.clone(), right), "{options}: {right}");
            assert!(!passes(options.clone(), wrong), "{options}: {wrong}");
        }
    }

    #[test]
    fn a_share_of_the_demands_may_be_the_score() {
        let options = json!({"contains": ["a", "b"], "boxes": 0, "max_words": 9, "partial": true});
        assert_eq!(format(options.clone()).judge("a b"), Verdict::Correct);
        assert_eq!(format(options.clone()).judge("a"), Verdict::Soft(0.75));
    }

    #[tokio::test]
    async fn an_explanation_says_what_is_missing() {
        let explained = format(json!({"tags": ["think"], "min_words": 3})).explain(&Question::pair("a", "")).await;
        let problems = json!(["<think> stands there 0 times", "1 words"]);
        assert_eq!(explained, Some(vec![json!({"demands": 2, "problems": problems})]));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (options, problem) in [
            (json!({}), "asks for nothing"),
            (json!({"partial": true}), "asks for nothing"),
            (json!({"tags": ["<think>"]}), "tags: \"<think>\" is no name of a tag"),
            (json!({"tags": ["a", "a"]}), "tags: `a` stands there twice"),
            (json!({"only_tags": true}), "tags: none are given"),
            (json!({"min_words": 3, "max_words": 2}), "min_words: 3 is more than max_words, 2"),
            (json!({"pattern": "("}), "pattern: unclosed group"),
        ] {
            let error = Format::new(parse_options(options).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }
}
