//! What `make bench-cuda` measures of one GPU: decode steps against the time that reading weights and cache takes, optimiser
//! steps against the rate of a plain matrix product, and both at once, on one stream and on two.
//!
//! Models of random weights in the shapes of released ones, so that nothing is fetched. Arguments: shapes (135m, 1.5b, 7b).
//! `cargo bench` alone does nothing.

mod common;

use std::sync::Arc;
use std::sync::Barrier;

use common::work::{GivenGroup, batch};
use counterpoint_generator::{Engine, EngineOptions, Event, Filters, OnSwap, Request};
use counterpoint_learner::{Learner, LearnerConfig, LearnerSetup, ObjectiveConfig};
use counterpoint_policy::kernels::WeightFormat;
use counterpoint_policy::streams::{self, Urgency};
use counterpoint_policy::{Architecture, Device, Kind, Layout, ModelConfig, RopeScaling, Snapshot, Tensor, device};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::{GroupId, NoiseKey, PolicyVersion, Purpose};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const GPU: Device = Device::Cuda(0);
const PROMPT: usize = 64;
const NEW_TOKENS: usize = 128;
const ANSWERS: u32 = 16;
const SEQUENCES: usize = 256;

fn main() -> Outcome<()> {
    let shapes: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if shapes.is_empty() {
        eprintln!("bench cuda: nothing to do: run it by `make bench-cuda`");
        return Ok(());
    }
    device::choose("cuda")?;
    let machine = Machine::measured()?;
    println!("copy on the device: {:.2} TB/s read and written", machine.bytes_per_second / 1e12);
    println!("bfloat16 product of 8192 cubed: {:.0} TFLOP/s", machine.flops / 1e12);
    for name in &shapes {
        let shape = Shape::named(name).ok_or_else(|| format!("no shape {name}: 135m, 1.5b, 7b"))?;
        decoding(name, &shape, &machine)?;
        if shape.trains {
            learning(name, &shape, &machine)?;
            overlap(name, &shape)?;
        }
    }
    Ok(())
}

/// What the device can do, as seen in this run.
struct Machine {
    bytes_per_second: f64,
    flops: f64,
}

impl Machine {
    fn measured() -> Outcome<Self> {
        let from = Tensor::f_randn([1 << 30], (Kind::BFloat16, GPU))?;
        let mut to = from.f_empty_like()?;
        let copy = seconds_each(20, || Ok(to.f_copy_(&from)?))?;
        let random = || Tensor::f_randn([8192, 8192], (Kind::BFloat16, GPU));
        let (one, other) = (random()?, random()?);
        let product = seconds_each(20, || Ok(one.f_matmul(&other).map(drop)?))?;
        Ok(Self { bytes_per_second: f64::from(1u32 << 31) * 2.0 / copy, flops: 2.0 * 8192f64.powi(3) / product })
    }
}

/// The mean of so many, after two that warm up.
fn seconds_each(count: u32, mut job: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    job()?;
    job()?;
    streams::synchronize(GPU);
    let watch = Stopwatch::start();
    for _ in 0..count {
        job()?;
    }
    streams::synchronize(GPU);
    Ok(watch.elapsed().as_secs_f64() / f64::from(count))
}

struct Shape {
    model: Arc<ModelConfig>,
    /// Whether weights, gradients and moments in float32 are measured too.
    trains: bool,
}

impl Shape {
    fn named(name: &str) -> Option<Self> {
        // hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary
        let (sizes, trains) = match name {
            // SmolLM2-135M
            "135m" => ([576, 1536, 30, 9, 3, 64, 49_152], true),
            // Qwen2.5-1.5B
            "1.5b" => ([1536, 8960, 28, 12, 2, 128, 151_936], true),
            // Qwen2.5-7B
            "7b" => ([3584, 18_944, 28, 28, 4, 128, 152_064], false),
            _ => return None,
        };
        let [hidden_size, intermediate_size, layers, heads, kv_heads, head_dim, vocab_size] = sizes;
        let model = ModelConfig {
            architecture: Architecture::Qwen2,
            vocab_size,
            hidden_size,
            intermediate_size,
            layers: usize::try_from(layers).ok()?,
            heads,
            kv_heads,
            head_dim,
            max_positions: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: 1e6,
            rope_scaling: RopeScaling::Default,
            qkv_bias: true,
            output_bias: false,
            qk_norm: false,
            tied: name != "7b",
            windows: Vec::new(),
            eos_tokens: vec![0],
        };
        Some(Self { model: Arc::new(model), trains })
    }

    fn weights(&self, kind: Kind) -> Outcome<Tensor> {
        let mut flat = Tensor::f_randn([Layout::new(&self.model).numel()], (kind, GPU))?;
        let _ = flat.f_mul_scalar_(0.02)?;
        Ok(flat)
    }

    fn snapshot(&self) -> Outcome<Arc<Snapshot>> {
        Ok(Arc::new(Snapshot::new(Arc::clone(&self.model), PolicyVersion(0), self.weights(Kind::BFloat16)?)?))
    }

    fn learner(&self) -> Outcome<Learner> {
        Ok(Learner::new(LearnerSetup {
            model: Arc::clone(&self.model),
            flat: self.weights(Kind::Float)?,
            version: PolicyVersion(0),
            optimizer: None,
            config: LearnerConfig::default(),
            objective: ObjectiveConfig::default(),
            temperature: 1.0,
            total_steps: None,
            reference: None,
            lora: None,
        })?)
    }

    /// 8 groups of 16 answers of 6 to 120 tokens, evenly by their logarithm.
    fn groups(&self) -> Vec<GivenGroup> {
        let tokens =
            |count: usize, seed: usize| (0..count).map(|i| ((i * 7919 + seed * 104_729) % 49_000) as u32 + 2).collect();
        let length = |sample: usize| (6.0 * 20f64.powf(sample as f64 / 15.0)).round() as usize;
        let group = |number: usize| GivenGroup {
            prompt: tokens(PROMPT, number),
            answers: (0..ANSWERS as usize).map(|sample| tokens(length(sample), number + sample + 1)).collect(),
        };
        (0..8).map(group).collect()
    }
}

/// An engine that decodes a batch to its end, again and again.
struct Decoding {
    engine: Engine,
    batches: u64,
}

impl Decoding {
    fn new(snapshot: Arc<Snapshot>) -> Outcome<Self> {
        let options = EngineOptions {
            slots: SEQUENCES,
            max_prompt_tokens: PROMPT,
            max_new_tokens: NEW_TOKENS,
            max_time: None,
            prefill_chunk: 8192,
            kv_bytes: None,
            kernels: true,
            kernel_weights: WeightFormat::Float32,
            temperature: 1.0,
            filters: Filters::default(),
            on_swap: OnSwap::Keep,
            eos_tokens: Vec::new(),
            stop: Vec::new(),
        };
        Ok(Self { engine: Engine::new(snapshot, options, Arc::new(|_| String::new()))?, batches: 0 })
    }

    /// Seconds until all have their first token, and until all are done.
    fn batch(&mut self) -> Outcome<(f64, f64)> {
        self.batches += 1;
        let watch = Stopwatch::start();
        let groups = SEQUENCES as u64 / u64::from(ANSWERS);
        for number in 0..groups {
            let id = self.batches * groups + number;
            let key = |sample| NoiseKey::new(1, Purpose::Cli, 0, &id.to_string(), 0, sample);
            self.engine.submit(Request {
                group: GroupId(id),
                prompt: vec![3; PROMPT],
                noise: (0..ANSWERS).map(key).collect(),
                min_version: PolicyVersion(0),
            })?;
        }
        let (mut finished, mut first) = (0, None);
        while finished < groups {
            finished += self.engine.step()?.iter().filter(|event| matches!(event, Event::Finished(_))).count() as u64;
            first.get_or_insert(watch.elapsed().as_secs_f64());
        }
        Ok((first.unwrap_or_default(), watch.elapsed().as_secs_f64()))
    }
}

fn decoding(name: &str, shape: &Shape, machine: &Machine) -> Outcome<()> {
    let snapshot = shape.snapshot()?;
    let weights = snapshot.bytes() as f64;
    let model = &shape.model;
    let mut decoding = Decoding::new(snapshot)?;
    decoding.batch()?;
    let (first, whole) = middle((0..3).map(|_| decoding.batch()).collect::<Outcome<Vec<_>>>()?);
    let step = (whole - first) / (NEW_TOKENS - 1) as f64;
    // Every sequence reads its own keys and values, half of the new ones on the average.
    let position = 2 * model.layers as i64 * model.kv_heads * model.head_dim * 2;
    let cache = SEQUENCES as f64 * (PROMPT + NEW_TOKENS / 2) as f64 * position as f64;
    // A copy counts bytes read and bytes written; a decode step as good as only reads.
    let floor = (weights + cache) / machine.bytes_per_second;
    let tokens = (SEQUENCES * NEW_TOKENS) as f64;
    println!(
        "{name}: decode step of {SEQUENCES} sequences {:.2} ms, floor of memory {:.2} ms ({:.1}x); {:.0} tokens/s with prompts",
        step * 1e3,
        floor * 1e3,
        step / floor,
        tokens / whole
    );
    memory(name)
}

fn learning(name: &str, shape: &Shape, machine: &Machine) -> Outcome<()> {
    let (mut learner, groups) = (shape.learner()?, shape.groups());
    let mut seconds = Vec::new();
    let mut tokens = 0;
    for _ in 0..8 {
        let report = learner.train_step(&batch(&groups, learner.version()))?;
        tokens = report.tokens;
        seconds.push(report.seconds);
    }
    let step = middle(seconds.split_off(3).into_iter().map(|s| (s, s)).collect()).0;
    // Six operations per token and parameter of a matrix; a prompt once per group. Attention's own products are left out.
    let inputs: usize = groups.iter().map(|g| PROMPT + g.answers.iter().map(Vec::len).sum::<usize>()).sum();
    let matrices = Layout::new(&shape.model).decayed() as f64;
    let products = 6.0 * inputs as f64 * matrices / machine.flops;
    println!(
        "{name}: optimiser step of {tokens} answer tokens {:.1} ms, its products at the device's rate {:.1} ms ({:.0} %); {:.0} tokens/s",
        step * 1e3,
        products * 1e3,
        100.0 * products / step,
        tokens as f64 / step
    );
    memory(name)
}

/// Two batches of answers and so many optimiser steps as take about as long, one after the other and at once.
fn overlap(name: &str, shape: &Shape) -> Outcome<()> {
    let groups = shape.groups();
    let (mut decoding, mut learner) = (Decoding::new(shape.snapshot()?)?, shape.learner()?);
    decoding.batch()?;
    for _ in 0..3 {
        learner.train_step(&batch(&groups, learner.version()))?;
    }
    let generate = |decoding: &mut Decoding| (0..2).try_for_each(|_| decoding.batch().map(drop));
    let generating = timed(|| generate(&mut decoding))?;
    let one = timed(|| Ok(learner.train_step(&batch(&groups, learner.version())).map(drop)?))?;
    let steps = (generating / one).ceil().max(1.0) as usize;
    let learn = |learner: &mut Learner| -> Outcome<()> {
        (0..steps).try_for_each(|_| Ok(learner.train_step(&batch(&groups, learner.version())).map(drop)?))
    };
    let learning = timed(|| learn(&mut learner))?;
    streams::synchronize(GPU);
    let mut at_once = Vec::new();
    for own in [false, true] {
        let start = Barrier::new(2);
        let begin = |urgency| -> Outcome<()> {
            if own {
                streams::enter(GPU, urgency)?;
            }
            start.wait();
            Ok(())
        };
        let seconds = std::thread::scope(|scope| -> Outcome<f64> {
            let watch = Stopwatch::start();
            let (begin, generate, learn) = (&begin, &generate, &learn);
            let (decoding, learner) = (&mut decoding, &mut learner);
            let sampler = scope.spawn(move || begin(Urgency::High).and_then(|()| generate(decoding)));
            let trainer = scope.spawn(move || begin(Urgency::Normal).and_then(|()| learn(learner)));
            for thread in [sampler, trainer] {
                thread.join().map_err(|_| "a thread panicked")??;
            }
            streams::synchronize(GPU);
            Ok(watch.elapsed().as_secs_f64())
        })?;
        at_once.push(seconds);
    }
    println!(
        "{name}: sampling {generating:.2} s, then {steps} steps {learning:.2} s: {:.2} s; at once on one stream {:.2} s, on two {:.2} s \
         ({:.2}x of one after the other, {:.2}x of one stream)",
        generating + learning,
        at_once[0],
        at_once[1],
        (generating + learning) / at_once[1],
        at_once[0] / at_once[1]
    );
    memory(name)
}

fn timed(job: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    streams::synchronize(GPU);
    let watch = Stopwatch::start();
    job()?;
    streams::synchronize(GPU);
    Ok(watch.elapsed().as_secs_f64())
}

/// The pair in the middle by its second.
fn middle(mut pairs: Vec<(f64, f64)>) -> (f64, f64) {
    pairs.sort_by(|one, other| one.1.total_cmp(&other.1));
    pairs[pairs.len() / 2]
}

fn memory(name: &str) -> Outcome<()> {
    if let Some(memory) = streams::memory(GPU)? {
        let [allocated, peak, reserved] =
            [memory.allocated, memory.peak, memory.reserved].map(|bytes| bytes as f64 / f64::from(1 << 30));
        println!("{name}: memory {allocated:.2} GiB in tensors, {peak:.2} GiB at most so far, {reserved:.2} GiB taken");
    }
    Ok(())
}
