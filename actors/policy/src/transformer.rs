use tch::{Device, Kind, Tensor};

use crate::rope::Rotary;
use crate::weights::Layer;
use crate::{Attend, ModelConfig, PolicyError, Weights};

/// The forward pass of the supported architectures (transformers `modeling_qwen2.py`, `modeling_qwen3.py`,
/// `modeling_llama.py`, `modeling_mistral.py`): one implementation for sampling, training and scoring. Holds the rotary
/// tables, nothing else; weights come with each call.
#[derive(Debug)]
pub struct Transformer {
    config: ModelConfig,
    /// (positions, D): cosines.
    cos: Tensor,
    /// (positions, D): sines, the first half negated, so that a rotation is `x·cos + roll(x, D/2)·sin`.
    sin: Tensor,
}

/// Rotary angles of the tokens of a pass.
#[derive(Debug)]
pub struct Angles {
    /// (B, S, 1, D)
    cos: Tensor,
    /// (B, S, 1, D), signed.
    sin: Tensor,
}

impl Transformer {
    /// `positions`: the longest sequence that will be passed; bounds the rotary tables.
    pub fn new(config: &ModelConfig, positions: i64, device: Device) -> Result<Self, PolicyError> {
        // transformers computes the tables in float32, from float32 frequencies; so do we, for equal logits.
        let Rotary { frequencies, magnitude } = Rotary::new(config)?;
        let angles = Tensor::f_arange(positions, (Kind::Float, Device::Cpu))?.f_outer(&frequencies)?;
        let (cos, sin) = (angles.f_cos()?.f_mul_scalar(magnitude)?, angles.f_sin()?.f_mul_scalar(magnitude)?);
        let cos = Tensor::f_cat(&[&cos, &cos], -1)?.f_to_device(device)?;
        let sin = Tensor::f_cat(&[&sin.f_neg()?, &sin], -1)?.f_to_device(device)?;
        Ok(Self { config: config.clone(), cos, sin })
    }

    /// Cosines and signed sines, (positions, D).
    pub(crate) fn rotations(&self) -> [&Tensor; 2] {
        [&self.cos, &self.sin]
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The residual stream behind the last layer, before the final norm.
    ///
    /// `tokens`, `positions`: (B, S) int64. Returns (B, S, hidden).
    pub fn hidden(
        &self,
        weights: &Weights,
        tokens: &Tensor,
        positions: &Tensor,
        attend: &mut dyn Attend,
    ) -> Result<Tensor, PolicyError> {
        let angles = self.angles(positions, weights.kind())?;
        let mut x = self.embed(weights, tokens)?;
        for index in 0..weights.layers() {
            x = self.layer(weights, index, &x, &angles, attend)?;
        }
        Ok(x)
    }

    /// What the first layer reads. `tokens`: (B, S) int64. Returns (B, S, hidden).
    pub fn embed(&self, weights: &Weights, tokens: &Tensor) -> Result<Tensor, PolicyError> {
        Ok(Tensor::f_embedding(&weights.embedding, tokens, -1, false, false)?)
    }

    /// The rotations of all layers at these positions, (B, S) int64.
    pub fn angles(&self, positions: &Tensor, kind: Kind) -> Result<Angles, PolicyError> {
        let (batch, length) = positions.size2()?;
        // (B, S) -> (B, S, 1, D): one angle for all heads
        let table = |table: &Tensor| -> Result<Tensor, PolicyError> {
            let rows = table.f_index_select(0, &positions.f_reshape([-1])?)?;
            Ok(rows.f_view([batch, length, 1, self.config.head_dim])?.f_to_kind(kind)?)
        };
        Ok(Angles { cos: table(&self.cos)?, sin: table(&self.sin)? })
    }

    /// One layer, counted from 0: of the residual stream before it, (B, S, hidden), that behind it.
    pub fn layer(
        &self,
        weights: &Weights,
        index: usize,
        x: &Tensor,
        angles: &Angles,
        attend: &mut dyn Attend,
    ) -> Result<Tensor, PolicyError> {
        let layer = &weights.layers[index];
        let x = self.attention(layer, index, x, angles, attend)?;
        self.mlp(layer, &x)
    }

    /// The final norm: (M, hidden) as from [`Self::hidden`] to what the output projection takes, (M, hidden).
    pub fn normed(&self, weights: &Weights, hidden: &Tensor) -> Result<Tensor, PolicyError> {
        Ok(hidden.f_rms_norm([self.config.hidden_size], Some(&weights.norm), self.config.rms_norm_eps)?)
    }

    /// Logits of selected positions. `hidden`: (M, hidden) as from [`Self::hidden`]. Returns (M, vocabulary).
    pub fn logits(&self, weights: &Weights, hidden: &Tensor) -> Result<Tensor, PolicyError> {
        Ok(self.normed(weights, hidden)?.f_linear(&weights.head, None::<Tensor>)?)
    }

    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        x: &Tensor,
        angles: &Angles,
        attend: &mut dyn Attend,
    ) -> Result<Tensor, PolicyError> {
        let c = &self.config;
        let (batch, length, _) = x.size3()?;
        let normed = x.f_rms_norm([c.hidden_size], Some(&layer.input_norm), c.rms_norm_eps)?;
        // (B, S, hidden) -> (B, S, heads + 2 kv_heads, D)
        let qkv = layer.qkv.forward(&normed)?;
        let qkv = qkv.f_view([batch, length, c.heads + 2 * c.kv_heads, c.head_dim])?;
        let turned = match &layer.qk_norm {
            None => qkv.f_narrow(2, 0, c.heads + c.kv_heads)?,
            Some([query_norm, key_norm]) => {
                // Each head for itself: over D
                let norm = |x: Tensor, weight: &Tensor| x.f_rms_norm([c.head_dim], Some(weight), c.rms_norm_eps);
                let query = norm(qkv.f_narrow(2, 0, c.heads)?, query_norm)?;
                Tensor::f_cat(&[query, norm(qkv.f_narrow(2, c.heads, c.kv_heads)?, key_norm)?], 2)?
            }
        };
        let rotated = rotate(&turned, angles)?;
        let query = rotated.f_narrow(2, 0, c.heads)?;
        let key = rotated.f_narrow(2, c.heads, c.kv_heads)?;
        let value = qkv.f_narrow(2, c.heads + c.kv_heads, c.kv_heads)?;
        let mixed = attend.attend(index, c.window(index), &query, &key, &value)?;
        Ok(x.f_add(&layer.output.forward(&mixed)?)?)
    }

    fn mlp(&self, layer: &Layer, x: &Tensor) -> Result<Tensor, PolicyError> {
        let c = &self.config;
        let normed = x.f_rms_norm([c.hidden_size], Some(&layer.post_norm), c.rms_norm_eps)?;
        let both = layer.gate_up.forward(&normed)?;
        let (gate, up) =
            (both.f_narrow(-1, 0, c.intermediate_size)?, both.f_narrow(-1, c.intermediate_size, c.intermediate_size)?);
        Ok(x.f_add(&layer.down.forward(&gate.f_silu()?.f_mul(&up)?)?)?)
    }
}

/// Rotary position embedding: `x`: (B, S, heads, D).
fn rotate(x: &Tensor, Angles { cos, sin }: &Angles) -> Result<Tensor, PolicyError> {
    let half = x.size()[3] / 2;
    Ok(x.f_mul(cos)?.f_add(&x.f_roll([half], [3])?.f_mul(sin)?)?)
}

/// Natural-log probabilities of `targets` under logits / `temperature`. `logits`: (M, vocabulary), `targets`: (M) int64.
/// Returns (M) in float32 (float64 for float64 logits).
pub fn token_logprobs(logits: &Tensor, targets: &Tensor, temperature: f64) -> Result<Tensor, PolicyError> {
    let wide = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let scaled = if temperature == 1.0 { logits.shallow_clone() } else { logits.f_div_scalar(temperature)? };
    Ok(scaled.f_log_softmax(-1, wide)?.f_gather(1, &targets.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?)
}
