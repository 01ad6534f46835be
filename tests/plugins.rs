//! A user's own verifier, in a program of the user's own, without a change to any crate of ours.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Run, output, pipe, root, stderr, stdout};

/// Cargo builds the examples beside the tests.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let path: PathBuf = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run the tests with `cargo test`, which builds the examples", path.display());
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}

#[test]
fn a_registered_verifier_judges_lines_on_a_pipe() {
    let mut command = example("parity_verifier");
    command.args(["verify", "--verifier", "parity"]);
    let lines = "{\"response\":\"7\",\"answer\":\"3\"}\n{\"response\":\"8\",\"answer\":\"3\"}\n{\"response\":\"x\",\"answer\":\"3\"}\n";
    let output = pipe(command, lines);
    assert!(output.status.success(), "{}", stderr(&output));
    let verdicts: Vec<String> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["verdict"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(verdicts, ["correct", "incorrect", "incorrect"]);
}

#[test]
fn a_registered_verifier_drives_a_whole_run() {
    let run = Run::new(&[]);
    let mut command = example("parity_verifier");
    command.args(["run", "tests/data/test.toml", "verifier.name=parity", "run.max_steps=3"]);
    command.arg(format!("run.dir={}", run.dir().display()));
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(run.summary()["steps"], 3);
    let exposition = run.read("metrics.prom");
    assert!(exposition.contains("counterpoint_verdicts_total{verifier=\"parity\""), "{exposition}");
}

#[test]
fn a_verifier_actor_of_ones_own_drives_a_whole_run() {
    let run = Run::new(&[]);
    let mut command = example("batching_actor");
    command.args(["run", "tests/data/test.toml", "verifier.actor=batching", "run.max_steps=3", "eval.every=2"]);
    command.arg(format!("run.dir={}", run.dir().display()));
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(run.summary()["steps"], 3);
    assert!(run.read("metrics.prom").contains("counterpoint_groups_total{outcome=\"trained\""));
}

#[test]
fn an_actor_that_nobody_registered_is_refused_by_its_key() {
    let run = Run::new(&[]);
    let output = run.finish(&["verifier.actor=batching"]);
    assert_eq!(output.status.code(), Some(2));
    let expected = "verifier.actor: there is no verifier actor `batching`; known: `pool`";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[test]
fn the_plain_binary_does_not_know_the_example_and_says_so() {
    let run = Run::new(&[]);
    let output = run.finish(&["verifier.name=parity"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("verifier.name") && stderr(&output).contains("parity"), "{}", stderr(&output));
}

#[test]
fn the_python_example_judges_lines_and_passes_the_self_test() {
    let scratch = tempfile::tempdir().unwrap();
    let (config, known) = (scratch.path().join("mine.toml"), scratch.path().join("known.jsonl"));
    let section = "[verifier]\nname = \"mine\"\n[verifier.define.mine]\nkind = \"process\"\n";
    let text = format!("{section}command = [\"python3\", \"examples/parity_verifier.py\"]\n");
    std::fs::write(&config, text).unwrap();
    let right = "{\"response\":\"6\",\"answer\":\"4\",\"expected\":true}\n";
    std::fs::write(&known, format!("{right}{{\"response\":\"5\",\"answer\":\"4\",\"expected\":false}}\n")).unwrap();

    let mut verify = common::counterpoint();
    verify.args(["verify", "--verifier"]).arg(&config);
    let judged = pipe(verify, "{\"response\":\"7\",\"answer\":\"3\"}\n{\"response\":\"8\",\"answer\":\"3\"}\n");
    assert_eq!(stdout(&judged), "{\"verdict\":\"correct\"}\n{\"verdict\":\"incorrect\"}\n", "{}", stderr(&judged));

    let mut test = common::counterpoint();
    test.args(["verify", "--self-test"]).arg(&config).arg("--input").arg(&known);
    let tested = output(test);
    assert!(tested.status.success(), "{}{}", stdout(&tested), stderr(&tested));
    assert!(stdout(&tested).contains("ok    slow         2 with the expected verdict"), "{}", stdout(&tested));
}

#[test]
fn an_objective_of_ones_own_drives_a_whole_run_and_its_options_are_checked() {
    let run = Run::new(&[]);
    let with = |settings: &[&str]| {
        let mut command = example("cispo_objective");
        command.args(["run", "tests/data/test.toml", "objective.name=cispo", "run.max_steps=3"]);
        command.arg(format!("run.dir={}", run.dir().display())).args(settings);
        output(command)
    };
    let refused = with(&["objective.options={ high = -1.0 }"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("objective.options: high: expected a number >= 0"), "{}", stderr(&refused));
    let trained = with(&["objective.options={ high = 0.5 }"]);
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    assert_eq!(run.summary()["steps"], 3);
    for line in run.lines("metrics.jsonl") {
        assert!(line["grad_norm"].as_f64().unwrap() > 0.0, "{line}");
    }
}
