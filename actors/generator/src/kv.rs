//! Keys and values of the sequences that are being sampled.
//!
//! Active sequences lie compact in slots `0..n`, so a decode step reads one narrowed view per layer and gathers nothing. A
//! slot that falls empty is taken by the next sequence; only if there is none, the last sequences move down, all of them in
//! one copy. A prompt is prefilled once per group into a [`Prefix`], which is then copied to the slots of its answers. The
//! prefix carries the version of its weights, and [`KvStore::attach`] refuses one that is not of the loaded weights: a new
//! sequence never starts on a cache of another version.
//!
//! The store begins short and doubles its columns on demand, up to the longest sequence allowed: memory follows the
//! longest sequence seen, not the longest that the configuration permits. A layer with a sliding window reads the columns
//! inside it only; those before it are kept all the same.

use counterpoint_policy::{Attend, CausalAttention, ModelConfig, PolicyError};
use counterpoint_rollout::PolicyVersion;
use tch::{Device, Kind, Tensor};

/// Columns that a new store has room for.
const FIRST_COLUMNS: i64 = 64;

/// The cache of all layers: (layers, 2, slots, kv_heads, columns, D), keys at index 0 of the second dimension.
#[derive(Debug)]
pub(crate) struct KvStore {
    shape: Shape,
    slots: i64,
    columns: i64,
    longest_allowed: i64,
    data: Tensor,
    views: Vec<LayerViews>,
    /// Cached positions per slot; what lies behind them is garbage, but finite.
    lengths: Vec<i64>,
    /// 0, 1, 2, ...: compared with the lengths for the mask.
    order: Tensor,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    layers: i64,
    heads: i64,
    kv_heads: i64,
    width: i64,
    kind: Kind,
    device: Device,
}

/// Views into the store, made once, since a decode step has no time for it.
#[derive(Debug)]
struct LayerViews {
    /// (slots · kv_heads, columns, D).
    keys: Tensor,
    values: Tensor,
    /// (slots · kv_heads · columns, D).
    key_rows: Tensor,
    value_rows: Tensor,
}

/// The cache of some prompts, computed in one pass: (layers, 2, prompts, kv_heads, columns, D).
#[derive(Debug)]
pub(crate) struct Prefix {
    data: Tensor,
    lengths: Vec<i64>,
    version: PolicyVersion,
}

impl Prefix {
    /// A copy of one prompt's part, for siblings that get a slot later.
    pub(crate) fn row(&self, row: usize) -> Result<Self, PolicyError> {
        let length = self.lengths[row];
        let data = self.data.f_narrow(2, row as i64, 1)?.f_narrow(4, 0, length)?.f_contiguous()?;
        Ok(Self { data, lengths: vec![length], version: self.version })
    }
}

impl KvStore {
    /// A store for `slots` sequences of at most `longest_allowed` tokens, in the number format of the model's activations.
    pub(crate) fn new(
        config: &ModelConfig,
        slots: usize,
        longest_allowed: i64,
        kind: Kind,
        device: Device,
    ) -> Result<Self, PolicyError> {
        let (heads, kv_heads, width) = (config.heads, config.kv_heads, config.head_dim);
        let shape = Shape { layers: config.layers as i64, heads, kv_heads, width, kind, device };
        let (slots, columns) = (slots as i64, FIRST_COLUMNS.min(longest_allowed));
        let data = shape.zeros(slots, columns)?;
        let views = shape.views(&data)?;
        let order = Tensor::f_arange(longest_allowed, (Kind::Int64, device))?;
        Ok(Self { shape, slots, columns, longest_allowed, data, views, lengths: Vec::new(), order })
    }

    /// Runs a forward pass over padded prompts, `tokens`: (B, S) int64, of the given lengths, padded on the right. Returns
    /// the residual stream (B, S, hidden) of `forward` and the cache of the prompts.
    pub(crate) fn prefill(
        &self,
        lengths: Vec<i64>,
        version: PolicyVersion,
        forward: impl FnOnce(&mut dyn Attend) -> Result<Tensor, PolicyError>,
    ) -> Result<(Tensor, Prefix), PolicyError> {
        let columns = lengths.iter().copied().max().unwrap_or(0);
        let data = self.shape.zeros(lengths.len() as i64, columns)?;
        // Padding stands on the right, so plain causality keeps it from the tokens before it.
        let hidden = forward(&mut PrefillPass { data: &data })?;
        Ok((hidden, Prefix { data, lengths, version }))
    }

    /// Copies prompt `row` of `prefix` to `slot`, for each `(row, slot)`. Slots are those in use (their sequence is over)
    /// or the next ones, without a gap.
    pub(crate) fn attach(
        &mut self,
        prefix: &Prefix,
        loaded: PolicyVersion,
        places: &[(usize, usize)],
    ) -> Result<(), PolicyError> {
        // No data leads here: the engine attaches what it has just computed, or what it kept and compared with its weights.
        assert_eq!(prefix.version, loaded, "a sequence may only start on a cache of the loaded weights");
        let columns = prefix.data.size()[4];
        self.reserve(columns)?;
        for &(row, slot) in places {
            if slot >= self.lengths.len() {
                self.lengths.resize(slot + 1, 0);
            }
            self.lengths[slot] = prefix.lengths[row];
        }
        let rows: Vec<i64> = places.iter().map(|&(row, _)| row as i64).collect();
        let slots: Vec<i64> = places.iter().map(|&(_, slot)| slot as i64).collect();
        let source = prefix.data.f_index_select(2, &self.to_device(&rows)?)?;
        let _ = self.data.f_narrow(4, 0, columns)?.f_index_copy_(2, &self.to_device(&slots)?, &source)?;
        Ok(())
    }

    /// Moves sequences `(from, to)`, then forgets all slots from `active` on.
    pub(crate) fn compact(&mut self, moves: &[(usize, usize)], active: usize) -> Result<(), PolicyError> {
        if !moves.is_empty() {
            let columns = moves.iter().map(|&(from, _)| self.lengths[from]).max().unwrap_or(0);
            let from: Vec<i64> = moves.iter().map(|&(from, _)| from as i64).collect();
            let to: Vec<i64> = moves.iter().map(|&(_, to)| to as i64).collect();
            let mut window = self.data.f_narrow(4, 0, columns)?;
            let moved = window.f_index_select(2, &self.to_device(&from)?)?;
            let _ = window.f_index_copy_(2, &self.to_device(&to)?, &moved)?;
            for &(from, to) in moves {
                self.lengths[to] = self.lengths[from];
            }
        }
        self.lengths.truncate(active);
        Ok(())
    }

    /// Runs one decode step of all slots in use: `forward` gets the position of each slot's next token, (n, 1) int64, and
    /// the attention that appends the token's key and value to its slot.
    pub(crate) fn decode(
        &mut self,
        forward: impl FnOnce(&Tensor, &mut dyn Attend) -> Result<Tensor, PolicyError>,
    ) -> Result<Tensor, PolicyError> {
        let longest = self.lengths.iter().copied().max().unwrap_or(0) + 1;
        self.reserve(longest)?;
        let (active, kv_heads) = (self.lengths.len(), self.shape.kv_heads);
        // One transfer: the positions, then for each slot and head the row that the new key goes to.
        let mut host = self.lengths.clone();
        for (slot, &length) in (0i64..).zip(&self.lengths) {
            host.extend((0..kv_heads).map(|head| (slot * kv_heads + head) * self.columns + length));
        }
        let host = self.to_device(&host)?;
        let positions = host.f_narrow(0, 0, active as i64)?.f_view([-1, 1])?;
        let rows = host.f_narrow(0, active as i64, active as i64 * kv_heads)?.f_view([-1, kv_heads])?;
        let Self { shape, views, lengths, order, .. } = self;
        let mut pass =
            DecodePass { shape: *shape, views, lengths, order, positions: &positions, rows, reaches: Vec::new() };
        let hidden = forward(&positions, &mut pass)?;
        self.lengths.iter_mut().for_each(|length| *length += 1);
        Ok(hidden)
    }

    /// Makes room for sequences of `columns` tokens.
    fn reserve(&mut self, columns: i64) -> Result<(), PolicyError> {
        if columns <= self.columns {
            return Ok(());
        }
        // No data leads here: a request that could grow longer is dropped when it is submitted.
        assert!(columns <= self.longest_allowed, "{columns} columns, but at most {} are allowed", self.longest_allowed);
        let grown = (2 * self.columns).max(columns).min(self.longest_allowed);
        let data = self.shape.zeros(self.slots, grown)?;
        data.f_narrow(4, 0, self.columns)?.f_copy_(&self.data)?;
        self.views = self.shape.views(&data)?;
        (self.data, self.columns) = (data, grown);
        Ok(())
    }

    fn to_device(&self, values: &[i64]) -> Result<Tensor, PolicyError> {
        Ok(Tensor::f_from_slice(values)?.f_to_device(self.shape.device)?)
    }
}

impl Shape {
    /// Zeros and not uninitialised memory: a masked column has weight 0, and 0 · NaN is NaN.
    fn zeros(&self, sequences: i64, columns: i64) -> Result<Tensor, PolicyError> {
        let size = [self.layers, 2, sequences, self.kv_heads, columns, self.width];
        Ok(Tensor::f_zeros(size, (self.kind, self.device))?)
    }

    fn views(&self, data: &Tensor) -> Result<Vec<LayerViews>, PolicyError> {
        let (slots, columns) = (data.size()[2], data.size()[4]);
        let view = |layer: i64, which: i64, size: &[i64]| -> Result<Tensor, PolicyError> {
            Ok(data.f_select(0, layer)?.f_select(0, which)?.f_view(size)?)
        };
        let cube = [slots * self.kv_heads, columns, self.width];
        let rows = [slots * self.kv_heads * columns, self.width];
        let layer = |l: i64| -> Result<LayerViews, PolicyError> {
            Ok(LayerViews {
                keys: view(l, 0, &cube)?,
                values: view(l, 1, &cube)?,
                key_rows: view(l, 0, &rows)?,
                value_rows: view(l, 1, &rows)?,
            })
        };
        (0..self.layers).map(layer).collect()
    }
}

struct PrefillPass<'a> {
    data: &'a Tensor,
}

impl Attend for PrefillPass<'_> {
    fn attend(
        &mut self,
        layer: usize,
        window: Option<i64>,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor, PolicyError> {
        let stored = self.data.f_select(0, layer as i64)?;
        // (B, S, kv_heads, D) -> (B, kv_heads, S, D)
        stored.f_select(0, 0)?.f_copy_(&key.f_transpose(1, 2)?)?;
        stored.f_select(0, 1)?.f_copy_(&value.f_transpose(1, 2)?)?;
        CausalAttention.attend(layer, window, query, key, value)
    }
}

struct DecodePass<'a> {
    shape: Shape,
    views: &'a mut [LayerViews],
    /// Cached positions per slot, and the same as (n, 1).
    lengths: &'a [i64],
    positions: &'a Tensor,
    /// 0, 1, 2, ...
    order: &'a Tensor,
    /// (n, kv_heads): where the new keys and values go.
    rows: Tensor,
    /// What the queries see, for each window of any layer; made when the first layer asks.
    reaches: Vec<(Option<i64>, Reach)>,
}

/// Which columns the queries of a step read.
#[derive(Debug)]
struct Reach {
    first: i64,
    columns: i64,
    /// 0 where a slot's query sees a column, -inf elsewhere: (n · kv_heads, 1, columns). None if all see all.
    mask: Option<Tensor>,
}

impl DecodePass<'_> {
    fn reach(&mut self, window: Option<i64>) -> Result<usize, PolicyError> {
        if let Some(made) = self.reaches.iter().position(|(of, _)| *of == window) {
            return Ok(made);
        }
        let lengths = || self.lengths.iter().copied();
        // Each slot's query stands in the column behind its cached ones.
        let (shortest, longest) = (lengths().min().unwrap_or(0) + 1, lengths().max().unwrap_or(0) + 1);
        let first = window.map_or(0, |window| (shortest - window).max(0));
        let columns = longest - first;
        let mask = (shortest != longest).then(|| self.mask(window, first, columns)).transpose()?;
        self.reaches.push((window, Reach { first, columns, mask }));
        Ok(self.reaches.len() - 1)
    }

    fn mask(&self, window: Option<i64>, first: i64, columns: i64) -> Result<Tensor, PolicyError> {
        let Shape { kv_heads, kind, device, .. } = self.shape;
        let active = self.lengths.len() as i64;
        let order = self.order.f_narrow(0, first, columns)?;
        let mut hidden = order.f_gt_tensor(self.positions)?;
        if let Some(window) = window {
            hidden = order.f_le_tensor(&self.positions.f_sub_scalar(window)?)?.f_logical_or(&hidden)?;
        }
        let mask = Tensor::f_zeros([active, columns], (kind, device))?;
        let mask = mask.f_masked_fill(&hidden, f64::NEG_INFINITY)?.f_unsqueeze(1)?;
        let per_head = mask.f_expand([active, kv_heads, columns], false)?;
        Ok(per_head.f_reshape([active * kv_heads, 1, columns])?)
    }
}

impl Attend for DecodePass<'_> {
    /// softmax(q·kᵀ/√D + mask)·v, as two batched products: the query heads that share a key head are the rows of one.
    fn attend(
        &mut self,
        layer: usize,
        window: Option<i64>,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor, PolicyError> {
        let Shape { heads, kv_heads, width, .. } = self.shape;
        let active = query.size()[0];
        let views = &mut self.views[layer];
        let _ = views.key_rows.f_index_put_(&[Some(&self.rows)], &key.f_squeeze_dim(1)?, false)?;
        let _ = views.value_rows.f_index_put_(&[Some(&self.rows)], &value.f_squeeze_dim(1)?, false)?;
        let reach = self.reach(window)?;
        let (reach, views) = (&self.reaches[reach].1, &self.views[layer]);
        let seen = |cube: &Tensor| cube.f_narrow(0, 0, active * kv_heads)?.f_narrow(1, reach.first, reach.columns);
        // (n, 1, heads, D) -> (n · kv_heads, heads / kv_heads, D)
        let query = query.f_reshape([active * kv_heads, heads / kv_heads, width])?;
        let keys = seen(&views.keys)?.f_transpose(1, 2)?;
        let scale = 1.0 / (width as f64).sqrt();
        let scores = match &reach.mask {
            Some(mask) => mask.f_baddbmm(&query, &keys, 1.0, scale)?,
            None => query.f_mul_scalar(scale)?.f_bmm(&keys)?,
        };
        let mixed = scores.f_softmax(-1, None)?.f_bmm(&seen(&views.values)?)?;
        // (n · kv_heads, heads / kv_heads, D) -> (n, 1, heads · D)
        Ok(mixed.f_view([active, 1, heads * width])?)
    }
}
