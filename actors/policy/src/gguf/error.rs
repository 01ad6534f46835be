//! What is wrong with a GGUF file, before the file's name is put to it.

use std::path::Path;

use crate::PolicyError;

/// Why a file is not converted.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// The file is broken, or contradicts itself.
    Invalid(String),
    /// The file is fine, but needs something that is not there.
    Unsupported {
        /// The feature, by name.
        what: String,
        /// What is supported.
        hint: String,
    },
}

impl Refusal {
    /// Names the file.
    pub(super) fn of(self, path: &Path) -> PolicyError {
        match self {
            Self::Invalid(problem) => PolicyError::File { path: path.to_owned(), problem },
            Self::Unsupported { what, hint } => {
                PolicyError::Unsupported { what: format!("{}: {what}", path.display()), hint }
            }
        }
    }
}

pub(super) fn invalid(problem: impl Into<String>) -> Refusal {
    Refusal::Invalid(problem.into())
}

pub(super) fn unsupported(what: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal::Unsupported { what: what.into(), hint: hint.into() }
}

/// A name that a file gives, made fit for an error: one line, not too long, no control characters.
pub(super) fn quoted(name: &str) -> String {
    const LONGEST: usize = 80;
    let cut: String = name.chars().take(LONGEST).collect();
    let more = if cut.len() < name.len() { "..." } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}
