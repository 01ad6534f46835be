use counterpoint_policy::Layout;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::optimizer::Decay;

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
    /// The decay of every range of the flat buffer, ranges of equal decay joined.
    pub(crate) fn decays(self, layout: &Layout, of_matrices: f64) -> Vec<Decay> {
        let mut decays: Vec<Decay> = Vec::new();
        for entry in layout.entries() {
            let name = entry.parts.first().map_or("", |part| part.name.as_str());
            let rate = if entry.offset >= layout.decayed() {
                self.norms_and_biases.unwrap_or(0.0)
            } else if matches!(name, "model.embed_tokens.weight" | "lm_head.weight") {
                self.embeddings.unwrap_or(of_matrices)
            } else {
                of_matrices
            };
            match decays.last_mut().filter(|last| last.rate == rate) {
                Some(last) => last.elements += entry.numel(),
                None => decays.push(Decay { offset: entry.offset, elements: entry.numel(), rate }),
            }
        }
        decays
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use counterpoint_policy::ModelConfig;

    use super::*;

    #[test]
    fn every_parameter_is_in_one_group_and_equal_neighbours_are_one() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/data/tiny-qwen2");
        let layout = Layout::new(&ModelConfig::from_dir(&model).unwrap());
        let of = |groups: WeightDecayGroups| {
            groups.decays(&layout, 0.1).iter().map(|d| (d.offset, d.elements, d.rate)).collect::<Vec<_>>()
        };
        let (decayed, all) = (layout.decayed(), layout.numel());
        assert_eq!(of(WeightDecayGroups::default()), [(0, decayed, 0.1), (decayed, all - decayed, 0.0)]);
        let own = WeightDecayGroups { embeddings: Some(0.0), norms_and_biases: Some(0.2) };
        let embedding = layout.entries()[0].numel();
        let middle = decayed - 2 * embedding;
        assert_eq!(
            of(own),
            [
                (0, embedding, 0.0),
                (embedding, middle, 0.1),
                (embedding + middle, embedding, 0.0), // the output projection
                (decayed, all - decayed, 0.2)
            ]
        );
    }
}
