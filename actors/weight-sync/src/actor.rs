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
        /// What was sent.
        sent: PolicyVersion,
        /// What it says it holds now.
        answer: Result<Loaded, Lost>,
    },
    /// A load's deadline.
    Deadline {
        /// Which generator owed it.
        id: GeneratorId,
        /// What was sent.
        sent: PolicyVersion,
    },
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
    version: PolicyVersion,
    sent: Instant,
}

/// State of the actor.
pub struct WeightSyncState {
    args: WeightSyncArgs,
    receivers: BTreeMap<GeneratorId, Receiver>,
    /// What every generator should hold, and when it was published.
    newest: Option<(Arc<Snapshot>, Instant)>,
    /// The newest version that was counted as synchronised everywhere.
    counted: Option<PolicyVersion>,
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
        Ok(WeightSyncState { args, receivers: BTreeMap::new(), newest: None, counted: None })
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
            WeightSyncMsg::Answered { id, sent, answer } => state.answered(id, sent, answer, &myself),
            WeightSyncMsg::Deadline { id, sent } => state.deadline(id, sent),
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
        let answer_to = myself.clone();
        let reply = Reply::new(move |answer| {
            // A failed cast means that this actor has stopped: nobody waits any more.
            let _ = answer_to.cast(WeightSyncMsg::Answered { id, sent: version, answer });
        });
        if receiver.mailbox.cast(LoadWeights { snapshot: Arc::clone(snapshot), reply }).is_ok() {
            receiver.owes = Some(Load { version, sent: Instant::now() });
            myself.send_after(self.args.deadline, move || WeightSyncMsg::Deadline { id, sent: version });
        }
    }

    fn answered(
        &mut self,
        id: GeneratorId,
        sent: PolicyVersion,
        answer: Result<Loaded, Lost>,
        myself: &ActorRef<WeightSyncMsg>,
    ) {
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        if receiver.owes.as_ref().is_none_or(|load| load.version != sent) {
            return; // of the generator's former life
        }
        receiver.owes = None;
        match answer {
            Ok(loaded) if loaded.version == sent => {
                receiver.version = sent;
                telemetry::weights_swapped(loaded.pause);
                self.count_complete();
                self.offer(id, myself);
            }
            Ok(loaded) => self.fail(format!("{id} was sent weights {sent} and says that it holds {}", loaded.version)),
            // The supervisor restarts it and says so; until then it is simply not there.
            Err(Lost) => tracing::warn!("{id} went away while it owed the load of weights {sent}"),
        }
    }

    fn deadline(&mut self, id: GeneratorId, sent: PolicyVersion) {
        let owed = self.receivers.get(&id).and_then(|r| r.owes.as_ref()).filter(|load| load.version == sent);
        if let Some(load) = owed {
            let waited = load.sent.elapsed().as_secs_f64();
            self.fail(format!("{id} did not load weights {sent} within {waited:.0} s (weight_sync.deadline_seconds)"));
        }
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
mod tests {
    use counterpoint_policy::{Device, Kind, Layout, ModelConfig, Tensor};
    use tokio::sync::mpsc;

    use super::*;

    const G: GeneratorId = GeneratorId(0);

    fn snapshot(version: u64) -> Arc<Snapshot> {
        let json = serde_json::json!({"model_type": "llama", "vocab_size": 4, "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8, "rms_norm_eps": 1e-6});
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
        let config = ModelConfig::from_dir(dir.path()).unwrap();
        let flat = Tensor::zeros([Layout::new(&config).numel()], (Kind::Float, Device::Cpu));
        Arc::new(Snapshot::new(Arc::new(config), PolicyVersion(version), flat).unwrap())
    }

    /// Hands every message it gets to a channel.
    struct Probe<T>(std::marker::PhantomData<fn(T)>);

    impl<T: Send + 'static> Actor for Probe<T> {
        type Msg = T;
        type State = mpsc::UnboundedSender<T>;
        type Arguments = mpsc::UnboundedSender<T>;

        async fn pre_start(&self, _: ActorRef<T>, to: Self::Arguments) -> Result<Self::State, ActorProcessingErr> {
            Ok(to)
        }

        async fn handle(&self, _: ActorRef<T>, message: T, to: &mut Self::State) -> Result<(), ActorProcessingErr> {
            to.send(message).map_err(|_| "the test is over".into())
        }
    }

    async fn probe<T: Send + 'static>() -> (ActorRef<T>, mpsc::UnboundedReceiver<T>) {
        let (tx, rx) = mpsc::unbounded_channel();
        let (actor, _) = Actor::spawn(None, Probe(std::marker::PhantomData), tx).await.unwrap();
        (actor, rx)
    }

    struct World {
        sync: ActorRef<WeightSyncMsg>,
        failures: mpsc::UnboundedReceiver<SyncFailed>,
        loads: mpsc::UnboundedReceiver<LoadWeights>,
    }

    async fn world() -> World {
        let (conductor, failures) = probe().await;
        let (generator, loads) = probe().await;
        let args = WeightSyncArgs { deadline: Duration::from_secs(10), conductor: conductor.get_derived() };
        let (sync, _) = Actor::spawn(None, WeightSyncActor, args).await.unwrap();
        let up = WeightSyncMsg::GeneratorUp { id: G, mailbox: generator.get_derived(), version: PolicyVersion(0) };
        sync.cast(up).unwrap();
        World { sync, failures, loads }
    }

    fn answer(load: LoadWeights, version: u64) {
        load.reply.send(Loaded { version: PolicyVersion(version), pause: Duration::ZERO });
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_generator_skips_versions_instead_of_queueing_them() {
        let mut w = world().await;
        for version in 1..=3 {
            w.sync.cast(WeightSyncMsg::Publish(snapshot(version))).unwrap();
        }
        let first = w.loads.recv().await.unwrap();
        assert_eq!(first.snapshot.version(), PolicyVersion(1));
        assert!(w.loads.try_recv().is_err(), "one load at a time");
        answer(first, 1);
        let second = w.loads.recv().await.unwrap();
        assert_eq!(second.snapshot.version(), PolicyVersion(3));
        answer(second, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missed_deadline_is_reported_by_generator_and_version() {
        let mut w = world().await;
        w.sync.cast(WeightSyncMsg::Publish(snapshot(1))).unwrap();
        let _owed = w.loads.recv().await.unwrap();
        let failure = w.failures.recv().await.unwrap().0;
        assert!(failure.contains("generator 0") && failure.contains("v1"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_version_than_sent_is_a_failure_and_is_never_assumed() {
        let mut w = world().await;
        w.sync.cast(WeightSyncMsg::Publish(snapshot(2))).unwrap();
        answer(w.loads.recv().await.unwrap(), 1);
        let failure = w.failures.recv().await.unwrap().0;
        assert!(failure.contains("sent weights v2") && failure.contains("holds v1"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_generator_is_sent_the_newest_weights_and_owes_nothing_from_its_former_life() {
        let mut w = world().await;
        w.sync.cast(WeightSyncMsg::Publish(snapshot(1))).unwrap();
        drop(w.loads.recv().await.unwrap()); // it dies with the load
        w.sync.cast(WeightSyncMsg::GeneratorDown(G)).unwrap();
        let (generator, mut loads) = probe().await;
        let up = WeightSyncMsg::GeneratorUp { id: G, mailbox: generator.get_derived(), version: PolicyVersion(0) };
        w.sync.cast(up).unwrap();
        let load: LoadWeights = loads.recv().await.unwrap();
        assert_eq!(load.snapshot.version(), PolicyVersion(1));
        answer(load, 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(w.failures.try_recv().is_err(), "the former life's deadline must not fire");
    }
}
