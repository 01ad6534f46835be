//! What answers to many prompts say of a model: pass@k, the mean score and the majority's score, with their uncertainty.
//!
//! Prompts are a sample of all that might be asked, and answers to one prompt depend on each other through it. So every
//! figure is a mean of one value per prompt, and its standard error is that between prompts (clustered by prompt: E. Miller,
//! Adding Error Bars to Evals, arXiv 2411.00640, section 2.2); it covers the noise of sampling and of the choice of prompts.
//! The interval is the normal one, cut to [0, 1]. Where every prompt's value is 0 or 1 (one sample each, say) the figure is
//! a proportion, and the interval is Wilson's (JASA 22, 1927), which is right for few prompts and near 0 and 1 too.

use std::collections::HashMap;

use serde::Serialize;

use crate::{PassAtK, pass_at_k};

/// The 97.5 % quantile of the normal distribution: intervals hold 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// A mean over prompts with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error between prompts; none for fewer than two prompts.
    pub standard_error: Option<f64>,
    /// Ends of the 95 % interval; none for fewer than two prompts whose values are not 0 or 1.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// Of one value in [0, 1] per prompt.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        if values.is_empty() {
            return Self { value: 0.0, standard_error: None, interval: None };
        }
        // In an order of their own, so that the sums are the same to the bit in whatever order the prompts came.
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let value = values.iter().sum::<f64>() / n;
        let spread: f64 = values.iter().map(|v| (v - value).powi(2)).sum();
        let standard_error = (values.len() > 1).then(|| (spread / (n * (n - 1.0))).sqrt());
        let interval = if values.iter().all(|&v| v == 0.0 || v == 1.0) {
            Some(wilson(value, n))
        } else {
            standard_error.map(|e| ((value - Z * e).max(0.0), (value + Z * e).min(1.0)))
        };
        Self { value, standard_error, interval }
    }
}

fn wilson(share: f64, n: f64) -> (f64, f64) {
    let (z2, centre) = (Z * Z / n, share + Z * Z / (2.0 * n));
    let half = Z * ((share * (1.0 - share) + z2 / 4.0) / n).sqrt();
    (((centre - half) / (1.0 + z2)).max(0.0), ((centre + half) / (1.0 + z2)).min(1.0))
}

/// One judged answer, as far as figures need it.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerScore {
    /// None if the verdict is void.
    pub score: Option<f32>,
    /// Whether the token limit cut it off.
    pub truncated: bool,
    /// Its length.
    pub tokens: u32,
    /// What it votes for; `None` abstains.
    pub vote: Option<String>,
}

/// One prompt's answers, summed up.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptScores {
    samples: u32,
    right: u32,
    mean: f64,
    majority: f64,
    voids: u32,
    truncated: u32,
    tokens: u64,
}

impl PromptScores {
    /// Of all answers to one prompt.
    pub fn of(answers: &[AnswerScore]) -> Self {
        let count = |picked: fn(&AnswerScore) -> bool| answers.iter().filter(|a| picked(a)).count() as u32;
        let total: f64 = answers.iter().filter_map(|a| a.score).map(f64::from).sum();
        Self {
            samples: answers.len() as u32,
            right: count(|a| a.score == Some(1.0)),
            mean: if answers.is_empty() { 0.0 } else { total / answers.len() as f64 },
            majority: majority(answers),
            voids: count(|a| a.score.is_none()),
            truncated: count(|a| a.truncated),
            tokens: answers.iter().map(|a| u64::from(a.tokens)).sum(),
        }
    }

    /// Of a prompt that could not be answered: all wrong, without verdicts.
    pub fn unanswered(samples: u32) -> Self {
        Self { samples, right: 0, mean: 0.0, majority: 0.0, voids: samples, truncated: 0, tokens: 0 }
    }
}

/// The score of the answer that most samples give. A tie is split by share: the mean over the answers that lead. The score of
/// an answer is the mean of those who gave it, void verdicts as wrong; with no vote at all it is 0.
fn majority(answers: &[AnswerScore]) -> f64 {
    let mut votes: HashMap<&str, (u32, f64)> = HashMap::new();
    for answer in answers {
        if let Some(vote) = &answer.vote {
            let (count, score) = votes.entry(vote).or_default();
            *count += 1;
            *score += f64::from(answer.score.unwrap_or(0.0));
        }
    }
    let most = votes.values().map(|(count, _)| *count).max().unwrap_or(0);
    let mut leading: Vec<f64> = votes.values().filter(|v| v.0 == most).map(|v| v.1 / f64::from(most)).collect();
    // A sum in the order of a hash map would not repeat to the bit.
    leading.sort_by(f64::total_cmp);
    if leading.is_empty() { 0.0 } else { leading.iter().sum::<f64>() / leading.len() as f64 }
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalFigures {
    /// How many prompts.
    pub prompts: usize,
    /// pass@k for k = 1, 2, 4, ... and for all samples; unbiased, see [`pass_at_k`]. A soft score is no pass.
    pub pass_at_k: Vec<(u32, Estimate)>,
    /// Mean score of all answers; void verdicts count as wrong.
    pub mean: Estimate,
    /// Score of the majority's answer.
    pub majority: Estimate,
    /// Share of answers without a verdict, those to prompts that do not fit included.
    pub void_share: f64,
    /// Share of answers that the token limit cut off.
    pub truncated_share: f64,
    /// Mean length of an answer.
    pub mean_tokens: f64,
}

impl EvalFigures {
    /// Of prompts with `samples` answers each, in any order.
    pub fn of<'a>(samples: u32, prompts: impl IntoIterator<Item = &'a PromptScores>) -> Self {
        let prompts: Vec<&PromptScores> = prompts.into_iter().collect();
        let estimate =
            |value: &dyn Fn(&PromptScores) -> f64| Estimate::of(&prompts.iter().map(|p| value(p)).collect::<Vec<_>>());
        let answers: f64 = prompts.iter().map(|p| f64::from(p.samples)).sum();
        let share = |value: fn(&PromptScores) -> f64| {
            if answers == 0.0 { 0.0 } else { prompts.iter().map(|p| value(p)).sum::<f64>() / answers }
        };
        let pass = |k| (k, estimate(&|p| pass_at_k(p.samples, p.right, k)));
        Self {
            prompts: prompts.len(),
            pass_at_k: PassAtK::counts(samples).into_iter().map(pass).collect(),
            mean: estimate(&|p| p.mean),
            majority: estimate(&|p| p.majority),
            void_share: share(|p| f64::from(p.voids)),
            truncated_share: share(|p| f64::from(p.truncated)),
            mean_tokens: share(|p| p.tokens as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answers(scored: &[(Option<f32>, Option<&str>)]) -> Vec<AnswerScore> {
        let answer = |&(score, vote): &(Option<f32>, Option<&str>)| AnswerScore {
            score,
            truncated: vote.is_none(),
            tokens: 3,
            vote: vote.map(str::to_owned),
        };
        scored.iter().map(answer).collect()
    }

    #[test]
    fn the_majority_is_of_answers_and_a_tie_is_split() {
        let majority = |scored: &[(Option<f32>, Option<&str>)]| majority(&answers(scored));
        let (right, wrong) = (Some(1.0), Some(0.0));
        assert_eq!(majority(&[(right, Some("4")), (right, Some("4")), (wrong, Some("5"))]), 1.0);
        assert_eq!(majority(&[(right, Some("4")), (wrong, Some("5")), (wrong, Some("6"))]), 1.0 / 3.0);
        assert_eq!(majority(&[(right, Some("4")), (wrong, Some("5")), (wrong, Some("5"))]), 0.0);
        assert_eq!(majority(&[(right, Some("4")), (wrong, None), (wrong, None)]), 1.0, "who abstains has no vote");
        assert_eq!(majority(&[(None, Some("4")), (right, Some("4"))]), 0.5);
        assert_eq!(majority(&[(wrong, None)]), 0.0);
    }

    #[test]
    fn figures_are_means_over_prompts() {
        let (right, wrong) = (Some(1.0), Some(0.0));
        let prompts = [
            PromptScores::of(&answers(&[(right, Some("4")), (wrong, Some("5"))])),
            PromptScores::of(&answers(&[(Some(0.5), Some("4")), (None, None)])),
            PromptScores::unanswered(2),
        ];
        let figures = EvalFigures::of(2, &prompts);
        let passes: Vec<(u32, f64)> = figures.pass_at_k.iter().map(|(k, e)| (*k, e.value)).collect();
        assert_eq!(passes, [(1, 0.5 / 3.0), (2, 1.0 / 3.0)]);
        assert_eq!(figures.mean.value, 0.75 / 3.0);
        assert_eq!((figures.void_share, figures.truncated_share, figures.mean_tokens), (0.5, 1.0 / 6.0, 2.0));
        let values = [0.5f64, 0.25, 0.0];
        let variance = values.iter().map(|v| (v - 0.25).powi(2)).sum::<f64>() / 2.0;
        assert!((figures.mean.standard_error.unwrap() - (variance / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_proportion_has_wilson_s_interval() {
        // 8 of 10: the textbook's values.
        let values = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0];
        let (low, high) = Estimate::of(&values).interval.unwrap();
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low} {high}");
        let (low, high) = Estimate::of(&[1.0; 20]).interval.unwrap();
        assert!(low > 0.8 && low < 0.9 && high == 1.0, "certain to the last prompt is not certain: {low} {high}");
    }

    #[test]
    fn nothing_evaluated_is_zero_without_an_interval() {
        let figures = EvalFigures::of(1, []);
        assert_eq!(figures.mean, Estimate { value: 0.0, standard_error: None, interval: None });
        assert_eq!(Estimate::of(&[0.5]).interval, None, "one prompt says nothing of others");
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_value_and_lies_in_the_unit_interval(values in prop::collection::vec(0f64..=1.0, 2..30)) {
            let estimate = Estimate::of(&values);
            let (low, high) = estimate.interval.unwrap();
            prop_assert!(0.0 <= low && low <= estimate.value && estimate.value <= high && high <= 1.0);
        }
    }
}
