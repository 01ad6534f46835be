//! Which tensor lies in which file: as huggingface_hub splits a state dict, so that the files are those that
//! `save_pretrained` would have made with the same limit.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Place, WEIGHTS};

/// The files of a model and the tensors of each, as indices.
pub(super) type Shards = Vec<(String, Vec<usize>)>;

/// Splits tensors of these sizes, in the order in which they are saved, into files of at most `limit` bytes. A tensor
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

/// The places of a model in the order in which transformers 5 saves them: by name, the parts between dots as numbers where
/// they are numbers, so that layer 2 comes before layer 10.
pub(super) fn in_saved_order<'a>(mut places: Vec<Place<'a>>) -> Vec<Place<'a>> {
    let key = |name: &'a str| -> Vec<(u64, &'a str)> {
        name.split('.').map(|part| part.parse().map_or((u64::MAX, part), |number| (number, ""))).collect()
    };
    places.sort_by_cached_key(|place| key(place.name));
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

    #[test]
    fn tensors_are_saved_by_name_and_layers_by_number() {
        let names = [
            "model.norm.weight",
            "model.layers.10.b.weight",
            "model.layers.2.b.weight",
            "lm_head.weight",
            "model.layers.2.b.bias",
        ];
        let places = names.map(|name| Place { name, shape: vec![1], offset: 0, numel: 1 });
        let sorted: Vec<&str> = in_saved_order(places.into()).iter().map(|place| place.name).collect();
        assert_eq!(sorted, [names[3], names[4], names[2], names[1], names[0]]);
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
