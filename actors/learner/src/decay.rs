use counterpoint_policy::Stretch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Weight decay of the parameter groups that shall have another than `learner.weight_decay`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WeightDecayGroups {
    /// Of the embedding and the output projection; `weight_decay` unless given.
    pub embeddings: Option<f64>,
    /// Of norms and biases; 0 unless given.
    pub norms_and_biases: Option<f64>,
}

impl WeightDecayGroups {
    /// λ of a stretch of the parameters.
    pub(crate) fn decay(self, stretch: &Stretch, of_matrices: f64) -> f64 {
        match stretch.name.as_str() {
            _ if stretch.is_vector => self.norms_and_biases.unwrap_or(0.0),
            "model.embed_tokens.weight" | "lm_head.weight" => self.embeddings.unwrap_or(of_matrices),
            _ => of_matrices,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use counterpoint_policy::{Device, Kind, Parameters, checkpoint};

    use super::*;

    #[test]
    fn every_parameter_is_in_one_group() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/data/tiny-qwen2");
        let (model, flat) = checkpoint::load(&model, Kind::Float, Device::Cpu).unwrap();
        let parameters = Parameters::new(&model, flat).unwrap();
        let of = |groups: WeightDecayGroups| -> Vec<(String, f64)> {
            let named = |stretch: &Stretch| (stretch.name.clone(), groups.decay(stretch, 0.1));
            parameters.stretches().map(named).collect()
        };
        let vector = |name: &str| name.ends_with("norm.weight") || name.ends_with(".bias");
        for (name, decay) in of(WeightDecayGroups::default()) {
            assert_eq!(decay, if vector(&name) { 0.0 } else { 0.1 }, "{name}");
        }
        for (name, decay) in of(WeightDecayGroups { embeddings: Some(0.0), norms_and_biases: Some(0.2) }) {
            let embedding = name.contains("embed_tokens") || name.contains("lm_head");
            assert_eq!(
                decay,
                if vector(&name) {
                    0.2
                } else if embedding {
                    0.0
                } else {
                    0.1
                },
                "{name}"
            );
        }
    }
}
