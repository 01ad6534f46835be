//! The kind `choice`: multiple choice. The response names the truth's letter, or the letters of a truth that has several.
//!
//! The answer is looked for as the kind `math` does it: a box, "the answer is (C)", `####`, then a response that is nothing
//! but a letter, then words in bold. What stands there is read as a letter (`C`, `(c)`, `C.`, `C) Paris`, `Option C`,
//! `\text{C}`), as several (`A and C`, `A, C`), or, where the data lists the options, as the words of one of them.
//!
//! **An answer that offers several letters is right only if the truth is those letters**: `A or C` is wrong for `C`.
//! A single small letter counts only where it stands alone, since `a` is also a word.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::math::{Method, Search, conclusion};
use crate::normal::{collapse_whitespace, fold_case, strip_ends};
use crate::{Mode, Question, Verifier, VerifierError};

/// Where the answer to a multiple choice may stand: neither formulas nor bare expressions, whose letters are variables.
const METHODS: [Method; 4] = [Method::Boxed, Method::Statement, Method::Hashes, Method::Bold];

/// The stage of the search at which the whole response may be the answer: after what is said to be it.
const WHOLE: usize = 3;

/// Options of the kind `choice`.
///
/// ```
/// use counterpoint_verifier::{Choice, ChoiceOptions, Verdict};
///
/// let choice = Choice::new(ChoiceOptions::default())?;
/// assert_eq!(choice.judge("Paris is the capital, so the answer is (C).", "C"), Verdict::Correct);
/// assert_eq!(choice.judge(r"\boxed{\text{C}}", "(C)"), Verdict::Correct);
/// assert_eq!(choice.judge("It is B or C. The answer: B or C", "C"), Verdict::Incorrect);
/// assert_eq!(choice.judge("Answer: C, A", "A, C"), Verdict::Correct);
/// # Ok::<(), counterpoint_verifier::VerifierError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChoiceOptions {
    /// The letters of the options, in their order. Default: `ABCDEFGHIJ`.
    pub letters: String,
    /// What a truth that is a number means: `none` (no letter: the question is void), `zero_based` (0 is the first letter,
    /// as in MMLU) or `one_based`. Default: `none`.
    pub numbers: Numbers,
    /// The column of the data that lists the options: texts in the order of the letters, or an object from letter to text.
    /// With it a response may give the words of an option in place of its letter, and so may the truth. A question whose data
    /// lacks it is judged by letters alone. Default: `choices`.
    pub column: String,
}

/// What a truth that is a number means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// Nothing.
    #[default]
    None,
    /// The place of the option, counted from 0.
    ZeroBased,
    /// The place of the option, counted from 1.
    OneBased,
}

impl Default for ChoiceOptions {
    fn default() -> Self {
        Self { letters: "ABCDEFGHIJ".into(), numbers: Numbers::None, column: "choices".into() }
    }
}

/// The kind `choice`; see [`ChoiceOptions`].
#[derive(Clone, Debug)]
pub struct Choice {
    options: ChoiceOptions,
}

/// Letters that are chosen together.
type Letters = BTreeSet<char>;

/// A letter as it stands in a text.
struct Letter<'a> {
    letter: char,
    /// A bracket closes behind it: `(C)`, `C)`.
    closed: bool,
    after: &'a str,
}

/// The words of the options, by letter, in normal form.
type Words = Vec<(char, String)>;

impl Choice {
    /// Checks the options.
    ///
    /// # Errors
    /// Fewer than two letters, one that is no capital letter, or the same twice.
    pub fn new(options: ChoiceOptions) -> Result<Self, VerifierError> {
        let distinct: Letters = options.letters.chars().collect();
        let capitals = distinct.iter().all(char::is_ascii_uppercase);
        if distinct.len() < 2 || distinct.len() < options.letters.chars().count() || !capitals {
            let problem = format!("letters: must be two or more different capitals A to Z, got {:?}", options.letters);
            return Err(VerifierError::BadOption(problem));
        }
        Ok(Self { options })
    }

    /// The verdict on one response, where the options are known by their letters alone.
    pub fn judge(&self, response: &str, answer: &str) -> Verdict {
        match self.truth(answer, &Words::new()) {
            Ok(truth) => Verdict::from(self.given(response, &Words::new()) == Some(truth)),
            Err(reason) => Verdict::Void(reason),
        }
    }

    fn truth(&self, answer: &str, words: &Words) -> Result<Letters, VoidReason> {
        let numbered = answer.trim().parse::<usize>().ok();
        let place = match self.options.numbers {
            Numbers::None => None,
            Numbers::ZeroBased => numbered,
            Numbers::OneBased => numbered.and_then(|number| number.checked_sub(1)),
        };
        let letter = place.and_then(|place| self.options.letters.chars().nth(place));
        if let Some(letter) = letter {
            return Ok(Letters::from([letter]));
        }
        // A whole solution may stand there, with its box or `####`.
        let read = self.read(answer, words).or_else(|| self.given(answer, words));
        read.ok_or_else(|| {
            let shown: String = answer.chars().take(40).collect();
            VoidReason::Verifier(format!("the truth {shown:?} names none of the letters {}", self.options.letters))
        })
    }

    /// The letters that a response chooses.
    fn given(&self, response: &str, words: &Words) -> Option<Letters> {
        let text = conclusion(response);
        let mut search = Search::new(text, &METHODS);
        let mut stage = 0;
        while let Some(candidates) = search.stage() {
            stage += 1;
            if stage == WHOLE
                && let Some(letters) = self.read(text, words)
            {
                return Some(letters);
            }
            for candidate in candidates {
                if let Some(letters) = self.read(&candidate.text, words) {
                    return Some(letters);
                }
                if candidate.firm {
                    // Said to be the answer, and no choice: what else the text says is not the answer.
                    return None;
                }
            }
        }
        None
    }

    /// Reads a short text as letters, or as the words of one option.
    fn read(&self, text: &str, words: &Words) -> Option<Letters> {
        let plain = without_commands(text);
        let plain = strip_ends(&plain);
        if let Some(letters) = self.letters(plain) {
            return Some(letters);
        }
        let normal = normal(plain);
        let mut same = words.iter().filter(|(_, word)| *word == normal).map(|&(letter, _)| letter);
        // Two options with the same words: neither is meant more than the other.
        same.next().filter(|_| same.next().is_none()).map(|letter| Letters::from([letter]))
    }

    /// `C`, `(C)`, `C) Paris`, `A, C`, `A and C`, `options B or D`.
    fn letters(&self, text: &str) -> Option<Letters> {
        let text = ["options", "option", "choices", "choice", "answers", "answer"]
            .iter()
            .find_map(|word| {
                text.get(..word.len()).filter(|start| start.eq_ignore_ascii_case(word)).map(|_| &text[word.len()..])
            })
            .unwrap_or(text);
        let mut letters = Letters::new();
        let mut rest = text.trim_start_matches([' ', ':', '*']);
        loop {
            let Letter { letter, closed, after } = self.letter(rest)?;
            letters.insert(letter);
            match joint(after) {
                Some(next) if self.letter(next).is_some() => rest = next,
                // The words of the option.
                _ if ends(after) || (letters.len() == 1 && (closed || introduces_words(after))) => {
                    return Some(letters);
                }
                _ => return None,
            }
        }
    }

    /// One letter at the start, in brackets or not.
    fn letter<'a>(&self, text: &'a str) -> Option<Letter<'a>> {
        let inside = text.strip_prefix(['(', '[']);
        let bare = inside.unwrap_or(text);
        let first = bare.chars().next()?;
        let letter = first.to_ascii_uppercase();
        let behind = &bare[first.len_utf8()..];
        let bracket = behind.strip_prefix([')', ']']);
        let closed = bracket.is_some();
        let alone = first.is_ascii_uppercase() || closed || behind.trim().is_empty();
        let word = behind.starts_with(|c: char| c.is_alphanumeric() || c == '\'');
        let whole = alone && !word && (closed || inside.is_none());
        let after = bracket.unwrap_or(behind);
        (self.options.letters.contains(letter) && whole).then_some(Letter { letter, closed, after })
    }

    fn words(&self, info: &Map<String, Value>) -> Words {
        let word = |(letter, text): (char, &Value)| Some((letter, normal(text.as_str()?)));
        match info.get(&self.options.column) {
            Some(Value::Array(texts)) => self.options.letters.chars().zip(texts).filter_map(word).collect(),
            Some(Value::Object(texts)) => {
                let known = |letter: char| texts.get(&letter.to_string()).map(|text| (letter, text));
                self.options.letters.chars().filter_map(known).filter_map(word).collect()
            }
            _ => Words::new(),
        }
    }
}

/// What stands between two letters that are chosen together.
fn joint(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let marks = text.trim_start_matches([',', ';', '&', '/', ' ']);
    let word = ["and ", "or "].into_iter().find_map(|word| marks.strip_prefix(word));
    match word {
        Some(rest) => Some(rest.trim_start()),
        None => (marks.len() < text.len()).then_some(marks),
    }
}

/// Whether nothing of weight follows the last letter.
fn ends(after: &str) -> bool {
    after.trim_matches(|c: char| c.is_whitespace() || ".*)".contains(c)).is_empty()
}

/// Whether what follows a letter is the words of its option: `. Paris`, `: Paris`, a new line.
fn introduces_words(after: &str) -> bool {
    after.trim_start_matches(' ').starts_with(['.', ':', '-', '–', '—', '\n'])
}

/// The text without dollar signs and commands such as `\text{...}`, whose content stays.
fn without_commands(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '$', '{', '}', '*', '~']) {
        let _ = plain.write_str(&rest[..at]);
        let command = rest[at..].starts_with('\\');
        rest = &rest[at + 1..];
        if command {
            let name = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            let spaced = name.len() == rest.len() || name.starts_with(' ');
            // `\ ` and `\,` are spaces; a command's name ends where its argument begins.
            rest = if name.len() == rest.len() { rest.get(1..).unwrap_or_default() } else { name };
            if spaced {
                plain.push(' ');
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn normal(text: &str) -> String {
    collapse_whitespace(strip_ends(&fold_case(text))).trim().to_owned()
}

#[async_trait]
impl Verifier for Choice {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let words = self.words(&question.prompt.info);
        match self.truth(question.answer(), &words) {
            Ok(truth) => question.each(|response| self.given(response, &words).as_ref() == Some(&truth)),
            Err(reason) => question.each(|_| Verdict::Void(reason.clone())),
        }
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let words = self.words(&question.prompt.info);
        let truth = self.truth(question.answer(), &words).ok();
        let explain = |response: &String| json!({"chosen": self.given(response, &words), "truth": truth});
        Some(question.responses.iter().map(explain).collect())
    }

    async fn answers(&self, question: &Question) -> Option<Vec<Option<String>>> {
        let words = self.words(&question.prompt.info);
        let given = |response: &String| self.given(response, &words).map(|letters| letters.into_iter().collect());
        Some(question.responses.iter().map(given).collect())
    }

    fn mode(&self) -> Mode {
        Mode::Blocking
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use counterpoint_rollout::{Prompt, PromptContent};

    use super::*;

    fn judge(response: &str, answer: &str) -> Verdict {
        Choice::new(ChoiceOptions::default()).unwrap().judge(response, answer)
    }

    #[test]
    fn a_letter_is_read_as_people_and_models_write_it() {
        for response in [
            "C",
            "(C)",
            "c",
            "(c)",
            "C.",
            "C) Paris",
            "(C) Paris",
            "C. Paris",
            "**C**",
            "**C: Paris**",
            r"\boxed{C}",
            r"\boxed{\text{C}}",
            r"\boxed{\textbf{(C) }12}",
            r"$\boxed{\mathrm{C}}$",
            "Option C",
            "The answer is C.",
            "The correct answer is (C) Paris.",
            "The answer is **C**",
            "Answer: C",
            "Answer: option C",
            "So the answer is $\\boxed{C}$.",
            "#### C",
            "<think>A? B?</think>The answer is C",
            "A is wrong, and B too. The final answer is: C",
        ] {
            assert_eq!(judge(response, "C"), Verdict::Correct, "{response}");
            assert_eq!(judge(response, "B"), Verdict::Incorrect, "{response}");
        }
    }

    #[test]
    fn what_names_no_letter_or_several_is_wrong() {
        for response in [
            "",
            "I do not know.",
            "A cat sat on the mat.",
            "B or C",
            "The answer is B or C",
            "Answer: B, C",
            "The answer is K",
            "CC",
            "Cats",
            r"\boxed{}",
            r"The answer is C. No: \boxed{B}",
            "<think>The answer is C",
        ] {
            assert_eq!(judge(response, "C"), Verdict::Incorrect, "{response}");
        }
    }

    #[test]
    fn several_letters_are_a_set() {
        for response in ["A, C", "C and A", "(A) and (C)", "Answer: A & C", r"\boxed{A, C}", "The answers are A and C."]
        {
            assert_eq!(judge(response, "A, C"), Verdict::Correct, "{response}");
        }
        for response in ["A", "A, B, C", "A, D"] {
            assert_eq!(judge(response, "A, C"), Verdict::Incorrect, "{response}");
        }
    }

    #[test]
    fn a_truth_without_a_letter_is_void() {
        assert!(matches!(judge("C", "Paris"), Verdict::Void(VoidReason::Verifier(_))));
        assert!(matches!(judge("C", "2"), Verdict::Void(VoidReason::Verifier(_))));
        assert!(matches!(judge("C", "K"), Verdict::Void(VoidReason::Verifier(_))));
    }

    #[test]
    fn a_number_is_a_place_where_the_options_say_so() {
        for (numbers, truth) in [(Numbers::ZeroBased, "2"), (Numbers::OneBased, "3")] {
            let choice = Choice::new(ChoiceOptions { numbers, ..ChoiceOptions::default() }).unwrap();
            assert_eq!(choice.judge("The answer is C", truth), Verdict::Correct);
            assert_eq!(choice.judge("The answer is C", "1"), Verdict::Incorrect);
        }
    }

    #[tokio::test]
    async fn the_words_of_an_option_stand_for_its_letter() {
        let choice = Choice::new(ChoiceOptions::default()).unwrap();
        let ask = async |choices: Value, answer: &str, response: &str| {
            let info = Map::from_iter([("choices".to_owned(), choices)]);
            let content = PromptContent::Text("?".into());
            let prompt = Prompt { id: "1".into(), content, answer: answer.into(), source: String::new(), info };
            choice.verify(&Question::new(Arc::new(prompt), vec![response.into()])).await[0].clone()
        };
        let list = || json!(["Rome", "Oslo", "Paris", "oslo"]);
        assert_eq!(ask(list(), "C", "The answer is Paris.").await, Verdict::Correct);
        assert_eq!(ask(list(), "Paris", r"\boxed{C}").await, Verdict::Correct);
        assert_eq!(ask(json!({"A": "Rome", "C": "Paris"}), "C", r"\boxed{\text{paris}}").await, Verdict::Correct);
        assert_eq!(ask(list(), "C", "The answer is Rome.").await, Verdict::Incorrect);
        // Two options have these words.
        assert_eq!(ask(list(), "B", "The answer is Oslo.").await, Verdict::Incorrect);
    }

    #[test]
    fn letters_that_are_none_are_refused() {
        for letters in ["", "A", "AAB", "ab", "A1"] {
            let error = Choice::new(ChoiceOptions { letters: letters.into(), ..ChoiceOptions::default() }).unwrap_err();
            assert!(error.to_string().starts_with("letters: must be two or more different capitals"), "{error}");
        }
    }
}
