//! `counterpoint eval`: how well a model answers questions with known answers.
//!
//! One JSON object: {"model", "data", "prompts", "samples", "pass@1", "pass@k", "mean@k", ...}. mean@k is the mean score of all
//! answers; pass@j the chance that j answers hold a right one (an unbiased estimate from all k; at j = 1 it equals mean@k
//! unless scores are soft). A void verdict counts as wrong and is shown apart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use counterpoint_generator::{
    EvalConfig, EvalReport, EvalTally, GeneratorConfig, Outcome, Request, Sampled, sample_all,
};
use counterpoint_policy::{ChatOptions, Tokenizer};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::{Completion, GroupId, PolicyVersion, Prompt, Verdict};
use counterpoint_verifier::{Home, Judge, Registry, VerifierConfig};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::jsonl::Output;
use super::sampler::{Sampler, noise};
use super::verify;
use crate::cli::EvalArgs;
use crate::config::{self, DataConfig};
use crate::data;
use crate::error::Failure;

/// What is evaluated, and how, from a config or from options.
struct Plan {
    model: PathBuf,
    chat: ChatOptions,
    device: String,
    data: DataConfig,
    eval: EvalConfig,
    generator: GeneratorConfig,
    verifier: VerifierConfig,
    seed: u64,
}

pub(crate) fn run(args: &EvalArgs, registry: &Registry) -> Result<(), Failure> {
    let plan = plan(args, registry)?;
    let questions = data::load_eval(&plan.data, &plan.model, &plan.chat).map_err(Failure::usage)?;
    let questions = questions.ok_or_else(|| {
        Failure::Usage("data.eval: name a file of held-out questions (or set data.eval_share)".to_owned())
    })?;
    let prompts = questions.first(plan.eval.limit.unwrap_or(usize::MAX)).map_err(Failure::usage)?;
    let judge = Arc::new(verify::build(&plan.verifier, registry)?);
    let mut sampler = Sampler::load(&plan.model, &plan.device, &plan.chat, |t: &Tokenizer| {
        plan.eval.engine_options(&plan.generator, t)
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let started = Stopwatch::start();
    runtime.block_on(judge.start(&Home::default())).map_err(Failure::failed)?;
    let tally = evaluate(&plan, &prompts, &mut sampler, &judge, &runtime);
    runtime.block_on(judge.stop());
    runtime.shutdown_timeout(verify::LEAVE);
    let report = tally?.report(0, PolicyVersion::default(), started.elapsed().as_secs_f64());
    let mut output = Output::stdout();
    output.write(&shown(&plan, prompts.len(), &report))?;
    output.flush()
}

fn plan(args: &EvalArgs, registry: &Registry) -> Result<Plan, Failure> {
    if let Some(path) = &args.config {
        let config = config::load(path, &args.overrides, registry).map_err(Failure::usage)?;
        return Ok(Plan {
            chat: config.model.chat_options(),
            model: config.model.path,
            device: config.run.device,
            data: config.data,
            eval: config.eval,
            generator: config.generator,
            verifier: config.verifier,
            seed: config.run.seed,
        });
    }
    let defaults = EvalConfig::default();
    let eval = EvalConfig {
        samples: args.samples.unwrap_or(defaults.samples),
        temperature: args.temperature.unwrap_or(defaults.temperature),
        max_new_tokens: args.max_new_tokens,
        ..defaults
    };
    let mut errors = Vec::new();
    eval.validate(&mut errors);
    if !errors.is_empty() {
        // They name keys of [eval]; the options have the same names.
        return Err(Failure::Usage(errors.join("\n")));
    }
    let verifier = args.verifier.clone().map(|name| VerifierConfig { name, ..VerifierConfig::default() });
    Ok(Plan {
        // clap has seen to it that both are there.
        model: args.model.clone().unwrap_or_default(),
        chat: args.chat.options()?,
        data: DataConfig { eval: args.data.clone().map(Into::into), ..DataConfig::default() },
        device: args.device.clone().unwrap_or_else(|| "auto".to_owned()),
        eval,
        generator: GeneratorConfig::default(),
        verifier: verifier.unwrap_or_default(),
        seed: args.seed.unwrap_or(0),
    })
}

/// Samples on this thread, judges on the runtime's; as many judgements at once as the verifier has workers.
fn evaluate(
    plan: &Plan,
    prompts: &[Arc<Prompt>],
    sampler: &mut Sampler,
    judge: &Arc<Judge>,
    runtime: &tokio::runtime::Runtime,
) -> Result<EvalTally, Failure> {
    let requests: Result<Vec<Request>, _> = prompts
        .iter()
        .zip(0..)
        .map(|(prompt, id)| Request::new(GroupId(id), prompt, plan.eval.samples, noise(plan.seed), &sampler.tokenizer))
        .collect();
    let mut tally = EvalTally::new(plan.eval.samples);
    let mut judging = JoinSet::new();
    // Outcomes come in the order of the requests.
    for (outcome, prompt) in sample_all(&mut sampler.engine, requests.map_err(Failure::usage)?).zip(prompts) {
        match outcome.map_err(Failure::failed)? {
            Outcome::Dropped { .. } => {
                tracing::warn!("prompt {:?} does not fit and counts as wrong", prompt.id);
                tally.add_unanswered();
            }
            Outcome::Answered(Sampled { completions, .. }) => {
                judging.spawn_on(
                    judged(judge.clone(), prompt.clone(), completions, plan.verifier.deadline()),
                    runtime.handle(),
                );
            }
        }
        while judging.len() > plan.verifier.workers {
            add(&mut tally, runtime.block_on(judging.join_next()));
        }
    }
    while !judging.is_empty() {
        add(&mut tally, runtime.block_on(judging.join_next()));
    }
    Ok(tally)
}

type Judgement = (Vec<Completion>, Vec<Verdict>);

async fn judged(
    judge: Arc<Judge>,
    prompt: Arc<Prompt>,
    completions: Vec<Completion>,
    deadline: std::time::Duration,
) -> Judgement {
    let verdicts = judge.completions(&prompt, &completions, deadline).await.verdicts;
    (completions, verdicts)
}

fn add(tally: &mut EvalTally, joined: Option<Result<Judgement, tokio::task::JoinError>>) {
    match joined {
        Some(Ok((completions, verdicts))) => tally.add(&completions, Some(&verdicts)),
        // A judgement that panicked judged nothing.
        Some(Err(_)) => tally.add_unanswered(),
        None => {}
    }
}

/// The report as the user reads it.
fn shown(plan: &Plan, prompts: usize, report: &EvalReport) -> Value {
    let k = plan.eval.samples;
    let mut out = Map::new();
    let path = |p: &Path| Value::from(p.display().to_string());
    out.insert("model".to_owned(), path(&plan.model));
    out.insert(
        "data".to_owned(),
        Value::String(plan.data.eval.as_ref().map_or_else(|| plan.data.train_name(), ToString::to_string)),
    );
    out.insert("prompts".to_owned(), json!(prompts));
    out.insert("samples".to_owned(), json!(k));
    for pass in &report.pass_at_k {
        out.insert(format!("pass@{}", pass.k), json!(pass.value));
    }
    out.insert(format!("mean@{k}"), json!(report.accuracy));
    out.insert("void_share".to_owned(), json!(report.void_share));
    out.insert("truncated_share".to_owned(), json!(report.truncated_share));
    out.insert("mean_tokens".to_owned(), json!(report.mean_tokens));
    out.insert("seconds".to_owned(), json!(report.seconds));
    Value::Object(out)
}
