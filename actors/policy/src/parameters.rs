//! What the learner trains: a flat master buffer and, sharing its memory, the leaves that autograd differentiates. It holds
//! the whole model, or an adapter beside a frozen one.
//!
//! What is trained lies in the buffer in [`Stretch`]es; what is frozen is in none of them, so that gradients and an optimiser's
//! memory are no larger than what is trained. Passes may compute in a narrower number format than the master's: the leaves are
//! converted within the differentiated pass, so gradients arrive, and are summed, in the master's.

use std::sync::Arc;

use counterpoint_rollout::PolicyVersion;
use tch::{Device, Kind, Tensor};

use crate::weights::split;
use crate::{Adapted, Layout, ModelConfig, PolicyError, Publish, Snapshot, Weights};

/// See the module's documentation.
#[derive(Debug)]
pub struct Parameters {
    config: ModelConfig,
    /// Of the model, also where an adapter is trained.
    layout: Arc<Layout>,
    flat: Tensor,
    leaves: Vec<Leaf>,
    /// The number format of passes.
    compute: Kind,
    /// With an adapter.
    lora: Option<Beside>,
}

/// A tensor that autograd knows.
#[derive(Debug)]
struct Leaf {
    /// Shares the buffer's memory.
    tensor: Tensor,
    /// What of it is trained: all of it in one stretch, some of its parts, or nothing.
    stretches: Vec<Stretch>,
    /// Its first element in the buffer.
    offset: i64,
}

/// Elements of the buffer that are trained, without a gap and within one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Of the tensor, or of a module that an adapter serves.
    pub name: String,
    /// The first element.
    pub offset: i64,
    /// How many.
    pub numel: i64,
    /// Whether they are of a norm or a bias.
    pub is_vector: bool,
}

/// What an adapter stands beside.
#[derive(Debug)]
struct Beside {
    adapted: Adapted,
    /// The same in the number format of passes.
    computing: Adapted,
}

impl Parameters {
    /// Takes over `flat` (float32 for training; float64 in tests), which is laid out for `config`.
    pub fn new(config: &ModelConfig, flat: Tensor) -> Result<Self, PolicyError> {
        let layout = Arc::new(Layout::new(config));
        let whole = |entry: &crate::Entry| Stretch {
            name: entry.name().to_owned(),
            offset: entry.offset,
            numel: entry.numel(),
            is_vector: entry.offset >= layout.decayed(),
        };
        let leaves = layout.entries().iter().map(whole).zip(split(&layout, &flat)?);
        let leaves = leaves.map(|(stretch, view)| Leaf::new(stretch, view)).collect::<Result<_, _>>()?;
        let compute = flat.kind();
        Ok(Self { config: config.clone(), layout, flat, leaves, compute, lora: None })
    }

    /// Takes over an adapter's buffer, laid out by [`Adapted::layout`]. No gradient is computed for the model beside it.
    pub fn adapter(adapted: Adapted, flat: Tensor) -> Result<Self, PolicyError> {
        let wanted = [adapted.layout().numel()];
        if flat.size() != wanted {
            return Err(PolicyError::Tensor(format!("an adapter's buffer of {:?}, not {wanted:?}", flat.size())));
        }
        let mut offset = 0;
        let mut leaves = Vec::new();
        for ((module, numel), view) in adapted.layout().leaf_sizes().zip(adapted.layout().leaves(&flat)?) {
            // As PEFT's users have it: A and B take weight decay.
            let stretch = Stretch { name: module.to_owned(), offset, numel, is_vector: false };
            leaves.push(Leaf::new(stretch, view)?);
            offset += numel;
        }
        let config = (**adapted.model()).clone();
        let (layout, compute) = (Arc::new(Layout::new(&config)), flat.kind());
        let lora = Some(Beside { computing: adapted.clone(), adapted });
        Ok(Self { config, layout, flat, leaves, compute, lora })
    }

    /// Lets passes compute in `kind`. The master buffer, its gradient and a frozen model's own values stay as they are.
    pub fn compute_in(&mut self, kind: Kind) -> Result<(), PolicyError> {
        if let Some(Beside { adapted, computing }) = &mut self.lora {
            *computing = adapted.to(self.flat.device(), kind)?;
        }
        self.compute = kind;
        Ok(())
    }

    /// The number format of passes.
    pub fn compute_kind(&self) -> Kind {
        self.compute
    }

    /// Keeps the tensors as they are whose names hold one of `patterns`, whole words of it: `embed_tokens`, `layers.0`,
    /// `mlp.down_proj`. No gradient is computed for a matrix all of whose tensors are frozen. An error if a pattern fits no
    /// tensor, or nothing is left to train.
    pub fn freeze(&mut self, patterns: &[String]) -> Result<(), PolicyError> {
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
            leaf.keep_unless(entry, |name| patterns.iter().any(|pattern| fits(name, pattern)))?;
        }
        if self.stretches().next().is_none() {
            return refuse(format!("freezing {patterns:?}, which is everything,"), "something must be left to train");
        }
        Ok(())
    }

    /// How many elements are trained of a model some of whose tensors are frozen, without any memory for it.
    pub fn count_trained(layout: &Layout, frozen: &[String]) -> i64 {
        let parts = layout.entries().iter().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part)));
        let trained = parts.filter(|(_, part)| !frozen.iter().any(|pattern| fits(&part.name, pattern)));
        trained.map(|(entry, part)| entry.part_shape(part).iter().product::<i64>()).sum()
    }

    /// Whether [`TrainingPasses`](crate::kernels::TrainingPasses) can train them: a whole model, nothing of it frozen, in
    /// float32 in main memory.
    pub fn fit_kernels(&self) -> bool {
        let plain = self.flat.device() == Device::Cpu && [self.flat.kind(), self.compute] == [Kind::Float; 2];
        plain
            && self.lora.is_none()
            && self.stretches().map(|stretch| stretch.numel).sum::<i64>() == self.layout.numel()
    }

    /// What is trained, in the buffer's order.
    pub fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.leaves.iter().flat_map(|leaf| &leaf.stretches)
    }

    /// Zeros like the output projection, in the master's number format; `None` if no gradient is wanted for it.
    pub fn zeros_of_head(&self) -> Result<Option<Tensor>, PolicyError> {
        let head = self.head().map(|leaf| &self.leaves[leaf].tensor).filter(|head| head.requires_grad());
        head.map(|head| Ok(head.f_detach()?.f_zeros_like()?)).transpose()
    }

    /// The leaf that is the output projection: in no adapter.
    fn head(&self) -> Option<usize> {
        let head = self.layout.head().filter(|_| self.lora.is_none())?;
        self.leaves.iter().position(|leaf| leaf.offset == head.offset)
    }

    /// What a forward pass reads; gradients flow to the leaves.
    pub fn weights(&self) -> Result<Weights, PolicyError> {
        self.weights_with(0.0)
    }

    /// The same for a pass that is trained on: with dropout, if there is any. [`Self::seed_dropout`] says which.
    pub fn training_weights(&self) -> Result<Weights, PolicyError> {
        self.weights_with(self.adapted().map_or(0.0, |adapted| adapted.config().dropout))
    }

    fn weights_with(&self, dropout: f64) -> Result<Weights, PolicyError> {
        let leaves = self.leaves.iter().map(|leaf| leaf.tensor.f_to_kind(self.compute));
        let leaves = leaves.collect::<Result<Vec<Tensor>, _>>()?;
        let Some(Beside { computing, .. }) = &self.lora else { return Ok(Weights::assemble(&self.config, leaves)) };
        let mut weights = Weights::view(&self.config, &self.layout, computing.base())?;
        weights.attach(computing.low_ranks(leaves, dropout)?);
        Ok(weights)
    }

    /// Seeds the dropout of a layer in the `pass`th pass from `version`; to be called each time before the layer is computed.
    pub fn seed_dropout(&self, version: PolicyVersion, pass: u32, layer: usize) {
        if let Some(adapted) = self.adapted() {
            adapted.seed_dropout(version, pass, layer);
        }
    }

    /// The frozen model, if an adapter is trained.
    pub fn adapted(&self) -> Option<&Adapted> {
        self.lora.as_ref().map(|lora| &lora.adapted)
    }

    /// Its parameters in the number format of passes.
    pub fn computing_base(&self) -> Option<&Tensor> {
        self.lora.as_ref().map(|lora| lora.computing.base())
    }

    /// The master buffer; changing it in place (without gradient tracking) changes the leaves.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// How the model is laid out: the buffer too, unless it is an adapter's.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The gradients of all stretches, in their order, each of one dimension; zeros where the loss did not reach. `by_head` is
    /// added to that of the output projection. They are autograd's own memory: [`Self::zero_grad`] before the next pass.
    pub fn gradients(&self, by_head: Option<Tensor>) -> Result<Vec<Tensor>, PolicyError> {
        let head = self.head();
        let mut by_head = by_head;
        let mut all = Vec::new();
        for (number, leaf) in self.leaves.iter().enumerate().filter(|(_, leaf)| !leaf.stretches.is_empty()) {
            let own = leaf.tensor.f_grad()?;
            let of_head = by_head.take_if(|_| Some(number) == head);
            let whole = match (own.defined().then_some(own), of_head) {
                (Some(mut own), Some(of_head)) => tch::no_grad(|| own.f_add_(&of_head))?,
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => leaf.tensor.f_detach()?.f_zeros_like()?,
            };
            let whole = whole.f_reshape([-1])?;
            for stretch in &leaf.stretches {
                all.push(whole.f_narrow(0, stretch.offset - leaf.offset, stretch.numel)?);
            }
        }
        Ok(all)
    }

    /// Forgets all gradients, and gives their memory back. Passes under way keep theirs: take new weights for the next one.
    pub fn zero_grad(&mut self) -> Result<(), PolicyError> {
        // libtorch's own `zero_grad` would keep the memory and let the next pass add to zeros.
        for leaf in &mut self.leaves {
            leaf.tensor = leaf.tensor.f_detach()?.f_set_requires_grad(!leaf.stretches.is_empty())?;
        }
        Ok(())
    }

    /// An immutable copy of the present values, converted to `kind`; with an adapter, what its settings say that generators
    /// get.
    pub fn snapshot(
        &self,
        config: &Arc<ModelConfig>,
        version: PolicyVersion,
        kind: Kind,
    ) -> Result<Snapshot, PolicyError> {
        if let Some(Beside { adapted, computing }) = &self.lora {
            // Beside the base as the passes read it, so that no copy of it is made; folded into the base as it is.
            let separate = adapted.config().publish == Publish::Separate && kind == self.compute;
            return if separate { computing } else { adapted }.snapshot(&self.flat, version, kind);
        }
        let copy = tch::no_grad(|| match kind == self.flat.kind() {
            true => self.flat.f_detach_copy(),
            false => self.flat.f_detach()?.f_to_kind(kind),
        })?;
        Snapshot::laid_out(Arc::clone(config), version, copy)
    }
}

impl Leaf {
    fn new(all: Stretch, view: Tensor) -> Result<Self, PolicyError> {
        let offset = all.offset;
        Ok(Self { tensor: view.f_detach()?.f_set_requires_grad(true)?, stretches: vec![all], offset })
    }

    /// Trains only the parts of its entry that are not frozen.
    fn keep_unless(&mut self, entry: &crate::Entry, frozen: impl Fn(&str) -> bool) -> Result<(), PolicyError> {
        let is_vector = self.stretches.iter().any(|stretch| stretch.is_vector);
        if !entry.parts.iter().any(|part| frozen(&part.name)) {
            return Ok(());
        }
        self.stretches.clear();
        let mut offset = entry.offset;
        for part in &entry.parts {
            let numel = entry.part_shape(part).iter().product();
            if !frozen(&part.name) {
                self.stretches.push(Stretch { name: part.name.clone(), offset, numel, is_vector });
            }
            offset += numel;
        }
        self.tensor = self.tensor.f_set_requires_grad(!self.stretches.is_empty())?;
        Ok(())
    }
}

/// Whether a pattern is among the words of a tensor's name.
fn fits(name: &str, pattern: &str) -> bool {
    let (name, pattern): (Vec<&str>, Vec<&str>) = (name.split('.').collect(), pattern.split('.').collect());
    name.windows(pattern.len()).any(|words| words == pattern)
}
