//! The conductor: begins the run, decides at every step boundary, ends it. One async function that reads top to bottom.
//!
//! The learner stops after each optimiser step until the conductor lets it go on; what must see the weights of exactly that
//! step (an evaluation, a checkpoint, the end) happens in between. Everything else flows without the conductor.

use std::collections::VecDeque;
use std::time::Duration;

use counterpoint_generator::{EvalConfig, EvalMode, EvalReport};
use counterpoint_rollout::contract::{LearnerEvent, ReplayEvent};
use counterpoint_rollout::{PolicyVersion, telemetry};
use counterpoint_weight_sync::SyncFailed;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until};

use super::books::Books;
use super::stage::Stage;
use super::supervisor::{Event, Role};
use crate::config::Config;
use crate::console::Console;
use crate::rundir::Summary;
use crate::status::Phase;

/// How often one actor may be restarted before the run gives up.
const RESTARTS_PER_ACTOR: u32 = 3;

/// How often the figures on the status page and the terminal are refreshed.
const REFRESH: Duration = Duration::from_millis(500);

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
    config: Config,
    stage: Stage,
    events: mpsc::UnboundedReceiver<Event>,
    books: Books,
    console: Console,
    refresh: Interval,
    /// The learner's weights.
    version: PolicyVersion,
    /// An evaluation runs beside the training (`eval.mode = "overlap"`).
    evaluating: bool,
    /// A signal came.
    interrupted: bool,
    /// Heard during an evaluation, and for after it.
    deferred: VecDeque<Event>,
}

impl Conductor {
    /// A conductor for a stage that is set at `version`, the newest checkpoint's if there is one.
    pub(crate) fn new(
        config: Config,
        stage: Stage,
        events: mpsc::UnboundedReceiver<Event>,
        books: Books,
        console: Console,
        version: PolicyVersion,
    ) -> Self {
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (evaluating, interrupted, deferred) = (false, false, VecDeque::new());
        Self { config, stage, events, books, console, refresh, version, evaluating, interrupted, deferred }
    }

    /// Runs to the end, whatever it is. A failed run leaves a checkpoint too if learner and replay can still give one.
    pub(crate) async fn conduct(&mut self) -> Result<Ending, String> {
        let played = self.play().await;
        self.books.clock.stop();
        // Before the last evaluation and checkpoint, learner and ledger must stand at one version, whatever ended the run.
        let settled = self.settle().await;
        if let Err(error) = self.stage.freeze_generators().await {
            tracing::warn!("{error}");
        }
        match (played, settled) {
            (Ok(Ending::Done), Ok(())) => {
                self.evaluate_once().await?;
                self.checkpoint().await?;
                Ok(if self.interrupted { Ending::Interrupted } else { Ending::Done })
            }
            (Ok(Ending::Interrupted), Ok(())) => {
                self.checkpoint().await?;
                Ok(Ending::Interrupted)
            }
            (Ok(_), Err(error)) => Err(error),
            (Err(error), settled) => {
                if let Err(also) = self.checkpoint_after(settled).await {
                    tracing::error!("no checkpoint could be written at the end: {also}");
                }
                Err(error)
            }
        }
    }

    async fn checkpoint_after(&mut self, settled: Result<(), String>) -> Result<(), String> {
        settled?;
        self.checkpoint().await
    }

    async fn play(&mut self) -> Result<Ending, String> {
        if self.evaluation_is_due_at_start() {
            self.evaluate_once().await?;
            self.stage.thaw_generators()?;
        }
        if let Some(ending) = self.finished() {
            return Ok(ending);
        }
        self.books.clock.start();
        self.stage.begin()?;
        loop {
            let ending = match self.next_event().await? {
                Event::Stepped(event) => self.boundary(event).await?,
                Event::Replay(event) => self.replay_says(event).await?,
                Event::SyncFailed(failure) => return Err(failure.0),
                Event::ActorFailed { role, error } => {
                    self.restart(role, &error).await?;
                    None
                }
                Event::Evaluated(report) => self.evaluated_beside(report?)?,
                Event::Interrupted => Some(self.interrupt().await?),
            };
            if let Some(ending) = ending {
                return Ok(ending);
            }
        }
    }

    /// The first evaluation, or one that the end of an earlier part of this run cut off.
    fn evaluation_is_due_at_start(&self) -> bool {
        let EvalConfig { every, at_start, mode, .. } = self.config.eval;
        match self.version.0 {
            0 => at_start,
            step => mode == EvalMode::Pause && every > 0 && step.is_multiple_of(every),
        }
    }

    /// The wait for the next event is the run's watchdog: it names what stands still.
    async fn next_event(&mut self) -> Result<Event, String> {
        if let Some(event) = self.deferred.pop_front() {
            return Ok(event);
        }
        let deadline = Duration::from_secs_f64(self.config.run.stall_seconds);
        let stalled = Instant::now() + deadline;
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => return event.ok_or_else(|| "the supervisor is gone".to_owned()),
                _ = self.refresh.tick() => self.show(false),
                () = sleep_until(stalled) => {
                    let state = self.stage.replay_status().await;
                    let waited = deadline.as_secs_f64();
                    return Err(format!("stalled: nothing happened for {waited:.0} s (run.stall_seconds); {state}"));
                }
            }
        }
    }

    fn show(&mut self, evaluated: bool) {
        self.books.refresh();
        self.console.show(&self.books.board().snapshot(), evaluated);
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
            match self.config.eval.mode {
                EvalMode::Pause => self.evaluate_once().await?,
                EvalMode::Overlap => self.evaluate_beside().await?,
            }
            if let Some(ending) = self.finished() {
                return Ok(Some(ending));
            }
        }
        let best = self.config.checkpoint.save_best && self.books.is_best(self.version);
        if best || self.config.checkpoint.due(step) {
            self.checkpoint().await?;
        }
        self.stage.proceed()?;
        Ok(None)
    }

    /// Whether the run has what it was started for, or was interrupted while it looked.
    fn finished(&self) -> Option<Ending> {
        let reached = self.config.run.target_accuracy.is_some_and(|target| {
            self.books.evaluated == Some(self.version) && self.books.accuracy.is_some_and(|accuracy| accuracy >= target)
        });
        match reached || self.version.0 >= self.config.run.max_steps {
            true => Some(Ending::Done),
            false => self.interrupted.then_some(Ending::Interrupted),
        }
    }

    async fn replay_says(&mut self, event: ReplayEvent) -> Result<Option<Ending>, String> {
        match event {
            ReplayEvent::Scored(scored) => self.books.scored(&scored),
            ReplayEvent::Exhausted => {
                self.settle().await?;
                if self.version.0 < self.config.run.max_steps {
                    self.books.data_used_up();
                    tracing::info!("the data is used up after {} steps (feed.epochs)", self.version.0);
                }
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
        self.note_interrupt();
        self.settle().await?;
        Ok(self.finished().unwrap_or(Ending::Interrupted))
    }

    fn note_interrupt(&mut self) {
        self.interrupted = true;
        self.books.board().update(|status| status.phase = Phase::Draining);
        tracing::info!(
            "interrupted: finishing the step in progress, then writing a checkpoint (a second signal stops at once)"
        );
    }

    /// Lets the step in progress be the last, and hears what there is to hear up to it.
    async fn settle(&mut self) -> Result<(), String> {
        let last = self.stage.quiesce().await?;
        while self.version < last {
            match self.next_event().await? {
                Event::Stepped(event) => {
                    self.version = event.version;
                    self.books.stepped(&event);
                }
                Event::Replay(ReplayEvent::Scored(scored)) => self.books.scored(&scored),
                Event::Replay(ReplayEvent::Failed(problem)) | Event::SyncFailed(SyncFailed(problem)) => {
                    return Err(problem);
                }
                Event::ActorFailed { role, error } if !role.is_restarted() => {
                    return Err(format!("{role} failed: {error}"));
                }
                other => tracing::debug!("while draining: {other:?}"),
            }
        }
        Ok(())
    }

    async fn restart(&mut self, role: Role, error: &str) -> Result<(), String> {
        if !role.is_restarted() {
            return Err(format!("{role} failed: {error}"));
        }
        let restarts = self.books.restarts(role);
        if restarts > RESTARTS_PER_ACTOR {
            return Err(format!("{role} failed {restarts} times, the last time: {error}"));
        }
        tracing::error!("{role} failed ({error}); restart {restarts} of {RESTARTS_PER_ACTOR}");
        telemetry::restarted(&role.to_string());
        match role {
            Role::Generator(id) => self.stage.restart_generator(id).await,
            _ => self.stage.restart_verifier().await,
        }
    }

    /// Evaluates the learner's present weights while everything else stands still, unless that was done. A signal gives the
    /// evaluation up.
    async fn evaluate_once(&mut self) -> Result<(), String> {
        if self.books.evaluated == Some(self.version) || !self.stage.evaluates() {
            return Ok(());
        }
        let training = self.books.clock.running();
        let paused = Instant::now();
        let phase = self.books.board().snapshot().phase;
        self.books.clock.stop();
        self.books.board().update(|status| status.phase = Phase::Evaluating);
        self.stage.freeze_generators().await?;
        let report = self.await_evaluation().await?;
        if !self.interrupted {
            self.books.board().update(|status| status.phase = phase);
        }
        if let Some(report) = report {
            self.note(&report);
        }
        self.stage.paused(paused.elapsed())?;
        if training {
            self.stage.thaw_generators()?;
            self.books.clock.start();
        }
        Ok(())
    }

    /// `None` if a signal came first. An actor that dies meanwhile is restarted; all else waits.
    async fn await_evaluation(&mut self) -> Result<Option<EvalReport>, String> {
        let report = self.stage.evaluate(self.version).await?;
        tokio::pin!(report);
        loop {
            let event = tokio::select! {
                report = &mut report => return report.map(Some),
                event = self.events.recv() => event.ok_or_else(|| "the supervisor is gone".to_owned())?,
                _ = self.refresh.tick() => {
                    self.show(false);
                    continue;
                }
            };
            match event {
                Event::Interrupted => {
                    self.note_interrupt();
                    return Ok(None);
                }
                Event::ActorFailed { role, error } => self.restart(role, &error).await?,
                Event::Replay(ReplayEvent::Scored(scored)) => self.books.scored(&scored),
                other => self.deferred.push_back(other),
            }
        }
    }

    /// Evaluates the learner's present weights while training goes on; skipped while another such evaluation runs.
    async fn evaluate_beside(&mut self) -> Result<(), String> {
        if self.evaluating || !self.stage.evaluates() {
            return Ok(());
        }
        self.evaluating = true;
        let report = self.stage.evaluate(self.version).await?;
        let conductor = self.stage.interrupts();
        tokio::spawn(async move {
            // A failed cast means that the run is over.
            let _ = conductor.cast(Event::Evaluated(report.await));
        });
        Ok(())
    }

    fn evaluated_beside(&mut self, report: EvalReport) -> Result<Option<Ending>, String> {
        self.evaluating = false;
        self.note(&report);
        Ok(self.reached(&report).then_some(Ending::Done))
    }

    fn note(&mut self, report: &EvalReport) {
        self.books.evaluated(report);
        self.show(true);
    }

    fn reached(&self, report: &EvalReport) -> bool {
        self.config.run.target_accuracy.is_some_and(|target| report.accuracy >= target)
    }

    async fn checkpoint(&mut self) -> Result<(), String> {
        self.stage.checkpoint(self.version, &mut self.books).await?;
        Ok(())
    }

    /// Writes the summary and stops the actors, however the run ended.
    pub(crate) async fn close(mut self, ended: &Result<Ending, String>) -> Summary {
        self.console.finish();
        let summary = self.books.close(ended);
        self.stage.strike().await;
        summary
    }
}
