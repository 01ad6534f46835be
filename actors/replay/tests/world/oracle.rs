//! The account that the world keeps of its own, from nothing but what left the core and what it did itself.

use std::collections::{BTreeMap, BTreeSet};

use counterpoint_replay::core::ReplayCore;
use counterpoint_rollout::{Batch, GroupId, Lease, ScoredGroup};

use super::Spec;

/// How a prompt of an epoch fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Last issued as this group.
    Open(GroupId),
    /// Trained, or dropped for good.
    Done,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    leases: BTreeMap<GroupId, Lease>,
    uses: BTreeMap<(u32, String), Use>,
    batches: u64,
    batched: BTreeSet<GroupId>,
    trained: BTreeSet<GroupId>,
    asked: BTreeMap<GroupId, u32>,
}

fn key(lease: &Lease) -> (u32, String) {
    (lease.epoch, lease.prompt.id.clone())
}

impl Oracle {
    pub(super) fn issued(&mut self, lease: &Lease, core: &ReplayCore) {
        if let Some(before) = self.leases.insert(lease.group, lease.clone()) {
            assert_eq!(&before, lease, "a group was issued again as another");
            assert_eq!(self.uses[&key(lease)], Use::Open(lease.group));
            return;
        }
        match self.uses.insert(key(lease), Use::Open(lease.group)) {
            None => assert_eq!(lease.attempt, 0),
            Some(Use::Open(before)) => {
                assert_eq!(lease.attempt, self.leases[&before].attempt + 1);
                assert!(core.ledger().account(before).is_none(), "{before} is still in flight");
            }
            Some(Use::Done) => panic!("{:?} is issued after it was used", key(lease)),
        }
    }

    /// The prompt of this group was used up.
    pub(super) fn used(&mut self, lease: &Lease) {
        let before = self.uses.insert(key(lease), Use::Done);
        assert_eq!(before, Some(Use::Open(lease.group)), "{:?} was used twice", key(lease));
    }

    pub(super) fn scored(&mut self, scored: &ScoredGroup, spec: &Spec) {
        if !spec.teaches(scored) {
            self.used(&scored.group.lease);
        }
    }

    pub(super) fn closed(&mut self, batch: &Batch, spec: &Spec) {
        assert_eq!(batch.version.0, self.batches, "batches come in order");
        self.batches += 1;
        for (scored, staleness) in batch.groups.iter().zip(batch.staleness()) {
            assert!(staleness <= u64::from(spec.staleness), "{} is {staleness} steps old", scored.group.id());
            assert!(self.batched.insert(scored.group.id()), "{} is in two batches", scored.group.id());
            assert!(spec.teaches(scored));
        }
        let order: Vec<_> = batch.groups.iter().map(|s| (s.group.start_version, s.group.id())).collect();
        assert!(order.is_sorted(), "oldest first: {order:?}");
        assert!(batch.groups.len() == spec.batch as usize || spec.epochs.is_some(), "a short batch without an end");
    }

    pub(super) fn trained(&mut self, groups: &[GroupId]) {
        for group in groups {
            assert!(self.trained.insert(*group), "{group} was trained twice");
            let lease = self.leases[group].clone();
            self.used(&lease);
        }
    }

    /// A resumed run has trained `steps` batches; what was closed beyond is open again.
    pub(super) fn rewind(&mut self, steps: u64) {
        self.batches = steps;
        self.batched = self.trained.clone();
    }

    /// How often verdicts of the group were asked for before this time.
    pub(super) fn asked_again(&mut self, group: GroupId) -> u32 {
        let asked = self.asked.entry(group).or_default();
        *asked += 1;
        *asked - 1
    }

    pub(super) fn trained_total(&self) -> u64 {
        self.trained.len() as u64
    }

    pub(super) fn open_uses(&self) -> BTreeSet<(u32, String)> {
        self.uses.iter().filter(|(_, state)| **state != Use::Done).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn uses_per_epoch(&self) -> BTreeMap<u32, usize> {
        let mut uses = BTreeMap::new();
        for (epoch, _) in self.uses.keys() {
            *uses.entry(*epoch).or_default() += 1;
        }
        uses
    }
}
