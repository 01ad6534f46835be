//! The kinds made of other verifiers: `all`, `any`, `weighted`, `first`, `by_source` and `shadow`.
//!
//! **Contract.** Their options name parts: kinds, or ids of `[verifier.define.<id>]`. Each part is asked the way a verifier
//! by itself is (see [`Judge`](crate::Judge)): under a deadline, on a thread of its own if it may block. A part that panics,
//! is late or answers the wrong number of verdicts is void for itself alone; what that means for the whole is the kind's
//! rule. Parts are due slightly before the whole, so that the whole can still answer when one of them is late.
//!
//! **Limits.** A part that hangs on a thread cannot be killed. Past `verifier.max_abandoned` such threads a part is asked no
//! more and is void (`unavailable`) until one of them ends. Parts that are asked at once are all waited for, also when one
//! has decided: the whole is as slow as its slowest part. A name stands for a verifier of its own in each composite: two
//! composites with the same `process` in them run two sets of processes.

mod by_source;
mod combine;
mod first;
mod part;
mod shadow;

use std::sync::Arc;

use crate::parse_options;
use crate::registry::Kinds;

pub use by_source::{BySource, BySourceOptions};
pub use combine::{AllOptions, AnyOptions, Combined, WeightedOptions};
pub use first::{First, FirstOptions};
pub use shadow::{Shadow, ShadowOptions};

/// Adds these kinds to the built-in ones.
pub(crate) fn add(kinds: &mut Kinds) {
    kinds.add("all", |options, parts| Ok(Arc::new(Combined::all(&parse_options(options)?, parts)?)));
    kinds.add("any", |options, parts| Ok(Arc::new(Combined::any(&parse_options(options)?, parts)?)));
    kinds.add("weighted", |options, parts| Ok(Arc::new(Combined::weighted(&parse_options(options)?, parts)?)));
    kinds.add("first", |options, parts| Ok(Arc::new(First::new(&parse_options(options)?, parts)?)));
    kinds.add("by_source", |options, parts| Ok(Arc::new(BySource::new(&parse_options(options)?, parts)?)));
    kinds.add("shadow", |options, parts| Ok(Arc::new(Shadow::new(&parse_options(options)?, parts)?)));
}
