use std::sync::Arc;

use counterpoint_policy::{
    Adapted, Device, Kind, ModelConfig, PackedAttention, Parameters, Snapshot, Tensor, Transformer, Weights,
};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::contract::StepReport;
use counterpoint_rollout::{Batch, PolicyVersion};

use crate::measure::{Measured, Measures};
use crate::objective::{Objective, ObjectiveConfig, Plan, Tokens};
use crate::optimizer::{AdamW, AdamWSettings, OptimizerState, clip_grad_norm};
use crate::pack::{Limits, MicroTensors, Packed, pack};
use crate::{LearnerConfig, LearnerError, Schedule};

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
    /// `run.max_steps`, for a cosine schedule.
    pub total_steps: Option<u64>,
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
}

impl Learner {
    /// Takes over the parameters.
    pub fn new(setup: LearnerSetup) -> Result<Self, LearnerError> {
        let LearnerSetup { model, flat, lora, version, optimizer, config, objective, temperature, total_steps } = setup;
        let device = flat.device();
        let parameters = match lora {
            Some(adapted) => Parameters::adapter(adapted, flat)?,
            None => Parameters::new(&model, flat)?,
        };
        let settings = AdamWSettings {
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            epsilon: config.adam_epsilon,
            weight_decay: config.weight_decay,
        };
        let mut adam = AdamW::new(settings, parameters.flat(), parameters.decayed())?;
        if let Some(state) = optimizer {
            adam.restore(state)?;
        }
        let limits = Limits {
            micro_batch_tokens: config.micro_batch_tokens,
            positions: usize::try_from(model.max_positions).unwrap_or(usize::MAX),
            vocabulary: u32::try_from(model.vocab_size).unwrap_or(u32::MAX),
        };
        let schedule = Schedule {
            peak: config.learning_rate,
            kind: config.lr_scheduler_type,
            warmup: config.warmup_steps,
            total: total_steps,
        };
        Ok(Self {
            transformer: Transformer::new(&model, model.max_positions, device)?,
            model,
            parameters,
            optimizer: adam,
            schedule,
            objective: objective.build(),
            max_grad_norm: config.max_grad_norm,
            temperature,
            version,
            limits,
            device,
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
        let measured = self.backward(&packed, stopped)?;
        let mut grad = self.parameters.flat_grad()?;
        let grad_norm = clip_grad_norm(&mut grad, self.max_grad_norm)?;
        self.require_finite("loss", measured.loss, batch)?;
        self.require_finite("gradient norm", grad_norm, batch)?;
        let learning_rate = self.schedule.at(self.version.0 + 1);
        self.optimizer.step(self.parameters.flat(), grad, learning_rate)?;
        self.version = PolicyVersion(self.version.0 + 1);
        let report = StepReport {
            grad_norm,
            learning_rate,
            seconds: watch.elapsed().as_secs_f64(),
            ..describe(&measured, &packed)
        };
        Ok(about_groups(report, batch, &packed))
    }

    /// Leaves the gradient of the batch's loss in the parameters.
    fn backward(&mut self, packed: &Packed, stopped: &mut dyn FnMut() -> bool) -> Result<Measured, LearnerError> {
        let mut plan = self.objective.plan(&packed.answers);
        if plan.couples_answers() {
            plan.observe(&self.log_ratios(packed, stopped)?);
        }
        self.parameters.zero_grad();
        let mut measures = Measures::default();
        for (micro_batch, pass) in packed.micro_batches.iter().zip(0..) {
            if stopped() {
                return Err(LearnerError::Stopped(self.version));
            }
            let tensors = micro_batch.to_tensors(self.device)?;
            let weights = self.parameters.training_weights(self.version, pass);
            self.accumulate(weights, &tensors, &micro_batch.answers, plan.as_ref(), &mut measures)?;
        }
        measures.read()
    }

    /// Per answer, the sum of log-ratios over its tokens: a forward pass more, without gradients.
    fn log_ratios(&self, packed: &Packed, stopped: &mut dyn FnMut() -> bool) -> Result<Vec<f64>, LearnerError> {
        let mut sums = vec![0.0; packed.answers.len()];
        for micro_batch in &packed.micro_batches {
            if stopped() {
                return Err(LearnerError::Stopped(self.version));
            }
            let micro = micro_batch.to_tensors(self.device)?;
            let of_answers = tch::no_grad(|| -> Result<Tensor, LearnerError> {
                let (logp_new, _) = self.logprobs(self.parameters.weights(), &micro)?;
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

    /// Forward and backward of one micro-batch.
    fn accumulate(
        &self,
        weights: &Weights,
        micro: &MicroTensors,
        answers: &[usize],
        plan: &dyn Plan,
        measures: &mut Measures,
    ) -> Result<(), LearnerError> {
        let (logp_new, entropy) = self.logprobs(weights, micro)?;
        let logp_old = micro.logp_old.f_to_kind(logp_new.kind())?;
        let loss = plan.loss(&Tokens { logp_new: &logp_new, logp_old: &logp_old, answer: &micro.answer, answers })?;
        loss.total.f_backward()?;
        measures.add(&loss, &logp_new, &logp_old, &entropy, micro.fresh.as_ref())
    }

    /// (M) log-probabilities of the targets, differentiable, and (M) entropies of the distributions they are from, in nats;
    /// both of the policy at the sampler's temperature.
    fn logprobs(&self, weights: &Weights, micro: &MicroTensors) -> Result<(Tensor, Tensor), LearnerError> {
        let mut attention = PackedAttention::segmented(&micro.segments)?;
        let hidden = self.transformer.hidden(weights, &micro.tokens, &micro.positions, &mut attention)?;
        // (rows, length, hidden) -> (M, hidden) -> (M, vocabulary)
        let picked = hidden.f_view([-1, self.model.hidden_size])?.f_index_select(0, &micro.picks)?;
        let logits = self.transformer.logits(weights, &picked)?;
        let scaled = if self.temperature == 1.0 { logits } else { logits.f_div_scalar(self.temperature)? };
        let wide = if scaled.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let logp = scaled.f_log_softmax(-1, wide)?;
        let entropy = tch::no_grad(|| -> Result<Tensor, LearnerError> {
            let logp = logp.f_detach()?;
            Ok(logp.f_exp()?.f_mul_(&logp)?.f_sum_dim_intlist(-1i64, false, None::<Kind>)?.f_neg()?)
        })?;
        let of_targets = logp.f_gather(1, &micro.targets.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
        Ok((of_targets, entropy))
    }

    fn require_finite(&self, what: &'static str, value: f64, batch: &Batch) -> Result<(), LearnerError> {
        if value.is_finite() {
            return Ok(());
        }
        let groups: Vec<String> = batch.groups.iter().map(|g| g.group.id().to_string()).collect();
        Err(LearnerError::NotFinite { what, value, version: self.version, groups: groups.join(", ") })
    }
}

/// The means over tokens.
fn describe(measured: &Measured, packed: &Packed) -> StepReport {
    let per = |sum: f64, count: f64| if count > 0.0 { sum / count } else { 0.0 };
    let tokens = packed.tokens as f64;
    let parts = &measured.parts;
    let fresh: u64 = packed.micro_batches.iter().map(|m| m.fresh.iter().filter(|f| **f != 0.0).count() as u64).sum();
    StepReport {
        loss: measured.loss,
        loss_positive: per(parts.positive, parts.right),
        loss_negative: per(parts.negative, parts.wrong),
        ratio_mean: per(measured.ratio, tokens),
        log_ratio_max: measured.log_ratio_max,
        clipped_share: per(parts.clipped, parts.wrong),
        effective_sample_size: per(measured.ratio * measured.ratio, tokens * measured.ratio_squared),
        entropy: per(measured.entropy, tokens),
        mismatch_mean: per(measured.mismatch, fresh as f64),
        mismatch_max: measured.mismatch_max,
        mismatch_tokens: fresh,
        tokens: packed.tokens,
        answers: packed.answers.len() as u64,
        ..StepReport::default()
    }
}

/// Adds what is known of the groups without their tokens.
fn about_groups(report: StepReport, batch: &Batch, packed: &Packed) -> StepReport {
    let groups = batch.groups.len() as f64;
    // One rate per group: each answer carries its group's.
    let mut rates = vec![0.0; batch.groups.len()];
    for answer in &packed.answers {
        rates[answer.group] = answer.rate;
    }
    StepReport {
        groups: batch.groups.len() as u64,
        rate_mean: rates.iter().sum::<f64>() / groups,
        staleness_max: batch.staleness().max().unwrap_or(0),
        staleness_mean: batch.staleness().sum::<u64>() as f64 / groups,
        ..report
    }
}
