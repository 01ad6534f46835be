//! The kind `regex`: a regular expression finds the answer, or is matched by right responses alone.
//!
//! **Limits.** The engine takes time linear in the text for one search, whatever the pattern. To find the last match it
//! searches once per match, so a response over [`MOST_WORK`] (matches times bytes left to search) is void (`budget`). A pattern
//! that compiles to more than [`LARGEST_PATTERN`] is refused; if the truth in it makes it so, the verdict is void (`budget`).

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use regex::{Captures, Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::extract::MARKER;
use crate::normal::fold_case;
use crate::{Case, Extract, Question, Verifier, VerifierError};

/// Bytes of the largest compiled pattern.
const LARGEST_PATTERN: usize = 1 << 20;

/// The most work to find the last match, in matches times bytes left to search: a million matches in a kilobyte each, or a
/// thousand in a megabyte.
const MOST_WORK: u64 = 1 << 30;

/// What stands in a pattern for the truth.
const ANSWER: &str = "{answer}";

/// Options of the kind `regex`.
///
/// ```
/// use counterpoint_verifier::{Question, RegexOptions, RegexVerifier, Verdict};
///
/// let options = RegexOptions { pattern: r"(?i)answer:\s*(\w+)".into(), ..RegexOptions::default() };
/// let regex = RegexVerifier::new(options)?;
/// assert_eq!(regex.judge("Answer: 3? No. Answer: Paris", "Paris"), Verdict::Correct);
/// assert_eq!(regex.judge("Answer: Paris? No. Answer: Rome", "Paris"), Verdict::Incorrect);
///
/// let options = RegexOptions { pattern: r"=\s*{answer}$".into(), ..RegexOptions::default() };
/// assert_eq!(RegexVerifier::new(options)?.judge("2 * 2.25 = 4.5", "4.5"), Verdict::Correct);
/// # Ok::<(), counterpoint_verifier::VerifierError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegexOptions {
    /// The regular expression (syntax of Rust's `regex` crate: Perl's without look-around and back-references). `{answer}` in
    /// it stands for the truth, taken literally. Required.
    pub pattern: String,
    /// What makes a response right. Not set: `match` if the pattern has `{answer}`, else `group`.
    pub decides: Option<Decides>,
    /// The group compared with the truth: its number or name, 0 for the whole match. Not set: the group named `answer`, else
    /// the first. White space at its ends does not count.
    pub group: Option<GroupName>,
    /// Which match counts for `group`. Default: `last`.
    pub take: Take,
    /// Whether upper and lower case differ, in the pattern and in the comparison. Default: `sensitive`.
    pub case: Case,
    /// Where in the response to search; a response without such a place is wrong. Default: `whole`.
    pub extract: Extract,
    /// What `extract = "after_marker"` looks for. Not set: `####`.
    pub marker: Option<String>,
}

/// What makes a response right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decides {
    /// That the pattern matches.
    Match,
    /// That a group of the match equals the truth.
    Group,
}

/// Which of several finds counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// The last.
    #[default]
    Last,
    /// The first.
    First,
}

/// A group of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GroupName {
    /// By its number; 0 is the whole match.
    Number(usize),
    /// By its name.
    Name(String),
}

/// The kind `regex`; see [`RegexOptions`].
#[derive(Debug)]
pub struct RegexVerifier {
    options: RegexOptions,
    marker: String,
    /// The compiled pattern, if the truth is no part of it.
    fixed: Option<Regex>,
    decides: Decides,
    /// The group that counts where a group decides.
    group: usize,
}

/// What came of one response.
struct Judgement {
    verdict: Verdict,
    found: Option<String>,
}

impl RegexVerifier {
    /// Compiles the pattern.
    ///
    /// # Errors
    /// A pattern that is none, a group that it does not have, options that make no sense together.
    pub fn new(options: RegexOptions) -> Result<Self, VerifierError> {
        let bad = |problem: String| Err(VerifierError::BadOption(problem));
        if options.pattern.is_empty() {
            return bad("pattern: missing, as in pattern = \"Answer: (.*)\"".into());
        }
        let marker = options.marker.clone().unwrap_or_else(|| MARKER.into());
        options.extract.check(&marker)?;
        let with_answer = options.pattern.contains(ANSWER);
        // Any truth does to see whether it is a pattern.
        let regex = match compile(&options.pattern.replace(ANSWER, "0"), options.case) {
            Ok(regex) => regex,
            Err(error) => return bad(format!("pattern: {}", one_line(&error))),
        };
        let decides = options.decides.unwrap_or(match with_answer && options.group.is_none() {
            true => Decides::Match,
            false => Decides::Group,
        });
        let group = match decides {
            Decides::Group => group(&regex, options.group.as_ref())?,
            Decides::Match if options.group.is_some() => {
                return bad("group: has no effect with decides = \"match\"; leave one of them out".into());
            }
            Decides::Match => 0,
        };
        let fixed = (!with_answer).then_some(regex);
        Ok(Self { options, marker, fixed, decides, group })
    }

    /// The verdict on one response.
    pub fn judge(&self, response: &str, answer: &str) -> Verdict {
        match self.regex(answer) {
            Ok(regex) => self.response(&regex, response, answer).verdict,
            Err(reason) => Verdict::Void(reason),
        }
    }

    fn truth<'a>(&self, answer: &'a str) -> &'a str {
        self.options.extract.truth(answer, &self.marker).trim()
    }

    /// The pattern for one truth.
    fn regex(&self, answer: &str) -> Result<Regex, VoidReason> {
        if let Some(regex) = &self.fixed {
            return Ok(regex.clone());
        }
        let truth = self.truth(answer);
        if truth.is_empty() {
            return Err(VoidReason::Verifier("the truth is empty, and would match anywhere".into()));
        }
        // An escaped truth cannot make a bad pattern of a good one, only too large a one.
        let pattern = self.options.pattern.replace(ANSWER, &regex::escape(truth));
        compile(&pattern, self.options.case).map_err(|_| VoidReason::Budget)
    }

    fn response(&self, regex: &Regex, response: &str, answer: &str) -> Judgement {
        let Some(text) = self.options.extract.find(response, &self.marker) else {
            return Judgement { verdict: Verdict::Incorrect, found: None };
        };
        if self.decides == Decides::Match {
            let found = regex.find(text).map(|found| found.as_str().to_owned());
            return Judgement { verdict: Verdict::from(found.is_some()), found };
        }
        let found = match self.options.take {
            Take::First => Ok(regex.captures(text)),
            Take::Last => last(regex, text),
        };
        match found {
            Err(reason) => Judgement { verdict: Verdict::Void(reason), found: None },
            Ok(found) => {
                let found = found.and_then(|found| Some(found.get(self.group)?.as_str().trim().to_owned()));
                let right = found.as_ref().is_some_and(|found| self.equal(found, self.truth(answer)));
                Judgement { verdict: Verdict::from(right), found }
            }
        }
    }

    fn equal(&self, found: &str, answer: &str) -> bool {
        match self.options.case {
            Case::Sensitive => found == answer,
            Case::Insensitive => fold_case(found) == fold_case(answer),
        }
    }
}

fn compile(pattern: &str, case: Case) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).case_insensitive(case == Case::Insensitive).size_limit(LARGEST_PATTERN).build()
}

/// The group that counts.
fn group(regex: &Regex, group: Option<&GroupName>) -> Result<usize, VerifierError> {
    let groups = regex.captures_len() - 1;
    let named = |name: &str| regex.capture_names().position(|n| n == Some(name));
    match group {
        None => named("answer").or((groups > 0).then_some(1)).ok_or_else(|| {
            "pattern: has no group to compare with the truth; put (...) around the answer, use {answer} for the truth, \
             or say decides = \"match\" if every match is right"
                .to_owned()
        }),
        Some(GroupName::Number(number)) if *number <= groups => Ok(*number),
        Some(GroupName::Number(number)) => Err(format!("group: there is no group {number}, the pattern has {groups}")),
        Some(GroupName::Name(name)) => {
            named(name).ok_or_else(|| format!("group: the pattern has no group named `{name}`, as in (?P<{name}>...)"))
        }
    }
    .map_err(VerifierError::BadOption)
}

/// The last of the matches that do not overlap, found from the left.
fn last<'a>(regex: &Regex, text: &'a str) -> Result<Option<Captures<'a>>, VoidReason> {
    let mut work = 0;
    let mut start = None;
    for found in regex.find_iter(text) {
        work += (text.len() - found.start()) as u64;
        if work > MOST_WORK {
            return Err(VoidReason::Budget);
        }
        start = Some(found.start());
    }
    // A search from where a match begins finds that match.
    Ok(start.and_then(|start| regex.captures_at(text, start)))
}

/// The reason alone: the pattern with a caret below it takes several lines.
pub(crate) fn one_line(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("compiles to more than {limit} bytes; use a simpler one"),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

#[async_trait]
impl Verifier for RegexVerifier {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let regex = match self.regex(question.answer()) {
            Ok(regex) => regex,
            Err(reason) => return question.each(|_| Verdict::Void(reason.clone())),
        };
        question.each(|response| match Instant::now() < question.deadline {
            true => self.response(&regex, response, question.answer()).verdict,
            // The thread is needed elsewhere: nobody waits for this verdict.
            false => Verdict::Void(VoidReason::Timeout),
        })
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let regex = self.regex(question.answer()).ok()?;
        let explain = |response: &String| {
            let judgement = self.response(&regex, response, question.answer());
            json!({"pattern": regex.as_str(), "found": judgement.found})
        };
        Some(question.responses.iter().map(explain).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse_options;

    fn regex(options: Value) -> RegexVerifier {
        RegexVerifier::new(parse_options(options).unwrap()).unwrap()
    }

    fn error(options: Value) -> String {
        RegexVerifier::new(parse_options(options).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_group_of_the_last_match_is_compared_with_the_truth() {
        let last = regex(json!({"pattern": r"= (\d+)"}));
        assert_eq!(last.judge("x = 3, y = 4", "4"), Verdict::Correct);
        assert_eq!(last.judge("x = 3, y = 4", "3"), Verdict::Incorrect);
        assert_eq!(last.judge("nothing", "3"), Verdict::Incorrect);
        let first = regex(json!({"pattern": r"= (\d+)", "take": "first"}));
        assert_eq!(first.judge("x = 3, y = 4", "3"), Verdict::Correct);
        let named = regex(json!({"pattern": r"(\w) = (?P<answer>\d+)"}));
        assert_eq!(named.judge("x = 3", "3"), Verdict::Correct);
        let numbered = regex(json!({"pattern": r"(\w) = (\d+)", "group": 1}));
        assert_eq!(numbered.judge("x = 3", "x"), Verdict::Correct);
        let whole = regex(json!({"pattern": r"\d+", "group": 0}));
        assert_eq!(whole.judge("1 2 3", "3"), Verdict::Correct);
        let by_name = regex(json!({"pattern": r"(?P<v>\w) = (?P<answer>\d+)", "group": "v"}));
        assert_eq!(by_name.judge("x = 3", " x "), Verdict::Correct);
    }

    #[test]
    fn a_group_that_took_no_part_in_the_last_match_is_no_answer() {
        let optional = regex(json!({"pattern": r"answer(?: is (\d+))?"}));
        assert_eq!(optional.judge("the answer is 4. That was the answer", "4"), Verdict::Incorrect);
    }

    #[test]
    fn the_truth_in_a_pattern_is_literal() {
        let literal = regex(json!({"pattern": r"^{answer}$"}));
        assert_eq!(literal.judge("a.c", "a.c"), Verdict::Correct);
        assert_eq!(literal.judge("abc", "a.c"), Verdict::Incorrect);
        assert_eq!(literal.judge("(", "("), Verdict::Correct);
        let empty = literal.judge("anything", " ");
        assert_eq!(empty, Verdict::Void(VoidReason::Verifier("the truth is empty, and would match anywhere".into())));
        let loose = regex(json!({"pattern": r"\b{answer}\b", "case": "insensitive"}));
        assert_eq!(loose.judge("It is PARIS.", "Paris"), Verdict::Correct);
        assert_eq!(loose.judge("Comparison", "paris"), Verdict::Incorrect);
    }

    #[test]
    fn a_match_alone_decides_where_asked() {
        let any = regex(json!({"pattern": "(yes|no)", "decides": "match"}));
        assert_eq!(any.judge("no", "irrelevant"), Verdict::Correct);
        assert_eq!(any.judge("maybe", "irrelevant"), Verdict::Incorrect);
    }

    #[test]
    fn the_search_may_be_narrowed() {
        let boxed = regex(json!({"pattern": r"(\d+)", "extract": "boxed"}));
        assert_eq!(boxed.judge(r"\boxed{4} and 5", "4"), Verdict::Correct);
        assert_eq!(boxed.judge("4", "4"), Verdict::Incorrect);
    }

    #[test]
    fn a_bad_option_is_one_line_with_its_key() {
        assert_eq!(error(json!({})), "pattern: missing, as in pattern = \"Answer: (.*)\"");
        assert_eq!(error(json!({"pattern": "a(b"})), "pattern: unclosed group");
        assert_eq!(
            error(json!({"pattern": r"(?=a)(b)"})),
            "pattern: look-around, including look-ahead and look-behind, is not supported"
        );
        assert!(
            error(json!({"pattern": r"(\w{1000}){1000}"})).starts_with("pattern: compiles to more than 1048576 bytes")
        );
        assert!(error(json!({"pattern": r"\d+"})).starts_with("pattern: has no group to compare with the truth"));
        assert_eq!(error(json!({"pattern": "(a)", "group": 2})), "group: there is no group 2, the pattern has 1");
        let named = error(json!({"pattern": "(a)", "group": "b"}));
        assert_eq!(named, "group: the pattern has no group named `b`, as in (?P<b>...)");
        let both = error(json!({"pattern": "(a)", "group": 1, "decides": "match"}));
        assert_eq!(both, "group: has no effect with decides = \"match\"; leave one of them out");
    }

    #[test]
    fn what_would_take_quadratic_time_is_void_and_not_wrong() {
        let greedy = regex(json!({"pattern": r"(\d)(?s:.*END)?"}));
        assert_eq!(greedy.judge(&"1 ".repeat(500_000), "1"), Verdict::Void(VoidReason::Budget));
        assert_eq!(greedy.judge(&"1 ".repeat(500), "1"), Verdict::Correct);
        let literal = regex(json!({"pattern": "{answer}"}));
        assert_eq!(literal.judge("x", &"y".repeat(1 << 20)), Verdict::Void(VoidReason::Budget));
        let nested = regex(json!({"pattern": r"((a*)*)*b$"}));
        assert_eq!(nested.judge(&"a".repeat(1_000_000), "x"), Verdict::Incorrect);
    }

    proptest! {
        // A case takes long in a debug build.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_truth_is_matched_by_itself(truth in r"\PC*[^\s\pC]\PC*", before in any::<String>()) {
            let literal = regex(json!({"pattern": "{answer}$"}));
            prop_assert_eq!(literal.judge(&format!("{before}{}", truth.trim()), &truth), Verdict::Correct);
        }

        #[test]
        fn the_last_match_is_the_last_of_all(text in "[ab1 ]{0,40}", pattern in "[ab1]{1,2}|(?:a|)1*|a*") {
            let regex = Regex::new(&format!("({pattern})")).unwrap();
            let expected = regex.captures_iter(&text).last().map(|found| found[1].to_owned());
            prop_assert_eq!(last(&regex, &text).unwrap().map(|found| found[1].to_owned()), expected);
        }
    }
}
