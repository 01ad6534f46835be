//! Which tensor lies in which file: as huggingface_hub splits a state dict, so that the files are those that
//! `save_pretrained` would have made with the same limit.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Place, WEIGHTS};

/// The files of a model and the tensors of each, as indices.
pub(super) type Shards = Vec<(String, Vec<usize>)>;

/// Splits tensors of these sizes, given in the order of the model's modules, into files of at most `limit` bytes. A tensor
/// that is larger has a file of its own.
pub(super) fn split(sizes: &[u64], limit: u64) -> Shards {
    let mut shards: Vec<Vec<usize>> = Vec::new();
    let (mut current, mut filled) = (Vec::new(), 0);
    for (tensor, &size) in sizes.iter().enumerate() {
        if size > limit {
            shards.push(vec![tensor]);
            continue;
        }
        if filled + size > limit {
            shards.push(std::mem::take(&mut current));
            filled = 0;
        }
        current.push(tensor);
        filled += size;
    }
    if !current.is_empty() {
        shards.push(current);
    }
    let count = shards.len();
    let name = |number: usize| match count {
        1 => WEIGHTS.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
    };
    shards.into_iter().enumerate().map(|(number, tensors)| (name(number), tensors)).collect()
}

/// The places of a model in the order in which transformers registers its modules: embedding; per layer attention, MLP and
/// norms; the final norm; the head. A weight comes before its bias.
pub(super) fn module_order<'a>(mut places: Vec<Place<'a>>) -> Vec<Place<'a>> {
    const IN_LAYER: [&str; 11] = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "self_attn.q_norm",
        "self_attn.k_norm",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
        "input_layernorm",
        "post_attention_layernorm",
    ];
    let rank = |name: &str| {
        let in_layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
        let is_bias = name.ends_with(".bias");
        match in_layer {
            Some((layer, module)) => {
                let position = IN_LAYER.iter().position(|known| module.starts_with(known));
                (1, layer.parse::<u64>().unwrap_or(u64::MAX), position.unwrap_or(IN_LAYER.len()), is_bias)
            }
            None if name.starts_with("model.embed_tokens") => (0, 0, 0, is_bias),
            None if name.starts_with("lm_head") => (3, 0, 0, is_bias),
            None => (2, 0, 0, is_bias),
        }
    };
    places.sort_by_key(|place| rank(place.name));
    places
}

/// The text of `model.safetensors.index.json`, as transformers writes it: keys sorted, two spaces.
pub(super) fn index(shards: &Shards, places: &[Place<'_>], width: u64) -> String {
    let file_of = shards.iter().flat_map(|(file, tensors)| tensors.iter().map(move |i| (places[*i].name, file)));
    let parameters: i64 = places.iter().map(|place| place.numel).sum();
    let index = json!({
        "metadata": {"total_parameters": parameters, "total_size": parameters as u64 * width},
        "weight_map": file_of.collect::<BTreeMap<_, _>>(),
    });
    format!("{index:#}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tensors(shards: &Shards) -> Vec<&[usize]> {
        shards.iter().map(|(_, tensors)| &tensors[..]).collect()
    }

    #[test]
    fn a_model_below_the_limit_is_one_file_and_a_large_tensor_has_its_own() {
        assert_eq!(split(&[3, 3, 4], 10), [("model.safetensors".to_owned(), vec![0, 1, 2])]);
        let shards = split(&[3, 3, 50, 4, 1], 10);
        // As the hub's library does: the large one is closed before what was begun.
        assert_eq!(tensors(&shards), [&[2][..], &[0, 1, 3], &[4]]);
        let names: Vec<&str> = shards.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "model-00001-of-00003.safetensors",
                "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors"
            ]
        );
    }

    proptest! {
        #[test]
        fn every_tensor_is_in_one_file_and_no_file_exceeds_the_limit(
            sizes in prop::collection::vec(1u64..100, 1..60),
            limit in 1u64..200,
        ) {
            let shards = split(&sizes, limit);
            let mut all: Vec<usize> = tensors(&shards).concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            for tensors in tensors(&shards) {
                prop_assert!(!tensors.is_empty());
                let total: u64 = tensors.iter().map(|i| sizes[*i]).sum();
                prop_assert!(total <= limit || tensors.len() == 1, "{tensors:?} take {total}");
            }
            prop_assert_eq!(shards.len() == 1, shards[0].0 == WEIGHTS);
        }
    }
}
