//! The names of objectives: the built-in ones, and those that a program adds from its own `main`.
//!
//! What is registered is known to the whole process, so that reading a config, its JSON Schema and building the objective
//! agree on the names without being handed a registry. Register before a config is read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::Objective;
use crate::LearnerError;

/// Which objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectiveName {
    /// Negative-aware fine-tuning.
    Nft,
    /// Rejection fine-tuning.
    Rft,
    /// Group relative policy optimisation: advantages divided by the group's deviation.
    Grpo,
    /// The same without that division.
    DrGrpo,
    /// As verl computes it: scores in [-1, 1], deviation with K - 1.
    Dapo,
    /// Iterative direct preference optimisation.
    Dpo,
    /// The naive contrast.
    Contrast,
    /// Supervised fine-tuning.
    Sft,
    /// One that the program registered.
    Registered(&'static str),
}

/// Makes an objective from `[objective.options]`; an error says which option is wrong.
pub type ObjectiveFactory = Arc<dyn Fn(&Map<String, Value>) -> Result<Box<dyn Objective>, String> + Send + Sync>;

/// Names live as long as the process: there are as many as `main` registers.
static REGISTERED: RwLock<BTreeMap<&'static str, ObjectiveFactory>> = RwLock::new(BTreeMap::new());

impl ObjectiveName {
    /// The built-in ones.
    pub const BUILT_IN: [Self; 8] =
        [Self::Nft, Self::Rft, Self::Grpo, Self::DrGrpo, Self::Dapo, Self::Dpo, Self::Contrast, Self::Sft];

    /// As it stands in a config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Rft => "rft",
            Self::Grpo => "grpo",
            Self::DrGrpo => "dr_grpo",
            Self::Dapo => "dapo",
            Self::Dpo => "dpo",
            Self::Contrast => "contrast",
            Self::Sft => "sft",
            Self::Registered(name) => name,
        }
    }

    /// Every name, the built-in ones first.
    fn all() -> Vec<Self> {
        let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
        Self::BUILT_IN.into_iter().chain(registered.keys().map(|name| Self::Registered(name))).collect()
    }
}

/// Adds an objective, for `objective.name = "NAME"`. A name that is taken is refused.
pub fn register(
    name: &str,
    factory: impl Fn(&Map<String, Value>) -> Result<Box<dyn Objective>, String> + Send + Sync + 'static,
) -> Result<(), LearnerError> {
    if name.is_empty() || ObjectiveName::all().iter().any(|known| known.as_str() == name) {
        return Err(LearnerError::Objective(format!("the name {name:?} cannot be registered: it is empty or taken")));
    }
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    registered.insert(String::leak(name.to_owned()), Arc::new(factory));
    Ok(())
}

/// The objective that was registered under `name`.
pub(super) fn build(name: &str, options: &Map<String, Value>) -> Result<Box<dyn Objective>, LearnerError> {
    let factory = REGISTERED.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    let factory = factory.ok_or_else(|| LearnerError::Objective(format!("no objective {name:?} is registered")))?;
    factory(options).map_err(|problem| LearnerError::Objective(format!("objective.options: {problem}")))
}

impl fmt::Display for ObjectiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ObjectiveName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ObjectiveName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let all = Self::all();
        all.iter().copied().find(|name| name.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|name| name.as_str()).collect();
            de::Error::custom(format!("expected \"{}\", got {text:?}", known.join("\" or \"")))
        })
    }
}

impl JsonSchema for ObjectiveName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ObjectiveName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Self::all().iter().map(|name| name.as_str()).collect();
        json_schema!({"description": "Which objective.", "type": "string", "enum": names})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectiveConfig;
    use crate::objective::{Contrast, Reduction, Weight};

    fn contrast(neg_weight: f64) -> Box<dyn Objective> {
        Box::new(Contrast { weight: Weight::One, neg_weight, reduction: Reduction::Sum, max_len: None })
    }

    #[test]
    fn built_in_names_are_read_as_they_are_written() {
        for name in ObjectiveName::BUILT_IN {
            let text = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<ObjectiveName>(&text).unwrap(), name);
        }
        let error = serde_json::from_str::<ObjectiveName>("\"nftt\"").unwrap_err().to_string();
        assert!(error.starts_with("expected \"nft\" or \"rft\" or "), "{error}");
    }

    #[test]
    fn a_registered_name_is_known_to_configs_and_to_their_schema_and_its_options_reach_the_factory() {
        let factory = |options: &Map<String, Value>| match options.get("neg").and_then(Value::as_f64) {
            Some(neg) if options.len() == 1 => Ok(contrast(neg)),
            _ => Err("expected neg, a number".to_owned()),
        };
        assert!(serde_json::from_str::<ObjectiveName>("\"name-test\"").is_err());
        register("name-test", factory).unwrap();
        let config =
            serde_json::from_str::<ObjectiveConfig>(r#"{"name": "name-test", "options": {"neg": 0.25}}"#).unwrap();
        assert_eq!(format!("{:?}", config.build().unwrap()), format!("{:?}", contrast(0.25)));
        assert!(schemars::schema_for!(ObjectiveName).to_value().to_string().contains("\"name-test\""));
        for (config, want) in [
            (r#"{"name": "name-test"}"#, "objective.options: expected neg, a number"),
            (
                r#"{"name": "nft", "options": {"neg": 1}}"#,
                "objective.options: is for objectives that a program registers, nft takes none; leave it out",
            ),
        ] {
            let mut errors = Vec::new();
            serde_json::from_str::<ObjectiveConfig>(config).unwrap().validate(&mut errors);
            assert_eq!(errors, [want]);
        }
        for taken in ["name-test", "nft", ""] {
            assert!(register(taken, factory).is_err(), "{taken:?}");
        }
    }
}
