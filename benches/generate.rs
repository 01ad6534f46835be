//! What `make bench-generate` measures of us: sampling a batch to its end, and the matrix products of a decode step alone, by
//! libtorch and by our kernels. Driven by generate.py, which holds the conversation: the work as one line of JSON on standard
//! input, then one line per measurement (`"ours"`, `"bfloat16"`, `"libtorch"` or `"ceiling"`), each answered by one line on standard output.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

use counterpoint_generator::{Engine, EngineOptions, Event, Filters, OnSwap, Request};
use counterpoint_policy::kernels::{Decoder, WeightFormat};
use counterpoint_policy::{Device, Kind, ModelConfig, Snapshot, Tensor, checkpoint, device};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::{GroupId, NoiseKey, PolicyVersion, Purpose};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Work {
    model: PathBuf,
    threads: usize,
    /// One per group.
    prompts: Vec<Vec<u32>>,
    answers: u32,
    new_tokens: usize,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut lines = std::io::stdin().lock().lines();
    let Some(first) = lines.next().transpose()? else {
        eprintln!("bench generate: nothing to do: run it by `make bench-generate`");
        return Ok(());
    };
    let work: Work = serde_json::from_str(&first)?;
    device::set_threads(work.threads);
    let (config, flat) = checkpoint::load(&work.model, Kind::Float, Device::Cpu)?;
    let snapshot = Arc::new(Snapshot::new(Arc::new(config), PolicyVersion(0), flat)?);
    let mut kernels = engine(&work, &snapshot, true, WeightFormat::Float32)?;
    let mut rounded = engine(&work, &snapshot, true, WeightFormat::Bfloat16)?;
    let mut libtorch = engine(&work, &snapshot, false, WeightFormat::Float32)?;
    let mut decoder = Decoder::new(&snapshot, WeightFormat::Float32, 16, work.threads)?;
    for line in lines {
        let answer = match serde_json::from_str::<String>(&line?)?.as_str() {
            "ours" => sample(&work, &mut kernels)?,
            "bfloat16" => sample(&work, &mut rounded)?,
            "libtorch" => sample(&work, &mut libtorch)?,
            "ceiling" => ceiling(&work, snapshot.config(), &mut decoder)?,
            other => return Err(format!("what is {other}?").into()),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn engine(work: &Work, snapshot: &Arc<Snapshot>, kernels: bool, kernel_weights: WeightFormat) -> Outcome<Engine> {
    let options = EngineOptions {
        slots: work.prompts.len() * work.answers as usize,
        max_prompt_tokens: work.prompts.iter().map(Vec::len).max().unwrap_or(1),
        max_new_tokens: work.new_tokens,
        max_time: None,
        prefill_chunk: 512,
        kv_bytes: None,
        kernels,
        kernel_weights,
        temperature: 1.0,
        filters: Filters::default(),
        on_swap: OnSwap::Keep,
        eos_tokens: Vec::new(),
        stop: Vec::new(),
    };
    Ok(Engine::new(Arc::clone(snapshot), options, Arc::new(|_| String::new()))?)
}

/// Samples all answers. `prompt_seconds`: until each has its first token.
fn sample(work: &Work, engine: &mut Engine) -> Outcome<Value> {
    let watch = Stopwatch::start();
    for (number, prompt) in work.prompts.iter().enumerate() {
        let key = |sample| NoiseKey::new(1, Purpose::Cli, 0, &number.to_string(), 0, sample);
        engine.submit(Request {
            group: GroupId(number as u64),
            prompt: prompt.clone(),
            noise: (0..work.answers).map(key).collect(),
            min_version: PolicyVersion(0),
        })?;
    }
    let (before, mut finished, mut prompt_seconds) = (engine.tokens(), 0, None);
    while finished < work.prompts.len() {
        finished += engine.step()?.iter().filter(|event| matches!(event, Event::Finished(_))).count();
        prompt_seconds.get_or_insert(watch.elapsed().as_secs_f64());
    }
    let seconds = watch.elapsed().as_secs_f64();
    Ok(json!({"seconds": seconds, "prompt_seconds": prompt_seconds, "tokens": engine.tokens() - before}))
}

/// Seconds that the matrix products of one decode step take.
fn ceiling(work: &Work, model: &ModelConfig, decoder: &mut Decoder) -> Outcome<Value> {
    let rows = work.prompts.len() * work.answers as usize;
    let (queries, pairs) = (model.heads * model.head_dim, model.kv_heads * model.head_dim);
    // (in, out) of a layer's matrices; a layer has its own, as in a decode step, so that none stays in a cache by itself.
    let shapes = [
        (model.hidden_size, queries + 2 * pairs),
        (queries, model.hidden_size),
        (model.hidden_size, 2 * model.intermediate_size),
        (model.intermediate_size, model.hidden_size),
    ];
    let of = |(input, output): (i64, i64)| -> Outcome<(Tensor, Tensor)> {
        let random = |size: [i64; 2]| Tensor::f_randn(size, (Kind::Float, Device::Cpu));
        Ok((random([rows as i64, input])?, random([output, input])?))
    };
    let mut products = Vec::new();
    for _ in 0..model.layers {
        for shape in shapes {
            products.push(of(shape)?);
        }
    }
    products.push(of((model.hidden_size, model.vocab_size))?);
    let mut by_libtorch = || -> Outcome<()> {
        for (x, weight) in &products {
            let _ = x.f_linear(weight, None::<Tensor>)?;
        }
        Ok(())
    };
    let libtorch = seconds_each(&mut by_libtorch)?;
    let kernels = seconds_each(&mut || Ok(decoder.products(rows)?))?;
    Ok(json!({"libtorch": libtorch, "kernels": kernels}))
}

/// The mean over half a second or more, and over three or more.
fn seconds_each(job: &mut dyn FnMut() -> Outcome<()>) -> Outcome<f64> {
    job()?;
    let (watch, mut count) = (Stopwatch::start(), 0);
    while count < 3 || watch.elapsed().as_secs_f64() < 0.5 {
        job()?;
        count += 1;
    }
    Ok(watch.elapsed().as_secs_f64() / f64::from(count))
}
