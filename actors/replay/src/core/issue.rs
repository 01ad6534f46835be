//! Leases: who gets which, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use counterpoint_rollout::invariant::Invariant;
use counterpoint_rollout::{GeneratorId, GroupId, Lease, PolicyVersion, check_invariant};

use super::{Action, Flight, ReplayCore, Stage};

/// Leases per generator, each list in feed order.
type Plan = BTreeMap<GeneratorId, Vec<Lease>>;

impl ReplayCore {
    /// Issues all leases that may be issued now.
    pub(super) fn issue(&mut self, now: Duration, out: &mut Vec<Action>) {
        if !self.begun || self.deadlines.is_held() {
            return;
        }
        let mut plan = Plan::new();
        if self.waves() {
            self.issue_wave(now, &mut plan);
        } else {
            self.issue_stream(now, &mut plan);
        }
        out.extend(plan.into_iter().map(|(generator, leases)| Action::Lease { generator, leases }));
        if let Some(problem) = self.unreadable.take() {
            self.fail(format!("the training data cannot be read any more: {problem}"), out);
        }
    }

    /// η = 0: when nothing runs, all open positions at once, dealt round to the generators. What a checkpoint left in flight
    /// is a wave of its own, so that the next one is issued just as it would have been.
    fn issue_wave(&mut self, now: Duration, plan: &mut Plan) {
        let generators = self.generators.ids();
        let running = self.buffer.running_len() > self.pending.len();
        if generators.is_empty() || running || self.generators.cancelling() {
            return;
        }
        let mut dealt = generators.iter().cycle();
        let resumed = !self.pending.is_empty();
        while let Some(group) = self.pending.first().copied() {
            let Some(&generator) = dealt.next() else { return };
            self.issue_pending(now, group, generator, plan);
        }
        while !resumed && self.has_room() && self.admission.admits(self.position(), self.completed) {
            let Some(&generator) = dealt.next() else { return };
            if !self.issue_next(now, generator, plan) {
                return;
            }
        }
    }

    /// η > 0: one by one, each to the generator with the most free places among those that could start it at once; see
    /// [`crate::admission`] for why only those.
    fn issue_stream(&mut self, now: Duration, plan: &mut Plan) {
        while let Some(group) = self.pending.first().copied() {
            let Some(flight) = self.flights.get(&group) else { break };
            let Some(generator) = self.generators.pick(flight.lease.min_version) else { return };
            self.issue_pending(now, group, generator, plan);
        }
        while self.has_room() && self.admission.admits(self.position(), self.completed) {
            let min_version = self.admission.min_version(self.position());
            let Some(generator) = self.generators.pick(min_version) else { return };
            if !self.issue_next(now, generator, plan) {
                return;
            }
        }
    }

    /// Whether `replay.max_in_flight` allows one more group. With a limit of at least B nothing can starve: either the learner has
    /// a batch, and its step makes room, or everything in flight is in no batch, and once that is ready it holds a batch.
    pub(super) fn has_room(&self) -> bool {
        self.config.replay.max_in_flight.is_none_or(|limit| self.in_flight() < limit)
    }

    /// N, the position of the next lease.
    pub(crate) fn position(&self) -> u64 {
        self.admission.position(self.closed, self.buffer.len() as u64)
    }

    /// Issues the feed's next prompt; `false` if there is none.
    fn issue_next(&mut self, now: Duration, generator: GeneratorId, plan: &mut Plan) -> bool {
        let Some(draw) = self.feed.draw() else { return false };
        let prompt = match self.feed.prompt(draw.row) {
            Ok(prompt) => prompt,
            Err(problem) => {
                self.unreadable = Some(problem);
                return false;
            }
        };
        let position = self.position();
        let group = GroupId(self.next_group);
        self.next_group += 1;
        let lease = Lease {
            group,
            prompt,
            epoch: draw.epoch,
            attempt: draw.attempt,
            answers: self.config.feed.answers_per_prompt,
            position,
            min_version: self.admission.min_version(position),
            deadline: self.config.replay.lease_deadline(),
        };
        self.ledger.issue(group, position);
        let flight = Flight { floor: lease.min_version, lease, draw, stage: Stage::Pending };
        self.buffer.enter(flight.floor, group);
        self.flights.insert(group, flight);
        self.hand_over(now, group, generator, plan);
        true
    }

    /// Issues a group again that a checkpoint left in flight: same number, attempt, position and noise.
    fn issue_pending(&mut self, now: Duration, group: GroupId, generator: GeneratorId, plan: &mut Plan) {
        self.pending.remove(&group);
        self.hand_over(now, group, generator, plan);
    }

    fn hand_over(&mut self, now: Duration, group: GroupId, generator: GeneratorId, plan: &mut Plan) {
        let since = self.deadlines.active(now);
        let (Some(flight), Some(slot)) = (self.flights.get_mut(&group), self.generators.get_mut(generator)) else {
            return;
        };
        slot.leased.insert(group);
        flight.stage = Stage::Leased { generator, since };
        let lease = flight.lease.clone();
        let loaded = slot.loaded;
        check_invariant!(
            Invariant::Admission,
            lease.min_version <= self.completed,
            "{group} needs {}, the learner has made {}",
            lease.min_version,
            self.completed
        );
        self.deadlines.set(now, lease.deadline, group);
        self.raise_floor(group, loaded);
        plan.entry(generator).or_default().push(lease);
    }

    /// The group cannot have started before `version` any more.
    pub(super) fn raise_floor(&mut self, group: GroupId, version: PolicyVersion) {
        if let Some(flight) = self.flights.get_mut(&group)
            && flight.floor < version
        {
            self.buffer.leave(flight.floor, group);
            flight.floor = version;
            self.buffer.enter(version, group);
        }
    }
}
