//! The actor with stub generators, on a paused clock.

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
async fn a_hold_stops_the_deadlines_and_what_was_left_of_them_runs_after_it() {
    let mut w = world().await;
    w.sync.cast(WeightSyncMsg::Publish(snapshot(1))).unwrap();
    let _owed = w.loads.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    w.sync.cast(WeightSyncMsg::Hold).unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    w.sync.cast(WeightSyncMsg::Release).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(w.failures.try_recv().is_err(), "9 of 10 seconds have run");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(w.failures.try_recv().unwrap().0.contains("within 10 s"));
    assert!(w.failures.try_recv().is_err(), "it fails once");
}

#[tokio::test(start_paused = true)]
async fn a_load_sent_in_a_hold_has_its_whole_deadline_after_it() {
    let mut w = world().await;
    w.sync.cast(WeightSyncMsg::Hold).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    w.sync.cast(WeightSyncMsg::Publish(snapshot(1))).unwrap();
    let owed = w.loads.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    w.sync.cast(WeightSyncMsg::Release).unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    answer(owed, 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(w.failures.try_recv().is_err(), "it was answered in time");
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

#[tokio::test(start_paused = true)]
async fn the_same_weights_sent_to_two_lives_of_a_generator_are_two_loads() {
    let mut w = world().await;
    w.sync.cast(WeightSyncMsg::Publish(snapshot(1))).unwrap();
    let former = w.loads.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (generator, mut loads) = probe().await;
    let up = WeightSyncMsg::GeneratorUp { id: G, mailbox: generator.get_derived(), version: PolicyVersion(0) };
    w.sync.cast(up).unwrap();
    let load: LoadWeights = loads.recv().await.unwrap();
    drop(former); // the former life's Lost comes late, and its timer fires in two seconds
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(w.failures.try_recv().is_err(), "the former life's deadline must not fire");
    w.sync.cast(WeightSyncMsg::Publish(snapshot(2))).unwrap();
    assert!(loads.try_recv().is_err(), "the present life still owes its load");
    answer(load, 1);
    assert_eq!(loads.recv().await.unwrap().snapshot.version(), PolicyVersion(2));
}
