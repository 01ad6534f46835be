use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Advantage, Contrast, Degenerate, Nft, Objective, ObjectiveName, Overlong, PolicyGradient, Preference, Reduction,
    Sft, name,
};
use crate::LearnerError;

/// Section `[objective]`: the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// `nft` (default): learns from right and wrong answers (arXiv 2505.18116, equation 10). `rft`: from right answers only,
    /// which is NFT with `neg_weight` 0; the paper's RFT also has `weight = "one"`. `grpo`, `dr_grpo`, `dapo`: clipped policy
    /// gradients; best with `reduction` `seq_mean`, `const_len` and `token_mean`. `dpo`: over all K answers of a question
    /// (InfoNCA). `contrast`: the log-ratio up for right answers and down for wrong ones, for comparison. `sft`:
    /// supervised, on right answers (`counterpoint sft` trains it on given ones). Equations are in OBJECTIVES.md. A program of one's own may register further names.
    pub name: ObjectiveName,
    /// w, the weight of a question with rate r: `"one"` (or `"1"`), `"1-r"` (default, the paper; on-policy this is Dr. GRPO)
    /// or `"sqrt"`, √((1−r)/r) (on-policy this is GRPO).
    pub weight: Weight,
    /// ε, the least value of a wrong token's implicit likelihood ratio (1 − r R)/(1 − r); gradients pass straight through.
    /// Default 1.0 (the paper). More than 1 weakens wrong answers from the first step on.
    pub eps: f64,
    /// Factor of wrong answers in `nft` and `contrast`. Default 1.0; the reference code suggests 0.5 for 32B.
    pub neg_weight: f64,
    /// How tokens are added up: `token_mean` (default: the mean over all trained tokens of the batch, as the paper says),
    /// `sum1000` (the sum divided by 1000, which is what the reference code does instead: its steps then grow with batch
    /// and answer length, and only the gradient clip notices), `sum`, `seq_mean` (mean per answer, then over answers) or
    /// `const_len` (the sum divided by answers times `max_len`).
    pub reduction: Reduction,
    /// `token` (default): one likelihood ratio per token. `sequence`: one per answer, summed without a normaliser.
    pub level: Level,
    /// Tokens by which `reduction = "const_len"` divides each answer; used by nothing else.
    pub max_len: Option<u64>,
    /// How far the likelihood ratio may fall below 1 before `grpo`, `dr_grpo` and `dapo` cut the gradient. Default 0.2.
    pub clip_low: f64,
    /// How far it may rise above 1. Default 0.2; DAPO's paper has 0.28.
    pub clip_high: f64,
    /// DAPO's soft overlong shaping, `{ max_len = 16384, buffer = 4096, factor = 1.0 }`, for `grpo`, `dr_grpo` and `dapo`:
    /// scores, taken as -1 to 1, lose up to `factor` over the last `buffer` tokens before `max_len`. Default: none.
    pub overlong: Option<Overlong>,
    /// β of `dpo`: how much of a log-ratio counts. Default 0.1.
    pub beta: f64,
    /// Weight in `dpo` of the likelihood of right answers, without which it is unstable, says the paper. Default 0.1.
    pub sft: f64,
    /// Weight of the divergence from the weights that training started from (k3 per token, mean over tokens), added to any
    /// objective. Default 0: none, and no copy of those weights is kept.
    pub kl_coef: f64,
    /// Weight of the policy's entropy at the trained positions (nats, mean over tokens), taken off the loss of any objective.
    /// Default 0: none.
    pub entropy_coef: f64,
    /// Options of an objective that a program registered. Default: none.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// The weight of a question as a function of its rate r.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Weight {
    /// 1.
    #[serde(rename = "one", alias = "1")]
    One,
    /// 1 − r.
    #[serde(rename = "1-r")]
    OneMinusRate,
    /// √((1 − r)/r).
    #[serde(rename = "sqrt")]
    Sqrt,
}

impl Weight {
    /// w(r), for 0 < r < 1.
    pub fn at(self, rate: f64) -> f64 {
        match self {
            Self::One => 1.0,
            Self::OneMinusRate => 1.0 - rate,
            Self::Sqrt => ((1.0 - rate) / rate).sqrt(),
        }
    }
}

/// What has one likelihood ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Each token.
    Token,
    /// Each answer.
    Sequence,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            name: ObjectiveName::Nft,
            weight: Weight::OneMinusRate,
            eps: 1.0,
            neg_weight: 1.0,
            reduction: Reduction::TokenMean,
            level: Level::Token,
            max_len: None,
            clip_low: 0.2,
            clip_high: 0.2,
            overlong: None,
            beta: 0.1,
            sft: 0.1,
            kl_coef: 0.0,
            entropy_coef: 0.0,
            options: Map::new(),
        }
    }
}

impl ObjectiveConfig {
    /// Pushes one line per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if !(self.eps.is_finite() && self.eps > 0.0) {
            errors.push(format!("objective.eps: must be > 0, got {}", self.eps));
        }
        if !(self.neg_weight.is_finite() && self.neg_weight >= 0.0) {
            errors.push(format!("objective.neg_weight: must be >= 0, got {}", self.neg_weight));
        }
        if !(0.0..1.0).contains(&self.clip_low) {
            errors.push(format!("objective.clip_low: must be in [0, 1), got {}", self.clip_low));
        }
        if !(self.clip_high.is_finite() && self.clip_high >= 0.0) {
            errors.push(format!("objective.clip_high: must be >= 0, got {}", self.clip_high));
        }
        if !(self.beta.is_finite() && self.beta > 0.0) {
            errors.push(format!("objective.beta: must be > 0, got {}", self.beta));
        }
        if !(self.sft.is_finite() && self.sft >= 0.0) {
            errors.push(format!("objective.sft: must be >= 0, got {}", self.sft));
        }
        self.validate_options(errors);
        for (key, value) in [("kl_coef", self.kl_coef), ("entropy_coef", self.entropy_coef)] {
            if !(value.is_finite() && value >= 0.0) {
                errors.push(format!("objective.{key}: must be >= 0, got {value}"));
            }
        }
        if let Some(overlong) = self.overlong {
            let Overlong { max_len, buffer, factor } = overlong;
            if buffer == 0 || buffer > max_len {
                errors.push(format!(
                    "objective.overlong.buffer: must be between 1 and max_len = {max_len}, got {buffer}"
                ));
            }
            if !(factor.is_finite() && factor >= 0.0) {
                errors.push(format!("objective.overlong.factor: must be >= 0, got {factor}"));
            }
            if !matches!(self.name, ObjectiveName::Grpo | ObjectiveName::DrGrpo | ObjectiveName::Dapo) {
                errors.push("objective.overlong: is only for grpo, dr_grpo and dapo; leave it out".to_owned());
            }
        }
        if self.reduction == Reduction::ConstLen && self.max_len.is_none() {
            errors.push("objective.max_len: must be given for reduction = \"const_len\"".to_owned());
        }
        if self.max_len == Some(0) {
            errors.push("objective.max_len: must be at least 1, got 0".to_owned());
        }
    }

    fn validate_options(&self, errors: &mut Vec<String>) {
        match self.name {
            ObjectiveName::Registered(name) => {
                errors.extend(name::build(name, &self.options).err().map(|problem| problem.to_string()));
            }
            built_in if !self.options.is_empty() => errors.push(format!(
                "objective.options: is for objectives that a program registers, {built_in} takes none; leave it out"
            )),
            _ => {}
        }
    }

    /// The objective that this names. Only a registered one can fail, on its options.
    pub fn build(&self) -> Result<Box<dyn Objective>, LearnerError> {
        Ok(match self.name {
            ObjectiveName::Nft => self.nft(self.neg_weight),
            ObjectiveName::Rft => self.nft(0.0),
            ObjectiveName::Grpo => self.policy_gradient(Advantage::Grpo),
            ObjectiveName::DrGrpo => self.policy_gradient(Advantage::DrGrpo),
            ObjectiveName::Dapo => self.policy_gradient(Advantage::GrpoVerl),
            ObjectiveName::Dpo => Box::new(Preference { beta: self.beta, sft: self.sft }),
            ObjectiveName::Contrast => Box::new(Contrast {
                weight: self.weight,
                neg_weight: self.neg_weight,
                reduction: self.reduction,
                max_len: self.max_len,
            }),
            ObjectiveName::Sft => Box::new(Sft { reduction: self.reduction, max_len: self.max_len }),
            ObjectiveName::Registered(name) => name::build(name, &self.options)?,
        })
    }

    fn nft(&self, neg_weight: f64) -> Box<dyn Objective> {
        Box::new(Nft {
            weight: self.weight,
            eps: self.eps,
            neg_weight,
            reduction: self.reduction,
            max_len: self.max_len,
            level: self.level,
            degenerate: Degenerate::Drop,
        })
    }

    fn policy_gradient(&self, advantage: Advantage) -> Box<dyn Objective> {
        Box::new(PolicyGradient {
            advantage,
            clip_low: self.clip_low,
            clip_high: self.clip_high,
            reduction: self.reduction,
            max_len: self.max_len,
            filtered: true,
            overlong: self.overlong,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_weight_one_are_read_and_unknown_keys_are_not() {
        let read = |text: &str| serde_json::from_str::<ObjectiveConfig>(text).map(|c| c.weight);
        assert_eq!(read(r#"{"weight": "1"}"#).unwrap(), read(r#"{"weight": "one"}"#).unwrap());
        assert_eq!(read("{}").unwrap(), Weight::OneMinusRate);
        assert!(read(r#"{"epsilon": 1.0}"#).is_err());
    }

    #[test]
    fn a_constant_length_must_be_given_where_it_is_used() {
        let mut errors = Vec::new();
        ObjectiveConfig::default().validate(&mut errors);
        assert_eq!(errors, Vec::<String>::new());
        let bad = ObjectiveConfig { reduction: Reduction::ConstLen, eps: 0.0, ..Default::default() };
        bad.validate(&mut errors);
        assert_eq!(
            errors,
            ["objective.eps: must be > 0, got 0", "objective.max_len: must be given for reduction = \"const_len\""]
        );
    }
}
