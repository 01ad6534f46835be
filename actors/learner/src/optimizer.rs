use tch::{Device, Kind, Tensor};

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
}

/// Elements of the flat buffer that take a step, with one decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// The first element.
    pub offset: i64,
    /// How many.
    pub numel: i64,
    /// λ.
    pub decay: f64,
}

impl Piece {
    /// The same elements in as few pieces as their decays allow.
    pub fn joined(pieces: impl Iterator<Item = Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for piece in pieces {
            match joined.last_mut() {
                Some(last) if last.offset + last.numel == piece.offset && last.decay == piece.decay => {
                    last.numel += piece.numel;
                }
                _ => joined.push(piece),
            }
        }
        joined
    }
}

/// What AdamW remembers between steps; tensors hold what is trained, one piece behind another.
#[derive(Debug)]
pub struct OptimizerState {
    /// Steps taken.
    pub step: u64,
    /// m, the mean gradient.
    pub first: Tensor,
    /// v, the mean squared gradient.
    pub second: Tensor,
}

/// AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2, in `torch.optim.AdamW`'s form) on pieces of one flat buffer:
///
/// ```text
/// θ ← θ (1 − lr λ)
/// m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²
/// θ ← θ − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
/// ```
///
/// That is some ten operations on four numbers per parameter, each a trip to memory if it were done for all parameters at once.
/// On a CPU they are therefore done for so many parameters at a time as its caches hold.
#[derive(Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    pieces: Vec<Piece>,
    state: OptimizerState,
    /// Elements that are worked on at a time.
    block: i64,
}

/// Elements of a block on a CPU: with its moments and its gradient 1 MiB in float32.
const BLOCK: i64 = 1 << 16;

impl AdamW {
    /// A fresh optimiser for these pieces of a buffer like `flat`.
    pub fn new(settings: AdamWSettings, flat: &Tensor, pieces: Vec<Piece>) -> Result<Self, LearnerError> {
        let numel = pieces.iter().map(|piece| piece.numel).sum::<i64>();
        let zeros = || Tensor::f_zeros([numel], (flat.kind(), flat.device()));
        let state = OptimizerState { step: 0, first: zeros()?, second: zeros()? };
        let block = if flat.device() == Device::Cpu { BLOCK } else { i64::MAX };
        Ok(Self { settings, pieces, state, block })
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

    /// A buffer like the parameters', divided by the pieces.
    pub fn split(&self, flat: &Tensor) -> Result<Vec<Tensor>, LearnerError> {
        let part = |piece: &Piece| Ok(flat.f_narrow(0, piece.offset, piece.numel)?);
        self.pieces.iter().map(part).collect()
    }

    /// What a checkpoint must hold.
    pub fn state(&self) -> &OptimizerState {
        &self.state
    }

    /// One step on `flat`, in place. `gradients`: one tensor per piece, of one dimension, used up as scratch memory; each is
    /// taken times `scale`.
    pub fn step(
        &mut self,
        flat: &Tensor,
        gradients: &[Tensor],
        scale: f64,
        learning_rate: f64,
    ) -> Result<(), LearnerError> {
        debug_assert_eq!(gradients.len(), self.pieces.len());
        let AdamWSettings { beta1, beta2, epsilon, .. } = self.settings;
        let powers = i32::try_from(self.state.step + 1).unwrap_or(i32::MAX);
        let (correction1, correction2) = (1.0 - beta1.powi(powers), (1.0 - beta2.powi(powers)).sqrt());
        // tch's addcdiv has no factor, so −lr/(1 − β₁ᵗ) goes into the denominator: θ += m / (denominator · −(1 − β₁ᵗ)/lr).
        let by = -correction1 / learning_rate;
        let factors = Factors { beta1, beta2, root: by / correction2, epsilon: by * epsilon, scale };
        tch::no_grad(|| {
            let mut own = 0;
            for (piece, gradient) in self.pieces.iter().zip(gradients) {
                let keep = 1.0 - learning_rate * piece.decay;
                let mut start = 0;
                while start < piece.numel {
                    let count = self.block.min(piece.numel - start);
                    let part = |of: &Tensor, from: i64| of.f_narrow(0, from + start, count);
                    let (m, v) = (part(&self.state.first, own)?, part(&self.state.second, own)?);
                    factors.step(part(flat, piece.offset)?, part(gradient, 0)?, m, v, keep)?;
                    start += count;
                }
                own += piece.numel;
            }
            self.state.step += 1;
            Ok(())
        })
    }
}

/// What is the same for all parameters of a step.
struct Factors {
    beta1: f64,
    beta2: f64,
    root: f64,
    epsilon: f64,
    scale: f64,
}

impl Factors {
    /// The formulas for some parameters; `keep`: what decay leaves of them.
    fn step(
        &self,
        mut theta: Tensor,
        mut gradient: Tensor,
        mut m: Tensor,
        mut v: Tensor,
        keep: f64,
    ) -> Result<(), LearnerError> {
        if self.scale != 1.0 {
            let _ = gradient.f_mul_scalar_(self.scale)?;
        }
        if keep != 1.0 {
            let _ = theta.f_mul_scalar_(keep)?;
        }
        let _ = m.f_lerp_(&gradient, 1.0 - self.beta1)?;
        let _ = v.f_lerp_(&gradient.f_square_()?, 1.0 - self.beta2)?;
        let mut denominator = v.f_sqrt_out(&gradient)?;
        let _ = denominator.f_mul_scalar_(self.root)?.f_add_scalar_(self.epsilon)?;
        let _ = theta.f_addcdiv_(&m, &denominator)?;
        Ok(())
    }
}

/// The L2 norm of each gradient. Waits for the device once.
pub fn norms(gradients: &[Tensor]) -> Result<Vec<f64>, LearnerError> {
    tch::no_grad(|| {
        let norms = gradients.iter().map(|gradient| gradient.f_norm()).collect::<Result<Vec<_>, _>>()?;
        Ok(Vec::<f64>::try_from(Tensor::f_stack(&norms, 0)?.f_to_kind(Kind::Double)?)?)
    })
}

/// What a gradient of this norm is to be multiplied by so that it is no longer than `max_norm`, as
/// `torch.nn.utils.clip_grad_norm_` has it: `max_norm / (norm + 1e-6)`, at most 1; 1 for a norm that is not finite.
pub fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    let scale = max_norm / (norm + 1e-6);
    if norm.is_finite() { scale.min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: AdamWSettings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    const DECAY: f64 = 0.1;

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    /// The first so many of all elements decay.
    fn pieces(all: i64, decayed: i64) -> Vec<Piece> {
        let decaying = Piece { offset: 0, numel: decayed, decay: DECAY };
        vec![decaying, Piece { offset: decayed, numel: all - decayed, decay: 0.0 }]
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
                    self.theta[i] -= lr * DECAY * self.theta[i];
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
        let mut adam = AdamW::new(SETTINGS, &flat, pieces(5, 3)).unwrap();
        let mut plain = Plain { theta: start, m: vec![0.0; 5], v: vec![0.0; 5] };
        for t in 1..=7 {
            let lr = 0.1 / f64::from(t);
            adam.step(&flat, &Tensor::from_slice(&gradient(t)).split_with_sizes([3i64, 2], 0), 1.0, lr).unwrap();
            plain.step(t, &gradient(t), lr, 3);
            for (got, want) in values(&flat).iter().zip(&plain.theta) {
                assert!((got - want).abs() < 1e-13, "step {t}: {got} is not {want}");
            }
        }
    }

    #[test]
    fn what_is_in_no_piece_stays_to_the_last_bit_and_takes_no_memory() {
        let start = [0.1f32, -2.0, 0.5, 0.7, 3.0, -0.0];
        let flat = Tensor::from_slice(&start);
        let pieces = [(0, 1), (3, 1)].map(|(offset, numel)| Piece { offset, numel, decay: DECAY });
        let mut adam = AdamW::new(SETTINGS, &flat, pieces.into()).unwrap();
        assert_eq!(adam.state().first.size(), [2]);
        for _ in 0..3 {
            adam.step(&flat, &[Tensor::from_slice(&[1f32]), Tensor::from_slice(&[-1f32])], 1.0, 0.01).unwrap();
        }
        let after = Vec::<f32>::try_from(&flat).unwrap();
        let moved: Vec<bool> = start.iter().zip(after).map(|(before, after)| *before != after).collect();
        assert_eq!(moved, [true, false, false, true, false, false]);
    }

    #[test]
    fn pieces_are_joined_where_they_meet_and_decay_alike() {
        let piece = |offset, numel, decay| Piece { offset, numel, decay };
        let apart = [piece(0, 3, 0.1), piece(3, 2, 0.1), piece(5, 1, 0.0), piece(7, 4, 0.0)];
        assert_eq!(Piece::joined(apart.into_iter()), [piece(0, 5, 0.1), piece(5, 1, 0.0), piece(7, 4, 0.0)]);
    }

    #[test]
    fn blocks_change_nothing() {
        let run = |block: i64| {
            let flat = Tensor::arange(11, (Kind::Double, Device::Cpu)).sin();
            let mut adam = AdamW::new(SETTINGS, &flat, pieces(11, 7)).unwrap();
            adam.block = block;
            for t in 1..=3 {
                let gradient = Tensor::arange(11, (Kind::Double, Device::Cpu)).cos() * f64::from(t);
                adam.step(&flat, &gradient.split_with_sizes([7i64, 4], 0), 0.5, 0.01).unwrap();
            }
            values(&flat)
        };
        assert_eq!(run(3), run(BLOCK));
    }

    #[test]
    fn the_first_step_moves_by_the_learning_rate_against_the_sign_of_the_gradient() {
        let flat = Tensor::from_slice(&[0f32, 0.0]);
        let mut adam = AdamW::new(SETTINGS, &flat, pieces(2, 0)).unwrap();
        adam.step(&flat, &Tensor::from_slice(&[0.3f32, -7.0]).split_with_sizes([0i64, 2], 0), 1.0, 0.01).unwrap();
        assert!(values(&flat).iter().zip([-0.01, 0.01]).all(|(got, want)| (got - want).abs() < 1e-8));
    }

    #[test]
    fn an_exported_state_goes_on_bit_for_bit() {
        let run = |interrupt: bool| {
            let flat = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0]);
            let mut adam = AdamW::new(SETTINGS, &flat, pieces(5, 5)).unwrap();
            for t in 1..=6 {
                if interrupt && t == 4 {
                    let OptimizerState { step, first, second } = adam.state();
                    let copy = OptimizerState { step: *step, first: first.copy(), second: second.copy() };
                    adam = AdamW::new(SETTINGS, &flat, pieces(5, 5)).unwrap();
                    adam.restore(copy).unwrap();
                }
                let gradient = Tensor::from_slice(&gradient(t)).to_kind(Kind::Float);
                adam.step(&flat, &gradient.split_with_sizes([5i64, 0], 0), 1.0, 0.01).unwrap();
            }
            values(&flat)
        };
        assert_eq!(run(false), run(true));
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let mut adam = AdamW::new(SETTINGS, &Tensor::from_slice(&[1f32, 2.0]), pieces(2, 0)).unwrap();
        let other = Tensor::from_slice(&[0f32]);
        assert!(adam.restore(OptimizerState { step: 1, first: other.copy(), second: other }).is_err());
    }

    #[test]
    fn a_long_gradient_is_scaled_to_the_norm_and_a_short_one_is_left() {
        assert_eq!(norms(&[Tensor::from_slice(&[3f64, 4.0]), Tensor::from_slice(&[-4f64])]).unwrap(), [5.0, 4.0]);
        assert!((clip_scale(5.0, 1.0) - 0.2).abs() < 1e-6);
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
        assert_eq!([clip_scale(f64::INFINITY, 1.0), clip_scale(f64::NAN, 1.0)], [1.0, 1.0]);
    }
}
