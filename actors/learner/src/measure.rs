use counterpoint_rollout::contract::Quantiles;
use tch::{Kind, Tensor};

use crate::LearnerError;
use crate::objective::LossParts;

/// Adds up what a step measures over its micro-batches, on the device, in float64; read once at the end of the step.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    /// One (SUMS) tensor per micro-batch, in the order of [`Measured`].
    sums: Vec<Tensor>,
    /// One (3) tensor per micro-batch: max |log-ratio|, max |mismatch| at version difference 0, and above.
    peaks: Vec<Tensor>,
    /// (M) log-ratios, and (M) whether the token's answer is right.
    ratios: Vec<(Tensor, Tensor)>,
}

/// What one micro-batch shows. All are (M) unless said otherwise.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    /// Scalar: what was differentiated, everything included.
    pub(crate) total: &'a Tensor,
    /// [`LossParts`].
    pub(crate) parts: &'a Tensor,
    pub(crate) logp_new: &'a Tensor,
    /// Of the policy that sampled.
    pub(crate) logp_old: &'a Tensor,
    pub(crate) entropy: &'a Tensor,
    /// 1 where the two log-probs should be equal.
    pub(crate) fresh: Option<&'a Tensor>,
    /// Whether the token's answer is right.
    pub(crate) right: Tensor,
    /// Scalar: Σ of the divergence from the reference.
    pub(crate) kl: Option<Tensor>,
    /// (2): Σ of importance weights, and how many are cut off.
    pub(crate) importance: Option<Tensor>,
}

/// The sums over a whole step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    pub(crate) loss: f64,
    pub(crate) ratio: f64,
    pub(crate) ratio_squared: f64,
    pub(crate) entropy: f64,
    /// Σ |log-prob difference| over all tokens, and over the fresh ones.
    pub(crate) distance: f64,
    pub(crate) mismatch: f64,
    pub(crate) kl: f64,
    pub(crate) importance: f64,
    pub(crate) importance_capped: f64,
    pub(crate) parts: LossParts,
    pub(crate) log_ratio_max: f64,
    pub(crate) mismatch_max: f64,
    pub(crate) stale_mismatch_max: f64,
    pub(crate) right: Quantiles,
    pub(crate) wrong: Quantiles,
}

const OWN: usize = 9;
const SUMS: usize = OWN + LossParts::COUNT;

impl Measures {
    /// Adds one micro-batch.
    pub(crate) fn add(&mut self, shown: Shown<'_>) -> Result<(), LearnerError> {
        tch::no_grad(|| {
            let Shown { total, parts, logp_new, logp_old, entropy, fresh, right, kl, importance } = shown;
            let log_ratio = logp_new.f_detach()?.f_sub(logp_old)?;
            let wide = log_ratio.f_to_kind(Kind::Double)?;
            let distance = wide.f_abs()?;
            let ratio = wide.f_exp()?;
            let sum = |x: &Tensor| x.f_sum(Kind::Double);
            let zero = || Tensor::f_zeros([0i64; 0], (Kind::Double, wide.device()));
            let all = sum(&distance)?;
            let (mismatch, mismatch_max, stale_max) = match fresh {
                Some(fresh) => {
                    let mismatch = distance.f_mul(fresh)?;
                    (sum(&mismatch)?, mismatch.f_max()?, distance.f_sub(&mismatch)?.f_max()?)
                }
                None => (zero()?, zero()?, distance.f_max()?),
            };
            let kl = kl.map_or_else(zero, Ok)?;
            let mut scalars =
                vec![sum(&total.f_detach()?)?, sum(&ratio)?, sum(&ratio.f_square()?)?, sum(&entropy.f_detach()?)?];
            scalars.extend([all, mismatch, kl]);
            let importance = importance.map_or_else(|| Tensor::f_stack(&[zero()?, zero()?], 0), Ok)?;
            let own = Tensor::f_stack(&scalars, 0)?;
            self.sums.push(Tensor::f_cat(&[own, importance, parts.shallow_clone()], 0)?);
            self.peaks.push(Tensor::f_stack(&[distance.f_max()?, mismatch_max, stale_max], 0)?);
            self.ratios.push((log_ratio, right));
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
        let [loss, ratio, ratio_squared, entropy, distance, mismatch, kl, importance, importance_capped, parts @ ..] =
            all;
        let (right, wrong) = self.quantiles()?;
        Ok(Measured {
            loss,
            ratio,
            ratio_squared,
            entropy,
            distance,
            mismatch,
            kl,
            importance,
            importance_capped,
            parts: LossParts::from_sums(parts),
            log_ratio_max: peaks[0],
            mismatch_max: peaks[1],
            stale_mismatch_max: peaks[2],
            right,
            wrong,
        })
    }

    /// Of the ratios of right and of wrong answers' tokens.
    fn quantiles(&self) -> Result<(Quantiles, Quantiles), LearnerError> {
        let cat =
            |of: fn(&(Tensor, Tensor)) -> &Tensor| Tensor::f_cat(&self.ratios.iter().map(of).collect::<Vec<_>>(), 0);
        let (log_ratio, right) = (cat(|both| &both.0)?, cat(|both| &both.1)?);
        let of = |mask: &Tensor| quantiles(&log_ratio.f_masked_select(mask)?);
        Ok((of(&right)?, of(&right.f_logical_not()?)?))
    }
}

/// Quantiles of the exponentials of (M) numbers, each the number at the nearest rank; zeros of no numbers.
fn quantiles(log_ratio: &Tensor) -> Result<Quantiles, LearnerError> {
    let count = log_ratio.numel();
    if count == 0 {
        return Ok(Quantiles::default());
    }
    let rank = |share: f64| (share * (count - 1) as f64).round() as i64;
    let (sorted, _) = log_ratio.f_sort(0, false)?;
    let ranks = Tensor::f_from_slice(&[rank(0.01), rank(0.5), rank(0.99)])?.f_to_device(log_ratio.device())?;
    let three = Vec::<f64>::try_from(sorted.f_index_select(0, &ranks)?.f_exp()?.f_to_kind(Kind::Double)?)?;
    Ok(Quantiles { p01: three[0], p50: three[1], p99: three[2] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_ratios_and_zero_of_none() {
        let ratios: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        let Quantiles { p01, p50, p99 } = quantiles(&Tensor::from_slice(&ratios).log()).unwrap();
        for (got, want) in [(p01, 2.0), (p50, 51.0), (p99, 100.0)] {
            assert!((got - want).abs() < 1e-9, "{got} is not {want}");
        }
        let one = quantiles(&Tensor::from_slice(&[0f32])).unwrap();
        assert_eq!(one, Quantiles { p01: 1.0, p50: 1.0, p99: 1.0 });
        assert_eq!(quantiles(&Tensor::from_slice::<f32>(&[])).unwrap(), Quantiles::default());
    }
}
