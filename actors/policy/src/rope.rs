//! Rotary frequencies, operation by operation as transformers computes them (`modeling_rope_utils.py`): in float32, where
//! a different order of operations would be seen in the logits of long sequences.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use crate::{ModelConfig, PolicyError, RopeScaling};

/// What cosines and sines are made of.
pub(crate) struct Rotary {
    /// (D / 2) float32: radians per position, one for each pair of dimensions.
    pub(crate) frequencies: Tensor,
    /// What cosines and sines are multiplied with.
    pub(crate) magnitude: f64,
}

impl Rotary {
    pub(crate) fn new(config: &ModelConfig) -> Result<Self, PolicyError> {
        let width = config.head_dim;
        let exponents = Tensor::f_arange_start_step(0, width, 2, (Kind::Int64, Device::Cpu))?.f_to_kind(Kind::Float)?;
        // θ^(2i/D), whose inverse is the frequency
        let powers = Tensor::f_pow_scalar(config.rope_theta, &exponents.f_div_scalar(width as f64)?)?;
        let plain = powers.f_reciprocal()?;
        let (frequencies, magnitude) = match config.rope_scaling {
            RopeScaling::Default => (plain, 1.0),
            RopeScaling::Linear { factor } => (plain.f_div_scalar(factor)?, 1.0),
            RopeScaling::Llama3 { factor, low, high, original_positions } => {
                (llama3(&plain, factor, low, high, original_positions)?, 1.0)
            }
            RopeScaling::Yarn { factor, attention_factor, beta_fast, beta_slow, original_positions, truncate } => {
                // The dimension that turns so many times within the original context.
                let dimension = |turns: f64| {
                    (width as f64 * (original_positions / (turns * 2.0 * PI)).ln()) / (2.0 * config.rope_theta.ln())
                };
                let (first, last) = (dimension(beta_fast), dimension(beta_slow));
                let (first, last) = if truncate { (first.floor(), last.ceil()) } else { (first, last) };
                let ramp = ramp(first.max(0.0), last.min((width - 1) as f64), width / 2)?;
                let divided = powers.f_mul_scalar(factor)?.f_reciprocal()?;
                // transformers has the ramp's complement in hand and takes the complement of that
                let kept = ramp.f_neg()?.f_add_scalar(1.0)?;
                let rest = kept.f_neg()?.f_add_scalar(1.0)?;
                (divided.f_mul(&rest)?.f_add(&plain.f_mul(&kept)?)?, attention_factor)
            }
        };
        Ok(Self { frequencies, magnitude })
    }
}

/// 0 up to `first`, 1 from `last` on, a straight line between.
fn ramp(first: f64, last: f64, length: i64) -> Result<Tensor, PolicyError> {
    let last = if first == last { last + 0.001 } else { last };
    let line = Tensor::f_arange(length, (Kind::Float, Device::Cpu))?.f_sub_scalar(first)?;
    Ok(line.f_div_scalar(last - first)?.f_clamp(0.0, 1.0)?)
}

fn llama3(plain: &Tensor, factor: f64, low: f64, high: f64, original: f64) -> Result<Tensor, PolicyError> {
    let wavelengths = plain.f_reciprocal()?.f_mul_scalar(2.0 * PI)?;
    let long = wavelengths.f_gt(original / low)?;
    let short = wavelengths.f_lt(original / high)?;
    let outer = plain.f_div_scalar(factor)?.f_where_self(&long, plain)?;
    let smooth = wavelengths.f_reciprocal()?.f_mul_scalar(original)?.f_sub_scalar(low)?.f_div_scalar(high - low)?;
    let rest = smooth.f_neg()?.f_add_scalar(1.0)?;
    let mixed = rest.f_mul(&outer)?.f_div_scalar(factor)?.f_add(&smooth.f_mul(&outer)?)?;
    Ok(outer.f_where_self(&long.f_logical_or(&short)?, &mixed)?)
}
