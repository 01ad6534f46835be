//! The kind `exact`: the whole answer equals the truth, after the same normalisation of both.

use std::borrow::Cow;

use async_trait::async_trait;
use counterpoint_rollout::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Mode, Question, Verifier};

/// Options of the kind `exact`. Both texts are normalised alike, in the order of the options below, then compared.
///
/// It looks for nothing inside the answer: `"The answer is 4"` is not `"4"`.
///
/// ```
/// use counterpoint_verifier::{Case, Exact};
///
/// let exact = Exact::default();
/// assert!(exact.equal(" 4\n", "4"));
/// assert!(!exact.equal("Paris", "paris"));
/// assert!(!exact.equal("1,  2", "1, 2"));
/// assert!(!Exact { trim: false, ..exact.clone() }.equal("4\n", "4"));
/// assert!(Exact { collapse_whitespace: true, ..exact.clone() }.equal("1,\n 2", "1, 2"));
/// assert!(Exact { case: Case::Insensitive, ..exact }.equal("Paris", "paris"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exact {
    /// Ignore white space (Unicode's, line breaks included) at both ends. Default: true.
    pub trim: bool,
    /// Treat every run of white space as one space; a run at an end is left to `trim`. Default: false.
    pub collapse_whitespace: bool,
    /// Whether upper and lower case differ. Default: `sensitive`.
    pub case: Case,
}

/// Whether upper and lower case differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// They differ.
    #[default]
    Sensitive,
    /// Letters that share an upper case in Unicode's default mapping are equal (`ß` equals `SS`, `ς` equals `σ`), whatever
    /// the language.
    Insensitive,
}

impl Default for Exact {
    fn default() -> Self {
        Self { trim: true, collapse_whitespace: false, case: Case::Sensitive }
    }
}

impl Exact {
    /// Whether the two texts are equal after normalisation.
    pub fn equal(&self, response: &str, answer: &str) -> bool {
        self.normalise(response) == self.normalise(answer)
    }

    fn normalise<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(if self.trim { text.trim() } else { text });
        if self.collapse_whitespace {
            text = Cow::Owned(collapse_whitespace(&text));
        }
        if self.case == Case::Insensitive {
            text = Cow::Owned(fold_case(&text));
        }
        text
    }
}

fn collapse_whitespace(text: &str) -> String {
    let mut collapsed = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_whitespace() {
            collapsed.push(c);
        } else if !collapsed.ends_with(' ') {
            collapsed.push(' ');
        }
    }
    collapsed
}

/// Each letter by itself, so that equality does not depend on its neighbours (`str::to_lowercase` looks at them for `Σ`). The
/// first lowering is for `ẞ`, whose own upper case is not that of `ß`.
fn fold_case(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[async_trait]
impl Verifier for Exact {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let answer = self.normalise(question.answer());
        question.each(|response| self.normalise(response) == answer)
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}
