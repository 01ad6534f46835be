//! GGUF files for tests, made value by value.

/// A file in the making; later values of a key replace earlier ones.
#[derive(Clone, Debug)]
pub(super) struct Fixture {
    pub(super) version: u32,
    pub(super) alignment: usize,
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes(), value.as_bytes()].concat()
}

fn typed(id: u32, value: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes(), value].concat()
}

impl Fixture {
    pub(super) fn empty() -> Self {
        Self { version: 3, alignment: 32, keys: Vec::new(), tensors: Vec::new() }
    }

    /// A model of one layer: width 8, two heads of width 4, one for keys and values, six tokens. Value i of a tensor is i.
    pub(super) fn model(architecture: &str) -> Self {
        let key = |name: &str| format!("{architecture}.{name}");
        let mut file = Self::empty()
            .text("general.architecture", architecture)
            .count(&key("block_count"), 1)
            .count(&key("context_length"), 64)
            .count(&key("embedding_length"), 8)
            .count(&key("feed_forward_length"), 6)
            .count(&key("attention.head_count"), 2)
            .count(&key("attention.head_count_kv"), 1)
            .real(&key("attention.layer_norm_rms_epsilon"), 1e-5)
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts("tokenizer.ggml.tokens", &["<|endoftext|>", "<|im_end|>", "a", "b", "ab", "1"])
            .integers("tokenizer.ggml.token_type", &[3, 3, 1, 1, 1, 1])
            .texts("tokenizer.ggml.merges", &["a b"])
            .count("tokenizer.ggml.eos_token_id", 1);
        let shapes: [(&str, &[u64]); 11] = [
            ("token_embd.weight", &[8, 6]),
            ("output_norm.weight", &[8]),
            ("blk.0.attn_norm.weight", &[8]),
            ("blk.0.ffn_norm.weight", &[8]),
            ("blk.0.attn_q.weight", &[8, 8]),
            ("blk.0.attn_k.weight", &[8, 4]),
            ("blk.0.attn_v.weight", &[8, 4]),
            ("blk.0.attn_output.weight", &[8, 8]),
            ("blk.0.ffn_gate.weight", &[8, 6]),
            ("blk.0.ffn_up.weight", &[8, 6]),
            ("blk.0.ffn_down.weight", &[6, 8]),
        ];
        for (name, sizes) in shapes {
            file = file.counted(name, sizes);
        }
        match architecture {
            "qwen2" => ["attn_q", "attn_k", "attn_v"]
                .into_iter()
                .zip([8, 4, 4])
                .fold(file, |file, (name, rows)| file.counted(&format!("blk.0.{name}.bias"), &[rows])),
            "qwen3" => file.counted("blk.0.attn_q_norm.weight", &[4]).counted("blk.0.attn_k_norm.weight", &[4]),
            _ => file,
        }
    }

    fn key(mut self, key: &str, value: Vec<u8>) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    pub(super) fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.tensors.retain(|(other, ..)| other != key);
        self
    }

    pub(super) fn text(self, key: &str, value: &str) -> Self {
        self.key(key, typed(8, &text(value)))
    }

    pub(super) fn count(self, key: &str, value: u32) -> Self {
        self.key(key, typed(4, &value.to_le_bytes()))
    }

    pub(super) fn real(self, key: &str, value: f32) -> Self {
        self.key(key, typed(6, &value.to_le_bytes()))
    }

    pub(super) fn flag(self, key: &str, value: u8) -> Self {
        self.key(key, typed(7, &[value]))
    }

    pub(super) fn texts(self, key: &str, values: &[&str]) -> Self {
        self.array(key, 8, values.len() as u64, &values.iter().flat_map(|value| text(value)).collect::<Vec<_>>())
    }

    pub(super) fn integers(self, key: &str, values: &[i32]) -> Self {
        self.array(key, 5, values.len() as u64, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    pub(super) fn array(self, key: &str, id: u32, count: u64, bytes: &[u8]) -> Self {
        self.key(key, typed(9, &[&id.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat()))
    }

    /// A tensor; sizes innermost first, as in the file.
    pub(super) fn tensor(mut self, name: &str, sizes: &[u64], format: u32, bytes: Vec<u8>) -> Self {
        self.tensors.retain(|(other, ..)| other != name);
        self.tensors.push((name.to_owned(), sizes.to_vec(), format, bytes));
        self
    }

    /// A float32 tensor of 0, 1, 2, ...
    pub(super) fn counted(self, name: &str, sizes: &[u64]) -> Self {
        let values: Vec<f32> = (0..sizes.iter().product::<u64>()).map(|i| i as f32).collect();
        self.tensor(name, sizes, 0, floats(&values))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            file.extend(text(key));
            file.extend(value);
        }
        let mut data = Vec::new();
        for (name, sizes, format, bytes) in &self.tensors {
            data.resize(data.len().next_multiple_of(self.alignment), 0);
            file.extend(text(name));
            file.extend((sizes.len() as u32).to_le_bytes());
            sizes.iter().for_each(|size| file.extend(size.to_le_bytes()));
            file.extend(format.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        [file, data].concat()
    }
}
