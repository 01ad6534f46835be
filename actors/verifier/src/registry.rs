//! The kinds of verifier by name, and how a configuration becomes a verifier.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Definition, Exact, Verifier, VerifierConfig, VerifierError, parse_options};

/// Builds a verifier from its options (a JSON object).
type Factory = Box<dyn Fn(Value) -> Result<Arc<dyn Verifier>, VerifierError> + Send + Sync>;

/// The kinds of verifier. [`Registry::default`] has the built-in ones.
pub struct Registry {
    kinds: BTreeMap<String, Factory>,
}

impl Default for Registry {
    fn default() -> Self {
        let exact: Factory = Box::new(|options| Ok(Arc::new(parse_options::<Exact>(options)?)));
        Self { kinds: BTreeMap::from([("exact".to_owned(), exact)]) }
    }
}

impl Registry {
    /// Adds a kind. The factory gets the options of a `[verifier.define.<id>]` (`{}` where `verifier.name` names the kind
    /// itself) and best reads them with [`parse_options`], which refuses unknown ones. It also runs when a configuration is
    /// only checked, so it should be quick and start nothing.
    ///
    /// # Errors
    /// [`VerifierError::Taken`] if the name is in use.
    pub fn register(
        &mut self,
        kind: impl Into<String>,
        factory: impl Fn(Value) -> Result<Arc<dyn Verifier>, VerifierError> + Send + Sync + 'static,
    ) -> Result<(), VerifierError> {
        let kind = kind.into();
        if self.kinds.contains_key(&kind) {
            return Err(VerifierError::Taken(kind));
        }
        self.kinds.insert(kind, Box::new(factory));
        Ok(())
    }

    /// The names of the kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// The verifier that `config.name` names.
    ///
    /// # Errors
    /// Unknown names and options, and whatever the factory refuses, each with its dotted key.
    pub fn build(&self, config: &VerifierConfig) -> Result<Arc<dyn Verifier>, VerifierError> {
        let name = config.name.as_str();
        match (self.kinds.get(name), config.define.get(name)) {
            (_, Some(definition)) => self.build_definition(name, definition),
            (Some(factory), None) => factory(Value::Object(Map::new())).map_err(|error| error.at("verifier.name")),
            (None, None) => {
                let known = config.define.keys().cloned().chain(self.kinds.keys().cloned()).collect();
                Err(VerifierError::UnknownVerifier { name: name.into(), known }.at("verifier.name"))
            }
        }
    }

    /// Pushes one message per problem with the names and options of a configuration, unused definitions included.
    pub fn validate(&self, config: &VerifierConfig, errors: &mut Vec<String>) {
        for (id, definition) in &config.define {
            if let Err(error) = self.build_definition(id, definition) {
                errors.push(error.to_string());
            }
        }
        // A defined name was just tried.
        if !config.define.contains_key(&config.name)
            && let Err(error) = self.build(config)
        {
            errors.push(error.to_string());
        }
    }

    fn build_definition(&self, id: &str, definition: &Definition) -> Result<Arc<dyn Verifier>, VerifierError> {
        let key = format!("verifier.define.{id}");
        if self.kinds.contains_key(id) {
            return Err(VerifierError::Ambiguous(id.into()).at(key));
        }
        let Some(factory) = self.kinds.get(&definition.kind) else {
            let known = self.kinds.keys().cloned().collect();
            let error = VerifierError::UnknownKind { kind: definition.kind.clone(), known };
            return Err(error.at(format!("{key}.kind")));
        };
        factory(Value::Object(definition.options.clone())).map_err(|error| error.at(key))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: Value) -> VerifierConfig {
        serde_json::from_value(value).unwrap()
    }

    fn problems(value: Value) -> Vec<String> {
        let mut errors = Vec::new();
        Registry::default().validate(&config(value), &mut errors);
        errors
    }

    #[test]
    fn a_name_is_a_kind_or_an_id() {
        let registry = Registry::default();
        assert!(registry.build(&VerifierConfig::default()).is_ok());
        let defined = json!({"name": "loose", "define": {"loose": {"kind": "exact", "trim": false}}});
        assert!(registry.build(&config(defined)).is_ok());
        assert_eq!(problems(json!({"define": {"loose": {"kind": "exact"}}})), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_one_line_with_its_key_and_the_nearest_name() {
        assert_eq!(
            problems(json!({"name": "loos", "define": {
                "a": {"kind": "exakt"},
                "b": {"kind": "exact", "trimm": true},
                "c": {"kind": "exact", "case": "upper"},
                "exact": {"kind": "exact"},
                "loose": {"kind": "exact"},
            }})),
            [
                "verifier.define.a.kind: unknown kind of verifier `exakt`; did you mean `exact`?",
                "verifier.define.b: unknown option `trimm`; did you mean `trim`?",
                "verifier.define.c: case: unknown variant `upper`, expected `sensitive` or `insensitive`",
                "verifier.define.exact: `exact` is already the name of a kind of verifier; choose another id",
                "verifier.name: `loos` is neither a kind of verifier nor an id of [verifier.define.<id>]; \
                 did you mean `loose`?",
            ]
        );
    }

    #[test]
    fn a_kind_is_registered_once_and_its_factory_gets_the_options() {
        let mut registry = Registry::default();
        let refuse = |options: Value| -> Result<Arc<dyn Verifier>, VerifierError> {
            Err(VerifierError::Setup(format!("got {options}")))
        };
        registry.register("mine", refuse).unwrap();
        let again = registry.register("mine", refuse).unwrap_err();
        assert_eq!(again.to_string(), "a verifier of kind `mine` is registered already; choose another name");
        assert!(registry.register("exact", refuse).is_err());
        assert_eq!(registry.kinds().collect::<Vec<_>>(), ["exact", "mine"]);
        let error = |value| registry.build(&config(value)).err().map(|error| error.to_string());
        assert_eq!(error(json!({"name": "mine"})).as_deref(), Some("verifier.name: got {}"));
        let defined = json!({"name": "x", "define": {"x": {"kind": "mine", "k": 1}}});
        assert_eq!(error(defined).as_deref(), Some("verifier.define.x: got {\"k\":1}"));
    }
}
