//! Layers computed again for backward take less memory. A program of its own: a process has one peak.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::sync::Arc;

use common::{batch, completion, group};
use counterpoint_learner::{Learner, LearnerConfig, LearnerSetup, ObjectiveConfig};
use counterpoint_policy::{Device, Kind, Layout, ModelConfig, Tensor};
use counterpoint_rollout::{Batch, PolicyVersion, Verdict};
use serde_json::json;

/// A narrow model of many layers: its activations are most of what a step needs.
fn learner(activation_checkpointing: bool) -> Learner {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "model_type": "llama", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 24,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": true,
    });
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let model = Arc::new(ModelConfig::from_dir(dir.path()).unwrap());
    let numel = Layout::new(&model).numel();
    let flat = Tensor::arange(numel, (Kind::Float, Device::Cpu)).sin() * 0.1;
    let config = LearnerConfig { activation_checkpointing, micro_batch_tokens: Some(8192), ..LearnerConfig::default() };
    Learner::new(LearnerSetup {
        model,
        flat,
        lora: None,
        version: PolicyVersion(0),
        optimizer: None,
        config,
        objective: ObjectiveConfig::default(),
        temperature: 1.0,
        total_steps: None,
        reference: None,
    })
    .unwrap()
}

/// Some 1,000 tokens.
fn work() -> Batch {
    let answer = |seed: u32| completion(&(0..250).map(|i| (i * 7 + seed) % 60).collect::<Vec<u32>>(), 0);
    let groups = (0..2).map(|id| {
        let answers = vec![(answer(id), Verdict::Correct), (answer(id + 20), Verdict::Incorrect)];
        group(u64::from(id), vec![3; 8], answers)
    });
    batch(0, groups.collect())
}

/// A line of /proc/self/status, in bytes.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The most memory that a step has held beyond what was held before it.
fn peak_of_a_step(activation_checkpointing: bool) -> u64 {
    let mut learner = learner(activation_checkpointing);
    let batch = work();
    fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak becomes what is held now
    let before = status("VmRSS");
    learner.train_step(&batch).unwrap();
    status("VmHWM").saturating_sub(before)
}

#[test]
fn a_step_that_computes_its_layers_again_peaks_at_a_third_of_the_memory_at_most() {
    // What libraries take for good at their first use is nobody's.
    peak_of_a_step(true);
    // First, so that memory which the allocator keeps cannot flatter it.
    let again = peak_of_a_step(true);
    let kept = peak_of_a_step(false);
    let mib = |bytes: u64| bytes >> 20;
    println!("one step: {} MiB with all activations kept, {} MiB with layers computed again", mib(kept), mib(again));
    assert!(3 * again < kept, "{} MiB against {} MiB", mib(again), mib(kept));
}
