//! What a run looks like right now, in one plain struct: the conductor writes it, the console, `/status` and the status
//! page read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// What the run is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reads config, data and model.
    #[default]
    Starting,
    /// Generates and trains.
    Training,
    /// Decodes the held-out questions; training stands still in pause mode.
    Evaluating,
    /// Lets running work end, then stops.
    Draining,
    /// Reached its end.
    Done,
    /// Stopped on request, with a checkpoint.
    Interrupted,
    /// Stopped by an error.
    Failed,
}

impl Phase {
    /// The word in `/status` and on the console.
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Training => "training",
            Self::Evaluating => "evaluating",
            Self::Draining => "draining",
            Self::Done => "done",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// A run's state. Rates are over the whole training time unless said otherwise; what is not known yet is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What the run is doing.
    pub phase: Phase,
    /// The error that ended it.
    pub error: Option<String>,
    /// The run directory.
    pub run_dir: String,
    /// Optimiser steps done, and to do.
    pub step: u64,
    /// See `step`.
    pub max_steps: u64,
    /// Share of right answers among those judged for the last step.
    pub pass_rate: Option<f64>,
    /// Accuracy of the newest evaluation, of the one before training, and the one at which the run ends.
    pub eval_accuracy: Option<f64>,
    /// See `eval_accuracy`.
    pub accuracy_start: Option<f64>,
    /// See `eval_accuracy`.
    pub target_accuracy: Option<f64>,
    /// Loss of the last step (its value is no progress signal).
    pub loss: Option<f64>,
    /// Highest staleness in the last batch, optimiser steps.
    pub staleness: Option<u64>,
    /// Answer tokens generated per second of training time.
    pub tokens_per_second_generated: f64,
    /// Answer tokens trained per second of training time.
    pub tokens_per_second_trained: f64,
    /// Share of its time that the learner waited.
    pub learner_idle_share: f64,
    /// Share of their time that the generators waited.
    pub generator_idle_share: f64,
    /// Groups in flight, by state.
    pub groups_in_flight: BTreeMap<String, u64>,
    /// Groups that ended, by outcome or reason of the drop.
    pub groups_ended: BTreeMap<String, u64>,
    /// Version of the weights, by actor.
    pub policy_versions: BTreeMap<String, u64>,
    /// Wall time of this process's run, seconds.
    pub seconds: f64,
    /// Training time of the whole run (evaluations in pause mode left out), seconds.
    pub seconds_training: f64,
}

impl Status {
    /// Seconds of training left at the pace so far in this process, once there is one.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = self.max_steps.saturating_sub(self.step) as f64;
        (self.step > 0 && self.seconds_training > 0.0).then(|| left * self.seconds_training / self.step as f64)
    }
}

/// The shared place where the newest [`Status`] stands.
#[derive(Clone, Debug, Default)]
pub struct StatusBoard(Arc<Mutex<Status>>);

impl StatusBoard {
    /// A board with a first status.
    pub fn new(status: Status) -> Self {
        Self(Arc::new(Mutex::new(status)))
    }

    /// Changes the status; `change` must be short, since readers wait.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        // A panic inside `change` leaves plain numbers half updated: still fit to be shown.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A copy of the newest status.
    pub fn snapshot(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
