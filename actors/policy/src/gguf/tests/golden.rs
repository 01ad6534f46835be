//! Against llama.cpp's Python package and transformers' tokenizers: `tests/data/gguf/make.py` made the files.

use std::collections::BTreeSet;

use safetensors::SafeTensors;
use serde_json::Value;

use super::super::format::FORMATS;
use super::*;
use crate::{ModelConfig, Tokenizer};

const FAMILIES: [&str; 3] = ["llama", "qwen2", "qwen3"];

fn data(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf").join(name)).unwrap()
}

/// A directory made of a golden file.
fn family(name: &str) -> (tempfile::TempDir, PathBuf) {
    converted(&data(&format!("tiny-{name}.gguf")), WeightFormat::Float32)
}

#[test]
fn every_format_is_dequantised_bit_for_bit() {
    let golden = data("blocks.safetensors");
    let golden = SafeTensors::deserialize(&golden).unwrap();
    let names: BTreeSet<&str> = golden.names().into_iter().filter_map(|name| name.strip_suffix(".raw")).collect();
    assert_eq!(names, FORMATS.iter().map(|format| format.name).collect::<BTreeSet<_>>());
    for format in FORMATS {
        let raw = golden.tensor(&format!("{}.raw", format.name)).unwrap();
        let wanted = golden.tensor(&format!("{}.values", format.name)).unwrap();
        let mut values = vec![0.0; wanted.data().len() / 4];
        format.decode(raw.data(), &mut values);
        assert!(floats(&values) == wanted.data(), "{}: {values:?}", format.name);
    }
}

#[test]
fn weights_have_hugging_faces_names_shapes_and_row_order() {
    for name in FAMILIES {
        let (_scratch, dir) = family(name);
        let (made, wanted) =
            (fs::read(dir.join("model.safetensors")).unwrap(), data(&format!("tiny-{name}.safetensors")));
        let (made, wanted) = (SafeTensors::deserialize(&made).unwrap(), SafeTensors::deserialize(&wanted).unwrap());
        let names = |file: &SafeTensors| file.names().into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(names(&made), names(&wanted), "{name}");
        for (tensor, wanted) in wanted.tensors() {
            let made = made.tensor(&tensor).unwrap();
            assert_eq!((made.dtype(), made.shape()), (wanted.dtype(), wanted.shape()), "{name}: {tensor}");
            assert!(made.data() == wanted.data(), "{name}: {tensor}");
        }
    }
}

#[test]
fn the_configuration_says_what_the_file_says() {
    let (_scratch, dir) = family("qwen2");
    let config = ModelConfig::from_dir(&dir).unwrap();
    assert_eq!((config.hidden_size, config.heads, config.kv_heads, config.head_dim), (32, 4, 2, 8));
    assert_eq!((config.layers, config.intermediate_size, config.max_positions), (1, 32, 512));
    // As they were meant, not as a float32 has them.
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 500_000.0));
    assert!(config.tied && config.qkv_bias);
    let (_scratch, dir) = family("qwen3");
    let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "Qwen3ForCausalLM");
    assert_eq!((&config["tie_word_embeddings"], &config["attention_bias"]), (&false.into(), &false.into()));
}

/// A golden file with the name of another pre-tokenizer, of the same length, in it.
fn with_pre(mut file: Vec<u8>, old: &str, new: &str) -> Vec<u8> {
    let marked =
        |pre: &str| [b"tokenizer.ggml.pre\x08\0\0\0", &(pre.len() as u64).to_le_bytes()[..], pre.as_bytes()].concat();
    let (old, new) = (marked(old), marked(new));
    let at = file.windows(old.len()).position(|window| window == old).unwrap();
    file[at..at + new.len()].copy_from_slice(&new);
    file
}

#[test]
fn texts_are_tokenized_as_the_models_own_tokenizers_do() {
    let golden: Value = serde_json::from_slice(&data("tokens.json")).unwrap();
    let files = [
        ("llama-bpe", data("tiny-llama.gguf")),
        ("qwen2", data("tiny-qwen2.gguf")),
        ("smollm", data("tiny-qwen3.gguf")),
        ("gpt-2", with_pre(data("tiny-qwen2.gguf"), "qwen2", "gpt-2")),
    ];
    let texts = golden["texts"].as_array().unwrap();
    for (pre, file) in files {
        let (_scratch, dir) = converted(&file, WeightFormat::Float32);
        let tokenizer = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
        let wanted = golden["tokens"][pre].as_array().unwrap();
        assert_eq!(texts.len(), wanted.len());
        for (text, wanted) in texts.iter().zip(wanted) {
            let text = text.as_str().unwrap();
            let made = tokenizer.encode(text, true).unwrap();
            assert_eq!(&serde_json::to_value(made.get_ids()).unwrap(), wanted, "{pre}: {text:?}");
            if pre != "qwen2" {
                // Qwen2 normalises, so a text may come back as another of the same meaning.
                let plain = tokenizer.encode(text, false).unwrap();
                assert_eq!(tokenizer.decode(plain.get_ids(), false).unwrap(), text, "{pre}");
            }
        }
    }
}

#[test]
fn the_template_and_all_ends_of_sequence_come_along() {
    let (_scratch, dir) = family("llama");
    let tokenizer = Tokenizer::from_dir(&dir).unwrap();
    // <|endoftext|> and <|im_end|>; the file names the latter only.
    assert_eq!(tokenizer.eos_tokens(), [0, 2]);
    let message = counterpoint_rollout::ChatMessage::new("user", "hi");
    let tokens = tokenizer.encode_prompt(&counterpoint_rollout::PromptContent::Chat(vec![message])).unwrap();
    assert_eq!(tokenizer.decode(&tokens, false).unwrap(), "<|im_start|>user\nhi<|im_end|>\n");
    // The bos token, since files for Llama 3's tokenizer mean it without saying.
    assert_eq!(tokenizer.encode("hi").unwrap()[0], 1);
}
