use tch::Tensor;

use crate::PolicyError;

/// How a layer's queries reach keys and values of other positions. The transformer hands over what it computed for the
/// tokens of this pass, rotary positions applied; the implementation knows what came before.
pub trait Attend {
    /// `query`: (B, S, heads, D); `key`, `value`: (B, S, kv_heads, D); returns (B, S, heads · D).
    fn attend(&mut self, layer: usize, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor, PolicyError>;
}

/// Attention inside the pass only, under a mask: training on packed rows, and scoring.
#[derive(Debug)]
pub struct PackedAttention {
    mask: Tensor,
}

impl PackedAttention {
    /// `mask`: (B, 1, S, S) bool, true where a query (third dimension) sees a key (fourth). Every query must see some key.
    pub fn new(mask: Tensor) -> Self {
        Self { mask }
    }

    /// Plain causal attention over rows of `length` tokens.
    pub fn causal(length: i64, device: tch::Device) -> Result<Self, PolicyError> {
        let mask = Tensor::f_ones([length, length], (tch::Kind::Bool, device))?.f_tril(0)?;
        Ok(Self { mask: mask.f_view([1, 1, length, length])? })
    }

    /// Rows that hold several segments behind a common prefix. `segments`: (B, S) int64, 0 for the shared prompt, 1.. for
    /// the answers, negative for padding. A token sees what stands before it (itself included) in the prompt and in its own
    /// segment; padding sees itself only.
    pub fn segmented(segments: &Tensor) -> Result<Self, PolicyError> {
        let (rows, length) = segments.size2()?;
        let order = Tensor::f_arange(length, (tch::Kind::Int64, segments.device()))?;
        let earlier = order.f_view([1, 1, length])?.f_le_tensor(&order.f_view([1, length, 1])?)?;
        let (of_query, of_key) = (segments.f_view([rows, length, 1])?, segments.f_view([rows, 1, length])?);
        let same = of_query.f_eq_tensor(&of_key)?.f_logical_or(&of_key.f_eq(0)?)?;
        let itself = order.f_view([1, 1, length])?.f_eq_tensor(&order.f_view([1, length, 1])?)?;
        let visible = same.f_logical_and(&earlier)?.f_logical_and(&of_query.f_ge(0)?)?.f_logical_or(&itself)?;
        Ok(Self { mask: visible.f_unsqueeze(1)? })
    }
}

impl Attend for PackedAttention {
    fn attend(&mut self, _layer: usize, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor, PolicyError> {
        mix(query, key, value, Some(&self.mask))
    }
}

/// Plain causal attention without a mask in memory: scoring long sequences. Every row is one sequence from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct CausalAttention;

impl Attend for CausalAttention {
    fn attend(&mut self, _layer: usize, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor, PolicyError> {
        mix(query, key, value, None)
    }
}

/// Scaled dot products under `mask`, or causal without one. Shapes as in [`Attend::attend`].
fn mix(query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, PolicyError> {
    let (batch, length, heads, width) = query.size4()?;
    let repeat = heads / key.size4()?.2;
    // (B, S, H, D) -> (B, H, S, D), with keys and values repeated to the number of query heads
    let spread = |x: &Tensor| -> Result<Tensor, PolicyError> {
        let x = x.f_transpose(1, 2)?;
        Ok(if repeat == 1 { x } else { x.f_repeat_interleave_self_int(repeat, 1, None)? })
    };
    let (key, value, causal) = (spread(key)?, spread(value)?, mask.is_none());
    let query = query.f_transpose(1, 2)?;
    let mixed = Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask, 0.0, causal, None, false)?;
    // (B, H, S, D) -> (B, S, H · D)
    Ok(mixed.f_transpose(1, 2)?.f_reshape([batch, length, heads * width])?)
}
