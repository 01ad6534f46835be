//! Bad input gets one clear line: what is wrong, where, what would be right; exit 2 or 1; never a backtrace.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::net::TcpListener;

use common::{Run, counterpoint, output, pipe, stderr, stdout};

/// Runs, expects the exit code, and returns the complaint: one line.
fn complaint(run: &Run, more: &[&str], code: i32) -> String {
    let output = run.finish(more);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked") && !text.contains("stack backtrace"), "{text}");
    let errors: Vec<&str> = text.lines().filter(|l| l.contains("error")).collect();
    assert_eq!(errors.len(), 1, "one line is wanted:\n{text}");
    errors[0].to_owned()
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let said = complaint(&Run::new(&[]), &["learner.learning_rat=1e-4"], 2);
    assert!(said.contains("learner.learning_rat") && said.contains("learner.learning_rate"), "{said}");
}

#[test]
fn a_broken_config_file_is_named_with_its_line() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("broken.toml");
    std::fs::write(&config, "[run]\nseed = 1\nmax_steps = \"many\"\n").unwrap();
    let mut command = counterpoint();
    command.arg("check").arg(&config);
    let output = output(command);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("broken.toml:3") && said.contains("run.max_steps"), "{said}");
}

#[test]
fn a_missing_model_file_is_named() {
    let said = complaint(&Run::new(&[]), &["model.path=/nowhere/model"], 2);
    assert!(said.contains("/nowhere/model"), "{said}");
}

#[test]
fn a_bad_line_of_data_is_named_by_file_and_line() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("bad.jsonl");
    std::fs::write(&data, "{\"prompt\":\"1+1=\",\"answer\":\"2\"}\n{\"prompt\":\n").unwrap();
    let said = complaint(&Run::new(&[]), &[&format!("data.train={}", data.display())], 2);
    assert!(said.contains("bad.jsonl:2"), "{said}");
}

#[test]
fn a_port_in_use_is_said_before_any_work() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = complaint(&Run::new(&[]), &[&format!("telemetry.port={port}")], 2);
    assert!(said.contains("in use") && said.contains(&port.to_string()), "{said}");
}

#[test]
fn settings_that_cannot_flow_are_refused_with_the_numbers() {
    let said = complaint(&Run::new(&[]), &["weight_sync.every=4", "replay.max_staleness=2"], 2);
    assert!(said.contains("weight_sync.every") && said.contains("replay.max_staleness"), "{said}");
}

#[test]
fn sampling_that_the_learner_could_not_follow_is_refused() {
    let said = complaint(&Run::new(&[]), &["generator.top_p=0.9"], 2);
    assert!(said.contains("generator.top_p") && said.contains("temperature"), "{said}");
}

#[test]
fn a_generators_device_must_be_one_and_must_be_there() {
    let said = complaint(&Run::new(&[]), &["generator.devices=[\"cpu\", \"tpu\"]"], 2);
    assert!(
        said.contains("generator.devices") && said.contains("\"tpu\"") && said.contains("\"cuda:INDEX\""),
        "{said}"
    );
    let said = complaint(&Run::new(&[]), &["generator.devices=[\"cuda:4096\"]"], 2);
    assert!(said.contains("generator.devices: device cuda:4096"), "{said}");
}

#[test]
fn two_runs_in_one_directory_are_refused() {
    let run = Run::new(&["run.max_steps=400"]);
    let mut first = run.command(&[]).spawn().unwrap();
    common::eventually("the first run's address", || std::fs::read_to_string(run.dir().join("address")).ok());
    let said = complaint(&run, &[], 2);
    assert!(said.contains(&first.id().to_string()), "the pid is named: {said}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_bad_line_on_a_pipe_ends_the_command_after_what_came_before() {
    let mut command = counterpoint();
    command.args(["verify", "--verifier", "exact"]);
    let good = "{\"response\":\"4\",\"answer\":\"4\"}\n{\"response\":\"5\",\"answer\":\"4\"}\n";
    let output = pipe(command, &format!("{good}not json\n"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().count(), 2, "{}", stdout(&output));
    assert!(stderr(&output).contains("line 3"), "{}", stderr(&output));
}

#[test]
fn the_papers_settings_are_accepted_and_explained() {
    let mut command = counterpoint();
    command.args(["check", "configs/nft-qwen2.5-math-7b.toml"]);
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("GiB"), "memory is estimated: {said}");
}

#[test]
fn numbers_beyond_all_reason_are_refused_and_never_a_panic() {
    let said = complaint(&Run::new(&[]), &["weight_sync.deadline_seconds=1e300"], 2);
    assert!(said.contains("weight_sync.deadline_seconds"), "{said}");
    let said = complaint(&Run::new(&[]), &["run.stall_seconds=1e300"], 2);
    assert!(said.contains("run.stall_seconds"), "{said}");
    let said = complaint(&Run::new(&[]), &["replay.max_staleness=4000000000"], 2);
    assert!(said.contains("replay.max_staleness"), "{said}");
}
