//! Gradient accumulation is exact: whatever the split into micro-batches, the step is the same.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{batch, group, sampled, setup};
use counterpoint_learner::objective::{Level, ObjectiveName, Reduction};
use counterpoint_learner::pack::{Limits, pack};
use counterpoint_learner::{Learner, LearnerConfig, ObjectiveConfig, OldLogprobs};
use counterpoint_policy::{Kind, Tensor};
use counterpoint_rollout::{Batch, Verdict};

/// Seven groups of four answers of unequal length, as if older weights had sampled them.
fn off_policy_batch() -> Batch {
    let learner = Learner::new(setup(Kind::Float, LearnerConfig::default(), ObjectiveConfig::default())).unwrap();
    let groups = (0u32..7).map(|g| {
        let prompt: Vec<u32> = (0..4 + g % 3).map(|t| 2 + (g * 5 + t * 3) % 14).collect();
        let answers = (0u32..4).map(|a| {
            let tokens: Vec<u32> = (0..1 + (g + 2 * a) % 5).map(|t| 2 + (g + a * 7 + t * 4) % 14).chain([1]).collect();
            let mut completion = sampled(&learner, &prompt, &tokens, 1.0);
            for (t, logprob) in completion.logprobs.iter_mut().enumerate() {
                *logprob += ((g * 7 + a * 3 + t as u32) as f32).sin() * 0.3;
            }
            (completion, if (g + a) % 3 == 0 { Verdict::Correct } else { Verdict::Incorrect })
        });
        group(u64::from(g), prompt.clone(), answers.collect())
    });
    batch(0, groups.collect())
}

/// The budget by which a learner cuts the batch into so many micro-batches.
fn budget(batch: &Batch, parts: usize) -> usize {
    let count = |micro_batch_tokens| {
        let limits = Limits { micro_batch_tokens, positions: 512, vocabulary: 18 };
        pack(batch, &limits).unwrap().micro_batches.len()
    };
    (1..400).find(|tokens| count(*tokens) == parts).unwrap_or_else(|| panic!("no budget gives {parts} micro-batches"))
}

/// The gradient (as AdamW's first memory of it, over 1 − β₁) and the weights after one step.
fn step(kind: Kind, batch: &Batch, objective: &ObjectiveConfig, learner: &LearnerConfig) -> (Tensor, Tensor) {
    let mut setup = setup(kind, learner.clone(), objective.clone());
    setup.reference = Some(setup.flat.copy() * 1.01);
    let mut learner = Learner::new(setup).unwrap();
    learner.train_step(batch).unwrap();
    (&learner.optimizer_state().first / 0.1, learner.flat().copy())
}

/// Every objective, every reduction and level that is its own code path, and what can be added to any.
fn settings() -> Vec<(ObjectiveConfig, LearnerConfig)> {
    use ObjectiveName::*;
    let named = |name| ObjectiveConfig { name, ..ObjectiveConfig::default() };
    let mut objectives: Vec<ObjectiveConfig> = [Nft, Rft, Grpo, DrGrpo, Dapo, Dpo, Contrast, Sft].map(named).into();
    objectives.push(ObjectiveConfig { level: Level::Sequence, ..named(Nft) });
    for reduction in [Reduction::SeqMean, Reduction::ConstLen] {
        objectives.push(ObjectiveConfig { reduction, max_len: Some(8), ..named(Grpo) });
    }
    objectives.push(ObjectiveConfig { kl_coef: 0.3, entropy_coef: 0.1, ..named(Nft) });
    let learner =
        LearnerConfig { learning_rate: 1e-3, adam_epsilon: 1e-5, max_grad_norm: 0.5, ..LearnerConfig::default() };
    let decoupled = LearnerConfig { old_logprobs: OldLogprobs::Decoupled, importance_cap: 1.2, ..learner.clone() };
    let mut all: Vec<_> = objectives.into_iter().map(|objective| (objective, learner.clone())).collect();
    all.push((named(DrGrpo), decoupled.clone()));
    all.push((named(Dpo), decoupled));
    all
}

fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

/// The largest difference of a gradient, over its largest entry, and of the weights, among splits.
fn differences(kind: Kind) -> Vec<(ObjectiveConfig, f64, f64)> {
    let batch = off_policy_batch();
    let budgets = [1, 2, 7].map(|parts| budget(&batch, parts));
    let of = |(objective, learner): (ObjectiveConfig, LearnerConfig)| {
        let [whole, two, seven] = budgets.map(|micro_batch_tokens| {
            step(
                kind,
                &batch,
                &objective,
                &LearnerConfig { micro_batch_tokens: Some(micro_batch_tokens), ..learner.clone() },
            )
        });
        let (mut gradient, mut weights) = (0.0f64, 0.0f64);
        for cut in [two, seven] {
            gradient = gradient.max(largest(&(&cut.0 - &whole.0)) / largest(&whole.0));
            weights = weights.max(largest(&(&cut.1 - &whole.1)));
        }
        (objective, gradient, weights)
    };
    settings().into_iter().map(of).collect()
}

#[test]
fn one_two_and_seven_micro_batches_take_the_same_step_in_float64() {
    for (objective, gradient, weights) in differences(Kind::Double) {
        assert!(gradient < 1e-12 && weights < 1e-10, "{objective:?}: gradient {gradient:e}, weights {weights:e}");
    }
}

/// AdamW's first step is lr · sign(g) wherever |g| is above ε: where a gradient is nothing but rounding, so is the step's sign.
/// Hence an ε above the rounding, which makes the step as smooth as the gradient.
#[test]
fn one_two_and_seven_micro_batches_take_the_same_step_in_float32() {
    for (objective, gradient, weights) in differences(Kind::Float) {
        assert!(gradient < 1e-6 && weights < 1e-6, "{objective:?}: gradient {gradient:e}, weights {weights:e}");
    }
}
