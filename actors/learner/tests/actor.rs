//! The actor and its engine, from outside: order of reports, permission for each step, failures.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{batch, group, model_dir, sampled, setup};
use counterpoint_learner::{
    Additions, CheckpointConfig, CheckpointStore, Engine, EngineEvent, EngineSettings, Learner, LearnerActor,
    LearnerActorMsg, LearnerArgs, LearnerConfig, ObjectiveConfig, SaveState,
};
use counterpoint_policy::Kind;
use counterpoint_rollout::contract::{LearnerEvent, LearnerMsg};
use counterpoint_rollout::{Batch, GroupId, PolicyVersion, Reply, Verdict};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{mpsc, oneshot};

const DEADLINE: Duration = Duration::from_secs(60);

/// What left the learner, in the order in which it left.
#[derive(Debug)]
enum Seen {
    Replay(LearnerEvent),
    Published(PolicyVersion),
    Conductor(LearnerEvent),
}

/// Passes what it is told on to a channel. All three receivers share one channel, so that their order is seen.
struct Probe(fn(LearnerEvent) -> Seen);

impl Actor for Probe {
    type Msg = LearnerEvent;
    type State = mpsc::UnboundedSender<Seen>;
    type Arguments = mpsc::UnboundedSender<Seen>;

    async fn pre_start(
        &self,
        _: ActorRef<LearnerEvent>,
        to: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(to)
    }

    async fn handle(
        &self,
        _: ActorRef<LearnerEvent>,
        event: LearnerEvent,
        to: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        to.send((self.0)(event)).map_err(|_| "the test is over".into())
    }
}

struct World {
    learner: ActorRef<LearnerActorMsg>,
    ended: tokio::task::JoinHandle<()>,
    seen: mpsc::UnboundedReceiver<Seen>,
    checkpoints: tempfile::TempDir,
}

async fn world(publish_every: u64) -> World {
    let checkpoints = tempfile::tempdir().unwrap();
    let (to, seen) = mpsc::unbounded_channel();
    let (replay, _) = Actor::spawn(None, Probe(Seen::Replay), to.clone()).await.unwrap();
    let (conductor, _) = Actor::spawn(None, Probe(Seen::Conductor), to.clone()).await.unwrap();
    let config = LearnerConfig { learning_rate: 1e-3, ..LearnerConfig::default() };
    let args = LearnerArgs {
        setup: setup(Kind::Float, config, ObjectiveConfig::default()),
        engine: settings(checkpoints.path(), publish_every),
        replay: replay.get_derived(),
        publish: Box::new(move |snapshot| to.send(Seen::Published(snapshot.version())).unwrap()),
        conductor: conductor.get_derived(),
        stop_deadline: DEADLINE,
    };
    let (learner, ended) = Actor::spawn(None, LearnerActor, args).await.unwrap();
    World { learner, ended, seen, checkpoints }
}

fn settings(root: &std::path::Path, publish_every: u64) -> EngineSettings {
    EngineSettings {
        threads: Some(1),
        publish_every,
        snapshot_kind: Kind::Float,
        checkpoints: CheckpointStore::open(root, &model_dir(), &CheckpointConfig::default()).unwrap(),
        inspect: Some(root.to_owned()),
    }
}

/// A batch for `version` that the first weights sampled.
fn work(version: u64) -> Batch {
    let first = Learner::new(setup(Kind::Float, LearnerConfig::default(), ObjectiveConfig::default())).unwrap();
    let answer = |tokens: &[u32]| sampled(&first, &[4, 12, 4, 15], tokens, 1.0);
    let answers = vec![(answer(&[6, 1]), Verdict::Correct), (answer(&[7, 1]), Verdict::Incorrect)];
    batch(version, vec![group(version + 10, vec![4, 12, 4, 15], answers)])
}

fn train(world: &World, version: u64) {
    world.learner.cast(LearnerMsg::Train(work(version)).into()).unwrap();
}

async fn next(world: &mut World) -> Seen {
    tokio::time::timeout(DEADLINE, world.seen.recv()).await.expect("the learner reports").unwrap()
}

/// Waits until the conductor and the replay actor know of a step; returns whether it was published.
async fn step_seen(world: &mut World, version: u64) -> bool {
    let (mut replay, mut conductor, mut published) = (false, false, false);
    while !(replay && conductor) {
        match next(world).await {
            Seen::Replay(event) => {
                assert_eq!((event.version, event.groups), (PolicyVersion(version), vec![GroupId(version + 9)]));
                replay = true;
            }
            Seen::Published(v) => {
                assert_eq!(v, PolicyVersion(version));
                published = true;
            }
            Seen::Conductor(event) => {
                assert_eq!(event.version, PolicyVersion(version));
                assert!(event.report.seconds > 0.0 && event.report.idle_seconds > 0.0);
                conductor = true;
            }
        }
    }
    published
}

fn reply<T: Send + 'static>() -> (Reply<T>, oneshot::Receiver<T>) {
    let (tx, rx) = oneshot::channel();
    let deliver = move |answer: Result<T, _>| {
        if let Ok(answer) = answer {
            let _ = tx.send(answer);
        }
    };
    (Reply::new(deliver), rx)
}

#[tokio::test]
async fn a_step_waits_for_permission_and_what_is_asked_meanwhile_is_of_the_version_before_it() {
    let mut world = world(2).await;
    train(&world, 0);
    train(&world, 1);
    assert!(!step_seen(&mut world, 1).await, "every second version is published");
    // The second batch is queued, and may not begin: the snapshot and the checkpoint are of version 1.
    let (ask, snapshot) = reply();
    world.learner.cast(LearnerActorMsg::TakeSnapshot(ask)).unwrap();
    let (ask, saved) = reply();
    let version = PolicyVersion(1);
    world
        .learner
        .cast(LearnerActorMsg::SaveState(SaveState { version, additions: Additions::default(), reply: ask }))
        .unwrap();
    let (ask, refused) = reply();
    let version = PolicyVersion(2);
    world
        .learner
        .cast(LearnerActorMsg::SaveState(SaveState { version, additions: Additions::default(), reply: ask }))
        .unwrap();
    world.learner.cast(LearnerActorMsg::Proceed).unwrap();
    assert_eq!(tokio::time::timeout(DEADLINE, snapshot).await.unwrap().unwrap().version(), PolicyVersion(1));
    let path = tokio::time::timeout(DEADLINE, saved).await.unwrap().unwrap().unwrap();
    assert_eq!(path, world.checkpoints.path().join("step-000001"));
    let refusal = tokio::time::timeout(DEADLINE, refused).await.unwrap().unwrap().unwrap_err().to_string();
    assert!(refusal.starts_with("a checkpoint of v2 was asked for, the learner holds v1"), "{refusal}");
    assert!(step_seen(&mut world, 2).await);
    world.learner.stop(None);
    tokio::time::timeout(DEADLINE, world.ended).await.expect("the engine ends with its actor").unwrap();
}

#[tokio::test]
async fn a_failed_step_ends_the_actor_with_its_reason_and_loses_no_reply_in_silence() {
    let world = world(1).await;
    train(&world, 5);
    let (ask, snapshot) = reply::<Arc<counterpoint_policy::Snapshot>>();
    world.learner.cast(LearnerActorMsg::TakeSnapshot(ask)).unwrap();
    assert!(tokio::time::timeout(DEADLINE, snapshot).await.unwrap().is_err(), "the asker is woken");
    tokio::time::timeout(DEADLINE, world.ended).await.expect("the actor ends").unwrap();
}

#[test]
fn the_engine_reports_a_failure_and_its_thread_ends() {
    let root = tempfile::tempdir().unwrap();
    let (tx, events) = std::sync::mpsc::channel();
    let setup = setup(Kind::Float, LearnerConfig::default(), ObjectiveConfig::default());
    let engine = Engine::start(setup, settings(root.path(), 1), move |event| tx.send(event).unwrap()).unwrap();
    engine.send(counterpoint_learner::Command::Train(work(5))).unwrap();
    let EngineEvent::Failed(problem) = events.recv_timeout(DEADLINE).unwrap() else {
        panic!("a step for other weights")
    };
    assert!(problem.contains("the batch starts from v5, the learner holds v0"), "{problem}");
    engine.stop(DEADLINE).unwrap();
    assert!(events.recv_timeout(DEADLINE).is_err(), "nothing more is reported, and the reporter is gone");
}

#[test]
fn a_panic_in_the_engine_is_reported_as_an_event() {
    let root = tempfile::tempdir().unwrap();
    let (tx, events) = std::sync::mpsc::channel();
    let setup = setup(Kind::Float, LearnerConfig::default(), ObjectiveConfig::default());
    let report = move |event: EngineEvent| {
        if let EngineEvent::Stepped { .. } = event {
            panic!("the reporter dies");
        }
        tx.send(event).unwrap();
    };
    let engine = Engine::start(setup, settings(root.path(), 1), report).unwrap();
    engine.send(counterpoint_learner::Command::Train(work(0))).unwrap();
    let EngineEvent::Failed(problem) = events.recv_timeout(DEADLINE).unwrap() else { panic!("a panic") };
    assert_eq!(problem, "the learner's engine panicked: the reporter dies");
    engine.stop(DEADLINE).unwrap();
}
