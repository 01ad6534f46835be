//! Groups and a tiny model for the tests of this crate.
#![allow(dead_code, reason = "each test program uses a part of this")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use counterpoint_learner::{Learner, LearnerConfig, LearnerSetup, ObjectiveConfig};
use counterpoint_policy::{Device, Kind, PackedAttention, Tensor, Transformer, Weights, checkpoint, token_logprobs};
use counterpoint_rollout::{
    Batch, Completion, FinishReason, GeneratorId, Group, GroupId, Lease, PolicyVersion, Prompt, PromptContent,
    ScoredGroup, Verdict,
};

/// A completion with log-probs of -1, -2, ... and one version.
pub(crate) fn completion(tokens: &[u32], version: u64) -> Completion {
    let empty = Completion {
        tokens: vec![],
        logprobs: vec![],
        versions: vec![],
        finish: FinishReason::Stop,
        text: String::new(),
    };
    tokens.iter().enumerate().fold(empty, |mut completion, (i, token)| {
        completion.push(*token, -(i as f32) - 1.0, PolicyVersion(version));
        completion
    })
}

/// A judged group, started at version 0.
pub(crate) fn group(id: u64, prompt_tokens: Vec<u32>, answers: Vec<(Completion, Verdict)>) -> Arc<ScoredGroup> {
    let prompt = Prompt {
        id: format!("p{id}"),
        content: PromptContent::Text(String::new()),
        answer: String::new(),
        source: "test".into(),
        info: Default::default(),
    };
    let lease = Lease {
        group: GroupId(id),
        prompt: Arc::new(prompt),
        epoch: 0,
        attempt: 0,
        answers: answers.len() as u32,
        position: id,
        min_version: PolicyVersion(0),
        deadline: Duration::from_secs(1),
    };
    let (completions, verdicts) = answers.into_iter().unzip();
    let group = Group { lease, prompt_tokens, completions, start_version: PolicyVersion(0), generator: GeneratorId(0) };
    Arc::new(ScoredGroup { group: Arc::new(group), verdicts })
}

pub(crate) fn batch(version: u64, groups: Vec<Arc<ScoredGroup>>) -> Batch {
    Batch { version: PolicyVersion(version), groups }
}

/// A trained two-layer Qwen2 over the characters of arithmetic, from the policy crate.
pub(crate) fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/data/tiny-qwen2")
}

pub(crate) fn setup(kind: Kind, config: LearnerConfig, objective: ObjectiveConfig) -> LearnerSetup {
    let (model, flat) = checkpoint::load(&model_dir(), Kind::Float, Device::Cpu).unwrap();
    LearnerSetup {
        model: Arc::new(model),
        flat: flat.to_kind(kind),
        lora: None,
        version: PolicyVersion(0),
        optimizer: None,
        config,
        objective,
        temperature: 1.0,
        total_steps: None,
        reference: None,
    }
}

/// Log-probs of an answer's tokens behind a prompt, one plain causal pass without any packing.
pub(crate) fn plain_logprobs(learner: &Learner, prompt: &[u32], answer: &[u32], temperature: f64) -> Vec<f64> {
    let _guard = tch::no_grad_guard();
    let sequence: Vec<i64> = prompt.iter().chain(answer).map(|t| i64::from(*t)).collect();
    let length = sequence.len() as i64;
    let transformer = Transformer::new(learner.model(), length, Device::Cpu).unwrap();
    let layout = counterpoint_policy::Layout::new(learner.model());
    let weights = Weights::view(learner.model(), &layout, learner.flat()).unwrap();
    let tokens = Tensor::from_slice(&sequence).view([1, length]);
    let positions = Tensor::arange(length, (Kind::Int64, Device::Cpu)).view([1, length]);
    let mut attention = PackedAttention::causal(length, Device::Cpu).unwrap();
    let hidden = transformer.hidden(&weights, &tokens, &positions, &mut attention).unwrap();
    let (from, count) = (prompt.len() as i64 - 1, answer.len() as i64);
    let logits = transformer.logits(&weights, &hidden.narrow(1, from, count).squeeze_dim(0)).unwrap();
    let targets = Tensor::from_slice(&sequence).narrow(0, from + 1, count);
    Vec::try_from(token_logprobs(&logits, &targets, temperature).unwrap().to_kind(Kind::Double)).unwrap()
}

/// A completion as the learner's present weights would have sampled it.
pub(crate) fn sampled(learner: &Learner, prompt: &[u32], answer: &[u32], temperature: f64) -> Completion {
    let mut completion = completion(answer, learner.version().0);
    completion.logprobs = plain_logprobs(learner, prompt, answer, temperature).into_iter().map(|x| x as f32).collect();
    completion
}
