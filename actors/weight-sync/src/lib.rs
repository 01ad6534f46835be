//! Weight synchronisation: what the learner publishes reaches every generator, in order of versions, whole or not at all.
//!
//! [`WeightSyncActor`] holds the newest published [`Snapshot`](counterpoint_policy::Snapshot). Each generator is sent one
//! load at a time; versions that are published meanwhile replace each other, so a slow generator skips versions instead of
//! queueing them. A generator that (re)starts is sent the newest at once. Generators read the version back in their answer;
//! it is never assumed. Every load has a deadline, which stands still between `Hold` and `Release`, and a
//! miss is reported by generator and version.
//!
//! The one transport so far is in process: the snapshot is immutable and shared, so a load moves a pointer and no bytes
//! between generators on the learner's device.

mod actor;
mod config;

pub use actor::{SyncFailed, WeightSyncActor, WeightSyncArgs, WeightSyncMsg};
pub use config::WeightSyncConfig;
