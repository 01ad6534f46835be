//! Weight synchronisation: what the learner publishes reaches every receiver, in order of versions, whole or not at all.
//!
//! [`WeightSyncActor`] holds the newest published [`Snapshot`](counterpoint_policy::Snapshot). Each receiver is sent one
//! load at a time; versions that are published meanwhile replace each other, so a slow receiver skips versions instead of
//! queueing them, and nobody waits for it. Receivers read the version back in their answer; it is never assumed. Every load has a
//! deadline, which stands still between `Hold` and `Release`, and a miss is reported by receiver and version.
//!
//! How weights travel is a [`Transport`]'s affair. There are two:
//!
//! * In process, to the generators: the snapshot is immutable and shared, so a load moves a pointer and no bytes between
//!   generators on the learner's device. A generator that (re)starts is sent the newest at once; one that takes no weights in time
//!   ends the run.
//! * As model directories, to other processes ([`WeightDirectory`] behind a [`Writer`]): complete or absent, with a manifest that
//!   [`verify`] checks. A publication that fails is tried again a bounded number of times, the newest each time; then the log and
//!   the metrics say so, and the next publication has its chance. Training goes on.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod actor;
mod config;
mod directory;
mod manifest;
mod receiver;
mod transport;
mod writer;

pub use actor::{SyncFailed, WeightSyncActor, WeightSyncArgs, WeightSyncMsg};
pub use config::WeightSyncConfig;
pub use directory::WeightDirectory;
pub use manifest::{MANIFEST, is_published, verify};
pub use receiver::Destination;
pub use transport::{Delivered, Delivery, Transport, TransportError};
pub use writer::Writer;
