use std::path::Path;

use crate::{PolicyError, text_file};

mod raw;
mod rope;
mod windows;

pub use rope::RopeScaling;

/// Which family of models; they share one transformer and differ in what is biased or normed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Qwen2 and Qwen2.5, Math and Coder too: bias on q, k and v.
    Qwen2,
    /// Qwen3, dense: every head's query and key are normed; `head_dim` is free of `hidden_size`.
    Qwen3,
    /// Llama 2 and 3, SmolLM2, and what else shares their layout.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
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
    /// Longest sequence the model was made for: `max_position_embeddings`, whatever the rotary scaling promises beyond it.
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
    /// Whether each head's query and key are normed (RMSNorm over `head_dim`) before the rotation.
    pub qk_norm: bool,
    /// Whether the embedding is also the output projection.
    pub tied: bool,
    /// Per layer, how many tokens a query sees, itself included; `None`: all before it. Empty if no layer has a window that
    /// is shorter than the longest sequence.
    pub windows: Vec<Option<i64>>,
    /// End-of-sequence tokens named here (generation_config.json may name more).
    pub eos_tokens: Vec<u32>,
}

/// Bytes of a config.json that are read at most: far more than any has.
const LONGEST_FILE: u64 = 16 << 20;

impl ModelConfig {
    /// Reads `config.json` of a model directory, in the dialect of transformers 4 or 5. What the transformer here would
    /// compute otherwise than transformers is refused by name.
    pub fn from_dir(dir: &Path) -> Result<Self, PolicyError> {
        let path = dir.join("config.json");
        let text = text_file::read(&path, LONGEST_FILE)?;
        raw::parse(&text).map_err(|e| match e {
            RawError::Invalid(problem) => PolicyError::File { path, problem },
            RawError::Unsupported(what, hint) => PolicyError::Unsupported { what, hint },
        })
    }

    /// How many tokens a query of this layer sees, itself included; `None`: all before it.
    pub fn window(&self, layer: usize) -> Option<i64> {
        self.windows.get(layer).copied().flatten()
    }

    /// Elements of all matrices, which no size that [`Self::from_dir`] lets pass can overflow. [`crate::Layout`] counts in
    /// i64.
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

pub(crate) use raw::token_ids;

/// Why a config.json is not taken.
#[derive(Debug)]
enum RawError {
    /// Its values make no model.
    Invalid(String),
    /// They make a model that is not supported: what, and what is.
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
