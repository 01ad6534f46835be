//! Batches, stragglers, trained steps and the end of the run.

use std::collections::BTreeSet;
use std::time::Duration;

use counterpoint_rollout::contract::ReplayEvent;
use counterpoint_rollout::invariant::Invariant;
use counterpoint_rollout::{Batch, DropReason, GroupId, GroupState, PolicyVersion, check_invariant, telemetry};

use super::{Action, ReplayCore, Stage, list};
use crate::batch::Blocked;

impl ReplayCore {
    /// A learner is up, or up again, and takes `credits` batches at once. Batches that an earlier one had are sent again.
    pub fn learner_up(&mut self, now: Duration, credits: usize, out: &mut Vec<Action>) {
        self.credits = credits;
        out.extend(self.hands.iter().cloned().map(Action::Train));
        self.settle(now, out);
    }

    /// An optimiser step is done: it made `version` from `groups`.
    pub fn trained(&mut self, now: Duration, version: PolicyVersion, groups: &[GroupId], out: &mut Vec<Action>) {
        let done: BTreeSet<GroupId> = groups.iter().copied().collect();
        let sent = |batch: &mut Batch| {
            batch.version.0 + 1 == version.0
                && batch.groups.iter().map(|scored| scored.group.id()).collect::<BTreeSet<_>>() == done
        };
        let Some(batch) = self.hands.pop_front_if(sent) else {
            let due = match self.hands.front() {
                Some(batch) => format!("a batch of {} groups for {} was due", batch.groups.len(), batch.version),
                None => "it had no batch".into(),
            };
            self.fail(format!("the learner says that {} made {version}, but {due}", list(groups)), out);
            return;
        };
        for (scored, staleness) in batch.groups.iter().zip(batch.staleness()) {
            self.ledger.train(scored.group.id());
            telemetry::group_trained(staleness, scored);
        }
        self.completed = version;
        self.settle(now, out);
    }

    /// Closes every batch that the learner has a credit for and the rule allows.
    pub(super) fn close_batches(&mut self, now: Duration, out: &mut Vec<Action>) {
        let full = self.admission.batch;
        while self.hands.len() < self.credits && self.closed < self.admission.max_steps {
            let ready = self.buffer.ready_len() as u64;
            if ready < full {
                if ready > 0 && self.last_is_short() {
                    self.close(ready, out);
                }
                return;
            }
            match self.rule.blocked(self.closed, full, self.buffer.counts()) {
                None => self.close(full, out),
                Some(blocked) if self.drops_stragglers() => {
                    if !self.drop_stragglers(now, blocked, out) {
                        return;
                    }
                }
                Some(_) => return,
            }
        }
    }

    /// Whether what is ready will never be more: the data is used up and nothing runs that could still give a prompt back.
    fn last_is_short(&self) -> bool {
        self.feed.at_end() && self.buffer.running_len() == 0
    }

    fn close(&mut self, take: u64, out: &mut Vec<Action>) {
        let batch = Batch { version: PolicyVersion(self.closed), groups: self.buffer.take_oldest(take as usize) };
        for (scored, staleness) in batch.groups.iter().zip(batch.staleness()) {
            let group = scored.group.id();
            check_invariant!(
                Invariant::Staleness,
                staleness <= self.admission.max_staleness,
                "{group} started with {} and is in batch {}",
                scored.group.start_version,
                self.closed
            );
            self.ledger.advance(group, GroupState::Batched);
        }
        let left = self.rule.blocked(self.closed, 0, self.buffer.counts());
        check_invariant!(Invariant::ClosingRule, left.is_none(), "after batch {}: {left:?}", self.closed);
        self.closed += 1;
        self.hands.push_back(batch.clone());
        out.push(Action::Train(batch));
    }

    /// `on_straggler = "drop"`: cancels as many of the oldest running groups as block. Returns whether there was one; groups of
    /// a checkpoint that no generator has yet are none, since they may still start with new weights.
    fn drop_stragglers(&mut self, now: Duration, blocked: Blocked, out: &mut Vec<Action>) -> bool {
        let pending =
            |group: &GroupId| self.flights.get(group).is_none_or(|flight| matches!(flight.stage, Stage::Pending));
        let old = self.buffer.running().take_while(|&(floor, _)| floor <= blocked.version).map(|(_, group)| group);
        let stragglers: Vec<GroupId> = old.filter(|group| !pending(group)).take(blocked.excess as usize).collect();
        if stragglers.is_empty() {
            return false;
        }
        tracing::info!("batch {} does not wait for {} (replay.on_straggler)", self.closed, list(&stragglers));
        self.cancel(now, &stragglers, DropReason::Straggler, out);
        true
    }

    /// Says once that no further batch will come.
    pub(super) fn notice_end(&mut self, out: &mut Vec<Action>) {
        let idle = self.buffer.len() == 0 && self.hands.is_empty();
        let used_up = self.feed.at_end() || self.admission.all_issued(self.position());
        if idle && used_up && !self.exhausted {
            self.exhausted = true;
            out.push(Action::Report(ReplayEvent::Exhausted));
        }
    }
}
