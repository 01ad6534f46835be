//! The kind `countdown`: an expression that makes the target of the given numbers.
//!
//! The target is the truth; the numbers are a list in a column of the data. The expression is looked for in a box, behind "the
//! answer is" or `####`, or else in the last line that is one; of `a = b` the left side counts. It may add, subtract,
//! multiply, divide and bracket whole numbers, plainly or in LaTeX, and nothing else. Arithmetic is exact.

use async_trait::async_trait;
use counterpoint_rollout::{Prompt, Verdict, VoidReason};
use dashu::base::BitTest;
use dashu::integer::IBig;
use dashu::rational::RBig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::math::{Budget, Expr, Method, Relation, Search, conclusion, parse};
use crate::{Question, Verifier, VerifierError};

/// Where an answer is said to be one.
const METHODS: [Method; 3] = [Method::Boxed, Method::Statement, Method::Hashes];

/// How many lines from the end are looked at.
const MOST_LINES: usize = 20;

/// The most numbers of an expression; with more it is wrong.
const MOST_NUMBERS: usize = 64;

/// The largest numerator or denominator on the way, in bits; beyond it the expression is wrong.
const LARGEST_BITS: usize = 4096;

/// Options of the kind `countdown`.
///
/// ```
/// use counterpoint_verifier::{Countdown, Verdict};
///
/// let countdown = Countdown::default();
/// assert_eq!(countdown.judge("(3 + 4) * 5 = 35", "35", &[3, 4, 5]), Verdict::Correct);
/// assert_eq!(countdown.judge("\\boxed{5 \\times (4 + 3)}", "35", &[3, 4, 5]), Verdict::Correct);
/// assert_eq!(countdown.judge("7 * 5", "35", &[3, 4, 5]), Verdict::Incorrect);
/// assert_eq!(countdown.judge("3 + 4 * 5", "35", &[3, 4, 5]), Verdict::Incorrect);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Countdown {
    /// The column of the data that lists the numbers. Default: `numbers`.
    pub column: String,
    /// Whether every number must be used; otherwise each at most as often as it is given. Default: true.
    pub all_numbers: bool,
}

impl Default for Countdown {
    fn default() -> Self {
        Self { column: "numbers".into(), all_numbers: true }
    }
}

impl Countdown {
    /// Checks the options.
    ///
    /// # Errors
    /// A column without a name.
    pub fn checked(self) -> Result<Self, VerifierError> {
        if self.column.is_empty() {
            return Err(VerifierError::BadOption(
                "column: must name the column with the numbers, as in \"numbers\"".into(),
            ));
        }
        Ok(self)
    }

    /// The verdict on one response.
    pub fn judge(&self, response: &str, target: &str, numbers: &[i64]) -> Verdict {
        match target.trim().parse::<IBig>() {
            Ok(target) => self.right(response, &RBig::from(target), numbers).into(),
            Err(_) => Verdict::Void(VoidReason::Verifier("the truth is no whole number".into())),
        }
    }

    fn right(&self, response: &str, target: &RBig, numbers: &[i64]) -> bool {
        let Some((value, used)) = given(response).and_then(|expr| evaluated(&expr)) else { return false };
        let mut left: Vec<RBig> = numbers.iter().map(|&number| RBig::from(number)).collect();
        let each_given = used.iter().all(|number| match left.iter().position(|given| given == number) {
            Some(place) => {
                left.swap_remove(place);
                true
            }
            None => false,
        });
        each_given && (left.is_empty() || !self.all_numbers) && value == *target
    }

    fn numbers(&self, prompt: &Prompt) -> Result<Vec<i64>, VoidReason> {
        let column = prompt.info.get(&self.column);
        let numbers = column.and_then(|numbers| serde_json::from_value::<Vec<i64>>(numbers.clone()).ok());
        let missing =
            || VoidReason::Verifier(format!("the data has no column `{}` with a list of numbers", self.column));
        numbers.filter(|numbers| !numbers.is_empty()).ok_or_else(missing)
    }
}

/// The expression that a response gives.
fn given(response: &str) -> Option<Expr> {
    let text = conclusion(response);
    let mut search = Search::new(text, &METHODS);
    while let Some(candidates) = search.stage() {
        for candidate in candidates {
            let read = expression(&candidate.text);
            if read.is_some() || candidate.firm {
                return read;
            }
        }
    }
    text.lines().rev().filter(|line| !line.trim().is_empty()).take(MOST_LINES).find_map(expression)
}

/// A text as an expression of whole numbers; the left side of an equation.
fn expression(text: &str) -> Option<Expr> {
    let text = text.trim().trim_matches(['$', '`', '*', ' ', '.']);
    let expr = match parse(text, &mut Budget::default()).ok()? {
        Expr::Relation(left, rights) if rights.iter().all(|(relation, _)| *relation == Relation::Equal) => *left,
        expr => expr,
    };
    evaluated(&expr).is_some().then_some(expr)
}

/// The value of an expression and the numbers in it; `None` for one that has other things in it, or none at all.
fn evaluated(expr: &Expr) -> Option<(RBig, Vec<RBig>)> {
    let mut used = Vec::new();
    let value = value(expr, &mut used)?;
    Some((value, used))
}

fn value(expr: &Expr, used: &mut Vec<RBig>) -> Option<RBig> {
    let value = match expr {
        Expr::Number(number) if number.is_whole() && used.len() < MOST_NUMBERS => {
            used.push(number.value.clone());
            number.value.clone()
        }
        Expr::Sum(parts) => fold(parts, RBig::ZERO, |a, b| a + b, used)?,
        Expr::Product(parts) => fold(parts, RBig::ONE, |a, b| a * b, used)?,
        Expr::Negate(part) => -value(part, used)?,
        Expr::Quotient(over, under) => {
            let (over, under) = (value(over, used)?, value(under, used)?);
            (under != RBig::ZERO).then(|| over / under)?
        }
        _ => return None,
    };
    (value.numerator().bit_len().max(value.denominator().bit_len()) <= LARGEST_BITS).then_some(value)
}

fn fold(parts: &[Expr], start: RBig, join: fn(RBig, RBig) -> RBig, used: &mut Vec<RBig>) -> Option<RBig> {
    parts.iter().try_fold(start, |total, part| Some(join(total, value(part, used)?)))
}

#[async_trait]
impl Verifier for Countdown {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        match self.numbers(&question.prompt) {
            Ok(numbers) => question.each(|response| self.judge(response, question.answer(), &numbers)),
            Err(reason) => question.each(|_| Verdict::Void(reason.clone())),
        }
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let explain = |response: &String| match given(response) {
            None => json!({"expression": null}),
            Some(expr) => {
                let value = evaluated(&expr).map(|(value, _)| value.to_string());
                json!({"expression": expr.to_string(), "value": value})
            }
        };
        Some(question.responses.iter().map(explain).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(response: &str) -> Verdict {
        Countdown::default().judge(response, "24", &[2, 3, 4, 6])
    }

    #[test]
    fn an_expression_of_all_numbers_that_makes_the_target_is_right_however_it_is_written() {
        for response in [
            "(6 - 2) * 3 + 4 * 3",
            "6 * 4 * (3 - 2)",
            "6*4*(3-2)",
            "6 × 4 × (3 − 2) = 24",
            r"$6 \times 4 \times (3 - 2) = 24$",
            r"\boxed{6 \cdot 4 \cdot (3-2)}",
            r"\frac{6 \cdot 4}{3 - 2}",
            "First 3 - 2 = 1, then 6 * 4 = 24.\nThe answer is (3 - 2) * 6 * 4",
            "I try.\n3 - 2 = 1\n`(3 - 2) * 6 * 4`",
            "<answer>6 * 4 / (3 - 2)</answer>",
            "6 ÷ (3 - 2) * 4",
        ] {
            let right = response != "(6 - 2) * 3 + 4 * 3";
            assert_eq!(judge(response), Verdict::from(right), "{response}");
        }
    }

    #[test]
    fn other_numbers_other_values_and_other_things_are_wrong() {
        for response in [
            "",
            "24",
            "6 * 4",
            "6 * 4 * (3 - 2) + 0",
            "6 * 4 * 3 - 2",
            "6 * 4 * (3 - 2) * 1",
            "6 * 4 + (3 - 2) - 1",
            "(3 - 2) * 64",
            "6 * 4 * (3 - 2) * x",
            "24 = 6 * 4 * (3 - 2)",
            "6 * 4 / (2 + 3 - 3 - 2)",
            "4! * (3 - 2) ^ 6",
            "I cannot.",
        ] {
            assert_eq!(judge(response), Verdict::Incorrect, "{response}");
        }
    }

    #[test]
    fn division_is_exact_and_numbers_may_be_left_out_where_the_options_say_so() {
        let countdown = Countdown::default();
        assert_eq!(countdown.judge("8 / (3 - 8 / 3)", "24", &[3, 3, 8, 8]), Verdict::Correct);
        let some = Countdown { all_numbers: false, ..countdown };
        assert_eq!(some.judge("6 * 4", "24", &[2, 3, 4, 6]), Verdict::Correct);
        assert_eq!(some.judge("6 * 2 * 2", "24", &[2, 3, 4, 6]), Verdict::Incorrect);
    }

    #[tokio::test]
    async fn a_question_without_numbers_is_void() {
        let verdicts = Countdown::default().verify(&Question::pair("1 + 1", "2")).await;
        assert!(matches!(verdicts[0], Verdict::Void(VoidReason::Verifier(_))));
        assert!(matches!(Countdown::default().judge("1 + 1", "two", &[1, 1]), Verdict::Void(_)));
    }
}
