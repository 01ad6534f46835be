//! The learner's actor: feeds the engine one batch at a time and tells replay, generators and conductor of each step, in
//! this order. It never touches a tensor and never waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_policy::Snapshot;
use counterpoint_rollout::contract::{LearnerEvent, LearnerMsg};
use counterpoint_rollout::invariant::Invariant;
use counterpoint_rollout::{Batch, PolicyVersion, Reply, check_invariant, convertible, telemetry};
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};

use crate::engine::{Command, Engine, EngineEvent, EngineSettings, SaveRequest};
use crate::turns::Turns;
use crate::{Additions, LearnerError, LearnerSetup};

/// What the learner's actor is told.
#[derive(Debug)]
pub enum LearnerActorMsg {
    /// A batch, from the replay actor.
    Learner(LearnerMsg),
    /// The conductor has seen the last step; the next may begin. Until then snapshots and checkpoints are of its version.
    Proceed,
    /// The pause that ends now was so long, and is not to be counted as the learner's idleness. Sent before `Proceed`.
    Paused(Duration),
    /// Begin no further step; answered with the version that will be the last, when no step is being worked on. The run is
    /// draining.
    Quiesce(Reply<PolicyVersion>),
    /// Copy the weights as they are after the steps begun so far.
    TakeSnapshot(Reply<Arc<Snapshot>>),
    /// Write a checkpoint of these weights.
    SaveState(SaveState),
    /// From the engine's thread.
    Engine(EngineEvent),
}

/// A checkpoint to be written; see [`CheckpointStore`](crate::CheckpointStore).
#[derive(Debug)]
pub struct SaveState {
    /// The version that the additions belong to. If the learner holds another, the save is refused.
    pub version: PolicyVersion,
    /// What to add to it: the replay actor's cut, counters, the model card.
    pub additions: Additions,
    /// Its directory, or why there is none. Training goes on either way.
    pub reply: Reply<Result<PathBuf, LearnerError>>,
}

convertible! { LearnerActorMsg { Learner(LearnerMsg) } }

/// Start arguments.
pub struct LearnerArgs {
    /// What is trained, and how.
    pub setup: LearnerSetup,
    /// What its thread needs besides.
    pub engine: EngineSettings,
    /// Learns of each step first: it owns the ledger.
    pub replay: DerivedActorRef<LearnerEvent>,
    /// Takes weights for the generators, after `replay` was told and before `conductor` is. Must not block.
    pub publish: Box<dyn Fn(Arc<Snapshot>) + Send + Sync>,
    /// Learns of each step last, and answers with [`LearnerActorMsg::Proceed`].
    pub conductor: DerivedActorRef<LearnerEvent>,
    /// How long the engine may take to end when the actor stops.
    pub stop_deadline: Duration,
}

/// See the module's first line.
#[derive(Debug)]
pub struct LearnerActor;

/// State of the actor.
pub struct LearnerState {
    engine: Engine,
    turns: Turns<Batch>,
    /// Who waits for the step in progress to be the last.
    quiescing: Vec<Reply<PolicyVersion>>,
    /// The last step reported.
    version: PolicyVersion,
    /// Batches that may wait: the replay actor sends no more than it has credit for.
    prefetch: usize,
    replay: DerivedActorRef<LearnerEvent>,
    publish: Box<dyn Fn(Arc<Snapshot>) + Send + Sync>,
    conductor: DerivedActorRef<LearnerEvent>,
    stop_deadline: Duration,
}

impl Actor for LearnerActor {
    type Msg = LearnerActorMsg;
    /// `None` once `post_stop` has taken it apart.
    type State = Option<LearnerState>;
    type Arguments = LearnerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: LearnerArgs,
    ) -> Result<Self::State, ActorProcessingErr> {
        let LearnerArgs { setup, engine, replay, publish, conductor, stop_deadline } = args;
        let prefetch = setup.config.prefetch;
        let version = setup.version;
        telemetry::policy_version("learner", setup.version);
        // A failed cast means that the actor has ended: nobody is left to tell.
        let engine = Engine::start(setup, engine, move |event| drop(myself.cast(LearnerActorMsg::Engine(event))))?;
        Ok(Some(LearnerState {
            engine,
            turns: Turns::new(),
            quiescing: Vec::new(),
            version,
            prefetch,
            replay,
            publish,
            conductor,
            stop_deadline,
        }))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = state else { return Ok(()) };
        match message {
            LearnerActorMsg::Learner(LearnerMsg::Train(batch)) => state.train(batch)?,
            LearnerActorMsg::Proceed => state.proceed()?,
            LearnerActorMsg::Paused(pause) => state.engine.send(Command::Paused(pause))?,
            LearnerActorMsg::Quiesce(reply) => state.quiesce(reply),
            LearnerActorMsg::TakeSnapshot(reply) => state.engine.send(Command::Snapshot(reply))?,
            LearnerActorMsg::SaveState(SaveState { version, additions, reply }) => {
                state.engine.send(Command::Save(SaveRequest { version, additions, reply }))?;
            }
            LearnerActorMsg::Engine(EngineEvent::Stepped { event, publish }) => state.stepped(event, publish)?,
            LearnerActorMsg::Engine(EngineEvent::Failed(problem)) => return Err(problem.into()),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        if let Some(LearnerState { engine, stop_deadline, .. }) = state.take() {
            tokio::task::spawn_blocking(move || engine.stop(stop_deadline)).await??;
        }
        Ok(())
    }
}

impl LearnerState {
    fn train(&mut self, batch: Batch) -> Result<(), LearnerError> {
        let version = batch.version;
        let begin = self.turns.arrived(batch);
        check_invariant!(
            Invariant::EngineCredit,
            self.turns.waiting() <= self.prefetch + 1,
            "the batch for {version} makes {} wait, learner.prefetch + 1 is {}",
            self.turns.waiting(),
            self.prefetch + 1
        );
        self.begin(begin)
    }

    fn proceed(&mut self) -> Result<(), LearnerError> {
        let begin = self.turns.proceed();
        self.begin(begin)
    }

    fn quiesce(&mut self, reply: Reply<PolicyVersion>) {
        if self.turns.close() {
            reply.send(self.version);
        } else {
            self.quiescing.push(reply);
        }
    }

    fn begin(&mut self, batch: Option<Batch>) -> Result<(), LearnerError> {
        telemetry::mailbox_depth("replay_learner", self.turns.waiting());
        batch.map_or(Ok(()), |batch| self.engine.send(Command::Train(batch)))
    }

    fn stepped(&mut self, event: LearnerEvent, publish: Option<Arc<Snapshot>>) -> Result<(), ActorProcessingErr> {
        self.turns.stepped();
        telemetry::step_done(&event.report);
        telemetry::policy_version("learner", event.version);
        telemetry::progress("learner");
        // Replay first: when a generator reports these weights as loaded, the ledger must know of the step that made them.
        self.replay
            .cast(event.clone())
            .map_err(|e| format!("the replay actor does not hear of {}: {e}", event.version))?;
        if let Some(snapshot) = publish {
            (self.publish)(snapshot);
        }
        let version = event.version;
        self.conductor.cast(event).map_err(|e| format!("the conductor does not hear of {version}: {e}"))?;
        self.version = version;
        self.quiescing.drain(..).for_each(|reply| reply.send(version));
        Ok(())
    }
}
