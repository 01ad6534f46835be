//! What a world is made of.

use std::sync::Arc;
use std::time::Duration;

use counterpoint_replay::core::CoreConfig;
use counterpoint_replay::{FeedConfig, OnStraggler, OnVoid, ReplayConfig};
use counterpoint_rollout::{Prompt, PromptContent, ScoredGroup};

/// One may be void, and the others still differ.
const ANSWERS: u32 = 3;

/// One world.
#[derive(Clone, Debug)]
pub struct Spec {
    pub batch: u32,
    pub staleness: u32,
    /// Weights are published every so many steps.
    pub publish: u64,
    pub prompts: usize,
    pub epochs: Option<u32>,
    pub max_steps: u64,
    /// One generator per window.
    pub windows: Vec<usize>,
    pub credits: usize,
    pub straggler: OnStraggler,
    pub max_in_flight: Option<u64>,
    pub max_attempts: u32,
    pub unmixed_percent: u64,
    pub void_percent: u64,
    pub on_void: OnVoid,
    /// How many faults there may be.
    pub faults: u32,
    /// Decides verdicts.
    pub outcome_seed: u64,
    /// Decides the order of events.
    pub order_seed: u64,
}

impl Spec {
    pub(super) fn config(&self) -> CoreConfig {
        CoreConfig {
            feed: FeedConfig {
                prompts_per_step: self.batch,
                answers_per_prompt: ANSWERS,
                epochs: self.epochs,
                shuffle: true,
                max_attempts: self.max_attempts,
            },
            replay: ReplayConfig {
                max_staleness: self.staleness,
                on_straggler: self.straggler,
                max_in_flight: self.max_in_flight,
                // So long that a wait for it is told from every other.
                lease_deadline_seconds: 1e6,
                max_void_share: 1.0,
                on_void: self.on_void,
                ..ReplayConfig::default()
            },
            verify_deadline: Duration::from_secs(60),
            seed: 7,
            max_steps: self.max_steps,
        }
    }

    /// Whether a judged group is trained.
    pub(super) fn teaches(&self, scored: &ScoredGroup) -> bool {
        scored.mixed() && (self.on_void == OnVoid::RateRest || !scored.any_void())
    }

    pub(super) fn data(&self) -> Vec<Arc<Prompt>> {
        let prompt = |i: usize| Prompt {
            id: format!("p{i}"),
            content: PromptContent::Text(format!("{i}?")),
            answer: i.to_string(),
            source: String::new(),
            info: Default::default(),
        };
        (0..self.prompts).map(|i| Arc::new(prompt(i))).collect()
    }
}
