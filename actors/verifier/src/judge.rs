//! Asks a verifier, under a deadline and on the right threads, and makes a verdict of whatever comes back. No actor is needed.

use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{Completion, Group, Prompt, Verdict, VoidReason, panic_text};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout};

use crate::config::LONGEST_DEADLINE;
use crate::{Home, Mode, Question, TruncatedPolicy, Verifier, VerifierError};

/// How long a verifier may take to get ready.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long a verifier may take to end what it started.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// A verifier with the rules around it: every judgement of Counterpoint goes through here.
///
/// The methods must be called on a tokio runtime with timers. They return by the deadline, with one verdict for each thing
/// asked, in order; a deadline longer than a day counts as a day.
pub struct Judge {
    name: String,
    verifier: Arc<dyn Verifier>,
    mode: Mode,
    truncated: TruncatedPolicy,
}

/// Verdicts, and what is left behind.
#[derive(Debug)]
pub struct Judged {
    /// One per answer, in order.
    pub verdicts: Vec<Verdict>,
    /// The verifier's own run, if the deadline passed before it ended.
    pub unfinished: Option<Unfinished>,
}

/// A run of a verifier. Dropping it cancels the run, which has an effect where the run awaits and none on a thread.
#[derive(Debug)]
pub struct Unfinished(JoinHandle<Vec<Verdict>>);

impl Unfinished {
    /// Waits until the run has ended; for ever if it hangs.
    pub async fn ended(&mut self) {
        // Its verdicts, or its panic, come too late to matter.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Judge {
    /// `name` is the verifier's in logs and metrics.
    pub fn new(name: impl Into<String>, verifier: Arc<dyn Verifier>, truncated: TruncatedPolicy) -> Self {
        Self { name: name.into(), mode: verifier.mode(), verifier, truncated }
    }

    /// Lets the verifier get ready.
    ///
    /// # Errors
    /// [`Verifier::start`]'s, with the verifier's name; also if it panics or is not ready within a minute.
    pub async fn start(&self, home: &Home) -> Result<(), VerifierError> {
        let (verifier, home) = (Arc::clone(&self.verifier), home.clone());
        let mut run = tokio::spawn(async move { verifier.start(&home).await });
        let error = match timeout(START_DEADLINE, &mut run).await {
            Ok(Ok(started)) => return started.map_err(|error| error.at(format!("verifier `{}`", self.name))),
            Ok(Err(panic)) => format!("verifier `{}` panicked while it started: {panic}", self.name),
            Err(_late) => {
                run.abort();
                format!("verifier `{}` was not ready after {} s", self.name, START_DEADLINE.as_secs())
            }
        };
        Err(VerifierError::Setup(error))
    }

    /// Lets the verifier end what it started; gives up on it after a few seconds.
    pub async fn stop(&self) {
        if timeout(STOP_DEADLINE, self.verifier.stop()).await.is_err() {
            tracing::warn!(verifier = self.name, "did not stop within {} s", STOP_DEADLINE.as_secs());
        }
    }

    /// How the verdicts came about, if the verifier can tell and does so within the deadline.
    pub async fn explain(&self, mut question: Question, deadline: Duration) -> Option<Vec<serde_json::Value>> {
        let (verifier, deadline) = (Arc::clone(&self.verifier), deadline.min(LONGEST_DEADLINE));
        question.deadline = Instant::now() + deadline;
        let mut run = tokio::spawn(async move { verifier.explain(&question).await });
        let explained = timeout(deadline, &mut run).await;
        // Too late, or a panic: then there is nothing to say.
        run.abort();
        explained.ok()?.ok()?
    }

    pub(crate) fn verifier(&self) -> &Arc<dyn Verifier> {
        &self.verifier
    }

    pub(crate) fn truncated(&self) -> TruncatedPolicy {
        self.truncated
    }

    /// The verifier's name in logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Judges a group.
    pub async fn group(&self, group: &Group, deadline: Duration) -> Judged {
        self.completions(&group.lease.prompt, &group.completions, deadline).await
    }

    /// Judges some answers to one prompt. Truncated ones get the verdict of the policy; unless that is `judge`, the verifier
    /// does not see them.
    pub async fn completions(&self, prompt: &Arc<Prompt>, completions: &[Completion], deadline: Duration) -> Judged {
        let shown = completions.iter().filter(|c| self.settled(c).is_none());
        let responses: Vec<String> = shown.map(|c| c.text.clone()).collect();
        let judged = if responses.is_empty() {
            Judged { verdicts: Vec::new(), unfinished: None }
        } else {
            self.question(Question::new(Arc::clone(prompt), responses), deadline).await
        };
        let mut verdicts = judged.verdicts.into_iter();
        // `question` returns one verdict per response, so none is missing.
        let verdict = |c| self.settled(c).or_else(|| verdicts.next()).unwrap_or(Verdict::Void(VoidReason::Protocol));
        Judged { verdicts: completions.iter().map(verdict).collect(), unfinished: judged.unfinished }
    }

    /// Judges one response against one truth, without a prompt.
    pub async fn pair(&self, response: &str, answer: &str, deadline: Duration) -> Verdict {
        let judged = self.question(Question::pair(response, answer), deadline).await;
        judged.verdicts.into_iter().next().unwrap_or(Verdict::Void(VoidReason::Protocol))
    }

    /// Judges the responses of a question. A deadline of zero has passed: the verifier is not asked.
    pub async fn question(&self, mut question: Question, deadline: Duration) -> Judged {
        let deadline = deadline.min(LONGEST_DEADLINE);
        question.deadline = Instant::now() + deadline;
        let answers = question.responses.len();
        if deadline.is_zero() {
            return Judged { verdicts: void(answers, VoidReason::Timeout), unfinished: None };
        }
        let mut run = self.run(question);
        let verdicts = match timeout(deadline, &mut run.0).await {
            Ok(Ok(verdicts)) => self.checked(verdicts, answers),
            Ok(Err(error)) => self.crashed(error, answers),
            Err(_elapsed) => {
                run.0.abort();
                return Judged { verdicts: void(answers, VoidReason::Timeout), unfinished: Some(run) };
            }
        };
        Judged { verdicts, unfinished: None }
    }

    /// The verdicts of a group that the verifier was never asked about, for want of time.
    pub(crate) fn too_late(&self, group: &Group) -> Vec<Verdict> {
        let late = Verdict::Void(VoidReason::Timeout);
        group.completions.iter().map(|c| self.settled(c).unwrap_or_else(|| late.clone())).collect()
    }

    /// The verdict of an answer that is not for the verifier to judge.
    fn settled(&self, completion: &Completion) -> Option<Verdict> {
        match self.truncated {
            _ if !completion.truncated() => None,
            TruncatedPolicy::Judge => None,
            TruncatedPolicy::Incorrect => Some(Verdict::Incorrect),
            TruncatedPolicy::Void => Some(Verdict::Void(VoidReason::Truncated)),
        }
    }

    fn run(&self, question: Question) -> Unfinished {
        let verifier = Arc::clone(&self.verifier);
        Unfinished(match self.mode {
            Mode::Async => tokio::spawn(async move { verifier.verify(&question).await }),
            Mode::Blocking => {
                let runtime = Handle::current();
                tokio::task::spawn_blocking(move || runtime.block_on(verifier.verify(&question)))
            }
        })
    }

    /// Holds the answer of a verifier against the contract; a score of 0 or 1 becomes a plain verdict.
    fn checked(&self, verdicts: Vec<Verdict>, answers: usize) -> Vec<Verdict> {
        if verdicts.len() != answers {
            tracing::warn!(verifier = self.name, got = verdicts.len(), answers, "wrong number of verdicts");
            return void(answers, VoidReason::Protocol);
        }
        let check = |verdict| match verdict {
            Verdict::Soft(score) => {
                let verdict = Verdict::from_score(score);
                if verdict.score().is_none() {
                    tracing::warn!(verifier = self.name, score, "score outside [0, 1]");
                }
                verdict
            }
            other => other,
        };
        verdicts.into_iter().map(check).collect()
    }

    fn crashed(&self, error: JoinError, answers: usize) -> Vec<Verdict> {
        let reason = match error.try_into_panic() {
            Ok(panic) => panic_text(&*panic).to_owned(),
            Err(cancelled) => cancelled.to_string(),
        };
        tracing::warn!(verifier = self.name, reason, "verifier crashed");
        void(answers, VoidReason::Crash)
    }
}

fn void(answers: usize, reason: VoidReason) -> Vec<Verdict> {
    vec![Verdict::Void(reason); answers]
}
