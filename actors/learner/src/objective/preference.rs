//! Iterative DPO over K answers, in the InfoNCA form (arXiv 2402.05369), as the NFT paper's baseline has it.
//!
//! One question with answers k, scores c_k and s_k = β Σ_t (log π_θ − log π_old) over the answer's tokens:
//!
//! ```text
//! L = − Σ_k (c_k / Σ c) log softmax_k(s)      mean over questions with a right answer
//!     + sft · (− log π_θ of right answers' tokens, mean over them)
//! dL/dx = β (softmax_k(s) − c_k / Σ c) / questions        the same for every token of answer k
//! ```
//!
//! With K = 2 and one right answer this is DPO. The reference policy is the one that sampled. Different from InfoNCA's own
//! code: the soft labels are the scores' shares, not a softmax of rewards. The `sft` term keeps the likelihood of right
//! answers up; without it training is unstable, says the paper (which does not print its weight).
//!
//! The softmax couples the answers of a question, which may lie in different micro-batches. So the plan first
//! [observes](Plan::observe) every answer's summed log-ratio, and each micro-batch then adds its exact share.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Answer, Loss, Objective, Plan, Tokens, table};
use crate::LearnerError;

/// The settings; see the module's text.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// β.
    pub beta: f64,
    /// The weight of the supervised term; 0 leaves it out.
    pub sft: f64,
}

#[derive(Debug)]
struct PreferencePlan {
    beta: f64,
    sft: f64,
    answers: Vec<Answer>,
    /// Σ c · tokens over the whole batch.
    right_tokens: f64,
    /// Per answer: its share of the loss's value, and dL/dx.
    shares: Vec<(f64, f64)>,
}

impl Objective for Preference {
    fn plan(&self, answers: &[Answer]) -> Box<dyn Plan> {
        let right_tokens = answers.iter().map(|a| a.score * a.tokens as f64).sum::<f64>().max(1.0);
        let (beta, sft, answers) = (self.beta, self.sft, answers.to_vec());
        Box::new(PreferencePlan { beta, sft, answers, right_tokens, shares: Vec::new() })
    }
}

impl Plan for PreferencePlan {
    fn couples_answers(&self) -> bool {
        true
    }

    fn observe(&mut self, log_ratios: &[f64]) {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, answer) in self.answers.iter().enumerate() {
            groups.entry(answer.group).or_default().push(number);
        }
        let total = |numbers: &[usize]| numbers.iter().map(|k| self.answers[*k].score).sum::<f64>();
        let used = groups.values().filter(|numbers| total(numbers) > 0.0).count() as f64;
        let mut shares = vec![(0.0, 0.0); self.answers.len()];
        for numbers in groups.values().filter(|numbers| total(numbers) > 0.0) {
            let scaled: Vec<f64> = numbers.iter().map(|k| self.beta * log_ratios[*k]).collect();
            let largest = scaled.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
            let log_sum = scaled.iter().map(|s| (s - largest).exp()).sum::<f64>().ln() + largest;
            for (k, s) in numbers.iter().zip(&scaled) {
                let label = self.answers[*k].score / total(numbers);
                let log_softmax = s - log_sum;
                shares[*k] = (-label * log_softmax / used, self.beta * (log_softmax.exp() - label) / used);
            }
        }
        self.shares = shares;
    }

    fn loss(&self, tokens: &Tokens<'_>) -> Result<Loss, LearnerError> {
        let like = tokens.logp_new;
        // (2, A) -> (2, M)
        let table = table(tokens.answers, like, |answer| [self.shares[answer].1, self.answers[answer].score])?;
        let table = table.f_index_select(1, tokens.answer)?;
        let (slope, right) = (table.f_select(0, 0)?, table.f_select(0, 1)?);
        // Value 0, gradient dL/dx: the value is known from the observation.
        let moved = like.f_sub(&like.f_detach()?)?;
        let value: f64 = tokens.answers.iter().map(|a| self.shares[*a].0).sum();
        let mut total = slope.f_mul(&moved)?.f_sum(None::<Kind>)?.f_add_scalar(value)?;
        if self.sft != 0.0 {
            let supervised = right.f_mul(like)?.f_sum(None::<Kind>)?;
            total = total.f_sub(&supervised.f_mul_scalar(self.sft / self.right_tokens)?)?;
        }
        let parts = tch::no_grad(|| -> Result<Tensor, LearnerError> {
            let wrong = right.f_neg()?.f_add_scalar(1.0)?;
            let log_ratio = like.f_detach()?.f_sub(tokens.logp_old)?;
            let sum = |x: &Tensor| x.f_sum(Kind::Double);
            let none = Tensor::f_zeros([0i64; 0], (Kind::Double, like.device()))?;
            // There is no loss per token; what is shown is how far right answers rose and wrong ones fell.
            let sums = [
                sum(&right.f_mul(&log_ratio)?)?.f_neg()?,
                sum(&right)?,
                sum(&wrong.f_mul(&log_ratio)?)?,
                sum(&wrong)?,
                none.shallow_clone(),
                none,
            ];
            Ok(Tensor::f_stack(&sums, 0)?)
        })?;
        Ok(Loss { total, parts })
    }
}
