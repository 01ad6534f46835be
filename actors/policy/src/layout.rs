use crate::ModelConfig;

/// One tensor of the checkpoint inside a fused parameter: `rows` rows of its first dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name in a Hugging Face checkpoint.
    pub name: String,
    /// Length of the first dimension.
    pub rows: i64,
}

/// One parameter: a contiguous range of the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The checkpoint's tensors, stacked along the first dimension.
    pub parts: Vec<Part>,
    /// `[out, in]` of a matrix, `[n]` of a norm or bias.
    pub shape: Vec<i64>,
    /// First element in the flat buffer.
    pub offset: i64,
}

impl Entry {
    /// The name of its first tensor.
    pub fn name(&self) -> &str {
        self.parts.first().map_or("", |part| part.name.as_str())
    }

    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }

    /// The shape of one part in the checkpoint.
    pub fn part_shape(&self, part: &Part) -> Vec<i64> {
        let mut shape = self.shape.clone();
        shape[0] = part.rows;
        shape
    }
}

/// Where each parameter lies in the flat buffer: matrices first (weight decay applies to them), then norms and biases.
///
/// The order of entries: embedding; per layer qkv, output, gate-up, down; the output projection unless tied; then per layer
/// input norm, post-attention norm and, where the family has them, qkv bias, output bias, query norm, key norm; the final
/// norm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<Entry>,
    decayed: i64,
}

impl Layout {
    /// The layout of a model.
    pub fn new(config: &ModelConfig) -> Self {
        let mut build = Builder { entries: Vec::new(), offset: 0 };
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        build.add(&[("model.embed_tokens.weight", config.vocab_size)], &[hidden]);
        for layer in 0..config.layers {
            let name = |suffix: &str| format!("model.layers.{layer}.{suffix}");
            let part = |suffix: &str| name(&format!("{suffix}.weight"));
            build.add(
                &[(&part("self_attn.q_proj"), q), (&part("self_attn.k_proj"), kv), (&part("self_attn.v_proj"), kv)],
                &[hidden],
            );
            build.add(&[(&part("self_attn.o_proj"), hidden)], &[q]);
            build.add(&[(&part("mlp.gate_proj"), inner), (&part("mlp.up_proj"), inner)], &[hidden]);
            build.add(&[(&part("mlp.down_proj"), hidden)], &[inner]);
        }
        if !config.tied {
            build.add(&[("lm_head.weight", config.vocab_size)], &[hidden]);
        }
        let decayed = build.offset;
        for layer in 0..config.layers {
            let name = |suffix: &str| format!("model.layers.{layer}.{suffix}");
            build.add(&[(&name("input_layernorm.weight"), hidden)], &[]);
            build.add(&[(&name("post_attention_layernorm.weight"), hidden)], &[]);
            if config.qkv_bias {
                let bias = |which: &str| name(&format!("self_attn.{which}_proj.bias"));
                build.add(&[(&bias("q"), q), (&bias("k"), kv), (&bias("v"), kv)], &[]);
            }
            if config.output_bias {
                build.add(&[(&name("self_attn.o_proj.bias"), hidden)], &[]);
            }
            if config.qk_norm {
                build.add(&[(&name("self_attn.q_norm.weight"), config.head_dim)], &[]);
                build.add(&[(&name("self_attn.k_norm.weight"), config.head_dim)], &[]);
            }
        }
        build.add(&[("model.norm.weight", hidden)], &[]);
        Self { entries: build.entries, decayed }
    }

    /// The parameters in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The output projection: an entry of its own, or the embedding where the two are tied.
    pub fn head(&self) -> Option<&Entry> {
        let own = |e: &&Entry| e.parts.iter().any(|part| part.name == "lm_head.weight");
        self.entries.iter().find(own).or(self.entries.first())
    }

    /// Elements of the flat buffer.
    pub fn numel(&self) -> i64 {
        self.entries.last().map_or(0, |last| last.offset + last.numel())
    }

    /// The first so many elements take weight decay; the rest (norms, biases) never does.
    pub fn decayed(&self) -> i64 {
        self.decayed
    }
}

struct Builder {
    entries: Vec<Entry>,
    offset: i64,
}

impl Builder {
    fn add(&mut self, parts: &[(&str, i64)], inner: &[i64]) {
        let parts: Vec<Part> =
            parts.iter().map(|(name, rows)| Part { name: (*name).to_owned(), rows: *rows }).collect();
        let mut shape = vec![parts.iter().map(|p| p.rows).sum()];
        shape.extend_from_slice(inner);
        let entry = Entry { parts, shape, offset: self.offset };
        self.offset += entry.numel();
        self.entries.push(entry);
    }
}
