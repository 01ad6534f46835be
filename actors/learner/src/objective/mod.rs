//! Objectives: losses over the log-probabilities of sampled tokens.
//!
//! An objective sees a batch twice. [`Objective::plan`] sees every answer of the whole batch, as plain numbers, and decides
//! what each contributes: weights, filters and the normaliser of the reduction. [`Plan::loss`] then sees the tokens of one
//! micro-batch at a time. A loss is a sum over tokens with coefficients from the plan, so micro-batches add up to the loss of
//! the batch exactly, however it was cut.
//!
//! Tokens are flat: no padding, one entry per trained token, with the number of the answer that it belongs to.

pub mod case;
mod config;
mod contrast;
mod name;
mod nft;
mod policy_gradient;
mod preference;
mod reduction;
mod settings;
mod sft;

use tch::{Kind, Tensor};

pub use config::{Level, ObjectiveConfig, Weight};
pub use contrast::Contrast;
pub use name::{ObjectiveFactory, ObjectiveName, register};
pub use nft::{Degenerate, Nft};
pub use policy_gradient::{Advantage, Overlong, PolicyGradient};
pub use preference::Preference;
pub use reduction::Reduction;
pub use sft::Sft;

use crate::LearnerError;

/// What an objective knows of one answer besides its log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Which group of the batch, from 0.
    pub group: usize,
    /// c, the verifier's score in [0, 1].
    pub score: f64,
    /// r̂, the mean score of its group, over all K answers.
    pub rate: f64,
    /// Trained tokens.
    pub tokens: u64,
}

/// The trained tokens of one micro-batch.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// (M): log-probabilities under the policy that is trained; the loss is differentiated by these.
    pub logp_new: &'a Tensor,
    /// (M): log-probabilities under the policy that sampled.
    pub logp_old: &'a Tensor,
    /// (M) int64: which entry of `answers`.
    pub answer: &'a Tensor,
    /// The answers of this micro-batch, whole, as numbers within the batch; none is in two micro-batches.
    pub answers: &'a [usize],
}

impl Tokens<'_> {
    /// N numbers of each token's answer, each an (M) tensor like `logp_new`; `numbers` is asked for answers by their number
    /// within the batch.
    pub fn of_answers<const N: usize>(&self, numbers: impl Fn(usize) -> [f64; N]) -> Result<[Tensor; N], LearnerError> {
        let table = table(self.answers, self.logp_new, numbers)?.f_index_select(1, self.answer)?;
        let rows: Vec<Tensor> = (0..N).map(|row| table.f_select(0, row as i64)).collect::<Result<_, _>>()?;
        rows.try_into().map_err(|_| LearnerError::Objective(format!("a table of {N} rows lost one")))
    }
}

/// The loss of one micro-batch.
#[derive(Debug)]
pub struct Loss {
    /// Scalar; its gradient is this micro-batch's share of the batch's.
    pub total: Tensor,
    /// [`LossParts`] as a (6) float64 tensor without gradient: read once per step, not once per micro-batch.
    pub parts: Tensor,
}

impl Loss {
    /// Σ coefficient · loss, of (M) losses per token, with what is shown of right and wrong answers by their `score` in [0, 1].
    /// For an objective that does not say what it clips.
    pub fn of_tokens(loss: &Tensor, coefficient: &Tensor, score: &Tensor) -> Result<Self, LearnerError> {
        let total = loss.f_mul(coefficient)?.f_sum(None::<Kind>)?;
        let parts = tch::no_grad(|| -> Result<Tensor, LearnerError> {
            let wrong = score.f_neg()?.f_add_scalar(1.0)?;
            let none = Tensor::f_zeros([0i64; 0], (Kind::Double, loss.device()))?;
            let sum = |x: &Tensor| x.f_sum(Kind::Double);
            let (right, wrong) = ([sum(&score.f_mul(loss)?)?, sum(score)?], [sum(&wrong.f_mul(loss)?)?, sum(&wrong)?]);
            let sums = right.iter().chain(&wrong).chain([&none, &none]);
            Ok(Tensor::f_stack(&sums.collect::<Vec<_>>(), 0)?)
        })?;
        Ok(Self { total, parts })
    }
}

/// Sums over the terms of a loss (tokens, or answers for a sequence loss), each before the reduction's normaliser.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossParts {
    /// Σ c · loss of a right answer.
    pub positive: f64,
    /// Σ c.
    pub right: f64,
    /// Σ (1 − c) · loss of a wrong answer.
    pub negative: f64,
    /// Σ (1 − c).
    pub wrong: f64,
    /// Σ (1 − c) over terms at or beyond the clip.
    pub clipped: f64,
    /// Σ c over terms beyond the clip; 0 for an objective that never clips a right answer.
    pub clipped_right: f64,
}

impl LossParts {
    /// How many numbers these are.
    pub(crate) const COUNT: usize = 6;

    /// From the sums of [`Loss::parts`] over micro-batches.
    pub(crate) fn from_sums(sums: [f64; Self::COUNT]) -> Self {
        let [positive, right, negative, wrong, clipped, clipped_right] = sums;
        Self { positive, right, negative, wrong, clipped, clipped_right }
    }
}

/// (N, A): N numbers of each of these answers, a row per number, in the format and on the device of `like`.
fn table<const N: usize>(
    answers: &[usize],
    like: &Tensor,
    numbers: impl Fn(usize) -> [f64; N],
) -> Result<Tensor, LearnerError> {
    let of_answers: Vec<[f64; N]> = answers.iter().map(|answer| numbers(*answer)).collect();
    let rows: Vec<f64> = (0..N).flat_map(|row| of_answers.iter().map(move |numbers| numbers[row])).collect();
    let table = Tensor::f_from_slice(&rows)?.f_view([N as i64, answers.len() as i64])?;
    Ok(table.f_to_kind(like.kind())?.f_to_device(like.device())?)
}

/// A loss that can be trained. Implementations hold their settings and nothing of a batch. A program adds its own with
/// [`register`]; examples/cispo_objective.rs is one.
pub trait Objective: Send + std::fmt::Debug {
    /// Decides what every answer of a batch contributes.
    fn plan(&self, answers: &[Answer]) -> Box<dyn Plan>;
}

/// An objective's view of one batch.
pub trait Plan {
    /// Whether the loss of one answer depends on the other answers' log-probabilities. If so, [`Self::observe`] comes first.
    fn couples_answers(&self) -> bool {
        false
    }

    /// Per answer of the batch, the sum of log-ratios over its tokens, before the first loss.
    fn observe(&mut self, _log_ratios: &[f64]) {}

    /// The loss of one micro-batch, in the number format of `logp_new`.
    fn loss(&self, tokens: &Tokens<'_>) -> Result<Loss, LearnerError>;
}
