//! What generators report, and how a group leaves before it is judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{DropReason, GeneratorId, Group, GroupId, GroupState, PolicyVersion, telemetry};

use super::{Action, Flight, ReplayCore, Stage, VerdictWait, list};
use crate::recent::Outcome;

impl ReplayCore {
    /// A generator is up, or up again: it holds nothing, may hold `window` groups, and has the weights of `version`.
    pub fn generator_up(
        &mut self,
        now: Duration,
        id: GeneratorId,
        window: usize,
        version: PolicyVersion,
        out: &mut Vec<Action>,
    ) {
        self.take_down(id, out);
        self.generators.up(id, window, version);
        self.settle(now, out);
    }

    /// A generator is gone: what it had is lost, and the prompts go back to the feed.
    pub fn generator_down(&mut self, now: Duration, id: GeneratorId, out: &mut Vec<Action>) {
        self.take_down(id, out);
        self.settle(now, out);
    }

    fn take_down(&mut self, id: GeneratorId, out: &mut Vec<Action>) {
        let Some(slot) = self.generators.down(id) else { return };
        for &group in &slot.cancelled {
            self.deadlines.clear(group);
        }
        let lost: Vec<GroupId> = slot.leased.union(&slot.generating).copied().collect();
        if !lost.is_empty() {
            tracing::warn!("{id} is gone and with it {}; their prompts go back to the feed", list(&lost));
        }
        for group in lost {
            self.end(group, DropReason::Lost, out);
        }
    }

    /// A generator has new weights.
    pub fn loaded(&mut self, now: Duration, id: GeneratorId, version: PolicyVersion, out: &mut Vec<Action>) {
        let Some(slot) = self.generators.get_mut(id).filter(|slot| slot.loaded < version) else {
            tracing::debug!("{id} reports {version}, which is nothing new");
            return;
        };
        slot.loaded = version;
        let waiting: Vec<GroupId> = slot.leased.iter().copied().collect();
        for group in waiting {
            self.raise_floor(group, version);
        }
        self.settle(now, out);
    }

    /// A group's first token was sampled with the weights of `version`.
    pub fn started(&mut self, now: Duration, group: GroupId, version: PolicyVersion, out: &mut Vec<Action>) {
        if self.start(now, group, version, out) {
            self.settle(now, out);
        }
    }

    fn start(&mut self, now: Duration, group: GroupId, version: PolicyVersion, out: &mut Vec<Action>) -> bool {
        let Some(flight) = self.flights.get_mut(&group) else {
            tracing::debug!("{group} started after it was dropped");
            return false;
        };
        let floor = flight.floor;
        let Stage::Leased { generator, since } = flight.stage else {
            let what = format!("{group} was reported to start with {version} though it had started with {floor}");
            self.fail(what, out);
            return false;
        };
        if version < floor {
            // Batches were closed in the belief that this cannot happen.
            let what = format!("{generator} started {group} with {version}, though it may not before {floor}");
            self.fail(what, out);
            self.cancel(now, &[group], DropReason::Stale, out);
            return true;
        }
        flight.stage = Stage::Generating { generator };
        if let Some(slot) = self.generators.get_mut(generator) {
            slot.leased.remove(&group);
            slot.generating.insert(group);
        }
        telemetry::mailbox_wait("replay_generator", self.deadlines.active(now).saturating_sub(since));
        self.raise_floor(group, version);
        self.ledger.start(group, version);
        true
    }

    /// All answers of a group are there.
    pub fn generated(&mut self, now: Duration, group: Arc<Group>, out: &mut Vec<Action>) {
        let id = group.id();
        if !self.answered(id) {
            self.take_answers(now, &group, out);
        }
        self.settle(now, out);
    }

    fn take_answers(&mut self, now: Duration, group: &Arc<Group>, out: &mut Vec<Action>) {
        let id = group.id();
        if self.flights.get(&id).is_some_and(|flight| matches!(flight.stage, Stage::Leased { .. })) {
            self.start(now, id, group.start_version, out);
        }
        let Some(flight) = self.flights.get_mut(&id) else {
            tracing::debug!("{id} was generated after it was dropped");
            return;
        };
        let Stage::Generating { generator } = flight.stage else {
            self.fail(format!("{id} was generated twice"), out);
            return;
        };
        let answers = flight.lease.answers as usize;
        if group.completions.len() != answers || group.start_version != flight.floor {
            let what = format!(
                "{generator} made {} answers from {} on of {id}, but {answers} from {} on were leased and announced",
                group.completions.len(),
                group.start_version,
                flight.floor
            );
            self.fail(what, out);
            self.end(id, DropReason::Lost, out);
            return;
        }
        flight.stage = Stage::Verifying { group: Arc::clone(group), failures: 0, wait: VerdictWait::Verifier };
        if let Some(slot) = self.generators.get_mut(generator) {
            slot.generating.remove(&id);
        }
        group.completions.iter().for_each(telemetry::completion_sampled);
        self.ledger.advance(id, GroupState::Verifying);
        self.ask(now, id, out);
    }

    /// A generator gave a group up: on request, or because its prompt does not fit.
    pub fn dropped(&mut self, now: Duration, group: GroupId, reason: DropReason, out: &mut Vec<Action>) {
        if !self.answered(group) {
            match self.flights.get(&group).map(|flight| &flight.stage) {
                Some(Stage::Leased { .. } | Stage::Generating { .. }) => self.end(group, reason, out),
                _ => tracing::debug!("{group} was given up ({}) after it had ended", reason.label()),
            }
        }
        self.settle(now, out);
    }

    /// Whether this was the awaited last word on a cancelled group.
    fn answered(&mut self, group: GroupId) -> bool {
        let awaited = self.generators.answered(group);
        if awaited {
            self.deadlines.clear(group);
        }
        awaited
    }

    /// Drops running groups and tells whoever has them.
    pub(super) fn cancel(&mut self, now: Duration, groups: &[GroupId], reason: DropReason, out: &mut Vec<Action>) {
        let mut generating: BTreeMap<GeneratorId, Vec<GroupId>> = BTreeMap::new();
        let mut verifying = Vec::new();
        for &group in groups {
            match self.flights.get(&group).map(|flight| &flight.stage) {
                Some(&Stage::Leased { generator, .. } | &Stage::Generating { generator }) => {
                    generating.entry(generator).or_default().push(group);
                }
                Some(Stage::Verifying { .. }) => verifying.push(group),
                Some(Stage::Pending) | None => {}
            }
            self.end(group, reason, out);
        }
        for (generator, groups) in generating {
            for &group in &groups {
                if let Some(slot) = self.generators.get_mut(generator) {
                    slot.cancelled.insert(group);
                    self.deadlines.set(now, self.config.replay.lease_deadline(), group);
                }
            }
            out.push(Action::Cancel { generator, groups });
        }
        if !verifying.is_empty() {
            out.push(Action::CancelVerify(verifying));
        }
    }

    /// The lease deadline of these groups has passed.
    pub(super) fn lease_late(&mut self, now: Duration, lost: &[GroupId], out: &mut Vec<Action>) {
        if lost.is_empty() {
            return;
        }
        let after = self.config.replay.lease_deadline_seconds;
        self.missed(format!("replay.lease_deadline_seconds = {after} passed before {} were generated", list(lost)));
        self.cancel(now, lost, DropReason::Lost, out);
    }

    /// A generator has not answered a cancellation for as long as a lease may take: its engine stands still, and every
    /// further lease would be lost in it.
    pub(super) fn cancellation_late(&mut self, group: GroupId, out: &mut Vec<Action>) {
        let holder = self.generators.iter().find(|(_, slot)| slot.cancelled.contains(&group)).map(|(id, _)| id);
        if let Some(id) = holder {
            let after = self.config.replay.lease_deadline_seconds;
            let what = format!("{id} has not given up {group} for {after} s after it was cancelled: it stands still");
            self.missed(what.clone());
            self.fail(what, out);
        }
    }

    /// Ends a running group: every index forgets it, the ledger books it, and the prompt goes back unless it is used up.
    pub(super) fn end(&mut self, group: GroupId, reason: DropReason, out: &mut Vec<Action>) {
        let Some(flight) = self.remove(group) else { return };
        self.ledger.drop_group(group, reason);
        if !reason.consumes_prompt() {
            self.feed.give_back(flight.draw, reason);
        }
        if !matches!(reason, DropReason::Unmixed | DropReason::Void) {
            self.record_outcome(Outcome::Unjudged, out);
        }
    }

    /// Takes a running group out of every index.
    pub(super) fn remove(&mut self, group: GroupId) -> Option<Flight> {
        let flight = self.flights.remove(&group)?;
        self.pending.remove(&group);
        self.deadlines.clear(group);
        self.buffer.leave(flight.floor, group);
        if let Stage::Leased { generator, .. } | Stage::Generating { generator } = flight.stage
            && let Some(slot) = self.generators.get_mut(generator)
        {
            slot.leased.remove(&group);
            slot.generating.remove(&group);
        }
        Some(flight)
    }
}
