//! Actors that die: what is restarted, what ends the run, and what the run leaves behind then.
//!
//! The verifiers here are registered through the library, so the runs are in this process; each test is a process of its
//! own all the same, because a process has one metrics recorder: hence one test per fault, run by the child that the test
//! starts (the same executable, asked for one name).
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Run, output, stderr};
use counterpoint::verifier::{Mode, Question, Verifier, async_trait};
use counterpoint::{App, Verdict};

/// Names the fault that the child process plays.
const FAULT: &str = "COUNTERPOINT_TEST_FAULT";

/// Right answers are right; some judgements never end (while `hangs` lasts) or panic (every third).
struct Faulty {
    hangs: AtomicU32,
    panics: bool,
    calls: AtomicU32,
}

#[async_trait]
impl Verifier for Faulty {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        assert!(!(self.panics && call.is_multiple_of(3)), "the verifier panics");
        if self.hangs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            loop {
                std::thread::park();
            }
        }
        question.each(|response| response == question.answer())
    }

    fn mode(&self) -> Mode {
        Mode::Blocking
    }
}

fn play(fault: &str, arguments: Vec<OsString>) -> ExitCode {
    let (hangs, panics) = match fault {
        "hangs twice" => (2, false),
        "always hangs" => (u32::MAX, false),
        "panics now and then" => (0, true),
        other => panic!("no such fault: {other}"),
    };
    let verifier = Arc::new(Faulty { hangs: AtomicU32::new(hangs), panics, calls: AtomicU32::new(0) });
    App::new().verifier("faulty", move |_| Ok(verifier.clone())).main_with(arguments)
}

/// Runs the test configuration with a faulty verifier in a child process.
fn run_with(fault: &str, settings: &[&str]) -> (Run, std::process::Output) {
    let run = Run::new(&[]);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .current_dir(common::root())
        .env(FAULT, fault)
        .env("COUNTERPOINT_STRICT", "1")
        .env("OMP_WAIT_POLICY", "PASSIVE");
    command.args(["child", "--exact", "--nocapture"]);
    let directory = format!("run.dir={}", run.dir().display());
    let mut arguments = vec!["run", "tests/data/test.toml", "verifier.name=faulty", directory.as_str()];
    arguments.extend_from_slice(settings);
    command.env("COUNTERPOINT_TEST_ARGUMENTS", arguments.join("\n"));
    (run, output(command))
}

/// The body of the child process; passes as a test when nobody asks for a fault.
#[test]
fn child() {
    let Ok(fault) = std::env::var(FAULT) else { return };
    let arguments = std::env::var("COUNTERPOINT_TEST_ARGUMENTS").unwrap();
    let code = play(&fault, arguments.lines().map(OsString::from).collect());
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 1 });
}

#[test]
fn a_verifier_that_panics_now_and_then_costs_void_verdicts_and_the_run_goes_on() {
    let settings = ["replay.max_void_share=1.0", "run.max_steps=4", "eval.every=2"];
    let (run, output) = run_with("panics now and then", &settings);
    assert!(output.status.success(), "{}", stderr(&output));
    let summary = run.summary();
    assert_eq!((&summary["status"], &summary["steps"]), (&"done".into(), &4.into()));
    let exposition = run.read("metrics.prom");
    assert!(exposition.contains("outcome=\"void\",reason=\"crash\""), "{exposition}");
}

#[test]
fn a_verifier_that_hangs_is_restarted_and_its_groups_are_judged_again() {
    // A judgement counts as abandoned a second after its deadline; the run must last until then.
    let settings = [
        "verifier.deadline_seconds=0.2",
        "verifier.max_abandoned=1",
        "replay.max_void_share=1.0",
        "eval.at_start=false",
        "run.max_steps=400",
    ];
    let (run, output) = run_with("hangs twice", &settings);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(run.summary()["status"], "done");
    let exposition = run.read("metrics.prom");
    assert!(exposition.contains("counterpoint_actor_restarts_total{actor=\"verifier\"} 1"), "{}", stderr(&output));
}

#[test]
fn a_verifier_that_always_hangs_ends_the_run_with_a_checkpoint_a_clear_word_and_no_success() {
    let settings = ["verifier.deadline_seconds=0.2", "verifier.max_abandoned=1", "eval.at_start=false"];
    let (run, output) = run_with("always hangs", &settings);
    assert!(!output.status.success());
    let summary = run.summary();
    assert_eq!(summary["status"], "failed");
    let error = summary["error"].as_str().unwrap();
    assert!(error.contains("void") || error.contains("verifier failed"), "{error}");
    assert!(run.dir().join("checkpoints/latest/model.safetensors").exists());
}
