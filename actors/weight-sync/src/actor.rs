//! The weight-sync actor: from the learner's `Publish` to every generator's `LoadWeights`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_policy::{LoadWeights, Loaded, Snapshot};
use counterpoint_rollout::{GeneratorId, Lost, PolicyVersion, Reply, telemetry};
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};
use tokio::time::Instant;

/// What the weight-sync actor is told.
#[derive(Debug)]
pub enum WeightSyncMsg {
    /// The learner made new weights for the generators.
    Publish(Arc<Snapshot>),
    /// A generator started, or started again, and takes loads here. It is sent the newest weights unless it has them.
    GeneratorUp {
        /// Which.
        id: GeneratorId,
        /// Where it takes loads.
        mailbox: DerivedActorRef<LoadWeights>,
        /// The weights it started with.
        version: PolicyVersion,
    },
    /// A generator is gone; nothing is owed by it any more.
    GeneratorDown(GeneratorId),
    /// A generator answered a load, or died owing the answer.
    Answered {
        /// Which.
        id: GeneratorId,
        /// Which load: the answer may be of a former life that was sent the same weights.
        ticket: u64,
        /// What it says it holds now.
        answer: Result<Loaded, Lost>,
    },
    /// A load's deadline.
    Deadline {
        /// Which generator owed it.
        id: GeneratorId,
        /// Which load.
        ticket: u64,
    },
    /// The generators are frozen for an evaluation, and one that drains cannot load: no deadline runs until `Release`.
    Hold,
    /// The generators go on. What is owed is due later by the time that it was held.
    Release,
}

/// Reported to the conductor when a generator did not take weights in time, or took others than it was sent.
#[derive(Debug)]
pub struct SyncFailed(pub String);

/// Start arguments.
#[derive(Debug)]
pub struct WeightSyncArgs {
    /// Time for one load.
    pub deadline: Duration,
    /// Who learns of failures.
    pub conductor: DerivedActorRef<SyncFailed>,
}

/// See the module's first line.
#[derive(Debug)]
pub struct WeightSyncActor;

/// One generator as this actor sees it.
struct Receiver {
    mailbox: DerivedActorRef<LoadWeights>,
    /// Read back from its answers.
    version: PolicyVersion,
    /// The load it owes an answer to. At most one, so that loads cannot pile up in its mailbox.
    owes: Option<Load>,
}

struct Load {
    ticket: u64,
    version: PolicyVersion,
    sent: Instant,
    due: Instant,
}

/// State of the actor.
pub struct WeightSyncState {
    args: WeightSyncArgs,
    receivers: BTreeMap<GeneratorId, Receiver>,
    /// What every generator should hold, and when it was published.
    newest: Option<(Arc<Snapshot>, Instant)>,
    /// The newest version that was counted as synchronised everywhere.
    counted: Option<PolicyVersion>,
    /// Loads so far: the last one's ticket.
    loads: u64,
    /// Since when no deadline runs.
    held: Option<Instant>,
}

impl Actor for WeightSyncActor {
    type Msg = WeightSyncMsg;
    type State = WeightSyncState;
    type Arguments = WeightSyncArgs;

    async fn pre_start(
        &self,
        _: ActorRef<WeightSyncMsg>,
        args: WeightSyncArgs,
    ) -> Result<WeightSyncState, ActorProcessingErr> {
        let receivers = BTreeMap::new();
        Ok(WeightSyncState { args, receivers, newest: None, counted: None, loads: 0, held: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<WeightSyncMsg>,
        message: WeightSyncMsg,
        state: &mut WeightSyncState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WeightSyncMsg::Publish(snapshot) => state.publish(snapshot, &myself),
            WeightSyncMsg::GeneratorUp { id, mailbox, version } => state.generator_up(id, mailbox, version, &myself),
            WeightSyncMsg::GeneratorDown(id) => {
                state.receivers.remove(&id);
            }
            WeightSyncMsg::Answered { id, ticket, answer } => state.answered(id, ticket, answer, &myself),
            WeightSyncMsg::Deadline { id, ticket } => state.deadline(id, ticket),
            WeightSyncMsg::Hold => state.hold(),
            WeightSyncMsg::Release => state.release(&myself),
        }
        Ok(())
    }
}

impl WeightSyncState {
    fn publish(&mut self, snapshot: Arc<Snapshot>, myself: &ActorRef<WeightSyncMsg>) {
        telemetry::policy_version("weight-sync", snapshot.version());
        self.newest = Some((snapshot, Instant::now()));
        let ids: Vec<GeneratorId> = self.receivers.keys().copied().collect();
        for id in ids {
            self.offer(id, myself);
        }
    }

    fn generator_up(
        &mut self,
        id: GeneratorId,
        mailbox: DerivedActorRef<LoadWeights>,
        version: PolicyVersion,
        myself: &ActorRef<WeightSyncMsg>,
    ) {
        self.receivers.insert(id, Receiver { mailbox, version, owes: None });
        self.offer(id, myself);
    }

    /// Sends the newest weights to a generator that is free and does not have them.
    fn offer(&mut self, id: GeneratorId, myself: &ActorRef<WeightSyncMsg>) {
        let (Some((snapshot, _)), Some(receiver)) = (&self.newest, self.receivers.get_mut(&id)) else { return };
        let version = snapshot.version();
        if receiver.owes.is_some() || receiver.version >= version {
            return;
        }
        self.loads += 1;
        let ticket = self.loads;
        let answer_to = myself.clone();
        let reply = Reply::new(move |answer| {
            // A failed cast means that this actor has stopped: nobody waits any more.
            let _ = answer_to.cast(WeightSyncMsg::Answered { id, ticket, answer });
        });
        if receiver.mailbox.cast(LoadWeights { snapshot: Arc::clone(snapshot), reply }).is_ok() {
            let sent = Instant::now();
            receiver.owes = Some(Load { ticket, version, sent, due: sent + self.args.deadline });
            myself.send_after(self.args.deadline, move || WeightSyncMsg::Deadline { id, ticket });
        }
    }

    fn hold(&mut self) {
        self.held.get_or_insert_with(Instant::now);
    }

    /// Sets new timers; the old ones find their load held or not yet due, and do nothing.
    fn release(&mut self, myself: &ActorRef<WeightSyncMsg>) {
        let Some(since) = self.held.take() else { return };
        for (&id, receiver) in &mut self.receivers {
            if let Some(load) = &mut receiver.owes {
                load.due += load.sent.max(since).elapsed();
                let ticket = load.ticket;
                let rest = load.due.saturating_duration_since(Instant::now());
                myself.send_after(rest, move || WeightSyncMsg::Deadline { id, ticket });
            }
        }
    }

    fn answered(
        &mut self,
        id: GeneratorId,
        ticket: u64,
        answer: Result<Loaded, Lost>,
        myself: &ActorRef<WeightSyncMsg>,
    ) {
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        let Some(Load { version: sent, .. }) = receiver.owes.take_if(|load| load.ticket == ticket) else {
            return; // of the generator's former life
        };
        match answer {
            Ok(loaded) if loaded.version == sent => {
                receiver.version = sent;
                self.count_complete();
                self.offer(id, myself);
            }
            Ok(loaded) => self.fail(format!("{id} was sent weights {sent} and says that it holds {}", loaded.version)),
            // The supervisor restarts it and says so; until then it is simply not there.
            Err(Lost) => tracing::warn!("{id} went away while it owed the load of weights {sent}"),
        }
    }

    fn deadline(&mut self, id: GeneratorId, ticket: u64) {
        let owed = self.receivers.get(&id).and_then(|receiver| receiver.owes.as_ref());
        let Some(load) = owed.filter(|load| load.ticket == ticket) else { return };
        if self.held.is_some() || Instant::now() < load.due {
            return; // `release` has set the timer that counts, or will
        }
        let (sent, deadline) = (load.version, self.args.deadline.as_secs_f64());
        self.fail(format!("{id} did not load weights {sent} within {deadline:.0} s (weight_sync.deadline_seconds)"));
    }

    /// Counts a synchronisation once every generator holds the newest weights.
    fn count_complete(&mut self) {
        let Some((snapshot, published)) = &self.newest else { return };
        let version = snapshot.version();
        if self.counted != Some(version) && self.receivers.values().all(|r| r.version >= version) {
            self.counted = Some(version);
            let bytes = snapshot.bytes() * self.receivers.len() as u64;
            telemetry::weights_synced("complete", bytes, published.elapsed());
            telemetry::progress("weight-sync");
        }
    }

    fn fail(&self, problem: String) {
        telemetry::weights_synced("failed", 0, Duration::ZERO);
        tracing::error!("{problem}");
        if self.args.conductor.cast(SyncFailed(problem)).is_err() {
            tracing::debug!("the conductor has stopped already");
        }
    }
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;
