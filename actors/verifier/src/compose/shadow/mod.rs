//! The kind `shadow`: one verifier decides, a second sees the same answers, and where they disagree is counted and written
//! down.
//!
//! **Contract.** The verdicts are the deciding verifier's, returned as soon as they are there. The second is asked in the
//! background, a bounded number of questions at a time, each by the deadline that the question had anyway. Whatever it does
//! (panic, hang, answer nonsense, fail to start) is counted as void and nothing else. [`Verifier::stop`] ends what still
//! runs.
//!
//! **Limits.** Questions past `at_once` and `most_waiting` are not shown to it, and counted as skipped. Both verifiers share
//! the machine: a second one that needs all cores slows the first down.

mod log;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use counterpoint_rollout::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::log::Log;
use self::watch::{Comparison, Tally};
use super::part::{Part, Team, due};
use crate::{Home, Mode, Pace, Parts, Question, Verifier, VerifierError};

/// How long the start of the deciding verifier waits for that of the second.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A bound that keeps sums of questions far from a semaphore's.
const MOST_QUESTIONS: usize = 100_000;

/// Options of the kind `shadow`: a second verifier sees the same answers, and does not decide.
///
/// Disagreements are counted in `counterpoint_verifier_shadow_total` (answers by `agreement`: `agree`, `disagree`, `void` if
/// either gave no verdict, `skipped`) and, in a run, written to `file` as JSON lines: `prompt_id`, `data_source`, `answer`
/// (the truth), `response`, `verdict`, `shadow_verdict`. `counterpoint verify --explain` reads such a file as it is.
///
/// ```toml
/// [verifier]
/// name = "watched"
///
/// [verifier.define.watched]
/// kind = "shadow"
/// of = "math"
/// shadow = "dapo"
/// file = "disagreements.jsonl"
/// sample = 0.25
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShadowOptions {
    /// Who decides: a kind, or an id of `[verifier.define.<id>]`. Required.
    pub of: String,
    /// Who only watches; another than `of`. Required.
    pub shadow: String,
    /// Where disagreements are written, relative to the run directory; outside a run nothing is. Default: nowhere.
    pub file: Option<String>,
    /// Lines that `file` may have; further disagreements are only counted. Default: 10000.
    pub most_lines: u64,
    /// Share of the questions that the shadow sees, evenly spread, above 0 and at most 1. Default: 1.
    pub sample: f64,
    /// How far two scores may differ and still agree; right is 1, wrong is 0. From 0 to below 1. Default: 0.001.
    pub tolerance: f32,
    /// Questions that the shadow judges at once. Default: 2.
    pub at_once: usize,
    /// Questions that wait for it; with more, they are skipped. Default: 64.
    pub most_waiting: usize,
}

impl Default for ShadowOptions {
    fn default() -> Self {
        Self {
            of: String::new(),
            shadow: String::new(),
            file: None,
            most_lines: 10_000,
            sample: 1.0,
            tolerance: 0.001,
            at_once: 2,
            most_waiting: 64,
        }
    }
}

impl ShadowOptions {
    fn check(&self) -> Result<(), VerifierError> {
        let bad = |what: String| Err(VerifierError::BadOption(what));
        for (key, name) in [("of", &self.of), ("shadow", &self.shadow)] {
            if name.is_empty() {
                return bad(format!("{key}: names no verifier; name a kind or an id of [verifier.define.<id>]"));
            }
        }
        if self.of == self.shadow {
            return bad(format!("shadow: `{}` is also the one that decides; name another", self.shadow));
        }
        if let Some(file) = &self.file {
            log::check(file).map_err(|error| error.at("file"))?;
        }
        if self.most_lines == 0 {
            return bad("most_lines: must be at least 1; leave `file` out to write nothing".into());
        }
        if !(self.sample > 0.0 && self.sample <= 1.0) {
            return bad(format!("sample: must be > 0 and at most 1, got {}", self.sample));
        }
        if !(0.0..1.0).contains(&self.tolerance) {
            return bad(format!("tolerance: must be at least 0 and below 1, got {}", self.tolerance));
        }
        if self.at_once == 0 {
            return bad("at_once: must be at least 1".into());
        }
        for (key, value) in [("at_once", self.at_once), ("most_waiting", self.most_waiting)] {
            if value > MOST_QUESTIONS {
                return bad(format!("{key}: must be at most {MOST_QUESTIONS}"));
            }
        }
        Ok(())
    }
}

/// The kind `shadow`; see [`ShadowOptions`].
pub struct Shadow {
    options: ShadowOptions,
    of: Arc<Part>,
    shadow: Arc<Part>,
    /// Whether the shadow could start; if not, it is not asked.
    ready: AtomicBool,
    /// Questions so far, for the sample.
    seen: AtomicU64,
    /// A permit for each question in the background.
    room: Arc<Semaphore>,
    /// A permit for each question that the shadow is judging.
    turns: Arc<Semaphore>,
    background: Mutex<JoinSet<()>>,
    log: Mutex<Option<Arc<Log>>>,
    tally: Tally,
}

impl Shadow {
    /// Builds both verifiers; opens nothing.
    ///
    /// # Errors
    /// Options out of range, and what is wrong with a part.
    pub fn new(options: &ShadowOptions, parts: &Parts<'_>) -> Result<Self, VerifierError> {
        options.check()?;
        let of = Part::named(&options.of, "of", parts)?;
        let shadow = Part::named(&options.shadow, "shadow", parts)?;
        Ok(Self::of(options.clone(), of, shadow))
    }

    fn of(options: ShadowOptions, of: Arc<Part>, shadow: Arc<Part>) -> Self {
        Self {
            tally: Tally::new(of.name(), shadow.name()),
            of,
            shadow,
            ready: AtomicBool::new(true),
            seen: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(options.at_once + options.most_waiting)),
            turns: Arc::new(Semaphore::new(options.at_once)),
            background: Mutex::default(),
            log: Mutex::default(),
            options,
        }
    }

    fn team(&self) -> Team {
        Team::of(vec![Arc::clone(&self.of), Arc::clone(&self.shadow)])
    }

    fn background(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Option<Arc<Log>>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this question is of the sample: so many in a row are not, then one is.
    fn sampled(&self) -> bool {
        let before = self.seen.fetch_add(1, Ordering::Relaxed) as f64;
        ((before + 1.0) * self.options.sample).floor() > (before * self.options.sample).floor()
    }

    /// Shows the question to the shadow, in the background. The deciding verdicts are to be sent there; `None` if it does not
    /// see the question.
    fn show(&self, question: &Question) -> Option<oneshot::Sender<Vec<Verdict>>> {
        if !self.sampled() {
            return None;
        }
        let answers = question.responses.len();
        if !self.ready.load(Ordering::Relaxed) {
            self.tally.void(answers);
            return None;
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            self.tally.skipped(answers);
            return None;
        };
        let (send, decided) = oneshot::channel();
        let comparison = Comparison {
            question: question.clone(),
            shadow: Arc::clone(&self.shadow),
            turns: Arc::clone(&self.turns),
            tolerance: self.options.tolerance,
            tally: self.tally.clone(),
            log: self.log().clone(),
        };
        let mut background = self.background();
        // Those that have ended would otherwise stay until the set is dropped.
        while background.try_join_next().is_some() {}
        background.spawn(async move {
            comparison.run(decided).await;
            drop(room);
        });
        Some(send)
    }

    /// Opens the file, unless it is open.
    async fn open(&self, home: &Home) -> Result<(), VerifierError> {
        let (Some(file), Some(directory)) = (&self.options.file, &home.directory) else { return Ok(()) };
        let path = directory.join(file);
        if self.log().as_ref().is_some_and(|log| log.path() == path) {
            return Ok(());
        }
        let log = Log::open(path, self.options.most_lines).await?;
        *self.log() = Some(Arc::new(log));
        Ok(())
    }

    /// Starts the shadow; that it cannot is no reason not to train.
    async fn start_shadow(&self, home: &Home) {
        let ready = match timeout(START_PATIENCE, self.shadow.start(home)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!("{error}; it is only a shadow, so the run goes on without it");
                false
            }
            Err(_late) => {
                let (shadow, seconds) = (self.shadow.name(), START_PATIENCE.as_secs());
                tracing::warn!(
                    shadow,
                    "not ready after {seconds} s; it is only a shadow, so the run goes on without it"
                );
                false
            }
        };
        self.ready.store(ready, Ordering::Relaxed);
    }
}

#[async_trait]
impl Verifier for Shadow {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let decided = self.show(question);
        let verdicts = self.of.ask(question, due(question)).await;
        if let Some(decided) = decided {
            // If the comparison was cancelled meanwhile, nobody wants them.
            let _ = decided.send(verdicts.clone());
        }
        verdicts
    }

    async fn start(&self, home: &Home) -> Result<(), VerifierError> {
        self.open(home).await?;
        let (started, ()) = tokio::join!(self.of.start(home), self.start_shadow(home));
        if started.is_err() {
            self.shadow.stop().await;
        }
        started
    }

    async fn stop(&self) {
        self.background().abort_all();
        self.tally.tell();
        self.team().stop().await;
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        Some(self.team().explain(question).await)
    }

    fn slowly(&self, pace: Pace) -> Option<Arc<dyn Verifier>> {
        let slow = self.team().slowly(pace)?;
        let [of, shadow] = slow.parts() else { return None };
        Some(Arc::new(Self::of(self.options.clone(), Arc::clone(of), Arc::clone(shadow))))
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}
