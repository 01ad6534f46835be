//! The kind `math` as a [`Verifier`].

use async_trait::async_trait;
use counterpoint_rollout::Verdict;
use serde_json::{Value, json};

use super::judge::{Answer, Judgement, Math, Reason, Truth};
use crate::{Mode, Question, Verifier};

#[async_trait]
impl Verifier for Math {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let truth = self.truth(question.answer());
        let mut verdicts = Vec::with_capacity(question.responses.len());
        for response in &question.responses {
            verdicts.push(self.judge(response, &truth).verdict);
            // A judgement is mostly done within microseconds; the hardest take some 50 ms, and others share this thread.
            tokio::task::yield_now().await;
        }
        verdicts
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let truth = self.truth(question.answer());
        Some(question.responses.iter().map(|response| explained(&self.judge(response, &truth), &truth)).collect())
    }

    /// Answers that mean the same vote for the first of them.
    async fn answers(&self, question: &Question) -> Option<Vec<Option<String>>> {
        let nothing = self.truth("");
        let mut found: Vec<String> = Vec::new();
        let mut votes = Vec::with_capacity(question.responses.len());
        for response in &question.responses {
            let answer = self.judge(response, &nothing).answer.map(|answer| answer.candidate.text.into_owned());
            votes.push(answer.map(|text| {
                let same = |known: &&String| {
                    **known == text || self.judge(response, &self.truth(known)).verdict == Verdict::Correct
                };
                found.iter().find(same).cloned().unwrap_or_else(|| {
                    found.push(text.clone());
                    text
                })
            }));
            tokio::task::yield_now().await;
        }
        Some(votes)
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}

fn explained(judgement: &Judgement<'_>, truth: &Truth<'_>) -> Value {
    let decided = match (judgement.rule, &judgement.answer, truth.answer()) {
        (Some(Reason::Meaning(rule)), ..) => format!("{rule:?}"),
        (Some(Reason::Text), ..) => "the same text".to_owned(),
        (None, ..) if matches!(judgement.verdict, Verdict::Void(_)) => "over budget".to_owned(),
        (None, None, _) => "no answer found".to_owned(),
        (None, _, None) => "the truth is empty".to_owned(),
        (None, ..) => "no rule makes them equal".to_owned(),
    };
    json!({
        "answer": judgement.answer.as_ref().map(shown),
        "truth": truth.answer().map(shown),
        "decided": decided,
    })
}

fn shown(answer: &Answer<'_>) -> Value {
    let readings: Vec<String> = answer.readings.iter().map(ToString::to_string).collect();
    json!({ "text": answer.candidate.text, "found": answer.candidate.method, "parsed": readings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn explain_tells_what_was_found_what_it_means_and_what_decided() {
        let mut question = Question::pair(r"So \boxed{\frac12 + x}.", r"$\frac{1}{2}+x$");
        question.responses.extend(["no idea".to_owned(), r"\boxed{2}".to_owned()]);
        let math = Math::default();
        let explained = math.explain(&question).await.unwrap();
        assert_eq!(explained[0]["answer"], json!({"text": r"\frac12 + x", "found": "boxed", "parsed": ["1/2 + x"]}));
        assert_eq!(explained[0]["truth"]["parsed"], json!(["1/2 + x"]));
        assert_eq!(explained[2]["decided"], "no rule makes them equal");
        let verdicts = math.verify(&question).await;
        assert_eq!(verdicts, [Verdict::Correct, Verdict::Incorrect, Verdict::Incorrect]);
    }
}
