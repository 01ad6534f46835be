//! Frozen parts of a model that is trained otherwise.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{batch, group, sampled, setup};
use counterpoint_learner::{Learner, LearnerConfig, ObjectiveConfig};
use counterpoint_policy::{Kind, Layout, Parameters, Tensor};
use counterpoint_rollout::Verdict;

const PROMPT: &[u32] = &[4, 2, 12, 8, 9, 15];

fn learner(frozen: &[&str]) -> Result<Learner, String> {
    let frozen = frozen.iter().map(|pattern| (*pattern).to_owned()).collect();
    let config = LearnerConfig { learning_rate: 1e-3, frozen, ..LearnerConfig::default() };
    Learner::new(setup(Kind::Float, config, ObjectiveConfig::default())).map_err(|e| e.to_string())
}

fn step(learner: &mut Learner) {
    let answer = |tokens: &[u32]| sampled(learner, PROMPT, tokens, 1.0);
    let answers = vec![(answer(&[10, 9, 1]), Verdict::Correct), (answer(&[10, 8, 1]), Verdict::Incorrect)];
    let batch = batch(learner.version().0, vec![group(0, PROMPT.to_vec(), answers)]);
    learner.train_step(&batch).unwrap();
}

/// Names of the tensors that two steps change.
fn moved(frozen: &[&str]) -> Vec<String> {
    let mut learner = learner(frozen).unwrap();
    let before = learner.flat().copy();
    step(&mut learner);
    step(&mut learner);
    let mut moved = Vec::new();
    for entry in Layout::new(learner.model()).entries() {
        let mut offset = entry.offset;
        for part in &entry.parts {
            let numel = entry.part_shape(part).iter().product();
            let of = |flat: &Tensor| flat.narrow(0, offset, numel);
            if !of(&before).equal(&of(learner.flat())) {
                moved.push(part.name.clone());
            }
            offset += numel;
        }
    }
    moved
}

#[test]
fn what_is_frozen_stays_and_all_else_moves() {
    let all = moved(&[]);
    assert!(all.len() > 20, "{all:?}");
    for frozen in [
        &["embed_tokens"][..],
        &["lm_head", "layers.1"],
        // Single tensors of fused matrices, and a bias.
        &["k_proj.weight", "up_proj", "q_proj.bias"],
        // Everything but the output projection.
        &["embed_tokens", "layers", "norm"],
        // Everything but the last norm: no matrix is left.
        &["embed_tokens", "layers", "lm_head"],
    ] {
        let words = |name: &str, pattern: &str| format!(".{name}.").contains(&format!(".{pattern}."));
        let expected: Vec<String> =
            all.iter().filter(|name| !frozen.iter().any(|pattern| words(name, pattern))).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len());
        assert_eq!(moved(frozen), expected, "{frozen:?}");
    }
}

#[test]
fn a_pattern_that_fits_nothing_and_a_model_that_is_all_frozen_are_refused() {
    let error = learner(&["embed"]).unwrap_err();
    assert!(error.starts_with("freezing \"embed\", which is in no tensor's name, is not supported"), "{error}");
    let error = learner(&["model", "lm_head"]).unwrap_err();
    assert!(error.contains("which is everything, is not supported: something must be left to train"), "{error}");
}

#[test]
fn what_is_frozen_is_in_no_norm_and_no_memory_of_the_optimiser_and_is_published() {
    let frozen = ["embed_tokens", "layers.0", "up_proj"].map(str::to_owned);
    let config = LearnerConfig { frozen: frozen.into(), grad_norm_by_layer: true, ..LearnerConfig::default() };
    let mut learner = Learner::new(setup(Kind::Float, config.clone(), ObjectiveConfig::default())).unwrap();
    let answer = |tokens: &[u32]| sampled(&learner, PROMPT, tokens, 1.0);
    let answers = vec![(answer(&[10, 9, 1]), Verdict::Correct), (answer(&[10, 8, 1]), Verdict::Incorrect)];
    let report = learner.train_step(&batch(0, vec![group(0, PROMPT.to_vec(), answers)])).unwrap();
    let names: Vec<&str> = report.grad_norms.keys().map(String::as_str).collect();
    assert_eq!(names, ["layers.1", "lm_head", "norm"]);
    let whole = report.grad_norms.values().map(|norm| norm * norm).sum::<f64>().sqrt();
    assert!((whole - report.grad_norm).abs() < 1e-9 * whole, "{whole} is not {}", report.grad_norm);
    let layout = Layout::new(learner.model());
    let trained = Parameters::count_trained(&layout, &config.frozen);
    assert!(trained > 0 && 3 * trained < 2 * layout.numel(), "{trained} of {}", layout.numel());
    assert_eq!(learner.optimizer_state().first.size(), [trained]);
    let published = learner.snapshot(Kind::Float).unwrap();
    assert!(published.flat().equal(learner.flat()));
}
