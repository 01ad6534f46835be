//! Runs that train an adapter, and `counterpoint merge`: through the binary only.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;

use common::{Run, counterpoint, eventually, output, pipe, signal, stderr, stdout, wait};

const LORA: [&str; 5] =
    ["lora.rank=4", "lora.alpha=8", "learner.learning_rate=1e-3", "replay.max_staleness=0", "run.max_steps=30"];
const BASE: &str = "configs/arith";

fn adapter(run: &Run) -> Vec<u8> {
    std::fs::read(run.dir().join("checkpoints/latest/adapter_model.safetensors")).unwrap()
}

fn merge(adapter: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let mut command = counterpoint();
    command.args(["merge", "--base", BASE, "--adapter"]).arg(adapter).arg("--out").arg(out).args(more);
    output(command)
}

/// What `score` says of some tokens under a model.
fn scores(model: &Path) -> String {
    let mut command = counterpoint();
    command.args(["score", "--device", "cpu", "--model"]).arg(model);
    let scored = pipe(command, "{\"ids\":[4,2,12,8,9,15,10,9,1]}\n");
    assert_eq!(scored.status.code(), Some(0), "{}", stderr(&scored));
    stdout(&scored)
}

#[test]
fn synchronous_runs_of_one_seed_end_in_the_same_adapter_over_a_kill_too() {
    let settings = [&LORA[..], &["lora.dropout=0.1", "checkpoint.every=2"]].concat();
    let (one, other) = (Run::new(&settings), Run::new(&settings));
    let summary = one.succeed(&[]);
    let child = other.command(&[]).spawn().unwrap();
    eventually("some steps", || {
        let text = std::fs::read_to_string(other.dir().join("metrics.jsonl")).ok()?;
        (text.lines().count() >= 3).then_some(())
    });
    signal(&child, libc::SIGKILL);
    assert_eq!(wait(child).status.code(), None);
    other.succeed(&[]);
    assert!(adapter(&one) == adapter(&other), "the adapters differ");
    let different = Run::new(&settings);
    different.succeed(&["run.seed=2"]);
    assert!(adapter(&one) != adapter(&different), "the seed has no effect");
    assert_eq!(summary["status"], "done");
}

#[test]
fn merged_and_separate_weights_train_alike_and_the_separate_ones_are_small() {
    let bytes = |publish: &str| {
        let run = Run::new(&[&LORA[..], &[publish]].concat());
        run.succeed(&[]);
        for line in run.lines("metrics.jsonl") {
            let (mismatch, tokens) =
                (line["mismatch_max"].as_f64().unwrap(), line["mismatch_tokens"].as_u64().unwrap());
            assert!(tokens > 0 && mismatch < 1e-4, "{line}");
        }
        let exposition = run.read("metrics.prom");
        let sent = exposition.lines().find_map(|l| l.strip_prefix("counterpoint_weight_sync_bytes_total "));
        sent.unwrap().parse::<f64>().unwrap()
    };
    let (merged, separate) = (bytes("lora.publish=merged"), bytes("lora.publish=separate"));
    assert!(separate > 0.0 && separate < merged / 10.0, "{separate} of {merged} bytes");
}

#[test]
fn a_merged_adapter_is_a_model_that_scores_as_the_adapter_does() {
    let run = Run::new(&LORA);
    run.succeed(&[]);
    let checkpoint = run.dir().join("checkpoints/latest");
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("merged");
    let merged = merge(&checkpoint, &out, &[]);
    assert_eq!(merged.status.code(), Some(0), "{}", stderr(&merged));
    assert!(stdout(&merged).contains("28 of them adapted"), "{}", stdout(&merged));
    assert_eq!(scores(&out), scores(&checkpoint));
    assert_ne!(scores(&out), scores(Path::new(BASE)));
    let half = scratch.path().join("half");
    assert_eq!(merge(&checkpoint, &half, &["--dtype", "bfloat16"]).status.code(), Some(0));
    let size = |dir: &Path| std::fs::metadata(dir.join("model.safetensors")).unwrap().len();
    assert!(size(&half) < size(&out) * 6 / 10);
    assert!(std::fs::read_to_string(half.join("config.json")).unwrap().contains("bfloat16"));
    // A run can start from the model, and says what to do about the adapter.
    let from = |start: &Path| Run::new(&["run.max_steps=2"]).finish(&[&format!("model.path={}", start.display())]);
    assert_eq!(from(&out).status.code(), Some(0));
    let refused = from(&checkpoint);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("is a LoRA adapter; fold it into its base first"), "{}", stderr(&refused));
}

#[test]
fn what_cannot_be_merged_or_trained_costs_one_line() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let refused = merge(Path::new(BASE), &out, &[]);
    assert_eq!((refused.status.code(), stderr(&refused).lines().count()), (Some(2), 1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("holds no adapter_config.json") && !out.exists());
    for (setting, word) in [
        ("lora.target_modules=lm_head", "\"lm_head\" is none of q_proj"),
        ("lora.alpha=0", "lora.alpha: must be > 0"),
        ("lora.publish=never", "lora.publish"),
        ("learner.weight_decay_groups.embeddings=0.1", "learner.weight_decay_groups: an adapter"),
        ("learner.frozen=[\"mlp\"]", "learner.frozen: with an adapter"),
    ] {
        let output = Run::new(&["lora.rank=4"]).finish(&[setting]);
        assert_eq!(output.status.code(), Some(2), "{setting}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{setting}: {}", stderr(&output));
    }
}
