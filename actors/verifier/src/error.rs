use counterpoint_rollout::GroupId;

/// What can be wrong with a verifier. Faults while judging are no errors but void verdicts.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// An error, with the key of the configuration that caused it.
    #[error("{key}: {error}")]
    At {
        /// Dotted key.
        key: String,
        /// What is wrong there.
        error: Box<VerifierError>,
    },
    /// `verifier.name` names nothing.
    #[error("`{name}` is neither a kind of verifier nor an id of [verifier.define.<id>]{}", hint(.name, .known))]
    UnknownVerifier {
        /// The name.
        name: String,
        /// Kinds and ids that exist.
        known: Vec<String>,
    },
    /// A definition names a kind that nobody registered.
    #[error("unknown kind of verifier `{kind}`{}", hint(.kind, .known))]
    UnknownKind {
        /// The kind.
        kind: String,
        /// The kinds that exist.
        known: Vec<String>,
    },
    /// A definition sets an option that its kind does not have.
    #[error("unknown option `{option}`{}", hint(.option, .known))]
    UnknownOption {
        /// The option.
        option: String,
        /// The options of the kind.
        known: Vec<String>,
    },
    /// An option's value has the wrong type or is missing.
    #[error("{0}")]
    BadOption(String),
    /// A definition's id is also the name of a kind, so `verifier.name` could mean either.
    #[error("`{0}` is already the name of a kind of verifier; choose another id")]
    Ambiguous(String),
    /// `verifier.actor` names nothing.
    #[error("there is no verifier actor `{name}`{}", hint(.name, .known))]
    UnknownActor {
        /// The name.
        name: String,
        /// The actors that exist.
        known: Vec<String>,
    },
    /// A definition is made of itself.
    #[error("is part of itself: {0}")]
    Cycle(String),
    /// A kind is registered twice.
    #[error("`{0}` is registered already; choose another name")]
    Taken(String),
    /// A factory's own reason not to build its verifier.
    #[error("{0}")]
    Setup(String),
    /// Too many judgements run on although their deadline has passed.
    #[error(
        "verifier `{name}` blocks or loops for ever: {} judgements have not ended long after their deadline, at most {max} may \
         (verifier.max_abandoned); they are of the groups {}",
        .groups.len(), list(.groups)
    )]
    Abandoned {
        /// The verifier's name.
        name: String,
        /// `verifier.max_abandoned`.
        max: usize,
        /// Whose judgement has not ended.
        groups: Vec<GroupId>,
    },
}

impl VerifierError {
    /// The same error, with the configuration key that caused it.
    pub(crate) fn at(self, key: impl Into<String>) -> Self {
        Self::At { key: key.into(), error: Box::new(self) }
    }
}

/// `; did you mean ...?` where a known name is near enough, else all known names.
fn hint(name: &str, known: &[String]) -> String {
    let nearest = known.iter().map(|k| (strsim::damerau_levenshtein(name, k), k)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 1 + name.chars().count() / 3 => format!("; did you mean `{nearest}`?"),
        Some(_) => format!("; known: `{}`", known.join("`, `")),
        None => "; there are none".into(),
    }
}

fn list(groups: &[GroupId]) -> String {
    groups.iter().map(GroupId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_nearest_name_or_all_of_them() {
        let known = ["exact".to_owned(), "math".to_owned()];
        assert_eq!(hint("exat", &known), "; did you mean `exact`?");
        assert_eq!(hint("mtah", &known), "; did you mean `math`?");
        assert_eq!(hint("sympy", &known), "; known: `exact`, `math`");
        assert_eq!(hint("x", &[]), "; there are none");
    }
}
