//! Optimiser steps on a tiny model: what the loss is, what a step moves, and what never changes it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{batch, group, plain_logprobs, sampled, setup};
use counterpoint_learner::objective::{ObjectiveName, Weight};
use counterpoint_learner::{Learner, LearnerConfig, LearnerError, ObjectiveConfig};
use counterpoint_policy::{Kind, Tensor};
use counterpoint_rollout::{Batch, PolicyVersion, Verdict};

/// "20+67=" and two more prompts, with answers that end in `<eos>`; some right, some wrong.
const PROMPTS: [&[u32]; 3] = [&[4, 2, 12, 8, 9, 15], &[3, 2, 14, 7, 15], &[10, 4, 13, 4, 10, 15]];
const RIGHT: [&[u32]; 3] = [&[10, 9, 1], &[7, 2, 1], &[7, 6, 1]];
const WRONG: [&[u32]; 3] = [&[10, 8, 1], &[7, 7, 2, 1], &[1]];

fn config() -> LearnerConfig {
    LearnerConfig { learning_rate: 1e-3, ..LearnerConfig::default() }
}

/// One group per prompt: the right answer and two copies of the wrong one, as `learner` would sample them.
fn on_policy(learner: &Learner, temperature: f64) -> Batch {
    let groups = (0..3).map(|i| {
        let answer = |tokens: &[u32]| sampled(learner, PROMPTS[i], tokens, temperature);
        let wrong = || (answer(WRONG[i]), Verdict::Incorrect);
        group(i as u64, PROMPTS[i].to_vec(), vec![wrong(), (answer(RIGHT[i]), Verdict::Correct), wrong()])
    });
    batch(learner.version().0, groups.collect())
}

/// The same groups as if older weights had sampled them.
fn off_policy(learner: &Learner) -> Batch {
    let mut batch = on_policy(learner, 1.0);
    for (g, scored) in batch.groups.iter_mut().enumerate() {
        let mut group = (*scored.group).clone();
        for (a, completion) in group.completions.iter_mut().enumerate() {
            for (t, logprob) in completion.logprobs.iter_mut().enumerate() {
                *logprob += ((g * 7 + a * 3 + t) as f32).sin() * 0.3;
            }
        }
        *scored = common::group(
            g as u64,
            group.prompt_tokens,
            group.completions.into_iter().zip(scored.verdicts.clone()).collect(),
        );
    }
    batch
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn an_on_policy_step_has_ratio_one_and_loss_zero_at_any_temperature() {
    for temperature in [1.0, 0.7] {
        let mut learner = Learner::new(common::setup(Kind::Float, config(), ObjectiveConfig::default())).unwrap();
        let mut setup = setup(Kind::Float, config(), ObjectiveConfig::default());
        setup.temperature = temperature;
        let report = {
            let batch = on_policy(&learner, temperature);
            learner = Learner::new(setup).unwrap();
            learner.train_step(&batch).unwrap()
        };
        // Packed and plain passes add in another order: a few float32 roundings of a log-prob near 10.
        assert!(report.loss.abs() < 1e-5, "{report:?}");
        assert!((report.ratio_mean - 1.0).abs() < 1e-4 && report.log_ratio_max < 1e-4, "{report:?}");
        assert!((report.effective_sample_size - 1.0).abs() < 1e-6, "{report:?}");
        assert!(report.grad_norm > 1e-3 && report.entropy > 0.0, "{report:?}");
        assert_eq!((report.tokens, report.answers, report.groups), (25, 9, 3));
        assert_eq!(report.mismatch_tokens, 25);
        assert!(report.mismatch_max < 1e-4 && report.mismatch_mean <= report.mismatch_max);
        assert!((report.rate_mean - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(learner.version(), PolicyVersion(1));
    }
}

const EVERY_OBJECTIVE: [ObjectiveName; 7] = [
    ObjectiveName::Nft,
    ObjectiveName::Rft,
    ObjectiveName::Grpo,
    ObjectiveName::DrGrpo,
    ObjectiveName::Dapo,
    ObjectiveName::Dpo,
    ObjectiveName::Contrast,
];

#[test]
fn micro_batches_change_nothing_but_memory() {
    for name in EVERY_OBJECTIVE {
        micro_batches_change_nothing(ObjectiveConfig { name, ..ObjectiveConfig::default() });
    }
}

fn micro_batches_change_nothing(objective: ObjectiveConfig) {
    let run = |micro_batch_tokens: usize| {
        let config = LearnerConfig { micro_batch_tokens: Some(micro_batch_tokens), ..config() };
        let mut learner = Learner::new(setup(Kind::Double, config, objective.clone())).unwrap();
        let batch = off_policy(&learner);
        let limits = counterpoint_learner::pack::Limits { micro_batch_tokens, positions: 512, vocabulary: 18 };
        let parts = counterpoint_learner::pack::pack(&batch, &limits).unwrap().micro_batches.len();
        let report = learner.train_step(&batch).unwrap();
        (parts, report, learner.flat().copy())
    };
    let (one, whole, weights) = run(1000);
    assert_eq!(one, 1);
    for (tokens, parts) in [(26, 2), (8, 7)] {
        let (count, report, cut) = run(tokens);
        assert_eq!(count, parts, "micro-batches of {tokens} tokens");
        assert!(distance(&weights, &cut) < 1e-9, "{parts} micro-batches, {objective:?}");
        for (a, b) in [
            (report.loss, whole.loss),
            (report.grad_norm, whole.grad_norm),
            (report.loss_positive, whole.loss_positive),
            (report.loss_negative, whole.loss_negative),
            (report.clipped_share, whole.clipped_share),
            (report.entropy, whole.entropy),
            (report.log_ratio_max, whole.log_ratio_max),
            (report.effective_sample_size, whole.effective_sample_size),
        ] {
            assert!((a - b).abs() < 1e-10, "{a} is not {b} with {parts} micro-batches");
        }
    }
}

/// The naive contrast is the one that may lose right answers: nothing bounds its push against wrong ones, and what they share
/// with right ones falls too.
#[test]
fn every_objective_parts_right_from_wrong_answers_and_all_but_the_contrast_raise_right_ones() {
    for name in EVERY_OBJECTIVE {
        let objective = ObjectiveConfig { name, ..ObjectiveConfig::default() };
        let mut learner = Learner::new(setup(Kind::Float, config(), objective)).unwrap();
        let logp = |learner: &Learner, answers: [&[u32]; 3]| -> f64 {
            (0..3).flat_map(|i| plain_logprobs(learner, PROMPTS[i], answers[i], 1.0)).sum()
        };
        let (right, wrong) = (logp(&learner, RIGHT), logp(&learner, WRONG));
        for _ in 0..8 {
            let batch = on_policy(&learner, 1.0);
            learner.train_step(&batch).unwrap();
        }
        let (right, wrong) = (logp(&learner, RIGHT) - right, logp(&learner, WRONG) - wrong);
        assert!(right > wrong + 1.0, "{name:?}: right {right:+}, wrong {wrong:+}");
        assert!(right > 1.0 || name == ObjectiveName::Contrast, "{name:?}: right {right:+}");
    }
}

#[test]
fn steps_raise_right_answers_and_nft_alone_lowers_wrong_ones_by_their_loss() {
    let gradient_on_wrong = |objective: ObjectiveConfig| {
        let mut learner = Learner::new(setup(Kind::Float, config(), objective)).unwrap();
        let logp = |learner: &Learner, answers: [&[u32]; 3]| -> f64 {
            (0..3).flat_map(|i| plain_logprobs(learner, PROMPTS[i], answers[i], 1.0)).sum()
        };
        let before = (logp(&learner, RIGHT), logp(&learner, WRONG));
        let mut negative = 0.0f64;
        for _ in 0..8 {
            let batch = on_policy(&learner, 1.0);
            let report = learner.train_step(&batch).unwrap();
            negative = negative.max(report.loss_negative.abs());
        }
        let after = (logp(&learner, RIGHT), logp(&learner, WRONG));
        assert!(after.0 > before.0 + 1.0, "right answers: {before:?} to {after:?}");
        (after.1 - before.1, negative)
    };
    let (nft, _) = gradient_on_wrong(ObjectiveConfig::default());
    assert!(nft < -1.0, "wrong answers fall: {nft}");
    let rft = ObjectiveConfig { name: ObjectiveName::Rft, weight: Weight::One, ..ObjectiveConfig::default() };
    let (of_rft, negative) = gradient_on_wrong(rft);
    assert_eq!(negative, 0.0, "RFT's loss does not see wrong answers");
    assert!(nft < of_rft, "NFT pushes wrong answers down further ({nft}) than RFT does by the way ({of_rft})");
}

/// The wrong answers of a batch are no part of RFT's gradient: exchanging them changes nothing.
#[test]
fn rft_takes_the_same_step_whatever_the_wrong_answers_were() {
    let step = |wrong: &[u32]| {
        // `sum1000`: under a token mean the number of wrong tokens counts in the normaliser.
        let rft = ObjectiveConfig {
            name: ObjectiveName::Rft,
            reduction: counterpoint_learner::objective::Reduction::Sum1000,
            ..ObjectiveConfig::default()
        };
        let mut learner = Learner::new(setup(Kind::Double, config(), rft)).unwrap();
        let answer = |tokens: &[u32]| sampled(&learner, PROMPTS[0], tokens, 1.0);
        let answers = vec![(answer(RIGHT[0]), Verdict::Correct), (answer(wrong), Verdict::Incorrect)];
        let batch = batch(0, vec![group(0, PROMPTS[0].to_vec(), answers)]);
        learner.train_step(&batch).unwrap();
        learner.flat().copy()
    };
    assert!(distance(&step(&[5, 1]), &step(&[2, 2, 2, 2, 1])) < 1e-9);
}

#[test]
fn mismatch_is_measured_only_where_the_weights_were_the_learners() {
    let mut learner = Learner::new(setup(Kind::Float, config(), ObjectiveConfig::default())).unwrap();
    let first = on_policy(&learner, 1.0);
    learner.train_step(&first).unwrap();
    let stale = Batch { version: PolicyVersion(1), groups: first.groups };
    let report = learner.train_step(&stale).unwrap();
    assert_eq!((report.mismatch_tokens, report.mismatch_mean, report.mismatch_max), (0, 0.0, 0.0));
    assert_eq!((report.staleness_max, report.staleness_mean), (1, 1.0));
    assert!(report.log_ratio_max > 1e-3, "the policy has moved");
}

#[test]
fn a_step_that_is_not_finite_names_its_groups_and_changes_nothing() {
    let mut learner = Learner::new(setup(Kind::Float, config(), ObjectiveConfig::default())).unwrap();
    let before = learner.flat().copy();
    let mut answer = sampled(&learner, PROMPTS[0], RIGHT[0], 1.0);
    answer.logprobs[1] = f32::NAN;
    let wrong = sampled(&learner, PROMPTS[0], WRONG[0], 1.0);
    let poisoned = group(41, PROMPTS[0].to_vec(), vec![(answer, Verdict::Correct), (wrong, Verdict::Incorrect)]);
    let error = learner.train_step(&batch(0, vec![poisoned])).unwrap_err().to_string();
    assert_eq!(error, "the step from v0 was not taken: its loss is NaN (groups g41); the weights are unchanged");
    assert_eq!(distance(&before, learner.flat()), 0.0);
    let good = on_policy(&learner, 1.0);
    assert!(learner.train_step(&good).unwrap().loss.is_finite(), "and the next step is sound");
}

#[test]
fn a_batch_for_other_weights_is_refused_and_a_stop_between_micro_batches_leaves_the_weights() {
    let mut learner = Learner::new(setup(Kind::Float, config(), ObjectiveConfig::default())).unwrap();
    let mut later = on_policy(&learner, 1.0);
    later.version = PolicyVersion(3);
    assert!(matches!(learner.train_step(&later), Err(LearnerError::Version { .. })));
    let before = learner.flat().copy();
    let now = on_policy(&learner, 1.0);
    assert!(matches!(learner.train_step_unless(&now, &mut || true), Err(LearnerError::Stopped(PolicyVersion(0)))));
    assert_eq!(distance(&before, learner.flat()), 0.0);
}

#[test]
fn two_runs_are_equal_bit_for_bit() {
    let run = || {
        let mut learner = Learner::new(setup(Kind::Float, config(), ObjectiveConfig::default())).unwrap();
        for _ in 0..3 {
            let batch = on_policy(&learner, 1.0);
            learner.train_step(&batch).unwrap();
        }
        learner.flat().copy()
    };
    assert_eq!(distance(&run(), &run()), 0.0);
}
