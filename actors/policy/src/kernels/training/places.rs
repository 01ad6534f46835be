//! Where parameters (or gradients, which are laid out like them) and what a pass keeps lie in memory.

use tch::{Device, Kind, Tensor};

use super::super::aligned::{Aligned, stride};
use super::super::gemm::Rows;
use super::super::weights::parts;
use crate::weights::{Layer, Linear};
use crate::{ModelConfig, PolicyError, Weights};

/// The widths of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// Of a head.
    pub(super) width: usize,
    /// Of queries, keys and values of all heads.
    pub(super) qkv: usize,
    /// Of the results of all heads.
    pub(super) mixed: usize,
    pub(super) epsilon: f32,
}

impl Sizes {
    pub(super) fn of(config: &ModelConfig) -> Self {
        let (heads, kv_heads, width) = (config.heads as usize, config.kv_heads as usize, config.head_dim as usize);
        Self {
            hidden: config.hidden_size as usize,
            inner: config.intermediate_size as usize,
            heads,
            kv_heads,
            width,
            qkv: (heads + 2 * kv_heads) * width,
            mixed: heads * width,
            epsilon: config.rms_norm_eps as f32,
        }
    }

    /// The longest sum of a product, and the widest matrix.
    pub(super) fn widest(&self) -> usize {
        self.hidden.max(2 * self.inner).max(self.qkv)
    }
}

/// A matrix of (out, in) and its bias, which may be null.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) weight: *mut f32,
    pub(super) bias: *mut f32,
}

/// The parameters of a layer.
#[derive(Clone, Copy)]
pub(super) struct LayerPlaces {
    pub(super) input_norm: *mut f32,
    pub(super) qkv: Affine,
    /// Of queries and of keys; null without.
    pub(super) qk_norm: [*mut f32; 2],
    pub(super) output: Affine,
    pub(super) post_norm: *mut f32,
    pub(super) gate_up: Affine,
    pub(super) down: Affine,
}

/// The parameters of a model, but for the output projection. To be written only if they are gradients.
pub(super) struct Places {
    pub(super) embedding: *mut f32,
    pub(super) layers: Vec<LayerPlaces>,
    pub(super) norm: *mut f32,
}

impl Places {
    pub(super) fn of(weights: &Weights) -> Result<Self, PolicyError> {
        let layers = weights.layers.iter().map(LayerPlaces::of).collect::<Result<_, _>>()?;
        Ok(Self { embedding: place(&weights.embedding)?, layers, norm: place(&weights.norm)? })
    }
}

impl LayerPlaces {
    fn of(layer: &Layer) -> Result<Self, PolicyError> {
        let qk_norm = match &layer.qk_norm {
            None => [std::ptr::null_mut(); 2],
            Some([query, key]) => [place(query)?, place(key)?],
        };
        Ok(Self {
            input_norm: place(&layer.input_norm)?,
            qkv: affine(&layer.qkv)?,
            qk_norm,
            output: affine(&layer.output)?,
            post_norm: place(&layer.post_norm)?,
            gate_up: affine(&layer.gate_up)?,
            down: affine(&layer.down)?,
        })
    }
}

fn affine(linear: &Linear) -> Result<Affine, PolicyError> {
    let (weight, bias) = parts(linear)?;
    Ok(Affine { weight: place(weight)?, bias: bias.map_or(Ok(std::ptr::null_mut()), place)? })
}

/// A tensor's memory.
pub(super) fn place(tensor: &Tensor) -> Result<*mut f32, PolicyError> {
    if tensor.device() != Device::Cpu || tensor.kind() != Kind::Float || !tensor.is_contiguous() {
        return Err(PolicyError::Tensor("the kernels train contiguous float32 tensors in main memory only".to_owned()));
    }
    Ok(tensor.data_ptr().cast())
}

/// A matrix of a pass, with a row per token.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    memory: Aligned,
    stride: usize,
}

impl Buffer {
    /// Makes room for `rows` of `width` floats. What stood there is lost.
    pub(super) fn reserve(&mut self, rows: usize, width: usize) {
        self.stride = stride(width);
        if self.memory.len() < rows * self.stride {
            self.memory = Aligned::zeros(rows * self.stride);
        }
    }

    pub(super) fn rows(&mut self) -> Rows<*mut f32> {
        Rows { start: self.memory.as_mut_ptr(), stride: self.stride }
    }
}

/// What backward needs of a layer beside what the layer reads.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) qkv: Buffer,
    /// Queries and keys before their norms, if they have any.
    pub(super) unnormed: Buffer,
    pub(super) totals: Buffer,
    pub(super) mixed: Buffer,
    pub(super) middle: Buffer,
    pub(super) gate_up: Buffer,
}

/// [`Kept`] as threads see it.
#[derive(Clone, Copy)]
pub(super) struct KeptRows {
    pub(super) qkv: Rows<*mut f32>,
    pub(super) unnormed: Rows<*mut f32>,
    pub(super) totals: Rows<*mut f32>,
    pub(super) mixed: Rows<*mut f32>,
    pub(super) middle: Rows<*mut f32>,
    pub(super) gate_up: Rows<*mut f32>,
}

impl Kept {
    pub(super) fn reserve(&mut self, rows: usize, sizes: &Sizes, qk_norm: bool) -> KeptRows {
        self.qkv.reserve(rows, sizes.qkv);
        self.unnormed.reserve(if qk_norm { rows } else { 0 }, (sizes.heads + sizes.kv_heads) * sizes.width);
        self.totals.reserve(rows, sizes.heads);
        self.mixed.reserve(rows, sizes.mixed);
        self.middle.reserve(rows, sizes.hidden);
        self.gate_up.reserve(rows, 2 * sizes.inner);
        KeptRows {
            qkv: self.qkv.rows(),
            unnormed: self.unnormed.rows(),
            totals: self.totals.rows(),
            mixed: self.mixed.rows(),
            middle: self.middle.rows(),
            gate_up: self.gate_up.rows(),
        }
    }
}

/// Memory that layers share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What the attention and the MLP read, and the gradients by it.
    pub(super) normed: [Buffer; 2],
    pub(super) by_normed: [Buffer; 2],
    /// By which each row was scaled there; a float per row.
    pub(super) scales: [Buffer; 2],
    /// The gated activation, and before it the gradient by it.
    pub(super) active: Buffer,
    /// The gradients by what a layer gives, and by the stream between attention and MLP.
    pub(super) by_output: Buffer,
    pub(super) by_middle: Buffer,
    pub(super) by_mixed: Buffer,
    pub(super) by_qkv: Buffer,
    /// Of the picked tokens: what the final norm reads, the gradient by it, and the scales.
    pub(super) picked: Buffer,
    pub(super) by_picked: Buffer,
    pub(super) picked_scales: Buffer,
}

/// [`Scratch`] as threads see it.
#[derive(Clone, Copy)]
pub(super) struct ScratchRows {
    pub(super) normed: [Rows<*mut f32>; 2],
    pub(super) by_normed: [Rows<*mut f32>; 2],
    pub(super) scales: [*mut f32; 2],
    pub(super) active: Rows<*mut f32>,
    pub(super) by_output: Rows<*mut f32>,
    pub(super) by_middle: Rows<*mut f32>,
    pub(super) by_mixed: Rows<*mut f32>,
    pub(super) by_qkv: Rows<*mut f32>,
    pub(super) picked: Rows<*mut f32>,
    pub(super) by_picked: Rows<*mut f32>,
    pub(super) picked_scales: *mut f32,
}

impl Scratch {
    /// For a pass of so many tokens, of which so many are picked; without `backward`, what forward needs.
    pub(super) fn reserve(&mut self, tokens: usize, picks: usize, sizes: &Sizes, backward: bool) -> ScratchRows {
        let later = |count: usize| if backward { count } else { 0 };
        self.normed.iter_mut().for_each(|buffer| buffer.reserve(tokens, sizes.hidden));
        self.scales.iter_mut().for_each(|buffer| buffer.reserve(1, tokens));
        self.active.reserve(tokens, sizes.inner);
        self.by_normed.iter_mut().for_each(|buffer| buffer.reserve(later(tokens), sizes.hidden));
        self.by_output.reserve(later(tokens), sizes.hidden);
        self.by_middle.reserve(later(tokens), sizes.hidden);
        self.by_mixed.reserve(later(tokens), sizes.mixed);
        self.by_qkv.reserve(later(tokens), sizes.qkv);
        self.picked.reserve(later(picks), sizes.hidden);
        self.by_picked.reserve(later(picks), sizes.hidden);
        self.picked_scales.reserve(1, later(picks));
        ScratchRows {
            normed: self.normed.each_mut().map(Buffer::rows),
            by_normed: self.by_normed.each_mut().map(Buffer::rows),
            scales: self.scales.each_mut().map(|buffer| buffer.rows().start),
            active: self.active.rows(),
            by_output: self.by_output.rows(),
            by_middle: self.by_middle.rows(),
            by_mixed: self.by_mixed.rows(),
            by_qkv: self.by_qkv.rows(),
            picked: self.picked.rows(),
            by_picked: self.by_picked.rows(),
            picked_scales: self.picked_scales.rows().start,
        }
    }
}
