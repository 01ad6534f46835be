use std::sync::Arc;

use counterpoint_policy::{
    Adapted, Device, Kind, ModelConfig, Parameters, Snapshot, Stretch, Tensor, Transformer, Weights,
};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::contract::StepReport;
use counterpoint_rollout::{Batch, PolicyVersion};

use crate::decay::WeightDecayGroups;
use crate::grad_norms::by_layer;
use crate::head::{Head, HeadOutput};
use crate::measure::{Measured, Measures, Shown};
use crate::objective::{Loss, Objective, ObjectiveConfig, Plan, Tokens};
use crate::off_policy::OffPolicy;
use crate::optimizer::{AdamW, AdamWSettings, OptimizerState, Piece, clip_scale, norms};
use crate::pack::{Limits, MicroBatch, MicroTensors, Packed, pack};
use crate::regularise::Regularisers;
use crate::report::report;
use crate::route::{Kernels, Route};
use crate::trunk::Trunk;
use crate::{LearnerConfig, LearnerError, OnNotFinite, Schedule};

/// So many steps in a row may be skipped; one more is an error, since no batch will be finite any more.
const SKIPS: u64 = 10;

/// What a learner starts from.
#[derive(Debug)]
pub struct LearnerSetup {
    /// The model's shape.
    pub model: Arc<ModelConfig>,
    /// Its parameters, laid out by [`Layout`](counterpoint_policy::Layout), in float32 (float64 in tests) and on the device
    /// where they shall be trained. The learner owns this memory from now on. With `lora`, the adapter's.
    pub flat: Tensor,
    /// The frozen model, if an adapter is trained.
    pub lora: Option<Adapted>,
    /// The optimiser steps that made `flat`.
    pub version: PolicyVersion,
    /// The optimiser's memory, on a resume.
    pub optimizer: Option<OptimizerState>,
    /// Section `[learner]`.
    pub config: LearnerConfig,
    /// Section `[objective]`.
    pub objective: ObjectiveConfig,
    /// The sampler's temperature: the learner divides logits by it too.
    pub temperature: f64,
    /// `run.max_steps`, for a schedule that ends.
    pub total_steps: Option<u64>,
    /// What `objective.kl_coef` keeps the policy near to, laid out like the model; used by nothing else, and then required.
    pub reference: Option<Tensor>,
}

/// Trains: one call, one optimiser step. A plain library object; [`Engine`](crate::Engine) is the thread around it.
#[derive(Debug)]
pub struct Learner {
    model: Arc<ModelConfig>,
    parameters: Parameters,
    transformer: Transformer,
    optimizer: AdamW,
    schedule: Schedule,
    objective: Box<dyn Objective>,
    max_grad_norm: f64,
    temperature: f64,
    version: PolicyVersion,
    limits: Limits,
    device: Device,
    off_policy: OffPolicy,
    regularisers: Regularisers,
    reference: Option<Snapshot>,
    on_not_finite: OnNotFinite,
    /// Steps skipped since the last one that was taken.
    skipped: u64,
    grad_norm_by_layer: bool,
    /// Whether layers are computed again for backward.
    recompute: bool,
    /// What goes through the layers instead of libtorch, where it can.
    kernels: Option<Kernels>,
}

impl Learner {
    /// Takes over the parameters.
    pub fn new(setup: LearnerSetup) -> Result<Self, LearnerError> {
        let LearnerSetup { model, flat, lora, version, optimizer, config, objective, .. } = setup;
        let (temperature, total_steps, reference) = (setup.temperature, setup.total_steps, setup.reference);
        let (device, flat_kind) = (flat.device(), flat.kind());
        let mut parameters = match lora {
            Some(adapted) => Parameters::adapter(adapted, flat)?,
            None => Parameters::new(&model, flat)?,
        };
        if !config.frozen.is_empty() {
            parameters.freeze(&config.frozen)?;
        }
        // Tests train in float64, which nothing narrows.
        let compute = if flat_kind == Kind::Float { config.compute_kind_on(device) } else { flat_kind };
        parameters.compute_in(compute)?;
        let settings =
            AdamWSettings { beta1: config.adam_beta1, beta2: config.adam_beta2, epsilon: config.adam_epsilon };
        if config.weight_decay_groups != WeightDecayGroups::default() && parameters.adapted().is_some() {
            return Err(LearnerError::DecayGroupsOfAdapter);
        }
        let by_kernels = config.kernels && parameters.fit_kernels();
        let piece = |stretch: &Stretch| Piece {
            offset: stretch.offset,
            numel: stretch.numel,
            decay: config.weight_decay_groups.decay(stretch, config.weight_decay),
        };
        let pieces = parameters.stretches().map(piece);
        let pieces = if by_kernels { Piece::joined(pieces) } else { pieces.collect() };
        let mut adam = AdamW::new(settings, parameters.flat(), pieces)?;
        if let Some(state) = optimizer {
            adam.restore(state)?;
        }
        let regularisers = Regularisers::of(&objective);
        let reference = match reference.filter(|_| regularisers.kl != 0.0) {
            // In the passes' format, since the two are compared. The model beside an adapter is there in it already.
            Some(flat) => {
                let flat = parameters.computing_base().unwrap_or(&flat).shallow_clone();
                Some(Snapshot::new(Arc::clone(&model), PolicyVersion(0), flat)?.to(device, compute)?)
            }
            None if regularisers.kl != 0.0 => return Err(LearnerError::NoReference),
            None => None,
        };
        let limits = Limits {
            micro_batch_tokens: config.micro_batch_tokens_on(device),
            positions: usize::try_from(model.max_positions).unwrap_or(usize::MAX),
            vocabulary: u32::try_from(model.vocab_size).unwrap_or(u32::MAX),
        };
        let schedule = Schedule {
            peak: config.learning_rate,
            kind: config.lr_scheduler_type,
            warmup: config.warmup_steps,
            total: total_steps,
            floor: config.min_lr_ratio,
            decay_share: config.decay_share,
            decay: config.decay_type,
        };
        let transformer = Transformer::new(&model, model.max_positions, device)?;
        let kernels = match by_kernels {
            true => Some(Kernels::new(&transformer, &parameters, config.activation_checkpointing)?),
            false => None,
        };
        Ok(Self {
            transformer,
            kernels,
            model,
            parameters,
            optimizer: adam,
            schedule,
            objective: objective.build()?,
            max_grad_norm: config.max_grad_norm,
            temperature,
            version,
            limits,
            device,
            off_policy: OffPolicy::of(&config),
            regularisers,
            reference,
            on_not_finite: config.on_not_finite,
            skipped: 0,
            grad_norm_by_layer: config.grad_norm_by_layer,
            recompute: config.activation_checkpointing,
        })
    }

    /// The optimiser steps that made the present weights.
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// The model's shape.
    pub fn model(&self) -> &Arc<ModelConfig> {
        &self.model
    }

    /// The number format of its passes, which those who sample should share.
    pub fn compute_kind(&self) -> Kind {
        self.parameters.compute_kind()
    }

    /// The flat buffer of what is trained: the model's parameters, or the adapter's. Read only.
    pub fn flat(&self) -> &Tensor {
        self.parameters.flat()
    }

    /// The frozen model, if an adapter is trained.
    pub fn adapted(&self) -> Option<&Adapted> {
        self.parameters.adapted()
    }

    /// The optimiser's memory, for a checkpoint.
    pub fn optimizer_state(&self) -> &OptimizerState {
        self.optimizer.state()
    }

    /// An immutable copy of the present weights in the given number format.
    pub fn snapshot(&self, kind: Kind) -> Result<Snapshot, LearnerError> {
        Ok(self.parameters.snapshot(&self.model, self.version, kind)?)
    }

    /// One optimiser step. On an error the weights, the optimiser and the version are as before.
    pub fn train_step(&mut self, batch: &Batch) -> Result<StepReport, LearnerError> {
        self.train_step_unless(batch, &mut || false)
    }

    /// The same, given up between two micro-batches as soon as `stopped` says so.
    pub fn train_step_unless(
        &mut self,
        batch: &Batch,
        stopped: &mut dyn FnMut() -> bool,
    ) -> Result<StepReport, LearnerError> {
        let watch = Stopwatch::start();
        if batch.version != self.version {
            return Err(LearnerError::Version { batch: batch.version, learner: self.version });
        }
        let packed = pack(batch, &self.limits)?;
        let (measured, gradients) = self.backward(&packed, stopped)?;
        let grad_norm = norms(&gradients)?.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
        let grad_norms = match self.grad_norm_by_layer {
            true => by_layer(self.parameters.stretches(), &norms(&self.by_stretches(&gradients)?)?),
            false => Default::default(),
        };
        let learning_rate = self.schedule.at(self.version.0 + 1);
        let not_finite = self.require_finite(&[("loss", measured.loss), ("gradient norm", grad_norm)], batch)?;
        if not_finite.is_none() {
            let scale = clip_scale(grad_norm, self.max_grad_norm);
            self.optimizer.step(self.parameters.flat(), &gradients, scale, learning_rate)?;
        }
        // A step that was skipped made a version too, equal to the one before: the batch is used up, and what counts in
        // versions (admission, staleness, schedules, max_steps) goes on as if it had been taken.
        self.version = PolicyVersion(self.version.0 + 1);
        let seconds = watch.elapsed().as_secs_f64();
        let step = StepReport { not_finite, grad_norm, grad_norms, learning_rate, seconds, ..StepReport::default() };
        Ok(report(step, &measured, batch, &packed))
    }

    /// The gradients of the batch's loss, one per piece of the optimiser, and what was measured on the way.
    fn backward(
        &mut self,
        packed: &Packed,
        stopped: &mut dyn FnMut() -> bool,
    ) -> Result<(Measured, Vec<Tensor>), LearnerError> {
        self.parameters.zero_grad()?;
        // Lent out, so that the rest of the learner can be read meanwhile.
        let mut kernels = self.kernels.take();
        let outcome = self.backward_by(&mut kernels, packed, stopped);
        self.kernels = kernels;
        outcome
    }

    fn backward_by(
        &self,
        kernels: &mut Option<Kernels>,
        packed: &Packed,
        stopped: &mut dyn FnMut() -> bool,
    ) -> Result<(Measured, Vec<Tensor>), LearnerError> {
        let mut plan = self.objective.plan(&packed.answers);
        if plan.couples_answers() {
            let log_ratios = match self.off_policy.starts_at_one() {
                true => vec![0.0; packed.answers.len()],
                false => self.log_ratios(kernels, packed, stopped)?,
            };
            plan.observe(&log_ratios);
        }
        let mut by_head = match kernels {
            Some(kernels) => Some(kernels.start()?),
            None => self.parameters.zeros_of_head()?,
        };
        let mut measures = Measures::default();
        for (micro_batch, pass) in packed.micro_batches.iter().zip(0..) {
            if stopped() {
                return Err(LearnerError::Stopped(self.version));
            }
            let (plan, by_head) = (plan.as_ref(), by_head.as_mut());
            self.accumulate(kernels, pass, micro_batch, packed, plan, by_head, &mut measures)?;
        }
        let gradients = match kernels {
            Some(kernels) => self.optimizer.split(kernels.gradient())?,
            None => self.parameters.gradients(by_head)?,
        };
        Ok((measures.read()?, gradients))
    }

    /// Per answer, the sum of log-ratios over its tokens: a forward pass more, without gradients.
    fn log_ratios(
        &self,
        kernels: &mut Option<Kernels>,
        packed: &Packed,
        stopped: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<f64>, LearnerError> {
        let mut sums = vec![0.0; packed.answers.len()];
        let weights = tch::no_grad(|| self.parameters.weights())?;
        for micro_batch in &packed.micro_batches {
            if stopped() {
                return Err(LearnerError::Stopped(self.version));
            }
            let micro = micro_batch.to_tensors(self.device)?;
            let of_answers = tch::no_grad(|| -> Result<Tensor, LearnerError> {
                let logp_new = self.logprobs(kernels, &weights, micro_batch, &micro)?;
                let log_ratio = logp_new.f_to_kind(Kind::Double)?.f_sub(&micro.logp_old.f_to_kind(Kind::Double)?)?;
                let none = Tensor::f_zeros([micro_batch.answers.len() as i64], (Kind::Double, self.device))?;
                Ok(none.f_index_add(0, &micro.answer, &log_ratio)?)
            })?;
            for (number, sum) in micro_batch.answers.iter().zip(Vec::<f64>::try_from(of_answers)?) {
                sums[*number] = sum;
            }
        }
        Ok(sums)
    }

    /// Forward and backward of one micro-batch. The loss is differentiated in three parts: by the log-probabilities, from
    /// there through the head, from there through the layers; the head's own gradient is added to `by_head`.
    #[expect(clippy::too_many_arguments, reason = "what a micro-batch takes part in")]
    fn accumulate(
        &self,
        kernels: &mut Option<Kernels>,
        pass: u32,
        micro_batch: &MicroBatch,
        packed: &Packed,
        plan: &dyn Plan,
        by_head: Option<&mut Tensor>,
        measures: &mut Measures,
    ) -> Result<(), LearnerError> {
        let MicroBatch { answers, .. } = micro_batch;
        let micro = &micro_batch.to_tensors(self.device)?;
        let reference = match &self.reference {
            Some(reference) => Some(tch::no_grad(|| self.logprobs(kernels, reference.weights(), micro_batch, micro))?),
            None => None,
        };
        let weights = &self.parameters.training_weights()?;
        let before = |layer: usize| self.parameters.seed_dropout(self.version, pass, layer);
        let (transformer, recompute) = (&self.transformer, self.recompute);
        let mut route = match kernels {
            Some(kernels) => Route::Kernels(kernels),
            None => {
                let trunk = Trunk { transformer, weights, recompute, before: &before };
                Route::Recorded(trunk, micro_batch.to_inputs(self.device)?, None)
            }
        };
        let normed = route.forward(weights, micro_batch)?;
        let mut head = self.head(weights, &normed, micro)?;
        let HeadOutput { logp, entropy } = head.forward()?;
        let logp_new = logp.f_set_requires_grad(true)?;
        let entropy = entropy.f_set_requires_grad(self.regularisers.wants_entropy())?;
        let logp_old = micro.logp_old.f_to_kind(logp_new.kind())?;
        let seen = self.off_policy.see(&logp_new, &logp_old)?;
        let tokens = Tokens { logp_new: &seen.logp_new, logp_old: &seen.logp_old, answer: &micro.answer, answers };
        let Loss { total, parts } = plan.loss(&tokens)?;
        let (total, kl) = self.regularisers.add(total, &logp_new, reference.as_ref(), &entropy, packed.tokens)?;
        let right: Vec<bool> = answers.iter().map(|answer| packed.answers[*answer].score >= 0.5).collect();
        let right = Tensor::f_from_slice(&right)?.f_to_device(self.device)?.f_index_select(0, &micro.answer)?;
        measures.add(Shown {
            total: &total,
            parts: &parts,
            logp_new: &logp_new,
            logp_old: &logp_old,
            entropy: &entropy,
            fresh: micro.fresh.as_ref(),
            right,
            kl,
            importance: seen.importance,
        })?;
        total.f_backward()?;
        let by_entropy = if self.regularisers.wants_entropy() { Some(entropy.f_grad()?) } else { None };
        let by_normed = head.backward(&logp_new.f_grad()?, by_entropy.as_ref(), by_head)?;
        route.backward(weights, micro_batch, &by_normed)
    }

    /// The policy's distributions, at the sampler's temperature.
    fn head<'a>(
        &self,
        weights: &'a Weights,
        normed: &Tensor,
        micro: &'a MicroTensors,
    ) -> Result<Head<'a>, LearnerError> {
        Head::new(normed, weights.head(), &micro.targets, self.temperature)
    }

    /// (M): log-probabilities of the targets under some weights, to be called without recording a gradient.
    fn logprobs(
        &self,
        kernels: &mut Option<Kernels>,
        weights: &Weights,
        micro_batch: &MicroBatch,
        micro: &MicroTensors,
    ) -> Result<Tensor, LearnerError> {
        let (transformer, before) = (&self.transformer, &|_: usize| ());
        let normed = match kernels {
            Some(kernels) => kernels.look(weights, micro_batch)?,
            None => {
                let mut inputs = micro_batch.to_inputs(self.device)?;
                Trunk { transformer, weights, recompute: false, before }.forward(&mut inputs)?.normed
            }
        };
        Ok(self.head(weights, &normed, micro)?.forward()?.logp)
    }

    /// The gradients, divided by the optimiser's pieces, divided by the parameters' stretches.
    fn by_stretches(&self, gradients: &[Tensor]) -> Result<Vec<Tensor>, LearnerError> {
        let sizes: Vec<i64> = self.parameters.stretches().map(|stretch| stretch.numel).collect();
        Ok(Tensor::f_cat(gradients, 0)?.f_split_with_sizes(&sizes[..], 0)?)
    }

    /// `None` if all are finite; otherwise what is not, in words, if such a step is to be skipped, and an error if not.
    fn require_finite(
        &mut self,
        values: &[(&'static str, f64)],
        batch: &Batch,
    ) -> Result<Option<String>, LearnerError> {
        let Some((what, value)) = values.iter().copied().find(|(_, value)| !value.is_finite()) else {
            self.skipped = 0;
            return Ok(None);
        };
        let groups: Vec<String> = batch.groups.iter().map(|g| g.group.id().to_string()).collect();
        let problem = LearnerError::NotFinite { what, value, version: self.version, groups: groups.join(", ") };
        match self.on_not_finite {
            OnNotFinite::Stop => Err(problem),
            OnNotFinite::Skip if self.skipped == SKIPS => {
                Err(LearnerError::SkippedTooOften { problem: Box::new(problem), steps: SKIPS })
            }
            OnNotFinite::Skip => {
                tracing::warn!("skipped: {problem}");
                self.skipped += 1;
                Ok(Some(format!("{what} is {value}")))
            }
        }
    }
}
