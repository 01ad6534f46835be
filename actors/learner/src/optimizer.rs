use tch::{Kind, Tensor};

use crate::LearnerError;

/// The constants of [`AdamW`], as in `torch.optim.AdamW`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root in the denominator.
    pub epsilon: f64,
    /// Decoupled decay, times the learning rate.
    pub weight_decay: f64,
}

/// Weight decay of a range of the flat buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decay {
    /// Its first element.
    pub(crate) offset: i64,
    /// Its length.
    pub(crate) elements: i64,
    /// λ.
    pub(crate) rate: f64,
}

/// What AdamW remembers between steps; tensors are laid out like the parameters.
#[derive(Debug)]
pub struct OptimizerState {
    /// Steps taken.
    pub step: u64,
    /// m, the mean gradient.
    pub first: Tensor,
    /// v, the mean squared gradient.
    pub second: Tensor,
}

/// AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2, in `torch.optim.AdamW`'s form) on one flat buffer:
///
/// ```text
/// θ ← θ (1 − lr λ)                         the first `decayed` elements only, unless groups have a λ of their own
/// m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²
/// θ ← θ − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
/// ```
///
/// A step is a handful of operations over the whole model, whatever its number of layers.
#[derive(Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    decays: Vec<Decay>,
    state: OptimizerState,
}

impl AdamW {
    /// A fresh optimiser for a buffer like `flat`, of which the first `decayed` elements take weight decay.
    pub fn new(settings: AdamWSettings, flat: &Tensor, decayed: i64) -> Result<Self, LearnerError> {
        let state = OptimizerState { step: 0, first: flat.f_zeros_like()?, second: flat.f_zeros_like()? };
        let decays = vec![Decay { offset: 0, elements: decayed, rate: settings.weight_decay }];
        Ok(Self { settings, decays, state })
    }

    /// Takes these decays instead of the one of `new`.
    pub(crate) fn set_decays(&mut self, decays: Vec<Decay>) {
        self.decays = decays;
    }

    /// Takes no decay of these ranges (first element, number of elements; ascending, apart from each other). Without a
    /// gradient they then stay as they are, to the last bit.
    pub(crate) fn spare(&mut self, ranges: &[(i64, i64)]) {
        for &(first, count) in ranges {
            let (end, mut decays) = (first + count, Vec::new());
            for decay in self.decays.drain(..) {
                let (from, to) = (decay.offset, decay.offset + decay.elements);
                // What of it lies before the range, and what behind.
                let parts = [(from, to.min(first)), (from.max(end), to)];
                let left = parts.into_iter().filter(|(from, to)| from < to);
                decays.extend(left.map(|(from, to)| Decay { offset: from, elements: to - from, rate: decay.rate }));
            }
            self.decays = decays;
        }
    }

    /// Goes on from an exported state; its tensors must have the shape, number format and device of the parameters.
    pub fn restore(&mut self, state: OptimizerState) -> Result<(), LearnerError> {
        for (name, theirs, ours) in [("m", &state.first, &self.state.first), ("v", &state.second, &self.state.second)] {
            if theirs.size() != ours.size() || theirs.kind() != ours.kind() || theirs.device() != ours.device() {
                return Err(LearnerError::OptimizerState(format!(
                    "its {name} is {:?} {:?} on {:?}, the parameters are {:?} {:?} on {:?}",
                    theirs.size(),
                    theirs.kind(),
                    theirs.device(),
                    ours.size(),
                    ours.kind(),
                    ours.device()
                )));
            }
        }
        self.state = state;
        Ok(())
    }

    /// What a checkpoint must hold.
    pub fn state(&self) -> &OptimizerState {
        &self.state
    }

    /// One step on `flat`, in place. `grad` has its shape and is used up as scratch memory.
    pub fn step(&mut self, flat: &Tensor, grad: Tensor, learning_rate: f64) -> Result<(), LearnerError> {
        tch::no_grad(|| self.step_in_place(flat, grad, learning_rate))
    }

    fn step_in_place(&mut self, flat: &Tensor, mut grad: Tensor, learning_rate: f64) -> Result<(), LearnerError> {
        let AdamWSettings { beta1, beta2, epsilon, .. } = self.settings;
        let step = self.state.step + 1;
        let powers = i32::try_from(step).unwrap_or(i32::MAX);
        let correction1 = 1.0 - beta1.powi(powers);
        let correction2 = (1.0 - beta2.powi(powers)).sqrt();
        for Decay { offset, elements, rate } in self.decays.iter().filter(|decay| decay.rate != 0.0) {
            let _ = flat.f_narrow(0, *offset, *elements)?.f_mul_scalar_(1.0 - learning_rate * rate)?;
        }
        let OptimizerState { first, second, .. } = &mut self.state;
        let _ = first.f_lerp_(&grad, 1.0 - beta1)?;
        let _ = grad.f_square_()?;
        let _ = second.f_lerp_(&grad, 1.0 - beta2)?;
        // tch's addcdiv has no factor, so −lr/(1 − β₁ᵗ) goes into the denominator: θ += m / (denominator · −(1 − β₁ᵗ)/lr).
        let scale = -correction1 / learning_rate;
        grad.f_copy_(second)?;
        let _ = grad.f_sqrt_()?.f_mul_scalar_(scale / correction2)?.f_add_scalar_(scale * epsilon)?;
        let _ = flat.shallow_clone().f_addcdiv_(first, &grad)?;
        self.state.step = step;
        Ok(())
    }
}

/// Scales `grad` down to the L2 norm `max_norm` if it is longer, in place (`torch.nn.utils.clip_grad_norm_`: by
/// `max_norm / (norm + 1e-6)`), and returns the norm before. A norm that is not finite leaves `grad` alone.
pub fn clip_grad_norm(grad: &mut Tensor, max_norm: f64) -> Result<f64, LearnerError> {
    tch::no_grad(|| {
        let norm = grad.f_norm()?.f_to_kind(Kind::Double)?.f_double_value(&[])?;
        let scale = max_norm / (norm + 1e-6);
        if scale < 1.0 && norm.is_finite() {
            let _ = grad.f_mul_scalar_(scale)?;
        }
        Ok(norm)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: AdamWSettings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    /// The formulas, one element at a time.
    struct Plain {
        theta: Vec<f64>,
        m: Vec<f64>,
        v: Vec<f64>,
    }

    impl Plain {
        fn step(&mut self, t: i32, grad: &[f64], lr: f64, decayed: usize) {
            for (i, grad) in grad.iter().enumerate() {
                if i < decayed {
                    self.theta[i] -= lr * SETTINGS.weight_decay * self.theta[i];
                }
                self.m[i] = SETTINGS.beta1 * self.m[i] + (1.0 - SETTINGS.beta1) * grad;
                self.v[i] = SETTINGS.beta2 * self.v[i] + (1.0 - SETTINGS.beta2) * grad * grad;
                let m_hat = self.m[i] / (1.0 - SETTINGS.beta1.powi(t));
                let v_hat = self.v[i] / (1.0 - SETTINGS.beta2.powi(t));
                self.theta[i] -= lr * m_hat / (v_hat.sqrt() + SETTINGS.epsilon);
            }
        }
    }

    fn gradient(t: i32) -> Vec<f64> {
        (0..5).map(|i| (f64::from(t) * 1.7 + f64::from(i)).sin() * 10f64.powi(i - 3)).collect()
    }

    #[test]
    fn several_steps_follow_the_formula_and_only_matrices_decay() {
        let start = vec![1.0, -2.0, 0.5, 0.0, 3.0];
        let flat = Tensor::from_slice(&start);
        let mut adam = AdamW::new(SETTINGS, &flat, 3).unwrap();
        let mut plain = Plain { theta: start, m: vec![0.0; 5], v: vec![0.0; 5] };
        for t in 1..=7 {
            let lr = 0.1 / f64::from(t);
            adam.step(&flat, Tensor::from_slice(&gradient(t)), lr).unwrap();
            plain.step(t, &gradient(t), lr, 3);
            for (got, want) in values(&flat).iter().zip(&plain.theta) {
                assert!((got - want).abs() < 1e-13, "step {t}: {got} is not {want}");
            }
        }
    }

    #[test]
    fn what_is_spared_and_has_no_gradient_stays_to_the_last_bit() {
        let start = [0.1f32, -2.0, 0.5, 0.7, 3.0, -0.0];
        let flat = Tensor::from_slice(&start);
        let mut adam = AdamW::new(SETTINGS, &flat, 5).unwrap();
        adam.spare(&[(1, 2), (4, 1)]);
        let ranges: Vec<(i64, i64)> = adam.decays.iter().map(|d| (d.offset, d.elements)).collect();
        assert_eq!(ranges, [(0, 1), (3, 1)]);
        for _ in 0..3 {
            adam.step(&flat, Tensor::from_slice(&[1f32, 0.0, 0.0, -1.0, 0.0, 0.0]), 0.01).unwrap();
        }
        let after = Vec::<f32>::try_from(&flat).unwrap();
        let moved: Vec<bool> = start.iter().zip(after).map(|(before, after)| *before != after).collect();
        assert_eq!(moved, [true, false, false, true, false, false]);
    }

    #[test]
    fn the_first_step_moves_by_the_learning_rate_against_the_sign_of_the_gradient() {
        let flat = Tensor::from_slice(&[0f32, 0.0]);
        let mut adam = AdamW::new(SETTINGS, &flat, 0).unwrap();
        adam.step(&flat, Tensor::from_slice(&[0.3f32, -7.0]), 0.01).unwrap();
        assert!(values(&flat).iter().zip([-0.01, 0.01]).all(|(got, want)| (got - want).abs() < 1e-8));
    }

    #[test]
    fn an_exported_state_goes_on_bit_for_bit() {
        let run = |interrupt: bool| {
            let flat = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0]);
            let mut adam = AdamW::new(SETTINGS, &flat, 5).unwrap();
            for t in 1..=6 {
                if interrupt && t == 4 {
                    let OptimizerState { step, first, second } = adam.state();
                    let copy = OptimizerState { step: *step, first: first.copy(), second: second.copy() };
                    adam = AdamW::new(SETTINGS, &flat, 5).unwrap();
                    adam.restore(copy).unwrap();
                }
                adam.step(&flat, Tensor::from_slice(&gradient(t)).to_kind(Kind::Float), 0.01).unwrap();
            }
            values(&flat)
        };
        assert_eq!(run(false), run(true));
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let mut adam = AdamW::new(SETTINGS, &Tensor::from_slice(&[1f32, 2.0]), 0).unwrap();
        let other = Tensor::from_slice(&[0f32]);
        assert!(adam.restore(OptimizerState { step: 1, first: other.copy(), second: other }).is_err());
    }

    #[test]
    fn a_long_gradient_is_scaled_to_the_norm_and_a_short_one_is_left() {
        let mut long = Tensor::from_slice(&[3f64, 4.0]);
        assert_eq!(clip_grad_norm(&mut long, 1.0).unwrap(), 5.0);
        assert!(values(&long).iter().zip([0.6, 0.8]).all(|(got, want)| (got - want).abs() < 1e-6));
        let mut short = Tensor::from_slice(&[0.3f64, 0.4]);
        assert_eq!(clip_grad_norm(&mut short, 1.0).unwrap(), 0.5);
        assert_eq!(values(&short), [0.3, 0.4]);
    }
}
