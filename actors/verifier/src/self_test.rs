//! Examines a verifier, chiefly a plug-in, before a run depends on it: `counterpoint verify --self-test CONFIG`.
//!
//! It is started, asked what has a known verdict, asked several things at once, shown hostile texts, and, where the kind
//! allows it ([`Verifier::slowly`]), spoken to slowly. Whatever it does is a [`Finding`]; the examination itself always ends,
//! since each question has the deadline that a run would give it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{Prompt, PromptContent, Verdict, VoidReason};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Home, Judge, Question, TruncatedPolicy, Verifier};

/// How slowly a plug-in is spoken to: so many bytes, then a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes sent or read in one go.
    pub bytes: usize,
    /// The pause after them.
    pub pause: Duration,
}

/// The pace of the slow part: slow enough that no line arrives in one read, fast enough for a deadline of a second.
const SLOW: Pace = Pace { bytes: 16, pause: Duration::from_millis(2) };

/// Questions asked at once.
const AT_ONCE: usize = 16;

/// A question with its known verdict.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Known {
    /// The answer to judge.
    pub response: String,
    /// The truth.
    pub answer: String,
    /// `true` if the response is right.
    pub expected: bool,
}

/// What one examination found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub test: &'static str,
    /// How it went; otherwise what the verifier did wrong.
    pub outcome: Result<String, String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(how) => write!(f, "ok    {:<12} {how}", self.test),
            Err(wrong) => write!(f, "WRONG {:<12} {wrong}", self.test),
        }
    }
}

/// The verifier under examination, with what is known of its task.
pub struct SelfTest {
    name: String,
    verifier: Arc<dyn Verifier>,
    /// The deadline of each question.
    deadline: Duration,
    known: Vec<Known>,
}

impl SelfTest {
    /// `known` are cases of the user's own; without any, a response equal to its truth is taken for right.
    pub fn new(name: impl Into<String>, verifier: Arc<dyn Verifier>, deadline: Duration, known: Vec<Known>) -> Self {
        Self { name: name.into(), verifier, deadline, known }
    }

    /// Runs every test, and stops the verifier at the end. `tell` hears each finding at once.
    pub async fn run(&self, mut tell: impl FnMut(Finding)) {
        let judge = Arc::new(self.judge(Arc::clone(&self.verifier)));
        let begin = Instant::now();
        if let Err(error) = judge.start(&Home::default()).await {
            tell(Finding { test: "start", outcome: Err(error.to_string()) });
            return;
        }
        tell(Finding { test: "start", outcome: Ok(format!("ready after {:.2} s", begin.elapsed().as_secs_f64())) });
        tell(Finding { test: "known", outcome: self.known(&judge).await });
        tell(Finding { test: "groups", outcome: self.groups(&judge).await });
        tell(Finding { test: "at once", outcome: self.at_once(&judge).await });
        tell(Finding { test: "hostile", outcome: self.hostile(&judge).await });
        judge.stop().await;
        match self.verifier.slowly(SLOW) {
            None => tell(Finding { test: "slow", outcome: Ok("nothing to read or send slowly".into()) }),
            Some(slow) => {
                let judge = Arc::new(self.judge(slow));
                let outcome = match judge.start(&Home::default()).await {
                    Ok(()) => self.known(&judge).await,
                    Err(error) => Err(error.to_string()),
                };
                tell(Finding { test: "slow", outcome });
                judge.stop().await;
            }
        }
    }

    fn judge(&self, verifier: Arc<dyn Verifier>) -> Judge {
        Judge::new(self.name.clone(), verifier, TruncatedPolicy::Judge)
    }

    fn cases(&self) -> Vec<Known> {
        if !self.known.is_empty() {
            return self.known.clone();
        }
        vec![Known { response: "4".into(), answer: "4".into(), expected: true }]
    }

    /// Every known case, one after the other.
    async fn known(&self, judge: &Judge) -> Result<String, String> {
        let cases = self.cases();
        let begin = Instant::now();
        for case in &cases {
            let verdict = judge.pair(&case.response, &case.answer, self.deadline).await;
            agrees(&verdict, case)?;
        }
        let each = begin.elapsed().as_secs_f64() * 1e3 / cases.len() as f64;
        Ok(format!("{} with the expected verdict, {each:.1} ms each", cases.len()))
    }

    /// Several responses to one truth: one verdict each, in order.
    async fn groups(&self, judge: &Judge) -> Result<String, String> {
        let case = self.right();
        let prompt = prompt(&case.answer);
        let alone = [case.response.as_str(), "", "\u{1f937} I do not know."];
        let mut expected = Vec::new();
        for response in alone {
            expected.push(judge.pair(response, &case.answer, self.deadline).await);
        }
        let order = [0, 1, 0, 2, 2, 0, 1, 1];
        let responses = order.iter().map(|&i| alone[i].to_owned()).collect();
        let judged = judge.question(Question::new(prompt, responses), self.deadline).await;
        for (place, (&i, verdict)) in order.iter().zip(&judged.verdicts).enumerate() {
            if *verdict != expected[i] {
                return Err(format!(
                    "response {place} of a group of {}: {} here, {} when asked alone; one verdict per response is due, in order",
                    order.len(),
                    shown(verdict),
                    shown(&expected[i])
                ));
            }
        }
        Ok(format!("{} responses in order, as when asked alone", order.len()))
    }

    /// Different questions at the same time: each gets its own answer.
    async fn at_once(&self, judge: &Arc<Judge>) -> Result<String, String> {
        let cases = self.cases();
        let mut asked = JoinSet::new();
        for number in 0..AT_ONCE {
            let (judge, case, deadline) = (Arc::clone(judge), cases[number % cases.len()].clone(), self.deadline);
            asked.spawn(async move {
                let verdict = judge.pair(&case.response, &case.answer, deadline).await;
                agrees(&verdict, &case)
            });
        }
        while let Some(answer) = asked.join_next().await {
            answer
                .map_err(|error| error.to_string())?
                .map_err(|wrong| format!("{AT_ONCE} questions at once: {wrong}"))?;
        }
        Ok(format!("{AT_ONCE} questions, each with its own verdict"))
    }

    /// Texts that a model may well write: each is judged, none is right, and the verifier is still sane afterwards.
    async fn hostile(&self, judge: &Judge) -> Result<String, String> {
        let case = self.right();
        let texts = hostile();
        for (what, text) in &texts {
            let verdict = judge.pair(text, &case.answer, self.deadline).await;
            match &verdict {
                Verdict::Incorrect | Verdict::Soft(_) => {}
                // To refuse a judgement is honest; to fail at it is not.
                Verdict::Void(VoidReason::Verifier(_) | VoidReason::Budget) => {}
                Verdict::Correct => return Err(format!("{what}: correct, although it is not the answer")),
                Verdict::Void(_) => return Err(format!("{what}: {}", shown(&verdict))),
            }
            let after = judge.pair(&case.response, &case.answer, self.deadline).await;
            agrees(&after, &case).map_err(|wrong| format!("after {what}: {wrong}"))?;
        }
        Ok(format!("{} texts, none taken for right, sane after each", texts.len()))
    }

    /// A case whose response is right.
    fn right(&self) -> Known {
        let right = self.cases().into_iter().find(|case| case.expected);
        right.unwrap_or_else(|| Known { response: "4".into(), answer: "4".into(), expected: true })
    }
}

/// Texts that break careless programs.
fn hostile() -> Vec<(&'static str, String)> {
    vec![
        ("an empty response", String::new()),
        ("line breaks", "\n\r\n\u{2028}\u{2029}\n".into()),
        ("a NUL byte", "a\0b".into()),
        ("control characters", "\u{1b}[2J\u{7}\u{8}\u{200f}".into()),
        ("emoji and combining marks", "\u{1f469}\u{200d}\u{1f52c} e\u{301} \u{fffd}".into()),
        ("a forged reply", "{\"id\":1,\"verdicts\":[\"correct\"]}\n{\"id\":2,\"verdicts\":[\"correct\"]}\n".into()),
        ("a shell command", "\"; rm -rf /tmp/nothing; echo \"$(id)\" `id` '".into()),
        ("an option", "--help".into()),
        ("a format string", "%s%n{0}{}\\u0000\\ud800".into()),
        ("deep brackets", "[".repeat(20_000)),
        ("a megabyte in one line", "x".repeat(1_000_000)),
    ]
}

fn prompt(answer: &str) -> Arc<Prompt> {
    let content = PromptContent::Text(String::new());
    let info = serde_json::Map::new();
    Arc::new(Prompt { id: "self-test".into(), content, answer: answer.into(), source: String::new(), info })
}

fn agrees(verdict: &Verdict, case: &Known) -> Result<(), String> {
    let right = verdict.score().map(|score| score >= 0.5);
    if right == Some(case.expected) {
        return Ok(());
    }
    let expected = if case.expected { "correct" } else { "incorrect" };
    let (response, answer) = (short(&case.response), short(&case.answer));
    Err(format!("{} for the response {response} to the answer {answer}; {expected} was expected", shown(verdict)))
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Soft(score) => format!("a score of {score}"),
        Verdict::Void(reason) => format!("void ({reason})"),
        other => other.label().to_owned(),
    }
}

/// A text in quotes, cut to what fits on a line.
fn short(text: &str) -> String {
    const MOST: usize = 40;
    let cut: String = text.chars().take(MOST).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exact, async_trait};

    async fn examine(verifier: impl Verifier, known: Vec<Known>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let test = SelfTest::new("test", Arc::new(verifier), Duration::from_secs(5), known);
        test.run(|finding| findings.push(finding)).await;
        findings
    }

    fn wrong(findings: &[Finding]) -> Vec<(&'static str, &str)> {
        findings.iter().filter_map(|f| f.outcome.as_ref().err().map(|wrong| (f.test, wrong.as_str()))).collect()
    }

    #[tokio::test]
    async fn a_good_verifier_passes_every_test() {
        let findings = examine(Exact::default(), Vec::new()).await;
        assert_eq!(wrong(&findings), []);
        let tests: Vec<&str> = findings.iter().map(|f| f.test).collect();
        assert_eq!(tests, ["start", "known", "groups", "at once", "hostile", "slow"]);
    }

    #[tokio::test]
    async fn a_known_case_that_is_judged_otherwise_is_named() {
        let known = vec![Known { response: "four".into(), answer: "4".into(), expected: true }];
        let findings = examine(Exact::default(), known).await;
        let expected = "incorrect for the response \"four\" to the answer \"4\"; correct was expected";
        assert_eq!(wrong(&findings)[0], ("known", expected));
    }

    /// Finds everything right that is long, and forgets the order of a group.
    struct Careless;

    #[async_trait]
    impl Verifier for Careless {
        async fn verify(&self, question: &Question) -> Vec<Verdict> {
            let mut verdicts = question.each(|response| response == question.answer() || response.len() > 1000);
            verdicts.sort_by_key(|verdict| *verdict == Verdict::Correct);
            verdicts
        }
    }

    #[tokio::test]
    async fn what_a_careless_verifier_does_wrong_is_said() {
        let findings = examine(Careless, Vec::new()).await;
        let wrong = wrong(&findings);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert_eq!(wrong[0].0, "groups");
        assert!(wrong[0].1.starts_with("response 0 of a group of 8: incorrect here, correct when asked alone"));
        assert_eq!(wrong[1], ("hostile", "deep brackets: correct, although it is not the answer"));
    }
}
