use counterpoint_rollout::contract::StepReport;
use counterpoint_rollout::{GroupId, ScoredGroup, Verdict, VersionSpan};
use serde::{Deserialize, Serialize};

/// A line of metrics.jsonl: one optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// The step; the version that it made.
    pub step: u64,
    /// When, Unix time.
    pub time: f64,
    /// Training time of the whole run so far (evaluations in pause mode left out).
    pub seconds_training: f64,
    /// Share of right answers among those judged since the previous step.
    pub pass_rate: Option<f64>,
    /// Share of answers cut off among those judged since the previous step.
    pub truncated_share: Option<f64>,
    /// Answer tokens generated so far in the whole run.
    pub tokens_generated: u64,
    /// What the step measured, its fields beside the others.
    #[serde(flatten)]
    pub report: StepReport,
}

/// A line of eval.jsonl: one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalLine {
    /// Optimiser steps done.
    pub step: u64,
    /// The weights that were evaluated.
    pub policy_version: u64,
    /// When, Unix time.
    pub time: f64,
    /// Training time of the whole run so far (evaluations in pause mode left out).
    pub seconds_training: f64,
    /// Mean score over all answers; a void verdict counts as wrong.
    pub accuracy: f64,
    /// Share of questions with at least one right answer among those sampled.
    pub pass_at_k: f64,
    /// Answers sampled per question.
    pub samples: u32,
    /// Questions asked.
    pub prompts: u64,
    /// Verdicts that were void.
    pub void: u64,
    /// Answers that were cut off.
    pub truncated: u64,
    /// Time that the evaluation took.
    pub seconds: f64,
}

/// A line of samples.jsonl: one judged group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleLine {
    /// Optimiser steps done when it was judged.
    pub step: u64,
    /// Its number.
    pub group: GroupId,
    /// The prompt's id.
    pub prompt_id: String,
    /// The prompt as people read it.
    pub prompt: String,
    /// The truth.
    pub answer: String,
    /// The share of right answers; none if a verdict is void.
    pub rate: Option<f32>,
    /// The answers.
    pub completions: Vec<SampledAnswer>,
}

/// One answer of a [`SampleLine`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampledAnswer {
    /// The answer's text.
    pub text: String,
    /// What the verifier said of it.
    pub verdict: Verdict,
    /// Its length.
    pub tokens: usize,
    /// Whether the token limit cut it off.
    pub truncated: bool,
    /// Which weights sampled it, run-length coded.
    pub versions: Vec<VersionSpan>,
}

impl SampleLine {
    /// The line of a judged group.
    pub fn new(step: u64, scored: &ScoredGroup) -> Self {
        let group = &scored.group;
        let answers = group.completions.iter().zip(&scored.verdicts).map(|(completion, verdict)| SampledAnswer {
            text: completion.text.clone(),
            verdict: verdict.clone(),
            tokens: completion.tokens.len(),
            truncated: completion.truncated(),
            versions: completion.versions.clone(),
        });
        Self {
            step,
            group: group.id(),
            prompt_id: group.lease.prompt.id.clone(),
            prompt: group.lease.prompt.content.display(),
            answer: group.lease.prompt.answer.clone(),
            rate: scored.rate(),
            completions: answers.collect(),
        }
    }
}
