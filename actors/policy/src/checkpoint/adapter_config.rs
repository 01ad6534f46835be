//! `adapter_config.json`, as PEFT writes it.
//!
//! Contract: what would change the result and is not supported is refused by its name, never ignored. Keys that do not
//! change what an adapter computes (how it was initialised or trained) are.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{ADAPTER_CONFIG, file_error};
use crate::{LoraConfig, PolicyError, TargetModules, text_file};

/// Bytes that are read at most.
const LONGEST: u64 = 1 << 20;

/// Keys that must be absent, null, false or empty, and what each stands for.
const REFUSED: [(&str, &str); 16] = [
    ("use_dora", "DoRA"),
    ("modules_to_save", "modules that are saved whole"),
    ("fan_in_fan_out", "weights stored as (in, out)"),
    ("rank_pattern", "ranks that differ by module"),
    ("alpha_pattern", "an alpha that differs by module"),
    ("layer_replication", "replicated layers"),
    ("lora_bias", "a bias of B"),
    ("trainable_token_indices", "trained tokens of the embedding"),
    ("target_parameters", "adapters of parameters"),
    ("alora_invocation_tokens", "an adapter that tokens activate"),
    ("use_qalora", "QALoRA"),
    ("arrow_config", "Arrow routing"),
    ("use_bdlora", "block-diagonal LoRA"),
    ("velora_config", "VeLoRA"),
    ("monteclora_config", "MonteCLoRA"),
    ("kasa_config", "KaSA"),
];

/// Ways to start an adapter that leave the base's weights as they are. Others (PiSSA, OLoRA, CorDA, LoftQ) change them.
const INITIAL: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What an adapter says of itself.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    /// Rank, alpha, dropout, targets.
    pub(super) lora: LoraConfig,
    /// `base_model_name_or_path`.
    pub(super) base: Option<PathBuf>,
}

impl AdapterConfig {
    /// Reads the one of an adapter's directory.
    pub(super) fn read(dir: &Path) -> Result<Self, PolicyError> {
        let path = dir.join(ADAPTER_CONFIG);
        let text = text_file::read(&path, LONGEST)?;
        let value: Value = serde_json::from_str(&text).map_err(|e| file_error(&path, format!("not JSON: {e}")))?;
        let map = value.as_object().ok_or_else(|| file_error(&path, "must be a JSON object".to_owned()))?;
        refuse_unsupported(&path, map)?;
        let wrong = |key: &str, rule: &str| {
            let got = map.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
            file_error(&path, format!("\"{key}\" must be {rule}, got {got:.80}"))
        };
        let rank = map.get("r").and_then(Value::as_u64).and_then(|r| u32::try_from(r).ok());
        let rank = rank.filter(|r| (1..=1 << 16).contains(r));
        let alpha = map.get("lora_alpha").and_then(Value::as_f64).filter(|a| a.is_finite());
        let flag = |key: &str| match map.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| wrong(key, "true or false")),
        };
        let lora = LoraConfig {
            rank: rank.ok_or_else(|| wrong("r", "a whole number between 1 and 65536"))?,
            alpha: alpha.ok_or_else(|| wrong("lora_alpha", "a number"))?,
            dropout: map.get("lora_dropout").and_then(Value::as_f64).unwrap_or(0.0),
            target_modules: targets(map.get("target_modules")),
            use_rslora: flag("use_rslora")?,
            ..LoraConfig::default()
        };
        let base = map.get("base_model_name_or_path").and_then(Value::as_str).filter(|base| !base.is_empty());
        Ok(Self { lora, base: base.map(PathBuf::from) })
    }
}

/// As far as they are understood: which tensors there are decides what an adapter does.
fn targets(value: Option<&Value>) -> TargetModules {
    match value {
        Some(Value::Array(names)) => {
            TargetModules::Several(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        }
        Some(Value::String(name)) => TargetModules::One(name.clone()),
        _ => TargetModules::Several(Vec::new()),
    }
}

fn refuse_unsupported(path: &Path, map: &Map<String, Value>) -> Result<(), PolicyError> {
    let refuse = |what: String, hint: &str| {
        Err(PolicyError::Unsupported { what: format!("{}: {what}", path.display()), hint: hint.to_owned() })
    };
    match map.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        Some(other) => return refuse(format!("\"peft_type\": {other:?}"), "\"LORA\" is"),
        None => return Err(file_error(path, "needs \"peft_type\": \"LORA\"; it is no adapter of PEFT".to_owned())),
    }
    let unset = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    };
    for (key, name) in REFUSED {
        if map.get(key).is_some_and(|value| !unset(value)) {
            return refuse(format!("{name} (\"{key}\")"), "plain LoRA is: train without it");
        }
    }
    match map.get("bias").and_then(Value::as_str) {
        None | Some("none") => {}
        Some(bias) => return refuse(format!("trained biases (\"bias\": {bias:?})"), "\"none\" is"),
    }
    match map.get("init_lora_weights") {
        None | Some(Value::Null | Value::Bool(_)) => Ok(()),
        Some(Value::String(way)) if INITIAL.contains(&way.as_str()) => Ok(()),
        Some(way) => refuse(
            format!("\"init_lora_weights\": {way:.40}, which changes the base's weights"),
            "true, false, \"gaussian\", \"eva\" and \"orthogonal\" are; PEFT converts such an adapter when it saves it with \
             path_initial_model_for_weight_conversion",
        ),
    }
}

/// The text of an adapter's configuration. `modules`: the names of the projections that have one.
pub(super) fn text(lora: &LoraConfig, base: &Path, modules: &[&str]) -> String {
    // PEFT has a whole number here; vLLM asks for one.
    let alpha =
        if lora.alpha.fract() == 0.0 && lora.alpha < 1e15 { json!(lora.alpha as i64) } else { json!(lora.alpha) };
    let value = json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base.display().to_string(),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": lora.use_rslora,
    });
    format!("{value:#}\n")
}
