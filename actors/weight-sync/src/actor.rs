//! The weight-sync actor: from the learner's `Publish` to every receiver, generators and the directory for other processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_policy::{LoadWeights, Snapshot};
use counterpoint_rollout::{GeneratorId, Lost, PolicyVersion, Reply, telemetry};
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};
use tokio::time::Instant;

use crate::receiver::{Destination, Load, Receiver};
use crate::transport::{Delivered, Delivery, Transport, TransportError};

/// How long a stopping actor waits for the directory to have the last weights.
const STOP_DEADLINE: Duration = Duration::from_secs(25);

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
    /// A receiver answered a load, or died owing the answer.
    Answered {
        /// Which.
        id: Destination,
        /// Which load: the answer may be of a former life that was sent the same weights.
        ticket: u64,
        /// What it says it holds now, or why it does not.
        answer: Result<Result<Delivered, TransportError>, Lost>,
    },
    /// A load's deadline.
    Deadline {
        /// Which receiver owed it.
        id: Destination,
        /// Which load.
        ticket: u64,
    },
    /// After a failure the directory may be tried again.
    Rested,
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
    /// The way to other processes, if there are any.
    pub directory: Option<Box<dyn Transport>>,
}

/// See the module's first line.
#[derive(Debug)]
pub struct WeightSyncActor;

/// State of the actor.
pub struct WeightSyncState {
    /// Time for one load.
    deadline: Duration,
    conductor: DerivedActorRef<SyncFailed>,
    receivers: BTreeMap<Destination, Receiver>,
    /// What every receiver should hold, and when it was published.
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
        let WeightSyncArgs { deadline, conductor, directory } = args;
        // It has nothing of this run yet, and nothing was published yet that it could lack.
        let directory = directory.map(|way| (Destination::Directory, Receiver::new(way, PolicyVersion::default())));
        let receivers = directory.into_iter().collect();
        Ok(WeightSyncState { deadline, conductor, receivers, newest: None, counted: None, loads: 0, held: None })
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
                state.receivers.remove(&Destination::Generator(id));
            }
            WeightSyncMsg::Answered { id, ticket, answer } => state.answered(id, ticket, answer, &myself),
            WeightSyncMsg::Deadline { id, ticket } => state.deadline(id, ticket),
            WeightSyncMsg::Rested => state.rested(&myself),
            WeightSyncMsg::Hold => state.hold(),
            WeightSyncMsg::Release => state.release(&myself),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<WeightSyncMsg>,
        state: &mut WeightSyncState,
    ) -> Result<(), ActorProcessingErr> {
        state.finish_directory().await;
        Ok(())
    }
}

impl WeightSyncState {
    fn publish(&mut self, snapshot: Arc<Snapshot>, myself: &ActorRef<WeightSyncMsg>) {
        telemetry::policy_version("weight-sync", snapshot.version());
        let passed_over =
            |receiver: &&Receiver| self.newest.as_ref().is_some_and(|(s, _)| s.version() > receiver.offered);
        if self.receivers.get(&Destination::Directory).filter(passed_over).is_some() {
            telemetry::weight_files_skipped();
        }
        self.newest = Some((snapshot, Instant::now()));
        let ids: Vec<Destination> = self.receivers.keys().copied().collect();
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
        let id = Destination::Generator(id);
        self.receivers.insert(id, Receiver::new(Box::new(mailbox), version));
        self.offer(id, myself);
    }

    /// Sends the newest weights to a receiver that is free and does not have them.
    fn offer(&mut self, id: Destination, myself: &ActorRef<WeightSyncMsg>) {
        let (Some((snapshot, _)), Some(receiver)) = (&self.newest, self.receivers.get_mut(&id)) else { return };
        let version = snapshot.version();
        if !receiver.wants(version) {
            return;
        }
        self.loads += 1;
        let ticket = self.loads;
        let answer_to = myself.clone();
        let reply = Reply::new(move |answer| {
            // A failed cast means that this actor has stopped: nobody waits any more.
            let _ = answer_to.cast(WeightSyncMsg::Answered { id, ticket, answer });
        });
        if receiver.transport.deliver(Delivery { snapshot: Arc::clone(snapshot), reply }) {
            let sent = Instant::now();
            receiver.offered = version;
            receiver.owes = Some(Load { ticket, version, sent, due: sent + self.deadline });
            myself.send_after(self.deadline, move || WeightSyncMsg::Deadline { id, ticket });
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
        id: Destination,
        ticket: u64,
        answer: Result<Result<Delivered, TransportError>, Lost>,
        myself: &ActorRef<WeightSyncMsg>,
    ) {
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        let Some(load) = receiver.owes.take_if(|load| load.ticket == ticket) else {
            return; // of the generator's former life
        };
        let sent = load.version;
        match (id, answer) {
            (_, Ok(Ok(held))) if held.version == sent => {
                receiver.succeeded(sent);
                match id {
                    Destination::Generator(_) => self.count_complete(),
                    Destination::Directory => telemetry::weight_files_written(sent, held.bytes, load.sent.elapsed()),
                }
                self.offer(id, myself);
            }
            (_, Ok(Ok(held))) => {
                self.fail(id, format!("was sent weights {sent} and says that it holds {}", held.version))
            }
            (Destination::Generator(_), Ok(Err(error))) => {
                self.fail(id, format!("could not take weights {sent}: {error}"))
            }
            // The supervisor restarts it and says so; until then it is simply not there.
            (Destination::Generator(_), Err(Lost)) => {
                tracing::warn!("{id} went away while it owed the load of weights {sent}")
            }
            (Destination::Directory, Ok(Err(error))) => self.directory_failed(sent, &error.to_string(), myself),
            (Destination::Directory, Err(lost)) => self.directory_failed(sent, &lost.to_string(), myself),
        }
    }

    /// Other processes go without these weights for now; the run goes on.
    fn directory_failed(&mut self, version: PolicyVersion, error: &str, myself: &ActorRef<WeightSyncMsg>) {
        telemetry::weight_files_failed();
        let Some(receiver) = self.receivers.get_mut(&Destination::Directory) else { return };
        match receiver.failed(version) {
            Some(rest) => {
                tracing::warn!(
                    "weight_sync.directory: weights {version} are not there, trying again in {rest:?}: {error}"
                );
                myself.send_after(rest, || WeightSyncMsg::Rested);
            }
            None => {
                tracing::error!(
                    "weight_sync.directory: weights {version} are given up, the next ones are tried again: {error}"
                );
                self.offer(Destination::Directory, myself);
            }
        }
    }

    fn rested(&mut self, myself: &ActorRef<WeightSyncMsg>) {
        if let Some(receiver) = self.receivers.get_mut(&Destination::Directory) {
            receiver.rests = false;
        }
        self.offer(Destination::Directory, myself);
    }

    fn deadline(&mut self, id: Destination, ticket: u64) {
        let owed = self.receivers.get(&id).and_then(|receiver| receiver.owes.as_ref());
        let Some(load) = owed.filter(|load| load.ticket == ticket) else { return };
        if self.held.is_some() || Instant::now() < load.due {
            return; // `release` has set the timer that counts, or will
        }
        let (sent, deadline) = (load.version, self.deadline.as_secs_f64());
        let problem = format!("did not take weights {sent} within {deadline:.0} s (weight_sync.deadline_seconds)");
        match id {
            Destination::Generator(_) => self.fail(id, problem),
            // What it is at cannot be taken from it. It goes on with the newest when it is done.
            Destination::Directory => {
                telemetry::weight_files_failed();
                tracing::error!("{id} {problem}");
            }
        }
    }

    /// Counts a synchronisation once every generator holds the newest weights.
    fn count_complete(&mut self) {
        let Some((snapshot, published)) = &self.newest else { return };
        let version = snapshot.version();
        let generators = || self.receivers.iter().filter(|(id, _)| matches!(id, Destination::Generator(_)));
        if self.counted != Some(version) && generators().all(|(_, receiver)| receiver.settled >= version) {
            let bytes = snapshot.bytes() * generators().count() as u64;
            self.counted = Some(version);
            telemetry::weights_synced("complete", bytes, published.elapsed());
            telemetry::progress("weight-sync");
        }
    }

    fn fail(&self, id: Destination, problem: String) {
        let problem = format!("{id} {problem}");
        telemetry::weights_synced("failed", 0, Duration::ZERO);
        tracing::error!("{problem}");
        if self.conductor.cast(SyncFailed(problem)).is_err() {
            tracing::debug!("the conductor has stopped already");
        }
    }
}

impl WeightSyncState {
    /// The last weights of a run are to be found in the directory, if it gets them in time.
    async fn finish_directory(&mut self) {
        let Some(receiver) = self.receivers.remove(&Destination::Directory) else { return };
        let Receiver { transport, offered, settled, owes, .. } = receiver;
        // Not on its way, or not any more.
        let lacks = |version| offered < version || owes.is_none() && settled < version;
        if let Some((snapshot, _)) = self.newest.take_if(|(snapshot, _)| lacks(snapshot.version())) {
            let (version, begun) = (snapshot.version(), Instant::now());
            let reply = Reply::new(move |answer: Result<Result<Delivered, TransportError>, Lost>| match answer {
                Ok(Ok(Delivered { bytes, .. })) => telemetry::weight_files_written(version, bytes, begun.elapsed()),
                Ok(Err(error)) => {
                    tracing::error!("weight_sync.directory: the last weights, {version}, are not there: {error}")
                }
                Err(Lost) => tracing::error!("weight_sync.directory: the last weights, {version}, are not there"),
            });
            // A receiver that is gone drops the reply, which says so.
            transport.deliver(Delivery { snapshot, reply });
        }
        if tokio::time::timeout(STOP_DEADLINE, transport.finish()).await.is_err() {
            tracing::error!("weight_sync.directory: still writing after {STOP_DEADLINE:?}, left to itself");
        }
    }
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;
