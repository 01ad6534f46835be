//! The kind `first`: the parts in order, each asked only about what those before it could not judge.

use std::sync::Arc;

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::part::{Part, Team, due, parts_shown};
use crate::{Home, Mode, Pace, Parts, Question, Verifier, VerifierError};

/// Options of the kind `first`: the first part that has a verdict other than void decides.
///
/// Later parts see only the answers that are still void: a second verifier for when the first is out of service. Each part
/// may use an equal share of the time that is left, so that one that hangs leaves time for the next. What no part can judge
/// is void, with the reason of the last.
///
/// ```toml
/// [verifier]
/// name = "with_reserve"
///
/// [verifier.define.with_reserve]
/// kind = "first"
/// of = ["math", "exact"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FirstOptions {
    /// The parts, in order: kinds, or ids of `[verifier.define.<id>]`; each once. Required.
    pub of: Vec<String>,
}

/// The kind `first`; see [`FirstOptions`].
pub struct First(Team);

impl First {
    /// Builds the parts.
    ///
    /// # Errors
    /// An empty list, a name that is there twice, and what is wrong with a part.
    pub fn new(options: &FirstOptions, parts: &Parts<'_>) -> Result<Self, VerifierError> {
        Team::named(&options.of, "of", parts).map(Self)
    }

    /// Each part with the time until which it may be asked; `due` is for the last.
    fn turns(&self, due: Instant) -> impl Iterator<Item = (&Arc<Part>, impl Fn() -> Instant)> {
        let parts = self.0.parts();
        parts.iter().enumerate().map(move |(place, part)| {
            let to_come = u32::try_from(parts.len() - place).unwrap_or(u32::MAX);
            // When its turn comes, not before: a part that was quick leaves its time to the others.
            let until = move || {
                let now = Instant::now();
                now + due.saturating_duration_since(now) / to_come
            };
            (part, until)
        })
    }
}

/// The places of the responses that have no verdict yet, and a question about these alone.
fn open(question: &Question, verdicts: &[Verdict]) -> (Vec<usize>, Question) {
    let places: Vec<usize> = (0..verdicts.len()).filter(|&place| matches!(verdicts[place], Verdict::Void(_))).collect();
    let responses = places.iter().map(|&place| question.responses[place].clone()).collect();
    (places, Question { responses, ..question.clone() })
}

/// Nobody was asked yet.
fn unasked(question: &Question) -> Vec<Verdict> {
    vec![Verdict::Void(VoidReason::Unavailable); question.responses.len()]
}

#[async_trait]
impl Verifier for First {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let mut verdicts = unasked(question);
        for (part, until) in self.turns(due(question)) {
            let (places, asked) = open(question, &verdicts);
            if places.is_empty() {
                break;
            }
            for (place, verdict) in places.into_iter().zip(part.ask(&asked, until()).await) {
                verdicts[place] = verdict;
            }
        }
        verdicts
    }

    async fn start(&self, home: &Home) -> Result<(), VerifierError> {
        self.0.start(home).await
    }

    async fn stop(&self) {
        self.0.stop().await;
    }

    /// Shows only the parts that were asked about a response.
    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let mut verdicts = unasked(question);
        let mut told: Vec<Vec<Value>> = vec![Vec::new(); verdicts.len()];
        for (part, until) in self.turns(due(question)) {
            let (places, asked) = open(question, &verdicts);
            if places.is_empty() {
                break;
            }
            for (place, (verdict, shown)) in places.into_iter().zip(part.explain(&asked, until()).await) {
                verdicts[place] = verdict;
                told[place].push(shown);
            }
        }
        Some(told.into_iter().map(parts_shown).collect())
    }

    fn slowly(&self, pace: Pace) -> Option<Arc<dyn Verifier>> {
        Some(Arc::new(Self(self.0.slowly(pace)?)))
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}
