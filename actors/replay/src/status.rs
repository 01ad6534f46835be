use std::collections::BTreeMap;

use counterpoint_rollout::{GeneratorId, PolicyVersion};
use serde::Serialize;

use crate::LedgerTotals;

/// What the replay actor can be seen doing, for the status page and logs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayStatus {
    /// Optimiser steps done.
    pub completed_steps: u64,
    /// Batches closed; those beyond the completed steps are with the learner.
    pub closed_batches: u64,
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
    /// Groups in flight by state.
    pub groups: BTreeMap<&'static str, u64>,
    /// Mixed groups ready for a batch.
    pub buffer_groups: u64,
    /// Groups that admission allows in flight, (η + 1)·B.
    pub capacity_groups: u64,
    /// Batches sent to the learner and not trained yet.
    pub batches_with_learner: u64,
    /// The account of the run.
    pub totals: LedgerTotals,
    /// The epoch that the feed draws from, from 0.
    pub epoch: u32,
    /// Prompts that came back too often and count as used.
    pub abandoned_prompts: u64,
    /// The generators that are up.
    pub generators: Vec<GeneratorStatus>,
    /// Whether an evaluation pause stops deadlines, leases and batches.
    pub held: bool,
    /// Seconds until the next deadline of any group.
    pub next_deadline_seconds: Option<f64>,
    /// The last deadline that passed: what was waited for, and which groups.
    pub last_missed_deadline: Option<String>,
    /// What the run waits for, and what keeps it from coming, in words.
    pub waits_for: String,
}

/// One generator, as the replay actor sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GeneratorStatus {
    /// Which.
    pub id: GeneratorId,
    /// The last weights that it said it had.
    pub loaded: PolicyVersion,
    /// Groups that it holds, cancelled ones included until it has answered.
    pub held: u64,
    /// Groups that it may hold.
    pub window: u64,
}
