//! The kind `exact`: the answer equals the truth, after the same normalisation of both.

use std::borrow::Cow;

use async_trait::async_trait;
use counterpoint_rollout::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::extract::MARKER;
use crate::normal::{collapse_whitespace, fold_case, punctuation, unicode, without_articles};
use crate::{Case, Extract, Mode, Punctuation, Question, UnicodeForm, Verifier, VerifierError};

/// Options of the kind `exact`. Response and truth are normalised alike, then compared.
///
/// With the default options it looks for nothing inside the response: `"The answer is 4"` is not `"4"`. For a model that
/// talks, say with `extract` where the answer stands.
///
/// ```
/// use counterpoint_verifier::{Case, Exact, Extract, Punctuation, UnicodeForm};
///
/// let exact = Exact::default();
/// assert!(exact.equal(" 4\n", "4"));
/// assert!(!exact.equal("Paris", "paris"));
/// assert!(!exact.equal("1,  2", "1, 2"));
/// assert!(!Exact { trim: false, ..exact.clone() }.equal("4\n", "4"));
/// assert!(Exact { collapse_whitespace: true, ..exact.clone() }.equal("1,\n 2", "1, 2"));
/// assert!(Exact { case: Case::Insensitive, ..exact.clone() }.equal("Paris", "paris"));
/// assert!(Exact { punctuation: Punctuation::Ends, ..exact.clone() }.equal("**Paris.**", "Paris"));
/// assert!(Exact { unicode: UnicodeForm::Nfkc, ..exact.clone() }.equal("４", "4"));
/// assert!(Exact { extract: Extract::Boxed, ..exact }.equal(r"So it is \boxed{4}.", "4"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exact {
    /// Where in the response the answer stands; a response without such a place is wrong. A truth with a box or a marker is
    /// read in the same way. Default: `whole`.
    pub extract: Extract,
    /// What `extract = "after_marker"` looks for, upper or lower case alike. Default: `####`.
    pub marker: String,
    /// Which ways of writing one character are equal; applied first. Default: `as_is`.
    pub unicode: UnicodeForm,
    /// Whether upper and lower case differ. Default: `sensitive`.
    pub case: Case,
    /// What becomes of punctuation. Default: `keep`.
    pub punctuation: Punctuation,
    /// Whether the English words a, an and the are left out, with white space collapsed and trimmed; a text of nothing else
    /// stays. Default: false.
    pub ignore_articles: bool,
    /// Treat every run of white space as one space; a run at an end is left to `trim`. Default: false.
    pub collapse_whitespace: bool,
    /// Ignore white space (Unicode's, line breaks included) at both ends; applied last. Default: true.
    pub trim: bool,
}

impl Default for Exact {
    fn default() -> Self {
        Self {
            extract: Extract::Whole,
            marker: MARKER.into(),
            unicode: UnicodeForm::AsIs,
            case: Case::Sensitive,
            punctuation: Punctuation::Keep,
            ignore_articles: false,
            collapse_whitespace: false,
            trim: true,
        }
    }
}

impl Exact {
    /// Checks the options.
    ///
    /// # Errors
    /// A blank marker where one is looked for.
    pub fn checked(self) -> Result<Self, VerifierError> {
        self.extract.check(&self.marker)?;
        Ok(self)
    }

    /// Whether the response gives the answer.
    pub fn equal(&self, response: &str, answer: &str) -> bool {
        self.given(response).is_some_and(|given| given == self.truth(answer))
    }

    /// The normal form of the answer that a response gives.
    fn given<'a>(&self, response: &'a str) -> Option<Cow<'a, str>> {
        self.extract.find(response, &self.marker).map(|given| self.normalise(given))
    }

    fn truth<'a>(&self, answer: &'a str) -> Cow<'a, str> {
        self.normalise(self.extract.truth(answer, &self.marker))
    }

    fn normalise<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = unicode(self.unicode, text);
        if self.case == Case::Insensitive {
            text = Cow::Owned(fold_case(&text));
        }
        if self.punctuation != Punctuation::Keep {
            text = Cow::Owned(punctuation(self.punctuation, &text).into_owned());
        }
        if self.ignore_articles {
            text = Cow::Owned(without_articles(&text));
        }
        if self.collapse_whitespace {
            text = Cow::Owned(collapse_whitespace(&text));
        }
        match text {
            Cow::Borrowed(text) if self.trim => Cow::Borrowed(text.trim()),
            Cow::Owned(text) if self.trim => Cow::Owned(text.trim().to_owned()),
            text => text,
        }
    }
}

#[async_trait]
impl Verifier for Exact {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let answer = self.truth(question.answer());
        question.each(|response| self.given(response).is_some_and(|given| given == answer))
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let truth = self.truth(question.answer());
        let explain = |response: &String| json!({"extracted": self.given(response), "truth": truth});
        Some(question.responses.iter().map(explain).collect())
    }

    async fn answers(&self, question: &Question) -> Option<Vec<Option<String>>> {
        let given = |response: &String| self.given(response).map(Cow::into_owned);
        Some(question.responses.iter().map(given).collect())
    }

    /// Comparing is done in microseconds; normalising a long text is not.
    fn mode(&self) -> Mode {
        let plain = self.unicode == UnicodeForm::AsIs && self.punctuation == Punctuation::Keep && !self.ignore_articles;
        if plain { Mode::Async } else { Mode::Blocking }
    }
}
