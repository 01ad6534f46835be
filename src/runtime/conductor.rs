//! The conductor: begins the run, decides at every step boundary, ends it. One async function that reads top to bottom.
//!
//! The learner stops after each optimiser step until the conductor lets it go on; what must see the weights of exactly that
//! step (an evaluation, a checkpoint, the end) happens in between. Everything else flows without the conductor.

use std::time::Duration;

use counterpoint_generator::EvalReport;
use counterpoint_rollout::contract::{LearnerEvent, ReplayEvent};
use counterpoint_rollout::{PolicyVersion, telemetry};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::books::Books;
use super::stage::Stage;
use super::supervisor::{Event, Role};
use crate::config::Config;

/// How often one actor may be restarted before the run gives up.
const RESTARTS_PER_ACTOR: u32 = 3;

/// How a run ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All steps are trained, the target is reached or the data is used up.
    Done,
    /// By a signal, after a checkpoint.
    Interrupted,
}

/// See the module's first line.
pub(crate) struct Conductor {
    pub(crate) config: Config,
    pub(crate) stage: Stage,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) books: Books,
    /// Steps already trained before this part of the run.
    pub(crate) version: PolicyVersion,
    /// The last version that was evaluated, so that no version is evaluated twice.
    pub(crate) evaluated: Option<PolicyVersion>,
    /// The last version that was checkpointed.
    pub(crate) checkpointed: Option<PolicyVersion>,
}

impl Conductor {
    /// Runs to the end, whatever it is. A failed run leaves a checkpoint too if the learner can still give one.
    pub(crate) async fn conduct(&mut self) -> Result<Ending, String> {
        let played = self.play().await;
        self.books.clock.stop();
        self.stage.freeze_generators().await.unwrap_or_else(|e| tracing::warn!("{e}"));
        match played {
            Ok(Ending::Done) => {
                self.evaluate_once().await?;
                self.checkpoint_once().await?;
                Ok(Ending::Done)
            }
            Ok(Ending::Interrupted) => {
                self.checkpoint_once().await?;
                Ok(Ending::Interrupted)
            }
            Err(error) => {
                if let Err(also) = self.checkpoint_once().await {
                    tracing::error!("no checkpoint could be written at the end: {also}");
                }
                Err(error)
            }
        }
    }

    async fn play(&mut self) -> Result<Ending, String> {
        if self.config.eval.at_start || self.config.run.target_accuracy.is_some() {
            self.evaluate_once().await?;
        }
        if let Some(ending) = self.finished() {
            return Ok(ending);
        }
        self.books.clock.start();
        self.stage.begin()?;
        loop {
            let ending = match self.next_event().await? {
                Event::Stepped(event) => self.boundary(event).await?,
                Event::Replay(event) => self.replay_says(event)?,
                Event::SyncFailed(failure) => return Err(failure.0),
                Event::ActorFailed { role, error } => {
                    self.restart(role, &error).await?;
                    None
                }
                Event::Interrupted => Some(self.interrupt().await?),
            };
            if let Some(ending) = ending {
                return Ok(ending);
            }
        }
    }

    /// The wait for the next event is the run's watchdog: it names what stands still.
    async fn next_event(&mut self) -> Result<Event, String> {
        let deadline = Duration::from_secs_f64(self.config.run.stall_seconds);
        loop {
            match timeout(deadline, self.events.recv()).await {
                Ok(Some(Event::Replay(ReplayEvent::Scored(scored)))) => self.books.scored(&scored),
                Ok(Some(event)) => return Ok(event),
                Ok(None) => return Err("the supervisor is gone".to_owned()),
                Err(_) => {
                    let waits_for = self.stage.replay_status().await;
                    return Err(format!("stalled: nothing happened for {:.0} s (run.stall_seconds); {waits_for}", deadline.as_secs_f64()));
                }
            }
        }
    }

    /// Between two optimiser steps.
    async fn boundary(&mut self, event: LearnerEvent) -> Result<Option<Ending>, String> {
        self.version = event.version;
        self.books.stepped(&event);
        let step = event.version.0;
        let every = self.config.eval.every;
        if let Some(ending) = self.finished() {
            return Ok(Some(ending)); // the last evaluation and checkpoint belong to the end
        }
        if every > 0 && step.is_multiple_of(every) {
            self.evaluate_once().await?;
            if let Some(ending) = self.finished() {
                return Ok(Some(ending));
            }
        }
        if self.config.checkpoint.every > 0 && step.is_multiple_of(self.config.checkpoint.every) {
            self.checkpoint_once().await?;
        }
        self.stage.proceed()?;
        Ok(None)
    }

    /// Whether the run has what it was started for.
    fn finished(&self) -> Option<Ending> {
        let reached = self.config.run.target_accuracy.is_some_and(|target| {
            self.evaluated == Some(self.version) && self.books.accuracy.is_some_and(|accuracy| accuracy >= target)
        });
        (reached || self.version.0 >= self.config.run.max_steps).then_some(Ending::Done)
    }

    fn replay_says(&mut self, event: ReplayEvent) -> Result<Option<Ending>, String> {
        match event {
            ReplayEvent::Scored(scored) => self.books.scored(&scored),
            ReplayEvent::Exhausted => {
                tracing::info!("the data is used up after {} steps (feed.epochs)", self.version.0);
                return Ok(Some(Ending::Done));
            }
            ReplayEvent::Unlearnable { all_right, all_wrong } => {
                return Err(format!(
                    "nothing to learn: none of the last {} groups was mixed ({:.0} % all right, {:.0} % all wrong); \
                     give prompts of middling difficulty, or more answers (feed.answers_per_prompt)",
                    10 * self.config.feed.prompts_per_step,
                    100.0 * all_right,
                    100.0 * all_wrong
                ));
            }
            ReplayEvent::Failed(problem) => return Err(problem),
        }
        Ok(None)
    }

    /// A signal came: no new work; the step in progress is finished; what is in flight is listed in the checkpoint.
    async fn interrupt(&mut self) -> Result<Ending, String> {
        tracing::info!("interrupted: finishing the step in progress, then writing a checkpoint (a second signal stops at once)");
        self.stage.quiesce().await?;
        // The step that was in progress has been reported by now, ahead of the answer to `quiesce`.
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Stepped(event) => {
                    self.version = event.version;
                    self.books.stepped(&event);
                }
                Event::Replay(ReplayEvent::Scored(scored)) => self.books.scored(&scored),
                other => tracing::debug!("while draining: {other:?}"),
            }
        }
        Ok(self.finished().unwrap_or(Ending::Interrupted))
    }

    async fn restart(&mut self, role: Role, error: &str) -> Result<(), String> {
        let restarts = self.books.restarts(role);
        if restarts > RESTARTS_PER_ACTOR {
            return Err(format!("{role} failed {restarts} times, the last time: {error}"));
        }
        tracing::error!("{role} failed ({error}); restart {restarts} of {RESTARTS_PER_ACTOR}");
        telemetry::restarted(&role.to_string());
        match role {
            Role::Generator(id) => self.stage.restart_generator(id).await,
            Role::Verifier => self.stage.restart_verifier().await,
            Role::Replay | Role::Learner | Role::WeightSync | Role::Evaluator => Err(format!("{role} failed: {error}")),
        }
    }

    /// Evaluates the learner's present weights, unless that was done.
    async fn evaluate_once(&mut self) -> Result<(), String> {
        if self.evaluated == Some(self.version) || !self.stage.evaluates() {
            return Ok(());
        }
        let running = self.books.clock.running();
        let pause = self.config.eval.mode == counterpoint_generator::EvalMode::Pause;
        if pause {
            self.books.clock.stop();
            self.stage.freeze_generators().await?;
        }
        let report: EvalReport = self.stage.evaluate(self.version).await?;
        self.evaluated = Some(self.version);
        self.books.evaluated(&report);
        if pause && running {
            self.stage.thaw_generators()?;
            self.books.clock.start();
        }
        Ok(())
    }

    async fn checkpoint_once(&mut self) -> Result<(), String> {
        if self.checkpointed == Some(self.version) && self.version.0 > 0 {
            return Ok(());
        }
        self.stage.checkpoint(self.version, &mut self.books).await?;
        self.checkpointed = Some(self.version);
        Ok(())
    }
}
