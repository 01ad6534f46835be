//! `weight_sync.directory`: what other processes find there, and what they are told when it is damaged.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;
use std::process::Output;

use common::{Run, counterpoint, pipe, stderr, stdout};
use counterpoint_rollout::PolicyVersion;
use counterpoint_weight_sync::verify;

fn publishing_to(directory: &Path) -> String {
    format!("weight_sync.directory={}", directory.display())
}

fn score(model: &Path) -> Output {
    let mut command = counterpoint();
    command.args(["score", "--device", "cpu", "--model"]).arg(model);
    pipe(command, "{\"prompt\":\"15+93=\",\"completion\":\"108\"}\n")
}

#[test]
fn another_process_opens_what_a_run_published_and_nothing_that_was_damaged_since() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("weights");
    let run = Run::new(&[&publishing_to(&directory)]);
    run.succeed(&[]);
    let latest = directory.join("latest");
    assert_eq!(verify(&latest).unwrap(), PolicyVersion(6), "the last weights are waited for");
    assert!(std::fs::read(latest.join("model.safetensors")).unwrap() == run.final_weights());
    assert!(std::fs::read_dir(&directory).unwrap().count() <= 3, "two publications and the link");
    assert!(run.read("metrics.prom").contains("counterpoint_weight_directory_total{outcome=\"complete\"}"));

    let scored = score(&latest);
    assert_eq!(scored.status.code(), Some(0), "{}", stderr(&scored));
    assert_eq!(stdout(&scored), stdout(&score(&run.dir().join("checkpoints/latest"))));

    // Where the run publishes is no part of what it learns.
    let elsewhere = scratch.path().join("elsewhere");
    run.succeed(&["run.max_steps=7", &publishing_to(&elsewhere)]);
    assert_eq!(verify(&elsewhere.join("latest")).unwrap(), PolicyVersion(7));

    let weights = latest.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let refused = score(&latest);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("version-000006/model.safetensors: its content is not what was published"));
}

#[test]
fn of_an_adapter_that_generators_get_alone_the_directory_gets_it_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("weights");
    Run::new(&[&publishing_to(&directory), "lora.rank=4", "lora.publish=separate"]).succeed(&[]);
    let latest = directory.join("latest");
    assert_eq!(verify(&latest).unwrap(), PolicyVersion(6));
    assert!(latest.join("adapter_model.safetensors").exists() && !latest.join("model.safetensors").exists());
    let scored = score(&latest);
    assert_eq!(scored.status.code(), Some(0), "{}", stderr(&scored));
}

#[test]
fn a_directory_that_cannot_be_written_to_stops_the_run_before_it_starts() {
    let run = Run::new(&["weight_sync.directory=/proc/sys/kernel"]);
    let refused = run.finish(&[]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("weight_sync.directory: cannot be written to: /proc/sys/kernel/latest.tmp: "));
}
