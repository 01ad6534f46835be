//! Judges one completion: finds its answer, reads it, compares it with the truth.

use std::borrow::Cow;

use counterpoint_rollout::{Verdict, VoidReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compare::{Compare, Rule, equal};
use super::extract::{Candidate, Method, Search, conclusion};
use super::{Budget, Expr, LONGEST_TEXT, OverBudget, ParseError, Style, read};

/// Options of the kind `math`.
///
/// ```
/// use counterpoint_verifier::{Math, Verdict};
///
/// let math = Math::default();
/// assert_eq!(math.judge_pair("So it is \\boxed{\\frac{2}{4}}.", "1/2"), Verdict::Correct);
/// assert_eq!(math.judge_pair("The answer is 3.", "4"), Verdict::Incorrect);
/// assert_eq!(math.judge_pair("I do not know.", "4"), Verdict::Incorrect);
/// ```
///
/// ```toml
/// [verifier.define.boxed-only]
/// kind = "math"
/// extract = ["boxed"]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Math {
    /// Where the answer is looked for, in any order: `boxed`, `statement` ("the answer is"), `hashes` (`####`), `whole` (a short
    /// text that is nothing else), `formula`, `bold`, `expression` (the last number). Explicit ones win over others, later ones
    /// over earlier. Default: all.
    pub extract: Vec<Method>,
    /// How two answers are compared.
    pub compare: Compare,
    /// The steps that one judgement may cost; what costs more is void (`budget`). The default ends within some 50 ms. Default:
    /// 20,000.
    pub budget: u64,
}

impl Default for Math {
    fn default() -> Self {
        Self { extract: Method::ALL.to_vec(), compare: Compare::default(), budget: Budget::default().left() }
    }
}

/// A text with what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<'a> {
    /// The text that was found.
    pub candidate: Candidate<'a>,
    /// What it means, the likeliest meaning first; none if it is neither mathematics nor words.
    pub readings: Vec<Expr>,
}

/// A truth, read once for all the completions of its question.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth<'a>(Result<Option<Answer<'a>>, OverBudget>);

/// A verdict and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// What the completion says, if an answer was found.
    pub answer: Option<Answer<'a>>,
    /// The rule by which the answer is right.
    pub rule: Option<Reason>,
}

/// Why an answer is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It means the same.
    Meaning(Rule),
    /// It is the same text, apart from case and white space.
    Text,
}

impl Math {
    /// Judges one response against one truth.
    pub fn judge_pair(&self, response: &str, truth: &str) -> Verdict {
        self.judge(response, &self.truth(truth)).verdict
    }

    /// Reads a truth.
    pub fn truth<'a>(&self, text: &'a str) -> Truth<'a> {
        Truth(find_truth(text, &mut Budget::of(self.budget)))
    }

    /// Judges a response.
    pub fn judge<'a>(&self, response: &'a str, truth: &Truth<'_>) -> Judgement<'a> {
        let mut budget = Budget::of(self.budget);
        let (answer, outcome) = match find_answer(conclusion(response), &self.extract, &mut budget) {
            Err(OverBudget) => (None, Err(OverBudget)),
            Ok(None) => (None, Ok(None)),
            Ok(Some(answer)) => {
                let outcome = self.compare(truth, &answer, &mut budget);
                (Some(answer), outcome)
            }
        };
        let (verdict, rule) = match outcome {
            Ok(rule) => (Verdict::from(rule.is_some()), rule),
            Err(OverBudget) => (Verdict::Void(VoidReason::Budget), None),
        };
        Judgement { verdict, answer, rule }
    }

    fn compare(
        &self,
        truth: &Truth<'_>,
        answer: &Answer<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Reason>, OverBudget> {
        let Some(truth) = truth.0.as_ref().map_err(|over| *over)? else { return Ok(None) };
        for expected in &truth.readings {
            for given in &answer.readings {
                if let Some(rule) = equal(expected, given, &self.compare, budget)? {
                    return Ok(Some(Reason::Meaning(rule)));
                }
            }
        }
        // Mathematics is compared by meaning alone; what could not be read as such also as a text.
        let unread = truth.readings.is_empty() || answer.readings.is_empty();
        Ok((unread && same_text(&truth.candidate.text, &answer.candidate.text)).then_some(Reason::Text))
    }
}

impl Truth<'_> {
    /// What the truth says; `None` if it is empty or over budget.
    pub fn answer(&self) -> Option<&Answer<'_>> {
        self.0.as_ref().ok()?.as_ref()
    }
}

/// The most candidates that are read.
const MOST_CANDIDATES: usize = 24;

/// The answer of a text: the first candidate that is firm or mathematics, else the first that has words.
fn find_answer<'a>(text: &'a str, methods: &[Method], budget: &mut Budget) -> Result<Option<Answer<'a>>, OverBudget> {
    let mut search = Search::new(text, methods);
    let mut words = None;
    let mut left = MOST_CANDIDATES;
    while let Some(candidates) = search.stage() {
        for candidate in candidates {
            if left == 0 {
                return Ok(words);
            }
            left -= 1;
            let firm = candidate.firm;
            if let Cow::Borrowed(text) = candidate.text
                && candidate.method == Method::Boxed
                && let Some(stated) = stated_within(text, budget)?
            {
                return Ok(Some(stated));
            }
            let Some(answer) = understand(candidate, budget)? else { continue };
            if firm || answer.is_mathematics() {
                return Ok(Some(answer));
            }
            // Words in bold say it better than the sentence that they stand in.
            let is_bold = answer.candidate.method == Method::Bold;
            if words.as_ref().is_none_or(|words: &Answer<'_>| is_bold && words.candidate.method == Method::Whole) {
                words = Some(answer);
            }
        }
    }
    Ok(words)
}

/// `\boxed{\text{The answer is } 5}`: what is stated in a box that says more than the answer.
fn stated_within<'a>(text: &'a str, budget: &mut Budget) -> Result<Option<Answer<'a>>, OverBudget> {
    if !text.contains("nswer") {
        return Ok(None);
    }
    let answer = find_answer(text, &[Method::Statement], budget)?;
    Ok(answer.filter(Answer::is_mathematics))
}

/// The truth: a box in it, or the whole of it, or what would be found in a completion.
fn find_truth<'a>(text: &'a str, budget: &mut Budget) -> Result<Option<Answer<'a>>, OverBudget> {
    let mut search = Search::new(text, &[Method::Boxed, Method::Hashes]);
    for candidate in search.stage().unwrap_or_default() {
        if let Some(answer) = understand(candidate, budget)?
            && (answer.candidate.firm || answer.is_mathematics())
        {
            return Ok(Some(answer));
        }
    }
    let text = text.trim();
    let candidate = Candidate { text: Cow::Borrowed(text), style: Style::of(text), method: Method::Whole, firm: true };
    let whole = understand(candidate, budget)?;
    if whole.as_ref().is_some_and(|whole| !whole.is_mathematics()) && text.contains(['$', '\\', '\n']) {
        // Not the last number: a truth that cannot be read is no number that happens to stand in it.
        let methods = [Method::Statement, Method::Formula, Method::Bold];
        let found = find_answer(text, &methods, budget)?;
        if found.as_ref().is_some_and(Answer::is_mathematics) {
            return Ok(found);
        }
    }
    Ok(whole)
}

/// Reads a candidate; `None` if it is empty.
fn understand<'a>(candidate: Candidate<'a>, budget: &mut Budget) -> Result<Option<Answer<'a>>, OverBudget> {
    let text = candidate.text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let mut readings = Vec::with_capacity(1);
    // A longer text is compared as a text only.
    if text.len() <= LONGEST_TEXT {
        match read(text, candidate.style, false, budget) {
            Ok(reading) => {
                readings.push(reading.expr);
                if reading.ambiguous
                    && let Ok(other) = read(text, candidate.style, true, budget)
                {
                    readings.push(other.expr);
                }
            }
            Err(ParseError::Budget) => return Err(OverBudget),
            Err(ParseError::Syntax { .. }) => {}
        }
    }
    Ok(Some(Answer { candidate, readings }))
}

impl Answer<'_> {
    /// It is more than words, and has none but units.
    fn is_mathematics(&self) -> bool {
        self.readings.first().is_some_and(|expr| !has_words(expr))
    }
}

fn has_words(expr: &Expr) -> bool {
    match expr {
        Expr::Text(_) => true,
        Expr::Choice(..) => false,
        _ => {
            let mut found = false;
            expr.for_each_part(&mut |part| found = found || has_words(part));
            found
        }
    }
}

/// Whether two texts are the same apart from case, markup and space beside signs.
fn same_text(a: &str, b: &str) -> bool {
    let a = bare(a);
    !a.is_empty() && a == bare(b)
}

fn bare(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    for word in text.trim_matches(['$', '.', ' ', '*', '"']).split_whitespace() {
        if bare.ends_with(|c: char| c.is_alphanumeric()) && word.starts_with(|c: char| c.is_alphanumeric()) {
            bare.push(' ');
        }
        bare.extend(word.chars().flat_map(char::to_lowercase));
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(response: &str, truth: &str) -> Verdict {
        Math::default().judge_pair(response, truth)
    }

    #[test]
    fn an_answer_is_found_and_compared() {
        for (response, truth) in [
            (r"Hence $x = \boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
            ("The answer is 7.", "7"),
            ("#### 1,024", "1024"),
            (r"\boxed{\text{east}}", "east"),
            (r"\boxed{B}", r"\text{(B)}"),
            ("so it must be $3$", r"\boxed{3}"),
            (r"\boxed{1} and \boxed{2}", "1, 2"),
        ] {
            assert_eq!(verdict(response, truth), Verdict::Correct, "{response} | {truth}");
        }
    }

    #[test]
    fn what_is_not_found_or_differs_is_wrong() {
        for (response, truth) in [
            ("", "7"),
            ("I do not know", "7"),
            (r"\boxed{7", "7"),
            (r"\boxed{}", "7"),
            ("7", ""),
            (r"\boxed{6 \text{ or } 7}", "7"),
            (r"<think>\boxed{7}</think>", "7"),
            ("The answer is 8, not 7.", "7"),
            (r"\boxed{1 2}", "12"),
            (r"\boxed{\frac{12}{3}}", r"\frac{1}{23}"),
        ] {
            assert_eq!(verdict(response, truth), Verdict::Incorrect, "{response} | {truth}");
        }
    }

    #[test]
    fn a_text_that_no_grammar_knows_is_compared_as_a_text() {
        assert_eq!(verdict(r"\boxed{P(A | B)}", "P(A|B)"), Verdict::Correct);
        assert_eq!(verdict(r"\boxed{P(A | C)}", "P(A|B)"), Verdict::Incorrect);
        let long = "7".repeat(LONGEST_TEXT + 1);
        assert_eq!(verdict(&format!(r"\boxed{{{long}}}"), &long), Verdict::Correct);
        assert_eq!(verdict(&format!(r"\boxed{{{long}}}"), "7"), Verdict::Incorrect);
    }

    #[test]
    fn what_costs_too_much_is_void() {
        let deep = format!(r"\boxed{{{}1{}}}", "(".repeat(500), ")".repeat(500));
        assert_eq!(verdict(&deep, "1"), Verdict::Void(VoidReason::Budget));
        let poor = Math { budget: 3, ..Math::default() };
        assert_eq!(poor.judge_pair(r"\boxed{1+1+1}", "3"), Verdict::Void(VoidReason::Budget));
    }

    #[test]
    fn the_methods_are_a_setting() {
        let boxed = Math { extract: vec![Method::Boxed], ..Math::default() };
        assert_eq!(boxed.judge_pair("The answer is 7.", "7"), Verdict::Incorrect);
        assert_eq!(boxed.judge_pair(r"\boxed{7}", "7"), Verdict::Correct);
    }
}
