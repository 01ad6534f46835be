//! The stage: the actors of a run, spawned and wired, and what the conductor asks of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_generator::{
    EvalReport, Evaluate, EvaluatorActor, EvaluatorMsg, EvaluatorStart, GeneratorActor, GeneratorActorMsg,
    GeneratorStart,
};
use counterpoint_learner::{Additions, Extra, LearnerActor, LearnerActorMsg, LearnerArgs, SaveState};
use counterpoint_policy::{LoadWeights, Snapshot};
use counterpoint_replay::{Cut, ReplayActor, ReplayArgs, ReplayMsg};
use counterpoint_rollout::contract::{GeneratorEvent, LearnerEvent, LearnerMsg, ReplayEvent};
use counterpoint_rollout::{GeneratorId, GeneratorMsg, PolicyVersion, VerifierMsg, telemetry};
use counterpoint_verifier::{PoolArgs, StartVerifier, VerifierActor};
use counterpoint_weight_sync::{SyncFailed, Transport, WeightSyncActor, WeightSyncArgs, WeightSyncMsg};
use ractor::{Actor, ActorCell, ActorRef, ActorStatus, DerivedActorRef, Message};
use tokio::sync::mpsc;

use super::ask;
use super::books::Books;
use super::supervisor::{Event, Role, Roles, Supervisor, SupervisorState};

/// Time for an actor and its engine to end.
const STOP: Duration = Duration::from_secs(30);

/// Make the start arguments of an actor, once those that it talks to are there.
pub(crate) type MakeReplay = Box<dyn FnOnce(DerivedActorRef<ReplayEvent>) -> ReplayArgs + Send>;
/// See [`MakeReplay`].
pub(crate) type MakeLearner = Box<dyn FnOnce(LearnerLinks) -> LearnerArgs + Send>;
/// See [`MakeReplay`]; called again for a restart.
pub(crate) type MakeGenerator =
    Box<dyn Fn(GeneratorId, DerivedActorRef<GeneratorEvent>) -> GeneratorStart + Send + Sync>;
/// See [`MakeReplay`].
pub(crate) type MakeEvaluator = Box<dyn FnOnce(DerivedActorRef<VerifierMsg>) -> EvaluatorStart + Send>;

/// What the actors start with.
pub(crate) struct Cast {
    pub(crate) replay: MakeReplay,
    pub(crate) learner: MakeLearner,
    pub(crate) sync_deadline: Duration,
    /// The way of published weights to other processes.
    pub(crate) weight_directory: Option<Box<dyn Transport>>,
    pub(crate) verifier: PoolArgs,
    pub(crate) start_verifier: StartVerifier,
    pub(crate) generators: u32,
    pub(crate) generator: MakeGenerator,
    /// Groups that a generator may hold at once.
    pub(crate) window: usize,
    /// The weights that generators start with.
    pub(crate) version: PolicyVersion,
    pub(crate) learner_credits: usize,
    pub(crate) evaluator: Option<MakeEvaluator>,
    pub(crate) eval_deadline: Duration,
    /// Time for an actor to answer a question that needs its attention; an optimiser step or a checkpoint may be under way.
    pub(crate) patience: Duration,
}

/// Whom the learner talks to.
pub(crate) struct LearnerLinks {
    pub(crate) replay: DerivedActorRef<LearnerEvent>,
    pub(crate) conductor: DerivedActorRef<LearnerEvent>,
    pub(crate) publish: Box<dyn Fn(Arc<Snapshot>) + Send + Sync>,
}

/// See the module's first line.
pub(crate) struct Stage {
    supervisor: ActorRef<Event>,
    roles: Roles,
    replay: ActorRef<ReplayMsg>,
    learner: ActorRef<LearnerActorMsg>,
    weight_sync: ActorRef<WeightSyncMsg>,
    verifier: VerifierActor,
    generators: BTreeMap<GeneratorId, ActorRef<GeneratorActorMsg>>,
    evaluator: Option<ActorRef<EvaluatorMsg>>,
    generator_args: MakeGenerator,
    verifier_args: PoolArgs,
    start_verifier: StartVerifier,
    window: usize,
    version: PolicyVersion,
    eval_deadline: Duration,
    patience: Duration,
}

impl Stage {
    /// Spawns every actor, linked to the supervisor, and introduces them to each other. Nothing flows before [`Self::begin`].
    pub(crate) async fn set(cast: Cast) -> Result<(Self, mpsc::UnboundedReceiver<Event>), String> {
        let (events, heard) = mpsc::unbounded_channel();
        let roles = Roles::default();
        let state = SupervisorState { events, roles: roles.clone() };
        let (supervisor, _) =
            Actor::spawn(None, Supervisor, state).await.map_err(|e| format!("the supervisor did not start: {e}"))?;
        let link = Link { supervisor: &supervisor, roles: &roles };
        let replay = link.spawn(Role::Replay, ReplayActor, (cast.replay)(supervisor.get_derived())).await?;
        let sync = WeightSyncArgs {
            deadline: cast.sync_deadline,
            conductor: supervisor.get_derived::<SyncFailed>(),
            directory: cast.weight_directory,
        };
        let weight_sync = link.spawn(Role::WeightSync, WeightSyncActor, sync).await?;
        let publish_to = weight_sync.clone();
        let links = LearnerLinks {
            replay: replay.get_derived(),
            conductor: supervisor.get_derived(),
            // A failed cast means that weight-sync is gone, which the supervisor reports.
            publish: Box::new(move |snapshot| drop(publish_to.cast(WeightSyncMsg::Publish(snapshot)))),
        };
        let learner = link.spawn(Role::Learner, LearnerActor, (cast.learner)(links)).await?;
        let verifier = link.spawn_verifier(&cast.start_verifier, cast.verifier.clone()).await?;
        let evaluator = match cast.evaluator {
            Some(args) => Some(link.spawn(Role::Evaluator, EvaluatorActor, args(verifier.mailbox.clone())).await?),
            None => None,
        };
        let mut stage = Self {
            supervisor,
            roles,
            replay,
            learner,
            weight_sync,
            verifier,
            generators: BTreeMap::new(),
            evaluator,
            generator_args: cast.generator,
            verifier_args: cast.verifier,
            start_verifier: cast.start_verifier,
            window: cast.window,
            version: cast.version,
            eval_deadline: cast.eval_deadline,
            patience: cast.patience,
        };
        tell(&stage.replay, ReplayMsg::VerifierUp { mailbox: stage.verifier.mailbox.clone() })?;
        let credits = cast.learner_credits;
        tell(&stage.replay, ReplayMsg::LearnerUp { mailbox: stage.learner.get_derived::<LearnerMsg>(), credits })?;
        for id in (0..cast.generators).map(GeneratorId) {
            stage.start_generator(id).await?;
        }
        Ok((stage, heard))
    }

    fn link(&self) -> Link<'_> {
        Link { supervisor: &self.supervisor, roles: &self.roles }
    }

    async fn start_generator(&mut self, id: GeneratorId) -> Result<(), String> {
        let args = (self.generator_args)(id, self.replay.get_derived());
        let generator = self.link().spawn(Role::Generator(id), GeneratorActor, args).await?;
        let (window, version) = (self.window, self.version);
        tell(
            &self.replay,
            ReplayMsg::GeneratorUp { id, mailbox: generator.get_derived::<GeneratorMsg>(), window, version },
        )?;
        tell(
            &self.weight_sync,
            WeightSyncMsg::GeneratorUp { id, mailbox: generator.get_derived::<LoadWeights>(), version },
        )?;
        self.generators.insert(id, generator);
        Ok(())
    }

    /// A generator died: its groups are lost, and a new one takes its place with the weights of the run's start, to which
    /// weight-sync sends the newest at once.
    pub(crate) async fn restart_generator(&mut self, id: GeneratorId) -> Result<(), String> {
        self.generators.remove(&id);
        tell(&self.replay, ReplayMsg::GeneratorDown(id))?;
        tell(&self.weight_sync, WeightSyncMsg::GeneratorDown(id))?;
        self.start_generator(id).await
    }

    /// The verifier died: what it was judging is judged again by a new one.
    pub(crate) async fn restart_verifier(&mut self) -> Result<(), String> {
        self.verifier = self.link().spawn_verifier(&self.start_verifier, self.verifier_args.clone()).await?;
        tell(&self.replay, ReplayMsg::VerifierUp { mailbox: self.verifier.mailbox.clone() })?;
        if let Some(evaluator) = &self.evaluator {
            tell(evaluator, EvaluatorMsg::VerifierUp(self.verifier.mailbox.clone()))?;
        }
        Ok(())
    }

    /// Where a signal's handler says that the run is interrupted.
    pub(crate) fn interrupts(&self) -> ActorRef<Event> {
        self.supervisor.clone()
    }

    /// Lets the first leases out.
    pub(crate) fn begin(&self) -> Result<(), String> {
        tell(&self.replay, ReplayMsg::Begin)
    }

    /// Tells the learner that it stood still so long for somebody else's sake.
    pub(crate) fn paused(&self, pause: Duration) -> Result<(), String> {
        tell(&self.learner, LearnerActorMsg::Paused(pause))
    }

    /// Lets the learner begin the next step.
    pub(crate) fn proceed(&self) -> Result<(), String> {
        tell(&self.learner, LearnerActorMsg::Proceed)
    }

    /// No new work, and the learner stands still after the step in progress, whose version is returned.
    pub(crate) async fn quiesce(&self) -> Result<PolicyVersion, String> {
        tell(&self.replay, ReplayMsg::Hold)?;
        let (reply, answer) = ask::reply();
        tell(&self.learner, LearnerActorMsg::Quiesce(reply))?;
        ask::answer(answer, "the learner to end the step in progress", self.patience).await
    }

    /// Generators stop between two decode steps, and deadlines stop running.
    ///
    /// A generator that is dead stands still too; the supervisor reports it.
    pub(crate) async fn freeze_generators(&self) -> Result<(), String> {
        tell(&self.replay, ReplayMsg::Hold)?;
        tell(&self.weight_sync, WeightSyncMsg::Hold)?;
        let mut frozen = Vec::new();
        for (id, generator) in &self.generators {
            let (reply, answer) = ask::reply();
            if tell(generator, GeneratorActorMsg::from(GeneratorMsg::Freeze(reply))).is_ok() {
                frozen.push((id, answer));
            }
        }
        for (id, answer) in frozen {
            if let Err(error) = ask::answer(answer, &format!("{id} to stand still"), self.patience).await {
                tracing::warn!("{error}");
            }
        }
        Ok(())
    }

    /// The opposite of [`Self::freeze_generators`].
    pub(crate) fn thaw_generators(&self) -> Result<(), String> {
        for generator in self.generators.values() {
            // One that is dead is restarted, unfrozen.
            drop(generator.cast(GeneratorActorMsg::from(GeneratorMsg::Thaw)));
        }
        tell(&self.weight_sync, WeightSyncMsg::Release)?;
        tell(&self.replay, ReplayMsg::Release)
    }

    /// Whether this run has an evaluator.
    pub(crate) fn evaluates(&self) -> bool {
        self.evaluator.is_some()
    }

    /// Evaluates the learner's present weights. What is returned waits for the report, so that the caller may go on meanwhile.
    pub(crate) async fn evaluate(
        &self,
        version: PolicyVersion,
    ) -> Result<impl Future<Output = Result<EvalReport, String>> + Send + use<>, String> {
        let Some(evaluator) = &self.evaluator else {
            return Err("there is no evaluator (data.eval is not set)".to_owned());
        };
        let (reply, answer) = ask::reply();
        tell(&self.learner, LearnerActorMsg::TakeSnapshot(reply))?;
        let snapshot = ask::answer(answer, "the learner's weights, to evaluate them", self.patience).await?;
        let (reply, answer) = ask::reply();
        tell(evaluator, EvaluatorMsg::Evaluate(Evaluate { snapshot, step: version.0, reply }))?;
        let (deadline, what) = (self.eval_deadline, format!("the evaluation of {version}"));
        Ok(async move {
            let report = ask::answer(answer, &what, deadline).await?;
            report.map_err(|e| format!("the evaluation of {version} failed: {e}"))
        })
    }

    /// Writes a checkpoint of a version at which learner and replay both stand.
    pub(crate) async fn checkpoint(&self, version: PolicyVersion, books: &mut Books) -> Result<PathBuf, String> {
        let (reply, answer) = ask::reply::<Cut>();
        tell(&self.replay, ReplayMsg::Cut(reply))?;
        let cut = ask::answer(answer, "the replay actor's part of the checkpoint", self.patience).await?;
        let mut extras = books.carried_over()?;
        extras.push(("replay.json".to_owned(), serde_json::to_vec(&cut).map_err(|e| format!("replay.json: {e}"))?));
        let extras = extras.into_iter().map(|(name, bytes)| Extra { name, bytes }).collect();
        let additions = Additions { extras, card: books.model_card(), evaluations: books.evaluations() };
        let (reply, answer) = ask::reply();
        tell(&self.learner, LearnerActorMsg::SaveState(SaveState { version, additions, reply }))?;
        let written = ask::answer(answer, &format!("the checkpoint of {version}"), self.patience).await?;
        written.map_err(|e| format!("the checkpoint of {version} could not be written: {e}"))
    }

    /// What the replay actor waits for, in words.
    pub(crate) async fn replay_status(&self) -> String {
        let (reply, answer) = ask::reply();
        let asked = tell(&self.replay, ReplayMsg::Status(reply));
        let status = match asked {
            Ok(()) => ask::answer(answer, "the replay actor's state", Duration::from_secs(5)).await,
            Err(error) => Err(error),
        };
        match status.map(|status| (serde_json::to_string(&status), status.waits_for)) {
            Ok((Ok(status), waits_for)) => format!("it waits for {waits_for}; the replay actor's state: {status}"),
            Ok((Err(error), waits_for)) => format!("it waits for {waits_for}; {error}"),
            Err(error) => error,
        }
    }

    /// Stops every actor and waits for their engines to end.
    pub(crate) async fn strike(self) {
        for generator in self.generators.into_values() {
            stop(generator.get_cell(), "a generator").await;
        }
        if let Some(evaluator) = self.evaluator {
            stop(evaluator.get_cell(), "the evaluator").await;
        }
        stop(self.learner.get_cell(), "the learner").await;
        stop(self.verifier.cell, "the verifier").await;
        stop(self.weight_sync.get_cell(), "weight-sync").await;
        stop(self.replay.get_cell(), "replay").await;
        stop(self.supervisor.get_cell(), "the supervisor").await;
    }
}

async fn stop(actor: ActorCell, name: &str) {
    if actor.get_status() == ActorStatus::Stopped {
        return;
    }
    if let Err(error) = actor.stop_and_wait(None, Some(STOP)).await {
        tracing::warn!("{name} did not stop within {} s: {error}", STOP.as_secs());
    }
}

fn tell<M: Message>(actor: &ActorRef<M>, message: M) -> Result<(), String> {
    actor.cast(message).map_err(|error| format!("an actor of the run is gone: {error}"))
}

struct Link<'a> {
    supervisor: &'a ActorRef<Event>,
    roles: &'a Roles,
}

impl Link<'_> {
    async fn spawn<A: Actor>(&self, role: Role, actor: A, args: A::Arguments) -> Result<ActorRef<A::Msg>, String> {
        let spawned = Actor::spawn_linked(None, actor, args, self.supervisor.get_cell()).await;
        let (actor, _) = spawned.map_err(|error| format!("{role} did not start: {error}"))?;
        self.assign(&actor.get_cell(), role)?;
        Ok(actor)
    }

    async fn spawn_verifier(&self, start: &StartVerifier, args: PoolArgs) -> Result<VerifierActor, String> {
        let spawned = start.start(args, self.supervisor.get_cell()).await;
        let actor = spawned.map_err(|error| format!("the verifier did not start: {error}"))?;
        self.assign(&actor.cell, Role::Verifier)?;
        Ok(actor)
    }

    fn assign(&self, actor: &ActorCell, role: Role) -> Result<(), String> {
        self.roles.assign(actor, role).map_err(|error| format!("{role} failed: {error}"))?;
        telemetry::supervised(&role.to_string());
        Ok(())
    }
}
