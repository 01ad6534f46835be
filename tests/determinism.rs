//! Invariant: same seed, η = 0, one generator: the same weights to the last bit, over an interrupt too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::process::Child;

use common::{Run, eventually, signal, wait};

const SYNCHRONOUS: [&str; 2] = ["replay.max_staleness=0", "run.max_steps=40"];

#[test]
fn two_synchronous_runs_with_one_seed_end_in_the_same_weights() {
    let (one, other) = (Run::new(&SYNCHRONOUS), Run::new(&SYNCHRONOUS));
    let summary = one.succeed(&[]);
    other.succeed(&[]);
    assert_eq!(summary["max_staleness_trained"], 0);
    assert!(one.final_weights() == other.final_weights(), "the weights differ");
    let different = Run::new(&SYNCHRONOUS);
    different.succeed(&["run.seed=2"]);
    assert!(one.final_weights() != different.final_weights(), "the seed has no effect");
}

#[test]
fn an_interrupted_and_resumed_synchronous_run_ends_in_the_weights_of_an_uninterrupted_one() {
    let straight = Run::new(&SYNCHRONOUS);
    let whole = straight.succeed(&[]);
    let broken = Run::new(&SYNCHRONOUS);
    let child = broken.command(&[]).spawn().unwrap();
    after_step(&broken, 3);
    signal(&child, libc::SIGINT);
    assert_eq!(wait(child).status.code(), Some(130));
    let stopped = broken.summary();
    assert_eq!(stopped["status"], "interrupted");
    assert!(stopped["steps"].as_u64().unwrap() < 40, "the interrupt came too late to test anything");
    let resumed = broken.succeed(&[]);
    assert_eq!(resumed["steps"], 40);
    assert_eq!(resumed["ledger"], whole["ledger"]);
    assert!(straight.final_weights() == broken.final_weights(), "the weights differ");
}

#[test]
fn a_killed_synchronous_run_resumes_from_its_checkpoint_and_ends_in_the_same_weights() {
    let settings = ["replay.max_staleness=0", "run.max_steps=40", "checkpoint.every=2"];
    let straight = Run::new(&settings);
    straight.succeed(&[]);
    let broken = Run::new(&settings);
    let child: Child = broken.command(&[]).spawn().unwrap();
    after_step(&broken, 3);
    signal(&child, libc::SIGKILL);
    assert_eq!(wait(child).status.code(), None);
    let resumed = broken.succeed(&[]);
    assert_eq!(resumed["steps"], 40);
    assert!(straight.final_weights() == broken.final_weights(), "the weights differ");
    let steps: Vec<u64> = broken.lines("metrics.jsonl").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=40).collect::<Vec<_>>(), "a step is missing or written twice");
}

fn after_step(run: &Run, step: usize) {
    eventually("some steps", || {
        let text = std::fs::read_to_string(run.dir().join("metrics.jsonl")).ok()?;
        (text.lines().count() >= step).then_some(())
    });
}
