//! Rotary base and scaling, in both dialects of the key names.

use serde_json::{Map, Value};

use super::raw::Raw;
use super::{RawError, invalid, refuse, unsupported};

/// How rotary frequencies are changed for long contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All frequencies divided by a factor: positions are interpolated.
    Linear {
        /// The division.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between (transformers
    /// `modeling_rope_utils._compute_llama3_parameters`).
    Llama3 {
        /// Division of the low frequencies.
        factor: f64,
        /// Wavelengths over `original_positions / low` are divided.
        low: f64,
        /// Wavelengths under `original_positions / high` are kept.
        high: f64,
        /// The context the model was first trained with.
        original_positions: f64,
    },
    /// YaRN: as Llama 3.1, with a ramp over dimensions instead of wavelengths, and queries and keys made longer
    /// (`_compute_yarn_parameters`).
    Yarn {
        /// Division of the low frequencies.
        factor: f64,
        /// Multiplies cosines and sines, so the scores by its square.
        attention_factor: f64,
        /// Dimensions that turn more often than this within the original context are kept.
        beta_fast: f64,
        /// Dimensions that turn less often than this are divided.
        beta_slow: f64,
        /// The context the model was first trained with.
        original_positions: f64,
        /// Whether the ramp begins and ends at whole dimensions.
        truncate: bool,
    },
}

/// Base and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (transformers 4). Like
/// transformers, it lets `rope_scaling` win where both are there.
pub(super) fn read(raw: &Raw) -> Result<(f64, RopeScaling), RawError> {
    let empty = Map::new();
    let object = |key: &str, value: &Option<Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map.clone()).filter(|map| !map.is_empty())),
        Some(other) => Err(RawError::Invalid(format!("{key} must be an object, got {other}"))),
    };
    let scaling = object("rope_scaling", &raw.rope_scaling)?;
    let map = match scaling {
        Some(map) => map,
        None => object("rope_parameters", &raw.rope_parameters)?.unwrap_or(empty),
    };
    if let Some((layer_type, _)) = map.iter().find(|(_, value)| value.is_object()) {
        return Err(unsupported(
            format!("rope_parameters of its own for \"{layer_type}\""),
            "one set for all layers is",
        ));
    }
    let keys = Keys { raw, map: &map, kind: kind(&map)? };
    let partial = keys.number("partial_rotary_factor")?.or(raw.partial_rotary_factor).unwrap_or(1.0);
    refuse(partial != 1.0, || format!("partial_rotary_factor {partial}"), "a rotation of whole heads is")?;
    let theta = keys.number("rope_theta")?.or(raw.rope_theta).unwrap_or(10_000.0);
    invalid(theta <= 0.0, || format!("rope_theta must be > 0, got {theta}"))?;
    let scaling = match keys.kind {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor: keys.positive("factor")? },
        "llama3" => keys.llama3()?,
        "yarn" => keys.yarn(theta)?,
        other => {
            let hint = "\"default\", \"linear\", \"llama3\" and \"yarn\" are";
            return Err(unsupported(format!("rope type \"{other}\""), hint));
        }
    };
    Ok((theta, scaling))
}

/// `rope_type`, or `type` as it was called at first.
fn kind(map: &Map<String, Value>) -> Result<&str, RawError> {
    match map.get("rope_type").or_else(|| map.get("type")) {
        None => Ok("default"),
        Some(Value::String(kind)) => Ok(kind),
        Some(other) => Err(RawError::Invalid(format!("rope_type must be a string, got {other}"))),
    }
}

struct Keys<'a> {
    raw: &'a Raw,
    map: &'a Map<String, Value>,
    kind: &'a str,
}

impl Keys<'_> {
    /// A number, if it is there and not null.
    fn number(&self, key: &str) -> Result<Option<f64>, RawError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(RawError::Invalid(format!(
                    "{key} of rope type \"{}\" must be a number, got {value}",
                    self.kind
                ))),
            },
        }
    }

    fn positive(&self, key: &str) -> Result<f64, RawError> {
        let found = self.number(key)?.filter(|v| *v > 0.0);
        found.ok_or_else(|| RawError::Invalid(format!("rope type \"{}\" needs a positive {key}", self.kind)))
    }

    /// A number that 0 and null leave at its default, as Python's `or` does.
    fn or_default(&self, key: &str, default: f64) -> Result<f64, RawError> {
        Ok(self.number(key)?.filter(|v| *v != 0.0).unwrap_or(default))
    }

    /// The context before scaling: the key beside the others' sizes wins, the present context is the last resort.
    fn original_positions(&self) -> Result<f64, RawError> {
        const KEY: &str = "original_max_position_embeddings";
        let inner = self.number(KEY)?.unwrap_or(self.raw.max_position_embeddings as f64);
        let positions = self.raw.original_max_position_embeddings.unwrap_or(inner);
        invalid(positions <= 0.0, || format!("{KEY} must be > 0, got {positions}"))?;
        Ok(positions)
    }

    fn llama3(&self) -> Result<RopeScaling, RawError> {
        let (low, high) = (self.positive("low_freq_factor")?, self.positive("high_freq_factor")?);
        invalid(high <= low, || format!("high_freq_factor ({high}) must be more than low_freq_factor ({low})"))?;
        let original_positions = self.original_positions()?;
        Ok(RopeScaling::Llama3 { factor: self.positive("factor")?, low, high, original_positions })
    }

    fn yarn(&self, theta: f64) -> Result<RopeScaling, RawError> {
        invalid(theta <= 1.0, || format!("rope_theta must be > 1 with rope type \"yarn\", got {theta}"))?;
        let original_positions = self.original_positions()?;
        // null stands for the growth of the context; that it is absent is an oversight.
        let factor = match self.map.get("factor") {
            Some(Value::Null) => self.raw.max_position_embeddings as f64 / original_positions,
            _ => self.positive("factor")?,
        };
        let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        let attention_factor = match self.number("attention_factor")? {
            Some(given) => given,
            None => match (self.or_default("mscale", 0.0)?, self.or_default("mscale_all_dim", 0.0)?) {
                (one, all) if one != 0.0 && all != 0.0 => magnitude(one) / magnitude(all),
                _ => magnitude(1.0),
            },
        };
        invalid(!(attention_factor.is_finite() && attention_factor > 0.0), || {
            format!("the attention factor of rope type \"yarn\" must be > 0, got {attention_factor}")
        })?;
        let (beta_fast, beta_slow) = (self.or_default("beta_fast", 32.0)?, self.or_default("beta_slow", 1.0)?);
        invalid(beta_slow <= 0.0 || beta_fast < beta_slow, || {
            format!("rope type \"yarn\" needs beta_fast ({beta_fast}) >= beta_slow ({beta_slow}) > 0")
        })?;
        let truncate = match self.map.get("truncate") {
            None => true,
            Some(Value::Bool(truncate)) => *truncate,
            Some(other) => return Err(RawError::Invalid(format!("truncate must be true or false, got {other}"))),
        };
        Ok(RopeScaling::Yarn { factor, attention_factor, beta_fast, beta_slow, original_positions, truncate })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::raw::tests::edited;
    use super::*;

    fn scaling(parameters: Value) -> Result<RopeScaling, String> {
        edited(|v| v["rope_parameters"] = parameters).map(|config| config.rope_scaling)
    }

    #[test]
    fn both_dialects_are_read() {
        let old = edited(|v| {
            v["rope_theta"] = 5e5.into();
            v["rope_scaling"] = json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64});
        });
        let new = edited(|v| {
            v["rope_parameters"] = json!({"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        });
        assert_eq!(old, new);
        assert_eq!(old.unwrap().rope_theta, 5e5);
        let both = edited(|v| {
            v["rope_scaling"] = json!({"rope_type": "linear", "factor": 2});
            v["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 7.0});
        });
        let both = both.unwrap();
        assert_eq!((both.rope_scaling, both.rope_theta), (RopeScaling::Linear { factor: 2.0 }, 1e4));
    }

    #[test]
    fn the_context_before_scaling_is_found_where_transformers_finds_it() {
        let of = |inner: Value, outer: Value| {
            let config = edited(|v| {
                v["rope_parameters"] =
                    json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": inner});
                v["original_max_position_embeddings"] = outer;
            });
            match config.unwrap().rope_scaling {
                RopeScaling::Yarn { original_positions, .. } => original_positions,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of(64.into(), Value::Null), 64.0);
        assert_eq!(of(64.into(), 32.into()), 32.0);
        assert_eq!(of(Value::Null, Value::Null), 512.0);
    }

    #[test]
    fn the_attention_factor_of_yarn_follows_from_what_is_given() {
        let factor = |more: Value| {
            let mut parameters = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128});
            parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            match scaling(parameters).unwrap() {
                RopeScaling::Yarn { attention_factor, .. } => attention_factor,
                other => panic!("{other:?}"),
            }
        };
        let grown = |scale: f64| 0.1 * scale * 4f64.ln() + 1.0;
        assert_eq!(factor(json!({})), grown(1.0));
        assert_eq!(factor(json!({"attention_factor": 0.5})), 0.5);
        assert_eq!(factor(json!({"mscale": 2.0, "mscale_all_dim": 0.5})), grown(2.0) / grown(0.5));
        assert_eq!(factor(json!({"mscale": 2.0, "mscale_all_dim": 0})), grown(1.0));
        assert_eq!(factor(json!({"factor": 1.0})), 1.0);
        // 512 positions now, 128 before.
        assert_eq!(factor(json!({"factor": null})), grown(1.0));
    }

    #[test]
    fn scalings_that_are_not_supported_or_not_complete_are_refused_by_name() {
        let of_type = |kind: &str| scaling(json!({"rope_type": kind})).unwrap_err();
        for kind in ["dynamic", "longrope", "su", "mrope", "proportional"] {
            let expected = format!("rope type \"{kind}\": \"default\", \"linear\", \"llama3\" and \"yarn\" are");
            assert_eq!(of_type(kind), expected);
        }
        assert_eq!(of_type("linear"), "rope type \"linear\" needs a positive factor");
        assert_eq!(of_type("yarn"), "rope type \"yarn\" needs a positive factor");
        assert_eq!(of_type("llama3"), "rope type \"llama3\" needs a positive low_freq_factor");
        let problem = |parameters: Value| scaling(parameters).unwrap_err();
        assert_eq!(
            problem(json!({"rope_type": "linear", "factor": "2"})),
            "factor of rope type \"linear\" must be a number, got \"2\""
        );
        assert_eq!(problem(json!({"rope_type": 4})), "rope_type must be a string, got 4");
        assert_eq!(problem(json!([1])), "rope_parameters must be an object, got [1]");
        assert_eq!(problem(json!({"rope_theta": 0})), "rope_theta must be > 0, got 0");
        assert_eq!(
            problem(json!({"partial_rotary_factor": 0.5})),
            "partial_rotary_factor 0.5: a rotation of whole heads is"
        );
        assert_eq!(
            problem(json!({"full_attention": {"rope_type": "default"}})),
            "rope_parameters of its own for \"full_attention\": one set for all layers is"
        );
        assert_eq!(
            problem(json!({"rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2})),
            "rope type \"yarn\" needs beta_fast (1) >= beta_slow (2) > 0"
        );
        assert_eq!(
            problem(json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4})),
            "high_freq_factor (4) must be more than low_freq_factor (4)"
        );
    }
}
