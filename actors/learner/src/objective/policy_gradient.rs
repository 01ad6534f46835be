//! Clipped policy gradients: GRPO (arXiv 2402.03300), Dr. GRPO (arXiv 2503.20783) and DAPO (arXiv 2503.14476).
//!
//! One token with log-ratio x = log π_θ − log π_old, R = exp(x), and its answer's advantage A:
//!
//! ```text
//! l = max(−A R, −A clip(R, 1 − low, 1 + high))
//! dl/dx = −A R where R lies within the clip or the clip would not raise l, else 0
//! ```
//!
//! The three differ in the advantage ([`Advantage`]), the clip range (DAPO's is higher above), the reduction (GRPO: mean per
//! answer, then over answers; Dr. GRPO: a constant length; DAPO: mean over tokens) and in whether unmixed groups count. In
//! training they never do: replay hands out mixed groups only, and asks further questions until a batch is full of them
//! (DAPO's dynamic sampling, for every objective).
//!
//! DAPO's soft overlong shaping takes a penalty off the scores of answers that come near the token limit.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Answer, Loss, Objective, Plan, Reduction, Tokens, table};
use crate::LearnerError;

/// What an answer's score is compared with. s is the score c, the mean and the deviation are its group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Advantage {
    /// (c − mean) / deviation of all K, as the NFT paper's equation 4; 0 in a group without deviation.
    #[serde(rename = "grpo")]
    Grpo,
    /// (s − mean) / (deviation with K − 1 + 1e-6), s = 2c − 1 in [−1, 1]: what verl computes, DAPO's recipe included.
    #[serde(rename = "grpo_verl")]
    GrpoVerl,
    /// c − mean: Dr. GRPO.
    #[serde(rename = "drgrpo")]
    DrGrpo,
    /// Twice that: Dr. GRPO on scores in [−1, 1].
    #[serde(rename = "drgrpo_pm1")]
    DrGrpoSigned,
}

/// DAPO's soft overlong shaping: no penalty up to `max_len − buffer` tokens, then a linear one down to `−factor`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overlong {
    /// The token limit of an answer.
    pub max_len: u64,
    /// Tokens before the limit over which the penalty grows.
    pub buffer: u64,
    /// The penalty at the limit.
    #[serde(default = "full")]
    pub factor: f64,
}

fn full() -> f64 {
    1.0
}

impl Overlong {
    /// What is added to the score (in [−1, 1]) of an answer of so many tokens: at most 0.
    pub fn penalty(&self, tokens: u64) -> f64 {
        let free = self.max_len.saturating_sub(self.buffer) as f64;
        (-(tokens as f64 - free) / self.buffer.max(1) as f64 * self.factor).min(0.0)
    }
}

/// The settings; see the module's text.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyGradient {
    /// A.
    pub advantage: Advantage,
    /// How far R may fall below 1.
    pub clip_low: f64,
    /// How far R may rise above 1.
    pub clip_high: f64,
    /// How token losses add up.
    pub reduction: Reduction,
    /// For [`Reduction::ConstLen`].
    pub max_len: Option<u64>,
    /// Whether unmixed groups are left out of the mean; they teach nothing either way.
    pub filtered: bool,
    /// For DAPO.
    pub overlong: Option<Overlong>,
}

struct PolicyGradientPlan {
    /// Per answer: advantage, coefficient, c, 1 − c (both 0 for one that is left out).
    terms: Vec<[f64; 4]>,
    clip: (f64, f64),
}

impl Objective for PolicyGradient {
    fn plan(&self, answers: &[Answer]) -> Box<dyn Plan> {
        let kept: Vec<bool> = answers.iter().map(|a| !self.filtered || (a.rate > 0.0 && a.rate < 1.0)).collect();
        let coefficients = self.reduction.coefficients(answers, &kept, self.max_len);
        let terms = answers.iter().zip(self.advantages(answers)).zip(coefficients).zip(kept);
        let terms = terms.map(|(((answer, advantage), coefficient), kept)| {
            let right = if kept { answer.score } else { 0.0 };
            let wrong = if kept { 1.0 - answer.score } else { 0.0 };
            [advantage, coefficient, right, wrong]
        });
        Box::new(PolicyGradientPlan { terms: terms.collect(), clip: (1.0 - self.clip_low, 1.0 + self.clip_high) })
    }
}

impl PolicyGradient {
    /// A of every answer.
    fn advantages(&self, answers: &[Answer]) -> Vec<f64> {
        let signed = matches!(self.advantage, Advantage::GrpoVerl | Advantage::DrGrpoSigned) || self.overlong.is_some();
        let score = |a: &Answer| {
            let score = if signed { 2.0 * a.score - 1.0 } else { a.score };
            score + self.overlong.map_or(0.0, |overlong| overlong.penalty(a.tokens))
        };
        let mut groups: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for answer in answers {
            groups.entry(answer.group).or_default().push(score(answer));
        }
        let groups: BTreeMap<usize, (f64, f64)> =
            groups.into_iter().map(|(group, scores)| (group, self.centre_and_scale(&scores))).collect();
        answers
            .iter()
            .map(|answer| {
                let (mean, scale) = groups[&answer.group];
                (score(answer) - mean) * scale
            })
            .collect()
    }

    /// The mean of a group's scores, and what their distance from it is multiplied by.
    fn centre_and_scale(&self, scores: &[f64]) -> (f64, f64) {
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let squares = scores.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>();
        let scale = match self.advantage {
            Advantage::Grpo if squares > 0.0 => 1.0 / (squares / count).sqrt(),
            Advantage::Grpo => 0.0,
            // A group of one has no deviation from itself.
            Advantage::GrpoVerl => 1.0 / ((squares / (count - 1.0).max(1.0)).sqrt() + 1e-6),
            Advantage::DrGrpo | Advantage::DrGrpoSigned => 1.0,
        };
        (mean, scale)
    }
}

impl Plan for PolicyGradientPlan {
    fn loss(&self, tokens: &Tokens<'_>) -> Result<Loss, LearnerError> {
        let table = table(tokens.answers, tokens.logp_new, |answer| self.terms[answer])?;
        // (4, A) -> (4, M)
        let table = table.f_index_select(1, tokens.answer)?;
        let (advantage, coefficient) = (table.f_select(0, 0)?, table.f_select(0, 1)?);

        let ratio = tokens.logp_new.f_sub(tokens.logp_old)?.f_exp()?;
        let free = ratio.f_mul(&advantage)?.f_neg()?;
        let cut = ratio.f_clamp(self.clip.0, self.clip.1)?.f_mul(&advantage)?.f_neg()?;
        let loss = free.f_maximum(&cut)?;
        let total = loss.f_mul(&coefficient)?.f_sum(None::<Kind>)?;

        let parts = tch::no_grad(|| -> Result<Tensor, LearnerError> {
            let (right, wrong) = (table.f_select(0, 2)?, table.f_select(0, 3)?);
            // Clipped: the larger of the two is the one that does not follow R.
            let clipped = cut.f_gt_tensor(&free)?;
            let sum = |x: &Tensor| x.f_sum(Kind::Double);
            let of = |share: &Tensor| -> Result<[Tensor; 3], LearnerError> {
                Ok([sum(&share.f_mul(&loss)?)?, sum(share)?, sum(&share.f_mul(&clipped)?)?])
            };
            let ([positive, rights, clipped_right], [negative, wrongs, clipped]) = (of(&right)?, of(&wrong)?);
            Ok(Tensor::f_stack(&[positive, rights, negative, wrongs, clipped, clipped_right], 0)?)
        })?;
        Ok(Loss { total, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_begins_where_the_buffer_does_and_is_full_at_the_limit() {
        let overlong = Overlong { max_len: 16384, buffer: 4096, factor: 1.0 };
        let penalties = [1, 12288, 12289, 14336, 16384].map(|tokens| overlong.penalty(tokens));
        assert_eq!(penalties, [0.0, 0.0, -1.0 / 4096.0, -0.5, -1.0]);
    }

    #[test]
    fn the_advantages_of_a_group_are_as_published() {
        let answer = |score| Answer { group: 3, score, rate: 0.25, tokens: 100 };
        let answers = [answer(1.0), answer(0.0), answer(0.0), answer(0.0)];
        let of = |advantage, overlong| {
            let pg = PolicyGradient {
                advantage,
                clip_low: 0.2,
                clip_high: 0.2,
                reduction: Reduction::TokenMean,
                max_len: None,
                filtered: true,
                overlong,
            };
            pg.advantages(&answers)
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} is not {b}");
        // √((1−r)/r) and −√(r/(1−r)).
        close(of(Advantage::Grpo, None)[0], 3f64.sqrt());
        close(of(Advantage::Grpo, None)[1], -(1f64 / 3.0).sqrt());
        // Scores 1, −1, −1, −1: mean −1/2, deviation with K − 1 is 1.
        close(of(Advantage::GrpoVerl, None)[0], 1.5);
        assert_eq!(of(Advantage::DrGrpo, None), [0.75, -0.25, -0.25, -0.25]);
        assert_eq!(of(Advantage::DrGrpoSigned, None), [1.5, -0.5, -0.5, -0.5]);
        // All are equally long, so the penalty moves the mean with them.
        let overlong = Overlong { max_len: 100, buffer: 50, factor: 1.0 };
        assert_eq!(of(Advantage::DrGrpoSigned, Some(overlong)), [1.5, -0.5, -0.5, -0.5]);
    }
}
