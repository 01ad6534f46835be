//! The messages that cross from one actor to another.
//!
//! They stand here, and not with the actors, so that neither side of an edge needs the other's crate, and so that a
//! replacement actor needs this crate only. They are plain data or shared immutable data; a request carries its
//! [`Reply`], whose loss wakes whoever waits. Weights are the exception: their message is in `counterpoint-policy`, since
//! it holds tensors.
//!
//! The hub is the replay actor: it owns the ledger, so every group passes through it between two other actors, and every
//! wait for a group has one owner.
//!
//! ```text
//! replay --GeneratorMsg--> generator --GeneratorEvent--> replay
//! replay --VerifierMsg---> verifier  --Reply-----------> replay
//! replay --LearnerMsg----> learner   --LearnerEvent----> replay, conductor
//! replay --ReplayEvent---> conductor
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Batch, DropReason, Group, GroupId, Lease, PolicyVersion, Reply, ScoredGroup, Verdict};

/// Which generator; the first is 0. A restarted generator keeps its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GeneratorId(pub u32);

impl fmt::Display for GeneratorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generator {}", self.0)
    }
}

/// What a generator is asked.
#[derive(Debug)]
pub enum GeneratorMsg {
    /// Sample these groups, in this order. At η = 0 one message carries a whole wave.
    Lease(Vec<Lease>),
    /// Give these groups up; each is answered by [`GeneratorEvent::Dropped`] unless it had finished already.
    Cancel(Vec<GroupId>),
    /// Stop decoding between two steps (an evaluation needs the cores); answered when the engine stands still.
    Freeze(Reply<()>),
    /// Go on decoding.
    Thaw,
}

/// What a generator reports to the replay actor.
#[derive(Debug)]
pub enum GeneratorEvent {
    /// The group's first token was sampled, with these weights.
    Started {
        /// Which group.
        group: GroupId,
        /// The weights of its first token.
        version: PolicyVersion,
    },
    /// All K answers are there.
    Generated(Arc<Group>),
    /// The group is given up: cancelled on request, or its prompt does not fit.
    Dropped {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: DropReason,
    },
    /// New weights are in place.
    Loaded {
        /// Where.
        generator: GeneratorId,
        /// Which.
        version: PolicyVersion,
    },
}

/// The verifier contract: what every verifier actor understands, the built-in pool or a user's own.
#[derive(Debug)]
pub enum VerifierMsg {
    /// Judge one group.
    Verify(VerifyRequest),
    /// Judge these no more; their replies may be dropped.
    Cancel(Vec<GroupId>),
    /// Answer when nothing is being judged any more.
    Drain(Reply<()>),
}

/// One group to judge.
#[derive(Debug)]
pub struct VerifyRequest {
    /// The group; its prompt carries the truth.
    pub group: Arc<Group>,
    /// Time from receipt to answer. Late completions are [`Verdict::Void`].
    pub deadline: Duration,
    /// One verdict per completion, in order.
    pub reply: Reply<Vec<Verdict>>,
}

/// What the learner is asked.
#[derive(Debug)]
pub enum LearnerMsg {
    /// Train one optimiser step on this batch, after those sent before.
    Train(Batch),
}

/// What the learner reports when a step is done.
#[derive(Clone, Debug)]
pub struct LearnerEvent {
    /// The version that the step made.
    pub version: PolicyVersion,
    /// The groups that it trained.
    pub groups: Vec<GroupId>,
    /// What the step measured.
    pub report: Arc<StepReport>,
}

/// Three points of a distribution; all 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// 1 % are lower.
    pub p01: f64,
    /// The median.
    pub p50: f64,
    /// 1 % are higher.
    pub p99: f64,
}

/// Bars of [`StepReport::rates`].
pub const RATE_BARS: usize = 10;

/// Which of the bars a rate in [0, 1] belongs to. Rates are means of float32 scores: 3/10 must not fall under 0.3.
pub fn rate_bar(rate: f64) -> usize {
    ((rate * RATE_BARS as f64 + 1e-6) as usize).min(RATE_BARS - 1)
}

/// What one optimiser step measured. Means are over trained answer tokens unless said otherwise. Of a step that was skipped
/// (`not_finite`) the numbers that are not finite are 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepReport {
    /// Why the step changed nothing: its loss or its gradient was not finite, and `learner.on_not_finite` is `skip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_finite: Option<String>,
    /// The loss that was minimised (its value is no progress signal: see spec section 6).
    pub loss: f64,
    /// Loss of the tokens of right answers, and of wrong ones, weighted by correctness, token mean.
    pub loss_positive: f64,
    /// See `loss_positive`.
    pub loss_negative: f64,
    /// L2 norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// The same by layer (`embed_tokens`, `layers.0`, ..., `norm`, `lm_head`), with `learner.grad_norm_by_layer`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub grad_norms: BTreeMap<String, f64>,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Mean of exp(log-ratio) over tokens.
    pub ratio_mean: f64,
    /// Largest |log-ratio| of any token.
    pub log_ratio_max: f64,
    /// Share of wrong-answer tokens whose negative ratio is at or under ε.
    pub clipped_share: f64,
    /// Share of right-answer tokens whose ratio is above the clip, for the objectives that have one.
    pub clipped_share_right: f64,
    /// Of exp(log-ratio), over tokens of right answers (score 0.5 and more).
    pub ratio_right: Quantiles,
    /// The same over tokens of wrong answers.
    pub ratio_wrong: Quantiles,
    /// Mean importance weight with `learner.old_logprobs = "decoupled"`, and the share of tokens whose weight is cut off at
    /// the cap; 1 and 0 otherwise.
    pub importance_mean: f64,
    /// See `importance_mean`.
    pub importance_capped_share: f64,
    /// Mean divergence from the reference model (k3), nats; 0 without one.
    pub kl: f64,
    /// (Σ R)² / (M Σ R²) over the M tokens: 1 when on-policy.
    pub effective_sample_size: f64,
    /// Mean entropy of the policy at the trained positions, nats.
    pub entropy: f64,
    /// Mean and largest |log-prob difference| between sampler and learner over tokens whose version is the learner's and
    /// whose group saw one version only, with their count (none is normal for η > 0).
    pub mismatch_mean: f64,
    /// See `mismatch_mean`.
    pub mismatch_max: f64,
    /// See `mismatch_mean`.
    pub mismatch_tokens: u64,
    /// Mean and largest |log-prob difference| over the other tokens: how far the policy has moved since it sampled them.
    pub stale_mismatch_mean: f64,
    /// See `stale_mismatch_mean`.
    pub stale_mismatch_max: f64,
    /// Answer tokens trained.
    pub tokens: u64,
    /// Answers trained.
    pub answers: u64,
    /// Groups trained.
    pub groups: u64,
    /// Mean rate r̂ over the trained groups.
    pub rate_mean: f64,
    /// Trained groups by rate: bar i counts those with i/10 <= r̂ < (i+1)/10, the last one r̂ = 1 too.
    pub rates: [u64; RATE_BARS],
    /// Highest and mean staleness of the trained groups, optimiser steps.
    pub staleness_max: u64,
    /// See `staleness_max`.
    pub staleness_mean: f64,
    /// Wall time of the step on the engine, seconds.
    pub seconds: f64,
    /// Time since the previous step ended that the engine spent without work, seconds.
    pub idle_seconds: f64,
}

/// What the replay actor reports to the conductor.
#[derive(Debug)]
pub enum ReplayEvent {
    /// A group was judged, whatever becomes of it: for samples and statistics.
    Scored(Arc<ScoredGroup>),
    /// The data is used up and nothing is in flight: no further batch will come.
    Exhausted,
    /// None of the last 10·B finished groups was mixed: nothing can be learned.
    Unlearnable {
        /// Share of these groups whose answers were all right.
        all_right: f64,
        /// Share of these groups whose answers were all wrong.
        all_wrong: f64,
    },
    /// A wait passed its deadline more often than allowed, or an actor broke its contract: the run must stop.
    Failed(String),
}
