//! Rope scaling: from GGUF's keys and factors to what config.json says.

use std::f64::consts::TAU;

use serde_json::{Value, json};

use super::error::{Refusal, invalid, quoted, unsupported};
use super::model::Family;
use super::reader::Gguf;

/// Divisors of the rotary frequencies, one per pair of a head's values: how Llama 3.1's scaling is stored.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// What all models with Llama 3.1's scaling share; the file has only what comes out of it.
const LLAMA3: (f64, f64, f64) = (1.0, 4.0, 8192.0);

/// `rope_scaling` of config.json; `None` where frequencies are not changed.
pub(super) fn scaling(file: &Gguf, family: Family, theta: f64, head_dim: u64) -> Result<Option<Value>, Refusal> {
    let by_factors = from_factors(file, theta, head_dim)?;
    let by_keys = from_keys(file, family)?;
    match (by_factors, by_keys) {
        (Some(_), Some(_)) => Err(unsupported(format!("{FACTORS} besides a rope.scaling.type"), "either alone is")),
        (one, other) => Ok(one.or(other)),
    }
}

fn from_keys(file: &Gguf, family: Family) -> Result<Option<Value>, Refusal> {
    let metadata = &file.metadata;
    let key = |name: &str| format!("{}.rope.scaling.{name}", family.name());
    let kind = metadata.text(&key("type"))?.unwrap_or("none");
    let positive = |name: &str| match metadata.real(&key(name))? {
        Some(n) if n > 0.0 => Ok(n),
        Some(n) => Err(invalid(format!("metadata key {} must be positive, got {n}", quoted(&key(name))))),
        None => Err(invalid(format!("metadata key {} is missing, the scaling {kind:?} needs it", quoted(&key(name))))),
    };
    if let Some(factor) = metadata.real(&key("attn_factor"))?.filter(|&n| n != 1.0) {
        return Err(unsupported(format!("{} = {factor}", key("attn_factor")), "models with 1 there are"));
    }
    match kind {
        "none" => Ok(None),
        "linear" => Ok(Some(json!({"rope_type": "linear", "factor": positive("factor")?}))),
        "yarn" => {
            let original = positive("original_context_length")? as u64;
            let factor = positive("factor")?;
            Ok(Some(json!({"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original})))
        }
        other => {
            let what = format!("{} = {}", key("type"), quoted(other));
            Err(unsupported(what, "\"none\", \"linear\" and \"yarn\" are"))
        }
    }
}

/// Finds the settings of Llama 3.1's scaling that give the file's factors.
fn from_factors(file: &Gguf, theta: f64, head_dim: u64) -> Result<Option<Value>, Refusal> {
    let Some(stored) = file.tensors.get(FACTORS) else { return Ok(None) };
    if stored.shape != [head_dim / 2] {
        return Err(invalid(format!("{FACTORS} must be of shape [{}], got {:?}", head_dim / 2, stored.shape)));
    }
    let mut factors = vec![0.0; stored.row_values()];
    stored.format.decode(stored.bytes, &mut factors);
    let factor = factors.iter().copied().fold(0.0, f32::max);
    if factors.iter().all(|&f| f == 1.0) {
        return Ok(None);
    }
    let (low, high, original) = LLAMA3;
    let fits = factors.iter().enumerate().all(|(i, &found)| {
        let frequency = theta.powf(-2.0 * i as f64 / head_dim as f64);
        let wanted = llama3_factor(TAU / frequency, f64::from(factor));
        (f64::from(found) / wanted - 1.0).abs() < 1e-4
    });
    if !fits {
        let hint = format!("those of Llama 3.1's scaling are (low {low}, high {high}, original context {original})");
        return Err(unsupported(format!("rotary frequencies changed by the factors in {FACTORS}"), hint));
    }
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original as u64,
    })))
}

/// By what Llama 3.1 divides the frequency of a wavelength: short ones stay, long ones are divided by `factor`.
fn llama3_factor(wavelength: f64, factor: f64) -> f64 {
    let (low, high, original) = LLAMA3;
    if wavelength < original / high {
        1.0
    } else if wavelength > original / low {
        factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::fixture::{Fixture, floats};

    fn read(file: &Fixture) -> Result<Option<Value>, Refusal> {
        let bytes = file.bytes();
        scaling(&Gguf::parse(&bytes)?, Family::Llama, 500_000.0, 128)
    }

    fn factors(of: impl Fn(f64) -> f64) -> Fixture {
        let all = (0..64).map(|i| of(TAU * 500_000f64.powf(f64::from(i) / 64.0)) as f32).collect::<Vec<_>>();
        Fixture::empty().tensor(FACTORS, &[64], 0, floats(&all))
    }

    #[test]
    fn the_settings_of_llama_3_1_are_found_from_its_factors() {
        for factor in [8.0, 32.0] {
            let found = read(&factors(|wavelength| llama3_factor(wavelength, factor))).unwrap().unwrap();
            assert_eq!((&found["rope_type"], &found["factor"]), (&json!("llama3"), &json!(factor)), "{found}");
            assert_eq!(found["original_max_position_embeddings"], 8192);
        }
        assert_eq!(read(&factors(|_| 1.0)), Ok(None));
    }

    #[test]
    fn factors_of_another_origin_are_refused_by_name() {
        let strange = read(&factors(|wavelength| if wavelength > 1000.0 { 4.0 } else { 1.0 }));
        assert!(matches!(strange, Err(Refusal::Unsupported { what, .. }) if what.contains(FACTORS)));
        let nan = read(&factors(|_| f64::NAN));
        assert!(matches!(nan, Err(Refusal::Unsupported { .. })), "{nan:?}");
    }

    #[test]
    fn linear_and_yarn_come_from_the_keys_and_others_are_refused() {
        let kind = |kind: &str| Fixture::empty().text("llama.rope.scaling.type", kind);
        let linear = kind("linear").real("llama.rope.scaling.factor", 2.5);
        assert_eq!(read(&linear), Ok(Some(json!({"rope_type": "linear", "factor": 2.5}))));
        let yarn = kind("yarn").real("llama.rope.scaling.factor", 4.0);
        assert!(matches!(read(&yarn), Err(Refusal::Invalid(problem)) if problem.contains("original_context_length")));
        let yarn = yarn.count("llama.rope.scaling.original_context_length", 32768);
        let wanted = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768});
        assert_eq!(read(&yarn), Ok(Some(wanted)));
        let longrope = read(&kind("longrope"));
        assert!(matches!(longrope, Err(Refusal::Unsupported { what, .. }) if what.contains("longrope")));
    }
}
