//! The ways on which published weights leave the learner.

use std::fmt::Debug;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use counterpoint_policy::{LoadWeights, Loaded, PolicyError, Snapshot};
use counterpoint_rollout::{Lost, PolicyVersion, Reply};
use ractor::DerivedActorRef;

/// A way to one receiver. The actor hands over one delivery at a time and the next after the answer, so nothing piles up on it,
/// and measures the time and sets the deadline, so a transport has no clock.
pub trait Transport: Debug + Send {
    /// Takes a delivery and returns at once. False if the receiver is gone.
    fn deliver(&self, delivery: Delivery) -> bool;

    /// No more will come. Resolves when what was taken has been done.
    fn finish(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

/// Weights on their way.
#[derive(Debug)]
pub struct Delivery {
    /// The weights.
    pub snapshot: Arc<Snapshot>,
    /// Answered when they are there, whole; lost with a receiver that dies.
    pub reply: Reply<Result<Delivered, TransportError>>,
}

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What the receiver holds now: read back from it, not assumed.
    pub version: PolicyVersion,
    /// What was moved for it.
    pub bytes: u64,
}

/// Why weights did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A file or directory could not be read, written or renamed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The model's files could not be written.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// What lies there is not what was published.
    #[error("{path}: {problem}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The thread that writes panicked.
    #[error("the thread that writes weights panicked: {0}")]
    Panicked(String),
}

impl TransportError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// In process: the snapshot is shared, so that a pointer moves, and bytes only to another device.
impl Transport for DerivedActorRef<LoadWeights> {
    fn deliver(&self, Delivery { snapshot, reply }: Delivery) -> bool {
        let bytes = snapshot.bytes();
        let loaded = move |answer: Result<Loaded, Lost>| {
            // Otherwise the reply is dropped, which says the same.
            if let Ok(Loaded { version, .. }) = answer {
                reply.send(Ok(Delivered { version, bytes }));
            }
        };
        self.cast(LoadWeights { snapshot, reply: Reply::new(loaded) }).is_ok()
    }
}
