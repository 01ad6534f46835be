use std::path::Path;

use counterpoint_policy::{
    Attend, CausalAttention, Device, Kind, ModelConfig, PackedAttention, Tensor, Transformer, Weights,
};
use safetensors::{Dtype, SafeTensors};

use crate::{MODELS, data, distance, model};

/// Input ids (B, S) and transformers' float32 logits (B, S, vocabulary) for them.
pub(crate) fn golden(dir: &Path) -> (Tensor, Tensor) {
    let bytes = std::fs::read(dir.join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |key: &str| {
        let view = file.tensor(key).unwrap();
        let kind = if view.dtype() == Dtype::I64 { Kind::Int64 } else { Kind::Float };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        Tensor::from_data_size(view.data(), &shape, kind)
    };
    (tensor("input_ids"), tensor("logits"))
}

/// Logits (B, S, vocabulary) of plain sequences.
pub(crate) fn logits(config: &ModelConfig, weights: &Weights, ids: &Tensor, attend: &mut dyn Attend) -> Tensor {
    let (rows, length) = ids.size2().unwrap();
    let positions = Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0).expand([rows, length], false);
    logits_at(config, weights, ids, &positions, attend)
}

/// Logits (B, S, vocabulary) of tokens at given positions.
pub(crate) fn logits_at(
    config: &ModelConfig,
    weights: &Weights,
    ids: &Tensor,
    positions: &Tensor,
    attend: &mut dyn Attend,
) -> Tensor {
    let (rows, length) = ids.size2().unwrap();
    let transformer = Transformer::new(config, length, Device::Cpu).unwrap();
    let hidden = transformer.hidden(weights, ids, positions, attend).unwrap();
    let flat = hidden.reshape([rows * length, config.hidden_size]);
    transformer.logits(weights, &flat).unwrap().reshape([rows, length, config.vocab_size])
}

/// Float32 against float32: the sums differ in order (fused projections), which moves logits of size 10 by some 1e-6 a layer.
pub(crate) const TOLERANCE: f64 = 1e-4;

#[test]
fn logits_are_those_of_transformers() {
    for name in MODELS {
        let (config, _, weights) = model(name);
        let (ids, expected) = golden(&data(name));
        let mut packed = PackedAttention::causal(ids.size()[1], Device::Cpu).unwrap();
        let off = distance(&logits(&config, &weights, &ids, &mut packed), &expected);
        assert!(off < TOLERANCE, "{name}: {off}");
        let off = distance(&logits(&config, &weights, &ids, &mut CausalAttention), &expected);
        assert!(off < TOLERANCE, "{name} without a mask: {off}");
    }
}
