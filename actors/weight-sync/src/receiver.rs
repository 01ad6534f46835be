//! A receiver of weights as the actor sees it: what it has, what it owes, when it may be tried again. No channel, no clock of its
//! own.

use std::fmt;
use std::time::Duration;

use counterpoint_rollout::{GeneratorId, PolicyVersion};
use tokio::time::Instant;

use crate::Transport;

/// Attempts at the directory in a row after which a publication is given up.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; before the next it is twice as long.
const FIRST_REST: Duration = Duration::from_secs(1);

/// Who receives weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A generator of this process.
    Generator(GeneratorId),
    /// `weight_sync.directory`.
    Directory,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generator(id) => id.fmt(f),
            Self::Directory => f.write_str("weight_sync.directory"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) transport: Box<dyn Transport>,
    /// What it holds, read back from its answers; of the directory also what was given up: nothing up to it is sent.
    pub(crate) settled: PolicyVersion,
    /// The newest that was handed over.
    pub(crate) offered: PolicyVersion,
    /// The load it owes an answer to. At most one, so that loads cannot pile up on the way.
    pub(crate) owes: Option<Load>,
    /// Attempts that failed since the last that did not.
    failures: u32,
    /// Whether it is left alone after a failure.
    pub(crate) rests: bool,
}

/// Weights on their way.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) ticket: u64,
    pub(crate) version: PolicyVersion,
    pub(crate) sent: Instant,
    pub(crate) due: Instant,
}

impl Receiver {
    /// One that holds these weights.
    pub(crate) fn new(transport: Box<dyn Transport>, version: PolicyVersion) -> Self {
        Self { transport, settled: version, offered: version, owes: None, failures: 0, rests: false }
    }

    /// Whether these weights may be sent now.
    pub(crate) fn wants(&self, version: PolicyVersion) -> bool {
        self.owes.is_none() && !self.rests && self.settled < version
    }

    /// It has these weights.
    pub(crate) fn succeeded(&mut self, version: PolicyVersion) {
        (self.settled, self.failures) = (version, 0);
    }

    /// An attempt at these weights failed: how long to leave it alone before the next, or `None` when they are given up.
    pub(crate) fn failed(&mut self, version: PolicyVersion) -> Option<Duration> {
        self.failures += 1;
        if self.failures < ATTEMPTS {
            self.rests = true;
            return Some(FIRST_REST * 2u32.pow(self.failures - 1));
        }
        self.succeeded(version);
        None
    }
}
