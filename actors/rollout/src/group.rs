use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{GeneratorId, Prompt, Verdict};

/// The count of optimiser steps that made a set of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyVersion(pub u64);

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// The serial number under which a group was issued; never used twice in a run, resumes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u64);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// The right to sample one group. Nothing is sampled without one, and they all come from admission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The group that this lease creates.
    pub group: GroupId,
    /// What to answer.
    pub prompt: Arc<Prompt>,
    /// Which pass over the data this is, from 0; part of the noise key, so epochs differ.
    pub epoch: u32,
    /// How often this prompt was issued before in this epoch and given back; part of the noise key.
    pub attempt: u32,
    /// K, the number of answers to sample.
    pub answers: u32,
    /// N, the number of groups issued and not dropped when this one was issued.
    pub position: u64,
    /// Sampling must not start with weights older than this.
    pub min_version: PolicyVersion,
    /// How long the group may take from its issue until it is generated; the replay actor owns this wait.
    pub deadline: Duration,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model sampled an end-of-sequence token, or completed a stop string; that token is the answer's last, and is
    /// trained.
    Stop,
    /// The token limit was reached first: the answer is truncated.
    Length,
}

impl FinishReason {
    /// The label under which metrics count it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// `tokens` consecutive tokens sampled with the weights of `version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSpan {
    /// The weights that sampled these tokens.
    pub version: PolicyVersion,
    /// How many tokens.
    pub tokens: u32,
}

/// One sampled answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The sampled token ids, the end-of-sequence token included where there is one.
    pub tokens: Vec<u32>,
    /// Natural-log probability of each token under the distribution it was really sampled from: temperature and filters
    /// applied, renormalised. At temperature 0 that of temperature 1 after the repetition penalty.
    pub logprobs: Vec<f32>,
    /// Which weights sampled which token, run-length coded, in order; the lengths add up to `tokens.len()`.
    pub versions: Vec<VersionSpan>,
    /// Why it ended.
    pub finish: FinishReason,
    /// The tokens decoded, special tokens left out, up to the stop string that ended it: what a verifier judges.
    pub text: String,
}

impl Completion {
    /// Appends one sampled token.
    pub fn push(&mut self, token: u32, logprob: f32, version: PolicyVersion) {
        self.tokens.push(token);
        self.logprobs.push(logprob);
        match self.versions.last_mut() {
            Some(span) if span.version == version => span.tokens += 1,
            _ => self.versions.push(VersionSpan { version, tokens: 1 }),
        }
    }

    /// Whether the token limit cut the answer off.
    pub fn truncated(&self) -> bool {
        self.finish == FinishReason::Length
    }
}

/// The K completions of one prompt: the unit of leasing, verifying, buffering, filtering, versioning and dropping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The lease under which it was sampled.
    pub lease: Lease,
    /// The prompt as the model saw it.
    pub prompt_tokens: Vec<u32>,
    /// K answers, in sample order.
    pub completions: Vec<Completion>,
    /// The weights that sampled the group's first token.
    pub start_version: PolicyVersion,
    /// Who sampled it.
    pub generator: GeneratorId,
}

impl Group {
    /// The group's serial number.
    pub fn id(&self) -> GroupId {
        self.lease.group
    }

    /// Sampled answer tokens, all completions together.
    pub fn answer_tokens(&self) -> u64 {
        self.completions.iter().map(|c| c.tokens.len() as u64).sum()
    }
}

/// A group with one verdict per completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredGroup {
    /// What was judged.
    pub group: Arc<Group>,
    /// One per completion, in order.
    pub verdicts: Vec<Verdict>,
}

impl ScoredGroup {
    /// The answers that were judged, with their scores.
    pub fn judged(&self) -> impl Iterator<Item = (&Completion, f32)> {
        let scored = self.group.completions.iter().zip(&self.verdicts);
        scored.filter_map(|(completion, verdict)| verdict.score().map(|score| (completion, score)))
    }

    /// Whether any verdict is void.
    pub fn any_void(&self) -> bool {
        self.verdicts.iter().any(|v| v.score().is_none())
    }

    /// r̂, the mean score over all answers whose verdict is not void; `None` if there are none.
    pub fn rate(&self) -> Option<f32> {
        let scores: Vec<f32> = self.verdicts.iter().filter_map(Verdict::score).collect();
        if scores.is_empty() { None } else { Some(scores.iter().sum::<f32>() / scores.len() as f32) }
    }

    /// Whether the scores differ, void ones left out. Only mixed groups teach.
    pub fn mixed(&self) -> bool {
        let mut scores = self.verdicts.iter().filter_map(Verdict::score);
        let first = scores.next();
        scores.any(|s| Some(s) != first)
    }
}

/// The mixed groups of one optimiser step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The weights that the step starts from: the batch makes version + 1.
    pub version: PolicyVersion,
    /// B groups, oldest start version first, ties by group number; fewer only in the last batch of the data.
    pub groups: Vec<Arc<ScoredGroup>>,
}

impl Batch {
    /// Optimiser steps between the start of each group and the step that trains it.
    pub fn staleness(&self) -> impl Iterator<Item = u64> + '_ {
        self.groups.iter().map(|g| self.version.0.saturating_sub(g.group.start_version.0))
    }
}
