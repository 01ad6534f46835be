use std::collections::HashMap;
use std::fs;
use std::path::Path;

use counterpoint_policy::checkpoint::{Export, load, save, stored_kind};
use counterpoint_policy::{Device, Kind, ModelConfig, PolicyError};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::{MODELS, copy_of, model, model_dir};

const WEIGHTS: &str = "model.safetensors";

fn load_error(dir: &Path) -> String {
    load(dir, Kind::Float, Device::Cpu).unwrap_err().to_string()
}

/// How a tensor is declared: its format and shape.
type Declared = (Dtype, Vec<usize>);

/// Rewrites a copy's weights with each tensor's declaration passed through `edit`; `None` drops it.
fn rewrite(dir: &Path, edit: impl Fn(&str, Declared) -> Option<Declared>) {
    let bytes = fs::read(dir.join(WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors();
    let edited = tensors.iter().filter_map(|(name, view)| {
        let (dtype, shape) = edit(name, (view.dtype(), view.shape().to_vec()))?;
        let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        Some((name.clone(), TensorView::new(dtype, shape, &view.data()[..length]).unwrap()))
    });
    safetensors::serialize_to_file(edited, None, &dir.join(WEIGHTS)).unwrap();
}

/// Splits a copy's weights into two shards and an index.
fn shard(dir: &Path) {
    let bytes = fs::read(dir.join(WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut map = HashMap::new();
    for (number, shard) in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"].iter().enumerate() {
        let half = file.tensors().into_iter().filter(|(name, _)| name.contains("layers.1") == (number == 1));
        let half: Vec<_> = half.collect();
        map.extend(half.iter().map(|(name, _)| (name.clone(), *shard)));
        safetensors::serialize_to_file(half, None, &dir.join(shard)).unwrap();
    }
    let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::remove_file(dir.join(WEIGHTS)).unwrap();
}

#[test]
fn what_was_loaded_is_saved_byte_for_byte() {
    for name in MODELS {
        let (config, flat, _) = model(name);
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("saved");
        save(&dir, &model_dir(name), &config, &flat, Kind::Float).unwrap();
        for file in [WEIGHTS, "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            let (wrote, original) = (fs::read(dir.join(file)).unwrap(), fs::read(model_dir(name).join(file)).unwrap());
            assert!(wrote == original, "{name}: {file} differs");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 5, "{name}: no file too many");
    }
}

#[test]
fn half_formats_are_saved_and_come_back_rounded_once() {
    let (config, flat, _) = model("tiny-llama");
    for (kind, word) in [(Kind::BFloat16, "bfloat16"), (Kind::Half, "float16")] {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("saved");
        save(&dir, &model_dir("tiny-llama"), &config, &flat, kind).unwrap();
        let (again, rounded) = load(&dir, Kind::Float, Device::Cpu).unwrap();
        assert_eq!(again, config);
        assert_eq!(rounded, flat.to_kind(kind).to_kind(Kind::Float));
        let settings: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        assert_eq!(settings["dtype"], word, "config.json tells transformers the format");
        // Saved again in the format it has: the same bytes.
        let (config, narrow) = load(&dir, kind, Device::Cpu).unwrap();
        let second = parent.path().join("second");
        save(&second, &dir, &config, &narrow, kind).unwrap();
        for file in [WEIGHTS, "config.json"] {
            assert!(
                fs::read(dir.join(file)).unwrap() == fs::read(second.join(file)).unwrap(),
                "{word}: {file} differs"
            );
        }
    }
}

#[test]
fn weights_over_the_limit_are_saved_in_shards_that_come_back_as_they_were() {
    for (name, limit) in [("tiny-qwen2", 60_000), ("tiny-llama", 1)] {
        let (config, flat, _) = model(name);
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("saved");
        let export = Export { kind: Kind::Float, max_shard_bytes: limit };
        save(&dir, &model_dir(name), &config, &flat, export).unwrap();
        assert_eq!(load(&dir, Kind::Float, Device::Cpu).unwrap(), (config, flat));
        assert!(!dir.join(WEIGHTS).exists());
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.join("model.safetensors.index.json")).unwrap()).unwrap();
        let (mut found, mut bytes) = (0, 0);
        for entry in fs::read_dir(&dir).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|e| e != "safetensors") {
                continue;
            }
            let content = fs::read(&file).unwrap();
            let tensors = SafeTensors::deserialize(&content).unwrap();
            let size: usize = tensors.iter().map(|(_, view)| view.data().len()).sum();
            assert!(size as u64 <= limit || tensors.len() == 1, "{} has {size} bytes", file.display());
            for tensor in tensors.names() {
                assert_eq!(index["weight_map"][tensor], file.file_name().unwrap().to_str().unwrap());
                found += 1;
            }
            bytes += size;
        }
        assert_eq!(index["weight_map"].as_object().unwrap().len(), found);
        assert_eq!(index["metadata"], serde_json::json!({"total_parameters": bytes / 4, "total_size": bytes}));
    }
}

#[test]
fn what_goes_with_the_weights_is_kept_and_what_is_missing_is_derived() {
    let (config, flat, _) = model("tiny-llama");
    let source = copy_of("tiny-llama");
    let read = |dir: &Path, file: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.join(file)).unwrap()).unwrap()
    };
    // A source without generation_config.json, whose config.json has an unknown key and says nothing of the number format.
    fs::remove_file(source.path().join("generation_config.json")).unwrap();
    let mut settings = read(source.path(), "config.json");
    settings.as_object_mut().unwrap().remove("dtype");
    settings["their_own"] = serde_json::json!({"kept": [1.5, null, "\u{e9}"]});
    fs::write(source.path().join("config.json"), settings.to_string()).unwrap();
    let others =
        ["chat_template.jinja", "additional_chat_templates/tools.jinja", "merges.txt", "tokenizer.model", "LICENSE"];
    fs::create_dir(source.path().join("additional_chat_templates")).unwrap();
    for other in others {
        fs::write(source.path().join(other), format!("the bytes of {other}\r\n")).unwrap();
    }
    fs::write(source.path().join("consolidated.safetensors"), b"another copy").unwrap();
    fs::write(source.path().join("README.md"), b"of the source").unwrap();

    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("saved");
    save(&dir, source.path(), &config, &flat, Kind::BFloat16).unwrap();
    settings["torch_dtype"] = "bfloat16".into();
    assert_eq!(read(&dir, "config.json"), settings);
    let generation = read(&dir, "generation_config.json");
    assert_eq!(
        (&generation["_from_model_config"], &generation["eos_token_id"]),
        (&true.into(), &settings["eos_token_id"])
    );
    for other in others {
        assert_eq!(fs::read(dir.join(other)).unwrap(), fs::read(source.path().join(other)).unwrap(), "{other}");
    }
    assert!(!dir.join("consolidated.safetensors").exists() && !dir.join("README.md").exists());
    assert_eq!(stored_kind(&dir).unwrap(), Kind::BFloat16);
    assert_eq!(load(&dir, Kind::Float, Device::Cpu).unwrap().0, config);
}

#[cfg(unix)]
#[test]
fn saved_weights_may_be_read_by_whoever_may_read_the_configuration() {
    use std::os::unix::fs::PermissionsExt;
    let (config, flat, _) = model("tiny-qwen2");
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("saved");
    save(&dir, &model_dir("tiny-qwen2"), &config, &flat, Kind::Float).unwrap();
    let mode = |file: &str| fs::metadata(dir.join(file)).unwrap().permissions().mode();
    assert_eq!(mode(WEIGHTS), mode("config.json"));
}

#[test]
fn saving_never_overwrites_and_leaves_nothing_behind_on_failure() {
    let (config, flat, _) = model("tiny-qwen2");
    let source = model_dir("tiny-qwen2");
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("saved");
    fs::create_dir(&dir).unwrap();
    assert!(matches!(save(&dir, &source, &config, &flat, Kind::Float), Err(PolicyError::Io { .. })));
    assert!(dir.exists(), "what was there stays");
    let other = parent.path().join("other");
    assert!(save(&other, &source, &config, &flat.narrow(0, 0, 10), Kind::Float).is_err());
    assert!(save(&other, &source, &config, &flat, Kind::Int64).is_err());
    assert!(save(&other, &model_dir("arith"), &config, &flat, Kind::Float).is_err());
    assert!(!other.exists(), "an incomplete directory is removed");
}

#[test]
fn shards_are_joined() {
    let copy = copy_of("tiny-qwen2");
    shard(copy.path());
    let (config, flat) = load(copy.path(), Kind::Float, Device::Cpu).unwrap();
    let (expected_config, expected, _) = model("tiny-qwen2");
    assert_eq!((config, flat), (expected_config, expected));
}

#[test]
fn a_missing_shard_is_named() {
    let copy = copy_of("tiny-qwen2");
    shard(copy.path());
    fs::remove_file(copy.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(load_error(copy.path()).contains("model-00002-of-00002.safetensors"));
}

#[test]
fn an_index_cannot_reach_outside_its_directory() {
    let outside = [
        "../model.safetensors",
        "/etc/model.safetensors",
        "a/model.safetensors",
        "./model.safetensors",
        "..",
        "",
        "x.bin",
        "a\\model.safetensors",
        "model\0.safetensors",
        "\u{2025}/model.safetensors",
        "//model.safetensors",
        "model.safetensors/",
    ];
    for name in outside {
        let copy = copy_of("tiny-qwen2");
        fs::remove_file(copy.path().join(WEIGHTS)).unwrap();
        let index = serde_json::json!({"weight_map": {"lm_head.weight": name}});
        fs::write(copy.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        let error = load_error(copy.path());
        assert!(error.contains("must lie in a .safetensors file of the same directory"), "{name}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_shard_may_not_be_a_link_out_of_the_directory_unless_a_hugging_face_cache_made_it() {
    use std::os::unix::fs::symlink;
    let shard_name = "model-00002-of-00002.safetensors";
    let copy = copy_of("tiny-qwen2");
    shard(copy.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("weights");
    fs::rename(copy.path().join(shard_name), &target).unwrap();
    symlink(&target, copy.path().join(shard_name)).unwrap();
    let error = load_error(copy.path());
    assert!(error.contains(&format!("{shard_name}: is a link to ")) && error.contains("outside the model's directory"));
    // Inside it may be a link.
    fs::rename(&target, copy.path().join("renamed")).unwrap();
    fs::remove_file(copy.path().join(shard_name)).unwrap();
    symlink("renamed", copy.path().join(shard_name)).unwrap();
    assert!(load(copy.path(), Kind::Float, Device::Cpu).is_ok());

    let cache = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/0a1b"));
    fs::create_dir(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    for (number, entry) in fs::read_dir(copy.path()).unwrap().enumerate() {
        let path = entry.unwrap().path();
        fs::copy(&path, blobs.join(number.to_string())).unwrap();
        symlink(format!("../../blobs/{number}"), snapshot.join(path.file_name().unwrap())).unwrap();
    }
    let (_, expected, _) = model("tiny-qwen2");
    assert_eq!(load(&snapshot, Kind::Float, Device::Cpu).unwrap().1, expected);
    fs::rename(&blobs, cache.path().join("other")).unwrap();
    symlink("other", &blobs).unwrap();
    assert!(load_error(&snapshot).contains("outside the model's directory"));
}

#[cfg(unix)]
#[test]
fn weights_that_are_no_regular_file_are_refused_and_not_waited_for() {
    let copy = copy_of("tiny-qwen2");
    let path = copy.path().join(WEIGHTS);
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(load_error(copy.path()).ends_with("model.safetensors: is not a regular file"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(load_error(copy.path()).ends_with("model.safetensors: is not a regular file"));
}

#[test]
fn a_broken_index_is_an_error() {
    for index in ["", "[]", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 1}}"#] {
        let copy = copy_of("tiny-qwen2");
        fs::remove_file(copy.path().join(WEIGHTS)).unwrap();
        fs::write(copy.path().join("model.safetensors.index.json"), index).unwrap();
        assert!(load_error(copy.path()).contains("model.safetensors.index.json"), "{index}");
    }
}

#[test]
fn wrong_tensors_are_named_with_what_would_be_right() {
    let key = "model.layers.1.self_attn.k_proj.weight";
    let spoil = |edit: fn(Declared) -> Option<Declared>| {
        let copy = copy_of("tiny-qwen2");
        rewrite(copy.path(), |name, declared| if name == key { edit(declared) } else { Some(declared) });
        load_error(copy.path())
    };
    assert!(spoil(|_| None).ends_with(&format!("{key} is missing, of shape [32, 64]")));
    let copy = copy_of("tiny-qwen2");
    rewrite(copy.path(), |name, declared| (!name.contains("layers.1")).then_some(declared));
    let error = load_error(copy.path());
    assert!(
        error.ends_with("layers.1.self_attn.q_proj.weight is missing, of shape [64, 64] (11 more are missing)"),
        "{error}"
    );
    let error = spoil(|(dtype, shape)| Some((dtype, shape.into_iter().rev().collect())));
    assert!(error.ends_with(&format!("{key} must be of shape [32, 64], got [64, 32]")), "{error}");
    let error = spoil(|(dtype, _)| Some((dtype, vec![31, 64])));
    assert!(error.ends_with(&format!("{key} must be of shape [32, 64], got [31, 64]")), "{error}");
    let error = spoil(|(_, shape)| Some((Dtype::I8, shape)));
    assert!(error.contains("in I8") && error.ends_with("F32, F16 and BF16 are"), "{error}");
}

#[test]
fn a_surplus_tensor_is_named_unless_it_is_known_to_be_harmless() {
    let add = |model: &str, new: &'static str| {
        let copy = copy_of(model);
        let bytes = fs::read(copy.path().join(WEIGHTS)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = file.tensors();
        tensors.push((new.to_owned(), file.tensor("model.embed_tokens.weight").unwrap()));
        safetensors::serialize_to_file(tensors, None, &copy.path().join(WEIGHTS)).unwrap();
        load(copy.path(), Kind::Float, Device::Cpu).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(add("tiny-llama", "lm_head.weight"), Ok(()), "a tied model may carry its projection");
    assert_eq!(add("tiny-llama", "model.layers.0.self_attn.rotary_emb.inv_freq"), Ok(()));
    let error = add("tiny-llama", "model.layers.0.self_attn.q_proj.bias").unwrap_err();
    assert!(error.contains("holds model.layers.0.self_attn.q_proj.bias of shape [18, 64], which the model"), "{error}");
}

#[test]
fn a_projection_beside_a_tied_embedding_must_be_equal_to_it() {
    let copy = copy_of("tiny-llama");
    let bytes = fs::read(copy.path().join(WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let embedding = file.tensor("model.embed_tokens.weight").unwrap();
    let mut other = embedding.data().to_vec();
    other[100] ^= 1;
    let mut tensors = file.tensors();
    let head = TensorView::new(embedding.dtype(), embedding.shape().to_vec(), &other).unwrap();
    tensors.push(("lm_head.weight".to_owned(), head));
    safetensors::serialize_to_file(tensors, None, &copy.path().join(WEIGHTS)).unwrap();
    let error = load_error(copy.path());
    assert!(error.contains("holds lm_head.weight that differs from model.embed_tokens.weight"), "{error}");
    assert!(error.ends_with("tie_word_embeddings in config.json must be false"), "{error}");
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_taken_for_them() {
    let copy = copy_of("tiny-llama");
    let path = copy.path().join("config.json");
    let original: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let error = |edits: &[(&str, i64)]| {
        let mut config = original.clone();
        for (key, value) in edits {
            config[*key] = (*value).into();
        }
        fs::write(&path, config.to_string()).unwrap();
        load_error(copy.path())
    };
    // 2^37 parameters pass the checks of config.json, so that the tensors have to tell.
    let error_of_large = error(&[("vocab_size", 1 << 30), ("hidden_size", 64)]);
    assert!(error_of_large.ends_with("model.embed_tokens.weight must be of shape [1073741824, 64], got [18, 64]"));
    let deep = error(&[("num_hidden_layers", 10_000)]);
    assert!(deep.contains("model.layers.2.self_attn.q_proj.weight is missing"), "{deep}");
    let huge = error(&[("vocab_size", 1 << 30), ("hidden_size", 1 << 20), ("head_dim", 16)]);
    assert!(huge.contains("at most 2^40 are taken"), "{huge}");
    fs::write(&path, vec![b' '; (16 << 20) + 1]).unwrap();
    assert!(load_error(copy.path()).contains("config.json: is longer than"));
}

#[test]
fn an_untied_model_needs_its_projection() {
    let copy = copy_of("tiny-qwen2");
    rewrite(copy.path(), |name, declared| (name != "lm_head.weight").then_some(declared));
    assert!(load_error(copy.path()).ends_with("lm_head.weight is missing, of shape [18, 64]"));
}

#[test]
fn a_directory_without_weights_says_what_to_do() {
    let copy = copy_of("tiny-qwen2");
    fs::remove_file(copy.path().join(WEIGHTS)).unwrap();
    assert!(load_error(copy.path()).contains("holds neither model.safetensors nor model.safetensors.index.json"));
    for pickle in ["pytorch_model.bin", "consolidated.00.pth", "adapter.pt"] {
        fs::write(copy.path().join(pickle), b"\x80\x02").unwrap();
        let error = load_error(copy.path());
        assert!(
            error.contains(&format!("{pickle} (a pickle, ")) && error.contains("safe_serialization=True"),
            "{error}"
        );
        fs::remove_file(copy.path().join(pickle)).unwrap();
    }
    assert!(load_error(Path::new("/nowhere")).starts_with("/nowhere/config.json: "));
}

#[test]
fn a_bad_configuration_is_an_error() {
    for text in ["", "null", "[]", "{", r#"{"model_type": "qwen2"}"#, "\u{0}", &"[".repeat(100_000)] {
        let copy = copy_of("tiny-qwen2");
        fs::write(copy.path().join("config.json"), text).unwrap();
        assert!(load_error(copy.path()).contains("config.json: not a model configuration"), "{text:.20}");
    }
    let copy = copy_of("tiny-qwen2");
    fs::write(copy.path().join("config.json"), [0xff, 0xfe]).unwrap();
    assert!(ModelConfig::from_dir(copy.path()).is_err());
}

#[test]
fn a_hostile_header_is_an_error() {
    let header = |length: u64, text: &str| [&length.to_le_bytes(), text.as_bytes()].concat();
    let json = |text: &str| header(text.len() as u64, text);
    let files = [
        vec![],
        vec![1, 2, 3],
        header(u64::MAX, "{}"),
        header(1 << 40, "{}"),
        header(1000, "{}"),
        json("{}"),
        json("[]"),
        json(&"[".repeat(100_000)),
        json(r#"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}"#),
        json(r#"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}"#),
        json(r#"{"a": {"dtype": "F32", "shape": [0], "data_offsets": [18446744073709551615, 18446744073709551615]}}"#),
        json(r#"{"a": {"dtype": "F32", "shape": [4294967296, 4294967296, 4294967296], "data_offsets": [0, 0]}}"#),
        json(r#"{"a": {"dtype": "F99", "shape": [0], "data_offsets": [0, 0]}}"#),
        json(
            r#"{"model.norm.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
                 "model.norm.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}"#,
        ),
        json(r#"{"model.norm.weight": {"dtype": "F32", "shape": [18446744073709551615, 0], "data_offsets": [0, 0]}}"#),
    ];
    let copy = copy_of("tiny-qwen2");
    for bytes in files {
        fs::write(copy.path().join(WEIGHTS), &bytes).unwrap();
        assert!(load(copy.path(), Kind::Float, Device::Cpu).is_err(), "{:.80}", String::from_utf8_lossy(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_cut_short_anywhere_is_an_error(part in 0.0..1.0f64) {
        let copy = copy_of("tiny-llama");
        let bytes = fs::read(copy.path().join(WEIGHTS)).unwrap();
        let length = (bytes.len() as f64 * part) as usize;
        fs::write(copy.path().join(WEIGHTS), &bytes[..length]).unwrap();
        prop_assert!(load_error(copy.path()).contains("not a safetensors file, or cut short"));
    }

    #[test]
    fn a_spoiled_header_never_panics(position in 0usize..2056, byte: u8) {
        let copy = copy_of("tiny-llama");
        let mut bytes = fs::read(copy.path().join(WEIGHTS)).unwrap();
        bytes[position] = byte;
        fs::write(copy.path().join(WEIGHTS), &bytes).unwrap();
        // Most are errors; a changed blank or key of the metadata is not.
        if let Ok((config, flat)) = load(copy.path(), Kind::Float, Device::Cpu) {
            prop_assert_eq!(flat.size(), [config.parameters()]);
        }
    }
    /// One fault in the declaration of one real tensor: all that a header can say wrongly, not only what a flipped byte makes.
    #[test]
    fn a_wrong_declaration_of_any_tensor_is_refused(tensor in any::<prop::sample::Index>(), fault in 0usize..12, amount in 1u64..5) {
        let copy = copy_of("tiny-llama");
        let bytes = fs::read(copy.path().join(WEIGHTS)).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let names: Vec<String> = header.as_object().unwrap().keys().filter(|n| *n != "__metadata__").cloned().collect();
        let name = tensor.get(&names);
        let declared = &mut header[name];
        let offset = |i: usize, declared: &serde_json::Value| declared["data_offsets"][i].as_u64().unwrap();
        let (begin, end) = (offset(0, declared), offset(1, declared));
        match fault {
            0 => declared["dtype"] = "F64".into(),
            1 => declared["dtype"] = "I32".into(), // as long as F32
            2 => declared["dtype"] = "F8_E4M3".into(),
            3 => declared["dtype"] = 7.into(),
            4 => declared["shape"][0] = (declared["shape"][0].as_u64().unwrap() + amount).into(),
            5 => declared["shape"] = serde_json::json!([u64::MAX, amount + 1]),
            6 => declared["shape"].as_array_mut().unwrap().push(2.into()),
            7 => declared["data_offsets"] = serde_json::json!([begin + 4 * amount, end + 4 * amount]),
            8 => declared["data_offsets"] = serde_json::json!([begin, end + 4 * amount]),
            9 => declared["data_offsets"] = serde_json::json!([end + amount, begin]),
            10 => declared["data_offsets"] = serde_json::json!([u64::MAX - amount, u64::MAX]),
            _ => declared["shape"][0] = serde_json::json!(-1),
        }
        let text = header.to_string();
        let file = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[8 + length..]].concat();
        fs::write(copy.path().join(WEIGHTS), file).unwrap();
        let error = load_error(copy.path());
        prop_assert!(error.contains(WEIGHTS) && !error.contains('\n'), "{error}");
    }

    /// Whatever an index names, nothing beside the model's directory is read: the file there would load.
    #[test]
    fn no_index_reaches_the_directory_beside(
        pieces in prop::collection::vec(prop::sample::select(vec!["..", ".", "/", "\\", "outside", "a", "\0", "%2e"]), 0..7),
        other in prop::sample::select(vec!["null", "7", "[\"../outside/model.safetensors\"]", "{}", "true"]),
        as_text in prop::bool::weighted(0.8),
    ) {
        let parent = tempfile::tempdir().unwrap();
        let (inside, outside) = (parent.path().join("inside"), parent.path().join("outside"));
        for dir in [&inside, &outside] {
            fs::create_dir(dir).unwrap();
            fs::copy(model_dir("tiny-llama").join("config.json"), dir.join("config.json")).unwrap();
        }
        fs::copy(model_dir("tiny-llama").join(WEIGHTS), outside.join(WEIGHTS)).unwrap();
        let path = serde_json::Value::from(pieces.concat() + "/" + WEIGHTS);
        let path = if as_text { path } else { serde_json::from_str(other).unwrap() };
        let index = serde_json::json!({"weight_map": {"model.norm.weight": path}});
        fs::write(inside.join("model.safetensors.index.json"), index.to_string()).unwrap();
        let error = load_error(&inside);
        prop_assert!(error.contains("must lie in a .safetensors file of the same directory"), "{error}");
    }
}
