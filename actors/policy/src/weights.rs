use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{PolicyVersion, Reply};
use tch::{Device, Kind, Tensor};

use crate::lora::LowRank;
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

    /// One tensor per entry of the model's layout, in its order.
    fn assemble(config: &ModelConfig, tensors: Vec<Tensor>) -> Self {
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

fn split(layout: &Layout, flat: &Tensor) -> Result<Vec<Tensor>, PolicyError> {
    let view = |e: &crate::Entry| -> Result<Tensor, PolicyError> {
        Ok(flat.f_narrow(0, e.offset, e.numel())?.f_view(&e.shape[..])?)
    };
    layout.entries().iter().map(view).collect()
}

/// What the learner trains: a flat master buffer and, sharing its memory, the leaves that autograd differentiates. It holds
/// the whole model, or an adapter beside a frozen one.
#[derive(Debug)]
pub struct Parameters {
    /// Of the model, also where an adapter is trained.
    layout: Arc<Layout>,
    flat: Tensor,
    leaves: Vec<Tensor>,
    decayed: i64,
    weights: Weights,
    /// First element and number of elements of what is not trained.
    frozen: Vec<(i64, i64)>,
    /// With an adapter.
    lora: Option<Beside>,
}

/// What an adapter stands beside.
#[derive(Debug)]
struct Beside {
    adapted: Adapted,
    /// The same weights, with dropout, if there is any.
    dropping: Option<Weights>,
}

impl Parameters {
    /// Takes over `flat` (float32 for training; float64 in tests), which is laid out for `config`.
    pub fn new(config: &ModelConfig, flat: Tensor) -> Result<Self, PolicyError> {
        let layout = Arc::new(Layout::new(config));
        let leaves = trainable(split(&layout, &flat)?)?;
        let weights = Weights::assemble(config, shared(&leaves));
        Ok(Self { decayed: layout.decayed(), layout, flat, leaves, weights, frozen: Vec::new(), lora: None })
    }

    /// Takes over an adapter's buffer, laid out by [`Adapted::layout`]. No gradient is computed for the model beside it.
    pub fn adapter(adapted: Adapted, flat: Tensor) -> Result<Self, PolicyError> {
        let wanted = [adapted.layout().numel()];
        if flat.size() != wanted {
            return Err(PolicyError::Tensor(format!("an adapter's buffer of {:?}, not {wanted:?}", flat.size())));
        }
        let layout = Arc::new(Layout::new(adapted.model()));
        let leaves = trainable(adapted.layout().leaves(&flat)?)?;
        let beside = |dropout: f64| -> Result<Weights, PolicyError> {
            let mut weights = Weights::view(adapted.model(), &layout, adapted.base())?;
            weights.attach(adapted.low_ranks(shared(&leaves), dropout)?);
            Ok(weights)
        };
        let weights = beside(0.0)?;
        let dropout = adapted.config().dropout;
        let dropping = (dropout > 0.0).then(|| beside(dropout)).transpose()?;
        // As PEFT's users have it: A and B take weight decay.
        let decayed = adapted.layout().numel();
        Ok(Self {
            layout,
            flat,
            leaves,
            decayed,
            weights,
            frozen: Vec::new(),
            lora: Some(Beside { adapted, dropping }),
        })
    }

    /// Keeps the tensors as they are whose names hold one of `patterns`, whole words of it: `embed_tokens`, `layers.0`,
    /// `mlp.down_proj`. No gradient is computed for a matrix all of whose tensors are frozen. An error if a pattern fits no
    /// tensor, or nothing is left to train.
    pub fn freeze(&mut self, patterns: &[String]) -> Result<(), PolicyError> {
        let fits = |name: &str, pattern: &str| {
            let (name, pattern): (Vec<&str>, Vec<&str>) = (name.split('.').collect(), pattern.split('.').collect());
            name.windows(pattern.len()).any(|words| words == pattern)
        };
        let refuse = |what: String, hint: &str| Err(PolicyError::Unsupported { what, hint: hint.to_owned() });
        if self.lora.is_some() {
            return refuse("freezing parts of an adapter".to_owned(), "choose its target modules");
        }
        let names = || self.layout.entries().iter().flat_map(|entry| &entry.parts).map(|part| part.name.as_str());
        if let Some(pattern) = patterns.iter().find(|pattern| !names().any(|name| fits(name, pattern))) {
            return refuse(
                format!("freezing {pattern:?}, which is in no tensor's name,"),
                "words of names like model.layers.0.mlp.up_proj.weight are (a tied lm_head is embed_tokens)",
            );
        }
        let layout = Arc::clone(&self.layout);
        for (entry, leaf) in layout.entries().iter().zip(&mut self.leaves) {
            let (mut offset, before) = (entry.offset, self.frozen.len());
            for part in &entry.parts {
                let numel = entry.part_shape(part).iter().product();
                if patterns.iter().any(|pattern| fits(&part.name, pattern)) {
                    self.frozen.push((offset, numel));
                }
                offset += numel;
            }
            if self.frozen.len() == before + entry.parts.len() {
                *leaf = leaf.f_set_requires_grad(false)?;
            }
        }
        if self.frozen.iter().map(|(_, numel)| numel).sum::<i64>() == layout.numel() {
            return refuse(format!("freezing {patterns:?}, which is everything,"), "something must be left to train");
        }
        Ok(())
    }

    /// First element and number of elements of what is frozen.
    pub fn frozen(&self) -> &[(i64, i64)] {
        &self.frozen
    }

    /// Whether a gradient is wanted for the output projection.
    pub fn trains_head(&self) -> bool {
        let frozen = |head: &crate::Entry| self.frozen.contains(&(head.offset, head.numel()));
        self.lora.is_none() && !self.layout.head().is_some_and(frozen)
    }

    /// What a forward pass reads; gradients flow to the leaves.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The same for a pass that is trained on, the `pass`th from `version`: with dropout, if there is any.
    pub fn training_weights(&self, version: PolicyVersion, pass: u32) -> &Weights {
        let Some(Beside { adapted, dropping: Some(dropping) }) = &self.lora else { return &self.weights };
        adapted.seed_dropout(version, pass);
        dropping
    }

    /// The frozen model, if an adapter is trained.
    pub fn adapted(&self) -> Option<&Adapted> {
        self.lora.as_ref().map(|lora| &lora.adapted)
    }

    /// The master buffer; changing it in place (without gradient tracking) changes the leaves.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// How the model is laid out: the buffer too, unless it is an adapter's.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What lies in the buffer: name, first element and number of elements, in order.
    pub fn spans(&self) -> Vec<(&str, i64, i64)> {
        let Some(Beside { adapted, .. }) = &self.lora else {
            return self.layout.entries().iter().map(|e| (e.name(), e.offset, e.numel())).collect();
        };
        let rank = adapted.layout().rank();
        let targets = adapted.layout().targets().iter();
        targets
            .flat_map(|t| [(t.module.as_str(), t.a, rank * t.columns), (t.module.as_str(), t.b, t.rows * rank)])
            .collect()
    }

    /// The first so many elements take weight decay; the rest (norms, biases) never does.
    pub fn decayed(&self) -> i64 {
        self.decayed
    }

    /// The gradient of all parameters as one flat tensor in the layout's order; parameters that the loss did not reach
    /// count as zero.
    pub fn flat_grad(&self) -> Result<Tensor, PolicyError> {
        let grads: Vec<Tensor> = self
            .leaves
            .iter()
            .map(|leaf| {
                let grad = leaf.f_grad()?;
                if grad.defined() {
                    Ok(grad.f_reshape([-1])?)
                } else {
                    Ok(leaf.f_detach()?.f_zeros_like()?.f_reshape([-1])?)
                }
            })
            .collect::<Result<_, PolicyError>>()?;
        Ok(Tensor::f_cat(&grads, 0)?)
    }

    /// Forgets all gradients.
    pub fn zero_grad(&mut self) {
        for leaf in &mut self.leaves {
            leaf.zero_grad();
        }
    }

    /// An immutable copy of the present values, converted to `kind`; with an adapter, what its settings say that generators
    /// get.
    pub fn snapshot(
        &self,
        config: &Arc<ModelConfig>,
        version: PolicyVersion,
        kind: Kind,
    ) -> Result<Snapshot, PolicyError> {
        if let Some(lora) = &self.lora {
            return lora.adapted.snapshot(&self.flat, version, kind);
        }
        let copy = tch::no_grad(|| self.flat.f_detach_copy()?.f_to_kind(kind))?;
        Snapshot::new(Arc::clone(config), version, copy)
    }
}

/// Leaves of autograd that share the views' memory.
fn trainable(views: Vec<Tensor>) -> Result<Vec<Tensor>, PolicyError> {
    views.into_iter().map(|view| Ok(view.f_detach()?.f_set_requires_grad(true)?)).collect()
}

fn shared(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}

/// A whole set of weights, immutable and versioned, shared by threads. Swapping weights is swapping an `Arc` of this.
pub struct Snapshot {
    version: PolicyVersion,
    config: Arc<ModelConfig>,
    flat: Tensor,
    weights: Weights,
    /// The adapter beside it and its values, unless they are folded in.
    adapter: Option<(Adapted, Tensor)>,
}

// SAFETY: `Tensor` is a counted pointer to a C++ tensor whose count is atomic. Nothing here changes the tensors after
// construction: there is no method that hands out `&mut`, forward passes only read them, and they do not require gradients,
// so autograd records nothing on them. Reading one tensor from several threads is what libtorch allows. The frozen model
// beside an adapter is shared with the learner, which only reads it as well.
unsafe impl Sync for Snapshot {}

impl Snapshot {
    /// Wraps `flat`, which is laid out for `config` and must not be changed by anyone afterwards.
    pub fn new(config: Arc<ModelConfig>, version: PolicyVersion, flat: Tensor) -> Result<Self, PolicyError> {
        let weights = Weights::view(&config, &Layout::new(&config), &flat)?;
        Ok(Self { version, config, flat, weights, adapter: None })
    }

    /// A frozen model with an adapter beside it. Nobody may change the values of either afterwards.
    pub fn adapted(adapted: Adapted, values: Tensor, version: PolicyVersion) -> Result<Self, PolicyError> {
        let weights = adapted.beside(&values)?;
        let (config, flat) = (Arc::clone(adapted.model()), adapted.base().shallow_clone());
        Ok(Self { version, config, flat, weights, adapter: Some((adapted, values)) })
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
        &self.weights
    }

    /// The model's flat buffer, without an adapter that is beside it. Read only: see the safety note.
    pub fn flat(&self) -> &Tensor {
        &self.flat
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
