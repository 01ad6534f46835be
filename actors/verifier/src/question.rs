//! What a verifier is asked, and the trait that it implements.

use std::sync::Arc;

use async_trait::async_trait;
use counterpoint_rollout::{Prompt, PromptContent, Verdict};

/// One prompt with the answers to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The prompt, as read from the data.
    pub prompt: Arc<Prompt>,
    /// The texts to judge, in sample order, special tokens left out. Truncated answers are among them only if
    /// `verifier.truncated = "judge"`.
    pub responses: Vec<String>,
}

impl Question {
    /// One response to one truth, without a prompt: a line of `counterpoint verify`.
    pub fn pair(response: impl Into<String>, answer: impl Into<String>) -> Self {
        let content = PromptContent::Text(String::new());
        let prompt = Prompt { id: String::new(), content, answer: answer.into(), source: String::new() };
        Self { prompt: Arc::new(prompt), responses: vec![response.into()] }
    }

    /// The truth: what a right answer is.
    pub fn answer(&self) -> &str {
        &self.prompt.answer
    }

    /// Judges the responses one by one. `judge` returns a [`Verdict`], or a `bool` for right and wrong.
    pub fn each<V: Into<Verdict>>(&self, mut judge: impl FnMut(&str) -> V) -> Vec<Verdict> {
        self.responses.iter().map(|response| judge(response).into()).collect()
    }
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
