//! What a verifier is asked, and the trait that it implements.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use counterpoint_rollout::{Prompt, PromptContent, Verdict};
use serde_json::Value;
use tokio::time::Instant;

use crate::config::LONGEST_DEADLINE;
use crate::{Pace, VerifierError};

/// One prompt with the answers to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The prompt, as read from the data.
    pub prompt: Arc<Prompt>,
    /// The texts to judge, in sample order, special tokens left out. Truncated answers are among them only if
    /// `verifier.truncated = "judge"`.
    pub responses: Vec<String>,
    /// When the verdicts are due. What is not judged by then is void, whatever the verifier does; one that waits (for a
    /// process, a server) best gives up shortly before and says why.
    pub deadline: Instant,
}

impl Question {
    /// One response to one truth, without a prompt: a line of `counterpoint verify`.
    pub fn pair(response: impl Into<String>, answer: impl Into<String>) -> Self {
        let content = PromptContent::Text(String::new());
        let info = serde_json::Map::new();
        let prompt = Prompt { id: String::new(), content, answer: answer.into(), source: String::new(), info };
        Self::new(Arc::new(prompt), vec![response.into()])
    }

    /// Responses to a prompt, due in a day; [`Judge`](crate::Judge) sets the real deadline.
    pub fn new(prompt: Arc<Prompt>, responses: Vec<String>) -> Self {
        Self { prompt, responses, deadline: Instant::now() + LONGEST_DEADLINE }
    }

    /// The truth: what a right answer is.
    pub fn answer(&self) -> &str {
        &self.prompt.answer
    }

    /// When somebody who works on this question gives up, so that what he has to say arrives before the deadline: `margin`
    /// before it, or a `share`-th of the time left where that is less.
    pub(crate) fn due(&self, margin: Duration, share: u32) -> Instant {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.deadline - margin.min(left / share)
    }

    /// Judges the responses one by one. `judge` returns a [`Verdict`], or a `bool` for right and wrong.
    pub fn each<V: Into<Verdict>>(&self, mut judge: impl FnMut(&str) -> V) -> Vec<Verdict> {
        self.responses.iter().map(|response| judge(response).into()).collect()
    }
}

/// Where a verifier lives: what it may need to know of the program around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// The run directory, for files that a verifier writes; `None` outside a run.
    pub directory: Option<PathBuf>,
}

/// On which threads a verifier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// On a thread of its own, outside the async workers: any code is safe there, also code that computes or blocks.
    #[default]
    Blocking,
    /// On the async workers: for a verifier that awaits (a socket, a process) or that is done within microseconds. It must
    /// not block: what shares the worker would stand still, and a deadline takes hold only when it awaits.
    Async,
}

/// Judges the answers to one prompt.
///
/// Implemented with [`macro@crate::async_trait`]. One verifier serves several groups at once, hence `&self`.
#[async_trait]
pub trait Verifier: Send + Sync + 'static {
    /// One verdict per response, in order.
    ///
    /// A panic, another number of verdicts, a score outside [0, 1] and an answer after the deadline are all void verdicts.
    /// What cannot be judged is best said so, with [`VoidReason::Verifier`](counterpoint_rollout::VoidReason::Verifier).
    ///
    /// Past the deadline, a [`Mode::Async`] verifier is dropped where it awaits; a [`Mode::Blocking`] one runs on, unheard.
    async fn verify(&self, question: &Question) -> Vec<Verdict>;

    /// Gets ready before the first question: starts what it needs (processes, connections) and says what is wrong with its
    /// surroundings. A verifier that serves several actors is started by each; starting it again does nothing.
    ///
    /// # Errors
    /// What makes judging impossible, in one line.
    async fn start(&self, _home: &Home) -> Result<(), VerifierError> {
        Ok(())
    }

    /// Ends what [`start`](Self::start) and judging started. Also called when nothing was; judging again starts it again.
    async fn stop(&self) {}

    /// For `counterpoint verify --explain`: per response, how its verdict came about, as an object for people to read.
    /// `None` if the verifier has nothing to say.
    async fn explain(&self, _question: &Question) -> Option<Vec<Value>> {
        None
    }

    /// For majority votes: per response, the answer that it gives, in a form in which answers that mean the same are the same
    /// text; `None` for a response that gives none. `None` in all from a kind that has no notion of an answer.
    async fn answers(&self, _question: &Question) -> Option<Vec<Option<String>>> {
        None
    }

    /// For the self-test: the same verifier, but one that sends and reads slowly, as over a bad line. `None` for a kind that
    /// neither sends nor reads.
    fn slowly(&self, _pace: Pace) -> Option<Arc<dyn Verifier>> {
        None
    }

    /// Where it runs. Asked once, before the first group.
    fn mode(&self) -> Mode {
        Mode::Blocking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_bools_and_verdicts_and_keeps_the_order() {
        let mut question = Question::pair("a", "b");
        question.responses.push("b".into());
        assert_eq!(question.each(|r| r == question.answer()), [Verdict::Incorrect, Verdict::Correct]);
        assert_eq!(question.each(|_| Verdict::Soft(0.5)), [Verdict::Soft(0.5), Verdict::Soft(0.5)]);
    }
}
