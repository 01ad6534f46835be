use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Degenerate, Nft, Objective, Reduction};

/// Section `[objective]`: the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// `nft` (default): learns from right and wrong answers (arXiv 2505.18116, equation 10). `rft`: from right answers only,
    /// which is NFT with `neg_weight` 0; the paper's RFT also has `weight = "one"`.
    pub name: ObjectiveName,
    /// w, the weight of a question with rate r: `"one"` (or `"1"`), `"1-r"` (default, the paper; on-policy this is Dr. GRPO)
    /// or `"sqrt"`, √((1−r)/r) (on-policy this is GRPO).
    pub weight: Weight,
    /// ε, the least value of a wrong token's implicit likelihood ratio (1 − r R)/(1 − r); gradients pass straight through.
    /// Default 1.0 (the paper). More than 1 weakens wrong answers from the first step on.
    pub eps: f64,
    /// Factor of wrong answers in `nft`. Default 1.0; the reference code suggests 0.5 for 32B.
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
}

/// Which objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveName {
    /// Negative-aware fine-tuning.
    Nft,
    /// Rejection fine-tuning.
    Rft,
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
        if self.reduction == Reduction::ConstLen && self.max_len.is_none() {
            errors.push("objective.max_len: must be given for reduction = \"const_len\"".to_owned());
        }
        if self.max_len == Some(0) {
            errors.push("objective.max_len: must be at least 1, got 0".to_owned());
        }
    }

    /// The objective that this names.
    pub fn build(&self) -> Box<dyn Objective> {
        let neg_weight = match self.name {
            ObjectiveName::Nft => self.neg_weight,
            ObjectiveName::Rft => 0.0,
        };
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
