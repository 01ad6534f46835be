//! Whole runs on data that is not a JSONL file in memory: a task, a compressed file, and a set that is read again from disk.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Run, counterpoint, output, root, stderr};

/// The test configuration with another `[data]` section, in a file of its own.
fn config(directory: &std::path::Path, data: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(root().join("tests/data/test.toml")).unwrap();
    let (before, after) = text.split_once("[data]").unwrap();
    let (_, after) = after.split_once("[feed]").unwrap();
    let path = directory.join("config.toml");
    std::fs::write(&path, format!("{before}{data}\n[feed]{after}")).unwrap();
    path
}

#[test]
fn a_task_is_trained_and_evaluated_without_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    let options = "count = 200\nheld_out = 20\ntemplate = \"{input}+{other}=\"\n";
    let task = format!("[data]\ntask = \"compare\"\n[data.task_options]\n{options}");
    // The policy adds such numbers: whether a sum is odd is right for some answers and wrong for others.
    let odd = "verifier.define.odd={kind = \"regex\", pattern = \"[13579]$\", decides = \"match\"}";
    let config = config(scratch.path(), &task);
    let directory = scratch.path().join("run");
    let mut command = counterpoint();
    command.arg("run").arg(&config).arg(format!("run.dir={}", directory.display()));
    command.args(["verifier.name=odd", odd]);
    let done = output(command);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["steps"], 6);
    assert!(summary["accuracy_end"].is_number(), "{summary}");
}

#[test]
fn a_set_that_is_not_held_in_memory_trains_the_same_also_after_a_resume() {
    let exact = ["replay.max_staleness=0", "eval.at_start=false"];
    let held = Run::new(&exact);
    held.succeed(&["run.max_steps=4"]);
    let streamed = Run::new(&exact);
    streamed.succeed(&["data.memory_mib=0", "run.max_steps=2"]);
    streamed.succeed(&["data.memory_mib=0", "run.max_steps=4"]);
    assert!(held.final_weights() == streamed.final_weights(), "the weights differ");
}
