use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::LearnerError;

/// The L2 norm of each part of a flat gradient: `embed_tokens`, `layers.0`, ..., `norm`, `lm_head`. Waits for the device once.
/// `spans`: name, first element and number of elements of everything in it.
pub(crate) fn by_layer(spans: Vec<(&str, i64, i64)>, grad: &Tensor) -> Result<BTreeMap<String, f64>, LearnerError> {
    tch::no_grad(|| {
        let squares = spans.iter().map(|(_, offset, numel)| {
            let part = grad.f_narrow(0, *offset, *numel)?;
            part.f_square()?.f_sum(Kind::Double)
        });
        let squares = Tensor::f_stack(&squares.collect::<Result<Vec<_>, _>>()?, 0)?;
        let squares = Vec::<f64>::try_from(squares)?;
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for ((name, ..), square) in spans.into_iter().zip(squares) {
            *sums.entry(place(name)).or_default() += square;
        }
        Ok(sums.into_iter().map(|(place, sum)| (place, sum.sqrt())).collect())
    })
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
