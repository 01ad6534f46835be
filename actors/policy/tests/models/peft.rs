//! Adapters in PEFT's format: those that PEFT saved (`tests/peft/make_adapters.py` made them), our own, and broken ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use counterpoint_policy::checkpoint::{load, load_adapter, merge, save_adapter};
use counterpoint_policy::{Adapted, CausalAttention, Device, Kind, Layout, LoraConfig, Tensor, Weights};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::distance;
use crate::golden::{golden, logits};

const CASES: [&str; 4] = ["qwen2", "qwen3", "smollm2", "llama3"];

/// Of float32 logits of size ten.
const TOLERANCE: f64 = 1e-4;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn base(name: &str) -> PathBuf {
    tests().join("golden").join(name)
}

fn adapter(name: &str) -> PathBuf {
    tests().join("peft").join(name)
}

/// A copy of an adapter whose configuration names its base by its path, and has other edits.
fn copy_of(name: &str, edits: &[(&str, Value)]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(adapter(name).join(file), copy.path().join(file)).unwrap();
    }
    let path = copy.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["base_model_name_or_path"] = base(name).to_str().unwrap().into();
    for (key, value) in edits {
        config[*key] = value.clone();
    }
    fs::write(path, config.to_string()).unwrap();
    copy
}

fn logits_in(dir: &Path, ids: &Tensor) -> Tensor {
    let (config, flat) = load(dir, Kind::Float, Device::Cpu).unwrap();
    let weights = Weights::view(&config, &Layout::new(&config), &flat).unwrap();
    logits(&config, &weights, ids, &mut CausalAttention)
}

#[test]
fn a_merged_model_has_the_logits_of_pefts_own_merge() {
    for name in CASES {
        let (ids, expected) = golden(&adapter(name));
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("merged");
        let merged = merge(&base(name), &adapter(name), &out, Some(Kind::Float)).unwrap();
        let off = distance(&logits_in(&out, &ids), &expected);
        let without = distance(&logits_in(&base(name), &ids), &expected);
        println!("{name}: off by {off:.1e}, without the adapter by {without:.1e}");
        assert!(off < TOLERANCE && without > 0.05, "{name}: off by {off}, without the adapter by {without}");
        assert!(0 < merged.adapted && merged.adapted < merged.tensors, "{merged:?}");
        let loaded = distance(&logits_in(copy_of(name, &[]).path(), &ids), &expected);
        assert!(loaded < TOLERANCE, "{name}: loaded as a model, the adapter is off by {loaded}");
    }
}

#[test]
fn what_the_adapter_leaves_alone_keeps_its_bytes_and_its_format() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("merged");
    merge(&base("qwen3"), &adapter("qwen3"), &out, None).unwrap();
    let (mut same, mut changed) = (0, 0);
    for shard in
        ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"]
    {
        let (old, new) = (fs::read(base("qwen3").join(shard)).unwrap(), fs::read(out.join(shard)).unwrap());
        let (old, new) = (SafeTensors::deserialize(&old).unwrap(), SafeTensors::deserialize(&new).unwrap());
        assert_eq!(old.len(), new.len());
        for (name, view) in old.tensors() {
            let after = new.tensor(&name).unwrap();
            assert_eq!((view.dtype(), view.shape()), (after.dtype(), after.shape()));
            let adapted = ["q_proj.", "v_proj.", "down_proj."].iter().any(|module| name.contains(module));
            assert_eq!(view.data() != after.data(), adapted, "{name}");
            *(if adapted { &mut changed } else { &mut same }) += 1;
        }
    }
    assert_eq!(changed, 9);
    assert!(same > changed);
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = "model.safetensors.index.json";
    assert_eq!(read(base("qwen3").join(index)), read(out.join(index)), "the sizes are as they were");
    assert_eq!(fs::read(base("qwen3").join("config.json")).unwrap(), fs::read(out.join("config.json")).unwrap());
}

fn own(name: &str) -> (Adapted, Tensor) {
    let (model, flat) = load(&base(name), Kind::Float, Device::Cpu).unwrap();
    let config = LoraConfig { rank: 2, alpha: 3.0, use_rslora: true, ..LoraConfig::default() };
    let adapted = Adapted::new(Arc::new(model), flat, config, 3).unwrap();
    let values = Tensor::arange(adapted.layout().numel(), (Kind::Float, Device::Cpu)).sin() * 0.1;
    (adapted, values)
}

#[test]
fn a_saved_adapter_is_read_back_bit_for_bit_and_stands_for_the_merged_model() {
    for name in CASES {
        let (adapted, values) = own(name);
        let scratch = tempfile::tempdir().unwrap();
        let saved = scratch.path().join("saved");
        save_adapter(&saved, &base(name), &adapted, &values).unwrap();
        let (config, read) = load_adapter(&saved, adapted.model(), Device::Cpu).unwrap();
        assert!(read == values, "{name}");
        assert_eq!((config.rank, config.alpha, config.use_rslora), (2, 3.0, true));
        let (_, merged) = load(&saved, Kind::Float, Device::Cpu).unwrap();
        assert!(distance(&merged, &adapted.merged(&values).unwrap()) < 1e-6, "{name}");
        // PEFT's names: the same as those of an adapter that it saved.
        let names = |dir: &Path| -> Vec<String> {
            let bytes = fs::read(dir.join("adapter_model.safetensors")).unwrap();
            SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect()
        };
        let ours = names(&saved);
        assert!(names(&adapter(name)).iter().all(|theirs| ours.contains(theirs)), "{name}: {ours:?}");
    }
}

fn refusal(dir: &Path) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("merged");
    let error = merge(&base("qwen2"), dir, &out, None).unwrap_err().to_string();
    assert!(!out.exists() && !error.contains('\n'), "{error}");
    error
}

#[test]
fn what_would_change_the_result_and_is_not_supported_is_refused_by_name() {
    for (key, value, word) in [
        ("peft_type", json!("IA3"), "\"IA3\""),
        ("peft_type", Value::Null, "needs \"peft_type\""),
        ("use_dora", json!(true), "DoRA"),
        ("modules_to_save", json!(["lm_head"]), "modules_to_save"),
        ("bias", json!("lora_only"), "lora_only"),
        ("fan_in_fan_out", json!(true), "fan_in_fan_out"),
        ("rank_pattern", json!({"q_proj": 8}), "rank_pattern"),
        ("alpha_pattern", json!({"q_proj": 8}), "alpha_pattern"),
        ("layer_replication", json!([[0, 2]]), "layer_replication"),
        ("lora_bias", json!(true), "lora_bias"),
        ("trainable_token_indices", json!([1]), "trainable_token_indices"),
        ("init_lora_weights", json!("pissa_niter_4"), "pissa"),
        ("r", json!(5), "with \"r\": 5 they must be [5, in] and [out, 5]"),
        ("r", json!(0), "between 1 and 65536, got 0"),
        ("r", json!("four"), "got \"four\""),
        ("lora_alpha", Value::Null, "\"lora_alpha\" must be a number, got null"),
        ("use_rslora", json!("yes"), "\"use_rslora\" must be true or false"),
    ] {
        let error = refusal(copy_of("qwen2", &[(key, value)]).path());
        assert!(error.contains(word), "{key}: {error}");
    }
    assert!(refusal(&base("qwen2")).contains("holds no adapter_config.json"));
}

/// Writes the adapter's tensors again, each under another name or with another shape, or not at all.
fn rewrite(dir: &Path, edit: impl Fn(String) -> Option<String>) {
    let path = dir.join("adapter_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().filter_map(|(name, view)| Some((edit(name)?, view)));
    let written = safetensors::serialize(tensors.collect::<Vec<(String, TensorView<'_>)>>(), None).unwrap();
    fs::write(path, written).unwrap();
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let with = |edit: fn(String) -> Option<String>| {
        let copy = copy_of("qwen2", &[]);
        rewrite(copy.path(), edit);
        refusal(copy.path())
    };
    let first = "base_model.model.model.layers.0.self_attn.q_proj";
    let error = with(|name| (!name.ends_with("layers.0.self_attn.q_proj.lora_B.weight")).then_some(name));
    assert!(error.contains(&format!("has {first}.lora_A.weight but no .lora_B.weight")), "{error}");
    let error = with(|name| (!name.ends_with("layers.0.self_attn.q_proj.lora_A.weight")).then_some(name));
    assert!(error.contains(&format!("has {first}.lora_B.weight but no .lora_A.weight")), "{error}");
    let error = with(|name| Some(name.replace("layers.2", "layers.7")));
    assert!(error.contains("model.layers.7.mlp.down_proj, which the base does not have"), "{error}");
    let error = with(|name| Some(name.replace("q_proj", "o_proj2").replace("gate_proj", "q_proj")));
    assert!(error.contains("which the base does not have"), "{error}");
    let error = with(|name| Some(name.replace("lora_A.weight", "lora_magnitude_vector")));
    assert!(error.contains("DoRA"), "{error}");
    let error = with(|name| Some(name.replace("lora_A.weight", "lora_embedding_A")));
    assert!(error.contains("an embedding"), "{error}");
    let error = with(|name| Some(name.replace("base_model.model.", "")));
    assert!(error.contains("is not supported: base_model.model.<module>.lora_A.weight"), "{error}");
    assert!(with(|_| None).contains("holds no tensor base_model.model."));
    let error = with(|name| {
        Some(if name.contains("q_proj") { name.replace("q_proj", "k_proj") } else { name.replace("k_proj", "q_proj") })
    });
    assert!(error.contains("k_proj.weight, whose weight is of shape [16, 32]"), "{error}");
    let copy = copy_of("qwen2", &[]);
    fs::remove_file(copy.path().join("adapter_model.safetensors")).unwrap();
    assert!(refusal(copy.path()).contains("holds adapter_config.json but no adapter_model.safetensors"));
}

#[test]
fn a_resume_takes_exactly_the_tensors_that_the_settings_name() {
    let (adapted, values) = own("qwen2");
    let scratch = tempfile::tempdir().unwrap();
    let saved = scratch.path().join("saved");
    save_adapter(&saved, &base("qwen2"), &adapted, &values).unwrap();
    let error = || load_adapter(&saved, adapted.model(), Device::Cpu).unwrap_err().to_string();
    let config = fs::read_to_string(saved.join("adapter_config.json")).unwrap();
    fs::write(saved.join("adapter_config.json"), config.replace("\"v_proj\"", "\"x_proj\"")).unwrap();
    assert!(error().contains("v_proj, which \"target_modules\" does not name"), "{}", error());
    fs::write(saved.join("adapter_config.json"), config).unwrap();
    rewrite(&saved, |name| (!name.contains("layers.1.mlp.up_proj")).then_some(name));
    assert!(error().contains("for model.layers.1.mlp.up_proj, which \"target_modules\" names"), "{}", error());
}

#[test]
fn an_adapter_without_a_base_here_says_what_to_do() {
    for (name, word) in
        [(json!("Qwen/Qwen2.5-0.5B"), "no model directory here"), (Value::Null, "does not name its base")]
    {
        let copy = copy_of("qwen2", &[("base_model_name_or_path", name)]);
        let error = load(copy.path(), Kind::Float, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("counterpoint merge --base"), "{error}");
    }
}

#[test]
fn a_merge_onto_an_adapter_or_over_a_directory_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let error = |base: &Path, out: &Path| merge(base, &adapter("qwen2"), out, None).unwrap_err().to_string();
    assert!(error(&adapter("qwen2"), &out).contains("--base takes the model"));
    assert!(error(scratch.path(), &out).contains("config.json"));
    fs::create_dir(&out).unwrap();
    assert!(error(&base("qwen2"), &out).contains("exists"));
    assert!(out.exists(), "what was there stays");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_spoiled_adapter_never_panics(position in 0usize..4000, byte: u8, cut in 0.0..1.2f64) {
        let copy = copy_of("qwen3", &[]);
        let path = copy.path().join("adapter_model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        bytes[position] = byte;
        bytes.truncate((bytes.len() as f64 * cut) as usize);
        fs::write(&path, bytes).unwrap();
        let _ = load(copy.path(), Kind::Float, Device::Cpu);
    }

    #[test]
    fn a_spoiled_configuration_never_panics(position in 0usize..1000, byte in 0u8..128) {
        let copy = copy_of("qwen3", &[]);
        let path = copy.path().join("adapter_config.json");
        let mut bytes = fs::read(&path).unwrap();
        let place = position % bytes.len();
        bytes[place] = byte;
        fs::write(&path, bytes).unwrap();
        let _ = load(copy.path(), Kind::Float, Device::Cpu);
    }
}
