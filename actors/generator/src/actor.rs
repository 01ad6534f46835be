//! The generator actor: passes leases and weights down to its engine thread, and the engine's events up to the replay
//! actor.
//!
//! Lifecycle: the thread starts with the actor. If it fails, the actor fails with its error, and its supervisor decides; all
//! leases that were in it are the replay actor's to give up. On stop, the thread ends after its present decode step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_policy::streams::{self, Urgency};
use counterpoint_policy::{LoadWeights, Snapshot, Tokenizer, device};
use counterpoint_rollout::contract::GeneratorEvent;
use counterpoint_rollout::{
    DropReason, GeneratorId, GeneratorMsg, GroupId, Lease, check_invariant, convertible, invariant::Invariant,
};
use crossbeam::channel::TrySendError;
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};

use crate::probe::Probe;
use crate::request::detokenizer;
use crate::serve::{Control, Server};
use crate::thread::EngineThread;
use crate::{Engine, GeneratorConfig, GeneratorError};

/// How long a stopping actor waits for the engine's present decode step.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct GeneratorActor;

/// What a generator is told.
#[derive(Debug)]
pub enum GeneratorActorMsg {
    /// By the replay actor, or by the conductor (freeze, thaw).
    Generator(GeneratorMsg),
    /// By weight synchronisation.
    Load(LoadWeights),
    /// By its engine: this happened.
    Reported(Vec<GeneratorEvent>),
    /// By its engine: it is over.
    Ended(Result<(), GeneratorError>),
}

/// What a generator is started with.
#[derive(Debug)]
pub struct GeneratorStart {
    /// Its number.
    pub id: GeneratorId,
    /// Its first weights; the engine samples in their number format, and on their device unless `config` names another.
    pub snapshot: Arc<Snapshot>,
    /// Of the same model.
    pub tokenizer: Tokenizer,
    /// Valid settings.
    pub config: GeneratorConfig,
    /// The run's seed.
    pub seed: u64,
    /// CPU threads of its tensor operations.
    pub threads: usize,
    /// The leases that can be on their way to this generator: no more messages than that can wait for the engine.
    pub queue_capacity: usize,
    /// Who owns the leases.
    pub replay: DerivedActorRef<GeneratorEvent>,
}

/// The actor's state.
pub struct GeneratorState {
    /// Taken when the actor stops.
    engine: Option<EngineThread<Vec<Lease>, Control>>,
    replay: DerivedActorRef<GeneratorEvent>,
}

impl Actor for GeneratorActor {
    type Msg = GeneratorActorMsg;
    type State = GeneratorState;
    type Arguments = GeneratorStart;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        start: GeneratorStart,
    ) -> Result<Self::State, ActorProcessingErr> {
        let replay = start.replay.clone();
        Ok(GeneratorState { engine: Some(start_engine(&myself, start)?), replay })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GeneratorActorMsg::Generator(GeneratorMsg::Lease(leases)) => state.lease(leases),
            GeneratorActorMsg::Generator(GeneratorMsg::Cancel(groups)) => state.control(Control::Cancel(groups)),
            GeneratorActorMsg::Generator(GeneratorMsg::Freeze(reply)) => state.control(Control::Freeze(reply)),
            GeneratorActorMsg::Generator(GeneratorMsg::Thaw) => state.control(Control::Thaw),
            GeneratorActorMsg::Load(load) => state.control(Control::Load(load)),
            GeneratorActorMsg::Reported(events) => state.reported(events),
            GeneratorActorMsg::Ended(outcome) => outcome?,
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        if let Some(engine) = state.engine.take() {
            engine.join(STOP_DEADLINE).await;
        }
        Ok(())
    }
}

impl GeneratorState {
    /// Never waits: the capacity is the number of leases that can exist for this engine, and a message holds at least one.
    fn lease(&mut self, leases: Vec<Lease>) {
        let Some(engine) = self.engine.as_ref().filter(|_| !leases.is_empty()) else { return };
        let (leases, full) = match engine.work.try_send(leases) {
            Ok(()) => return,
            Err(TrySendError::Full(leases)) => (leases, true),
            Err(TrySendError::Disconnected(leases)) => (leases, false),
        };
        let lost: Vec<GroupId> = leases.iter().map(|lease| lease.group).collect();
        self.reported(lost.iter().map(|&group| GeneratorEvent::Dropped { group, reason: DropReason::Lost }).collect());
        check_invariant!(Invariant::EngineCredit, !full, "the engine's queue is full, {lost:?} are lost");
    }

    /// A command to an engine that is gone is dropped, and its reply says so; the actor learns of the end by `Ended`.
    fn control(&mut self, command: Control) {
        if let Some(engine) = &self.engine {
            let _ = engine.control.send(command);
        }
    }

    /// A replay actor that is gone needs no events: the run is over.
    fn reported(&mut self, events: Vec<GeneratorEvent>) {
        for event in events {
            let _ = self.replay.send_message(event);
        }
    }
}

fn start_engine(
    myself: &ActorRef<GeneratorActorMsg>,
    start: GeneratorStart,
) -> Result<EngineThread<Vec<Lease>, Control>, GeneratorError> {
    let name = format!("generator-{}", start.id.0);
    let capacity = start.queue_capacity;
    let (events, end) = (myself.clone(), myself.clone());
    let server_name = name.clone();
    let body = move |work: crossbeam::channel::Receiver<_>, control: crossbeam::channel::Receiver<_>| {
        let GeneratorStart { id, snapshot, tokenizer, config, seed, threads, .. } = start;
        let device = match config.device_of(id) {
            Some(name) => device::choose(name)?,
            None => snapshot.flat().device(),
        };
        // Somebody waits for every decode step, and its kernels are short.
        streams::enter(device, Urgency::High)?;
        let kind = snapshot.flat().kind();
        let snapshot = snapshot.arrived(device, kind)?;
        let engine = Engine::new(snapshot, config.engine_options(&tokenizer), detokenizer(&tokenizer))?;
        // An actor that is gone needs no events; its channels are closed, so the loop ends.
        let report = move |happened| drop(events.cast(GeneratorActorMsg::Reported(happened)));
        let probe = Probe::start(id, config.probe_every)?;
        let (name, leases, loads, frozen) = (server_name, HashMap::new(), Vec::new(), false);
        let server = Server { id, name, seed, tokenizer, engine, report, leases, frozen, loads, probe };
        server.run(threads, &work, &control)
    };
    EngineThread::spawn(&name, capacity, body, move |outcome| drop(end.cast(GeneratorActorMsg::Ended(outcome))))
}

convertible! { GeneratorActorMsg { Generator(GeneratorMsg), Load(LoadWeights) } }
