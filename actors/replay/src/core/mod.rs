//! All decisions of the replay actor, without an actor, a channel or a clock.
//!
//! Every method takes what happened and when (`now`, the time since the run's start), and pushes what must be done about it
//! as [`Action`]s. Nothing is ever scanned in whole except when an actor dies, loads weights or comes back: an event costs
//! O(log n + η + generators).
//!
//! * `issue`: leases, in waves at η = 0 and one by one otherwise.
//! * `flow`: what generators report, and how a group leaves.
//! * `judge`: verification, its retries, and what becomes of a judged group.
//! * `close`: batches, stragglers, trained steps and the end of the run.
//! * `wait`: what the run waits for, in words.
//!
//! Waits that the core owns, each with a deadline: a lease until it is generated, a cancellation until the generator has
//! answered, a verification until its verdicts are there. The learner's step is watched by whoever supervises the learner.

mod close;
mod flow;
mod issue;
mod judge;
mod wait;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::contract::ReplayEvent;
use counterpoint_rollout::invariant::Invariant;
use counterpoint_rollout::{
    Batch, GeneratorId, Group, GroupId, Lease, PolicyVersion, PromptSet, check_invariant, telemetry,
};

use crate::admission::Admission;
use crate::batch::ClosingRule;
use crate::buffer::Buffer;
use crate::cut::CutKey;
use crate::deadlines::Deadlines;
use crate::feed::{Draw, Feed};
use crate::generators::Generators;
use crate::ledger::{Ledger, LedgerTotals, STATES};
use crate::recent::{Alarm, Outcome, Recent};
use crate::status::{GeneratorStatus, ReplayStatus};
use crate::{FeedConfig, OnStraggler, ReplayConfig, ReplayError};

/// How much longer than the verifier's own deadline the replay waits for its answer: the verifier should be the one to notice.
pub const VERIFY_GRACE: Duration = Duration::from_secs(5);

/// How long a group whose verdicts were lost waits before they are asked for again, unless a restarted verifier comes first:
/// most likely the verifier is just dying, and a request sent now would die with it.
pub const LOST_BACKOFF: Duration = Duration::from_secs(1);

/// What must be done.
#[derive(Debug)]
pub enum Action {
    /// Send these leases, in this order, in one message.
    Lease {
        /// To whom.
        generator: GeneratorId,
        /// In feed order.
        leases: Vec<Lease>,
    },
    /// Tell the generator to give these groups up.
    Cancel {
        /// Who holds them.
        generator: GeneratorId,
        /// Which.
        groups: Vec<GroupId>,
    },
    /// Ask for verdicts; the answer goes to [`ReplayCore::verified`] with the same ticket.
    Verify {
        /// What to judge.
        group: Arc<Group>,
        /// Names this request among those for the same group.
        ticket: u64,
        /// What the verifier is allowed.
        deadline: Duration,
    },
    /// Tell the verifier that these need no verdicts any more.
    CancelVerify(Vec<GroupId>),
    /// Send this batch to the learner.
    Train(Batch),
    /// Tell the conductor.
    Report(ReplayEvent),
}

/// What the core needs besides the prompts.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Section `[feed]`.
    pub feed: FeedConfig,
    /// Section `[replay]`.
    pub replay: ReplayConfig,
    /// How long the verifier has for one group.
    pub verify_deadline: Duration,
    /// `run.seed`.
    pub seed: u64,
    /// Optimiser steps of the run.
    pub max_steps: u64,
}

/// A group that is not ready yet.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) lease: Lease,
    pub(crate) draw: Draw,
    /// The oldest version at which it can have started; its start version once it has.
    pub(crate) floor: PolicyVersion,
    pub(crate) stage: Stage,
}

#[derive(Debug)]
pub(crate) enum Stage {
    /// In flight when a checkpoint was cut; not issued again yet.
    Pending,
    /// With a generator, not started; since when, for the metric.
    Leased { generator: GeneratorId, since: Duration },
    /// Started.
    Generating { generator: GeneratorId },
    /// Generated; how often its verification came to nothing, and what it waits for now.
    Verifying { group: Arc<Group>, failures: u32, wait: VerdictWait },
}

/// What a generated group waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerdictWait {
    /// The answer to the request with this ticket.
    Verdicts(u64),
    /// A moment, after an answer was lost.
    Backoff,
    /// A verifier: none is up.
    Verifier,
}

/// See the module.
#[derive(Debug)]
pub struct ReplayCore {
    pub(crate) config: CoreConfig,
    /// What a resumed run must have in common with this one; the data are fingerprinted once.
    pub(crate) key: CutKey,
    pub(crate) admission: Admission,
    rule: ClosingRule,
    pub(crate) feed: Feed,
    pub(crate) ledger: Ledger,
    pub(crate) buffer: Buffer,
    pub(crate) recent: Recent,
    deadlines: Deadlines,
    generators: Generators,
    pub(crate) flights: BTreeMap<GroupId, Flight>,
    /// The flights in [`Stage::Pending`].
    pub(crate) pending: BTreeSet<GroupId>,
    /// Batches that the learner has, oldest first.
    pub(crate) hands: VecDeque<Batch>,
    credits: usize,
    verifier_present: bool,
    next_ticket: u64,
    pub(crate) next_group: u64,
    /// v: batches closed so far.
    pub(crate) closed: u64,
    /// Optimiser steps done.
    pub(crate) completed: PolicyVersion,
    begun: bool,
    exhausted: bool,
    failed: bool,
    /// A prompt could not be read again: what was wrong.
    unreadable: Option<String>,
    last_missed_deadline: Option<String>,
}

impl ReplayCore {
    /// A core at the start of a run. Nothing is issued before [`ReplayCore::begin`].
    pub fn new(config: CoreConfig, prompts: impl PromptSet + 'static) -> Result<Self, ReplayError> {
        let mut errors = Vec::new();
        config.feed.validate(&mut errors);
        config.replay.validate(&mut errors);
        if !errors.is_empty() {
            return Err(ReplayError::Config(errors));
        }
        let (batch, max_staleness) = (u64::from(config.feed.prompts_per_step), u64::from(config.replay.max_staleness));
        let key = CutKey::new(&config, &prompts)?;
        Ok(Self {
            key,
            admission: Admission { batch, max_staleness, max_steps: config.max_steps },
            rule: ClosingRule { batch, max_staleness },
            feed: Feed::new(&config.feed, config.seed, prompts)?,
            ledger: Ledger::default(),
            buffer: Buffer::default(),
            recent: Self::window(&config, &[]),
            deadlines: Deadlines::default(),
            generators: Generators::default(),
            flights: BTreeMap::new(),
            pending: BTreeSet::new(),
            hands: VecDeque::new(),
            credits: 0,
            verifier_present: false,
            next_ticket: 0,
            next_group: 0,
            closed: 0,
            completed: PolicyVersion(0),
            begun: false,
            exhausted: false,
            failed: false,
            unreadable: None,
            last_missed_deadline: None,
            config,
        })
    }

    pub(crate) fn window(config: &CoreConfig, saved: &[Outcome]) -> Recent {
        let groups = (config.feed.prompts_per_step as usize).saturating_mul(10);
        Recent::new(groups, config.replay.max_void_share, saved)
    }

    /// Starts issuing. Call it when all generators, the verifier and the learner are up: at η = 0 the split of the first
    /// wave depends on it.
    pub fn begin(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.begun = true;
        // What a checkpoint left in flight first: until a generator has it, its floor is only known from below.
        self.issue(now, out);
        self.settle(now, out);
    }

    /// An evaluation pause: no lease and no batch goes out, and deadlines do not run.
    pub fn hold(&mut self, now: Duration) {
        self.deadlines.hold(now);
    }

    /// The pause is over.
    pub fn release(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.deadlines.release(now);
        self.settle(now, out);
    }

    /// Acts on every deadline that has passed.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        let mut lost = Vec::new();
        for group in self.deadlines.expired(now) {
            match self.flights.get(&group).map(|flight| &flight.stage) {
                Some(Stage::Leased { .. } | Stage::Generating { .. }) => lost.push(group),
                Some(Stage::Verifying { .. }) => self.verification_late(now, group, out),
                Some(Stage::Pending) => {}
                None => self.cancellation_late(group, out),
            }
        }
        self.lease_late(now, &lost, out);
        self.settle(now, out);
    }

    /// Run time at which [`ReplayCore::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// The account's totals.
    pub fn totals(&self) -> LedgerTotals {
        self.ledger.totals()
    }

    /// The ledger, to look at.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The state for people and pages.
    pub fn status(&self, now: Duration) -> ReplayStatus {
        let groups = STATES.iter().zip(self.ledger.in_states()).map(|(&(_, label), count)| (label, count)).collect();
        let generators = self.generators.iter().map(|(id, slot)| GeneratorStatus {
            id,
            loaded: slot.loaded,
            held: slot.held() as u64,
            window: slot.window as u64,
        });
        ReplayStatus {
            completed_steps: self.completed.0,
            closed_batches: self.closed,
            max_steps: self.config.max_steps,
            groups,
            buffer_groups: self.buffer.ready_len() as u64,
            capacity_groups: self.capacity(),
            batches_with_learner: self.hands.len() as u64,
            totals: self.totals(),
            epoch: self.feed.epoch(),
            abandoned_prompts: self.feed.abandoned_total(),
            generators: generators.collect(),
            held: self.deadlines.is_held(),
            next_deadline_seconds: self.next_deadline().map(|at| at.saturating_sub(now).as_secs_f64()),
            last_missed_deadline: self.last_missed_deadline.clone(),
            waits_for: self.waits_for(),
        }
    }

    /// Groups in flight.
    fn in_flight(&self) -> u64 {
        self.ledger.in_states().iter().sum()
    }

    /// The most groups that may be in flight.
    fn capacity(&self) -> u64 {
        self.admission.capacity().min(self.config.replay.max_in_flight.unwrap_or(u64::MAX))
    }

    /// Sets the gauges. Cheap, but once per message is enough.
    pub fn record_gauges(&self) {
        let counts = self.ledger.in_states();
        for ((_, label), count) in STATES.iter().zip(counts) {
            telemetry::groups_in_state(label, count as usize);
        }
        telemetry::buffer(self.buffer.ready_len(), self.capacity());
        telemetry::mailbox_depth("replay_generator", counts[0] as usize);
    }

    /// What every event ends with: batches are closed, leases issued, the end noticed and the account checked.
    fn settle(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.begun && !self.deadlines.is_held() {
            self.close_batches(now, out);
            self.issue(now, out);
            self.notice_end(out);
        }
        check_invariant!(Invariant::LedgerBalances, self.ledger.balance(), "{:?}", self.ledger.totals());
        let (in_flight, capacity) = (self.in_flight(), self.admission.capacity());
        check_invariant!(Invariant::Admission, in_flight <= capacity, "{in_flight} groups in flight, not {capacity}");
    }

    fn waves(&self) -> bool {
        self.config.replay.max_staleness == 0
    }

    fn drops_stragglers(&self) -> bool {
        self.config.replay.on_straggler == OnStraggler::Drop
    }

    /// Reports a failure of the run; only the first, since the others follow from it.
    pub(super) fn fail(&mut self, reason: String, out: &mut Vec<Action>) {
        tracing::error!("{reason}");
        if !self.failed {
            self.failed = true;
            out.push(Action::Report(ReplayEvent::Failed(reason)));
        }
    }

    fn record_outcome(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        match self.recent.push(outcome) {
            Some(Alarm::Unlearnable { all_right, all_wrong }) if !self.failed => {
                self.failed = true;
                out.push(Action::Report(ReplayEvent::Unlearnable { all_right, all_wrong }));
            }
            Some(Alarm::Failed(reason)) if !self.failed => self.fail(reason, out),
            _ => {}
        }
    }

    /// Logs a passed deadline and keeps its text for the status page.
    fn missed(&mut self, what: String) {
        tracing::warn!("{what}");
        self.last_missed_deadline = Some(what);
    }
}

/// Group numbers for a log line, cut off where it would get too long.
fn list(groups: &[GroupId]) -> String {
    const SHOWN: usize = 16;
    let mut text = groups.iter().take(SHOWN).map(GroupId::to_string).collect::<Vec<_>>().join(", ");
    if groups.len() > SHOWN {
        text.push_str(&format!(" and {} more", groups.len() - SHOWN));
    }
    text
}
