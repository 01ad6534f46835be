use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::MODULES;

/// The word for all projections of a layer.
const ALL: &str = "all-linear";

/// Section `[lora]`: low-rank adapters instead of all parameters. The names are PEFT's, whose format the checkpoints have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// r, the rank of the adapters. Default 0: none, all parameters are trained. With adapters a learning rate about ten
    /// times that of full training is usual.
    #[serde(alias = "r")]
    pub rank: u32,
    /// The adapters' output is scaled by alpha / rank (by alpha / √rank with `use_rslora`). Default 16.
    #[serde(alias = "lora_alpha")]
    pub alpha: f64,
    /// Share of the adapters' inputs that is dropped in training, in [0, 1). Default 0. It makes the learner's log-probs
    /// differ from the sampler's, on policy too.
    #[serde(alias = "lora_dropout")]
    pub dropout: f64,
    /// Which matrices get an adapter: a list of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, or
    /// `"all-linear"` (default), which is all of them.
    pub target_modules: TargetModules,
    /// Rank-stabilised scaling (arXiv 2312.03732). Default false.
    pub use_rslora: bool,
    /// What generators get: `merged` (default), a copy of the model with the adapters folded in, or `separate`, the
    /// adapters alone, which they apply beside the frozen model that they share with the learner: a few megabytes per
    /// publication and one copy of the model in memory instead of three, for a few more operations per decoded token.
    pub publish: Publish,
}

/// How the adapter reaches the generators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Publish {
    /// Folded into a copy of the model.
    #[default]
    Merged,
    /// Alone.
    Separate,
}

/// Names of projections: one text, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetModules {
    /// `"all-linear"`, or the name of one.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl TargetModules {
    /// As they were given.
    pub fn given(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    /// Whether `module`, the last part of a tensor's name, is one of them.
    pub fn contain(&self, module: &str) -> bool {
        let all = *self == Self::One(ALL.to_owned());
        self.given().iter().any(|name| name == module) || all && MODULES.contains(&module)
    }
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 0,
            alpha: 16.0,
            dropout: 0.0,
            target_modules: TargetModules::One(ALL.to_owned()),
            use_rslora: false,
            publish: Publish::Merged,
        }
    }
}

impl LoraConfig {
    /// Whether there are adapters at all.
    pub fn enabled(&self) -> bool {
        self.rank > 0
    }

    /// s, by which the adapters' output is multiplied.
    pub fn scale(&self) -> f64 {
        let rank = f64::from(self.rank.max(1));
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Pushes one line per problem.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.rank > 1 << 16 {
            errors.push(format!("lora.rank: must be at most {}, got {}", 1 << 16, self.rank));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            errors.push(format!("lora.alpha: must be > 0, got {}", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            errors.push(format!("lora.dropout: must be in [0, 1), got {}", self.dropout));
        }
        if self.target_modules.given().is_empty() {
            errors.push(format!("lora.target_modules: must name a projection, got none; {ALL:?} takes all"));
        }
        if self.target_modules == TargetModules::One(ALL.to_owned()) {
            return;
        }
        for name in self.target_modules.given().iter().filter(|name| !MODULES.contains(&name.as_str())) {
            let known = MODULES.join(", ");
            errors.push(format!("lora.target_modules: {name:?} is none of {known}; {ALL:?} (alone) takes all"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_a_text_or_a_list_and_unknown_ones_are_named() {
        let read = |text: &str| serde_json::from_str::<LoraConfig>(text).unwrap();
        let all = read(r#"{"rank": 4, "target_modules": "all-linear"}"#);
        assert!(MODULES.iter().all(|m| all.target_modules.contain(m)) && !all.target_modules.contain("lm_head"));
        let two = read(r#"{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}"#);
        assert!(two.target_modules.contain("v_proj") && !two.target_modules.contain("k_proj"));
        let mut errors = Vec::new();
        all.validate(&mut errors);
        two.validate(&mut errors);
        LoraConfig::default().validate(&mut errors);
        assert_eq!(errors, Vec::<String>::new());
        read(r#"{"rank": 70000, "alpha": 0, "dropout": 1, "target_modules": ["q_proj", "lm_head"]}"#)
            .validate(&mut errors);
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors[3].starts_with("lora.target_modules: \"lm_head\" is none of q_proj, "), "{errors:?}");
    }

    #[test]
    fn the_scale_is_alpha_over_the_rank_or_its_root() {
        let config = LoraConfig { rank: 16, alpha: 32.0, ..LoraConfig::default() };
        assert_eq!(config.scale(), 2.0);
        assert_eq!(LoraConfig { use_rslora: true, ..config }.scale(), 8.0);
    }
}
