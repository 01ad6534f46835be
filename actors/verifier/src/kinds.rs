//! The built-in kinds of verifier: one line each; those made of others are in `compose`.

use std::sync::Arc;

use crate::compose;
use crate::registry::Kinds;
use crate::{
    Choice, Code, Countdown, Dapo, Exact, Format, HttpVerifier, Json, Math, Numeric, Process, RegexVerifier,
    parse_options,
};

/// Every built-in kind by name.
pub(crate) fn built_in() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.add("choice", |options, _| Ok(Arc::new(Choice::new(parse_options(options)?)?)));
    kinds.add("code", |options, _| Ok(Arc::new(Code::new(parse_options(options)?)?)));
    kinds.add("countdown", |options, _| Ok(Arc::new(parse_options::<Countdown>(options)?.checked()?)));
    kinds.add("dapo", |options, _| Ok(Arc::new(parse_options::<Dapo>(options)?)));
    kinds.add("exact", |options, _| Ok(Arc::new(parse_options::<Exact>(options)?.checked()?)));
    kinds.add("format", |options, _| Ok(Arc::new(Format::new(parse_options(options)?)?)));
    kinds.add("http", |options, _| Ok(Arc::new(HttpVerifier::new(parse_options(options)?)?)));
    kinds.add("json", |options, _| Ok(Arc::new(Json::new(parse_options(options)?)?)));
    kinds.add("math", |options, _| Ok(Arc::new(parse_options::<Math>(options)?)));
    kinds.add("numeric", |options, _| Ok(Arc::new(Numeric::new(parse_options(options)?)?)));
    kinds.add("process", |options, _| Ok(Arc::new(Process::new(parse_options(options)?)?)));
    kinds.add("regex", |options, _| Ok(Arc::new(RegexVerifier::new(parse_options(options)?)?)));
    compose::add(&mut kinds);
    kinds
}
