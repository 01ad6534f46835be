//! The crate against real model directories: a Qwen2 and a tied Llama of two layers with random weights, the arithmetic
//! policy of the quickstart, and the golden models of every family. One program, because each links libtorch.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod checkpoint;
mod families;
mod golden;
mod hostile;
mod kernels;
mod lora;
mod peft;
mod score;
mod segments;
mod stream;
mod tokenizer;

use std::path::{Path, PathBuf};

use counterpoint_policy::{Device, Kind, Layout, ModelConfig, Tensor, Weights, checkpoint::load};

/// All models of the tests.
const MODELS: [&str; 3] = ["tiny-qwen2", "tiny-llama", "arith"];

/// Reference values of a model.
fn data(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(model)
}

/// The directory of a model.
fn model_dir(model: &str) -> PathBuf {
    match model {
        "arith" => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/arith"),
        other => data(other),
    }
}

/// A model in float32 on the CPU.
fn model(name: &str) -> (ModelConfig, Tensor, Weights) {
    let (config, flat) = load(&model_dir(name), Kind::Float, Device::Cpu).unwrap();
    let weights = Weights::view(&config, &Layout::new(&config), &flat).unwrap();
    (config, flat, weights)
}

/// A private copy of a model's directory that a test may spoil.
fn copy_of(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model_dir(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::write(copy.path().join(path.file_name().unwrap()), std::fs::read(&path).unwrap()).unwrap();
    }
    copy
}

/// The largest absolute difference.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    f64::try_from((a - b).abs().max()).unwrap()
}
