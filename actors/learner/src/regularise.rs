//! What is added to any objective: a penalty for moving away from a reference model, and a bonus for entropy.
//!
//! ```text
//! L = L_objective + kl_coef · mean_t k3(t) − entropy_coef · mean_t H(π_θ(· | before t))
//! k3 = e^d − d − 1,   d = log π_ref − log π_θ   of the sampled token:   dk3/dlogp = 1 − e^d
//! ```
//!
//! The means are over all trained tokens of the batch, whatever the objective's reduction. k3 (J. Schulman, "Approximating KL
//! divergence", 2020) is never negative, and its mean over tokens that π_θ sampled is KL(π_θ ‖ π_ref).

use tch::{Kind, Tensor};

use crate::{LearnerError, ObjectiveConfig};

/// The two coefficients; 0 leaves a term out, and what it needs is not computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Regularisers {
    pub(crate) kl: f64,
    pub(crate) entropy: f64,
}

impl Regularisers {
    pub(crate) fn of(config: &ObjectiveConfig) -> Self {
        Self { kl: config.kl_coef, entropy: config.entropy_coef }
    }

    /// Whether the entropy must be differentiable.
    pub(crate) fn wants_entropy(self) -> bool {
        self.entropy != 0.0
    }

    /// Adds this micro-batch's share to the loss; returns also Σ k3 as a float64 scalar without gradient. `logp_new`,
    /// `logp_reference`, `entropy`: (M), differentiable where wanted; `tokens`: trained tokens of the whole batch.
    pub(crate) fn add(
        self,
        total: Tensor,
        logp_new: &Tensor,
        logp_reference: Option<&Tensor>,
        entropy: &Tensor,
        tokens: u64,
    ) -> Result<(Tensor, Option<Tensor>), LearnerError> {
        let tokens = tokens.max(1) as f64;
        let mut total = total;
        if self.wants_entropy() {
            let bonus = entropy.f_sum(None::<Kind>)?.f_mul_scalar(self.entropy / tokens)?;
            total = total.f_sub(&bonus)?;
        }
        let Some(reference) = logp_reference else { return Ok((total, None)) };
        let distance = reference.f_to_kind(logp_new.kind())?.f_sub(logp_new)?;
        let k3 = distance.f_exp()?.f_sub(&distance)?.f_sub_scalar(1.0)?;
        let penalty = k3.f_sum(None::<Kind>)?.f_mul_scalar(self.kl / tokens)?;
        Ok((total.f_add(&penalty)?, Some(k3.f_detach()?.f_sum(Kind::Double)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_is_k3_and_pulls_towards_the_reference() {
        let new = Tensor::from_slice(&[-1.0f64, -2.0]).set_requires_grad(true);
        let reference = Tensor::from_slice(&[-1.0f64, -1.5]);
        let none = Tensor::from_slice(&[0f64, 0.0]);
        let start = Tensor::from(0.0f64);
        let both = Regularisers { kl: 3.0, entropy: 0.0 };
        // Four tokens in the batch, two of them here.
        let (total, k3) = both.add(start, &new, Some(&reference), &none, 4).unwrap();
        let want = 0.5f64.exp() - 0.5 - 1.0;
        assert!((k3.unwrap().double_value(&[]) - want).abs() < 1e-12);
        assert!((total.double_value(&[]) - 3.0 / 4.0 * want).abs() < 1e-12);
        total.backward();
        let grad = Vec::<f64>::try_from(new.grad()).unwrap();
        assert_eq!(grad[0], 0.0, "no pull where both agree");
        assert!((grad[1] - 3.0 / 4.0 * (1.0 - 0.5f64.exp())).abs() < 1e-12, "{grad:?}");
    }

    /// dH/dlogit_i = −p_i (log p_i + H).
    #[test]
    fn the_bonus_pushes_towards_the_uniform_distribution() {
        let logits = Tensor::from_slice(&[0.3f64, -0.2, 1.1]).set_requires_grad(true);
        let logp = logits.log_softmax(-1, Kind::Double);
        let entropy = (logp.exp() * &logp).sum(Kind::Double).neg().view([1]);
        let alone = Regularisers { kl: 0.0, entropy: 0.1 };
        let (total, k3) = alone.add(Tensor::from(0.0f64), &logp, None, &entropy, 2).unwrap();
        assert!(k3.is_none());
        total.backward();
        let p = Vec::<f64>::try_from(logp.detach().exp()).unwrap();
        let h = -p.iter().map(|p| p * p.ln()).sum::<f64>();
        let grad = Vec::<f64>::try_from(logits.grad()).unwrap();
        for (got, p) in grad.iter().zip(p) {
            let want = 0.1 / 2.0 * p * (p.ln() + h);
            assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        }
    }
}
