use tch::{Kind, Tensor};

use crate::LearnerError;
use crate::objective::{Loss, LossParts};

/// Adds up what a step measures over its micro-batches, on the device, in float64; read once at the end of the step.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    /// One (9) tensor per micro-batch: loss, the five of [`LossParts`], Σ R, Σ R², Σ entropy, Σ |mismatch|.
    sums: Vec<Tensor>,
    /// One (2) tensor per micro-batch: max |log-ratio|, max |mismatch|.
    peaks: Vec<Tensor>,
}

/// The sums over a whole step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    pub(crate) loss: f64,
    pub(crate) parts: LossParts,
    pub(crate) ratio: f64,
    pub(crate) ratio_squared: f64,
    pub(crate) entropy: f64,
    pub(crate) mismatch: f64,
    pub(crate) log_ratio_max: f64,
    pub(crate) mismatch_max: f64,
}

const SUMS: usize = 5 + LossParts::COUNT;

impl Measures {
    /// Adds one micro-batch. `logp_new`, `logp_old`, `entropy`: (M); `fresh`: (M), 1 where the two log-probs should be equal.
    pub(crate) fn add(
        &mut self,
        loss: &Loss,
        logp_new: &Tensor,
        logp_old: &Tensor,
        entropy: &Tensor,
        fresh: Option<&Tensor>,
    ) -> Result<(), LearnerError> {
        tch::no_grad(|| {
            let log_ratio = logp_new.f_detach()?.f_sub(logp_old)?.f_to_kind(Kind::Double)?;
            let distance = log_ratio.f_abs()?;
            let ratio = log_ratio.f_exp()?;
            let sum = |x: &Tensor| x.f_sum(Kind::Double);
            let zero = || Tensor::f_zeros([0i64; 0], (Kind::Double, log_ratio.device()));
            let (mismatch, mismatch_max) = match fresh {
                Some(fresh) => {
                    let mismatch = distance.f_mul(fresh)?;
                    (sum(&mismatch)?, mismatch.f_max()?)
                }
                None => (zero()?, zero()?),
            };
            let scalars =
                [sum(&loss.total.f_detach()?)?, sum(&ratio)?, sum(&ratio.f_square()?)?, sum(entropy)?, mismatch];
            self.sums.push(Tensor::f_cat(&[Tensor::f_stack(&scalars, 0)?, loss.parts.shallow_clone()], 0)?);
            self.peaks.push(Tensor::f_stack(&[distance.f_max()?, mismatch_max], 0)?);
            Ok(())
        })
    }

    /// Waits for the device and reads everything.
    pub(crate) fn read(&self) -> Result<Measured, LearnerError> {
        let sums =
            Vec::<f64>::try_from(Tensor::f_stack(&self.sums, 0)?.f_sum_dim_intlist(0i64, false, Kind::Double)?)?;
        let peaks = Vec::<f64>::try_from(Tensor::f_stack(&self.peaks, 0)?.f_amax(0i64, false)?)?;
        let mut all = [0.0; SUMS];
        all.copy_from_slice(&sums);
        let [loss, ratio, ratio_squared, entropy, mismatch, parts @ ..] = all;
        Ok(Measured {
            loss,
            parts: LossParts::from_sums(parts),
            ratio,
            ratio_squared,
            entropy,
            mismatch,
            log_ratio_max: peaks[0],
            mismatch_max: peaks[1],
        })
    }
}
