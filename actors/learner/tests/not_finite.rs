//! Steps whose loss or gradient is not finite: stopped at, with the batch saved, or skipped and counted.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{batch, group, model_dir, sampled, setup};
use counterpoint_learner::{
    CheckpointConfig, CheckpointStore, Command, Engine, EngineEvent, EngineSettings, Learner, LearnerConfig,
    LearnerError, ObjectiveConfig, OnNotFinite,
};
use counterpoint_policy::{Kind, Tensor};
use counterpoint_rollout::{Batch, PolicyVersion, Verdict};
use serde_json::Value;

const PROMPT: &[u32] = &[4, 2, 12, 8, 9, 15];

fn skipping() -> LearnerConfig {
    LearnerConfig { learning_rate: 1e-3, on_not_finite: OnNotFinite::Skip, ..LearnerConfig::default() }
}

/// One group for `version`; `poison` goes into a recorded log-prob.
fn work(learner: &Learner, version: u64, poison: Option<f32>) -> Batch {
    let mut right = sampled(learner, PROMPT, &[10, 9, 1], 1.0);
    if let Some(poison) = poison {
        right.logprobs[1] = poison;
    }
    let wrong = sampled(learner, PROMPT, &[10, 8, 1], 1.0);
    batch(version, vec![group(41, PROMPT.to_vec(), vec![(right, Verdict::Correct), (wrong, Verdict::Incorrect)])])
}

fn equal(a: &Tensor, b: &Tensor) -> bool {
    (a - b).abs().max().double_value(&[]) == 0.0
}

#[test]
fn a_skipped_step_counts_and_changes_neither_weights_nor_optimiser() {
    let mut learner = Learner::new(setup(Kind::Float, skipping(), ObjectiveConfig::default())).unwrap();
    let first = work(&learner, 0, None);
    learner.train_step(&first).unwrap();
    let weights = learner.flat().copy();
    let memory = learner.optimizer_state().second.copy();
    for (version, poison) in [(1, f32::NAN), (2, f32::INFINITY)] {
        let poisoned = work(&learner, version, Some(poison));
        let report = learner.train_step(&poisoned).unwrap();
        let why = report.not_finite.clone().unwrap();
        assert!(why.starts_with("loss is ") || why.starts_with("gradient norm is "), "{why}");
        assert!(!serde_json::to_string(&report).unwrap().contains("null"), "{report:?}");
        assert_eq!(learner.version(), PolicyVersion(version + 1), "the batch is used up");
        assert!(equal(&weights, learner.flat()) && equal(&memory, &learner.optimizer_state().second));
        assert_eq!(learner.optimizer_state().step, 1);
    }
    // The next step is what it would have been without them.
    let next = work(&learner, 3, None);
    let report = learner.train_step(&next).unwrap();
    assert!(report.not_finite.is_none() && report.loss.is_finite());
    let mut other = Learner::new(setup(Kind::Float, skipping(), ObjectiveConfig::default())).unwrap();
    other.train_step(&first).unwrap();
    other.train_step(&Batch { version: PolicyVersion(1), groups: next.groups }).unwrap();
    assert!(equal(learner.flat(), other.flat()));
}

#[test]
fn weights_that_are_broken_end_even_a_run_that_skips() {
    let sound = Learner::new(setup(Kind::Float, skipping(), ObjectiveConfig::default())).unwrap();
    let broken = setup(Kind::Float, skipping(), ObjectiveConfig::default());
    let _ = broken.flat.narrow(0, broken.flat.numel() as i64 - 1, 1).fill_(f64::NAN);
    let mut learner = Learner::new(broken).unwrap();
    for version in 0..10 {
        assert!(learner.train_step(&work(&sound, version, None)).unwrap().not_finite.is_some());
    }
    let error = learner.train_step(&work(&sound, 10, None)).unwrap_err();
    assert!(matches!(error, LearnerError::SkippedTooOften { steps: 10, .. }), "{error}");
    assert!(
        error.to_string().ends_with("were skipped for the same reason (learner.on_not_finite = \"skip\")"),
        "{error}"
    );
}

#[test]
fn a_run_that_stops_says_where_its_batch_is_and_the_file_names_the_answer() {
    let root = tempfile::tempdir().unwrap();
    let settings = EngineSettings {
        threads: Some(1),
        publish_every: 1,
        snapshot_kind: Kind::Float,
        checkpoints: CheckpointStore::open(root.path(), &model_dir(), &CheckpointConfig::default()).unwrap(),
        inspect: Some(root.path().to_owned()),
    };
    let (to, events) = mpsc::channel();
    let config = LearnerConfig::default();
    let learner = Learner::new(setup(Kind::Float, config.clone(), ObjectiveConfig::default())).unwrap();
    let engine = Engine::start(setup(Kind::Float, config, ObjectiveConfig::default()), settings, move |event| {
        to.send(event).unwrap();
    })
    .unwrap();
    engine.send(Command::Train(work(&learner, 0, Some(f32::NAN)))).unwrap();
    let EngineEvent::Failed(problem) = events.recv_timeout(Duration::from_secs(60)).unwrap() else {
        panic!("the step was taken");
    };
    let path = root.path().join("not-finite-v0.json");
    let told = format!(
        "the step from v0 was not taken: its loss is NaN (groups g41); the weights are unchanged; the batch is saved in {}",
        path.display()
    );
    assert_eq!(problem, told);
    let saved: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(saved["weights_finite"], true);
    assert_eq!(saved["answers_not_finite"], serde_json::json!([{"group": 41, "sample": 0}]));
    assert_eq!(saved["groups"][0]["group"]["completions"][0]["logprobs"][1], Value::Null);
    assert_eq!(saved["groups"][0]["group"]["completions"][1]["tokens"], serde_json::json!([10, 8, 1]));
    engine.stop(Duration::from_secs(60)).unwrap();
}
