//! Verification: requests, retries, and what becomes of a judged group.

use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::contract::ReplayEvent;
use counterpoint_rollout::{GroupId, GroupState, Lost, ScoredGroup, Verdict, VoidReason, telemetry};

use super::{Action, LOST_BACKOFF, ReplayCore, Stage, VERIFY_GRACE, VerdictWait};
use crate::recent::Outcome;

impl ReplayCore {
    /// A verifier is up, or up again: everything that waits for verdicts is asked anew. Answers to older requests are ignored.
    pub fn verifier_up(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.verifier_present = true;
        let waits = |stage: &Stage| matches!(stage, Stage::Verifying { .. });
        let waiting: Vec<GroupId> =
            self.flights.iter().filter(|(_, flight)| waits(&flight.stage)).map(|(&group, _)| group).collect();
        for group in waiting {
            self.ask(now, group, out);
        }
    }

    /// A request could not be sent, since the verifier is gone. The group waits for [`ReplayCore::verifier_up`] or its deadline.
    pub fn unsent(&mut self, group: GroupId, unsent: u64) {
        self.verifier_present = false;
        if let Some(flight) = self.flights.get_mut(&group)
            && let Stage::Verifying { wait, .. } = &mut flight.stage
            && *wait == VerdictWait::Verdicts(unsent)
        {
            *wait = VerdictWait::Verifier;
        }
    }

    /// The answer to the request with this ticket.
    pub fn verified(
        &mut self,
        now: Duration,
        group: GroupId,
        ticket: u64,
        result: Result<Vec<Verdict>, Lost>,
        out: &mut Vec<Action>,
    ) {
        let Some((wait, answers)) = self.waits(group) else {
            tracing::debug!("verdicts of {group} came after it had ended");
            return;
        };
        if wait != VerdictWait::Verdicts(ticket) {
            tracing::debug!("verdicts of {group} came for a request that was given up");
            return;
        }
        match result {
            Err(Lost) => {
                self.verification_failed(now, group, void(VoidReason::Crash, answers), Some(LOST_BACKOFF), out)
            }
            Ok(verdicts) if verdicts.len() != answers => {
                tracing::warn!("the verifier gave {} verdicts of the {answers} answers of {group}", verdicts.len());
                self.verification_failed(now, group, void(VoidReason::Protocol, answers), None, out);
            }
            Ok(verdicts) if verdicts.iter().any(|verdict| verdict.score().is_none()) => {
                self.verification_failed(now, group, verdicts, None, out);
            }
            Ok(verdicts) => self.judged(group, verdicts, out),
        }
        self.settle(now, out);
    }

    /// What a generated group waits for, and how many answers it has.
    fn waits(&self, group: GroupId) -> Option<(VerdictWait, usize)> {
        let flight = self.flights.get(&group)?;
        let Stage::Verifying { wait, .. } = flight.stage else { return None };
        Some((wait, flight.lease.answers as usize))
    }

    /// Sends a request for the group's verdicts, or lets it wait for a verifier; either has the verification deadline.
    pub(super) fn ask(&mut self, now: Duration, id: GroupId, out: &mut Vec<Action>) {
        let deadline = self.config.verify_deadline;
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let Stage::Verifying { group, wait, .. } = &mut flight.stage else { return };
        *wait = VerdictWait::Verifier;
        if self.verifier_present {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            *wait = VerdictWait::Verdicts(ticket);
            out.push(Action::Verify { group: Arc::clone(group), ticket, deadline });
        }
        self.deadlines.set(now, deadline.saturating_add(VERIFY_GRACE), id);
    }

    /// The verification deadline has passed: of a request, of the wait for a verifier, or of a back-off.
    pub(super) fn verification_late(&mut self, now: Duration, id: GroupId, out: &mut Vec<Action>) {
        let Some((wait, answers)) = self.waits(id) else { return };
        let (owner, reason) = match wait {
            VerdictWait::Verdicts(_) => ("the verifier's verdicts", VoidReason::Timeout),
            VerdictWait::Verifier => ("a verifier", VoidReason::Crash),
            VerdictWait::Backoff => {
                self.ask(now, id, out);
                return;
            }
        };
        if matches!(wait, VerdictWait::Verdicts(_)) {
            out.push(Action::CancelVerify(vec![id]));
        }
        let waited = self.config.verify_deadline.saturating_add(VERIFY_GRACE).as_secs_f64();
        self.missed(format!("{id} waited {waited} s for {owner}"));
        self.verification_failed(now, id, void(reason, answers), None, out);
    }

    /// One more attempt came to nothing: try again (after the back-off, if given), or let the void verdicts stand.
    fn verification_failed(
        &mut self,
        now: Duration,
        id: GroupId,
        verdicts: Vec<Verdict>,
        backoff: Option<Duration>,
        out: &mut Vec<Action>,
    ) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let Stage::Verifying { failures, wait, .. } = &mut flight.stage else { return };
        *failures += 1;
        if *failures > self.config.replay.void_retries {
            self.judged(id, verdicts, out);
        } else if let Some(backoff) = backoff {
            *wait = VerdictWait::Backoff;
            self.deadlines.set(now, backoff, id);
        } else {
            self.ask(now, id, out);
        }
    }

    /// The verdicts stand.
    fn judged(&mut self, id: GroupId, verdicts: Vec<Verdict>, out: &mut Vec<Action>) {
        let Some(flight) = self.remove(id) else { return };
        let Stage::Verifying { group, .. } = flight.stage else { return };
        let scored = Arc::new(ScoredGroup { group, verdicts });
        telemetry::group_judged(&scored);
        let outcome = Outcome::judged(&scored, self.config.replay.on_void);
        match outcome.drop_reason() {
            None => {
                self.ledger.advance(id, GroupState::Ready);
                self.buffer.store(Arc::clone(&scored));
            }
            Some(reason) => self.ledger.drop_group(id, reason),
        }
        out.push(Action::Report(ReplayEvent::Scored(scored)));
        self.record_outcome(outcome, out);
    }
}

fn void(reason: VoidReason, answers: usize) -> Vec<Verdict> {
    vec![Verdict::Void(reason); answers]
}
