//! The real runtime with a verifier that misbehaves in one way after the other: its verdicts are void for the right reason,
//! its slot is back in time, nothing is left in the process table, the books balance, and the run goes on to its end.
//!
//! The verifier is actors/verifier/tests/bad_plugin.py, which judges by equality and misbehaves at every sixth request.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::process::Output;

use common::{Run, stderr};
use serde_json::Value;

/// Seconds of `verifier.deadline_seconds`.
const DEADLINE: f64 = 1.0;

/// A run whose verifier misbehaves.
struct Played {
    run: Run,
    output: Output,
    /// On the command line and in the environment of everything that the verifier starts.
    mark: String,
}

/// Plays a misbehaviour for four steps, each of which needs six groups that were judged rightly.
fn play(mode: &str, settings: &[&str]) -> Played {
    let run = Run::new(&[]);
    let mark = format!("misbehaving-{}-{mode}", std::process::id());
    let plugin =
        ["python3", "-S", "actors/verifier/tests/bad_plugin.py", "--every", "6", "--mode", mode, "--mark", &mark];
    let command = format!("verifier.define.bad.command={}", serde_json::to_string(&plugin).unwrap());
    let deadline = format!("verifier.deadline_seconds={DEADLINE}");
    let environment = format!("verifier.define.bad.env={{MISBEHAVING = \"{mark}\"}}");
    let common = [
        "verifier.name=bad",
        "verifier.define.bad.kind=process",
        command.as_str(),
        environment.as_str(),
        deadline.as_str(),
        "verifier.define.bad.processes=2",
        "verifier.define.bad.max_restarts=100",
        "verifier.define.bad.max_line_bytes=65536",
        "verifier.workers=4",
        "replay.max_void_share=1.0",
        "replay.void_retries=0",
        "eval.at_start=false",
        "run.max_steps=4",
    ];
    let settings: Vec<&str> = common.iter().chain(settings).copied().collect();
    let output = run.finish(&settings);
    Played { run, output, mark }
}

impl Played {
    fn exposition(&self) -> String {
        self.run.read("metrics.prom")
    }

    /// The void verdicts, by reason.
    fn voids(&self) -> Vec<(String, u64)> {
        let exposition = self.exposition();
        let lines = exposition.lines().filter_map(|line| {
            let rest = line.strip_prefix("counterpoint_verdicts_total{verifier=\"bad\",outcome=\"void\",reason=\"")?;
            let (reason, count) = rest.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().unwrap()))
        });
        lines.collect()
    }

    /// How many judgements took at most `seconds`, one of the histogram's bounds, and how many there were.
    fn judged_within(&self, seconds: &str) -> (u64, u64) {
        let exposition = self.exposition();
        let count = |prefix: String| {
            let line = exposition.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
            line.unwrap_or_else(|| panic!("{prefix} in\n{exposition}")).trim().parse().unwrap()
        };
        let bucket = format!("counterpoint_verifier_seconds_bucket{{verifier=\"bad\",le=\"{seconds}\"}}");
        (count(bucket), count("counterpoint_verifier_seconds_count{verifier=\"bad\"}".into()))
    }

    fn ledger(&self) -> Value {
        self.run.summary()["ledger"].clone()
    }

    /// What holds however a verifier misbehaves.
    fn went_well(&self, mode: &str) {
        let said = stderr(&self.output);
        assert!(self.output.status.success(), "{mode}: {said}");
        let summary = self.run.summary();
        assert_eq!((&summary["status"], &summary["steps"]), (&"done".into(), &4.into()), "{mode}: {said}");
        let ledger = self.ledger();
        let dropped: u64 = ledger["dropped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        let accounted = ledger["trained"].as_u64().unwrap() + ledger["in_flight"].as_u64().unwrap() + dropped;
        assert_eq!(ledger["issued"], accounted, "{mode}: {ledger}");
        assert_eq!(ledger["trained"], 24, "{mode}: {ledger}");
        let exposition = self.exposition();
        let broken: Vec<&str> = exposition
            .lines()
            .filter(|line| line.starts_with("counterpoint_invariant_violations_total") && !line.ends_with(" 0"))
            .collect();
        assert_eq!(broken, Vec::<&str>::new(), "{mode}");
        let left = processes_with(&self.mark);
        assert_eq!(left, Vec::<String>::new(), "{mode}: processes are left");
    }
}

/// The command lines of the processes that have the mark there or in their environment, zombies of this one included.
fn processes_with(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let read =
        |path: std::path::PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let found = processes.filter_map(|process| {
        let command = read(process.path().join("cmdline"));
        (command.contains(mark) || read(process.path().join("environ")).contains(mark)).then_some(command)
    });
    found.collect()
}

/// One misbehaviour, void for one of these reasons.
fn is_void(mode: &str, reasons: &[&str]) {
    let played = play(mode, &[]);
    played.went_well(mode);
    let voids = played.voids();
    let expected = |(reason, _): &(String, u64)| reasons.contains(&reason.as_str());
    assert!(voids.iter().any(expected), "{mode}: {voids:?}");
    // On a busy machine a question may wait for the next start of the process until its time is up.
    assert!(voids.iter().all(|void| expected(void) || void.0 == "timeout"), "{mode}: {voids:?}");
    // Truncated answers are settled without the verifier, so a void group has from one to four void answers; those of groups
    // still in flight at the end, and of the evaluation, are in no dropped group.
    let dropped = played.ledger()["dropped"]["void"].as_u64().unwrap_or(0);
    let answers: u64 = voids.iter().map(|(_, count)| count).sum();
    assert!((1..=answers).contains(&dropped), "{mode}: {dropped} groups dropped for {answers} void answers");
    // The deadline and one second more, rounded up to the histogram's next bound.
    let (in_time, all) = played.judged_within("3");
    assert_eq!(in_time, all, "{mode}: a slot was held too long");
}

#[test]
fn a_verifier_that_hangs_never_answers_or_ignores_signals_is_timed_out() {
    for mode in ["hang", "never", "ignore-term"] {
        is_void(mode, &["timeout"]);
    }
}

#[test]
fn a_verifier_that_crashes_exits_or_raises_is_void_and_started_again() {
    for mode in ["crash", "exit", "raise-error"] {
        is_void(mode, &["crash"]);
    }
}

#[test]
fn children_that_try_to_outlive_a_verifier_do_not() {
    is_void("fork-and-exit", &["crash"]);
    is_void("fork-and-hang", &["timeout"]);
    is_void("fork-chain", &["timeout"]);
    for mode in ["fork-and-go-on", "zombies"] {
        let played = play(mode, &[]);
        played.went_well(mode);
        assert_eq!(played.voids(), [], "{mode}");
    }
}

#[test]
fn a_verifier_that_writes_without_end_is_cut_off() {
    is_void("flood", &["output_limit"]);
    is_void("flood-lines", &["protocol"]);
}

#[test]
fn a_verifier_that_answers_wrongly_is_void() {
    for mode in ["wrong-id", "invalid-utf8", "nan", "out-of-range", "wrong-count", "no-json"] {
        is_void(mode, &["protocol"]);
    }
}

#[test]
fn a_verifier_that_answers_twice_is_believed_once_and_never_again() {
    let played = play("twice", &[]);
    played.went_well("twice");
    assert!(played.voids().iter().all(|(reason, _)| reason == "protocol"), "{:?}", played.voids());
}

#[test]
fn a_verifier_that_closes_its_streams_is_void_and_started_again() {
    is_void("close-stdin", &["timeout", "crash"]);
    is_void("close-stdout", &["crash"]);
}

#[test]
fn a_void_group_may_be_judged_again_or_rated_over_the_rest() {
    // Each process misbehaves at its sixth request, so the second judgement is a good one.
    let again = play("nan", &["replay.void_retries=3"]);
    again.went_well("judged again");
    assert!(!again.voids().is_empty());
    assert_eq!(again.ledger()["dropped"]["void"], Value::Null, "{}", again.ledger());
    // Here all four answers of a group are void, so nothing is left to rate and the group goes all the same.
    let rest = play("nan", &["replay.on_void=rate_rest"]);
    rest.went_well("rated over the rest");
    assert!(!rest.voids().is_empty());
}

#[test]
fn a_verifier_that_is_void_too_often_stops_the_run_with_a_clear_word() {
    let played = play("crash", &["verifier.define.bad.processes=1", "replay.max_void_share=0.1", "run.max_steps=400"]);
    assert_eq!(played.output.status.code(), Some(1), "{}", stderr(&played.output));
    let summary = played.run.summary();
    let error = summary["error"].as_str().unwrap();
    assert!(error.contains("void verdicts") && error.contains("replay.max_void_share"), "{error}");
    assert_eq!(processes_with(&played.mark), Vec::<String>::new());
}
