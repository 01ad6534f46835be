//! The kind `dapo`: the strict match of the DAPO recipe, for those who repeat a paper.

use async_trait::async_trait;
use counterpoint_rollout::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Mode, Question, Verifier};

/// Options of the kind `dapo`: the answer is found at the very end of the completion, and compared as a text.
///
/// ```
/// use counterpoint_verifier::{Dapo, DapoStyle};
///
/// let boxed = Dapo::default();
/// assert!(boxed.right("So the sum is \\boxed{42}.", "42"));
/// assert!(!boxed.right("So the sum is \\boxed{42.0}.", "42"));
/// let line = Dapo { style: DapoStyle::Answer, ..boxed };
/// assert!(line.right("So it is.\nAnswer: $42$", "42"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dapo {
    /// What marks the answer. Default: `boxed`.
    pub style: DapoStyle,
    /// How many characters of the end are looked at. Default: 100 for `boxed`, 300 for `answer`.
    pub tail: Option<usize>,
}

/// What marks the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DapoStyle {
    /// The last `\boxed{…}`; its content must be the truth, character by character.
    #[default]
    Boxed,
    /// The last `Answer: …`; both are freed of spaces, units, `\text` and the like before they are compared.
    Answer,
}

impl Dapo {
    /// Whether the answer at the end of a completion is the truth.
    pub fn right(&self, completion: &str, truth: &str) -> bool {
        self.found(completion).is_some_and(|found| found == self.form(truth))
    }

    /// The answer in the form in which it is compared, if the end of the completion has one.
    pub fn found(&self, completion: &str) -> Option<String> {
        let end = last_characters(completion, self.tail.unwrap_or(self.style.tail()));
        match self.style {
            DapoStyle::Boxed => last_box(end).map(str::to_owned),
            DapoStyle::Answer => last_answer_line(end).map(normalised),
        }
    }

    fn form(&self, truth: &str) -> String {
        match self.style {
            DapoStyle::Boxed => truth.to_owned(),
            DapoStyle::Answer => normalised(truth),
        }
    }
}

impl DapoStyle {
    fn tail(self) -> usize {
        match self {
            Self::Boxed => 100,
            Self::Answer => 300,
        }
    }
}

fn last_characters(text: &str, count: usize) -> &str {
    if count == 0 {
        return "";
    }
    text.char_indices().rev().nth(count - 1).map_or(text, |(at, _)| &text[at..])
}

/// The content of the last box. Every brace counts, escaped ones too, and an unclosed last box means that there is none.
fn last_box(text: &str) -> Option<&str> {
    let inside = &text[text.rfind("\\boxed{")? + "\\boxed{".len()..];
    let mut open = 0_usize;
    for (at, c) in inside.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(&inside[..at]),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// What follows the last `Answer:` on its line, in any case; the line may begin after the colon.
fn last_answer_line(text: &str) -> Option<&str> {
    text.char_indices().rev().find_map(|(at, _)| {
        let word = text.get(at..at + "answer".len())?;
        let rest =
            text[at + word.len()..].trim_start().strip_prefix(':').filter(|_| word.eq_ignore_ascii_case("answer"))?;
        rest.trim_start().lines().next().filter(|line| !line.is_empty())
    })
}

/// Removed before comparison, in this order: articles, money and space; then names of units and what only lays out.
const REMOVED: &[&str] = &[
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
    "\\dots",
];

/// The form in which the recipe compares the answers of `Answer:` lines.
fn normalised(answer: &str) -> String {
    let mut text = answer.rsplit('=').next().unwrap_or(answer).replace("an ", "").replace("a ", "").replace(".$", "$");
    for (from, to) in [
        ("\\$", ""),
        ("\\ ", ""),
        (" ", ""),
        ("mbox", "text"),
        (",\\text{and}", ","),
        ("\\text{and}", ","),
        ("\\text{m}", "\\text{}"),
    ] {
        text = text.replace(from, to);
    }
    for removed in REMOVED {
        text = text.replace(removed, "");
    }
    // The first formula of the text is the answer.
    if let Some(formula) = text.split('$').nth(1).filter(|_| text.matches('$').count() > 1) {
        text = formula.to_owned();
    }
    for command in ["\\text{", "\\textbf{", "\\overline{"] {
        text = unwrapped(&text, command, |rest| rest.find('}'));
    }
    text = unwrapped(&text, "\\boxed{", |rest| rest.rfind('}'));
    text = braced(&braced(&text, "frac", 2), "sqrt", 1).replace('$', "");
    let digits = text.replace(',', "");
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        text = digits;
    }
    text.trim().to_owned()
}

/// The text with each `command{…}` replaced by what is in its braces, whose end `close` finds.
fn unwrapped(text: &str, command: &str, close: impl Fn(&str) -> Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(command) {
        let inside = &rest[at + command.len()..];
        let Some(end) = close(inside) else { break };
        out.push_str(&rest[..at]);
        out.push_str(&inside[..end]);
        rest = &inside[end + 1..];
    }
    out + rest
}

/// `\frac12` and `\sqrt3` with braces around the single characters that are their arguments.
fn braced(text: &str, command: &str, arguments: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(command) {
        let (before, after) = rest.split_at(at + command.len());
        out.push_str(before);
        let mut characters = after.chars();
        let found: Vec<char> = characters.by_ref().take(arguments).collect();
        if found.len() < arguments || found[0] == '{' {
            rest = after;
            continue;
        }
        for argument in found {
            out.extend(['{', argument, '}']);
        }
        rest = characters.as_str();
    }
    out + rest
}

#[async_trait]
impl Verifier for Dapo {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        question.each(|response| self.right(response, question.answer()))
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let truth = self.form(question.answer());
        let explained = |response: &String| json!({ "answer": self.found(response), "truth": truth });
        Some(question.responses.iter().map(explained).collect())
    }

    async fn answers(&self, question: &Question) -> Option<Vec<Option<String>>> {
        Some(question.responses.iter().map(|response| self.found(response)).collect())
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_must_lie_in_the_last_hundred_characters_and_match_exactly() {
        let dapo = Dapo::default();
        for (completion, truth, right) in [
            ("\\boxed{34}".to_owned(), "34", true),
            ("\\boxed{ 34}".to_owned(), "34", false),
            ("\\boxed{1} then \\boxed{34}.".to_owned(), "34", true),
            ("\\boxed{34} then \\boxed{1".to_owned(), "34", false),
            ("\\boxed{\\frac{1}{2}}".to_owned(), "\\frac{1}{2}", true),
            (format!("\\boxed{{34}}{}", "é".repeat(90)), "34", true),
            (format!("\\boxed{{34}}{}", "é".repeat(91)), "34", false),
            ("34".to_owned(), "34", false),
        ] {
            assert_eq!(dapo.right(&completion, truth), right, "{completion}");
        }
        assert!(!Dapo { tail: Some(9), ..dapo.clone() }.right("\\boxed{34}", "34"));
        assert!(!Dapo { tail: Some(0), ..dapo }.right("\\boxed{34}", "34"));
    }

    #[test]
    fn an_answer_line_is_compared_after_light_normalisation() {
        let dapo = Dapo { style: DapoStyle::Answer, ..Dapo::default() };
        for (completion, truth, right) in [
            ("Work.\nAnswer: 34", "34", true),
            ("ANSWER : $34$", "34", true),
            ("Answer: 1\nAnswer: 34", "34", true),
            ("Answer:\n34", "34", true),
            ("Answer: $x = 1,234$", "1234", true),
            ("Answer: \\boxed{34}", "34", true),
            ("Answer: \\frac12", "\\frac{1}{2}", true),
            ("Answer: $\\sqrt3$", "\\sqrt{3}", true),
            ("Answer: 90^\\circ", "90", true),
            ("Answer: 34 \\text{ cm}", "34", true),
            ("Answer: 34.0", "34", false),
            ("The answer is 34", "34", false),
            ("Answer:", "34", false),
            ("", "34", false),
        ] {
            assert_eq!(dapo.right(completion, truth), right, "{completion}");
        }
    }
}
