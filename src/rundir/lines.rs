//! What the files of a run directory hold, line by line.

use std::collections::BTreeMap;
use std::path::Path;

use counterpoint_rollout::VersionSpan;
use counterpoint_rollout::contract::{RATE_BARS, StepReport};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line of metrics.jsonl: one optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// The step; the version that it made.
    pub step: u64,
    /// When, Unix time.
    pub time: f64,
    /// Training time of the whole run so far (evaluations in pause mode left out).
    pub seconds_training: f64,
    /// Share of right answers among those judged since the previous step; 0 if none was.
    pub pass_rate: f64,
    /// Share of answers cut off among those judged since the previous step; 0 if none was.
    pub truncated_share: f64,
    /// Answers judged since the previous step.
    pub answers_judged: u64,
    /// What became of the groups judged since the previous step, and how hard they were.
    pub judged: JudgedGroups,
    /// What the step measured, its fields beside the others.
    #[serde(flatten)]
    pub report: StepReport,
}

/// Groups judged between two steps. Only the mixed ones are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedGroups {
    /// With right and wrong answers: used, now or later.
    pub mixed: u64,
    /// Not used: every answer has the same score, and is right.
    pub all_right: u64,
    /// Not used: every answer has the same score, and is not right.
    pub all_wrong: u64,
    /// A verdict is void, which tells nothing of the answer: used if `replay.on_void` says so and the rest is mixed.
    pub void: u64,
    /// All but the void ones by rate: bar i counts those with i/10 <= r̂ < (i+1)/10, the last one r̂ = 1 too.
    pub rates: [u64; RATE_BARS],
}

/// A line of eval.jsonl: one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalLine {
    /// Optimiser steps done.
    pub step: u64,
    /// The weights that were evaluated.
    pub policy_version: u64,
    /// Training time of the whole run so far (evaluations in pause mode left out).
    pub seconds_training: f64,
    /// Mean score over all answers; a void verdict counts as wrong.
    pub accuracy: f64,
    /// The evaluator's whole report.
    pub details: Value,
}

/// A line of samples.jsonl: one judged answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleLine {
    /// Optimiser steps done when it was judged.
    pub step: u64,
    /// Its group's number.
    pub group: u64,
    /// The prompt's id.
    pub prompt_id: String,
    /// Which of the group's answers, from 0.
    pub sample: u32,
    /// The prompt as people read it.
    pub prompt: String,
    /// The truth.
    pub answer: String,
    /// The sampled answer's text.
    pub text: String,
    /// `correct`, `incorrect`, `soft` or `void`.
    pub verdict: String,
    /// The score; none if the verdict is void.
    pub score: Option<f32>,
    /// Why the verdict is void.
    pub reason: Option<String>,
    /// Why the answer ended: `stop` or `length`.
    pub finish: String,
    /// Its length.
    pub tokens: u64,
    /// Which weights sampled it, run-length coded.
    pub versions: Vec<VersionSpan>,
}

/// summary.json: how a run ended. Counts are of the whole run, resumes included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How it ended.
    pub status: RunStatus,
    /// The error that ended it.
    pub error: Option<String>,
    /// Optimiser steps done.
    pub steps: u64,
    /// Steps among them that changed nothing (`learner.on_not_finite = "skip"`).
    #[serde(default)]
    pub steps_skipped: u64,
    /// Version of the final weights.
    pub policy_version: u64,
    /// Accuracy before training; none without evaluations.
    pub accuracy_start: Option<f64>,
    /// Accuracy of the newest evaluation, which a done run makes with its final weights; none without evaluations.
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
    /// Share of its time that the learner waited.
    pub learner_idle_share: f64,
    /// Share of their time that the generators waited.
    pub generator_idle_share: f64,
    /// Highest staleness of any trained group, optimiser steps.
    pub max_staleness_trained: u64,
    /// Whether it is done because the epochs of the data are over.
    pub data_used_up: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// All steps are trained, the target accuracy is reached, or the data is used up.
    Done,
    /// By a signal, after a checkpoint.
    Interrupted,
    /// By an error.
    Failed,
}

impl RunStatus {
    /// The word in files and on the terminal.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
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

impl Summary {
    /// What a person wants to know at the end, on one line.
    pub fn in_words(&self, dir: &Path) -> String {
        let accuracy = match (self.accuracy_start, self.accuracy_end) {
            (Some(start), Some(end)) => format!(", accuracy {:.1}% -> {:.1}%", 100.0 * start, 100.0 * end),
            _ => String::new(),
        };
        format!(
            "{}: {} steps in {:.1} s of training{accuracy}; see {}",
            self.status.label(),
            self.steps,
            self.seconds_training,
            dir.display()
        )
    }
}
