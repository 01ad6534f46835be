//! Drawing tokens: the inverse of the cumulative distribution, at one uniform number per token.
//!
//! The first token whose cumulative probability exceeds `u · total` is taken, where `total` is what the probabilities of
//! the row really add up to in float32. `u` is at most 1 - 2⁻²³, so `u · total < total`, so such a token exists; and since
//! its cumulative probability exceeds that of the token before, its own probability is not zero.

use tch::{Kind, Tensor};

use crate::GeneratorError;

/// One drawn token and its natural-log probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Token id.
    pub token: u32,
    /// Under the distribution it was drawn from; under that of temperature 1 if the temperature is 0.
    pub logprob: f32,
}

/// Draws one token per row of `logits` (n, vocabulary), whose noise is `uniforms` (n numbers in [0, 1)).
///
/// The distribution is softmax(logits / `temperature`) in float32; temperature 0 takes the likeliest token and uses no
/// noise. The results reach the host in one transfer.
pub fn draw(logits: &Tensor, uniforms: &[f32], temperature: f64) -> Result<Vec<Drawn>, GeneratorError> {
    let (rows, vocabulary) = logits.size2()?;
    if rows != uniforms.len() as i64 {
        return Err(GeneratorError::Uniforms { rows, uniforms: uniforms.len() });
    }
    let scaled = if temperature == 0.0 || temperature == 1.0 {
        logits.shallow_clone()
    } else {
        logits.f_div_scalar(temperature)?
    };
    let logprobs = scaled.f_log_softmax(-1, Kind::Float)?;
    let tokens = if temperature == 0.0 {
        logprobs.f_argmax(-1, true)?
    } else {
        let cumulative = logprobs.f_exp()?.f_cumsum(-1, None)?;
        let total = cumulative.f_narrow(1, vocabulary - 1, 1)?;
        let threshold =
            Tensor::f_from_slice(uniforms)?.f_to_device(logits.device())?.f_view([rows, 1])?.f_mul(&total)?;
        // upper bound: the first index whose value is greater. NaN finds none, and is caught by its log-prob below.
        threshold.f_searchsorted(&cumulative, false, true, "right", None::<Tensor>)?.f_clamp_max(vocabulary - 1)?
    };
    let chosen = logprobs.f_gather(1, &tokens, false)?;
    // Token ids are exact in float64, so both columns travel as one tensor.
    let packed = Tensor::f_cat(&[tokens.f_to_kind(Kind::Double)?, chosen.f_to_kind(Kind::Double)?], 0)?;
    let mut host = vec![0f64; 2 * uniforms.len()];
    let numel = host.len();
    packed.f_view([-1])?.f_copy_data(&mut host, numel)?;
    let (tokens, chosen) = host.split_at(uniforms.len());
    Ok(tokens
        .iter()
        .zip(chosen)
        .map(|(&token, &logprob)| Drawn { token: token as u32, logprob: logprob as f32 })
        .collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What [`draw`] must do for one row, in plain numbers.
    fn reference(logits: &[f32], temperature: f64) -> Vec<f64> {
        let scaled: Vec<f64> = logits.iter().map(|&l| f64::from(l) / temperature).collect();
        let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scaled.iter().map(|l| (l - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    }

    fn draw_row(logits: &[f32], uniforms: &[f32], temperature: f64) -> Vec<Drawn> {
        let rows = Tensor::from_slice(logits).view([1, -1]).expand([uniforms.len() as i64, logits.len() as i64], false);
        draw(&rows, uniforms, temperature).unwrap()
    }

    proptest! {
        #[test]
        fn the_token_is_where_the_uniform_falls_in_the_cumulative_distribution(
            logits in prop::collection::vec(-8f32..8.0, 1..40),
            uniform in 0f32..0.999,
            temperature in 0.3f64..3.0,
        ) {
            let drawn = draw_row(&logits, &[uniform], temperature)[0];
            let probabilities = reference(&logits, temperature);
            let below: f64 = probabilities[..drawn.token as usize].iter().sum();
            let own = probabilities[drawn.token as usize];
            // float32 rounding of the cumulative sum
            prop_assert!(below <= f64::from(uniform) + 1e-5 && f64::from(uniform) < below + own + 1e-5);
            prop_assert!((f64::from(drawn.logprob) - own.ln()).abs() < 1e-4, "{drawn:?} {own}");
        }

        #[test]
        fn a_token_without_probability_is_never_drawn(
            live in prop::collection::vec(any::<bool>(), 2..40),
            uniform in prop_oneof![Just(0.0f32), Just(1.0 - 1.0 / (1u32 << 23) as f32), 0f32..0.999],
        ) {
            prop_assume!(live.iter().any(|&l| l));
            let logits: Vec<f32> = live.iter().map(|&l| if l { 0.0 } else { f32::NEG_INFINITY }).collect();
            let drawn = draw_row(&logits, &[uniform], 1.0)[0];
            prop_assert!(live[drawn.token as usize]);
            prop_assert!(drawn.logprob.is_finite());
        }
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.0f32, 1.0, -1.0, 2.0, 0.5];
        let n = 20_000;
        // A stratified grid of uniforms: the frequencies must then be the probabilities up to 1 / n.
        let uniforms: Vec<f32> = (0..n).map(|i| i as f32 / n as f32).collect();
        let mut counts = [0u32; 5];
        for drawn in draw_row(&logits, &uniforms, 0.7) {
            counts[drawn.token as usize] += 1;
        }
        for (count, probability) in counts.iter().zip(reference(&logits, 0.7)) {
            assert!((f64::from(*count) / n as f64 - probability).abs() < 2e-4, "{counts:?}");
        }
    }

    #[test]
    fn temperature_zero_takes_the_likeliest_token_and_reports_the_plain_log_prob() {
        let logits = [0.0f32, 3.0, 1.0];
        for drawn in draw_row(&logits, &[0.0, 0.5, 0.99], 0.0) {
            assert_eq!(drawn.token, 1);
            assert!((f64::from(drawn.logprob) - reference(&logits, 1.0)[1].ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn a_row_without_its_own_uniform_number_is_an_error() {
        let error = draw(&Tensor::from_slice(&[0f32, 1.0]).view([1, 2]), &[0.5, 0.5], 1.0).unwrap_err();
        assert_eq!(error.to_string(), "1 rows of logits and 2 uniform numbers: each row needs exactly one");
    }

    #[test]
    fn logits_that_are_not_finite_show_in_the_log_prob() {
        assert!(draw_row(&[0.0, f32::NAN], &[0.5], 1.0)[0].logprob.is_nan());
    }
}
