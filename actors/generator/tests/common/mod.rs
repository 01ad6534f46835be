//! Tiny random models and a naive reference for what an engine must compute.
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::Arc;

use counterpoint_generator::{Engine, EngineOptions, Event, Filters, OnSwap, Request, Sampled};
use counterpoint_policy::kernels::WeightFormat;
use counterpoint_policy::{
    Architecture, Attend, Device, Kind, Layout, ModelConfig, PackedAttention, PolicyError, RopeScaling, Snapshot,
    Tensor, Transformer, device, token_logprobs,
};
use counterpoint_rollout::{Completion, GroupId, NoiseKey, PolicyVersion, Purpose};

pub(crate) const EOS: u32 = 1;

/// Two layers, grouped heads; `qwen`: biased projections and an output projection of its own.
pub(crate) fn model(qwen: bool) -> Arc<ModelConfig> {
    Arc::new(ModelConfig {
        architecture: if qwen { Architecture::Qwen2 } else { Architecture::Llama },
        vocab_size: 18,
        hidden_size: 16,
        intermediate_size: 24,
        layers: 2,
        heads: 4,
        kv_heads: if qwen { 2 } else { 4 },
        head_dim: 8,
        max_positions: 128,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Default,
        qkv_bias: qwen,
        output_bias: false,
        qk_norm: false,
        tied: !qwen,
        windows: Vec::new(),
        eos_tokens: vec![EOS],
    })
}

/// Random weights, a function of `version`: matrices of deviation 0.3, norms and biases near 1.
pub(crate) fn snapshot(config: &Arc<ModelConfig>, version: u64) -> Arc<Snapshot> {
    let layout = Layout::new(config);
    let numbers = (0..layout.numel()).map(|i| {
        let key = NoiseKey::new(version, Purpose::Cli, 0, "weights", 0, 0);
        // The sum of three uniforms is close enough to a normal number; its deviation is 1/2.
        let number = (0..3).map(|j| key.uniform(3 * i as u64 + j)).sum::<f32>() - 1.5;
        if i < layout.decayed() { 0.6 * number } else { 1.0 + 0.2 * number }
    });
    let flat = Tensor::from_slice(&numbers.collect::<Vec<f32>>());
    Arc::new(Snapshot::new(Arc::clone(config), PolicyVersion(version), flat).unwrap())
}

pub(crate) fn options(slots: usize, temperature: f64, on_swap: OnSwap) -> EngineOptions {
    EngineOptions {
        slots,
        max_prompt_tokens: 80,
        max_new_tokens: 12,
        max_time: None,
        prefill_chunk: 512,
        kv_bytes: None,
        kernels: true,
        kernel_weights: WeightFormat::Float32,
        temperature,
        filters: Filters::default(),
        on_swap,
        eos_tokens: vec![EOS],
        stop: Vec::new(),
    }
}

pub(crate) fn engine(snapshot: Arc<Snapshot>, options: EngineOptions) -> Engine {
    // Tests run side by side, each on its own thread.
    device::set_threads(1);
    Engine::new(snapshot, options, Arc::new(|tokens| format!("{tokens:?}"))).unwrap()
}

/// The noise is keyed by the group, so it stays the same wherever the group is sampled.
pub(crate) fn request(group: u64, prompt: &[u32], answers: u32) -> Request {
    let key = |sample| NoiseKey::new(11, Purpose::Train, 0, &group.to_string(), 0, sample);
    Request {
        group: GroupId(group),
        prompt: prompt.to_vec(),
        noise: (0..answers).map(key).collect(),
        min_version: PolicyVersion(0),
    }
}

/// Steps until nothing is left to do; the finished groups by number, and all other events.
pub(crate) fn run(engine: &mut Engine) -> (Vec<Sampled>, Vec<Event>) {
    let (mut finished, mut other) = (Vec::new(), Vec::new());
    for _ in 0..10_000 {
        if engine.is_idle() {
            finished.sort_by_key(|sampled: &Sampled| sampled.group);
            return (finished, other);
        }
        collect(engine.step().unwrap(), &mut finished, &mut other);
    }
    panic!("the engine never came to rest");
}

pub(crate) fn collect(events: Vec<Event>, finished: &mut Vec<Sampled>, other: &mut Vec<Event>) {
    for event in events {
        match event {
            Event::Finished(sampled) => finished.push(sampled),
            event => other.push(event),
        }
    }
}

/// Log-probs of an answer in one causal pass over prompt and answer: how the learner scores it.
pub(crate) fn score(snapshot: &Snapshot, prompt: &[u32], completion: &Completion, temperature: f64) -> Vec<f64> {
    let tokens: Vec<i64> = prompt.iter().chain(&completion.tokens).map(|&t| i64::from(t)).collect();
    let (length, answer) = (tokens.len() as i64, completion.tokens.len() as i64);
    let tokens = Tensor::from_slice(&tokens);
    let transformer = Transformer::new(snapshot.config(), length, Device::Cpu).unwrap();
    let mut causal = PackedAttention::causal(length, Device::Cpu).unwrap();
    let positions = Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0);
    let hidden = transformer.hidden(snapshot.weights(), &tokens.unsqueeze(0), &positions, &mut causal).unwrap();
    // Position i predicts token i + 1.
    let before = hidden.squeeze_dim(0).narrow(0, length - answer - 1, answer);
    let logits = transformer.logits(snapshot.weights(), &before).unwrap();
    let scored = token_logprobs(&logits, &tokens.narrow(0, length - answer, answer), temperature).unwrap();
    Vec::<f64>::try_from(&scored.to_kind(Kind::Double)).unwrap()
}

/// Keys and values of one sequence, appended block by block.
#[derive(Default)]
struct Growing(Vec<(Tensor, Tensor)>);

impl Attend for Growing {
    fn attend(
        &mut self,
        layer: usize,
        window: Option<i64>,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor, PolicyError> {
        if layer == self.0.len() {
            self.0.push((key.copy(), value.copy()));
        } else {
            let (keys, values) = &mut self.0[layer];
            *keys = Tensor::cat(&[&*keys, key], 1);
            *values = Tensor::cat(&[&*values, value], 1);
        }
        let (keys, values) = &self.0[layer];
        let (new, all) = (query.size()[1], keys.size()[1]);
        let mask = Tensor::ones([1, 1, new, all], (Kind::Bool, Device::Cpu)).tril(all - new);
        let mask = window.map_or(mask.shallow_clone(), |window| mask.triu(all - new - window + 1));
        let spread = |x: &Tensor| x.transpose(1, 2).repeat_interleave_self_int(query.size()[2] / x.size()[2], 1, None);
        let query = query.transpose(1, 2);
        let scores = query.matmul(&spread(keys).transpose(2, 3)) / (query.size()[3] as f64).sqrt();
        let weights = scores.masked_fill(&mask.logical_not(), f64::NEG_INFINITY).softmax(-1, None);
        Ok(weights.matmul(&spread(values)).transpose(1, 2).flatten(2, 3))
    }
}

/// Log-probs of an answer whose cache was built as its recorded versions say: the prompt with the version of the first
/// token, each token's predecessor with the version of that token.
pub(crate) fn replay(
    snapshots: &[Arc<Snapshot>],
    prompt: &[u32],
    completion: &Completion,
    temperature: f64,
) -> Vec<f64> {
    let versions = completion.versions.iter().flat_map(|span| (0..span.tokens).map(|_| span.version));
    let (mut cache, mut fed, mut scores) = (Growing::default(), 0, Vec::new());
    let sequence: Vec<i64> = prompt.iter().chain(&completion.tokens).map(|&t| i64::from(t)).collect();
    for (index, version) in versions.enumerate() {
        let snapshot = snapshots.iter().find(|s| s.version() == version).unwrap();
        let end = prompt.len() + index;
        let tokens = Tensor::from_slice(&sequence[fed..end]).unsqueeze(0);
        let positions = Tensor::arange_start(fed as i64, end as i64, (Kind::Int64, Device::Cpu)).unsqueeze(0);
        let transformer = Transformer::new(snapshot.config(), end as i64, Device::Cpu).unwrap();
        let hidden = transformer.hidden(snapshot.weights(), &tokens, &positions, &mut cache).unwrap();
        let logits = transformer.logits(snapshot.weights(), &hidden.select(1, -1)).unwrap();
        let target = Tensor::from_slice(&sequence[end..=end]);
        scores.push(token_logprobs(&logits, &target, temperature).unwrap().double_value(&[0]));
        fed = end;
    }
    scores
}

/// Mean and largest absolute difference between recorded and recomputed log-probs.
pub(crate) fn mismatch(pairs: impl IntoIterator<Item = (Completion, Vec<f64>)>) -> (f64, f64) {
    let differences: Vec<f64> = pairs
        .into_iter()
        .flat_map(|(completion, scores)| {
            assert_eq!(completion.logprobs.len(), scores.len());
            completion.logprobs.into_iter().zip(scores).map(|(a, b)| (f64::from(a) - b).abs()).collect::<Vec<_>>()
        })
        .collect();
    (differences.iter().sum::<f64>() / differences.len() as f64, differences.iter().copied().fold(0.0, f64::max))
}
