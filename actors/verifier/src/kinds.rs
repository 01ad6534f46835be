//! The built-in kinds of verifier: one line each; those made of others are in `compose`.

use std::sync::Arc;

use crate::compose;
use crate::registry::Kinds;
use crate::{Dapo, Exact, Math, Process, parse_options};

/// Every built-in kind by name.
pub(crate) fn built_in() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.add("exact", |options, _| Ok(Arc::new(parse_options::<Exact>(options)?)));
    kinds.add("dapo", |options, _| Ok(Arc::new(parse_options::<Dapo>(options)?)));
    kinds.add("math", |options, _| Ok(Arc::new(parse_options::<Math>(options)?)));
    kinds.add("process", |options, _| Ok(Arc::new(Process::new(parse_options(options)?)?)));
    compose::add(&mut kinds);
    kinds
}
