//! The kind `process`: a verifier in a process of its own, written in any language.
//!
//! **Contract.** The command is started without a shell; model output reaches it on standard input only, as JSON lines (see
//! `protocol.rs`). Each of `processes` children is asked one group at a time. Whatever a child does wrong (no answer in time,
//! an end, a wrong id or count, no JSON, a line without end) costs that group a void verdict: the child is killed with all
//! that it started, and another takes its place.
//!
//! **Limits.** After a fault the next start waits, twice as long each time, up to [`LONGEST_PAUSE`]. After `max_restarts`
//! faults without a right answer between them the verifier is out of service, and everything is void at once, which
//! ends the run by `replay.max_void_share`. This is containment of accidents, not a sandbox.

mod plug;
mod protocol;
mod tree;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::plug::{Fault, Plug};
use crate::{Home, Mode, Pace, Question, Verifier, VerifierError};

/// What is left of a question's time when a child is given up, so that the verdict says why.
const MARGIN: Duration = Duration::from_millis(20);
/// The pause after the first fault; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two starts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Options of the kind `process`.
///
/// ```toml
/// [verifier.define.mine]
/// kind = "process"
/// command = ["python3", "examples/parity_verifier.py"]
/// processes = 2
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessOptions {
    /// The program and its arguments, started as they are, in the current directory, without a shell. Required.
    pub command: Vec<String>,
    /// Processes that run, each judging one group at a time. Default: 2.
    #[serde(default = "two")]
    pub processes: usize,
    /// Seconds from the start of a process to its first line. Default: 30.
    #[serde(default = "thirty")]
    pub start_seconds: f64,
    /// Seconds for one group; the question's own deadline (`verifier.deadline_seconds`) holds as well. Default: 30.
    #[serde(default = "thirty")]
    pub deadline_seconds: f64,
    /// Faults without a right answer between them after which the verifier is out of service. Default: 8.
    #[serde(default = "eight")]
    pub max_restarts: u32,
    /// Bytes of the longest line that a process may write. Default: 1 MiB.
    #[serde(default = "mebibyte")]
    pub max_line_bytes: usize,
}

fn two() -> usize {
    2
}

fn thirty() -> f64 {
    30.0
}

fn eight() -> u32 {
    8
}

fn mebibyte() -> usize {
    1 << 20
}

/// The kind `process`; see [`ProcessOptions`].
#[derive(Debug)]
pub struct Process {
    options: ProcessOptions,
    start: Duration,
    deadline: Duration,
    pace: Option<Pace>,
    turns: Semaphore,
    /// Children that nobody is asking just now; at most as many as turns.
    idle: Mutex<Vec<Plug>>,
    health: Mutex<Health>,
}

/// How the children have behaved lately.
#[derive(Debug, Default)]
struct Health {
    /// Faults since the last right answer.
    faults: u32,
    /// No start before this.
    pause_until: Option<Instant>,
}

impl Process {
    /// Checks the options; starts nothing.
    ///
    /// # Errors
    /// Options that cannot work.
    pub fn new(options: ProcessOptions) -> Result<Self, VerifierError> {
        let bad = |what: &str| Err(VerifierError::BadOption(what.to_owned()));
        if options.command.first().is_none_or(String::is_empty) {
            return bad("command: must name a program, as in [\"python3\", \"my_verifier.py\"]");
        }
        if options.processes == 0 || options.processes > Semaphore::MAX_PERMITS {
            return bad("processes: must be at least 1");
        }
        if options.max_line_bytes == 0 {
            return bad("max_line_bytes: must be at least 1");
        }
        let seconds = |key: &str, value: f64| match Duration::try_from_secs_f64(value) {
            Ok(time) if !time.is_zero() && value <= 86_400.0 => Ok(time),
            _ => Err(VerifierError::BadOption(format!("{key}: must be > 0 and at most 86400, got {value}"))),
        };
        Ok(Self {
            start: seconds("start_seconds", options.start_seconds)?,
            deadline: seconds("deadline_seconds", options.deadline_seconds)?,
            pace: None,
            turns: Semaphore::new(options.processes),
            idle: Mutex::default(),
            health: Mutex::default(),
            options,
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Plug>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn judge(&self, question: &Question, due: Instant) -> Result<Vec<Verdict>, Fault> {
        let late = |what: &str| Fault { reason: VoidReason::Timeout, what: what.to_owned() };
        // The semaphore is never closed.
        let _turn = timeout_at(due, self.turns.acquire()).await.map_err(|_| late("every process was busy"))?;
        let idle = self.idle().pop();
        let mut plug = match idle {
            Some(plug) => plug,
            None => self.spawn(due).await?,
        };
        match plug.ask(question, due).await {
            Ok(verdicts) => {
                *self.health() = Health::default();
                self.idle().push(plug);
                Ok(verdicts)
            }
            Err(fault) => {
                self.failed(&fault);
                plug.end().await;
                Err(fault)
            }
        }
    }

    async fn spawn(&self, due: Instant) -> Result<Plug, Fault> {
        let (faults, pause) = {
            let health = self.health();
            (health.faults, health.pause_until)
        };
        if faults > self.options.max_restarts {
            let what = format!("out of service after {faults} faults without a right answer (max_restarts)");
            return Err(Fault { reason: VoidReason::Unavailable, what });
        }
        if let Some(pause) = pause {
            if pause >= due {
                let what = "it waits for a new start after a fault".to_owned();
                return Err(Fault { reason: VoidReason::Unavailable, what });
            }
            sleep_until(pause).await;
        }
        let due = due.min(Instant::now() + self.start);
        let plug = Plug::start(&self.options.command, self.options.max_line_bytes, self.pace, due).await;
        plug.inspect_err(|fault| self.failed(fault))
    }

    fn failed(&self, fault: &Fault) {
        let mut health = self.health();
        health.faults += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << health.faults.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        health.pause_until = Some(Instant::now() + pause);
        let (faults, command) = (health.faults, &self.options.command);
        tracing::warn!(?command, faults, "verifier process: {}; it is killed", fault.what);
    }
}

#[async_trait]
impl Verifier for Process {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let now = Instant::now();
        let deadline = question.deadline.checked_sub(MARGIN).unwrap_or(now);
        let due = deadline.min(now + self.deadline);
        self.judge(question, due).await.unwrap_or_else(|fault| {
            tracing::debug!("void: {}", fault.what);
            vec![Verdict::Void(fault.reason); question.responses.len()]
        })
    }

    /// Starts one process, so that a command that does not work is known before anything is sampled.
    async fn start(&self, _home: &Home) -> Result<(), VerifierError> {
        *self.health() = Health::default();
        if !self.idle().is_empty() {
            return Ok(());
        }
        let plug = self.spawn(Instant::now() + self.start).await.map_err(|fault| {
            let command = self.options.command.join(" ");
            VerifierError::Setup(format!("command `{command}`: {}", fault.what))
        })?;
        self.idle().push(plug);
        Ok(())
    }

    async fn stop(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for plug in idle {
            plug.end().await;
        }
    }

    fn slowly(&self, pace: Pace) -> Option<Arc<dyn Verifier>> {
        // The options were checked when this one was made.
        let slow = Self::new(self.options.clone()).ok()?;
        Some(Arc::new(Self { pace: Some(pace), ..slow }))
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}
