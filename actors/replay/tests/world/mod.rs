//! A simulated world around [`ReplayCore`]: generators that lag, a verifier, a learner, and faults, all in an order drawn
//! from a seed. After every event it checks what must always hold, against an account of its own.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may")]

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use counterpoint_replay::OnStraggler;
use counterpoint_replay::core::{Action, ReplayCore};
use counterpoint_rollout::contract::ReplayEvent;
use counterpoint_rollout::{
    Batch, Completion, DropReason, FinishReason, GeneratorId, Group, GroupId, Lease, NoiseKey, PolicyVersion, Purpose,
    Verdict, VersionSpan, VoidReason,
};

mod faults;
mod oracle;
mod spec;
use oracle::Oracle;
pub use spec::Spec;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exhausted,
    /// Reported so: the dice gave no mixed group for long enough.
    NothingLearned,
}

/// Everything that left the core, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    pub leases: Vec<(GeneratorId, Lease)>,
    pub batches: Vec<Vec<GroupId>>,
}

#[derive(Default)]
struct Generator {
    loaded: u64,
    leased: Vec<Lease>,
    generating: Vec<(Lease, u64)>,
    cancelled: Vec<GroupId>,
}

/// Something that can happen, to one of several.
type Happening = fn(&mut World, usize);

pub struct World {
    spec: Spec,
    pub core: ReplayCore,
    pub log: Log,
    oracle: Oracle,
    generators: Vec<Generator>,
    requests: Vec<(Arc<Group>, u64)>,
    learner: VecDeque<Batch>,
    /// Steps done of which the core has not heard yet.
    unheard: VecDeque<Batch>,
    steps: u64,
    resumed_at: u64,
    now: Duration,
    faults: u32,
    held: bool,
    saved: Option<(String, Oracle)>,
    end: Option<End>,
    dice: NoiseKey,
    throws: u64,
}

impl World {
    pub fn new(spec: Spec) -> Self {
        let mut world = Self {
            core: ReplayCore::new(spec.config(), spec.data()).unwrap(),
            log: Log::default(),
            oracle: Oracle::default(),
            generators: Vec::new(),
            requests: Vec::new(),
            learner: VecDeque::new(),
            unheard: VecDeque::new(),
            steps: 0,
            resumed_at: 0,
            now: Duration::ZERO,
            faults: spec.faults,
            held: false,
            saved: None,
            end: None,
            dice: NoiseKey::new(spec.order_seed, Purpose::Cli, 0, "order", 0, 0),
            throws: 0,
            spec,
        };
        world.everybody_up(0);
        world
    }

    /// Runs to the end, which must come.
    pub fn run(&mut self) -> End {
        for _ in 0..200_000 {
            if let Some(end) = self.end {
                self.check_end(end);
                return end;
            }
            self.step();
            self.check();
        }
        panic!("no end: {:?}", self.core.status(self.now));
    }

    fn throw(&mut self, below: usize) -> usize {
        self.throws += 1;
        (self.dice.bits(self.throws) % below as u64) as usize
    }

    /// The newest weights that generators can get; after a resume these are the checkpoint's own.
    fn published(&self) -> u64 {
        self.resumed_at.max(self.steps / self.spec.publish * self.spec.publish)
    }

    fn step(&mut self) {
        let passed = self.throw(50) as u64;
        self.now += Duration::from_millis(passed);
        if self.faults > 0 && self.throw(30) == 0 {
            self.faults -= 1;
            return self.fault();
        }
        if self.held && self.throw(10) == 0 {
            return self.release();
        }
        let possible = self.possible();
        if possible.is_empty() {
            return self.nothing_happens();
        }
        let (event, whom) = possible[self.throw(possible.len())];
        event(self, whom);
    }

    /// Goes on until nothing can happen any more, and returns what the core says it waits for.
    pub fn stand_still(&mut self) -> String {
        for _ in 0..10_000 {
            assert_eq!(self.end, None, "this run was not to end");
            if self.possible().is_empty() {
                return self.core.status(self.now).waits_for;
            }
            self.step();
            self.check();
        }
        panic!("it still moves: {:?}", self.core.status(self.now));
    }

    fn possible(&self) -> Vec<(Happening, usize)> {
        let mut possible: Vec<(Happening, usize)> = Vec::new();
        for (g, generator) in self.generators.iter().enumerate() {
            if generator.leased.iter().any(|l| l.min_version.0 <= generator.loaded) {
                possible.push((Self::start, g));
            }
            if !generator.generating.is_empty() {
                possible.push((Self::generate, g));
            }
            if generator.loaded < self.published() {
                possible.push((Self::load, g));
            }
            if !generator.cancelled.is_empty() {
                possible.push((Self::answer_cancel, g));
            }
        }
        if !self.requests.is_empty() {
            possible.extend([(Self::verify as Happening, 0); 2]);
        }
        if !self.learner.is_empty() {
            possible.push((Self::train, 0));
        }
        if !self.unheard.is_empty() {
            possible.push((Self::hear, 0));
        }
        possible
    }

    /// Only a pause or a short back-off may be waited for: anything else is a deadlock.
    fn nothing_happens(&mut self) {
        if self.held {
            return self.release();
        }
        let due = self.core.next_deadline();
        let near = due.filter(|&due| due < self.now + Duration::from_secs(100));
        let Some(near) = near else { panic!("deadlock at {:?}: {:?}", self.spec, self.core.status(self.now)) };
        self.now = near;
        self.event(|core, now, out| core.tick(now, out));
    }

    fn event(&mut self, event: impl FnOnce(&mut ReplayCore, Duration, &mut Vec<Action>)) {
        let mut out = Vec::new();
        event(&mut self.core, self.now, &mut out);
        for action in out {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Lease { generator, leases } => {
                assert!(!self.held, "leases go out in a pause");
                if self.spec.staleness == 0 {
                    let idle = self.requests.is_empty() && self.generators.iter().all(|g| g.generating.is_empty());
                    assert!(idle, "a wave was issued while the last one ran");
                }
                for lease in leases {
                    self.oracle.issued(&lease, &self.core);
                    self.log.leases.push((generator, lease.clone()));
                    self.generators[generator.0 as usize].leased.push(lease);
                }
                let g = &self.generators[generator.0 as usize];
                let held = g.leased.len() + g.generating.len() + g.cancelled.len();
                assert!(self.spec.staleness == 0 || held <= self.spec.windows[generator.0 as usize]);
            }
            Action::Cancel { generator, groups } => {
                let g = &mut self.generators[generator.0 as usize];
                g.leased.retain(|lease| !groups.contains(&lease.group));
                g.generating.retain(|(lease, _)| !groups.contains(&lease.group));
                g.cancelled.extend(groups);
            }
            Action::Verify { group, ticket, .. } => self.requests.push((group, ticket)),
            Action::CancelVerify(groups) => self.requests.retain(|(group, _)| !groups.contains(&group.id())),
            Action::Train(batch) => {
                assert!(!self.held, "a batch goes out in a pause");
                self.oracle.closed(&batch, &self.spec);
                self.log.batches.push(batch.groups.iter().map(|scored| scored.group.id()).collect());
                self.learner.push_back(batch);
                assert!(self.learner.len() + self.unheard.len() <= self.spec.credits);
            }
            Action::Report(ReplayEvent::Scored(scored)) => self.oracle.scored(&scored, &self.spec),
            Action::Report(ReplayEvent::Exhausted) => self.end = Some(End::Exhausted),
            Action::Report(ReplayEvent::Unlearnable { .. }) => self.end = Some(End::NothingLearned),
            Action::Report(ReplayEvent::Failed(why)) => {
                assert!(why.starts_with("none of the last"), "{why}");
                self.end = Some(End::NothingLearned);
            }
        }
    }

    fn start(&mut self, g: usize) {
        let loaded = self.generators[g].loaded;
        let able: Vec<usize> = (0..self.generators[g].leased.len())
            .filter(|&i| self.generators[g].leased[i].min_version.0 <= loaded)
            .collect();
        let pick = able[self.throw(able.len())];
        let lease = self.generators[g].leased.remove(pick);
        let group = lease.group;
        self.generators[g].generating.push((lease, loaded));
        self.event(|core, now, out| core.started(now, group, PolicyVersion(loaded), out));
    }

    fn generate(&mut self, g: usize) {
        let pick = self.throw(self.generators[g].generating.len());
        let (lease, start) = self.generators[g].generating.remove(pick);
        let completion = Completion {
            tokens: vec![1],
            logprobs: vec![-0.5],
            versions: vec![VersionSpan { version: PolicyVersion(start), tokens: 1 }],
            finish: FinishReason::Stop,
            text: String::new(),
        };
        let group = Arc::new(Group {
            completions: vec![completion; lease.answers as usize],
            lease,
            prompt_tokens: vec![0],
            start_version: PolicyVersion(start),
            generator: GeneratorId(g as u32),
        });
        self.event(|core, now, out| core.generated(now, group, out));
    }

    fn load(&mut self, g: usize) {
        let version = self.published();
        self.generators[g].loaded = version;
        self.event(|core, now, out| core.loaded(now, GeneratorId(g as u32), PolicyVersion(version), out));
    }

    fn answer_cancel(&mut self, g: usize) {
        let group = self.generators[g].cancelled.remove(0);
        self.event(|core, now, out| core.dropped(now, group, DropReason::Cancelled, out));
    }

    fn verify(&mut self, _: usize) {
        let pick = self.throw(self.requests.len());
        let (group, ticket) = self.requests.swap_remove(pick);
        let lease = &group.lease;
        let noise = NoiseKey::new(
            self.spec.outcome_seed,
            Purpose::Cli,
            lease.epoch,
            &lease.prompt.id,
            lease.attempt,
            self.oracle.asked_again(group.id()),
        );
        let others = match (noise.bits(0) % 100, noise.bits(1) % 100) {
            (void, _) if void < self.spec.void_percent => [Verdict::Void(VoidReason::Timeout), Verdict::Correct],
            (_, unmixed) if unmixed < self.spec.unmixed_percent => [Verdict::Incorrect, Verdict::Incorrect],
            _ => [Verdict::Correct, Verdict::Correct],
        };
        let id = group.id();
        let [a, b] = others;
        let verdicts = vec![a, Verdict::Incorrect, b];
        self.event(|core, now, out| core.verified(now, id, ticket, Ok(verdicts), out));
    }

    fn train(&mut self, _: usize) {
        self.unheard.extend(self.learner.pop_front());
        self.steps += 1;
    }

    /// The core hears of a step, possibly after a generator has loaded what it made.
    fn hear(&mut self, _: usize) {
        let batch = self.unheard.pop_front().unwrap();
        let groups: Vec<GroupId> = batch.groups.iter().map(|scored| scored.group.id()).collect();
        self.oracle.trained(&groups);
        let version = PolicyVersion(batch.version.0 + 1);
        self.event(|core, now, out| core.trained(now, version, &groups, out));
    }

    fn release(&mut self) {
        self.held = false;
        self.event(|core, now, out| core.release(now, out));
    }

    fn everybody_up(&mut self, loaded: u64) {
        for (g, window) in self.spec.windows.clone().into_iter().enumerate() {
            self.generators.push(Generator { loaded, ..Generator::default() });
            let (id, version) = (GeneratorId(g as u32), PolicyVersion(loaded));
            self.event(|core, now, out| core.generator_up(now, id, window, version, out));
        }
        self.event(|core, now, out| core.verifier_up(now, out));
        let credits = self.spec.credits;
        self.event(|core, now, out| core.learner_up(now, credits, out));
        self.event(|core, now, out| core.begin(now, out));
    }

    /// What must hold after every event.
    fn check(&self) {
        assert!(self.core.ledger().balance(), "the ledger does not balance: {:?}", self.core.totals());
        let totals = self.core.totals();
        assert_eq!(totals.trained, self.oracle.trained_total());
        assert!(totals.in_flight <= u64::from(self.spec.staleness + 1) * u64::from(self.spec.batch));
        assert!(self.spec.max_in_flight.is_none_or(|limit| totals.in_flight <= limit), "{totals:?}");
        if self.spec.straggler == OnStraggler::Wait {
            let aged = [DropReason::Straggler, DropReason::Stale];
            assert!(aged.iter().all(|reason| !totals.dropped.contains_key(reason)), "{totals:?}");
        }
    }

    fn check_end(&self, end: End) {
        if end == End::NothingLearned {
            return;
        }
        let (totals, cut) = (self.core.totals(), self.core.cut());
        assert_eq!(totals.in_flight, 0);
        let given_up: BTreeSet<(u32, String)> = cut.feed.abandoned.into_iter().map(|a| (a.epoch, a.prompt)).collect();
        assert_eq!(self.oracle.open_uses(), given_up, "prompts neither used nor given up");
        let whole_run = u64::from(self.spec.batch) * self.spec.max_steps;
        if totals.trained < whole_run {
            let epochs = self.spec.epochs.expect("only data that end can end a run early");
            assert_eq!(self.oracle.uses_per_epoch(), (0..epochs).map(|epoch| (epoch, self.spec.prompts)).collect());
        }
    }
}
