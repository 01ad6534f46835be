//! Loading takes the memory of the parameters, not of the files as well. A program of its own: a process has one peak.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use counterpoint_policy::{Device, Kind, Layout, ModelConfig, checkpoint::load};
use serde_json::{Value, json};

/// A tensor of the synthetic model.
struct Declared {
    name: String,
    shape: Vec<i64>,
}

/// Every tensor that the model of a directory has.
fn declared(config: &ModelConfig) -> Vec<Declared> {
    let layout = Layout::new(config);
    let parts = layout.entries().iter().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part)));
    parts.map(|(entry, part)| Declared { name: part.name.clone(), shape: entry.part_shape(part) }).collect()
}

/// A file of weights whose data is a hole: it reads as zeros and takes no place on the disk. The last element is not zero.
fn write_sparse(path: &Path, tensors: &[Declared], dtype: &str, last: &[u8]) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for Declared { name, shape } in tensors {
        let begin = end;
        end += shape.iter().product::<i64>() as u64 * last.len() as u64;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = Value::Object(header).to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.seek(SeekFrom::Current(end as i64 - last.len() as i64)).unwrap();
    file.write_all(last).unwrap();
}

/// A line of /proc/self/status, in bytes.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_load_takes_less_than_1_2_times_the_memory_of_the_parameters() {
    let dir = tempfile::tempdir().unwrap();
    // 1 GiB in float32, of which one half is a single tensor.
    let config = json!({
        "model_type": "llama", "vocab_size": 131_072, "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 2048,
        "tie_word_embeddings": true
    });
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let mut tensors = declared(&ModelConfig::from_dir(dir.path()).unwrap());
    let rest = tensors.split_off(1);
    // A shard as wide as the parameters, and one half as wide: 1.0 in both formats.
    let shards = [("model-00001-of-00002.safetensors", &tensors), ("model-00002-of-00002.safetensors", &rest)];
    write_sparse(&dir.path().join(shards[0].0), shards[0].1, "F32", &[0, 0, 0x80, 0x3f]);
    write_sparse(&dir.path().join(shards[1].0), shards[1].1, "BF16", &[0x80, 0x3f]);
    let map = shards.iter().flat_map(|(file, tensors)| tensors.iter().map(|t| (t.name.clone(), Value::from(*file))));
    let index = json!({"weight_map": map.collect::<serde_json::Map<_, _>>()});
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();

    let before = status("VmRSS");
    let (config, flat) = load(dir.path(), Kind::Float, Device::Cpu).unwrap();
    let (parameters, peak) = (config.parameters() as u64 * 4, status("VmHWM"));
    println!(
        "VmRSS before {before}, parameters {parameters}, VmHWM {peak}: {:.3} times",
        peak as f64 / parameters as f64
    );
    assert!(parameters > 1_000_000_000);
    assert!(peak >= parameters, "the peak of {peak} is none");
    // The program and libtorch are counted too.
    assert!(peak < parameters + parameters / 5, "a peak of {peak} bytes for {parameters} of parameters");
    assert_eq!(f64::try_from(flat.sum(Kind::Double)).unwrap(), 2.0, "each file ends in a 1");
    assert_eq!(flat.double_value(&[131_072 * 1024 - 1]), 1.0, "the embedding's last element");
}
