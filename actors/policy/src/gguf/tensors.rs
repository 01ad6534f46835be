//! Which tensor of the file becomes which of the Hugging Face directory.
//!
//! Contract: every tensor of the model must be there with its shape, and no other. llama.cpp interleaves the rows of q and k
//! in its `llama` layout, for its way of rotating pairs; they are put back, so that row 2i of a head becomes row i, and row
//! 2i + 1 row i + half.

use std::collections::BTreeMap;

use super::error::{Refusal, invalid, quoted, unsupported};
use super::model::{Family, Model, missing_tensor};
use super::reader::{Gguf, Stored};
use super::rope;

/// A tensor to be written.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    /// Its Hugging Face name.
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    /// Its rows as the file has them.
    pub(super) stored: Stored<'a>,
    /// Width of the heads whose rows are interleaved, if they are.
    interleaved: Option<usize>,
}

impl Planned<'_> {
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Where in the file row `row` of the result is.
    pub(super) fn source_row(&self, row: usize) -> usize {
        match self.interleaved {
            None => row,
            Some(width) => {
                let (head, within) = (row / width, row % width);
                let (half, pair) = (within / (width / 2), within % (width / 2));
                head * width + 2 * pair + half
            }
        }
    }
}

/// Part of a name in the file, and in a Hugging Face directory.
const PROJECTIONS: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Every tensor of the model, by its Hugging Face name.
pub(super) fn plan<'a>(model: &Model, file: &Gguf<'a>) -> Result<Vec<Planned<'a>>, Refusal> {
    let mut plan = Plan { left: file.tensors.clone(), planned: Vec::new() };
    // Already read, where there is one.
    plan.left.remove(rope::FACTORS);
    plan.add("token_embd.weight", "model.embed_tokens.weight", &[model.vocab, model.hidden], None)?;
    plan.add("output_norm.weight", "model.norm.weight", &[model.hidden], None)?;
    if !model.tied {
        plan.add("output.weight", "lm_head.weight", &[model.vocab, model.hidden], None)?;
    }
    for layer in 0..model.layers {
        plan.add_layer(model, layer)?;
    }
    match plan.left.first_key_value() {
        None => {
            plan.planned.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(plan.planned)
        }
        Some((name, stored)) => {
            let what =
                format!("tensor {} of shape {:?} in a {} model", quoted(name), stored.shape, model.family.name());
            Err(unsupported(what, "the tensors of the plain architecture are"))
        }
    }
}

struct Plan<'a> {
    /// Tensors of the file that have no place yet.
    left: BTreeMap<&'a str, Stored<'a>>,
    planned: Vec<Planned<'a>>,
}

impl Plan<'_> {
    fn add_layer(&mut self, model: &Model, layer: u64) -> Result<(), Refusal> {
        let source = |name: &str| format!("blk.{layer}.{name}");
        let target = |name: &str| format!("model.layers.{layer}.{name}");
        let (hidden, inner, width) = (model.hidden, model.inner, model.head_dim);
        let (queries, keys) = (model.heads * width, model.kv_heads * width);
        for (from, to) in [("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")] {
            self.add(&source(&format!("{from}.weight")), &target(&format!("{to}.weight")), &[hidden], None)?;
        }
        for (from, to) in PROJECTIONS {
            let [rows, columns] = match from {
                "attn_q" => [queries, hidden],
                "attn_k" | "attn_v" => [keys, hidden],
                "attn_output" => [hidden, queries],
                "ffn_down" => [hidden, inner],
                _ => [inner, hidden],
            };
            let interleaved = model.family == Family::Llama && matches!(from, "attn_q" | "attn_k");
            let interleaved = interleaved.then_some(width as usize);
            let weight = target(&format!("{to}.weight"));
            self.add(&source(&format!("{from}.weight")), &weight, &[rows, columns], interleaved)?;
            let biased = match from {
                "attn_q" | "attn_k" | "attn_v" => model.qkv_bias,
                "attn_output" => model.output_bias,
                _ => false,
            };
            if biased {
                self.add(&source(&format!("{from}.bias")), &target(&format!("{to}.bias")), &[rows], interleaved)?;
            }
        }
        if model.family == Family::Qwen3 {
            for (from, to) in [("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm")] {
                self.add(&source(&format!("{from}.weight")), &target(&format!("{to}.weight")), &[width], None)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, source: &str, target: &str, shape: &[u64], interleaved: Option<usize>) -> Result<(), Refusal> {
        let mut stored = self.left.remove(source).ok_or_else(|| missing_tensor(source))?;
        if stored.shape != shape {
            let problem = format!("tensor {} must be of shape {shape:?}, got {:?}", quoted(source), stored.shape);
            return Err(invalid(problem));
        }
        if interleaved.is_some() && shape.len() == 1 {
            // A bias has one value per row of its matrix: rows of one value, which only unblocked formats can have.
            if stored.format.values != 1 {
                return Err(unsupported(format!("a bias in {}", stored.format.name), "F32, F16 and BF16 are"));
            }
            stored.shape.push(1);
        }
        self.planned.push(Planned { name: target.to_owned(), shape: shape.to_vec(), stored, interleaved });
        Ok(())
    }
}
