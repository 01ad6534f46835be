//! The kind `by_source`: which verifier judges is decided by where the prompt comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::part::{Part, Team, due, parts_shown};
use crate::{Home, Mode, Pace, Parts, Question, Verifier, VerifierError};

/// Options of the kind `by_source`: each data source has its verifier.
///
/// A prompt's source is its `data_source` column, or the name of its file where there is none. Prompts of a source that is
/// not listed go to `default`; without one they are void, with a reason that names the source.
///
/// ```toml
/// [verifier]
/// name = "mixed"
///
/// [verifier.define.mixed]
/// kind = "by_source"
/// sources = { "DigitalLearningGmbH/MATH-lighteval" = "math", trivia = "loose" }
/// default = "math"
///
/// [verifier.define.loose]
/// kind = "exact"
/// case = "insensitive"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BySourceOptions {
    /// The verifier (a kind, or an id of `[verifier.define.<id>]`) of each source, which is compared letter by letter.
    /// Several sources may name the same one, which they share. Default: none.
    pub sources: BTreeMap<String, String>,
    /// The verifier of every other source. Default: none.
    pub default: Option<String>,
}

/// The kind `by_source`; see [`BySourceOptions`].
pub struct BySource {
    /// Each verifier once.
    team: Team,
    /// Places in the team.
    sources: Arc<BTreeMap<String, usize>>,
    default: Option<usize>,
}

impl BySource {
    /// Builds the parts, each name once.
    ///
    /// # Errors
    /// If there is no part, and what is wrong with one.
    pub fn new(options: &BySourceOptions, parts: &Parts<'_>) -> Result<Self, VerifierError> {
        if options.sources.is_empty() && options.default.is_none() {
            let what =
                "sources: names no part; give each source its verifier, as in { gsm8k = \"math\" }, or a `default`";
            return Err(VerifierError::BadOption(what.into()));
        }
        let mut team: Vec<Arc<Part>> = Vec::new();
        let mut place = |name: &str, key: &str| match team.iter().position(|part| part.name() == name) {
            Some(place) => Ok(place),
            None => {
                team.push(Part::named(name, key, parts)?);
                Ok(team.len() - 1)
            }
        };
        let mut sources = BTreeMap::new();
        for (source, name) in &options.sources {
            sources.insert(source.clone(), place(name, &format!("sources.{source}"))?);
        }
        let default = options.default.as_deref().map(|name| place(name, "default")).transpose()?;
        Ok(Self { team: Team::of(team), sources: Arc::new(sources), default })
    }

    /// Who judges a prompt of this source.
    fn part(&self, source: &str) -> Option<&Part> {
        let place = self.sources.get(source).copied().or(self.default)?;
        self.team.parts().get(place).map(Arc::as_ref)
    }
}

/// The reason why a source's prompts are void.
fn nobody(source: &str) -> VoidReason {
    /// A file's name may be long, and the reason is written down with every verdict.
    const MOST: usize = 200;
    let shown: String = source.chars().take(MOST).collect();
    VoidReason::Verifier(format!("no verifier for the source {shown:?}; list it in `sources` or set a `default`"))
}

#[async_trait]
impl Verifier for BySource {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let source = &question.prompt.source;
        match self.part(source) {
            Some(part) => part.ask(question, due(question)).await,
            None => vec![Verdict::Void(nobody(source)); question.responses.len()],
        }
    }

    async fn start(&self, home: &Home) -> Result<(), VerifierError> {
        self.team.start(home).await
    }

    async fn stop(&self) {
        self.team.stop().await;
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let part = self.part(&question.prompt.source)?;
        let told = part.explain(question, due(question)).await;
        Some(told.into_iter().map(|(_, shown)| parts_shown(vec![shown])).collect())
    }

    async fn answers(&self, question: &Question) -> Option<Vec<Option<String>>> {
        self.part(&question.prompt.source)?.answers(question, due(question)).await
    }

    fn slowly(&self, pace: Pace) -> Option<Arc<dyn Verifier>> {
        let (sources, default) = (Arc::clone(&self.sources), self.default);
        Some(Arc::new(Self { team: self.team.slowly(pace)?, sources, default }))
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}
