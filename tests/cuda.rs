//! What only a GPU can show: the CPU is the measure. Ignored where none is lent; `make test-cuda` runs them, one at a time.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use common::{Run, counterpoint, pipe, root, stderr, stdout};
use counterpoint_policy::streams::{self, Urgency};
use counterpoint_policy::{Device, Kind, Layout, ModelConfig, Snapshot, Tensor, checkpoint, device};
use counterpoint_rollout::PolicyVersion;
use serde_json::Value;

const DEVICES: [&str; 2] = ["cpu", "cuda"];

/// The JSON lines that a command makes of the first questions of the quickstart, with the tiny policy.
fn lines(command: &str, more: &[&str], input: &str) -> Vec<Value> {
    let mut program = counterpoint();
    program.args([command, "--model", "configs/arith"]).args(more);
    let output = pipe(program, input);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn questions(count: usize) -> Vec<Value> {
    let file = std::fs::read_to_string(root().join("configs/arith/eval.jsonl")).unwrap();
    file.lines().take(count).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(of: &Value) -> Vec<f64> {
    of.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn given_answers_score_as_on_a_cpu() {
    let input: Vec<String> = questions(64)
        .iter()
        .map(|q| serde_json::json!({"prompt": q["prompt"], "completion": q["answer"]}).to_string())
        .collect();
    let [cpu, gpu] = DEVICES.map(|device| lines("score", &["--device", device], &input.join("\n")));
    assert_eq!((cpu.len(), gpu.len()), (64, 64));
    for (cpu, gpu) in cpu.iter().zip(&gpu) {
        for (one, other) in numbers(&cpu["logprobs"]).iter().zip(numbers(&gpu["logprobs"])) {
            assert!((one - other).abs() < 1e-4, "{one} on the CPU, {other} on the GPU");
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_likeliest_answers_are_those_of_a_cpu() {
    let input: Vec<String> =
        questions(256).iter().map(|q| serde_json::json!({"prompt": q["prompt"]}).to_string()).collect();
    let options = ["--temperature", "0", "--max-new-tokens", "6", "--device"];
    let [cpu, gpu] = DEVICES.map(|device| {
        let more: Vec<&str> = options.iter().copied().chain([device]).collect();
        lines("generate", &more, &input.join("\n"))
    });
    let alike = cpu.iter().zip(&gpu).filter(|(cpu, gpu)| cpu["tokens"] == gpu["tokens"]).count();
    // Two logits may be as good as equal.
    assert!(cpu.len() == 256 && alike >= 254, "{alike} of {} are alike", cpu.len());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn synchronous_steps_change_the_weights_as_on_a_cpu() {
    let trained = DEVICES.map(|device| {
        let device = format!("run.device={device}");
        let run = Run::new(&[&device, "replay.max_staleness=0", "run.max_steps=4", "learner.compute_dtype=float32"]);
        assert_eq!(run.succeed(&[])["status"], "done");
        let latest = run.dir().join("checkpoints/latest");
        checkpoint::load(&latest, Kind::Float, Device::Cpu).unwrap().1
    });
    let (_, start) = checkpoint::load(&root().join("configs/arith"), Kind::Float, Device::Cpu).unwrap();
    let [cpu, gpu] = trained.map(|flat| flat - &start);
    let off = (&cpu - &gpu).norm().double_value(&[]) / cpu.norm().double_value(&[]);
    // Adam takes a step of the same size for a gradient next to nothing, whose sign rounding decides.
    assert!(off < 0.05, "the changes of the weights differ by {off} of their length");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn an_asynchronous_run_on_streams_of_their_own_trains_what_it_should() {
    for compute in ["float32", "bfloat16"] {
        let compute_dtype = format!("learner.compute_dtype={compute}");
        let run = Run::new(&["run.device=cuda", "run.max_steps=40", "generator.count=2", &compute_dtype]);
        let summary = run.succeed(&[]);
        assert_eq!((&summary["status"], &summary["steps"]), (&Value::from("done"), &Value::from(40)), "{compute}");
        assert!(summary["max_staleness_trained"].as_u64().unwrap() <= 2);
        let metrics = run.read("metrics.prom");
        let largest = metrics.lines().find_map(|l| l.strip_prefix("counterpoint_logprob_mismatch_max ")).unwrap();
        let (largest, bound): (f64, f64) = (largest.parse().unwrap(), if compute == "float32" { 1e-3 } else { 0.5 });
        assert!(largest < bound, "{compute}: sampler and learner differ by {largest}");
    }
}

/// A model of 64 million parameters all of the same value, so that copying it takes long enough to be overtaken.
fn uniform() -> (Arc<ModelConfig>, Tensor) {
    let (config, _) = checkpoint::load(&root().join("configs/arith"), Kind::Float, Device::Cpu).unwrap();
    let config = ModelConfig { vocab_size: 500_000, ..config };
    let flat = Tensor::zeros([Layout::new(&config).numel()], (Kind::Float, Device::Cuda(0)));
    (Arc::new(config), flat)
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_snapshot_is_whole_on_the_stream_of_another_thread_and_stays_so() {
    device::choose("cuda").unwrap();
    const VERSIONS: u64 = 200;
    let (snapshots, received) = sync_channel::<Snapshot>(2);
    let writer = std::thread::spawn(move || {
        streams::enter(Device::Cuda(0), Urgency::Normal).unwrap();
        let (config, mut flat) = uniform();
        for version in 1..=VERSIONS {
            let _ = flat.fill_(version as f64);
            snapshots.send(Snapshot::new(Arc::clone(&config), PolicyVersion(version), flat.copy()).unwrap()).unwrap();
        }
    });
    streams::enter(Device::Cuda(0), Urgency::High).unwrap();
    let mut seen = Vec::new();
    for snapshot in &received {
        snapshot.arrive().unwrap();
        // Asked for here, computed whenever the device gets to it; the memory is dropped before that.
        let [low, high] = [snapshot.flat().min(), snapshot.flat().max()];
        seen.push((snapshot.version().0, low, high));
    }
    writer.join().unwrap();
    assert_eq!(seen.len() as u64, VERSIONS);
    for (version, low, high) in seen {
        assert_eq!((low.double_value(&[]), high.double_value(&[])), (version as f64, version as f64));
    }
    assert!(streams::memory(Device::Cuda(0)).unwrap().unwrap().peak > 0);
}
