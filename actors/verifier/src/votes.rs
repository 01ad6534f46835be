//! Votes for the majority among several answers to one question: which answers are the same one.

use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{Completion, Prompt};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::config::LONGEST_DEADLINE;
use crate::{Judge, Mode, Question, TruncatedPolicy};

/// One vote per completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Votes {
    /// What each completion votes for; equal answers are equal texts. `None` abstains: no answer was found, or the token
    /// limit cut the completion off and `verifier.truncated` says that such are not judged.
    pub answers: Vec<Option<String>>,
    /// Whether the verifier found the answers. If its kind has no notion of an answer, the whole texts vote, lower case and
    /// with white space collapsed.
    pub extracted: bool,
}

impl Judge {
    /// The votes of some completions of one prompt, within a deadline, after which the whole texts vote.
    pub async fn votes(&self, prompt: &Arc<Prompt>, completions: &[Completion], deadline: Duration) -> Votes {
        let looked_at = |c: &&Completion| !c.truncated() || self.truncated() == TruncatedPolicy::Judge;
        let responses: Vec<String> = completions.iter().filter(looked_at).map(|c| c.text.clone()).collect();
        let asked = responses.len();
        let found = self.answers(Question::new(Arc::clone(prompt), responses.clone()), deadline).await;
        let found = found.filter(|found| found.len() == asked);
        let extracted = found.is_some();
        let found = found.unwrap_or_else(|| responses.iter().map(|text| plain(text)).collect());
        let mut found = found.into_iter();
        let vote = |c| if looked_at(&c) { found.next().flatten() } else { None };
        Votes { answers: completions.iter().map(vote).collect(), extracted }
    }

    /// The answers that responses give, if the kind can tell and does so within the deadline.
    pub(crate) async fn answers(&self, mut question: Question, deadline: Duration) -> Option<Vec<Option<String>>> {
        let deadline = deadline.min(LONGEST_DEADLINE);
        question.deadline = Instant::now() + deadline;
        let verifier = Arc::clone(self.verifier());
        let mut run = match verifier.mode() {
            Mode::Async => tokio::spawn(async move { verifier.answers(&question).await }),
            Mode::Blocking => {
                let runtime = Handle::current();
                tokio::task::spawn_blocking(move || runtime.block_on(verifier.answers(&question)))
            }
        };
        let answers = timeout(deadline, &mut run).await;
        // Too late, or a panic: then there is no telling.
        run.abort();
        answers.ok()?.ok()?
    }
}

fn plain(text: &str) -> Option<String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    if words.is_empty() { None } else { Some(words.join(" ")) }
}

#[cfg(test)]
mod tests {
    use counterpoint_rollout::{FinishReason, PromptContent};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Registry, VerifierConfig};

    async fn votes(config: Value, texts: &[&str]) -> (Vec<Option<String>>, bool) {
        let config: VerifierConfig = serde_json::from_value(config).unwrap();
        let judge = Judge::new("test", Registry::default().build(&config).unwrap(), config.truncated);
        let (content, info) = (PromptContent::Text(String::new()), json!({"choices": ["red", "blue"]}));
        let info = info.as_object().unwrap().clone();
        let prompt = Prompt { id: "p".into(), content, answer: "1".into(), source: "s".into(), info };
        let completion = |text: &&str| Completion {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            versions: Vec::new(),
            finish: if text.ends_with('…') { FinishReason::Length } else { FinishReason::Stop },
            text: (*text).to_owned(),
        };
        let completions: Vec<Completion> = texts.iter().map(completion).collect();
        let Votes { answers, extracted } = judge.votes(&Arc::new(prompt), &completions, Duration::from_secs(30)).await;
        (answers, extracted)
    }

    fn named(answers: &[Option<&str>]) -> Vec<Option<String>> {
        answers.iter().map(|a| a.map(str::to_owned)).collect()
    }

    #[tokio::test]
    async fn equal_answers_have_equal_votes_in_every_kind_that_finds_answers() {
        for (name, texts, expected) in [
            ("exact", ["4 ", "4", "5…"], [Some("4"), Some("4"), None]),
            ("math", [r"\boxed{\frac12}", "The answer is 0.5.", ""], [Some(r"\frac12"), Some(r"\frac12"), None]),
            ("numeric", ["so 1/2", "0.50", "none"], [Some("1/2"), Some("1/2"), None]),
            ("choice", ["(A)", "The answer is: red", "?"], [Some("A"), Some("A"), None]),
            ("dapo", [r"\boxed{4}", r"it is \boxed{4}", "4"], [Some("4"), Some("4"), None]),
        ] {
            assert_eq!(votes(json!({"name": name}), &texts).await, (named(&expected), true), "{name}");
        }
        let by_source = json!({"name": "s", "define": {"s": {"kind": "by_source", "default": "numeric"}}});
        assert_eq!(votes(by_source, &["2.0", "2"]).await, (named(&[Some("2"), Some("2")]), true));
    }

    #[tokio::test]
    async fn where_the_kind_finds_no_answers_the_normalised_texts_vote() {
        let (answers, extracted) = votes(json!({"name": "json"}), &["A  b\n", "a B", " "]).await;
        assert_eq!((answers, extracted), (named(&[Some("a b"), Some("a b"), None]), false));
    }

    #[tokio::test]
    async fn a_truncated_answer_votes_only_if_it_is_judged() {
        let judged = json!({"name": "exact", "truncated": "judge"});
        assert_eq!(votes(judged, &["4…"]).await.0, named(&[Some("4…")]));
    }
}
