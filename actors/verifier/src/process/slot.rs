//! A slot: one process after another, and the questions that they answer.
//!
//! A slot is in one of three states, each a method of [`Slot`]: it *starts* a process and waits for its hello; it *serves*,
//! handing questions to the process and answers back; it *rests* before the next start. Every fault leads from serving (or
//! starting) through the end of the process to rest, every order to stop leads out. The task owns the process; if the task
//! is dropped, so is the process, which ends it.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::VoidReason;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::jobs::{Job, Jobs, Signal};
use super::live::{Event, Live};
use super::options::ProcessOptions;
use super::pacing::{Backoff, Restarts};
use super::talk::Breach;
use crate::Pace;

/// How long a process may take to end by itself once its input is closed.
const GRACE: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Slot {
    number: usize,
    options: Arc<ProcessOptions>,
    pace: Option<Pace>,
    jobs: Arc<Jobs>,
    signals: watch::Receiver<Signal>,
    backoff: Backoff,
    restarts: Restarts,
    /// Whoever waits for the first hello. If that fails, there is no second try.
    first: Option<oneshot::Sender<Result<(), String>>>,
}

/// Why a process no longer serves.
enum Fault {
    /// It did not answer this question in time.
    Late(Job),
    /// It cannot be believed.
    Breach(Breach),
    /// It is gone, or cannot be reached.
    Gone(String),
}

/// How a state is left.
enum Next<T> {
    /// With what the next state needs.
    Go(T),
    /// By an order to stop.
    Stop,
}

impl Slot {
    pub(super) fn new(number: usize, options: Arc<ProcessOptions>, pace: Option<Pace>, jobs: Arc<Jobs>) -> Self {
        let signals = jobs.signals();
        let restarts = Restarts::new(options.max_restarts, options.restart_window());
        Self { number, options, pace, jobs, signals, backoff: Backoff::new(number as u64), restarts, first: None }
    }

    /// Lets this sender know how the first start goes, and gives up if it fails.
    pub(super) fn telling(self, first: oneshot::Sender<Result<(), String>>) -> Self {
        Self { first: Some(first), ..self }
    }

    /// Runs until told to stop or out of service.
    pub(super) async fn run(mut self) {
        loop {
            let fault = match self.start().await {
                Next::Go(Ok(live)) => match self.serve(live).await {
                    Next::Go(fault) => fault,
                    Next::Stop => return,
                },
                Next::Go(Err(fault)) => fault,
                Next::Stop => return,
            };
            if let Some(first) = self.first.take() {
                // Whoever waits may have gone.
                let _ = first.send(Err(fault));
                return;
            }
            match self.rest(&fault).await {
                Next::Go(()) => {}
                Next::Stop => return,
            }
        }
    }

    // === Starting ===

    async fn start(&mut self) -> Next<Result<Live, String>> {
        let command = self.options.label();
        let deadline = Instant::now() + self.options.start();
        let mut live = match Live::start(&self.options, self.number, self.pace).await {
            Ok(live) => live,
            Err(error) => return Next::Go(Err(format!("cannot start `{command}`: {error}"))),
        };
        let fault = loop {
            match live.next(Some(deadline), &mut self.signals).await {
                Event::Heard(Ok(_)) if live.talk.greeted() => {
                    if let Some(first) = self.first.take() {
                        let _ = first.send(Ok(()));
                    }
                    tracing::debug!(verifier = command, process = self.number, "ready");
                    return Next::Go(Ok(live));
                }
                Event::Heard(Err(Breach::Nonsense(what))) => break what,
                Event::Heard(Err(Breach::TooLong)) => break "its first line has no end".into(),
                Event::Broken(what) => break format!("it {} before its hello", broken(&mut live, what).await),
                Event::Ended(status) => break format!("it {} before its hello", how(status)),
                Event::Due => break format!("no hello within {} s", self.options.start_seconds),
                Event::Signal if self.stopped() => {
                    live.end(false).await;
                    return Next::Stop;
                }
                Event::Heard(Ok(_)) | Event::Signal | Event::Progress => {}
            }
        };
        let (_, last_line) = live.end(false).await;
        Next::Go(Err(with_last_line(format!("`{command}` is no verifier: {fault}"), last_line)))
    }

    // === Serving ===

    async fn serve(&mut self, mut live: Live) -> Next<String> {
        let fault = loop {
            while live.talk.load() < self.options.pipeline
                && let Some(job) = self.jobs.take(self.number, live.talk.load(), Instant::now())
            {
                live.talk.ask(job, Instant::now(), self.options.deadline());
            }
            match live.next(live.talk.due(), &mut self.signals).await {
                Event::Heard(Ok(true)) => self.backoff.reset(),
                Event::Heard(Err(breach)) => break Fault::Breach(breach),
                Event::Broken(what) => break Fault::Gone(broken(&mut live, what).await),
                Event::Ended(status) => break Fault::Gone(how(status)),
                Event::Due => match live.talk.take_late(Instant::now()) {
                    Some(job) => break Fault::Late(job),
                    // The timer was a little early.
                    None => continue,
                },
                Event::Signal if self.stopped() => {
                    self.jobs.leave(self.number);
                    self.stop(live).await;
                    return Next::Stop;
                }
                Event::Heard(Ok(false)) | Event::Signal | Event::Progress => {}
            }
        };
        self.jobs.leave(self.number);
        Next::Go(self.fault(live, fault).await)
    }

    fn stopped(&self) -> bool {
        self.signals.borrow().closed
    }

    /// Ends a process that has gone wrong, and sees to its open questions. What can be answered at once is, since the end may
    /// take a moment. Returns what happened.
    async fn fault(&self, mut live: Live, fault: Fault) -> String {
        let trusted = matches!(fault, Fault::Gone(_));
        let what = match fault {
            Fault::Late(late) => {
                let what = format!("did not answer within its deadline (prompt {:?})", late.question.prompt.id);
                late.void(VoidReason::Timeout);
                // The oldest last, since each goes before those that wait.
                live.talk.take_all().into_iter().rev().for_each(|innocent| self.ask_again(innocent));
                what
            }
            Fault::Breach(Breach::Nonsense(what)) => {
                live.talk.take_all().into_iter().for_each(|job| job.void(VoidReason::Protocol));
                format!("broke the protocol: {what}")
            }
            Fault::Breach(Breach::TooLong) => {
                live.talk.take_all().into_iter().for_each(|job| job.void(VoidReason::OutputLimit));
                format!("wrote a line of more than {} bytes (max_line_bytes)", self.options.max_line_bytes)
            }
            Fault::Gone(what) => what,
        };
        let (mut talk, last_line) = live.end(trusted).await;
        talk.take_all().into_iter().for_each(|job| job.void(VoidReason::Crash));
        with_last_line(what, last_line)
    }

    /// A question may share the fate of a guilty one once.
    fn ask_again(&self, job: Job) {
        if job.again {
            return job.void(VoidReason::Crash);
        }
        if !job.wanted(Instant::now()) {
            return job.void(VoidReason::Timeout);
        }
        if let Err(job) = self.jobs.push_again(job) {
            job.void(VoidReason::Unavailable);
        }
    }

    /// Ends a process that has done nothing wrong.
    async fn stop(&mut self, mut live: Live) {
        live.talk.take_all().into_iter().for_each(|job| job.void(VoidReason::Unavailable));
        live.hang_up();
        let ended = async {
            // It may have to write before it can end, so it is read from meanwhile.
            while !matches!(live.next(None, &mut self.signals).await, Event::Ended(_) | Event::Broken(_)) {}
        };
        // If it does not end by itself, it is ended.
        let _ = timeout(GRACE, ended).await;
        live.end(false).await;
    }

    // === Resting ===

    async fn rest(&mut self, fault: &str) -> Next<()> {
        let (command, process) = (self.options.label(), self.number);
        if !self.restarts.allow(Instant::now()) {
            let (most, window) = (self.options.max_restarts, self.options.restart_window_seconds);
            tracing::error!(
                verifier = command,
                process,
                fault,
                "out of service: one process failed more than {most} times within {window} s (max_restarts)"
            );
            self.jobs.close();
            return Next::Stop;
        }
        let wait = self.backoff.next();
        tracing::warn!(verifier = command, process, fault, "starts again in {:.2} s", wait.as_secs_f64());
        let mut signals = self.signals.clone();
        let stopped = async { while !signals.borrow_and_update().closed && signals.changed().await.is_ok() {} };
        tokio::select! {
            () = sleep(wait) => Next::Go(()),
            () = stopped => Next::Stop,
        }
    }
}

/// What is wrong with a process that closed a pipe: if it ended, that.
async fn broken(live: &mut Live, what: String) -> String {
    live.ending().await.map_or(what, how)
}

/// How a process ended, as the rest of a sentence.
fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended ({status})"),
    }
}

fn with_last_line(what: String, last_line: Option<String>) -> String {
    match last_line {
        Some(line) => format!("{what}; last line of its standard error: {line}"),
        None => what,
    }
}
