//! Drawing a token from a row of logits: the inverse of the cumulative distribution, at one uniform number.
//!
//! The first token whose cumulative probability exceeds `u · total` is taken. The row is summed in stretches, in float32
//! within one and in float64 between them; the stretch in which the number falls is then walked token by token. What rounding
//! between the two sums may leave over falls to the last token of the stretch that has a probability.

use super::aligned::LINE;
use super::lanes::Lanes;
use super::level::at_each_level;

/// One drawn token and its natural-log probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Picked {
    /// Token id.
    pub token: u32,
    /// Under the distribution it was drawn from; under that of temperature 1 if the temperature is 0. Not finite if the
    /// logits were not.
    pub logprob: f32,
}

/// Logits that are summed in one go.
const STRETCH: usize = 16 * LINE;

at_each_level! {
    /// Draws from softmax(logits / temperature), the likeliest token at temperature 0. `logits`: (vocabulary), in whole
    /// lines, the padding of which is -inf; `sums`: room to work.
    pub(super) unsafe fn pick(
        logits: &[f32], uniform: f32, temperature: f32, sums: &mut Vec<f64>,
    ) -> Picked = pick_body
}

/// # Safety
/// The processor has the lanes' instructions.
#[inline(always)]
unsafe fn pick_body<V: Lanes>(logits: &[f32], uniform: f32, temperature: f32, sums: &mut Vec<f64>) -> Picked {
    let divisor = if temperature == 0.0 { 1.0 } else { temperature };
    // SAFETY: the caller's; a vector is loaded from whole lines only.
    unsafe {
        let mut largest = V::splat(f32::NEG_INFINITY);
        for line in logits.chunks_exact(LINE) {
            largest = V::load(line.as_ptr()).max(largest);
        }
        let largest = largest.largest();
        let offset = -largest / divisor;
        let likelihood = |line: *const f32| V::load(line).div(V::splat(divisor)).add(V::splat(offset)).exp();
        sums.clear();
        for stretch in logits.chunks(STRETCH) {
            let mut sum = V::splat(0.0);
            for line in stretch.chunks_exact(LINE) {
                sum = sum.add(likelihood(line.as_ptr()));
            }
            sums.push(f64::from(sum.sum()));
        }
        let total: f64 = sums.iter().sum();
        let token = if temperature == 0.0 {
            logits.iter().position(|&logit| logit == largest).unwrap_or(0)
        } else {
            let mut rest = f64::from(uniform) * total;
            let mut chosen = 0;
            while chosen + 1 < sums.len() && sums[chosen] <= rest {
                rest -= sums[chosen];
                chosen += 1;
            }
            walk::<V>(&logits[chosen * STRETCH..], rest, likelihood) + chosen * STRETCH
        };
        let logprob = f64::from(logits[token] / divisor + offset) - total.ln();
        Picked { token: token as u32, logprob: logprob as f32 }
    }
}

/// The first place of the stretch at which the likelihoods add up to more than `rest`, or the last that has one.
#[inline(always)]
unsafe fn walk<V: Lanes>(logits: &[f32], mut rest: f64, likelihood: impl Fn(*const f32) -> V) -> usize {
    let mut last = 0;
    for (number, line) in logits.chunks_exact(LINE).take(STRETCH / LINE).enumerate() {
        // SAFETY: the caller's; the line is whole.
        let likelihoods = unsafe { likelihood(line.as_ptr()).to_array() };
        for (within, &likelihood) in likelihoods.iter().enumerate() {
            let likelihood = f64::from(likelihood);
            if likelihood > 0.0 {
                last = number * LINE + within;
                if likelihood > rest {
                    return last;
                }
                rest -= likelihood;
            }
        }
    }
    last
}
