//! What stands beside the objective on a real model: the decoupled π_old, the reference model, the entropy bonus.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{batch, group, sampled, setup};
use counterpoint_learner::objective::ObjectiveName;
use counterpoint_learner::{Learner, LearnerConfig, LearnerError, ObjectiveConfig, OldLogprobs};
use counterpoint_policy::{Kind, Tensor};
use counterpoint_rollout::contract::StepReport;
use counterpoint_rollout::{Batch, Verdict};

const PROMPT: &[u32] = &[4, 2, 12, 8, 9, 15];

/// Right and wrong answers; `shift` is added to what the sampler recorded.
fn work(learner: &Learner, shift: f32) -> Batch {
    let answer = |tokens: &[u32], verdict| {
        let mut completion = sampled(learner, PROMPT, tokens, 1.0);
        completion.logprobs.iter_mut().for_each(|logprob| *logprob += shift);
        (completion, verdict)
    };
    let answers = vec![
        answer(&[10, 9, 1], Verdict::Correct),
        answer(&[10, 8, 1], Verdict::Incorrect),
        answer(&[7, 2, 1], Verdict::Incorrect),
    ];
    batch(learner.version().0, vec![group(0, PROMPT.to_vec(), answers)])
}

fn learner(config: LearnerConfig, objective: ObjectiveConfig) -> Learner {
    let mut setup = setup(Kind::Double, config, objective);
    setup.reference = Some(setup.flat.copy());
    Learner::new(setup).unwrap()
}

fn config(old_logprobs: OldLogprobs, importance_cap: f64) -> LearnerConfig {
    LearnerConfig { learning_rate: 1e-3, max_grad_norm: 1e9, old_logprobs, importance_cap, ..LearnerConfig::default() }
}

/// One step on a batch recorded `shift` off; the gradient and the report.
fn step(config: LearnerConfig, objective: ObjectiveConfig, shift: f32) -> (Tensor, StepReport) {
    let mut learner = learner(config, objective);
    let batch = work(&learner, shift);
    let report = learner.train_step(&batch).unwrap();
    (&learner.optimizer_state().first / 0.1, report)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}

/// Every token was recorded as e times less likely, so each importance weight is e, or the cap.
#[test]
fn a_decoupled_gradient_is_the_on_policy_one_times_the_importance_weight_whatever_the_objective() {
    for name in [ObjectiveName::Nft, ObjectiveName::Grpo, ObjectiveName::Dapo, ObjectiveName::Dpo] {
        let objective = ObjectiveConfig { name, ..ObjectiveConfig::default() };
        let (on_policy, plain) = step(config(OldLogprobs::Behaviour, 5.0), objective.clone(), 0.0);
        for (cap, weight, capped) in [(5.0, std::f64::consts::E, 0.0), (2.0, 2.0, 1.0)] {
            let (got, report) = step(config(OldLogprobs::Decoupled, cap), objective.clone(), -1.0);
            // Recorded log-probs are float32.
            assert!(distance(&got, &(&on_policy * weight)) < 1e-5, "{name:?}, cap {cap}");
            assert!((report.importance_mean - weight).abs() < 1e-5 && report.importance_capped_share == capped);
            assert!((report.ratio_mean - std::f64::consts::E).abs() < 1e-5, "the ratio shown is to who sampled");
        }
        assert_eq!((plain.importance_mean, plain.importance_capped_share), (1.0, 0.0));
    }
    // Coupled, GRPO's clip cuts the right answer's gradient at R = e.
    let grpo = ObjectiveConfig { name: ObjectiveName::Grpo, ..ObjectiveConfig::default() };
    let (_, report) = step(config(OldLogprobs::Behaviour, 5.0), grpo, -1.0);
    assert_eq!((report.clipped_share_right, report.clipped_share), (1.0, 0.0));
    for quantiles in [report.ratio_right, report.ratio_wrong] {
        assert!(
            (quantiles.p01 - std::f64::consts::E).abs() < 1e-5 && (quantiles.p99 - std::f64::consts::E).abs() < 1e-5
        );
    }
}

#[test]
fn a_reference_holds_the_policy_back_and_costs_nothing_where_both_are_equal() {
    let run = |kl_coef: f64| {
        let objective = ObjectiveConfig { kl_coef, ..ObjectiveConfig::default() };
        let mut learner = learner(config(OldLogprobs::Behaviour, 5.0), objective);
        let first = work(&learner, 0.0);
        let start = learner.train_step(&first).unwrap();
        let gradient = learner.optimizer_state().first.copy();
        let steps = (0..10).map(|_| {
            let batch = work(&learner, 0.0);
            learner.train_step(&batch).unwrap()
        });
        (gradient, start, steps.last().unwrap())
    };
    let (free, _, without) = run(0.0);
    let (held, start, with) = run(50.0);
    assert!(distance(&held, &free) < 1e-9, "at the reference the penalty has no gradient");
    assert!(start.kl.abs() < 1e-12, "{start:?}");
    assert_eq!(without.kl, 0.0, "not computed");
    let (_, _, weakly) = run(1e-6);
    assert!(with.kl > 0.0 && with.kl < 0.3 * weakly.kl, "{} against {}", with.kl, weakly.kl);
}

#[test]
fn a_penalty_without_a_reference_is_an_error() {
    let objective = ObjectiveConfig { kl_coef: 0.1, ..ObjectiveConfig::default() };
    let refused = Learner::new(setup(Kind::Float, LearnerConfig::default(), objective)).unwrap_err();
    assert!(matches!(refused, LearnerError::NoReference), "{refused}");
}

#[test]
fn an_entropy_bonus_keeps_the_policy_more_random_and_is_part_of_the_loss() {
    let run = |entropy_coef: f64| {
        let mut learner =
            learner(config(OldLogprobs::Behaviour, 5.0), ObjectiveConfig { entropy_coef, ..Default::default() });
        let steps: Vec<StepReport> = (0..10)
            .map(|_| {
                let batch = work(&learner, 0.0);
                learner.train_step(&batch).unwrap()
            })
            .collect();
        (steps[0].clone(), steps[9].entropy)
    };
    let (plain, without) = run(0.0);
    let (first, with) = run(0.5);
    assert!((first.loss - (plain.loss - 0.5 * plain.entropy)).abs() < 1e-9, "{} {}", first.loss, plain.loss);
    assert!(with > without + 0.1, "{with} against {without}");
}

/// The norm of the whole is the root of the sum of the parts' squares, and no part is asked for unless it is shown.
#[test]
fn the_gradient_norm_by_layer_adds_up_to_the_whole() {
    let shown = LearnerConfig { grad_norm_by_layer: true, ..config(OldLogprobs::Behaviour, 5.0) };
    let (_, report) = step(shown, ObjectiveConfig::default(), 0.1);
    let names: Vec<&str> = report.grad_norms.keys().map(String::as_str).collect();
    assert_eq!(names, ["embed_tokens", "layers.0", "layers.1", "lm_head", "norm"]);
    let whole = report.grad_norms.values().map(|norm| norm * norm).sum::<f64>().sqrt();
    assert!((whole - report.grad_norm).abs() < 1e-9 * whole, "{whole} is not {}", report.grad_norm);
    let (_, silent) = step(config(OldLogprobs::Behaviour, 5.0), ObjectiveConfig::default(), 0.1);
    assert!(silent.grad_norms.is_empty());
}

#[test]
fn the_mismatch_of_stale_tokens_is_how_far_the_policy_has_moved() {
    let mut learner = learner(config(OldLogprobs::Behaviour, 5.0), ObjectiveConfig::default());
    let first = work(&learner, 0.0);
    let fresh = learner.train_step(&first).unwrap();
    assert_eq!((fresh.stale_mismatch_mean, fresh.stale_mismatch_max), (0.0, 0.0));
    assert_eq!(fresh.rates, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0], "one right answer of three");
    let stale = learner.train_step(&Batch { version: learner.version(), groups: first.groups }).unwrap();
    assert_eq!((stale.mismatch_tokens, stale.mismatch_max), (0, 0.0));
    assert!(stale.stale_mismatch_mean > 1e-3 && stale.stale_mismatch_max == stale.log_ratio_max, "{stale:?}");
}
