//! The actor with stub receivers, on a paused clock; and with a thread that writes, on a running one.

use std::sync::mpsc as threads;

use counterpoint_policy::{Device, Kind, Layout, Loaded, ModelConfig, Tensor};
use tokio::sync::mpsc;

use super::*;
use crate::Writer;

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
    world_with(None).await
}

async fn world_with(directory: Option<Box<dyn Transport>>) -> World {
    let (conductor, failures) = probe().await;
    let (generator, loads) = probe().await;
    let args = WeightSyncArgs { deadline: Duration::from_secs(10), conductor: conductor.get_derived(), directory };
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

/// A directory whose deliveries a test takes and answers.
#[derive(Debug)]
struct Disk(mpsc::UnboundedSender<Delivery>);

impl Transport for Disk {
    fn deliver(&self, delivery: Delivery) -> bool {
        self.0.send(delivery).is_ok()
    }
}

async fn world_with_disk() -> (World, mpsc::UnboundedReceiver<Delivery>) {
    let (disk, deliveries) = mpsc::unbounded_channel();
    (world_with(Some(Box::new(Disk(disk)))).await, deliveries)
}

fn disk_full(delivery: Delivery) {
    delivery.reply.send(Err(TransportError::io("weights")(std::io::ErrorKind::StorageFull.into())));
}

fn written(delivery: Delivery) {
    let version = delivery.snapshot.version();
    delivery.reply.send(Ok(Delivered { version, bytes: 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_failing_directory_is_tried_three_times_with_the_newest_and_never_ends_the_run() {
    let (mut w, mut disk) = world_with_disk().await;
    w.sync.cast(WeightSyncMsg::Publish(snapshot(1))).unwrap();
    answer(w.loads.recv().await.unwrap(), 1);
    let begun = Instant::now();
    disk_full(disk.recv().await.unwrap());
    w.sync.cast(WeightSyncMsg::Publish(snapshot(2))).unwrap();
    answer(w.loads.recv().await.unwrap(), 2);
    for (after, rests) in [(1, true), (3, false)] {
        let attempt = disk.recv().await.unwrap();
        assert_eq!((attempt.snapshot.version(), begun.elapsed().as_secs()), (PolicyVersion(2), after), "{rests}");
        disk_full(attempt);
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(disk.try_recv().is_err(), "weights 2 are given up");
    w.sync.cast(WeightSyncMsg::Publish(snapshot(3))).unwrap();
    answer(w.loads.recv().await.unwrap(), 3);
    let next = disk.recv().await.unwrap();
    assert_eq!(next.snapshot.version(), PolicyVersion(3));
    written(next);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(disk.try_recv().is_err() && w.failures.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_misses_its_deadline_gets_the_newest_when_it_is_done() {
    let (mut w, mut disk) = world_with_disk().await;
    w.sync.cast(WeightSyncMsg::Publish(snapshot(1))).unwrap();
    answer(w.loads.recv().await.unwrap(), 1);
    let slow = disk.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    for version in 2..=4 {
        w.sync.cast(WeightSyncMsg::Publish(snapshot(version))).unwrap();
        answer(w.loads.recv().await.unwrap(), version);
    }
    assert!(disk.try_recv().is_err(), "one at a time");
    written(slow);
    assert_eq!(disk.recv().await.unwrap().snapshot.version(), PolicyVersion(4));
    assert!(w.failures.try_recv().is_err(), "the run is not its affair");
}

#[tokio::test]
async fn a_slow_disk_keeps_no_generator_waiting_and_skips_to_the_newest() {
    let (begun, mut begins) = mpsc::unbounded_channel();
    let (go_on, gate) = threads::channel::<()>();
    let writer = Writer::start(move |snapshot| {
        begun.send(snapshot.version().0).unwrap();
        gate.recv().unwrap();
        Ok(Delivered { version: snapshot.version(), bytes: 1 })
    });
    let mut w = world_with(Some(Box::new(writer.unwrap()))).await;
    for version in 1..=5 {
        w.sync.cast(WeightSyncMsg::Publish(snapshot(version))).unwrap();
        answer(w.loads.recv().await.unwrap(), version);
    }
    assert_eq!(begins.recv().await, Some(1), "and it is at it still");
    go_on.send(()).unwrap();
    assert_eq!(begins.recv().await, Some(5));
    go_on.send(()).unwrap();
    w.sync.stop_and_wait(None, None).await.unwrap();
    assert!(begins.recv().await.is_none(), "the thread has ended");
}

#[tokio::test]
async fn a_stopping_run_waits_for_its_last_weights() {
    let (begun, mut begins) = mpsc::unbounded_channel();
    let (go_on, gate) = threads::channel::<()>();
    let (done, finished) = threads::channel();
    let writer = Writer::start(move |snapshot| {
        begun.send(()).unwrap();
        gate.recv().unwrap();
        done.send(snapshot.version().0).unwrap();
        Ok(Delivered { version: snapshot.version(), bytes: 1 })
    });
    let mut w = world_with(Some(Box::new(writer.unwrap()))).await;
    for version in 1..=3 {
        w.sync.cast(WeightSyncMsg::Publish(snapshot(version))).unwrap();
        answer(w.loads.recv().await.unwrap(), version);
    }
    begins.recv().await.unwrap();
    let sync = w.sync.clone();
    let stopping = tokio::spawn(async move { sync.stop_and_wait(None, None).await });
    (0..2).for_each(|_| go_on.send(()).unwrap());
    stopping.await.unwrap().unwrap();
    assert_eq!(finished.iter().collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn a_panic_of_the_writer_is_an_error_like_any_other() {
    let writer = Writer::start(|_| panic!("the disk is on fire")).unwrap();
    let (told, heard) = tokio::sync::oneshot::channel();
    let reply = Reply::new(|answer: Result<Result<Delivered, TransportError>, Lost>| told.send(answer).unwrap());
    assert!(writer.deliver(Delivery { snapshot: snapshot(1), reply }));
    let error = heard.await.unwrap().unwrap().unwrap_err().to_string();
    assert_eq!(error, "the thread that writes weights panicked: the disk is on fire");
    Box::new(writer).finish().await;
}
