//! The groups in flight that are in no batch, ordered by the version at which they started, or at the earliest may have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use counterpoint_rollout::{GroupId, PolicyVersion, ScoredGroup};

/// Groups of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ready for a batch: they started with these weights.
    pub ready: u64,
    /// Leased, generating or verifying: they started with these weights, or may yet, but not with older ones.
    pub running: u64,
}

/// Ready groups with their data, running ones by number. Every operation is O(log n).
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    ready: BTreeMap<(PolicyVersion, GroupId), Arc<ScoredGroup>>,
    running: BTreeSet<(PolicyVersion, GroupId)>,
    counts: BTreeMap<PolicyVersion, Counts>,
}

impl Buffer {
    /// A running group enters, with the oldest version at which it can have started.
    pub(crate) fn enter(&mut self, floor: PolicyVersion, group: GroupId) {
        if self.running.insert((floor, group)) {
            self.counts.entry(floor).or_default().running += 1;
        }
    }

    /// A running group leaves.
    pub(crate) fn leave(&mut self, floor: PolicyVersion, group: GroupId) {
        if self.running.remove(&(floor, group)) {
            self.uncount(floor, |counts| &mut counts.running);
        }
    }

    /// A mixed group is ready.
    pub(crate) fn store(&mut self, scored: Arc<ScoredGroup>) {
        let version = scored.group.start_version;
        if self.ready.insert((version, scored.group.id()), scored).is_none() {
            self.counts.entry(version).or_default().ready += 1;
        }
    }

    /// Takes the `count` ready groups of the oldest start version, ties by number.
    pub(crate) fn take_oldest(&mut self, count: usize) -> Vec<Arc<ScoredGroup>> {
        let mut taken = Vec::with_capacity(count.min(self.ready.len()));
        while taken.len() < count
            && let Some(((version, _), scored)) = self.ready.pop_first()
        {
            self.uncount(version, |counts| &mut counts.ready);
            taken.push(scored);
        }
        taken
    }

    /// Running groups, oldest floor first, ties by number.
    pub(crate) fn running(&self) -> impl Iterator<Item = (PolicyVersion, GroupId)> + '_ {
        self.running.iter().copied()
    }

    /// Ready groups in the order in which batches take them.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Arc<ScoredGroup>> {
        self.ready.values()
    }

    /// How many groups are ready.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// How many groups run.
    pub(crate) fn running_len(&self) -> usize {
        self.running.len()
    }

    /// Groups ready and running.
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.running.len()
    }

    /// Counts per version, oldest first: at most η + 1 + credits versions, by admission.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (PolicyVersion, Counts)> + '_ {
        self.counts.iter().map(|(&version, &counts)| (version, counts))
    }

    fn uncount(&mut self, version: PolicyVersion, which: impl Fn(&mut Counts) -> &mut u64) {
        if let Some(counts) = self.counts.get_mut(&version) {
            *which(counts) -= 1;
            if *counts == Counts::default() {
                self.counts.remove(&version);
            }
        }
    }
}
