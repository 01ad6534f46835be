//! The built-in kinds of verifier: one line each.

use std::sync::Arc;

use crate::registry::Kinds;
use crate::{Code, Exact, Process, parse_options};

/// Every built-in kind by name.
pub(crate) fn built_in() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.add("code", |options, _| Ok(Arc::new(Code::new(parse_options(options)?)?)));
    kinds.add("exact", |options, _| Ok(Arc::new(parse_options::<Exact>(options)?)));
    kinds.add("process", |options, _| Ok(Arc::new(Process::new(parse_options(options)?)?)));
    kinds
}
