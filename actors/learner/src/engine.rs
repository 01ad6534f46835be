use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use counterpoint_policy::streams::{self, Urgency};
use counterpoint_policy::{Kind, Snapshot, device};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::contract::{LearnerEvent, StepReport};
use counterpoint_rollout::invariant::Invariant;
use counterpoint_rollout::{Batch, PolicyVersion, Reply, check_invariant, panic_text, telemetry};
use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, select};

use crate::{Additions, CheckpointStore, Learner, LearnerError, LearnerSetup, inspect};

/// Commands in the queue at once, at most: one step, a snapshot and a checkpoint asked for while it runs, and as many again
/// of an asker who did not wait for the answer.
const CAPACITY: usize = 6;

/// What the engine can be told; it obeys in order, between two steps.
#[derive(Debug)]
pub enum Command {
    /// Take one optimiser step; answered by [`EngineEvent::Stepped`].
    Train(Batch),
    /// Copy the present weights.
    Snapshot(Reply<Arc<Snapshot>>),
    /// Write a checkpoint.
    Save(SaveRequest),
    /// So much of the wait that ends with this was a pause that somebody else asked for (an evaluation), not idleness.
    Paused(Duration),
}

/// A checkpoint to be written.
#[derive(Debug)]
pub struct SaveRequest {
    /// The version that it is to be of; another is refused, since the additions belong to this one.
    pub version: PolicyVersion,
    /// What to add to it.
    pub additions: Additions,
    /// Its directory, or why there is none.
    pub reply: Reply<Result<PathBuf, LearnerError>>,
}

/// What the engine reports, from its own thread.
#[derive(Debug)]
pub enum EngineEvent {
    /// A step is done.
    Stepped {
        /// Its result.
        event: LearnerEvent,
        /// The new weights, where they are due for the generators.
        publish: Option<Arc<Snapshot>>,
    },
    /// The engine failed and its thread ended; requests in its queue are lost.
    Failed(String),
}

/// What the engine needs besides its learner.
#[derive(Debug)]
pub struct EngineSettings {
    /// CPU threads of tensor operations; `None` leaves libtorch's choice.
    pub threads: Option<usize>,
    /// Copy the weights for the generators every so many versions.
    pub publish_every: u64,
    /// Number format of snapshots.
    pub snapshot_kind: Kind,
    /// Where checkpoints go.
    pub checkpoints: CheckpointStore,
    /// Where a batch is saved whose step was not finite; `None` saves none.
    pub inspect: Option<PathBuf>,
}

/// The learner's own thread. Whoever holds this can only send; nothing here waits, except [`Engine::stop`].
///
/// Dropping it tells the thread to end, at the next micro-batch, and does not wait.
#[derive(Debug)]
pub struct Engine {
    commands: Sender<Command>,
    /// Dropped to stop. The thread looks at its other end between micro-batches.
    running: Sender<()>,
    /// Disconnected when the thread is done.
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts the thread; the learner is built on it. `report` is called there and must only pass the event on.
    pub fn start(
        setup: LearnerSetup,
        settings: EngineSettings,
        report: impl Fn(EngineEvent) + Send + 'static,
    ) -> Result<Self, LearnerError> {
        let (commands, inbox) = bounded(CAPACITY);
        let (running, control) = bounded(0);
        let (finished, done) = bounded(0);
        let body = move || {
            let _finished: Sender<()> = finished;
            let outcome = catch_unwind(AssertUnwindSafe(|| Worker::run(setup, settings, &inbox, &control, &report)));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => report(EngineEvent::Failed(error.to_string())),
                Err(panic) => report(EngineEvent::Failed(format!(
                    "the learner's engine panicked: {}",
                    panic_text(panic.as_ref())
                ))),
            }
        };
        let thread = std::thread::Builder::new()
            .name("learner".to_owned())
            .spawn(body)
            .map_err(|e| LearnerError::Engine(format!("its thread could not be started: {e}")))?;
        Ok(Self { commands, running, done, thread })
    }

    /// Hands a command over without waiting. A full queue is a broken invariant (E-1), since whoever asks waits for the
    /// answer; the command is then dropped, and with it its reply.
    pub fn send(&self, command: Command) -> Result<(), LearnerError> {
        self.commands.try_send(command).map_err(|refused| match refused {
            TrySendError::Full(command) => {
                check_invariant!(
                    Invariant::EngineCredit,
                    false,
                    "the learner's queue of {CAPACITY} is full at {command:?}"
                );
                LearnerError::Engine(format!("its queue of {CAPACITY} commands is full"))
            }
            TrySendError::Disconnected(_) => LearnerError::Engine("its thread has ended".to_owned()),
        })
    }

    /// Ends the thread after the micro-batch at hand; a step that is not finished is given up. Blocks until it has ended,
    /// at most for `deadline`.
    pub fn stop(self, deadline: Duration) -> Result<(), LearnerError> {
        let Self { commands, running, done, thread } = self;
        drop((commands, running));
        if done.recv_timeout(deadline) == Err(crossbeam::channel::RecvTimeoutError::Timeout) {
            return Err(LearnerError::StopDeadline(deadline));
        }
        thread
            .join()
            .map_err(|panic| LearnerError::Engine(format!("its thread panicked: {}", panic_text(panic.as_ref()))))
    }
}

/// What lives on the thread.
struct Worker<'a> {
    learner: Learner,
    settings: EngineSettings,
    control: &'a Receiver<()>,
    report: &'a dyn Fn(EngineEvent),
    /// Time without work since the last step.
    idle: Duration,
}

impl<'a> Worker<'a> {
    /// Works until told to stop, or until the first error: the weights are then still those of the last good step.
    fn run(
        setup: LearnerSetup,
        settings: EngineSettings,
        inbox: &Receiver<Command>,
        control: &'a Receiver<()>,
        report: &'a dyn Fn(EngineEvent),
    ) -> Result<(), LearnerError> {
        if let Some(threads) = settings.threads {
            device::set_threads(threads);
        }
        streams::enter(setup.flat.device(), Urgency::Normal)?;
        let learner = Learner::new(setup)?;
        let mut worker = Self { learner, settings, control, report, idle: Duration::ZERO };
        loop {
            let waiting = Stopwatch::start();
            let command = select! {
                recv(control) -> _ => return Ok(()),
                recv(inbox) -> command => command,
            };
            let waited = waiting.elapsed();
            let Ok(command) = command else { return Ok(()) };
            let frozen = if let Command::Paused(pause) = command { pause.min(waited) } else { Duration::ZERO };
            telemetry::actor_state("learner", "frozen", frozen);
            let idle = waited - frozen;
            telemetry::actor_state("learner", "idle", idle);
            worker.idle += idle;
            let working = Stopwatch::start();
            match worker.obey(command) {
                Err(LearnerError::Stopped(_)) => return Ok(()),
                outcome => outcome?,
            }
            telemetry::actor_state("learner", "busy", working.elapsed());
        }
    }

    fn obey(&mut self, command: Command) -> Result<(), LearnerError> {
        match command {
            Command::Train(batch) => self.train(&batch),
            Command::Snapshot(reply) => {
                reply.send(self.snapshot()?);
                Ok(())
            }
            Command::Save(request) => {
                self.save(request);
                Ok(())
            }
            Command::Paused(_) => Ok(()),
        }
    }

    fn train(&mut self, batch: &Batch) -> Result<(), LearnerError> {
        let control = self.control;
        let mut stopped = || control.try_recv() == Err(TryRecvError::Disconnected);
        let report = self.learner.train_step_unless(batch, &mut stopped).map_err(|e| self.saved(batch, e))?;
        let report = StepReport { idle_seconds: std::mem::take(&mut self.idle).as_secs_f64(), ..report };
        let version: PolicyVersion = self.learner.version();
        let due = version.0.is_multiple_of(self.settings.publish_every.max(1));
        let publish = if due { Some(self.snapshot()?) } else { None };
        let groups = batch.groups.iter().map(|g| g.group.id()).collect();
        let event = LearnerEvent { version, groups, report: Arc::new(report) };
        (self.report)(EngineEvent::Stepped { event, publish });
        Ok(())
    }

    /// The error with the place of its batch, if it is one that the batch explains. A file that cannot be written must not
    /// hide the reason.
    fn saved(&self, batch: &Batch, problem: LearnerError) -> LearnerError {
        let Some(dir) = self.settings.inspect.as_deref().filter(|_| problem.is_not_finite()) else { return problem };
        match inspect::save(dir, batch, &problem, &self.learner) {
            Ok(path) => LearnerError::NotFiniteSaved { problem: Box::new(problem), path },
            Err(error) => {
                tracing::error!("the batch could not be saved for inspection: {error}");
                problem
            }
        }
    }

    fn snapshot(&self) -> Result<Arc<Snapshot>, LearnerError> {
        Ok(Arc::new(self.learner.snapshot(self.settings.snapshot_kind)?))
    }

    /// A checkpoint that cannot be written is the asker's affair: training can go on.
    fn save(&self, request: SaveRequest) {
        let watch = Stopwatch::start();
        let (asked, learner) = (request.version, self.learner.version());
        let saved = if asked == learner {
            self.settings.checkpoints.save(&self.learner, &request.additions)
        } else {
            Err(LearnerError::SaveVersion { asked, learner })
        };
        telemetry::checkpointed(if saved.is_ok() { "complete" } else { "failed" }, watch.elapsed());
        request.reply.send(saved);
    }
}
