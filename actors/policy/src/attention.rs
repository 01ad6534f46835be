use tch::{Device, Kind, Tensor};

use crate::PolicyError;

/// How a layer's queries reach keys and values of other positions. The transformer hands over what it computed for the
/// tokens of this pass, rotary positions applied; the implementation knows what came before.
pub trait Attend {
    /// `query`: (B, S, heads, D); `key`, `value`: (B, S, kv_heads, D); returns (B, S, heads · D). With a `window`, a query
    /// sees the last so many tokens of its sequence, itself included, and nothing before them.
    fn attend(
        &mut self,
        layer: usize,
        window: Option<i64>,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor, PolicyError>;
}

/// Attention inside the pass only, under a mask: training on packed rows, and scoring.
#[derive(Debug)]
pub struct PackedAttention {
    mask: Tensor,
    /// The mask of the layers with a window, made when the first of them asks.
    windowed: Option<(i64, Tensor)>,
}

impl PackedAttention {
    /// `mask`: (B, 1, S, S) bool, true where a query (third dimension) sees a key (fourth). Every query must see some key.
    /// A window counts the keys that a query sees, so they must be its sequence, in order.
    pub fn new(mask: Tensor) -> Self {
        Self { mask, windowed: None }
    }

    /// Plain causal attention over rows of `length` tokens.
    pub fn causal(length: i64, device: Device) -> Result<Self, PolicyError> {
        let mask = Tensor::f_ones([length, length], (Kind::Bool, device))?.f_tril(0)?;
        Ok(Self::new(mask.f_view([1, 1, length, length])?))
    }

    /// Rows that hold several segments behind a common prefix. `segments`: (B, S) int64, 0 for the shared prompt, 1.. for
    /// the answers, negative for padding. A token sees what stands before it (itself included) in the prompt and in its own
    /// segment; padding sees itself only.
    pub fn segmented(segments: &Tensor) -> Result<Self, PolicyError> {
        let (rows, length) = segments.size2()?;
        let order = Tensor::f_arange(length, (Kind::Int64, segments.device()))?;
        let earlier = order.f_view([1, 1, length])?.f_le_tensor(&order.f_view([1, length, 1])?)?;
        let (of_query, of_key) = (segments.f_view([rows, length, 1])?, segments.f_view([rows, 1, length])?);
        let same = of_query.f_eq_tensor(&of_key)?.f_logical_or(&of_key.f_eq(0)?)?;
        let itself = order.f_view([1, 1, length])?.f_eq_tensor(&order.f_view([1, length, 1])?)?;
        let visible = same.f_logical_and(&earlier)?.f_logical_and(&of_query.f_ge(0)?)?.f_logical_or(&itself)?;
        Ok(Self::new(visible.f_unsqueeze(1)?))
    }

    /// The mask of a layer.
    fn mask(&mut self, window: Option<i64>) -> Result<&Tensor, PolicyError> {
        let length = self.mask.size4()?.3;
        let Some(window) = window.filter(|window| *window < length) else { return Ok(&self.mask) };
        if self.windowed.as_ref().is_none_or(|(of, _)| *of != window) {
            // A token's place in its own sequence, wherever in the row that lies, is how many tokens it sees.
            // (B, 1, S, S) -> (B, 1, S, 1)
            let place = self.mask.f_sum_dim_intlist(-1i64, true, Kind::Int64)?;
            let near = place.f_transpose(2, 3)?.f_gt_tensor(&place.f_sub_scalar(window)?)?;
            self.windowed = Some((window, near.f_logical_and(&self.mask)?));
        }
        Ok(self.windowed.as_ref().map_or(&self.mask, |(_, mask)| mask))
    }
}

impl Attend for PackedAttention {
    fn attend(
        &mut self,
        _layer: usize,
        window: Option<i64>,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor, PolicyError> {
        mix(query, key, value, Some(self.mask(window)?))
    }
}

/// Plain causal attention without a mask of the whole length in memory: scoring long sequences. Every row is one sequence
/// from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct CausalAttention;

/// Queries that share a mask where there is a window: as many as it is long, but at least so many.
const QUERY_BLOCK: i64 = 512;

impl Attend for CausalAttention {
    fn attend(
        &mut self,
        _layer: usize,
        window: Option<i64>,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor, PolicyError> {
        let length = query.size4()?.1;
        match window.filter(|window| *window < length) {
            None => mix(query, key, value, None),
            Some(window) => slide(query, key, value, window),
        }
    }
}

/// Causal attention through a window, a block of queries at a time, each with the keys that any of them sees.
fn slide(query: &Tensor, key: &Tensor, value: &Tensor, window: i64) -> Result<Tensor, PolicyError> {
    let length = query.size4()?.1;
    let block = window.max(QUERY_BLOCK);
    let mut mixed = Vec::new();
    let mut start = 0;
    while start < length {
        let rows = block.min(length - start);
        let first = (start + 1 - window).max(0);
        let columns = start + rows - first;
        // Row i is the query at start + i, column j the key at first + j.
        let behind = start - first;
        let mask = Tensor::f_ones([1, 1, rows, columns], (Kind::Bool, query.device()))?;
        let mask = mask.f_tril(behind)?.f_triu(behind - window + 1)?;
        let part = |x: &Tensor| x.f_narrow(1, first, columns);
        mixed.push(mix(&query.f_narrow(1, start, rows)?, &part(key)?, &part(value)?, Some(&mask))?);
        start += rows;
    }
    Ok(Tensor::f_cat(&mixed, 1)?)
}

/// Scaled dot products under `mask`, or causal without one. Shapes as in [`Attend::attend`].
pub(crate) fn mix(query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, PolicyError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `attend` makes of random queries, keys and values of `length` tokens in two rows.
    fn attended(attend: &mut dyn Attend, length: i64, window: Option<i64>) -> Tensor {
        tch::manual_seed(7);
        let random = |heads: i64| Tensor::randn([2, length, heads, 4], (Kind::Double, Device::Cpu));
        let (query, key, value) = (random(4), random(2), random(2));
        attend.attend(0, window, &query, &key, &value).unwrap()
    }

    fn distance(one: &Tensor, other: &Tensor) -> f64 {
        f64::try_from((one - other).abs().max()).unwrap()
    }

    #[test]
    fn a_window_in_blocks_is_a_window_under_a_mask() {
        // Shorter and longer than a block, and lengths that no block divides.
        for (length, window) in [(1300, 1), (1300, 100), (1300, 700), (1300, 1299), (1300, 1300), (513, 512), (40, 7)] {
            let mut packed = PackedAttention::causal(length, Device::Cpu).unwrap();
            let expected = attended(&mut packed, length, Some(window));
            let off = distance(&attended(&mut CausalAttention, length, Some(window)), &expected);
            assert!(off < 1e-12, "{length} tokens, window {window}: {off}");
            let plain = distance(&attended(&mut packed, length, None), &expected);
            assert_eq!(plain > 1e-3, window < length, "{length} tokens, window {window}: {plain}");
        }
    }

    #[test]
    fn a_window_is_counted_along_the_sequence_of_each_segment() {
        // Prompt, two answers, padding.
        let segments = Tensor::from_slice(&[0i64, 0, 0, 1, 1, 2, 2, 2, -1]).unsqueeze(0);
        let mut packed = PackedAttention::segmented(&segments).unwrap();
        let mask = packed.mask(Some(3)).unwrap().squeeze();
        let seen = |query: i64| -> Vec<i64> { Vec::try_from(mask.get(query).nonzero().squeeze_dim(1)).unwrap() };
        let expected: [&[i64]; 9] =
            [&[0], &[0, 1], &[0, 1, 2], &[1, 2, 3], &[2, 3, 4], &[1, 2, 5], &[2, 5, 6], &[5, 6, 7], &[8]];
        for (query, expected) in (0..).zip(expected) {
            assert_eq!(seen(query), expected, "of query {query}");
        }
        let other = packed.mask(Some(1)).unwrap().squeeze();
        assert_eq!(other, Tensor::eye(9, (Kind::Bool, Device::Cpu)), "another window has a mask of its own");
    }
}
