//! Saving takes a few megabytes, not a second copy of the weights. A program of its own: a process has one peak.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;

use counterpoint_policy::checkpoint::{Export, save};
use counterpoint_policy::{Device, Kind, ModelConfig, Tensor};
use serde_json::json;

/// The highest resident memory so far, bytes.
fn peak() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_save_takes_no_second_copy_of_the_weights() {
    let source = tempfile::tempdir().unwrap();
    // 200 MB in float32, of which one third is a single tensor.
    let config = json!({
        "model_type": "llama", "vocab_size": 65_536, "hidden_size": 256, "intermediate_size": 8192,
        "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 2048,
        "tie_word_embeddings": true
    });
    fs::write(source.path().join("config.json"), config.to_string()).unwrap();
    let config = ModelConfig::from_dir(source.path()).unwrap();
    let flat = Tensor::ones([config.parameters()], (Kind::Float, Device::Cpu));
    let parameters = config.parameters() as u64 * 4;
    assert!(parameters > 180_000_000);
    // What libtorch sets up at its first conversions is no copy of the weights.
    let warm = Tensor::ones([1 << 21], (Kind::Float, Device::Cpu));
    drop(warm.to_kind(Kind::BFloat16));
    for (kind, name) in [(Kind::BFloat16, "narrow"), (Kind::Float, "wide")] {
        let before = peak();
        let export = Export { kind, max_shard_bytes: 50_000_000 };
        save(&source.path().join(name), source.path(), &config, &flat, export).unwrap();
        let more = peak() - before;
        println!("{name}: {more} bytes more for {parameters} bytes of weights");
        assert!(more < 24 << 20, "saving {parameters} bytes took {more} bytes more");
    }
}
