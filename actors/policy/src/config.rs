use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::PolicyError;

/// Which family of models; they share one transformer and differ in what is biased or normed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Qwen2 and Qwen2.5: bias on q, k and v.
    Qwen2,
    /// Llama 2 and 3, SmolLM2.
    Llama,
}

/// How rotary frequencies are changed for long contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between (transformers
    /// `modeling_rope_utils._compute_llama3_parameters`).
    Llama3 {
        /// Division of the low frequencies.
        factor: f64,
        /// Wavelengths over `original_positions / low` are divided.
        low: f64,
        /// Wavelengths under `original_positions / high` are kept.
        high: f64,
        /// The context the model was first trained with.
        original_positions: f64,
    },
}

/// The shape of a model, from `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Which family.
    pub architecture: Architecture,
    /// Entries of the embedding, at least the tokenizer's.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the gated MLP.
    pub intermediate_size: i64,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads; divides `heads`.
    pub kv_heads: i64,
    /// Width of one head.
    pub head_dim: i64,
    /// Longest sequence the model was made for.
    pub max_positions: i64,
    /// Added to the mean square under the root of RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Change of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Whether q, k, v have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the embedding is also the output projection.
    pub tied: bool,
    /// End-of-sequence tokens named here (generation_config.json may name more).
    pub eos_tokens: Vec<u32>,
}

/// More than any model of the supported architectures; keeps sizes far from where 64 bits overflow.
const MOST_PARAMETERS: i128 = 1 << 40;

/// The keys that are read; both dialects (transformers 4 and 5) of those that were renamed.
#[derive(Deserialize)]
struct Raw {
    model_type: String,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    max_position_embeddings: i64,
    rms_norm_eps: f64,
    #[serde(default = "silu")]
    hidden_act: String,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    attention_bias: Option<bool>,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    eos_token_id: Option<Value>,
    quantization_config: Option<Value>,
}

fn silu() -> String {
    "silu".to_owned()
}

impl ModelConfig {
    /// Reads `config.json` of a model directory.
    pub fn from_dir(dir: &Path) -> Result<Self, PolicyError> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| PolicyError::Io { path: path.clone(), source })?;
        let raw: Raw = serde_json::from_str(&text).map_err(|e| PolicyError::File {
            path: path.clone(),
            problem: format!("not a model configuration: {e}"),
        })?;
        Self::from_raw(raw).map_err(|e| match e {
            RawError::Invalid(problem) => PolicyError::File { path, problem },
            RawError::Unsupported(what, hint) => PolicyError::Unsupported { what, hint },
        })
    }

    fn from_raw(raw: Raw) -> Result<Self, RawError> {
        let architecture = match raw.model_type.as_str() {
            "qwen2" => Architecture::Qwen2,
            "llama" => Architecture::Llama,
            other => return Err(unsupported(format!("model_type \"{other}\""), "\"qwen2\" and \"llama\" are")),
        };
        refuse(raw.hidden_act != "silu", || format!("hidden_act \"{}\"", raw.hidden_act), "\"silu\" is")?;
        refuse(raw.mlp_bias, || "mlp_bias".to_owned(), "an MLP without bias is")?;
        refuse(raw.use_sliding_window, || "use_sliding_window".to_owned(), "full attention is")?;
        refuse(
            raw.quantization_config.is_some(),
            || "quantization_config".to_owned(),
            "f32, f16 and bf16 weights are",
        )?;
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
        })?;
        let head_dim = raw.head_dim.unwrap_or(raw.hidden_size / heads);
        invalid(head_dim < 2 || head_dim % 2 != 0 || head_dim > 1 << 16, || {
            format!("head_dim must be even and between 2 and 2^16, got {head_dim}")
        })?;
        invalid(raw.rms_norm_eps <= 0.0, || format!("rms_norm_eps must be > 0, got {}", raw.rms_norm_eps))?;
        let (rope_theta, rope_scaling) = rope(raw.rope_theta, raw.rope_parameters.as_ref(), raw.rope_scaling.as_ref())?;
        let bias = raw.attention_bias;
        let config = Self {
            architecture,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads,
            kv_heads,
            head_dim,
            max_positions: raw.max_position_embeddings,
            rms_norm_eps: raw.rms_norm_eps,
            rope_theta,
            rope_scaling,
            qkv_bias: bias.unwrap_or(architecture == Architecture::Qwen2),
            output_bias: architecture == Architecture::Llama && bias.unwrap_or(false),
            tied: raw.tie_word_embeddings,
            eos_tokens: raw.eos_token_id.as_ref().map(token_ids).unwrap_or_default(),
        };
        let matrices = config.matrix_elements();
        invalid(matrices > MOST_PARAMETERS, || {
            format!("describes a model of {matrices} parameters, at most 2^40 are taken")
        })?;
        Ok(config)
    }

    /// Elements of all matrices, which no size that passed the checks above can overflow. [`crate::Layout`] counts in i64.
    fn matrix_elements(&self) -> i128 {
        let [vocab, hidden, inner, heads, kv_heads, width] =
            [self.vocab_size, self.hidden_size, self.intermediate_size, self.heads, self.kv_heads, self.head_dim]
                .map(i128::from);
        let layer = hidden * width * 2 * (heads + kv_heads) + 3 * hidden * inner;
        2 * vocab * hidden + layer * self.layers as i128
    }

    /// Number of parameters.
    pub fn parameters(&self) -> i64 {
        crate::Layout::new(self).numel()
    }

    /// Parameters that take part in a matrix product per token: 2 floating point operations each, forward. The embedding
    /// counts once, as the output projection.
    pub fn matmul_parameters(&self) -> i64 {
        let attention = self.hidden_size * self.head_dim * (2 * self.heads + 2 * self.kv_heads);
        let mlp = 3 * self.hidden_size * self.intermediate_size;
        self.layers as i64 * (attention + mlp) + self.vocab_size * self.hidden_size
    }

    /// Bytes of keys and values per token, at `bytes` per element.
    pub fn kv_bytes_per_token(&self, bytes: i64) -> i64 {
        2 * self.layers as i64 * self.kv_heads * self.head_dim * bytes
    }
}

enum RawError {
    Invalid(String),
    Unsupported(String, String),
}

fn unsupported(what: String, hint: &str) -> RawError {
    RawError::Unsupported(what, hint.to_owned())
}

fn refuse(condition: bool, what: impl FnOnce() -> String, hint: &str) -> Result<(), RawError> {
    if condition { Err(unsupported(what(), hint)) } else { Ok(()) }
}

fn invalid(condition: bool, problem: impl FnOnce() -> String) -> Result<(), RawError> {
    if condition { Err(RawError::Invalid(problem())) } else { Ok(()) }
}

/// A token id or a list of them.
pub(crate) fn token_ids(value: &Value) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(ids) => ids.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

/// Base and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (transformers 4).
fn rope(
    theta: Option<f64>,
    parameters: Option<&Value>,
    scaling: Option<&Value>,
) -> Result<(f64, RopeScaling), RawError> {
    let source = parameters.or(scaling);
    let number = |key: &str| source.and_then(|s| s.get(key)).and_then(Value::as_f64);
    let theta = number("rope_theta").or(theta).unwrap_or(10_000.0);
    invalid(theta <= 0.0, || format!("rope_theta must be > 0, got {theta}"))?;
    let kind =
        source.and_then(|s| s.get("rope_type").or_else(|| s.get("type"))).and_then(Value::as_str).unwrap_or("default");
    let need = |key: &str| {
        number(key)
            .filter(|v| *v > 0.0)
            .ok_or_else(|| RawError::Invalid(format!("rope type \"llama3\" needs a positive {key}")))
    };
    match kind {
        "default" => Ok((theta, RopeScaling::Default)),
        "llama3" => Ok((
            theta,
            RopeScaling::Llama3 {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original_positions: need("original_max_position_embeddings")?,
            },
        )),
        other => Err(unsupported(format!("rope type \"{other}\""), "\"default\" and \"llama3\" are")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(edit: impl FnOnce(&mut Value)) -> Result<ModelConfig, String> {
        let mut value = serde_json::json!({
            "model_type": "llama", "vocab_size": 18, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
            "hidden_act": "silu", "eos_token_id": [1, 2]
        });
        edit(&mut value);
        ModelConfig::from_raw(serde_json::from_value(value).unwrap()).map_err(|e| match e {
            RawError::Invalid(problem) => problem,
            RawError::Unsupported(what, _) => what,
        })
    }

    #[test]
    fn both_dialects_of_rope_are_read() {
        let old = parse(|v| {
            v["rope_theta"] = 5e5.into();
            v["rope_scaling"] = serde_json::json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        });
        let new = parse(|v| {
            v["rope_parameters"] = serde_json::json!({"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        });
        assert_eq!(old, new);
        assert_eq!(old.unwrap().rope_theta, 5e5);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        assert_eq!(parse(|v| v["model_type"] = "mixtral".into()), Err("model_type \"mixtral\"".into()));
        assert_eq!(parse(|v| v["hidden_act"] = "gelu".into()), Err("hidden_act \"gelu\"".into()));
        assert_eq!(
            parse(|v| v["rope_scaling"] = serde_json::json!({"rope_type": "yarn"})),
            Err("rope type \"yarn\"".into())
        );
        assert_eq!(
            parse(|v| v["num_key_value_heads"] = 3.into()),
            Err("num_key_value_heads (3) must divide num_attention_heads (4)".into())
        );
        assert_eq!(parse(|v| v["rope_theta"] = 0.into()), Err("rope_theta must be > 0, got 0".into()));
        assert_eq!(parse(|v| v["rms_norm_eps"] = (-1.0).into()), Err("rms_norm_eps must be > 0, got -1".into()));
    }

    #[test]
    fn sizes_whose_product_overflows_are_refused() {
        let huge = parse(|v| {
            for key in ["vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"] {
                v[key] = (1 << 30).into();
            }
            v["head_dim"] = (1 << 16).into();
            v["num_hidden_layers"] = 10_000.into();
        });
        assert!(huge.unwrap_err().contains("at most 2^40"));
    }

    #[test]
    fn one_end_token_or_several_are_read() {
        assert_eq!(parse(|_| ()).unwrap().eos_tokens, [1, 2]);
        assert_eq!(parse(|v| v["eos_token_id"] = 7.into()).unwrap().eos_tokens, [7]);
    }
}
