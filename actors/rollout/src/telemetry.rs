//! Every metric of Counterpoint: its name, unit, help and buckets in [`METRICS`], and the only functions that record one.
//!
//! Base units; `_total` for counters; no step or id is ever a label. The functions are cheap enough for every event, and do
//! nothing while no recorder is installed (tests, `verify`, `generate`).
#![allow(clippy::disallowed_macros, reason = "this is the module that may touch the raw metric macros")]

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::contract::StepReport;
use crate::{Completion, DropReason, ScoredGroup};

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, also across a resume.
    Counter,
    /// The newest value.
    Gauge,
    /// Counts per bucket; the upper bounds are given, `+Inf` is added.
    Histogram(&'static [f64]),
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The help text of the exposition.
    pub help: &'static str,
}

const SECONDS: &[f64] = &[0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
const STALENESS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0];
const RATE: &[f64] = &[0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 0.999, 1.0];
const TOKENS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

macro_rules! table {
    ($($constant:ident = $name:literal, $kind:expr, $help:literal;)+) => {
        $(const $constant: &str = concat!("counterpoint_", $name);)+
        /// The table that the exporter, the dashboards' test and ARCHITECTURE.md's reader look at.
        pub const METRICS: &[Metric] = &[$(Metric { name: $constant, kind: $kind, help: $help }),+];
    };
}

table! {
    GROUPS_ISSUED = "groups_issued_total", Kind::Counter, "Groups for which a lease was issued.";
    GROUPS = "groups_total", Kind::Counter, "Groups that ended, by outcome (trained, dropped) and reason.";
    GROUPS_IN_FLIGHT = "groups_in_flight", Kind::Gauge, "Groups neither trained nor dropped, by state.";
    GROUP_RATE = "group_rate", Kind::Histogram(RATE), "Share of right answers per judged group.";
    GENERATED_TOKENS = "generated_tokens_total", Kind::Counter, "Answer tokens sampled for training.";
    TRAINED_TOKENS = "trained_tokens_total", Kind::Counter, "Answer tokens trained.";
    COMPLETIONS = "completions_total", Kind::Counter, "Answers sampled for training, by finish reason.";
    RESPONSE_TOKENS = "response_tokens", Kind::Histogram(TOKENS), "Answer length in tokens, by stage (sampled, trained).";
    VERDICTS = "verdicts_total", Kind::Counter, "Verdicts by verifier, outcome (correct, incorrect, soft, void) and void reason.";
    VERIFIER_SECONDS = "verifier_seconds", Kind::Histogram(SECONDS), "Time to judge one group, by verifier.";
    VERIFIER_HTTP_ERRORS = "verifier_http_errors_total", Kind::Counter, "Failed attempts to get verdicts from an HTTP server, by code.";
    VERIFIER_SHADOW = "verifier_shadow_total", Kind::Counter, "Answers for a shadow verifier, by verifier, shadow and agreement (agree, disagree, void, skipped).";
    ACTOR_SECONDS = "actor_state_seconds_total", Kind::Counter, "Time an actor spent in a state (busy, idle, frozen): its rate is the bubble.";
    STALENESS_STEPS = "staleness_steps", Kind::Histogram(STALENESS), "Optimiser steps between a group's start and its training.";
    MAILBOX_DEPTH = "mailbox_depth", Kind::Gauge, "Work waiting on an edge between actors.";
    MAILBOX_WAIT = "mailbox_wait_seconds", Kind::Histogram(SECONDS), "Time work waited on an edge between actors.";
    BUFFER_GROUPS = "buffer_groups", Kind::Gauge, "Mixed groups ready for a batch.";
    BUFFER_CAPACITY = "buffer_capacity_groups", Kind::Gauge, "Groups that admission allows to be in flight.";
    POLICY_VERSION = "policy_version", Kind::Gauge, "Optimiser steps that made the weights an actor holds.";
    SYNC_SECONDS = "weight_sync_seconds", Kind::Histogram(SECONDS), "Time from publishing weights until every generator has loaded them.";
    SYNC_BYTES = "weight_sync_bytes_total", Kind::Counter, "Bytes of weights pushed to generators.";
    SYNC_PAUSE = "weight_sync_pause_seconds", Kind::Histogram(SECONDS), "Time a generator's decode loop stood still for a swap of weights.";
    SYNCS = "weight_sync_total", Kind::Counter, "Weight synchronisations by outcome.";
    WEIGHT_FILES = "weight_directory_total", Kind::Counter, "Publications of weights to weight_sync.directory by outcome: complete, failed (an attempt, or its deadline), skipped (newer ones came first).";
    WEIGHT_FILES_BYTES = "weight_directory_bytes_total", Kind::Counter, "Bytes of weights written to weight_sync.directory.";
    WEIGHT_FILES_SECONDS = "weight_directory_seconds", Kind::Histogram(SECONDS), "Time to write one publication to weight_sync.directory.";
    MISMATCH_MEAN = "logprob_mismatch_mean", Kind::Gauge, "Mean absolute log-prob difference of sampler and learner at equal versions, last step that had such tokens.";
    MISMATCH_MAX = "logprob_mismatch_max", Kind::Gauge, "Largest absolute log-prob difference of sampler and learner at equal versions, last step that had such tokens.";
    MISMATCH_TOKENS = "logprob_mismatch_tokens_total", Kind::Counter, "Tokens on which the mismatch was measured.";
    PROBE_MEAN = "logprob_probe_mean", Kind::Gauge, "Mean absolute log-prob difference of sampler and libtorch's pass over whole sequences with the same weights, last probe (generator.probe_every).";
    PROBE_MAX = "logprob_probe_max", Kind::Gauge, "Largest absolute log-prob difference of sampler and libtorch's pass over whole sequences with the same weights, last probe.";
    PROBE_TOKENS = "logprob_probe_tokens_total", Kind::Counter, "Tokens of probes.";
    DRIFT_MEAN = "logprob_drift_mean", Kind::Gauge, "Mean absolute log-prob difference of sampler and learner on tokens of older versions, last step that had such tokens.";
    DRIFT_MAX = "logprob_drift_max", Kind::Gauge, "Largest absolute log-prob difference of sampler and learner on tokens of older versions, last step that had such tokens.";
    RATIO_MEAN = "ratio_mean", Kind::Gauge, "Mean likelihood ratio of the last step.";
    RATIO_QUANTILE = "ratio_quantile", Kind::Gauge, "Quantiles of the likelihood ratio in the last step, by point (p01, p50, p99) and answers (right, wrong).";
    CLIPPED_SHARE = "clipped_share", Kind::Gauge, "Share of wrong-answer tokens at the clip in the last step.";
    CLIPPED_SHARE_RIGHT = "clipped_share_right", Kind::Gauge, "Share of right-answer tokens above the clip in the last step.";
    IMPORTANCE_MEAN = "importance_weight_mean", Kind::Gauge, "Mean importance weight of the last step; 1 unless learner.old_logprobs is decoupled.";
    IMPORTANCE_CAPPED = "importance_capped_share", Kind::Gauge, "Share of tokens whose importance weight was cut off in the last step.";
    KL = "kl_reference_nats", Kind::Gauge, "Mean divergence from the reference model, last step; 0 without one.";
    ESS = "effective_sample_size", Kind::Gauge, "Effective sample size of the last step as a share of its tokens.";
    ENTROPY = "entropy_nats", Kind::Gauge, "Mean policy entropy at trained positions, last step.";
    LOSS = "loss", Kind::Gauge, "Loss of the last step, by part (total, positive, negative).";
    GRAD_NORM = "grad_norm", Kind::Gauge, "Gradient norm before clipping, last step.";
    GRAD_NORM_LAYER = "grad_norm_layer", Kind::Gauge, "Gradient norm before clipping by layer, last step; only with learner.grad_norm_by_layer.";
    LEARNING_RATE = "learning_rate", Kind::Gauge, "Learning rate of the last step.";
    STEP_SECONDS = "step_seconds", Kind::Histogram(SECONDS), "Time of an optimiser step on the learner's engine.";
    STEPS = "steps_total", Kind::Counter, "Optimiser steps.";
    STEPS_SKIPPED = "steps_skipped_total", Kind::Counter, "Optimiser steps that changed nothing, their loss or gradient not being finite.";
    PASS_RATE = "pass_rate", Kind::Gauge, "Share of right answers among those judged for the last step.";
    TRUNCATED_SHARE = "truncated_share", Kind::Gauge, "Share of answers cut off among those judged for the last step.";
    EVAL_ACCURACY = "eval_accuracy", Kind::Gauge, "Accuracy of the last evaluation.";
    EVALS = "evaluations_total", Kind::Counter, "Evaluations finished.";
    LAST_PROGRESS = "last_progress_timestamp_seconds", Kind::Gauge, "When an actor last got something done, Unix time.";
    RESTARTS = "actor_restarts_total", Kind::Counter, "Actors restarted after a panic.";
    RESUMES = "resumes_total", Kind::Counter, "Times the run went on from a checkpoint.";
    CHECKPOINTS = "checkpoints_total", Kind::Counter, "Checkpoints by outcome.";
    CHECKPOINT_SECONDS = "checkpoint_seconds", Kind::Histogram(SECONDS), "Time to write a checkpoint.";
    INVARIANTS = "invariant_violations_total", Kind::Counter, "Broken invariants by id: anything but zero is a bug.";
    MEMORY = "memory_resident_bytes", Kind::Gauge, "Resident memory of the process.";
    RUN_SECONDS = "run_seconds_total", Kind::Counter, "Time of the run, set-up and evaluations included.";
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// A lease was issued.
pub fn group_issued() {
    counter!(GROUPS_ISSUED).increment(1);
}

/// A group was trained.
pub fn group_trained(staleness: u64, scored: &ScoredGroup) {
    counter!(GROUPS, "outcome" => "trained", "reason" => "").increment(1);
    histogram!(STALENESS_STEPS, "stage" => "training").record(staleness as f64);
    for (completion, _) in scored.judged() {
        counter!(TRAINED_TOKENS).increment(completion.tokens.len() as u64);
        histogram!(RESPONSE_TOKENS, "stage" => "trained").record(completion.tokens.len() as f64);
    }
}

/// A group was dropped.
pub fn group_dropped(reason: DropReason) {
    counter!(GROUPS, "outcome" => "dropped", "reason" => reason.label()).increment(1);
}

/// How many groups are in a state, by the state's label.
pub fn groups_in_state(state: &'static str, groups: usize) {
    gauge!(GROUPS_IN_FLIGHT, "state" => state).set(groups as f64);
}

/// An answer was sampled for training.
pub fn completion_sampled(completion: &Completion) {
    counter!(COMPLETIONS, "finish" => completion.finish.label()).increment(1);
    counter!(GENERATED_TOKENS).increment(completion.tokens.len() as u64);
    histogram!(RESPONSE_TOKENS, "stage" => "sampled").record(completion.tokens.len() as f64);
}

/// A group was judged.
pub fn group_judged(scored: &ScoredGroup) {
    if let Some(rate) = scored.rate().filter(|_| !scored.any_void()) {
        histogram!(GROUP_RATE).record(f64::from(rate));
    }
}

/// A verifier judged one group.
pub fn verified(verifier: &str, verdicts: &[crate::Verdict], took: Duration) {
    histogram!(VERIFIER_SECONDS, "verifier" => verifier.to_owned()).record(seconds(took));
    for verdict in verdicts {
        let reason = if let crate::Verdict::Void(reason) = verdict { reason.label() } else { "" };
        counter!(VERDICTS, "verifier" => verifier.to_owned(), "outcome" => verdict.label(), "reason" => reason)
            .increment(1);
    }
}

/// The labels of [`verifier_http_failed`].
pub const HTTP_ERROR_CODES: [&str; 8] = ["connect", "timeout", "429", "5xx", "4xx", "redirect", "tls", "protocol"];

/// A verifier's HTTP server failed once, in one of [`HTTP_ERROR_CODES`].
pub fn verifier_http_failed(code: &'static str) {
    counter!(VERIFIER_HTTP_ERRORS, "code" => code).increment(1);
}

/// Answers that a shadow verifier was to judge beside the one that decides (`agreement`: agree, disagree, void, skipped).
pub fn shadowed(verifier: &str, shadow: &str, agreement: &'static str, answers: u64) {
    let (verifier, shadow) = (verifier.to_owned(), shadow.to_owned());
    counter!(VERIFIER_SHADOW, "verifier" => verifier, "shadow" => shadow, "agreement" => agreement).increment(answers);
}

/// An actor spent time in a state (`busy`, `idle`, `frozen`).
pub fn actor_state(actor: &str, state: &'static str, took: Duration) {
    // Counters are whole numbers in the `metrics` facade; microseconds are kept and the exposition divides: see the exporter.
    counter!(ACTOR_SECONDS, "actor" => actor.to_owned(), "state" => state).increment(took.as_micros() as u64);
}

/// Counters whose facade value is in microseconds and whose exposition must be in seconds.
pub const MICROSECOND_COUNTERS: &[&str] = &[ACTOR_SECONDS, RUN_SECONDS];

/// Work waiting on an edge (`replay_generator`, `generator_verifier`, ...).
pub fn mailbox_depth(edge: &'static str, depth: usize) {
    gauge!(MAILBOX_DEPTH, "edge" => edge).set(depth as f64);
}

/// How long one piece of work waited on an edge.
pub fn mailbox_wait(edge: &'static str, waited: Duration) {
    histogram!(MAILBOX_WAIT, "edge" => edge).record(seconds(waited));
}

/// The buffer's depth and what admission allows in flight.
pub fn buffer(groups: usize, capacity: u64) {
    gauge!(BUFFER_GROUPS).set(groups as f64);
    gauge!(BUFFER_CAPACITY).set(capacity as f64);
}

/// The weights that an actor holds.
pub fn policy_version(actor: &str, version: crate::PolicyVersion) {
    gauge!(POLICY_VERSION, "actor" => actor.to_owned()).set(version.0 as f64);
}

/// Published weights are (or could not be) loaded everywhere.
pub fn weights_synced(outcome: &'static str, bytes: u64, took: Duration) {
    counter!(SYNCS, "outcome" => outcome).increment(1);
    counter!(SYNC_BYTES).increment(bytes);
    histogram!(SYNC_SECONDS).record(seconds(took));
}

/// Published weights lie whole in the directory for other processes.
pub fn weight_files_written(version: crate::PolicyVersion, bytes: u64, took: Duration) {
    counter!(WEIGHT_FILES, "outcome" => "complete").increment(1);
    counter!(WEIGHT_FILES_BYTES).increment(bytes);
    histogram!(WEIGHT_FILES_SECONDS).record(seconds(took));
    policy_version("weight-directory", version);
}

/// An attempt to write published weights failed, or took longer than it may.
pub fn weight_files_failed() {
    counter!(WEIGHT_FILES, "outcome" => "failed").increment(1);
}

/// Published weights were replaced by newer ones before the directory got them.
pub fn weight_files_skipped() {
    counter!(WEIGHT_FILES, "outcome" => "skipped").increment(1);
}

/// A generator swapped its weights between two decode steps.
pub fn weights_swapped(pause: Duration) {
    histogram!(SYNC_PAUSE).record(seconds(pause));
}

/// A finished group was scored again with the weights that sampled it: mean and largest difference, and of how many tokens.
pub fn mismatch_probed(mean: f64, max: f64, tokens: u64) {
    gauge!(PROBE_MEAN).set(mean);
    gauge!(PROBE_MAX).set(max);
    counter!(PROBE_TOKENS).increment(tokens);
}

/// An optimiser step is done.
pub fn step_done(report: &StepReport) {
    counter!(STEPS).increment(1);
    // So that it is there before the first one: an alert on its rate sees that one too.
    counter!(STEPS_SKIPPED).increment(0);
    histogram!(STEP_SECONDS).record(report.seconds);
    if report.not_finite.is_some() {
        // What it measured is no measure of the policy.
        counter!(STEPS_SKIPPED).increment(1);
        return;
    }
    if report.mismatch_tokens > 0 {
        gauge!(MISMATCH_MEAN).set(report.mismatch_mean);
        gauge!(MISMATCH_MAX).set(report.mismatch_max);
        counter!(MISMATCH_TOKENS).increment(report.mismatch_tokens);
    }
    if report.tokens > report.mismatch_tokens {
        gauge!(DRIFT_MEAN).set(report.stale_mismatch_mean);
        gauge!(DRIFT_MAX).set(report.stale_mismatch_max);
    }
    for (answers, ratio) in [("right", report.ratio_right), ("wrong", report.ratio_wrong)] {
        for (point, value) in [("p01", ratio.p01), ("p50", ratio.p50), ("p99", ratio.p99)] {
            gauge!(RATIO_QUANTILE, "answers" => answers, "point" => point).set(value);
        }
    }
    for (layer, norm) in &report.grad_norms {
        gauge!(GRAD_NORM_LAYER, "layer" => layer.clone()).set(*norm);
    }
    gauge!(LOSS, "part" => "total").set(report.loss);
    gauge!(LOSS, "part" => "positive").set(report.loss_positive);
    gauge!(LOSS, "part" => "negative").set(report.loss_negative);
    for (name, value) in [
        (RATIO_MEAN, report.ratio_mean),
        (CLIPPED_SHARE, report.clipped_share),
        (CLIPPED_SHARE_RIGHT, report.clipped_share_right),
        (IMPORTANCE_MEAN, report.importance_mean),
        (IMPORTANCE_CAPPED, report.importance_capped_share),
        (KL, report.kl),
        (ESS, report.effective_sample_size),
        (ENTROPY, report.entropy),
        (GRAD_NORM, report.grad_norm),
        (LEARNING_RATE, report.learning_rate),
    ] {
        gauge!(name).set(value);
    }
}

/// Share of right answers, and of answers cut off, among those judged since the previous step.
pub fn judged_since_last_step(pass_rate: f64, truncated_share: f64) {
    gauge!(PASS_RATE).set(pass_rate);
    gauge!(TRUNCATED_SHARE).set(truncated_share);
}

/// An evaluation is done.
pub fn evaluated(accuracy: f64) {
    counter!(EVALS).increment(1);
    gauge!(EVAL_ACCURACY).set(accuracy);
}

/// An actor got something done.
pub fn progress(actor: &str) {
    gauge!(LAST_PROGRESS, "actor" => actor.to_owned()).set(crate::clock::unix_seconds());
}

/// An actor was restarted.
pub fn restarted(actor: &str) {
    counter!(RESTARTS, "actor" => actor.to_owned()).increment(1);
}

/// The run goes on from a checkpoint.
pub fn resumed() {
    counter!(RESUMES).increment(1);
}

/// A checkpoint was written, or could not be (`outcome`: complete, failed).
pub fn checkpointed(outcome: &'static str, took: Duration) {
    counter!(CHECKPOINTS, "outcome" => outcome).increment(1);
    histogram!(CHECKPOINT_SECONDS).record(seconds(took));
}

/// A rule of [`crate::invariant`] is broken.
pub fn invariant_broken(id: &'static str) {
    counter!(INVARIANTS, "invariant" => id).increment(1);
}

/// Memory of the process and time of the run, sampled now and then.
pub fn process(resident_bytes: u64, run: Duration) {
    gauge!(MEMORY).set(resident_bytes as f64);
    counter!(RUN_SECONDS).absolute(run.as_micros() as u64);
}

/// Sets a counter to at least `value`: after a resume, so that counters go on. Unknown names are ignored, since an old
/// checkpoint may name a metric that is gone.
pub fn restore_counter(name: &str, labels: &[(String, String)], value: u64) {
    let known = METRICS.iter().find(|m| m.name == name && m.kind == Kind::Counter);
    if let Some(metric) = known {
        let labels: Vec<metrics::Label> =
            labels.iter().map(|(k, v)| metrics::Label::new(k.clone(), v.clone())).collect();
        counter!(metric.name, labels).absolute(value);
    }
}

/// An actor is supervised: its restarts count from zero, so that an alert on their rate sees the first one.
pub fn supervised(actor: &str) {
    counter!(RESTARTS, "actor" => actor.to_owned()).increment(0);
}

/// Gives every metric its help text; call once, after the recorder is installed. Counters of what should never happen are
/// there from the start, as zero.
pub fn describe() {
    counter!(RESUMES).increment(0);
    for invariant in crate::invariant::Invariant::ALL {
        counter!(INVARIANTS, "invariant" => invariant.id()).increment(0);
    }
    for code in HTTP_ERROR_CODES {
        counter!(VERIFIER_HTTP_ERRORS, "code" => code).increment(0);
    }
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for metric in METRICS {
            assert!(metric.name.starts_with("counterpoint_"));
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(buckets.windows(2).all(|w| w[0] < w[1]), "{}", metric.name);
            }
        }
    }
}
