//! What is written, and what is left behind when it cannot be.

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::*;
use crate::checkpoint::load;
use crate::{Device, Kind, Tensor};

fn weights(dir: &Path) -> Tensor {
    load(dir, Kind::Float, Device::Cpu).unwrap().1
}

/// Names of what lies in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn shards_hold_what_one_file_holds() {
    let bytes = Fixture::model("llama").bytes();
    let (scratch, whole) = converted(&bytes, WeightFormat::Float32);
    let cut = scratch.path().join("cut");
    Content::read(&bytes).unwrap().write(&cut, WeightFormat::Float32, 600).unwrap();
    let shards = names(&cut).into_iter().filter(|name| name.ends_with(".safetensors")).count();
    assert!(shards >= 3 && !cut.join("model.safetensors").exists(), "{:?}", names(&cut));
    assert_eq!(weights(&cut), weights(&whole));
    let index: Value = serde_json::from_slice(&fs::read(cut.join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 4 * weights(&whole).numel());
}

#[test]
fn rows_of_q_and_k_are_put_back_in_llama_and_nowhere_else() {
    for (architecture, wanted) in [("llama", [0.0, 16.0, 8.0, 24.0]), ("qwen2", [0.0, 8.0, 16.0, 24.0])] {
        let (_scratch, dir) = converted(&Fixture::model(architecture).bytes(), WeightFormat::Float32);
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let keys = file.tensor("model.layers.0.self_attn.k_proj.weight").unwrap();
        let firsts = keys.data().chunks_exact(8 * 4).map(|row| f32::from_le_bytes([row[0], row[1], row[2], row[3]]));
        // Row i of the file begins with 8 i.
        assert_eq!(firsts.collect::<Vec<_>>(), wanted, "{architecture}");
    }
}

#[test]
fn biases_of_a_llama_go_with_their_rows() {
    let biased = ["attn_q", "attn_k", "attn_v", "attn_output"].into_iter().zip([8, 4, 4, 8]);
    let file =
        biased.fold(Fixture::model("llama"), |file, (name, rows)| file.counted(&format!("blk.0.{name}.bias"), &[rows]));
    let (_scratch, dir) = converted(&file.bytes(), WeightFormat::Float32);
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let keys = file.tensor("model.layers.0.self_attn.k_proj.bias").unwrap();
    assert_eq!((keys.shape(), keys.data()), (&[4][..], floats(&[0.0, 2.0, 1.0, 3.0]).as_slice()));
    assert!(crate::ModelConfig::from_dir(&dir).unwrap().output_bias);
}

#[test]
fn halves_are_rounded_and_what_they_cannot_hold_is_refused() {
    let third = 1.0 / 3.0_f32;
    let file = Fixture::model("llama").tensor("output_norm.weight", &[8], 0, floats(&[third; 8]));
    for (format, dtype, wanted) in
        [(WeightFormat::Bfloat16, Dtype::BF16, 0x3eab_u16), (WeightFormat::Float16, Dtype::F16, 0x3555)]
    {
        let (_scratch, dir) = converted(&file.bytes(), format);
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let norm = SafeTensors::deserialize(&bytes).unwrap();
        let norm = norm.tensor("model.norm.weight").unwrap();
        assert_eq!((norm.dtype(), &norm.data()[..2]), (dtype, &wanted.to_le_bytes()[..]));
        assert_eq!(weights(&dir).numel() as u64, Content::read(&file.bytes()).unwrap().parameters());
    }
    let scratch = tempfile::tempdir().unwrap();
    for (value, format) in [(7e4, WeightFormat::Float16), (f32::NAN, WeightFormat::Float32)] {
        let file = Fixture::model("llama").tensor("output_norm.weight", &[8], 0, floats(&[value; 8]));
        let bytes = file.bytes();
        let out = scratch.path().join("model");
        let error = Content::read(&bytes).unwrap().write(&out, format, SHARD_BYTES).unwrap_err().to_string();
        assert!(error.contains("model.norm.weight") && error.contains(format.name()), "{error}");
        assert_eq!(names(scratch.path()), [""; 0], "something was left behind");
    }
}

#[test]
fn a_directory_that_is_there_is_not_touched() {
    let bytes = Fixture::model("qwen2").bytes();
    let (scratch, out) = converted(&bytes, WeightFormat::Float32);
    let before = names(&out);
    let file = scratch.path().join("model.gguf");
    fs::write(&file, &bytes).unwrap();
    let error = convert(&file, &out, None).unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
    assert_eq!(names(&out), before);
    let deeper = scratch.path().join("new/folder/model");
    let summary = convert(&file, &deeper, None).unwrap();
    assert_eq!(names(&deeper), before);
    assert_eq!((summary.format, summary.tokens, summary.chat_template), (WeightFormat::Float32, 6, false));
    assert_eq!(summary.parameters, 8 * 6 + 8 * 3 + 8 * 8 * 2 + 8 * 4 * 2 + 6 * 8 * 3 + 16);
}

#[test]
fn both_versions_and_other_alignments_are_read() {
    for (version, alignment) in [(2, 32), (3, 8), (3, 256)] {
        let mut file = Fixture::model("llama").count("general.alignment", alignment as u32);
        (file.version, file.alignment) = (version, alignment);
        converted(&file.bytes(), WeightFormat::Float32);
    }
}

#[test]
fn unknown_keys_are_noted_and_unused_tokens_left_out() {
    let file = Fixture::model("llama")
        .count("llama.attention.novelty", 1)
        .integers("tokenizer.ggml.token_type", &[3, 3, 1, 1, 1, 5])
        .without("tokenizer.ggml.pre");
    let bytes = file.bytes();
    let content = Content::read(&bytes).unwrap();
    assert!(content.notes.len() == 2 && content.notes[0].contains("llama.attention.novelty"), "{:?}", content.notes);
    assert!(content.notes[1].contains("tokenizer.ggml.pre"), "{:?}", content.notes);
    let vocabulary = content.tokenizer.tokenizer["model"]["vocab"].as_object().unwrap();
    assert_eq!((vocabulary.len(), content.model.vocab), (5, 6));
}
