use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{PolicyVersion, Reply};
use tch::{Device, Kind, Tensor};

use crate::{Layout, ModelConfig, PolicyError};

/// The tensors of one layer, shapes `[out, in]`.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) input_norm: Tensor,
    pub(crate) qkv: Tensor,
    pub(crate) qkv_bias: Option<Tensor>,
    pub(crate) output: Tensor,
    pub(crate) output_bias: Option<Tensor>,
    /// Of queries and of keys.
    pub(crate) qk_norm: Option<[Tensor; 2]>,
    pub(crate) post_norm: Tensor,
    pub(crate) gate_up: Tensor,
    pub(crate) down: Tensor,
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
                Layer { input_norm, qkv, qkv_bias, output, output_bias, qk_norm, post_norm, gate_up, down }
            })
            .collect();
        Self { embedding, layers, norm: next(), head }
    }
}

fn split(layout: &Layout, flat: &Tensor) -> Result<Vec<Tensor>, PolicyError> {
    let view = |e: &crate::Entry| -> Result<Tensor, PolicyError> {
        Ok(flat.f_narrow(0, e.offset, e.numel())?.f_view(&e.shape[..])?)
    };
    layout.entries().iter().map(view).collect()
}

/// What the learner trains: a flat master buffer and, sharing its memory, the leaves that autograd differentiates.
#[derive(Debug)]
pub struct Parameters {
    layout: Arc<Layout>,
    flat: Tensor,
    leaves: Vec<Tensor>,
    weights: Weights,
}

impl Parameters {
    /// Takes over `flat` (float32 for training; float64 in tests), which is laid out for `config`.
    pub fn new(config: &ModelConfig, flat: Tensor) -> Result<Self, PolicyError> {
        let layout = Arc::new(Layout::new(config));
        let leaves: Vec<Tensor> = split(&layout, &flat)?
            .into_iter()
            .map(|view| Ok(view.f_detach()?.f_set_requires_grad(true)?))
            .collect::<Result<_, PolicyError>>()?;
        let weights = Weights::assemble(config, leaves.iter().map(Tensor::shallow_clone).collect());
        Ok(Self { layout, flat, leaves, weights })
    }

    /// What a forward pass reads; gradients flow to the leaves.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The master buffer; changing it in place (without gradient tracking) changes the leaves.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// How the buffer is laid out.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
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

    /// An immutable copy of the present values, converted to `kind`.
    pub fn snapshot(
        &self,
        config: &Arc<ModelConfig>,
        version: PolicyVersion,
        kind: Kind,
    ) -> Result<Snapshot, PolicyError> {
        let copy = tch::no_grad(|| self.flat.f_detach_copy()?.f_to_kind(kind))?;
        Snapshot::new(Arc::clone(config), version, copy)
    }
}

/// A whole set of weights, immutable and versioned, shared by threads. Swapping weights is swapping an `Arc` of this.
pub struct Snapshot {
    version: PolicyVersion,
    config: Arc<ModelConfig>,
    flat: Tensor,
    weights: Weights,
}

// SAFETY: `Tensor` is a counted pointer to a C++ tensor whose count is atomic. Nothing here changes the tensors after
// construction: there is no method that hands out `&mut`, forward passes only read them, and they do not require gradients,
// so autograd records nothing on them. Reading one tensor from several threads is what libtorch allows.
unsafe impl Sync for Snapshot {}

impl Snapshot {
    /// Wraps `flat`, which is laid out for `config` and must not be changed by anyone afterwards.
    pub fn new(config: Arc<ModelConfig>, version: PolicyVersion, flat: Tensor) -> Result<Self, PolicyError> {
        let weights = Weights::view(&config, &Layout::new(&config), &flat)?;
        Ok(Self { version, config, flat, weights })
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

    /// The flat buffer. Read only: see the safety note.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        (self.flat.numel() * self.flat.kind().elt_size_in_bytes()) as u64
    }

    /// The same weights on another device or in another number format; shares memory if neither differs.
    pub fn to(&self, device: Device, kind: Kind) -> Result<Self, PolicyError> {
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
