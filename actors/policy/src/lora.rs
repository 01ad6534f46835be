//! LoRA (Hu et al., arXiv 2106.09685): a frozen model and, beside some of its matrices, trained products of low rank.
//!
//! ```text
//! y = x Wᵀ + s · (x Aᵀ) Bᵀ      W: (out, in), frozen;  A: (r, in);  B: (out, r);  s = alpha / r, or alpha / √r (rsLoRA)
//! ```
//!
//! Contract: A and B are per tensor of the checkpoint, as PEFT has them (q, k and v each have their own), although the
//! matrices beside which they stand are fused. All of them lie in one flat buffer ([`LoraLayout`]), the only one that is
//! trained, so that an optimiser step costs what the adapter costs. The base's buffer is shared by everyone who reads it
//! and changed by nobody. [`Adapted`] makes of the two what samples ([`Snapshot`]: folded into a copy of the base, or beside
//! it) and what is trained ([`Parameters`](crate::Parameters)).
//!
//! Limits: the seven projections of a layer; no embedding, no output projection, no bias, no DoRA. Where several projections
//! read one input, one dropout mask serves them all (PEFT draws one for each).

mod config;
mod layout;
mod low_rank;

use std::sync::Arc;

use counterpoint_rollout::{NoiseKey, PolicyVersion, Purpose};
use tch::{Kind, Tensor};

pub use config::{LoraConfig, Publish, TargetModules};
pub use layout::{LoraLayout, Target};
pub(crate) use low_rank::LowRank;

use crate::{Layout, ModelConfig, PolicyError, Snapshot, Weights};
use low_rank::Spread;

/// A frozen model and where its adapter lies; the adapter's values come with each call. Cloning shares all memory.
#[derive(Debug)]
pub struct Adapted {
    model: Arc<ModelConfig>,
    /// Laid out by [`Layout`]. Never written to: see [`Snapshot`]'s safety note.
    base: Tensor,
    layout: Arc<LoraLayout>,
    config: Arc<LoraConfig>,
    seed: u64,
    /// One per matrix of a layer.
    spreads: [Option<Spread>; 4],
}

impl Clone for Adapted {
    fn clone(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            base: self.base.shallow_clone(),
            layout: Arc::clone(&self.layout),
            config: Arc::clone(&self.config),
            seed: self.seed,
            spreads: self.spreads.each_ref().map(|spread| spread.as_ref().map(Spread::share)),
        }
    }
}

impl Adapted {
    /// `base`: the parameters of `model`, which must not be changed by anyone afterwards. `seed`: of the first values and of
    /// dropout.
    pub fn new(model: Arc<ModelConfig>, base: Tensor, config: LoraConfig, seed: u64) -> Result<Self, PolicyError> {
        let layout = LoraLayout::new(&model, &config)?;
        let mut spreads = [const { None }; 4];
        for (spread, matrix) in spreads.iter_mut().zip(layout.matrices(0)) {
            *spread = matrix.map(|m| Spread::new(m, config.scale(), base.kind(), base.device())).transpose()?;
        }
        Ok(Self { model, base, layout: Arc::new(layout), config: Arc::new(config), seed, spreads })
    }

    /// The model's shape.
    pub fn model(&self) -> &Arc<ModelConfig> {
        &self.model
    }

    /// The frozen parameters. Read only.
    pub fn base(&self) -> &Tensor {
        &self.base
    }

    /// Where everything lies in the adapter's buffer.
    pub fn layout(&self) -> &Arc<LoraLayout> {
        &self.layout
    }

    /// Rank, scale and so on.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// What an adapter starts with: each A uniform in ±1/√in (`kaiming_uniform_(a=√5)`, as in PEFT), each B zero, so that
    /// the adapted model is the base. A function of the seed alone.
    pub fn initial(&self) -> Result<Tensor, PolicyError> {
        let flat = Tensor::f_zeros([self.layout.numel()], (self.base.kind(), self.base.device()))?;
        for target in self.layout.targets() {
            let noise = NoiseKey::new(self.seed, Purpose::Lora, 0, &target.module, 0, 0);
            let bound = 1.0 / (target.columns as f64).sqrt();
            let numel = self.layout.rank() * target.columns;
            let values: Vec<f64> =
                (0..numel as u64).map(|t| (2.0 * f64::from(noise.uniform(t)) - 1.0) * bound).collect();
            flat.f_narrow(0, target.a, numel)?.f_copy_(&Tensor::f_from_slice(&values)?)?;
        }
        Ok(flat)
    }

    /// The model's parameters with an adapter folded in, W + s·B·A, as a buffer of their own.
    pub fn merged(&self, adapter: &Tensor) -> Result<Tensor, PolicyError> {
        tch::no_grad(|| {
            let flat = self.base.f_detach_copy()?;
            for target in self.layout.targets() {
                let (rows, columns, rank) = (target.rows, target.columns, self.layout.rank());
                let a = adapter.f_narrow(0, target.a, rank * columns)?.f_view([rank, columns])?;
                let b = adapter.f_narrow(0, target.b, rows * rank)?.f_view([rows, rank])?;
                let mut matrix = flat.f_narrow(0, target.base, rows * columns)?.f_view([rows, columns])?;
                let _ = matrix.f_addmm_(&b.f_mul_scalar(self.config.scale())?, &a)?;
            }
            Ok(flat)
        })
    }

    /// The base with an adapter beside it, to be read only: nothing is trained through it.
    pub(crate) fn beside(&self, adapter: &Tensor) -> Result<Weights, PolicyError> {
        let mut weights = Weights::view(&self.model, &Layout::new(&self.model), &self.base)?;
        let leaves = self.layout.leaves(adapter)?;
        weights.attach(self.low_ranks(leaves, 0.0)?.into_iter().map(LowRank::spread_out).collect::<Result<_, _>>()?);
        Ok(weights)
    }

    /// Low-rank paths for every matrix of the model, in the layout's order. `leaves`: as [`LoraLayout::leaves`] gives them.
    pub(crate) fn low_ranks(&self, leaves: Vec<Tensor>, dropout: f64) -> Result<Vec<LowRank>, PolicyError> {
        let mut leaves = leaves.into_iter();
        let mut paths = Vec::new();
        for layer in 0..self.model.layers {
            for (place, spread) in self.spreads.iter().enumerate() {
                let Some(spread) = spread else { continue };
                // Two per matrix, by the same layout.
                let (a, b) = (leaves.next().unwrap_or_default(), leaves.next().unwrap_or_default());
                paths.push(LowRank::new(layer, place, a, b, spread.share(), dropout));
            }
        }
        Ok(paths)
    }

    /// What generators sample with, of a copy of the adapter's present values.
    pub fn snapshot(&self, adapter: &Tensor, version: PolicyVersion, kind: Kind) -> Result<Snapshot, PolicyError> {
        match self.config.publish {
            Publish::Merged => {
                let flat = tch::no_grad(|| Ok::<_, PolicyError>(self.merged(&adapter.f_detach()?)?.f_to_kind(kind)?))?;
                Snapshot::new(Arc::clone(&self.model), version, flat)
            }
            Publish::Separate => {
                let copy = tch::no_grad(|| adapter.f_detach_copy())?;
                Snapshot::adapted(self.clone(), copy, version)?.to(self.base.device(), kind)
            }
        }
    }

    /// The same with the base on another device or in another number format.
    pub(crate) fn to(&self, device: tch::Device, kind: Kind) -> Result<Self, PolicyError> {
        let base = tch::no_grad(|| self.base.f_to_device(device)?.f_to_kind(kind))?;
        Self::new(Arc::clone(&self.model), base, (*self.config).clone(), self.seed)
    }

    /// Seeds the dropout of one layer in one forward pass, so that a layer computed again and a resumed run go on with the same
    /// masks. The generator is libtorch's own; nothing else in the program draws from it.
    pub(crate) fn seed_dropout(&self, version: PolicyVersion, pass: u32, layer: usize) {
        if self.config.dropout > 0.0 {
            let layer = u32::try_from(layer).unwrap_or(u32::MAX);
            let noise = NoiseKey::new(self.seed, Purpose::Lora, pass, "dropout", layer, 0);
            tch::manual_seed((noise.bits(version.0) >> 1) as i64);
        }
    }
}
