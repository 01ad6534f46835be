//! Which model a GGUF file holds: its shape, as metadata says it, and config.json of that.
//!
//! Contract: what would change the model's results and is not understood is refused by name. A key that is not known at all
//! is noted, since writers add new ones that mean nothing to the results.

use serde_json::{Value, json};

use super::error::{Refusal, invalid, quoted, unsupported};
use super::metadata::Metadata;
use super::reader::Gguf;
use super::rope;

/// Families of models; they differ in what is biased or normed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Qwen2,
    Qwen3,
}

impl Family {
    fn of(architecture: &str) -> Result<Self, Refusal> {
        match architecture {
            "llama" => Ok(Self::Llama),
            "qwen2" => Ok(Self::Qwen2),
            "qwen3" => Ok(Self::Qwen3),
            other => {
                Err(unsupported(format!("architecture {}", quoted(other)), "\"llama\", \"qwen2\" and \"qwen3\" are"))
            }
        }
    }

    /// Prefix of its metadata keys, and its name in config.json.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The shape of a model.
#[derive(Debug, PartialEq)]
pub(super) struct Model {
    pub(super) family: Family,
    pub(super) vocab: u64,
    pub(super) hidden: u64,
    pub(super) inner: u64,
    pub(super) layers: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) head_dim: u64,
    pub(super) context: u64,
    pub(super) eps: f64,
    pub(super) theta: f64,
    /// As config.json writes it.
    pub(super) rope_scaling: Option<Value>,
    /// Whether the embedding is also the output projection.
    pub(super) tied: bool,
    /// Whether q, k, v have a bias.
    pub(super) qkv_bias: bool,
    /// Whether the attention's output projection has one.
    pub(super) output_bias: bool,
}

/// Keys below the architecture's prefix that are understood, or that do not change the results.
const KNOWN: [&str; 19] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "tensor_data_layout",
    "vocab_size",
];

/// Keys that change the results unless they have the value given.
const NEUTRAL: [(&str, f64); 11] = [
    ("expert_count", 0.0),
    ("expert_used_count", 0.0),
    ("attention.sliding_window", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.scale", 0.0),
    ("attention.causal", 1.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("logit_scale", 1.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
];

impl Model {
    /// Reads the shape; remarks go to `notes`.
    pub(super) fn read(file: &Gguf, notes: &mut Vec<String>) -> Result<Self, Refusal> {
        let metadata = &file.metadata;
        if let Some(parts) = metadata.count("split.count")?.filter(|&n| n > 1) {
            let hint = "a single file is: join the parts with llama.cpp's llama-gguf-split --merge";
            return Err(unsupported(format!("one of {parts} parts of a split file"), hint));
        }
        let architecture = metadata.text("general.architecture")?;
        let family = Family::of(architecture.ok_or_else(|| missing("general.architecture"))?)?;
        let keys = Keys { metadata, family };
        keys.refuse_what_changes_results(notes)?;
        let (hidden, heads) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
        let kv_heads = keys.optional_size("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = keys.head_dim(hidden, heads)?;
        let embedding = file.tensors.get("token_embd.weight").ok_or_else(|| missing_tensor("token_embd.weight"))?;
        let has = |name: &str| file.tensors.contains_key(name);
        let theta = keys.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let layers = keys.size("block_count")?;
        if layers > file.tensors.len() as u64 {
            let problem = format!("is {layers}, more than the {} tensors that the file has", file.tensors.len());
            return Err(invalid(format!("metadata key {} {problem}", quoted(&keys.full("block_count")))));
        }
        let model = Self {
            family,
            vocab: embedding.shape[0],
            hidden,
            inner: keys.size("feed_forward_length")?,
            layers,
            heads,
            kv_heads,
            head_dim,
            context: keys.size("context_length")?,
            eps: keys
                .positive("attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| missing(&keys.full("attention.layer_norm_rms_epsilon")))?,
            theta,
            rope_scaling: rope::scaling(file, family, theta, head_dim)?,
            tied: !has("output.weight"),
            qkv_bias: family == Family::Qwen2 || has("blk.0.attn_q.bias"),
            output_bias: has("blk.0.attn_output.bias"),
        };
        model.check()?;
        Ok(model)
    }

    fn check(&self) -> Result<(), Refusal> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv_heads) = (self.heads, self.kv_heads);
            return Err(invalid(format!(
                "attention.head_count_kv ({kv_heads}) must divide attention.head_count ({heads})"
            )));
        }
        if self.family != Family::Qwen2 && self.qkv_bias != self.output_bias {
            let hint = "either all four attention projections of a layer have a bias, or none";
            return Err(unsupported("biases on a part of the attention", hint));
        }
        Ok(())
    }

    /// config.json, for weights in `dtype`. The special tokens are added by the caller.
    pub(super) fn config(&self, dtype: &str) -> Value {
        let mut config = json!({
            "architectures": [self.family.class()],
            "model_type": self.family.name(),
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "rope_scaling": self.rope_scaling,
            "tie_word_embeddings": self.tied,
            "torch_dtype": dtype,
            "use_cache": true,
        });
        // A key that the family does not have would be kept by transformers, and mislead who reads it.
        match self.family {
            Family::Llama => {
                config["attention_bias"] = self.qkv_bias.into();
                config["mlp_bias"] = false.into();
            }
            Family::Qwen2 => config["use_sliding_window"] = false.into(),
            Family::Qwen3 => {
                config["attention_bias"] = self.qkv_bias.into();
                config["use_sliding_window"] = false.into();
            }
        }
        config
    }
}

/// The metadata below an architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata<'a>,
    family: Family,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.family.name())
    }

    fn size(&self, key: &str) -> Result<u64, Refusal> {
        self.optional_size(key)?.ok_or_else(|| missing(&self.full(key)))
    }

    /// A size that no product of a few can overflow.
    fn optional_size(&self, key: &str) -> Result<Option<u64>, Refusal> {
        let size = self.metadata.count(&self.full(key))?;
        match size {
            Some(n) if !(1..=1 << 30).contains(&n) => {
                Err(invalid(format!("metadata key {} must be between 1 and 2^30, got {n}", quoted(&self.full(key)))))
            }
            fine => Ok(fine),
        }
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, Refusal> {
        match self.metadata.real(&self.full(key))? {
            Some(n) if n <= 0.0 => {
                Err(invalid(format!("metadata key {} must be positive, got {n}", quoted(&self.full(key)))))
            }
            fine => Ok(fine),
        }
    }

    fn head_dim(&self, hidden: u64, heads: u64) -> Result<u64, Refusal> {
        let head_dim = self.optional_size("attention.key_length")?.unwrap_or(hidden / heads);
        if head_dim < 2 || head_dim % 2 != 0 {
            return Err(invalid(format!("the width of a head must be even, got {head_dim}")));
        }
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = self.optional_size(key)?.filter(|&n| n != head_dim) {
                let what = format!("{} of {other} in heads of width {head_dim}", self.full(key));
                return Err(unsupported(what, "the full width of the head is"));
            }
        }
        Ok(head_dim)
    }

    fn refuse_what_changes_results(&self, notes: &mut Vec<String>) -> Result<(), Refusal> {
        for (key, neutral) in NEUTRAL {
            let key = self.full(key);
            let value = match self.metadata.flag(&key) {
                Ok(flag) => flag.map(|flag| f64::from(u8::from(flag))),
                Err(_) => self.metadata.real(&key)?,
            };
            if let Some(value) = value.filter(|&value| value != neutral) {
                return Err(unsupported(format!("{key} = {value}"), format!("models with {neutral} there are")));
            }
        }
        let known = |key: &str| KNOWN.contains(&key) || NEUTRAL.iter().any(|(neutral, _)| *neutral == key);
        let prefix = self.full("");
        let strange = self.metadata.keys().filter(|key| key.strip_prefix(&prefix).is_some_and(|key| !known(key)));
        notes.extend(strange.map(|key| format!("metadata key {} is not understood and left aside", quoted(key))));
        Ok(())
    }
}

fn missing(key: &str) -> Refusal {
    invalid(format!("metadata key {} is missing", quoted(key)))
}

pub(super) fn missing_tensor(name: &str) -> Refusal {
    invalid(format!("tensor {} is missing", quoted(name)))
}
