//! config.json as it stands, and the checks between it and a [`ModelConfig`].

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Architecture, ModelConfig, RawError, invalid, refuse, rope, unsupported, windows};

/// More than any model of the supported architectures; keeps sizes far from where 64 bits overflow.
const MOST_PARAMETERS: i128 = 1 << 40;

/// The keys that are read; both dialects (transformers 4 and 5) of those that were renamed.
#[derive(Deserialize)]
pub(super) struct Raw {
    model_type: String,
    architectures: Option<Vec<String>>,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    pub(super) num_hidden_layers: usize,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    pub(super) max_position_embeddings: i64,
    rms_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_scaling: Option<Value>,
    pub(super) rope_parameters: Option<Value>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<f64>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    pub(super) use_sliding_window: Option<bool>,
    /// Absent and null differ: absent is the family's default.
    #[serde(default, deserialize_with = "present")]
    pub(super) sliding_window: Option<Option<i64>>,
    pub(super) max_window_layers: Option<i64>,
    pub(super) layer_types: Option<Vec<String>>,
    tie_word_embeddings: Option<bool>,
    eos_token_id: Option<Value>,
    quantization_config: Option<Value>,
    num_experts: Option<i64>,
    num_local_experts: Option<i64>,
    n_routed_experts: Option<i64>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

pub(super) fn parse(text: &str) -> Result<ModelConfig, RawError> {
    let raw = serde_json::from_str(text).map_err(|e| RawError::Invalid(format!("not a model configuration: {e}")))?;
    model(&raw)
}

/// A token id or a list of them.
pub(crate) fn token_ids(value: &Value) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(ids) => ids.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

fn model(raw: &Raw) -> Result<ModelConfig, RawError> {
    let architecture = architecture(raw)?;
    refuse_features(raw)?;
    check_sizes(raw)?;
    let (heads, head_dim) = (raw.num_attention_heads, head_dim(raw, architecture)?);
    let (rope_theta, rope_scaling) = rope::read(raw)?;
    let bias = raw.attention_bias.unwrap_or(false);
    let biased = bias && matches!(architecture, Architecture::Llama | Architecture::Qwen3);
    let rms_norm_eps = raw.rms_norm_eps.unwrap_or(1e-6);
    invalid(rms_norm_eps <= 0.0, || format!("rms_norm_eps must be > 0, got {rms_norm_eps}"))?;
    let config = ModelConfig {
        architecture,
        vocab_size: raw.vocab_size,
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads,
        kv_heads: raw.num_key_value_heads.unwrap_or(heads),
        head_dim,
        max_positions: raw.max_position_embeddings,
        rms_norm_eps,
        rope_theta,
        rope_scaling,
        // Qwen2 and Mistral do not ask attention_bias.
        qkv_bias: architecture == Architecture::Qwen2 || biased,
        output_bias: biased,
        qk_norm: architecture == Architecture::Qwen3,
        tied: raw.tie_word_embeddings.unwrap_or(false),
        windows: windows::read(raw, architecture)?,
        eos_tokens: raw.eos_token_id.as_ref().map(token_ids).unwrap_or_default(),
    };
    let matrices = config.matrix_elements();
    invalid(matrices > MOST_PARAMETERS, || {
        format!("describes a model of {matrices} parameters, at most 2^40 are taken")
    })?;
    Ok(config)
}

fn architecture(raw: &Raw) -> Result<Architecture, RawError> {
    let architecture = match raw.model_type.as_str() {
        "qwen2" => Architecture::Qwen2,
        "qwen3" => Architecture::Qwen3,
        "llama" => Architecture::Llama,
        "mistral" => Architecture::Mistral,
        other => {
            let experts = other.ends_with("moe") || other == "mixtral";
            let what = format!("model_type \"{other}\"{}", if experts { " (a mixture of experts)" } else { "" });
            return Err(unsupported(what, "\"qwen2\", \"qwen3\", \"llama\" and \"mistral\" are"));
        }
    };
    // A classifier or a bare encoder has other tensors.
    match raw.architectures.as_deref() {
        Some(names) if !names.is_empty() && !names.iter().any(|name| name.ends_with("ForCausalLM")) => {
            Err(unsupported(format!("architectures {names:?}"), "a causal language model (\"...ForCausalLM\") is"))
        }
        _ => Ok(architecture),
    }
}

fn refuse_features(raw: &Raw) -> Result<(), RawError> {
    let act = raw.hidden_act.as_deref().unwrap_or("silu");
    refuse(!["silu", "swish"].contains(&act), || format!("hidden_act \"{act}\""), "\"silu\" is")?;
    refuse(raw.mlp_bias == Some(true), || "mlp_bias".to_owned(), "an MLP without bias is")?;
    let experts = [
        ("num_experts", raw.num_experts),
        ("num_local_experts", raw.num_local_experts),
        ("n_routed_experts", raw.n_routed_experts),
    ];
    for (key, value) in experts {
        let some = value.is_some_and(|n| n > 0);
        refuse(some, || format!("{key} (a mixture of experts)"), "models with one MLP per layer are")?;
    }
    refuse(raw.quantization_config.is_some(), || "quantization_config".to_owned(), "f32, f16 and bf16 weights are")
}

fn check_sizes(raw: &Raw) -> Result<(), RawError> {
    let heads = raw.num_attention_heads;
    let kv_heads = raw.num_key_value_heads.unwrap_or(heads);
    let sizes = [
        ("vocab_size", raw.vocab_size),
        ("hidden_size", raw.hidden_size),
        ("intermediate_size", raw.intermediate_size),
        ("num_attention_heads", heads),
        ("num_key_value_heads", kv_heads),
        ("max_position_embeddings", raw.max_position_embeddings),
    ];
    for (key, value) in sizes {
        invalid(!(1..=1 << 30).contains(&value), || format!("{key} must be between 1 and 2^30, got {value}"))?;
    }
    invalid(raw.num_hidden_layers == 0 || raw.num_hidden_layers > 10_000, || {
        format!("num_hidden_layers must be between 1 and 10000, got {}", raw.num_hidden_layers)
    })?;
    invalid(heads % kv_heads != 0, || {
        format!("num_key_value_heads ({kv_heads}) must divide num_attention_heads ({heads})")
    })
}

/// Qwen3 has a width of its own where the others divide the residual stream.
fn head_dim(raw: &Raw, architecture: Architecture) -> Result<i64, RawError> {
    let default = match architecture {
        Architecture::Qwen3 => 128,
        _ => raw.hidden_size / raw.num_attention_heads,
    };
    let width = raw.head_dim.unwrap_or(default);
    invalid(width < 2 || width % 2 != 0 || width > 1 << 16, || {
        format!("head_dim must be even and between 2 and 2^16, got {width}")
    })?;
    Ok(width)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The configuration of a small Llama, edited.
    pub(in crate::config) fn edited(edit: impl FnOnce(&mut Value)) -> Result<ModelConfig, String> {
        let mut value = serde_json::json!({
            "model_type": "llama", "vocab_size": 18, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
            "hidden_act": "silu", "eos_token_id": [1, 2]
        });
        edit(&mut value);
        parse(&value.to_string()).map_err(|e| match e {
            RawError::Invalid(problem) => problem,
            RawError::Unsupported(what, hint) => format!("{what}: {hint}"),
        })
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let refused = |key: &str, value: Value| edited(|v| v[key] = value).unwrap_err();
        let families = "\"qwen2\", \"qwen3\", \"llama\" and \"mistral\" are";
        assert_eq!(refused("model_type", "gemma2".into()), format!("model_type \"gemma2\": {families}"));
        for moe in ["mixtral", "qwen2_moe", "qwen3_moe"] {
            let expected = format!("model_type \"{moe}\" (a mixture of experts): {families}");
            assert_eq!(refused("model_type", moe.into()), expected);
        }
        assert_eq!(
            refused("num_local_experts", 8.into()),
            "num_local_experts (a mixture of experts): models with one MLP per layer are"
        );
        assert_eq!(refused("hidden_act", "gelu".into()), "hidden_act \"gelu\": \"silu\" is");
        assert_eq!(refused("mlp_bias", true.into()), "mlp_bias: an MLP without bias is");
        assert_eq!(
            refused("quantization_config", serde_json::json!({"quant_method": "awq"})),
            "quantization_config: f32, f16 and bf16 weights are"
        );
        assert_eq!(
            refused("architectures", serde_json::json!(["LlamaForSequenceClassification"])),
            "architectures [\"LlamaForSequenceClassification\"]: a causal language model (\"...ForCausalLM\") is"
        );
    }

    #[test]
    fn keys_that_switch_nothing_on_are_taken() {
        let plain = edited(|_| ()).unwrap();
        let with_nulls = edited(|v| {
            for key in
                ["quantization_config", "num_experts", "rope_scaling", "sliding_window", "layer_types", "head_dim"]
            {
                v[key] = Value::Null;
            }
            v["architectures"] = serde_json::json!(["LlamaForCausalLM"]);
            v["hidden_act"] = "swish".into();
            v["mlp_bias"] = false.into();
            v["num_local_experts"] = 0.into();
            v["torch_dtype"] = "bfloat16".into();
        });
        assert_eq!(with_nulls.unwrap(), plain);
        assert_eq!(edited(|v| drop(v.as_object_mut().unwrap().remove("rms_norm_eps"))).unwrap(), plain);
    }

    #[test]
    fn values_that_make_no_model_are_named() {
        let problem = |key: &str, value: Value| edited(|v| v[key] = value).unwrap_err();
        assert_eq!(
            problem("num_key_value_heads", 3.into()),
            "num_key_value_heads (3) must divide num_attention_heads (4)"
        );
        assert_eq!(problem("rms_norm_eps", (-1.0).into()), "rms_norm_eps must be > 0, got -1");
        assert_eq!(problem("vocab_size", (-5).into()), "vocab_size must be between 1 and 2^30, got -5");
        assert_eq!(problem("head_dim", 3.into()), "head_dim must be even and between 2 and 2^16, got 3");
        assert_eq!(
            problem("num_hidden_layers", 20_000.into()),
            "num_hidden_layers must be between 1 and 10000, got 20000"
        );
        assert!(problem("vocab_size", "many".into()).starts_with("not a model configuration: invalid type: string"));
    }

    #[test]
    fn sizes_whose_product_overflows_are_refused() {
        let huge = edited(|v| {
            for key in ["vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"] {
                v[key] = (1 << 30).into();
            }
            v["head_dim"] = (1 << 16).into();
            v["num_hidden_layers"] = 10_000.into();
        });
        assert!(huge.unwrap_err().contains("at most 2^40"));
    }

    #[test]
    fn biases_norms_and_widths_are_those_of_the_family() {
        let family = |name: &str, bias: Option<bool>| {
            let config = edited(|v| {
                v["model_type"] = name.into();
                v["attention_bias"] = bias.into();
            });
            let config = config.unwrap();
            (config.qkv_bias, config.output_bias, config.qk_norm, config.head_dim)
        };
        assert_eq!(family("llama", None), (false, false, false, 16));
        assert_eq!(family("llama", Some(true)), (true, true, false, 16));
        assert_eq!(family("mistral", Some(true)), (false, false, false, 16));
        assert_eq!(family("qwen2", None), (true, false, false, 16));
        assert_eq!(family("qwen2", Some(false)), (true, false, false, 16));
        assert_eq!(family("qwen3", Some(false)), (false, false, true, 128));
        assert_eq!(family("qwen3", Some(true)), (true, true, true, 128));
    }

    #[test]
    fn one_end_token_or_several_are_read() {
        assert_eq!(edited(|_| ()).unwrap().eos_tokens, [1, 2]);
        assert_eq!(edited(|v| v["eos_token_id"] = 7.into()).unwrap().eos_tokens, [7]);
    }
}
