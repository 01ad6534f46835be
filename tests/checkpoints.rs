//! Checkpoints of whole runs: what stays, what a model directory holds, and what a kill costs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{Run, eventually, signal, wait};
use serde_json::Value;

const SETTINGS: [&str; 8] = [
    "replay.max_staleness=0",
    "run.max_steps=16",
    "eval.every=2",
    "checkpoint.every=2",
    "checkpoint.keep=1",
    "checkpoint.dtype=bfloat16",
    "checkpoint.max_shard_size=500KB",
    "learner.learning_rate=3e-4",
];

fn names(dir: &Path) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn link(run: &Run, name: &str) -> String {
    let target: PathBuf = std::fs::read_link(run.dir().join("checkpoints").join(name)).unwrap();
    target.to_str().unwrap().to_owned()
}

/// Nothing lies there but the newest checkpoint and the best of those that were evaluated.
fn assert_newest_and_best(run: &Run) {
    let evaluations = run.lines("eval.jsonl");
    let saved = evaluations.iter().filter(|line| line["step"] != 0);
    let best =
        saved.max_by(|one, other| one["accuracy"].as_f64().unwrap().total_cmp(&other["accuracy"].as_f64().unwrap()));
    let best = best.unwrap();
    let record: Value = serde_json::from_str(&run.read("checkpoints/best.json")).unwrap();
    assert_eq!(record["accuracy"], best["accuracy"]);
    assert_eq!(record["checkpoint"], format!("step-{:06}", best["step"].as_u64().unwrap()));
    assert_eq!(
        (link(run, "best"), link(run, "latest")),
        (record["checkpoint"].as_str().unwrap().to_owned(), "step-000016".to_owned())
    );
    let expected = ["best", "best.json", "latest", &link(run, "best"), "step-000016"].map(str::to_owned);
    assert_eq!(names(&run.dir().join("checkpoints")), expected.into());
}

#[test]
fn a_killed_run_resumes_bit_for_bit_beside_bfloat16_shards_and_keeps_the_newest_and_the_best() {
    let straight = Run::new(&SETTINGS);
    straight.succeed(&[]);
    assert_newest_and_best(&straight);
    let latest = straight.dir().join("checkpoints/latest");
    assert!(latest.join("model-00001-of-00004.safetensors").exists(), "{:?}", names(&latest));
    assert!(straight.read("checkpoints/latest/config.json").contains("\"dtype\": \"bfloat16\""));
    let card = straight.read("checkpoints/latest/README.md");
    assert!(card.starts_with("---\nbase_model: \"arith\"\n"), "{card}");
    assert!(card.contains("| before training | ") && card.contains("| after 16 steps (these) | "), "{card}");
    assert!(card.contains("* `train.jsonl`: ") && !card.contains("configs/"), "{card}");

    let broken = Run::new(&SETTINGS);
    for checkpoint in ["step-000004", "step-000010"] {
        let child = broken.command(&[]).spawn().unwrap();
        // While it is written, or a moment later: wherever the kill falls.
        eventually(checkpoint, || {
            let names = std::fs::read_dir(broken.dir().join("checkpoints")).ok()?.filter_map(Result::ok);
            names
                .map(|entry| entry.file_name())
                .any(|name| name.to_string_lossy().starts_with(checkpoint))
                .then_some(())
        });
        signal(&child, libc::SIGKILL);
        assert_eq!(wait(child).status.code(), None);
    }
    broken.succeed(&[]);
    assert_newest_and_best(&broken);
    let state = |run: &Run| std::fs::read(run.dir().join("checkpoints/latest/state/weights.safetensors")).unwrap();
    assert!(state(&straight) == state(&broken), "the weights differ");
    assert!(straight.read("eval.jsonl").lines().count() == broken.read("eval.jsonl").lines().count());
}

#[test]
fn an_evaluation_that_beats_all_before_is_saved_where_that_is_asked_for() {
    let run = Run::new(&["run.max_steps=6", "eval.every=1", "checkpoint.save_best=true", "checkpoint.keep=100"]);
    run.succeed(&[]);
    let mut best = f64::NEG_INFINITY;
    let mut expected = BTreeSet::from(["step-000006".to_owned()]);
    for line in run.lines("eval.jsonl") {
        let accuracy = line["accuracy"].as_f64().unwrap();
        if accuracy > best && line["step"] != 0 {
            expected.insert(format!("step-{:06}", line["step"].as_u64().unwrap()));
        }
        best = best.max(accuracy);
    }
    let saved: BTreeSet<String> =
        names(&run.dir().join("checkpoints")).into_iter().filter(|n| n.starts_with("step-")).collect();
    assert_eq!(saved, expected);
}
