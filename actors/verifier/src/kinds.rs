//! The built-in kinds of verifier: one line each.

use std::sync::Arc;

use crate::registry::Kinds;
use crate::{Exact, Numeric, Process, RegexVerifier, parse_options};

/// Every built-in kind by name.
pub(crate) fn built_in() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.add("exact", |options, _| Ok(Arc::new(parse_options::<Exact>(options)?.checked()?)));
    kinds.add("numeric", |options, _| Ok(Arc::new(Numeric::new(parse_options(options)?)?)));
    kinds.add("process", |options, _| Ok(Arc::new(Process::new(parse_options(options)?)?)));
    kinds.add("regex", |options, _| Ok(Arc::new(RegexVerifier::new(parse_options(options)?)?)));
    kinds
}
