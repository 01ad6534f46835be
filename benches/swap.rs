//! What `make bench-swap` measures: how long decoding stands still when new weights come, how fast they are copied, and that
//! many swaps leave no memory behind. One engine decodes without end; new weights are begun a few steps after the last ones
//! are in use.
//!
//! Arguments: a model directory, sequences, swaps, threads. `cargo bench` alone does nothing.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::status_kib;
use counterpoint_generator::{Engine, EngineOptions, Event, Filters, OnSwap, Request};
use counterpoint_policy::kernels::WeightFormat;
use counterpoint_policy::{Device, Kind, ModelConfig, Parameters, Snapshot, checkpoint, device};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::{GroupId, NoiseKey, PolicyVersion, Purpose};

const ANSWERS: u32 = 8;
const PROMPT: usize = 16;
const NEW_TOKENS: usize = 32;
/// Steps between a swap and the next load.
const STEPS_BETWEEN: usize = 3;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [model, sequences, swaps, threads] = arguments.as_slice() else {
        eprintln!("bench swap: nothing to do: run it by `make bench-swap`");
        return Ok(());
    };
    let (sequences, swaps, threads): (usize, u64, usize) = (sequences.parse()?, swaps.parse()?, threads.parse()?);
    device::set_threads(threads);
    let (config, flat) = checkpoint::load(Path::new(model), Kind::Float, Device::Cpu)?;
    let config = Arc::new(config);
    let parameters = Parameters::new(&config, flat)?;
    println!("{model}: {sequences} sequences, {threads} threads, {:.1} MiB of weights", mib(bytes(&parameters)));
    copies(&parameters, &config)?;

    let mut decoding = Decoding::new(&config, &parameters, sequences)?;
    let quiet = milliseconds(decoding.steps(60)?);
    let mut seen = Swaps::default();
    let mut before = 0.0;
    for number in 1..=swaps {
        decoding.swap(parameters.snapshot(&config, PolicyVersion(number), Kind::Float)?, &mut seen)?;
        if number == swaps.div_ceil(10) {
            before = resident_mib()?;
        }
    }
    let [median, p99] = [0.5, 0.99].map(|share| at(&quiet, share));
    println!("decode step without a swap: median {median:.2} ms, p99 {p99:.2} ms");
    let while_packing = milliseconds(seen.while_packing);
    println!("decode step while weights are made ready: median {:.2} ms", at(&while_packing, 0.5));
    let pauses = milliseconds(seen.pauses);
    let [middle, high, most] = [0.5, 0.99, 1.0].map(|share| at(&pauses, share));
    println!(
        "pause of a swap ({swaps} swaps): median {middle:.3} ms, p99 {high:.3} ms, longest {most:.3} ms; p99 is {:.1} % of a \
         decode step (goal: under 100 %)",
        100.0 * high / median
    );
    println!("from the weights' arrival to their use: median {:.1} ms", at(&milliseconds(seen.arrivals), 0.5));
    println!("resident memory: {before:.1} MiB after a tenth of the swaps, {:.1} MiB after all", resident_mib()?);
    Ok(())
}

/// An engine that is never without work.
struct Decoding {
    engine: Engine,
    group: u64,
}

/// Seconds.
#[derive(Default)]
struct Swaps {
    pauses: Vec<f64>,
    arrivals: Vec<f64>,
    while_packing: Vec<f64>,
}

impl Decoding {
    fn new(config: &Arc<ModelConfig>, parameters: &Parameters, sequences: usize) -> Outcome<Self> {
        let options = EngineOptions {
            slots: sequences,
            max_prompt_tokens: PROMPT,
            max_new_tokens: NEW_TOKENS,
            max_time: None,
            prefill_chunk: 512,
            kv_bytes: None,
            kernels: true,
            kernel_weights: WeightFormat::Float32,
            temperature: 1.0,
            filters: Filters::default(),
            on_swap: OnSwap::Keep,
            eos_tokens: Vec::new(),
            stop: Vec::new(),
        };
        let snapshot = Arc::new(parameters.snapshot(config, PolicyVersion(0), Kind::Float)?);
        let engine = Engine::new(snapshot, options, Arc::new(|_| String::new()))?;
        let mut decoding = Self { engine, group: 0 };
        for _ in 0..sequences as u32 / ANSWERS {
            decoding.submit()?;
        }
        Ok(decoding)
    }

    fn submit(&mut self) -> Outcome<()> {
        self.group += 1;
        let key = |sample| NoiseKey::new(1, Purpose::Cli, 0, &self.group.to_string(), 0, sample);
        Ok(self.engine.submit(Request {
            group: GroupId(self.group),
            prompt: vec![3; PROMPT],
            noise: (0..ANSWERS).map(key).collect(),
            min_version: PolicyVersion(0),
        })?)
    }

    /// Seconds of one step.
    fn step(&mut self) -> Outcome<f64> {
        let watch = Stopwatch::start();
        let events = self.engine.step()?;
        let seconds = watch.elapsed().as_secs_f64();
        for event in events {
            if matches!(event, Event::Finished(_)) {
                self.submit()?;
            }
        }
        Ok(seconds)
    }

    fn steps(&mut self, count: usize) -> Outcome<Vec<f64>> {
        (0..count).map(|_| self.step()).collect()
    }

    fn swap(&mut self, snapshot: Snapshot, seen: &mut Swaps) -> Outcome<()> {
        self.steps(STEPS_BETWEEN)?;
        self.engine.take_pause();
        let watch = Stopwatch::start();
        self.engine.begin_load(Arc::new(snapshot))?;
        while self.engine.swapping() {
            let seconds = self.step()?;
            if self.engine.swapping() {
                seen.while_packing.push(seconds);
            }
        }
        seen.arrivals.push(watch.elapsed().as_secs_f64());
        seen.pauses.push(self.engine.take_pause().as_secs_f64());
        Ok(())
    }
}

/// The learner's copy against a plain one of the same size, both into fresh memory.
fn copies(parameters: &Parameters, config: &Arc<ModelConfig>) -> Outcome<()> {
    let bytes = bytes(parameters);
    let source = vec![1_u8; bytes];
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for number in 0..(2_000_000_000 / bytes).clamp(5, 200) {
        let watch = Stopwatch::start();
        let copy = parameters.snapshot(config, PolicyVersion(number as u64), Kind::Float)?;
        ours.push(watch.elapsed().as_secs_f64());
        drop(copy);
        let watch = Stopwatch::start();
        let copy = source.clone();
        plain.push(watch.elapsed().as_secs_f64());
        drop(std::hint::black_box(copy));
    }
    let rate = |seconds: Vec<f64>| bytes as f64 / at(&milliseconds(seconds), 0.5) / 1e6;
    let (ours, plain) = (rate(ours), rate(plain));
    println!("copy of the weights: {ours:.2} GB/s, memcpy {plain:.2} GB/s: {:.0} % (goal: 80 %)", 100.0 * ours / plain);
    Ok(())
}

fn bytes(parameters: &Parameters) -> usize {
    4 * parameters.layout().numel() as usize
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Sorted.
fn milliseconds(seconds: Vec<f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = seconds.into_iter().map(|s| s * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value that this share of sorted ones is at or under.
fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}

fn resident_mib() -> Outcome<f64> {
    Ok(status_kib("VmRSS")? as f64 / 1024.0)
}
