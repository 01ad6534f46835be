//! The kind `numeric`: a number in the response equals the truth, exactly or within a tolerance.
//!
//! Numbers are fractions of whole numbers of any size, never floats: `0.1 + 0.2` has no error to be forgiven, and a tolerance
//! of 0.01 is one hundredth. **Limits.** A number of more than 20,000 digits, those of its exponent's effect included, is void
//! (`budget`).

mod reading;
mod scan;

use async_trait::async_trait;
use counterpoint_rollout::{Prompt, Verdict, VoidReason};
use dashu::base::Abs;
use dashu::rational::Relaxed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::reading::{Reading, TooLarge, close};
use self::scan::{Scanner, Token};
use crate::extract::MARKER;
use crate::{Decimal, Extract, Question, Verifier, VerifierError};

/// Options of the kind `numeric`.
///
/// It reads whole and decimal numbers with separators of thousands (`1,234.5`, `1'234`, `1{,}234`), percentages, fractions and
/// mixed numbers (`1/2`, `3 1/2`, `\frac{1}{2}`, `½`), powers and scientific notation (`1.5e-3`, `1.5 × 10^{-3}`, `10^5`), with
/// a currency sign before and a unit behind. What only has digits in it is not right: `2π`, `\sqrt{2}`, `3:45`, `2-1`, `±2`,
/// infinity, NaN.
///
/// ```
/// use counterpoint_verifier::{Numeric, NumericOptions, Verdict};
///
/// let numeric = Numeric::new(NumericOptions::default())?;
/// assert_eq!(numeric.judge("6 * 7 = 42.0, so it is 42.", "42"), Verdict::Correct);
/// assert_eq!(numeric.judge("It costs $1,234.50", "1234.5"), Verdict::Correct);
/// assert_eq!(numeric.judge("About 3.14", "3.14159"), Verdict::Incorrect);
///
/// let options = NumericOptions { relative_tolerance: 0.01.into(), ..NumericOptions::default() };
/// assert_eq!(Numeric::new(options)?.judge("About 3.14", "3.14159"), Verdict::Correct);
/// # Ok::<(), counterpoint_verifier::VerifierError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NumericOptions {
    /// By how much the number may differ from the truth. The data can say otherwise for a question, in a column of the same
    /// name. Default: 0.
    pub absolute_tolerance: Decimal,
    /// By how much the number may differ, as a share of the larger of the two. The data can say otherwise for a question, in
    /// a column of the same name. One of the two tolerances is enough. Default: 0.
    pub relative_tolerance: Decimal,
    /// What a percent sign means. Default: `either`.
    pub percent: Percent,
    /// Which number counts if there are several. Default: `last`.
    pub several: Several,
    /// Where in the response to look; a response without such a place is wrong. A truth with a box or a marker is read in the
    /// same way. Default: `whole`.
    pub extract: Extract,
    /// What `extract = "after_marker"` looks for, upper or lower case alike. Default: `####`.
    pub marker: String,
}

/// What a percent sign means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Percent {
    /// Where only one of the two has a sign, `50%` equals both `0.5` and `50`.
    #[default]
    Either,
    /// `50%` equals `0.5` and nothing else.
    Hundredth,
}

/// Which of several numbers counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Several {
    /// The last one.
    #[default]
    Last,
    /// The first one.
    First,
    /// None: such a response is wrong.
    Wrong,
}

impl Default for NumericOptions {
    fn default() -> Self {
        Self {
            absolute_tolerance: Decimal::default(),
            relative_tolerance: Decimal::default(),
            percent: Percent::Either,
            several: Several::Last,
            extract: Extract::Whole,
            marker: MARKER.into(),
        }
    }
}

/// The kind `numeric`; see [`NumericOptions`].
#[derive(Debug)]
pub struct Numeric {
    options: NumericOptions,
    tolerance: Tolerance,
}

#[derive(Clone, Debug)]
struct Tolerance {
    absolute: Relaxed,
    relative: Relaxed,
}

/// A number as it is compared.
struct Amount {
    /// Without its percent sign.
    number: Relaxed,
    percent: bool,
}

impl Amount {
    fn value(&self) -> Relaxed {
        if self.percent { &self.number / Relaxed::from(100) } else { self.number.clone() }
    }
}

impl Numeric {
    /// Checks the options.
    ///
    /// # Errors
    /// Tolerances that are negative or no numbers, a blank marker.
    pub fn new(options: NumericOptions) -> Result<Self, VerifierError> {
        options.extract.check(&options.marker)?;
        let tolerance = Tolerance {
            absolute: options.absolute_tolerance.at_least_zero("absolute_tolerance")?,
            relative: options.relative_tolerance.at_least_zero("relative_tolerance")?,
        };
        Ok(Self { options, tolerance })
    }

    /// The verdict on one response.
    pub fn judge(&self, response: &str, answer: &str) -> Verdict {
        match self.truth(answer) {
            Ok(truth) => self.compare(response, &truth, &self.tolerance),
            Err(reason) => Verdict::Void(reason),
        }
    }

    fn compare(&self, response: &str, truth: &Amount, tolerance: &Tolerance) -> Verdict {
        let Some(Token { reading: Some(reading), .. }) = self.find(response) else { return Verdict::Incorrect };
        match amount(&reading) {
            Ok(Some(amount)) => Verdict::from(self.equal(&amount, truth, tolerance)),
            Ok(None) => Verdict::Incorrect,
            Err(TooLarge) => Verdict::Void(VoidReason::Budget),
        }
    }

    /// What stands where the answer is due.
    fn find<'a>(&self, response: &'a str) -> Option<Token<'a>> {
        let mut tokens = Scanner::new(self.options.extract.find(response, &self.options.marker)?);
        match self.options.several {
            Several::Last => tokens.last(),
            Several::First => tokens.next(),
            Several::Wrong => tokens.next().filter(|_| tokens.next().is_none()),
        }
    }

    fn truth(&self, answer: &str) -> Result<Amount, VoidReason> {
        let mut tokens = Scanner::new(self.options.extract.truth(answer, &self.options.marker));
        let only = tokens.next().filter(|_| tokens.next().is_none());
        let read = only.and_then(|token| token.reading).map_or(Ok(None), |reading| amount(&reading));
        match read {
            Ok(Some(amount)) => Ok(amount),
            Ok(None) => Err(VoidReason::Verifier(format!("the truth is not one number: {}", short(answer)))),
            Err(TooLarge) => Err(VoidReason::Budget),
        }
    }

    fn equal(&self, a: &Amount, b: &Amount, tolerance: &Tolerance) -> bool {
        let close = |a: &Relaxed, b: &Relaxed| close(a, b, &tolerance.absolute, &tolerance.relative);
        if a.percent == b.percent {
            return close(&a.number, &b.number);
        }
        close(&a.value(), &b.value()) || (self.options.percent == Percent::Either && close(&a.number, &b.number))
    }

    /// The tolerance for one question: the data's, or else that of the options.
    fn tolerance(&self, prompt: &Prompt) -> Result<Tolerance, VoidReason> {
        let of = |option: &str, otherwise: &Relaxed| match prompt.info.get(option) {
            None | Some(Value::Null) => Ok(otherwise.clone()),
            Some(value) => {
                let decimal = serde_json::from_value::<Decimal>(value.clone());
                let exact = decimal.ok().and_then(|decimal| decimal.at_least_zero(option).ok());
                exact.ok_or_else(|| VoidReason::Verifier(format!("the question's {option} is no number of at least 0")))
            }
        };
        Ok(Tolerance {
            absolute: of("absolute_tolerance", &self.tolerance.absolute)?,
            relative: of("relative_tolerance", &self.tolerance.relative)?,
        })
    }

    fn explained(&self, response: &str, truth: &Amount, tolerance: &Tolerance) -> Value {
        let shown = |amount: &Amount| amount.value().canonicalize().to_string();
        let Some(token) = self.find(response) else {
            return json!({"found": null, "why": "no number, or not only one"});
        };
        let read = token.reading.as_ref().map_or(Ok(None), amount);
        match read {
            Err(TooLarge) => json!({"found": short(token.text), "why": "too many digits"}),
            Ok(None) => json!({"found": short(token.text), "why": "not a number by itself"}),
            Ok(Some(amount)) => json!({
                "found": short(token.text),
                "value": shown(&amount),
                "truth": shown(truth),
                "difference": (amount.value() - truth.value()).abs().canonicalize().to_string(),
                "equal": self.equal(&amount, truth, tolerance),
            }),
        }
    }
}

fn amount(reading: &Reading<'_>) -> Result<Option<Amount>, TooLarge> {
    Ok(reading.number()?.map(|number| Amount { number, percent: reading.percent }))
}

/// A text cut to what fits on a line.
fn short(text: &str) -> String {
    const MOST: usize = 60;
    let cut: String = text.chars().take(MOST).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

#[async_trait]
impl Verifier for Numeric {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        match (self.truth(question.answer()), self.tolerance(&question.prompt)) {
            (Ok(truth), Ok(tolerance)) => question.each(|response| self.compare(response, &truth, &tolerance)),
            (Err(reason), _) | (_, Err(reason)) => question.each(|_| Verdict::Void(reason.clone())),
        }
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let (truth, tolerance) = (self.truth(question.answer()).ok()?, self.tolerance(&question.prompt).ok()?);
        Some(question.responses.iter().map(|response| self.explained(response, &truth, &tolerance)).collect())
    }

    /// Numbers are the same vote only if they are equal: within a tolerance, which is not transitive, there are no groups.
    async fn answers(&self, question: &Question) -> Option<Vec<Option<String>>> {
        let number = |response: &String| {
            let amount = amount(&self.find(response)?.reading?).ok()??;
            let sign = if amount.percent { "%" } else { "" };
            Some(format!("{}{sign}", amount.number.canonicalize()))
        };
        Some(question.responses.iter().map(number).collect())
    }
}
