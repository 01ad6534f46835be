use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use counterpoint_rollout::{PolicyVersion, Reply};
use tch::{Device, Kind, Tensor};

use crate::lora::LowRank;
use crate::streams::Mark;
use crate::{Adapted, Layout, ModelConfig, PolicyError};

/// A matrix with what stands beside it.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`
    weight: Tensor,
    bias: Option<Tensor>,
    low_rank: Option<LowRank>,
}

impl Linear {
    fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, low_rank: None }
    }

    /// Weight and bias; `None` with adapters beside them.
    pub(crate) fn plain(&self) -> Option<(&Tensor, Option<&Tensor>)> {
        self.low_rank.is_none().then_some((&self.weight, self.bias.as_ref()))
    }

    fn beside(&self) -> impl Iterator<Item = &Tensor> {
        self.low_rank.iter().flat_map(LowRank::tensors)
    }

    fn is_trained(&self) -> bool {
        let beside = self.low_rank.as_ref().is_some_and(LowRank::is_trained);
        beside || self.weight.requires_grad() || self.bias.as_ref().is_some_and(Tensor::requires_grad)
    }

    /// `x`: (..., in). Returns (..., out).
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, PolicyError> {
        let Some(low_rank) = &self.low_rank else { return Ok(x.f_linear(&self.weight, self.bias.as_ref())?) };
        let mut shape = x.size();
        // Flat, so that the product is a tensor of its own, to which the adapters' can be added in place.
        let rows = x.f_reshape([-1, self.weight.size()[1]])?;
        let y = low_rank.add_to(rows.f_linear(&self.weight, self.bias.as_ref())?, &rows)?;
        if let Some(last) = shape.last_mut() {
            *last = self.weight.size()[0];
        }
        Ok(y.f_view(&shape[..])?)
    }
}

/// The tensors of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) input_norm: Tensor,
    pub(crate) qkv: Linear,
    pub(crate) output: Linear,
    /// Of queries and of keys.
    pub(crate) qk_norm: Option<[Tensor; 2]>,
    pub(crate) post_norm: Tensor,
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

impl Layer {
    /// In the order of the layout.
    fn matrices(&mut self) -> [&mut Linear; 4] {
        [&mut self.qkv, &mut self.output, &mut self.gate_up, &mut self.down]
    }

    /// What stands beside its matrices.
    fn beside(&self) -> impl Iterator<Item = &Tensor> {
        [&self.qkv, &self.output, &self.gate_up, &self.down].into_iter().flat_map(Linear::beside)
    }

    /// Whether a gradient is wanted for anything in it.
    fn is_trained(&self) -> bool {
        let norms = [&self.input_norm, &self.post_norm].into_iter().chain(self.qk_norm.iter().flatten());
        let matrices = [&self.qkv, &self.output, &self.gate_up, &self.down];
        norms.into_iter().any(Tensor::requires_grad) || matrices.into_iter().any(Linear::is_trained)
    }
}

/// All tensors of a model as the transformer reads them: views, never copies.
#[derive(Debug)]
pub struct Weights {
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Tensor,
    pub(crate) head: Tensor,
}

impl Weights {
    /// Views into `flat`, which is laid out by `layout`.
    pub fn view(config: &ModelConfig, layout: &Layout, flat: &Tensor) -> Result<Self, PolicyError> {
        Ok(Self::assemble(config, split(layout, flat)?))
    }

    /// The output projection, (vocabulary, hidden); the embedding itself where the two are tied.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// The number format that a pass computes in.
    pub fn kind(&self) -> Kind {
        self.embedding.kind()
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// For each layer whether a gradient is wanted of what it reads, because something before it is trained; and last the same
    /// for the final norm.
    pub fn trained_before(&self) -> Vec<bool> {
        let mut before = vec![self.embedding.requires_grad()];
        for layer in &self.layers {
            before.push(before.last() == Some(&true) || layer.is_trained());
        }
        before
    }

    /// One tensor per entry of the model's layout, in its order.
    pub(crate) fn assemble(config: &ModelConfig, tensors: Vec<Tensor>) -> Self {
        // The layout decides the number of tensors, so `next` cannot run dry.
        let mut tensors = tensors.into_iter();
        let mut next = move || tensors.next().unwrap_or_default();
        let embedding = next();
        let matrices: Vec<[Tensor; 4]> = (0..config.layers).map(|_| [next(), next(), next(), next()]).collect();
        let head = if config.tied { embedding.shallow_clone() } else { next() };
        let layers = matrices
            .into_iter()
            .map(|[qkv, output, gate_up, down]| {
                let (input_norm, post_norm) = (next(), next());
                let qkv_bias = config.qkv_bias.then(&mut next);
                let output_bias = config.output_bias.then(&mut next);
                let qk_norm = config.qk_norm.then(|| [next(), next()]);
                Layer {
                    input_norm,
                    qkv: Linear::new(qkv, qkv_bias),
                    output: Linear::new(output, output_bias),
                    qk_norm,
                    post_norm,
                    gate_up: Linear::new(gate_up, None),
                    down: Linear::new(down, None),
                }
            })
            .collect();
        Self { embedding, layers, norm: next(), head }
    }

    /// Puts adapters beside their matrices.
    pub(crate) fn attach(&mut self, low_ranks: Vec<LowRank>) {
        for low_rank in low_ranks {
            let (layer, place) = (low_rank.layer, low_rank.place);
            self.layers[layer].matrices()[place].low_rank = Some(low_rank);
        }
    }
}

/// Views of `flat`, one per entry of the layout.
pub(crate) fn split(layout: &Layout, flat: &Tensor) -> Result<Vec<Tensor>, PolicyError> {
    let view = |e: &crate::Entry| -> Result<Tensor, PolicyError> {
        Ok(flat.f_narrow(0, e.offset, e.numel())?.f_view(&e.shape[..])?)
    };
    layout.entries().iter().map(view).collect()
}

/// A whole set of weights, immutable and versioned, shared by threads. Swapping weights is swapping an `Arc` of this.
pub struct Snapshot {
    version: PolicyVersion,
    config: Arc<ModelConfig>,
    flat: Tensor,
    /// Made when somebody first asks: the learner, who makes snapshots, never does.
    weights: OnceLock<Weights>,
    /// The adapter beside it and its values, unless they are folded in.
    adapter: Option<(Adapted, Tensor)>,
    /// Behind the work that makes the values, on the stream of whoever made this.
    ready: Mark,
}

// SAFETY: `Tensor` is a counted pointer to a C++ tensor whose count is atomic. Nothing here changes the tensors after
// construction: there is no method that hands out `&mut`, forward passes only read them, and they do not require gradients,
// so autograd records nothing on them. Reading one tensor from several threads is what libtorch allows. The frozen model
// beside an adapter is shared with the learner, which only reads it as well.
unsafe impl Sync for Snapshot {}

impl Snapshot {
    /// Wraps `flat`, which is laid out for `config` and must not be changed by anyone afterwards.
    pub fn new(config: Arc<ModelConfig>, version: PolicyVersion, flat: Tensor) -> Result<Self, PolicyError> {
        let wanted = [Layout::new(&config).numel()];
        if flat.size() != wanted || !flat.is_contiguous() {
            return Err(PolicyError::Tensor(format!("weights of {:?}, not {wanted:?} in one piece", flat.size())));
        }
        Self::laid_out(config, version, flat)
    }

    /// The same for a buffer whose size is known to be right.
    pub(crate) fn laid_out(
        config: Arc<ModelConfig>,
        version: PolicyVersion,
        flat: Tensor,
    ) -> Result<Self, PolicyError> {
        let ready = Mark::here(flat.device())?;
        Ok(Self { version, config, flat, weights: OnceLock::new(), adapter: None, ready })
    }

    /// A frozen model with an adapter beside it. Nobody may change the values of either afterwards.
    pub fn adapted(adapted: Adapted, values: Tensor, version: PolicyVersion) -> Result<Self, PolicyError> {
        let weights = OnceLock::from(adapted.beside(&values)?);
        let (config, flat) = (Arc::clone(adapted.model()), adapted.base().shallow_clone());
        let ready = Mark::here(flat.device())?;
        Ok(Self { version, config, flat, weights, adapter: Some((adapted, values)), ready })
    }

    /// To be called by a thread before it first uses the weights: on a GPU its stream waits until they are whole, and their
    /// memory waits for its stream (see [`crate::streams`]). The thread itself does not wait.
    pub fn arrive(&self) -> Result<(), PolicyError> {
        let beside = self.weights.get().filter(|_| self.adapter.is_some()).map(|weights| &weights.layers);
        self.ready.wait_for(std::iter::once(&self.flat).chain(beside.into_iter().flatten().flat_map(Layer::beside)))
    }

    /// The same where and as the calling thread will use it; itself if it is so already. Calls [`Self::arrive`].
    pub fn arrived(self: Arc<Self>, device: Device, kind: Kind) -> Result<Arc<Self>, PolicyError> {
        self.arrive()?;
        let fits = self.flat.device() == device && self.flat.kind() == kind;
        Ok(if fits { self } else { Arc::new(self.to(device, kind)?) })
    }

    /// The optimiser steps that made it.
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// The model's shape.
    pub fn config(&self) -> &Arc<ModelConfig> {
        &self.config
    }

    /// What a forward pass reads.
    pub fn weights(&self) -> &Weights {
        self.weights.get_or_init(|| {
            let views = Weights::view(&self.config, &Layout::new(&self.config), &self.flat);
            // It cannot: the views of a buffer of this size are within it, and it is one piece of memory.
            views.expect("weights of the right size have views")
        })
    }

    /// The model's flat buffer, without an adapter that is beside it. Read only: see the safety note.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The adapter beside the model and its values, unless they are folded in. Read only: see the safety note.
    pub fn adapter(&self) -> Option<(&Adapted, &Tensor)> {
        self.adapter.as_ref().map(|(adapted, values)| (adapted, values))
    }

    /// The size of what is new in it: of the whole model, or of an adapter beside it.
    pub fn bytes(&self) -> u64 {
        let new = self.adapter.as_ref().map_or(&self.flat, |(_, values)| values);
        (new.numel() * new.kind().elt_size_in_bytes()) as u64
    }

    /// The same weights on another device or in another number format; shares memory if neither differs.
    pub fn to(&self, device: Device, kind: Kind) -> Result<Self, PolicyError> {
        if let Some((adapted, values)) = &self.adapter {
            let values = tch::no_grad(|| values.f_to_device(device)?.f_to_kind(kind))?;
            return Self::adapted(adapted.to(device, kind)?, values, self.version);
        }
        let flat = tch::no_grad(|| self.flat.f_to_device(device)?.f_to_kind(kind))?;
        Self::new(Arc::clone(&self.config), self.version, flat)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({}, {} bytes)", self.version, self.bytes())
    }
}

/// Asks a generator to swap to these weights between two decode steps; answered when they are in place.
#[derive(Debug)]
pub struct LoadWeights {
    /// The new weights.
    pub snapshot: Arc<Snapshot>,
    /// Answered after the swap.
    pub reply: Reply<Loaded>,
}

/// A generator's answer to [`LoadWeights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The weights now in place: read back, not assumed.
    pub version: PolicyVersion,
    /// How long the decode loop stood still for it.
    pub pause: Duration,
}
