use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It reached its end: all steps, the target accuracy, or the end of the data.
    Done,
    /// It was asked to stop, and wrote a checkpoint.
    Interrupted,
    /// An error ended it.
    Failed,
}

/// summary.json. Counts are of the whole run, resumes included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How the run ended.
    pub status: RunStatus,
    /// The error that ended it.
    pub error: Option<String>,
    /// Optimiser steps done.
    pub steps: u64,
    /// Version of the final weights.
    pub policy_version: u64,
    /// Accuracy before training; none without evaluations.
    pub accuracy_start: Option<f64>,
    /// Accuracy of the final weights; none without evaluations.
    pub accuracy_end: Option<f64>,
    /// The account of all groups.
    pub ledger: LedgerSummary,
    /// Answer tokens sampled for training.
    pub tokens_generated: u64,
    /// Answer tokens trained.
    pub tokens_trained: u64,
    /// Wall time, set-up and evaluations included.
    pub seconds: f64,
    /// Training time (evaluations in pause mode left out).
    pub seconds_training: f64,
    /// Share of training time that the learner waited.
    pub learner_idle_share: f64,
    /// Share of training time that the generators waited, their mean.
    pub generator_idle_share: f64,
    /// Highest staleness of any trained group, optimiser steps.
    pub max_staleness_trained: u64,
}

/// `issued = trained + in_flight + the sum of dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSummary {
    /// Groups for which a lease was issued.
    pub issued: u64,
    /// Groups trained.
    pub trained: u64,
    /// Groups neither trained nor dropped.
    pub in_flight: u64,
    /// Groups dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}
