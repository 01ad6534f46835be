//! Supervised fine-tuning: the likelihood of right answers, whoever wrote them.
//!
//! ```text
//! l = −c log π_θ          answers of score 0 count in no mean
//! ```
//!
//! Neither rates nor π_old matter, so a group need not be mixed, and may be of one given answer (`counterpoint sft`). On sampled
//! groups this is the paper's RFT.

use super::{Answer, Loss, Objective, Plan, Reduction, Tokens};
use crate::LearnerError;

/// The settings; see the module's text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sft {
    /// How token losses add up.
    pub reduction: Reduction,
    /// For [`Reduction::ConstLen`].
    pub max_len: Option<u64>,
}

struct SftPlan {
    /// Per answer: c, and the coefficient.
    terms: Vec<[f64; 2]>,
}

impl Objective for Sft {
    fn plan(&self, answers: &[Answer]) -> Box<dyn Plan> {
        let kept: Vec<bool> = answers.iter().map(|answer| answer.score > 0.0).collect();
        let coefficients = self.reduction.coefficients(answers, &kept, self.max_len);
        Box::new(SftPlan { terms: answers.iter().zip(coefficients).map(|(a, share)| [a.score, share]).collect() })
    }
}

impl Plan for SftPlan {
    fn loss(&self, tokens: &Tokens<'_>) -> Result<Loss, LearnerError> {
        let [score, share] = tokens.of_answers(|answer| self.terms[answer])?;
        let loss = tokens.logp_new.f_neg()?;
        Loss::of_tokens(&loss, &score.f_mul(&share)?, &score)
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    #[test]
    fn the_loss_is_the_mean_negative_log_likelihood_of_right_tokens() {
        let answer = |score, tokens| Answer { group: 0, score, rate: 1.0, tokens };
        let plan = Sft { reduction: Reduction::TokenMean, max_len: None }.plan(&[answer(1.0, 3), answer(0.0, 1)]);
        let logp = Tensor::from_slice(&[-0.5f64, -1.0, -0.25, -7.0]).set_requires_grad(true);
        let (old, number) = (Tensor::from_slice(&[0f64; 4]), Tensor::from_slice(&[0i64, 0, 0, 1]));
        let tokens = Tokens { logp_new: &logp, logp_old: &old, answer: &number, answers: &[0, 1] };
        let Loss { total, parts } = plan.loss(&tokens).unwrap();
        assert!((total.double_value(&[]) - 1.75 / 3.0).abs() < 1e-15);
        assert_eq!(Vec::<f64>::try_from(parts).unwrap(), [1.75, 3.0, 7.0, 1.0, 0.0, 0.0]);
        total.backward();
        let third = -1.0 / 3.0;
        assert_eq!(Vec::<f64>::try_from(logp.grad()).unwrap(), [third, third, third, 0.0]);
    }
}
