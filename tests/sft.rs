//! `counterpoint sft`: the warm-up of a base model on given answers, and what goes on from it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Run, counterpoint, output, stderr};
use serde_json::Value;

fn sft(out: &std::path::Path, settings: &[&str]) -> std::process::Output {
    let mut command = counterpoint();
    command.args(["sft", "tests/data/test.toml", "--out"]).arg(out).args(settings);
    output(command)
}

#[test]
fn given_answers_become_likelier_and_a_run_goes_on_from_the_model() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("warm");
    let done = sft(&out, &["run.max_steps=30", "feed.prompts_per_step=32"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let lines = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 30);
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    assert!(mean(&losses[20..]) < mean(&losses[..10]) - 0.02, "{losses:?}");
    let again = sft(&out, &[]);
    assert_eq!(again.status.code(), Some(2), "what is there is not overwritten");
    assert!(stderr(&again).contains("exists already; name a new directory"), "{}", stderr(&again));
    let run = Run::new(&["run.max_steps=2", "eval.at_start=false"]);
    let summary = run.succeed(&[&format!("model.path={}", out.join("latest").display())]);
    assert_eq!(summary["steps"], 2);
}

#[test]
fn what_is_wrong_with_the_data_is_said() {
    let scratch = tempfile::tempdir().unwrap();
    let no_column = sft(&scratch.path().join("a"), &["--response-column", "solution"]);
    assert_eq!(no_column.status.code(), Some(2));
    assert!(stderr(&no_column).contains("has no text in column \"solution\""), "{}", stderr(&no_column));
    let too_long = sft(&scratch.path().join("b"), &["generator.max_new_tokens=1"]);
    assert_eq!(too_long.status.code(), Some(2));
    assert!(stderr(&too_long).contains("no question has an answer that fits"), "{}", stderr(&too_long));
}
