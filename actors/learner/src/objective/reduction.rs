use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Answer;

/// How the losses of tokens add up to one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// The sum over 1000: NFT's reference code (dp_actor.py lines 372-373).
    Sum1000,
    /// The sum.
    Sum,
    /// The mean over all tokens of the batch (DAPO, and what the NFT paper says).
    TokenMean,
    /// The mean over the tokens of an answer, then over answers (GRPO as first published).
    SeqMean,
    /// The sum over a constant length and the number of answers (Dr. GRPO as its authors publish it).
    ConstLen,
}

impl Reduction {
    /// The coefficient of each token of each answer. Answers that are not `kept` have 0, and do not count in a mean.
    /// `max_len` is the constant length of [`Reduction::ConstLen`].
    pub fn coefficients(self, answers: &[Answer], kept: &[bool], max_len: Option<u64>) -> Vec<f64> {
        let trained = || answers.iter().zip(kept).filter(|(_, kept)| **kept);
        let sequences = trained().count().max(1) as f64;
        let tokens = trained().map(|(a, _)| a.tokens).sum::<u64>().max(1) as f64;
        let constant = max_len.unwrap_or(1).max(1) as f64;
        let coefficient = |answer: &Answer| match self {
            Self::Sum1000 => 1.0 / 1000.0,
            Self::Sum => 1.0,
            Self::TokenMean => 1.0 / tokens,
            Self::SeqMean => 1.0 / answer.tokens.max(1) as f64 / sequences,
            Self::ConstLen => 1.0 / constant / sequences,
        };
        answers.iter().zip(kept).map(|(answer, kept)| if *kept { coefficient(answer) } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reduction_divides_by_what_it_names_and_leaves_out_what_is_not_kept() {
        let answer = |tokens| Answer { group: 0, score: 1.0, rate: 0.5, tokens };
        let answers = [answer(2), answer(6), answer(4)];
        let of = |r: Reduction| r.coefficients(&answers, &[true, true, false], Some(10));
        assert_eq!(of(Reduction::Sum1000), [0.001, 0.001, 0.0]);
        assert_eq!(of(Reduction::Sum), [1.0, 1.0, 0.0]);
        assert_eq!(of(Reduction::TokenMean), [0.125, 0.125, 0.0]);
        assert_eq!(of(Reduction::SeqMean), [0.25, 1.0 / 12.0, 0.0]);
        assert_eq!(of(Reduction::ConstLen), [0.05, 0.05, 0.0]);
    }
}
