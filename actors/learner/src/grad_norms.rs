use std::collections::BTreeMap;

use counterpoint_policy::Stretch;

/// The L2 norm of each part of the gradient: `embed_tokens`, `layers.0`, ..., `norm`, `lm_head`; parts of which nothing is trained
/// are left out. `norms`: of each stretch.
pub(crate) fn by_layer<'a>(stretches: impl Iterator<Item = &'a Stretch>, norms: &[f64]) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for (stretch, norm) in stretches.zip(norms) {
        *sums.entry(place(&stretch.name)).or_default() += norm * norm;
    }
    sums.into_iter().map(|(place, sum)| (place, sum.sqrt())).collect()
}

/// `model.layers.3.mlp.up_proj.weight` is in `layers.3`.
fn place(name: &str) -> String {
    let mut words = name.strip_prefix("model.").unwrap_or(name).split('.');
    match (words.next(), words.next()) {
        (Some("layers"), Some(number)) => format!("layers.{number}"),
        (first, _) => first.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_in_its_layer_or_stands_for_itself() {
        let places =
            ["model.embed_tokens.weight", "model.layers.12.mlp.up_proj.weight", "model.norm.weight"].map(place);
        assert_eq!(places, ["embed_tokens", "layers.12", "norm"]);
        assert_eq!(place("lm_head.weight"), "lm_head");
    }
}
