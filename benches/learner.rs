//! What `make bench-learner` measures of us: optimiser steps on a batch that the peer trains too, and the time that the step's
//! own matrix products take alone. Driven by learner.py, which holds the conversation: one JSON object on standard input,
//! one on standard output.

mod common;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use common::status_kib;
use common::work::{GivenGroup, batch};
use counterpoint_learner::{Learner, LearnerConfig, LearnerSetup, ObjectiveConfig};
use counterpoint_policy::{Device, Kind, Layout, ModelConfig, Tensor, checkpoint, device};
use counterpoint_rollout::PolicyVersion;
use counterpoint_rollout::clock::Stopwatch;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Work {
    /// A model directory, or, without one, how large a random Llama is to be.
    model: Option<PathBuf>,
    vocabulary: Option<i64>,
    threads: usize,
    steps: usize,
    micro_batch_tokens: Option<usize>,
    groups: Vec<GivenGroup>,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    if input.trim().is_empty() {
        eprintln!("bench learner: nothing to do: run it by `make bench-learner`");
        return Ok(());
    }
    let work: Work = serde_json::from_str(&input)?;
    device::set_threads(work.threads);
    let (model, flat) = match (&work.model, work.vocabulary) {
        (Some(path), _) => checkpoint::load(path, Kind::Float, Device::Cpu)?,
        (None, Some(vocabulary)) => random(vocabulary)?,
        (None, None) => return Err("give a model or a vocabulary".into()),
    };
    let model = Arc::new(model);
    let mut learner = Learner::new(LearnerSetup {
        model: Arc::clone(&model),
        flat,
        version: PolicyVersion(0),
        optimizer: None,
        config: LearnerConfig { micro_batch_tokens: work.micro_batch_tokens, ..LearnerConfig::default() },
        objective: ObjectiveConfig::default(),
        temperature: 1.0,
        total_steps: None,
        reference: None,
        lora: None,
    })?;
    let before = status_kib("VmHWM")?;
    let (mut seconds, mut tokens) = (Vec::new(), 0);
    for _ in 0..work.steps {
        let watch = Stopwatch::start();
        let report = learner.train_step(&batch(&work.groups, learner.version()))?;
        seconds.push(watch.elapsed().as_secs_f64());
        tokens = report.tokens;
    }
    let peak = status_kib("VmHWM")?;
    drop(learner);
    let ceiling = products(&model, &work.groups, work.steps)?;
    println!(
        "{}",
        json!({"seconds": seconds, "tokens": tokens, "ceiling_seconds": ceiling, "kib_before": before, "kib_peak": peak})
    );
    Ok(())
}

/// A narrow Llama with so large a vocabulary that next to nothing else counts.
fn random(vocabulary: i64) -> Outcome<(ModelConfig, Tensor)> {
    let text = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
    });
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("config.json"), text.to_string())?;
    let model = ModelConfig::from_dir(dir.path())?;
    let flat = Tensor::f_randn([Layout::new(&model).numel()], (Kind::Float, Device::Cpu))?.f_mul_scalar(0.05)?;
    Ok((model, flat))
}

/// Seconds that the matrix products of a step take alone, of each repetition: for every matrix, forward, by its input and by
/// its weights, on the tokens that must be computed: a prompt once per group, an answer once. Attention's own are left out.
fn products(model: &ModelConfig, groups: &[GivenGroup], repetitions: usize) -> Outcome<Vec<f64>> {
    let answers = |g: &GivenGroup| g.answers.iter().map(Vec::len).collect::<Vec<_>>();
    let inputs: usize = groups.iter().map(|g| g.prompt.len() + answers(g).iter().map(|n| n - 1).sum::<usize>()).sum();
    let trained: usize = groups.iter().flat_map(answers).sum();
    let (queries, pairs) = (model.heads * model.head_dim, model.kv_heads * model.head_dim);
    let layers = model.layers;
    // (rows, in, out, how many)
    let shapes = [
        (inputs as i64, model.hidden_size, queries + 2 * pairs, layers),
        (inputs as i64, queries, model.hidden_size, layers),
        (inputs as i64, model.hidden_size, 2 * model.intermediate_size, layers),
        (inputs as i64, model.intermediate_size, model.hidden_size, layers),
        (trained as i64, model.hidden_size, model.vocab_size, 1),
    ];
    let mut seconds = vec![0.0; repetitions];
    for (rows, input, output, count) in shapes {
        let random = |size: [i64; 2]| Tensor::f_randn(size, (Kind::Float, Device::Cpu));
        let (x, weight, by_y) = (random([rows, input])?, random([output, input])?, random([rows, output])?);
        for total in &mut seconds {
            let watch = Stopwatch::start();
            for _ in 0..count {
                let _ = x.f_matmul(&weight.f_transpose(0, 1)?)?;
                let _ = by_y.f_matmul(&weight)?;
                let _ = by_y.f_transpose(0, 1)?.f_matmul(&x)?;
            }
            *total += watch.elapsed().as_secs_f64();
        }
    }
    Ok(seconds)
}
