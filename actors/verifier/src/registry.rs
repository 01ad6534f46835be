//! The kinds of verifier by name, and how a configuration becomes a verifier.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use counterpoint_rollout::VerifierMsg;
use ractor::Actor;
use serde_json::{Map, Value};

use crate::scheduler::{Schedulers, StartVerifier};
use crate::{Definition, PoolArgs, Verifier, VerifierConfig, VerifierError, kinds};

/// Builds a verifier from its options (a JSON object) and, if it is made of others, those.
type Factory = Box<dyn Fn(Value, &Parts<'_>) -> Result<Arc<dyn Verifier>, VerifierError> + Send + Sync>;

/// Factories by the name of their kind.
#[derive(Default)]
pub(crate) struct Kinds(BTreeMap<String, Factory>);

impl Kinds {
    /// Adds a kind, in place of one of the same name.
    pub(crate) fn add(
        &mut self,
        kind: impl Into<String>,
        factory: impl Fn(Value, &Parts<'_>) -> Result<Arc<dyn Verifier>, VerifierError> + Send + Sync + 'static,
    ) {
        self.0.insert(kind.into(), Box::new(factory));
    }
}

/// The kinds of verifier. [`Registry::default`] has the built-in ones.
pub struct Registry {
    kinds: Kinds,
    schedulers: Schedulers,
}

impl Default for Registry {
    fn default() -> Self {
        Self { kinds: kinds::built_in(), schedulers: Schedulers::default() }
    }
}

impl Registry {
    /// Adds a kind. The factory gets the options of a `[verifier.define.<id>]` (`{}` where `verifier.name` names the kind
    /// itself) and best reads them with [`parse_options`](crate::parse_options), which refuses unknown ones. It also runs
    /// when a configuration is only checked, so it should be quick and start nothing: that is for [`Verifier::start`].
    ///
    /// # Errors
    /// [`VerifierError::Taken`] if the name is in use.
    pub fn register(
        &mut self,
        kind: impl Into<String>,
        factory: impl Fn(Value) -> Result<Arc<dyn Verifier>, VerifierError> + Send + Sync + 'static,
    ) -> Result<(), VerifierError> {
        self.register_composite(kind, move |options, _| factory(options))
    }

    /// Adds a kind that is made of other verifiers, which its factory gets from the [`Parts`] by the names in its options.
    ///
    /// # Errors
    /// [`VerifierError::Taken`] if the name is in use.
    pub fn register_composite(
        &mut self,
        kind: impl Into<String>,
        factory: impl Fn(Value, &Parts<'_>) -> Result<Arc<dyn Verifier>, VerifierError> + Send + Sync + 'static,
    ) -> Result<(), VerifierError> {
        let kind = kind.into();
        if self.kinds.0.contains_key(&kind) {
            return Err(VerifierError::Taken(kind));
        }
        self.kinds.add(kind, factory);
        Ok(())
    }

    /// Adds a verifier actor, for `verifier.actor = "NAME"`: a replacement of the pool with a schedule of its own. `make` is
    /// called for every start of one.
    ///
    /// # Errors
    /// [`VerifierError::Taken`] if the name is in use.
    pub fn register_actor<A>(
        &mut self,
        name: impl Into<String>,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Result<(), VerifierError>
    where
        A: Actor<Arguments = PoolArgs>,
        A::Msg: From<VerifierMsg>,
        VerifierMsg: TryFrom<A::Msg>,
    {
        let name = name.into();
        if self.schedulers.add(name.clone(), make) { Ok(()) } else { Err(VerifierError::Taken(name)) }
    }

    /// How to start the actor that `config.actor` names.
    ///
    /// # Errors
    /// If nobody registered the name.
    pub fn actor(&self, config: &VerifierConfig) -> Result<StartVerifier, VerifierError> {
        self.schedulers.get(&config.actor).cloned().ok_or_else(|| {
            let known = self.schedulers.names().map(str::to_owned).collect();
            VerifierError::UnknownActor { name: config.actor.clone(), known }.at("verifier.actor")
        })
    }

    /// The names of the kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.0.keys().map(String::as_str)
    }

    /// The verifier that `config.name` names.
    ///
    /// # Errors
    /// Unknown names and options, and whatever the factory refuses, each with its dotted key.
    pub fn build(&self, config: &VerifierConfig) -> Result<Arc<dyn Verifier>, VerifierError> {
        let built = Parts { registry: self, config, within: Vec::new() }.verifier(&config.name);
        // What is wrong with a definition is told under its own key.
        let defined = config.define.contains_key(&config.name);
        built.map_err(|error| if defined { error } else { error.at("verifier.name") })
    }

    /// Pushes one message per problem with the names and options of a configuration, unused definitions included.
    pub fn validate(&self, config: &VerifierConfig, errors: &mut Vec<String>) {
        let parts = Parts { registry: self, config, within: Vec::new() };
        for (id, definition) in &config.define {
            if let Err(error) = parts.defined(id, definition) {
                errors.push(error.to_string());
            }
        }
        if let Err(error) = self.actor(config) {
            errors.push(error.to_string());
        }
        // A defined name was just tried.
        if !config.define.contains_key(&config.name)
            && let Err(error) = self.build(config)
        {
            errors.push(error.to_string());
        }
    }
}

/// The verifiers that a composite can be made of: every kind, with its default options, and every `[verifier.define.<id>]`.
pub struct Parts<'a> {
    registry: &'a Registry,
    config: &'a VerifierConfig,
    /// The definitions that are being built, outermost first: none of them may be part of itself.
    within: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    /// The verifier of this name.
    ///
    /// # Errors
    /// Unknown names, a definition that contains itself, and whatever the factory refuses.
    pub fn verifier(&self, name: &str) -> Result<Arc<dyn Verifier>, VerifierError> {
        match self.config.define.get_key_value(name) {
            Some((id, definition)) => self.defined(id, definition),
            None => self.plain(name),
        }
    }

    /// How many judgements of one part may hang: `verifier.max_abandoned`.
    pub(crate) fn max_abandoned(&self) -> usize {
        self.config.max_abandoned
    }

    fn plain(&self, kind: &str) -> Result<Arc<dyn Verifier>, VerifierError> {
        match self.registry.kinds.0.get(kind) {
            Some(factory) => factory(Value::Object(Map::new()), self),
            None => {
                let known = self.config.define.keys().map(String::as_str).chain(self.registry.kinds());
                Err(VerifierError::UnknownVerifier { name: kind.into(), known: known.map(str::to_owned).collect() })
            }
        }
    }

    fn defined(&self, id: &'a str, definition: &Definition) -> Result<Arc<dyn Verifier>, VerifierError> {
        let key = format!("verifier.define.{id}");
        if self.registry.kinds.0.contains_key(id) {
            return Err(VerifierError::Ambiguous(id.into()).at(key));
        }
        if self.within.contains(&id) {
            let path: Vec<&str> = self.within.iter().copied().chain([id]).collect();
            return Err(VerifierError::Cycle(path.join(" > ")).at(key));
        }
        let Some(factory) = self.registry.kinds.0.get(&definition.kind) else {
            let known = self.registry.kinds().map(str::to_owned).collect();
            let error = VerifierError::UnknownKind { kind: definition.kind.clone(), known };
            return Err(error.at(format!("{key}.kind")));
        };
        let mut within = self.within.clone();
        within.push(id);
        let parts = Parts { registry: self.registry, config: self.config, within };
        factory(Value::Object(definition.options.clone()), &parts).map_err(|error| error.at(key))
    }
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("within", &self.within).finish_non_exhaustive()
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
    fn a_composite_gets_its_parts_by_name_and_none_is_part_of_itself() {
        let mut registry = Registry::default();
        let composite = |options: Value, parts: &Parts<'_>| parts.verifier(options["of"].as_str().unwrap());
        registry.register_composite("not", composite).unwrap();
        let build = |value| registry.build(&config(value)).map(|_| ()).map_err(|error| error.to_string());
        let define = json!({"a": {"kind": "not", "of": "b"}, "b": {"kind": "not", "of": "exact"}});
        assert_eq!(build(json!({"name": "a", "define": define})), Ok(()));
        let circle = json!({"a": {"kind": "not", "of": "b"}, "b": {"kind": "not", "of": "a"}});
        let path = "verifier.define.a: verifier.define.b: verifier.define.a: is part of itself: a > b > a";
        assert_eq!(build(json!({"name": "a", "define": circle})), Err(path.to_owned()));
        let unknown = json!({"a": {"kind": "not", "of": "exat"}});
        let error = build(json!({"name": "a", "define": unknown})).unwrap_err();
        assert!(error.starts_with("verifier.define.a: `exat` is neither a kind"), "{error}");
    }

    #[test]
    fn a_kind_is_registered_once_and_its_factory_gets_the_options() {
        let mut registry = Registry::default();
        let refuse = |options: Value| -> Result<Arc<dyn Verifier>, VerifierError> {
            Err(VerifierError::Setup(format!("got {options}")))
        };
        registry.register("mine", refuse).unwrap();
        let again = registry.register("mine", refuse).unwrap_err();
        assert_eq!(again.to_string(), "`mine` is registered already; choose another name");
        assert!(registry.register("exact", refuse).is_err());
        assert_eq!(
            registry.kinds().collect::<Vec<_>>(),
            [
                "all",
                "any",
                "by_source",
                "choice",
                "code",
                "countdown",
                "dapo",
                "exact",
                "first",
                "format",
                "http",
                "json",
                "math",
                "mine",
                "numeric",
                "process",
                "regex",
                "shadow",
                "weighted"
            ]
        );
        let error = |value| registry.build(&config(value)).err().map(|error| error.to_string());
        assert_eq!(error(json!({"name": "mine"})).as_deref(), Some("verifier.name: got {}"));
        let defined = json!({"name": "x", "define": {"x": {"kind": "mine", "k": 1}}});
        assert_eq!(error(defined).as_deref(), Some("verifier.define.x: got {\"k\":1}"));
    }
}
