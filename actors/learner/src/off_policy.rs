//! What π_old is when the tokens of a batch were sampled by older weights than those that train on them.
//!
//! `behaviour`: π_old is the policy that sampled. The ratio R = π_θ/π_old says how far the policy has moved since, and the
//! objective's clip (or ε, or decay in R) is the only guard.
//!
//! `decoupled` (Hilton et al., arXiv 2110.00641; AReaL, arXiv 2505.24298, its decoupled PPO objective): the ratio is taken to
//! the *proximal* policy, the weights before this step, and each token's loss is weighted by how much likelier the proximal
//! policy makes it than the one that sampled, cut off at a cap c:
//!
//! ```text
//! L = Σ_t w_t l_t(π_θ / π_prox),     w_t = min(π_prox / π_behaviour, c)   without gradient
//! ```
//!
//! A batch is one optimiser step here, so the proximal log-probs are those of the step's own forward pass, without gradient:
//! no pass more is needed, R is 1, and no clip is ever active. (AReaL takes several steps per batch, for which it recomputes
//! them; and it leaves out tokens above the cap instead of weighting them with it.)
//!
//! The weight multiplies the derivative of the loss by each token's log-prob, which is the same as the weight on the token's
//! loss wherever that depends on its own log-prob alone, and needs no help of the objective. With objectives over whole
//! answers (`level = "sequence"`, `dpo`) each token's share of the gradient is weighted. The loss that is shown is without.

use tch::{Kind, Tensor};

use crate::{LearnerConfig, LearnerError, OldLogprobs};

/// How the tokens of a micro-batch are shown to an objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum OffPolicy {
    /// As they are.
    Behaviour,
    /// Against the proximal policy, with importance weights up to the cap.
    Decoupled { cap: f64 },
}

/// What the objective sees.
#[derive(Debug)]
pub(crate) struct Seen {
    /// (M): the value of the new log-probs; their gradient, weighted.
    pub(crate) logp_new: Tensor,
    /// (M): of the policy that the ratio is to.
    pub(crate) logp_old: Tensor,
    /// (2) float64: Σ of importance weights, and how many are cut off.
    pub(crate) importance: Option<Tensor>,
}

impl OffPolicy {
    pub(crate) fn of(config: &LearnerConfig) -> Self {
        match config.old_logprobs {
            OldLogprobs::Behaviour => Self::Behaviour,
            OldLogprobs::Decoupled => Self::Decoupled { cap: config.importance_cap },
        }
    }

    /// Whether every log-ratio is 0 before the step, whoever sampled.
    pub(crate) fn starts_at_one(self) -> bool {
        matches!(self, Self::Decoupled { .. })
    }

    /// `logp_new`: (M), of the policy that is trained; `behaviour`: (M), recorded by the one that sampled.
    pub(crate) fn see(self, logp_new: &Tensor, behaviour: &Tensor) -> Result<Seen, LearnerError> {
        let Self::Decoupled { cap } = self else {
            let (logp_new, logp_old) = (logp_new.shallow_clone(), behaviour.shallow_clone());
            return Ok(Seen { logp_new, logp_old, importance: None });
        };
        let proximal = logp_new.f_detach()?;
        let weight = proximal.f_sub(behaviour)?.f_exp()?;
        let capped = weight.f_gt(cap)?.f_sum(Kind::Double)?;
        let weight = weight.f_clamp_max(cap)?;
        let importance = Tensor::f_stack(&[weight.f_sum(Kind::Double)?, capped], 0)?;
        // Value of the new log-probs, their gradient times the weight.
        let logp_new = logp_new.f_sub(&proximal)?.f_mul(&weight)?.f_add(&proximal)?;
        Ok(Seen { logp_new, logp_old: proximal, importance: Some(importance) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectiveConfig;
    use crate::objective::{Answer, ObjectiveName, Reduction, Tokens};

    const NEW: [f64; 4] = [-1.0, -0.5, -2.0, -0.1];
    const BEHAVIOUR: [f64; 4] = [-1.5, -0.2, -2.0, -3.0];

    /// dL/dlogp of two answers of two tokens each, the first of them right.
    fn gradient(name: ObjectiveName, off_policy: OffPolicy) -> (Vec<f64>, Seen) {
        let new = Tensor::from_slice(&NEW).set_requires_grad(true);
        let seen = off_policy.see(&new, &Tensor::from_slice(&BEHAVIOUR)).unwrap();
        let answer = |score| Answer { group: 0, score, rate: 0.5, tokens: 2 };
        let objective = ObjectiveConfig { name, reduction: Reduction::Sum, ..Default::default() };
        let plan = objective.build().unwrap().plan(&[answer(1.0), answer(0.0)]);
        let numbers = Tensor::from_slice(&[0i64, 0, 1, 1]);
        let tokens = Tokens { logp_new: &seen.logp_new, logp_old: &seen.logp_old, answer: &numbers, answers: &[0, 1] };
        plan.loss(&tokens).unwrap().total.backward();
        (Vec::try_from(new.grad()).unwrap(), seen)
    }

    fn close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-12), "{got:?} is not {want:?}");
    }

    #[test]
    fn the_importance_weight_is_the_proximal_over_the_behaviour_policy_up_to_the_cap() {
        let (_, seen) = gradient(ObjectiveName::DrGrpo, OffPolicy::Decoupled { cap: 5.0 });
        let weights = [0.5f64.exp(), (-0.3f64).exp(), 1.0, 5.0]; // e^2.9 is 18
        let importance = Vec::<f64>::try_from(seen.importance.unwrap()).unwrap();
        close(&importance, &[weights.iter().sum(), 1.0]);
        close(&Vec::<f64>::try_from(seen.logp_new.detach()).unwrap(), &NEW);
    }

    /// L = Σ w max(−A R, …) at R = 1: dL/dx = −w A, the truncated importance-weighted policy gradient.
    #[test]
    fn decoupled_dr_grpo_is_the_importance_weighted_policy_gradient_and_no_clip_is_active() {
        let (got, _) = gradient(ObjectiveName::DrGrpo, OffPolicy::Decoupled { cap: 5.0 });
        close(&got, &[-0.5 * 0.5f64.exp(), -0.5 * (-0.3f64).exp(), 0.5, 0.5 * 5.0]);
        // Coupled to the behaviour policy, R = e^0.5 is above the clip of a right answer, and the gradient is cut.
        let (coupled, _) = gradient(ObjectiveName::DrGrpo, OffPolicy::Behaviour);
        close(&coupled, &[0.0, -0.5 * (-0.3f64).exp(), 0.5, 0.5 * 2.9f64.exp()]);
    }

    /// NFT at R = 1: dl/dx = −c w on right tokens, w r/(1 − r) on wrong ones; here w = 1 − r = 1/2 and r/(1 − r) = 1.
    #[test]
    fn decoupled_nft_weights_its_on_policy_gradient() {
        let (got, _) = gradient(ObjectiveName::Nft, OffPolicy::Decoupled { cap: 2.0 });
        close(&got, &[-0.5 * 0.5f64.exp(), -0.5 * (-0.3f64).exp(), 0.5, 0.5 * 2.0]);
    }
}
