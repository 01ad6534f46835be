//! The settings of each `function` of a [case](super::case). What is missing has the reference implementation's default.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Advantage, Contrast, Degenerate, Level, Nft, Objective, Overlong, PolicyGradient, Preference, Reduction, Sft,
    Weight,
};
use crate::LearnerError;

/// `nft`: equation 10 of arXiv 2505.18116; with `neg_weight` 0 it is RFT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NftSettings {
    #[serde(default = "one_minus_rate")]
    weight: Weight,
    #[serde(default = "one")]
    eps: f64,
    #[serde(default = "one")]
    neg_weight: f64,
    #[serde(default = "sum1000")]
    reduction: Reduction,
    max_len: Option<u64>,
    #[serde(default = "token")]
    level: Level,
    #[serde(default = "drop_them")]
    degenerate: Degenerate,
}

/// `clipped_pg`: GRPO, Dr. GRPO, DAPO.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PgSettings {
    #[serde(default = "grpo")]
    adv: Advantage,
    #[serde(default = "clip")]
    lo: f64,
    #[serde(default = "clip")]
    hi: f64,
    #[serde(default = "seq_mean")]
    reduction: Reduction,
    max_len: Option<u64>,
    #[serde(default)]
    filtered: bool,
    overlong: Option<Overlong>,
}

/// `infonca`: DPO over K answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreferenceSettings {
    #[serde(default = "tenth")]
    beta: f64,
    #[serde(default)]
    sft: f64,
}

/// `contrast`: the log-ratio up for right answers, down for wrong ones.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContrastSettings {
    #[serde(default = "one_minus_rate")]
    weight: Weight,
    #[serde(default = "one")]
    neg_weight: f64,
    #[serde(default = "sum1000")]
    reduction: Reduction,
    max_len: Option<u64>,
}

/// `sft`: the likelihood of right answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SftSettings {
    #[serde(default = "token_mean")]
    reduction: Reduction,
    max_len: Option<u64>,
}

/// `overlong_penalty`: DAPO's, of one length.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PenaltySettings {
    length: u64,
    max_response_len: u64,
    buffer_len: u64,
    #[serde(default = "one")]
    factor: f64,
}

fn one_minus_rate() -> Weight {
    Weight::OneMinusRate
}

fn one() -> f64 {
    1.0
}

fn tenth() -> f64 {
    0.1
}

fn clip() -> f64 {
    0.2
}

fn grpo() -> Advantage {
    Advantage::Grpo
}

fn sum1000() -> Reduction {
    Reduction::Sum1000
}

fn token_mean() -> Reduction {
    Reduction::TokenMean
}

fn seq_mean() -> Reduction {
    Reduction::SeqMean
}

fn token() -> Level {
    Level::Token
}

fn drop_them() -> Degenerate {
    Degenerate::Drop
}

/// The objective that a case without its inputs describes; its `function` is a known one.
pub(super) fn objective(case: Value) -> Result<Box<dyn Objective>, LearnerError> {
    let (function, settings) = split(case);
    Ok(match function.as_str() {
        "clipped_pg" => {
            let PgSettings { adv, lo, hi, reduction, max_len, filtered, overlong } = read(settings)?;
            require((0.0..1.0).contains(&lo), "lo", "in [0, 1)", lo)?;
            require(hi >= 0.0, "hi", ">= 0", hi)?;
            let max_len = constant(reduction, max_len)?;
            let (clip_low, clip_high) = (lo, hi);
            Box::new(PolicyGradient { advantage: adv, clip_low, clip_high, reduction, max_len, filtered, overlong })
        }
        "infonca" => {
            let PreferenceSettings { beta, sft } = read(settings)?;
            require(beta > 0.0, "beta", "> 0", beta)?;
            require(sft >= 0.0, "sft", ">= 0", sft)?;
            Box::new(Preference { beta, sft })
        }
        "contrast" => {
            let ContrastSettings { weight, neg_weight, reduction, max_len } = read(settings)?;
            require(neg_weight >= 0.0, "neg_weight", ">= 0", neg_weight)?;
            Box::new(Contrast { weight, neg_weight, reduction, max_len: constant(reduction, max_len)? })
        }
        "sft" => {
            let SftSettings { reduction, max_len } = read(settings)?;
            Box::new(Sft { reduction, max_len: constant(reduction, max_len)? })
        }
        _ => {
            let NftSettings { weight, eps, neg_weight, reduction, max_len, level, degenerate } = read(settings)?;
            require(eps > 0.0, "eps", "> 0", eps)?;
            require(neg_weight >= 0.0, "neg_weight", ">= 0", neg_weight)?;
            let max_len = constant(reduction, max_len)?;
            Box::new(Nft { weight, eps, neg_weight, reduction, max_len, level, degenerate })
        }
    })
}

/// The penalty that an `overlong_penalty` case asks for.
pub(super) fn penalty(case: Value) -> Result<f64, LearnerError> {
    let PenaltySettings { length, max_response_len, buffer_len, factor } = read(split(case).1)?;
    require(buffer_len > 0, "buffer_len", "at least 1", buffer_len)?;
    Ok(Overlong { max_len: max_response_len, buffer: buffer_len, factor }.penalty(length))
}

fn split(mut case: Value) -> (String, Value) {
    let function = case.as_object_mut().and_then(|case| case.remove("function"));
    let function = function.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    (function, case)
}

fn read<T: DeserializeOwned>(settings: Value) -> Result<T, LearnerError> {
    serde_path_to_error::deserialize(settings).map_err(|e| LearnerError::Case(e.to_string()))
}

fn constant(reduction: Reduction, max_len: Option<u64>) -> Result<Option<u64>, LearnerError> {
    if reduction == Reduction::ConstLen && max_len.is_none_or(|n| n == 0) {
        return Err(LearnerError::Case("max_len: expected at least 1 for reduction \"const_len\"".to_owned()));
    }
    Ok(max_len)
}

fn require(ok: bool, key: &str, rule: &str, got: impl std::fmt::Display) -> Result<(), LearnerError> {
    if ok { Ok(()) } else { Err(LearnerError::Case(format!("{key}: expected {rule}, got {got}"))) }
}
