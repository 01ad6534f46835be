//! The kind `process`: a verifier in any language, as a child process that reads and writes lines of JSON.
//!
//! # The protocol, version 1
//!
//! One JSON object per line (JSON Lines, UTF-8), requests on the child's standard input, answers on its standard output.
//! Standard error goes into the log. A line ends with `\n`, and the child must flush after each.
//!
//! | who | when | line |
//! |---|---|---|
//! | child | first, within `start_seconds` | `{"protocol": "counterpoint-verifier", "version": 1}` |
//! | Counterpoint | for each group of answers | `{"id": 1, "prompt": {...}, "responses": ["...", ...], "deadline_seconds": 9.5}` |
//! | child | once per request, in any order | `{"id": 1, "verdicts": [...]}`, one verdict per response, in order |
//! | child | instead, if it cannot judge | `{"id": 1, "error": "why"}`: every response is void |
//! | Counterpoint | at the end | closes the child's input; the child ends within a second, or is killed |
//!
//! | in `prompt` | what |
//! |---|---|
//! | `id` | the prompt's name, unique in the data |
//! | `text` or `messages` | the question: a text, or a list of `{"role", "content"}` |
//! | `answer` | what a right answer is |
//! | `source` | where the prompt came from |
//! | `info` | the data's other columns |
//!
//! | verdict | meaning |
//! |---|---|
//! | `"correct"`, `"incorrect"` | score 1, score 0 |
//! | `{"score": 0.5}` | a score from 0 to 1 |
//! | `{"void": "why"}`, `"void"` | no judgement is possible; this teaches the model nothing |
//!
//! Objects may have more keys, which are ignored. `deadline_seconds` is the time left when the request was sent. A child gets
//! up to `pipeline` requests before it has answered the first.
//!
//! # What goes wrong, and what it costs
//!
//! | the child | its open requests | and then |
//! |---|---|---|
//! | is late | that one is void (`timeout`); the others are asked again, once, of another process | killed, started again |
//! | exits, crashes, closes its output or input | void (`crash`) | started again |
//! | answers with another number of verdicts, `NaN`, or unreadably but with the id in front | that one is void (`protocol`) | goes on |
//! | gives a verdict that is none, or a score outside 0 to 1 | that verdict is void (`protocol`) | goes on |
//! | answers what it was not asked, or twice, or writes what is no JSON object in UTF-8 | void (`protocol`) | killed, started again |
//! | writes a line longer than `max_line_bytes` | void (`output_limit`) | killed, started again |
//! | fails more than `max_restarts` times within `restart_window_seconds` | void (`unavailable`), at once, from then on | out of service |
//!
//! *Killed* means the child with all its descendants: `crate::contain` has how, and what the containment is worth. It
//! takes milliseconds, the wait before the next start 0.1 s at first and at most 2 s. A child that writes nothing while it is
//! asked nothing costs nothing.
//!
//! If nobody waits for an answer any more (the question was cancelled), the child may still give it until the request's
//! deadline; only then it is killed.

mod codec;
mod jobs;
mod lines;
mod live;
mod log;
mod options;
mod pacing;
mod slot;
mod talk;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use jobs::{Job, Jobs};
pub use options::ProcessOptions;
use slot::Slot;

use crate::{Home, Mode, Pace, Question, Verifier, VerifierError};

/// The longest that is kept back from a question's deadline, so that the verdicts (or the reason why there are none) reach
/// whoever asked before he gives up.
const MARGIN: Duration = Duration::from_millis(250);

/// A verifier in child processes; see the module's text.
pub struct Process {
    options: Arc<ProcessOptions>,
    /// For the self-test: how slowly to talk to the children.
    pace: Option<Pace>,
    running: Mutex<Option<Running>>,
}

/// The slots and what they share. Dropping it stops them.
struct Running {
    jobs: Arc<Jobs>,
    slots: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts nothing yet.
    ///
    /// # Errors
    /// Options that are out of range.
    pub fn new(options: ProcessOptions) -> Result<Self, VerifierError> {
        options.validate()?;
        Ok(Self { options: Arc::new(options), pace: None, running: Mutex::new(None) })
    }

    fn slots<'a>(&'a self, jobs: &'a Arc<Jobs>) -> impl Iterator<Item = Slot> + 'a {
        let slot = |number| Slot::new(number, Arc::clone(&self.options), self.pace, Arc::clone(jobs));
        (0..self.options.processes).map(slot)
    }

    /// The jobs of the running slots; starts them if they do not run, without waiting for their hellos.
    async fn jobs(&self) -> Arc<Jobs> {
        let mut running = self.running.lock().await;
        let running = running.get_or_insert_with(|| {
            let jobs = Arc::new(Jobs::new(self.options.processes));
            let slots = self.slots(&jobs).map(|slot| tokio::spawn(slot.run())).collect();
            Running { jobs, slots }
        });
        Arc::clone(&running.jobs)
    }

    async fn ask(&self, question: &Question, due: Instant) -> Vec<Verdict> {
        let void = |reason| vec![Verdict::Void(reason); question.responses.len()];
        let jobs = self.jobs().await;
        let (reply, verdicts) = oneshot::channel();
        let job = Job { question: question.clone(), due, again: false, reply };
        if jobs.push(job).is_err() {
            return void(VoidReason::Unavailable);
        }
        // The slots answer every job that they take; if one loses a job, its task was lost.
        verdicts.await.unwrap_or_else(|_| void(VoidReason::Crash))
    }
}

#[async_trait]
impl Verifier for Process {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        if question.responses.is_empty() {
            return Vec::new();
        }
        let due = question.due(MARGIN, 10);
        let late = |_| vec![Verdict::Void(VoidReason::Timeout); question.responses.len()];
        timeout_at(due, self.ask(question, due)).await.unwrap_or_else(late)
    }

    async fn start(&self, _home: &Home) -> Result<(), VerifierError> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Ok(());
        }
        let jobs = Arc::new(Jobs::new(self.options.processes));
        let (mut slots, mut hellos) = (Vec::new(), Vec::new());
        for slot in self.slots(&jobs) {
            let (first, hello) = oneshot::channel();
            slots.push(tokio::spawn(slot.telling(first).run()));
            hellos.push(hello);
        }
        let started = Running { jobs, slots };
        for hello in hellos {
            let outcome = hello.await.unwrap_or_else(|_| Err("the task that was to start it is lost".into()));
            if let Err(error) = outcome {
                started.stop().await;
                return Err(VerifierError::Setup(error));
            }
        }
        *running = Some(started);
        Ok(())
    }

    async fn stop(&self) {
        let running = self.running.lock().await.take();
        if let Some(running) = running {
            running.stop().await;
        }
    }

    fn slowly(&self, pace: Pace) -> Option<Arc<dyn Verifier>> {
        let options = Arc::clone(&self.options);
        Some(Arc::new(Self { options, pace: Some(pace), running: Mutex::new(None) }))
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}

impl Running {
    /// Returns when all processes have ended.
    async fn stop(mut self) {
        self.jobs.close();
        for slot in self.slots.drain(..) {
            // A slot that panicked has dropped its process, which ends it.
            let _ = slot.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs.close();
    }
}
