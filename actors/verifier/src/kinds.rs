//! The built-in kinds of verifier: one line each.

use std::sync::Arc;

use crate::registry::Kinds;
use crate::{Code, Dapo, Exact, HttpVerifier, Math, Process, parse_options};

/// Every built-in kind by name.
pub(crate) fn built_in() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.add("code", |options, _| Ok(Arc::new(Code::new(parse_options(options)?)?)));
    kinds.add("exact", |options, _| Ok(Arc::new(parse_options::<Exact>(options)?)));
    kinds.add("dapo", |options, _| Ok(Arc::new(parse_options::<Dapo>(options)?)));
    kinds.add("math", |options, _| Ok(Arc::new(parse_options::<Math>(options)?)));
    kinds.add("http", |options, _| Ok(Arc::new(HttpVerifier::new(parse_options(options)?)?)));
    kinds.add("process", |options, _| Ok(Arc::new(Process::new(parse_options(options)?)?)));
    kinds
}
