//! The learner on whole models of each family: packing against separate sequences, and the paper's Proposition 4.2.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;

use common::{batch, group, plain_logprobs};
use counterpoint_learner::objective::{ObjectiveName, Reduction, Weight};
use counterpoint_learner::{Learner, LearnerConfig, LearnerSetup, ObjectiveConfig};
use counterpoint_policy::{Architecture, Device, Kind, Layout, ModelConfig, RopeScaling, Tensor};
use counterpoint_rollout::contract::StepReport;
use counterpoint_rollout::{Batch, PolicyVersion, Verdict};
use proptest::prelude::*;

const FAMILIES: [Architecture; 3] = [Architecture::Qwen2, Architecture::Qwen3, Architecture::Llama];

/// Two layers with grouped heads, and what sets the family apart: biases and tied embeddings, or norms of queries and keys.
fn model(architecture: Architecture) -> Arc<ModelConfig> {
    Arc::new(ModelConfig {
        architecture,
        vocab_size: 40,
        hidden_size: 32,
        intermediate_size: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        max_positions: 256,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Default,
        qkv_bias: architecture == Architecture::Qwen2,
        output_bias: false,
        qk_norm: architecture == Architecture::Qwen3,
        tied: architecture != Architecture::Llama,
        windows: Vec::new(),
        eos_tokens: vec![1],
    })
}

fn learner(architecture: Architecture, kind: Kind, objective: ObjectiveConfig, micro_batch_tokens: usize) -> Learner {
    let model = model(architecture);
    let layout = Layout::new(&model);
    // Noise without a generator, which other tests of this process could draw from: between ±0.25.
    let noise = Tensor::arange(layout.numel(), (Kind::Double, Device::Cpu)) * 12.9898;
    let flat = ((noise.sin() * 43_758.545_3).frac()) * 0.25;
    // Norms near one.
    let _ = flat.narrow(0, layout.decayed(), layout.numel() - layout.decayed()).g_add_scalar_(1.0);
    let config =
        LearnerConfig { micro_batch_tokens: Some(micro_batch_tokens), max_grad_norm: 1e9, ..LearnerConfig::default() };
    Learner::new(LearnerSetup {
        model,
        flat: flat.to_kind(kind),
        lora: None,
        version: PolicyVersion(0),
        optimizer: None,
        config,
        objective,
        temperature: 1.0,
        total_steps: None,
        reference: None,
    })
    .unwrap()
}

/// The gradient, as AdamW's first memory of it over 1 − β₁, and what the step says of itself.
fn step(mut learner: Learner, batch: &Batch) -> (Tensor, StepReport) {
    let report = learner.train_step(batch).unwrap();
    ((&learner.optimizer_state().first / 0.1).to_kind(Kind::Double), report)
}

/// Groups of a prompt's length and its answers' lengths, sampled by these weights one sequence at a time. `shift` moves the
/// recorded log-probs, as if older weights had sampled.
fn groups(architecture: Architecture, lengths: &[(usize, Vec<usize>)], shift: f32) -> Batch {
    let learner = learner(architecture, Kind::Float, ObjectiveConfig::default(), 1 << 20);
    let mut seed = 7u32;
    let mut token = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        2 + (seed >> 16) % 38
    };
    let groups = lengths.iter().zip(0u64..).map(|((prompt, answers), id)| {
        let prompt: Vec<u32> = (0..*prompt).map(|_| token()).collect();
        let answers = answers.iter().enumerate().map(|(number, length)| {
            let tokens: Vec<u32> = (0..*length).map(|_| token()).collect();
            let mut completion = common::completion(&tokens, 0);
            let logprobs = plain_logprobs(&learner, &prompt, &tokens, 1.0);
            completion.logprobs = logprobs
                .iter()
                .zip(0u8..)
                .map(|(x, t)| *x as f32 + shift * (f32::from(t) + number as f32).sin())
                .collect();
            (completion, if number % 3 == 0 { Verdict::Correct } else { Verdict::Incorrect })
        });
        let answers = answers.collect();
        group(id, prompt, answers)
    });
    batch(0, groups.collect())
}

fn relative(got: &Tensor, expected: &Tensor) -> f64 {
    (got - expected).norm().double_value(&[]) / expected.norm().double_value(&[])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// A budget of one token gives every answer a row, and a pass, of its own.
    #[test]
    fn packed_groups_have_the_log_probs_and_the_gradient_of_separate_sequences(
        lengths in prop::collection::vec((1usize..20, prop::collection::vec(1usize..24, 2..9)), 1..5),
        family in 0usize..3,
    ) {
        let family = FAMILIES[family];
        // On-policy, what is recorded is what separate sequences give.
        let (_, report) = step(learner(family, Kind::Float, ObjectiveConfig::default(), 1 << 20), &groups(family, &lengths, 0.0));
        prop_assert!(report.log_ratio_max < 1e-5, "{family:?}: log-probs are off by {}", report.log_ratio_max);
        // Off-policy, so that tokens have weights of their own.
        let batch = groups(family, &lengths, 0.3);
        let gradient = |budget, kind| step(learner(family, kind, ObjectiveConfig::default(), budget), &batch).0;
        let off = relative(&gradient(1 << 20, Kind::Float), &gradient(1, Kind::Float));
        prop_assert!(off < 1e-5, "{family:?}: the gradient is off by {off}");
        let off = relative(&gradient(1 << 20, Kind::Double), &gradient(1, Kind::Double));
        prop_assert!(off < 1e-11, "{family:?}: the gradient is off by {off} in float64");
    }
}

/// Proposition 4.2 (arXiv 2505.18116): on-policy, and for ε ≤ 1, NFT's gradient with the weight √((1 − r̂)/r̂) is GRPO's, and
/// with 1 − r̂ it is that of Dr. GRPO.
#[test]
fn on_policy_the_gradient_of_nft_is_that_of_grpo_and_of_dr_grpo() {
    for family in FAMILIES {
        let batch = groups(family, &[(6, vec![5, 9, 3, 7]), (4, vec![2, 8, 6, 6, 11, 4])], 0.0);
        let of = |name, weight| {
            let objective =
                ObjectiveConfig { name, weight, reduction: Reduction::TokenMean, ..ObjectiveConfig::default() };
            step(learner(family, Kind::Double, objective, 1 << 20), &batch).0
        };
        for (weight, other) in [(Weight::Sqrt, ObjectiveName::Grpo), (Weight::OneMinusRate, ObjectiveName::DrGrpo)] {
            // What was recorded is rounded to float32, so the ratios are one to seven digits only.
            let off = relative(&of(ObjectiveName::Nft, weight), &of(other, weight));
            assert!(off < 1e-5, "{family:?}, {other:?}: {off}");
        }
        let apart = relative(&of(ObjectiveName::Nft, Weight::One), &of(ObjectiveName::Grpo, Weight::One));
        assert!(apart > 0.01, "{family:?}: with another weight they differ, {apart}");
    }
}
