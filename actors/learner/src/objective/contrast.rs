//! The naive contrast: raise the log-ratio of right answers, lower that of wrong ones, and nothing else.
//!
//! ```text
//! l = w(r) ( −c x  +  neg_weight (1 − c) x )        x = log π_θ − log π_old, without a cap
//! ```
//!
//! It is what NFT's implicit negative policy is compared with: the loss of a wrong token has no floor, so its gradient does
//! not fade as the token becomes unlikely.

use tch::{Kind, Tensor};

use super::{Answer, Loss, Objective, Plan, Reduction, Tokens, Weight, table};
use crate::LearnerError;

/// The settings; see the module's text.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    /// w(r).
    pub weight: Weight,
    /// Factor of wrong answers.
    pub neg_weight: f64,
    /// How token losses add up.
    pub reduction: Reduction,
    /// For [`Reduction::ConstLen`].
    pub max_len: Option<u64>,
}

struct ContrastPlan {
    /// Per answer: w c, w neg_weight (1 − c), the coefficient, c, 1 − c; all 0 for an unmixed group.
    terms: Vec<[f64; 5]>,
}

impl Objective for Contrast {
    fn plan(&self, answers: &[Answer]) -> Box<dyn Plan> {
        let kept: Vec<bool> = answers.iter().map(|a| a.rate > 0.0 && a.rate < 1.0).collect();
        let coefficients = self.reduction.coefficients(answers, &kept, self.max_len);
        let terms = answers.iter().zip(kept).zip(coefficients).map(|((answer, kept), coefficient)| {
            if !kept {
                return [0.0; 5];
            }
            let (weight, right, wrong) = (self.weight.at(answer.rate), answer.score, 1.0 - answer.score);
            [weight * right, weight * self.neg_weight * wrong, coefficient, right, wrong]
        });
        Box::new(ContrastPlan { terms: terms.collect() })
    }
}

impl Plan for ContrastPlan {
    fn loss(&self, tokens: &Tokens<'_>) -> Result<Loss, LearnerError> {
        let table = table(tokens.answers, tokens.logp_new, |answer| self.terms[answer])?;
        // (5, A) -> (5, M)
        let table = table.f_index_select(1, tokens.answer)?;
        let row = |index: i64| table.f_select(0, index);

        let log_ratio = tokens.logp_new.f_sub(tokens.logp_old)?;
        let right = row(0)?.f_mul(&log_ratio)?.f_neg()?;
        let wrong = row(1)?.f_mul(&log_ratio)?;
        let total = right.f_add(&wrong)?.f_mul(&row(2)?)?.f_sum(None::<Kind>)?;
        let parts = tch::no_grad(|| -> Result<Tensor, LearnerError> {
            let sum = |x: &Tensor| x.f_sum(Kind::Double);
            let none = Tensor::f_zeros([0i64; 0], (Kind::Double, log_ratio.device()))?;
            let sums = [sum(&right)?, sum(&row(3)?)?, sum(&wrong)?, sum(&row(4)?)?, none.shallow_clone(), none];
            Ok(Tensor::f_stack(&sums, 0)?)
        })?;
        Ok(Loss { total, parts })
    }
}
