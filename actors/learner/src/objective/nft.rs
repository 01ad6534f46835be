//! Negative-aware fine-tuning (arXiv 2505.18116, equation 10), and rejection fine-tuning as its case `neg_weight = 0`.
//!
//! One token with log-ratio x = log π_θ − log π_old, R = exp(min(x, 10)), rate r, score c, weight w(r):
//!
//! ```text
//! p = (1 − r R) / (1 − r)                     the implicit negative policy's likelihood ratio
//! m = max(p, ε), without gradient
//! l = w ( c (−x)  +  neg_weight (1 − c) (−(log m + (p − p_nograd)/m)) )
//! dl/dx = w ( −c  +  neg_weight (1 − c) r R / ((1 − r) m) )            both zero where x > 10
//! ```
//!
//! The last term of l is the paper's straight-through max_v(p, ε), value m and gradient of p, in a form that loses no digits
//! when p is far below zero. An ordinary maximum would stop all learning from wrong answers at ε = 1: on-policy, p = 1.
//!
//! From the reference code (NVlabs/NFT dp_actor.py lines 310-404), not the paper: the cap of 10 on x, and r clamped to
//! [0.02, 0.98]. Different from that code: log R is x itself, never the logarithm of an exponential, which can underflow.

use tch::{Kind, Tensor};

use super::{Answer, Level, Loss, Objective, Plan, Reduction, Tokens, Weight, table};
use crate::LearnerError;

/// Log-ratios above this count as this, without gradient.
const LOG_RATIO_CAP: f64 = 10.0;
/// Rates are clamped to this range, away from the poles of the weight and of p.
const RATES: (f64, f64) = (0.02, 0.98);

/// What becomes of answers whose group is all right or all wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Degenerate {
    /// They are left out, as the paper's algorithm does (line 8).
    Drop,
    /// They are kept, at a rate of 0.02 or 0.98.
    Clamp,
}

/// The settings of NFT; see [`ObjectiveConfig`](super::ObjectiveConfig) for their meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Nft {
    /// w(r).
    pub weight: Weight,
    /// ε.
    pub eps: f64,
    /// Factor of wrong answers; 0 is RFT.
    pub neg_weight: f64,
    /// How token losses add up; unused at [`Level::Sequence`].
    pub reduction: Reduction,
    /// For [`Reduction::ConstLen`].
    pub max_len: Option<u64>,
    /// What has one ratio.
    pub level: Level,
    /// Unmixed groups.
    pub degenerate: Degenerate,
}

/// One answer's numbers, in the order of the table's rows.
#[derive(Clone, Copy)]
struct Terms {
    /// c w.
    positive: f64,
    /// (1 − c) w neg_weight.
    negative: f64,
    /// r, clamped.
    rate: f64,
    /// The reduction's coefficient; 0 for an answer that is left out.
    coefficient: f64,
    /// c, or 0.
    right: f64,
    /// 1 − c, or 0.
    wrong: f64,
}

struct NftPlan {
    terms: Vec<Terms>,
    eps: f64,
    level: Level,
}

impl Objective for Nft {
    fn plan(&self, answers: &[Answer]) -> Box<dyn Plan> {
        let kept: Vec<bool> =
            answers.iter().map(|a| self.degenerate == Degenerate::Clamp || (a.rate > 0.0 && a.rate < 1.0)).collect();
        let coefficients = match self.level {
            Level::Token => self.reduction.coefficients(answers, &kept, self.max_len),
            Level::Sequence => Reduction::Sum.coefficients(answers, &kept, None),
        };
        let terms = answers
            .iter()
            .zip(kept)
            .zip(coefficients)
            .map(|((answer, kept), coefficient)| self.terms(answer, kept, coefficient))
            .collect();
        Box::new(NftPlan { terms, eps: self.eps, level: self.level })
    }
}

impl Nft {
    fn terms(&self, answer: &Answer, kept: bool, coefficient: f64) -> Terms {
        let rate = if kept { answer.rate.clamp(RATES.0, RATES.1) } else { 0.5 };
        let (right, wrong) = if kept { (answer.score, 1.0 - answer.score) } else { (0.0, 0.0) };
        let weight = self.weight.at(rate);
        Terms { positive: right * weight, negative: wrong * weight * self.neg_weight, rate, coefficient, right, wrong }
    }
}

impl Plan for NftPlan {
    fn loss(&self, tokens: &Tokens<'_>) -> Result<Loss, LearnerError> {
        let table = table(tokens.answers, tokens.logp_new, |answer| {
            let Terms { positive, negative, rate, coefficient, right, wrong } = self.terms[answer];
            [positive, negative, rate, coefficient, right, wrong]
        })?;
        let log_ratio = tokens.logp_new.f_sub(tokens.logp_old)?;
        // N terms: (N) log-ratios and (6, N) numbers, N = tokens or answers
        let (log_ratio, table) = match self.level {
            Level::Token => (log_ratio, table.f_index_select(1, tokens.answer)?),
            Level::Sequence => {
                (table.f_select(0, 0)?.f_zeros_like()?.f_index_add(0, tokens.answer, &log_ratio)?, table)
            }
        };
        let row = |index: i64| table.f_select(0, index);
        let (positive, negative, rate, coefficient) = (row(0)?, row(1)?, row(2)?, row(3)?);

        let log_ratio = log_ratio.f_clamp_max(LOG_RATIO_CAP)?;
        let rest = rate.f_neg()?.f_add_scalar(1.0)?;
        let p = log_ratio.f_exp()?.f_mul(&rate)?.f_neg()?.f_add_scalar(1.0)?.f_div(&rest)?;
        let p_nograd = p.f_detach()?;
        let m = p_nograd.f_clamp_min(self.eps)?;
        let log_m = m.f_log()?.f_add(&p.f_sub(&p_nograd)?.f_div(&m)?)?;
        let right = positive.f_mul(&log_ratio)?;
        let wrong = negative.f_mul(&log_m)?;
        let total = right.f_add(&wrong)?.f_mul(&coefficient)?.f_sum(None::<Kind>)?.f_neg()?;

        let parts = tch::no_grad(|| -> Result<Tensor, LearnerError> {
            let clipped = row(5)?.f_mul(&p_nograd.f_le(self.eps)?)?;
            let sum = |x: &Tensor| x.f_sum(Kind::Double);
            let (right, wrong) = (sum(&right)?.f_neg()?, sum(&wrong)?.f_neg()?);
            let never = Tensor::f_zeros([0i64; 0], (Kind::Double, p.device()))?;
            Ok(Tensor::f_stack(&[right, sum(&row(4)?)?, wrong, sum(&row(5)?)?, sum(&clipped)?, never], 0)?)
        })?;
        Ok(Loss { total, parts })
    }
}
