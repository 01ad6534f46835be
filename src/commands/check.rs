//! `counterpoint check`: whether a config can run, what it says in full, and what it will need.
//!
//! With `--calibrate`, or from given rates, also how fast it will be and who will wait: see [`crate::flow::forecast`].
//!
//! Settings that cannot work are errors (exit code 2). A model or data that is not there yet is not: the config is right, and
//! a line that begins with "needs:" says what must be put where. What is there is read, and must be right.

use std::fmt::Write as _;
use std::io::Write as _;

use counterpoint_policy::ModelConfig;
use counterpoint_rollout::PromptSet as _;
use counterpoint_verifier::Registry;

use super::calibrate::{Calibration, calibrate};
use super::rates::{self, Given};
use crate::cli::CheckArgs;
use crate::config::{self, Config};
use crate::data::{self, Files, Questions};
use crate::error::Failure;
use crate::flow::memory::{Fit, Machine, Memory, spoken};
use crate::lora::refuse_adapter;

pub(crate) fn run(args: &CheckArgs, registry: &Registry) -> Result<(), Failure> {
    let config = config::load(&args.config.config, &args.config.overrides, registry).map_err(Failure::usage)?;
    let report = report(&config, args, registry)?;
    match write!(std::io::stdout(), "{}\n{report}", config.to_toml()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        other => other.map_err(|e| Failure::Failed(format!("stdout: {e}"))),
    }
}

/// Everything behind the resolved config: comments, so that the whole output is a config again.
fn report(config: &Config, args: &CheckArgs, registry: &Registry) -> Result<String, Failure> {
    let mut out = flow(config);
    let mut needs = Vec::new();
    match model(config, &mut needs)? {
        Some(model) => memory(config, &model, args.memory_gib, needs.is_empty(), &mut out)?,
        None => line(&mut out, format_args!("memory: known once the model's config.json is there")),
    }
    let questions = questions(config, &mut out, &mut needs)?;
    for warning in questions.iter().flat_map(|questions| crate::flow::warnings(config, questions.len())) {
        line(&mut out, format_args!("warning: {warning}"));
    }
    let given = Given::new(&args.rates)?;
    match questions.filter(|_| args.calibrate && needs.is_empty()) {
        Some(questions) => {
            let Calibration { rates, notes } = calibrate(config, registry, questions, seconds(args)?)?;
            for note in notes {
                line(&mut out, format_args!("calibration: {note}"));
            }
            rates::say(config, &given.over(rates), &mut out);
        }
        None if args.calibrate => {
            return Err(Failure::Usage(format!("--calibrate: needs all that a run needs: {}", needs.join("; "))));
        }
        None => {
            if let Some(rates) = given.alone(config)? {
                rates::say(config, &rates, &mut out);
            }
        }
    }
    for need in &needs {
        line(&mut out, format_args!("needs: {need}"));
    }
    line(
        &mut out,
        format_args!("ok: the settings are accepted{}", if needs.is_empty() { "" } else { "; `run` needs the above" }),
    );
    Ok(out)
}

fn seconds(args: &CheckArgs) -> Result<f64, Failure> {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        return Err(Failure::Usage(format!("--seconds: must be above 0 and at most 3600, got {}", args.seconds)));
    }
    Ok(args.seconds)
}

pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# {text}");
}

fn flow(config: &Config) -> String {
    let (b, k) = (u64::from(config.feed.prompts_per_step), u64::from(config.feed.answers_per_prompt));
    let (eta, n) = (u64::from(config.replay.max_staleness), config.weight_sync.every);
    let mut out = String::new();
    line(
        &mut out,
        format_args!("flow: B = {b} mixed groups per step, K = {k} answers per group, eta = {eta}, n = {n}"),
    );
    let in_flight = (eta + 1).saturating_mul(b).min(config.replay.max_in_flight.unwrap_or(u64::MAX));
    let answers = b * k;
    line(
        &mut out,
        format_args!(
            "flow: at most {in_flight} groups in flight; {answers} answers and up to {} answer tokens trained per step, more \
             sampled, since groups that are all right or all wrong teach nothing; {} publications of weights in {} steps",
            answers.saturating_mul(config.generator.max_new_tokens as u64),
            config.run.max_steps / n.max(1),
            config.run.max_steps
        ),
    );
    out
}

/// The model's shape, if it is there; and what is missing of the rest.
fn model(config: &Config, needs: &mut Vec<String>) -> Result<Option<ModelConfig>, Failure> {
    let dir = &config.model.path;
    refuse_adapter(dir)?;
    if !dir.join("config.json").exists() {
        needs.push(format!("model.path: a Hugging Face model directory at {}; it has no config.json", dir.display()));
        return Ok(None);
    }
    let model = ModelConfig::from_dir(dir).map_err(|e| Failure::usage(e).context("model.path"))?;
    let (new, context) = (config.generator.max_new_tokens, usize::try_from(model.max_positions).unwrap_or(usize::MAX));
    if new >= context {
        return Err(Failure::Usage(format!(
            "generator.max_new_tokens: must leave room for a prompt in the model's context of {context} tokens, got {new}"
        )));
    }
    let weights = ["model.safetensors", "model.safetensors.index.json"].iter().any(|name| dir.join(name).exists());
    if !weights {
        let bytes = spoken(u64::try_from(model.parameters()).unwrap_or(0) * 2);
        needs.push(format!("model.path: weights (*.safetensors, {bytes} in bfloat16) in {}", dir.display()));
    }
    if !dir.join("tokenizer.json").exists() {
        needs.push(format!("model.path: tokenizer.json in {}", dir.display()));
    }
    Ok(Some(model))
}

/// `ready`: the weights are here, so the run is meant for this machine, and is refused if it cannot fit. `gib`: it is meant for
/// a machine of that size.
fn memory(
    config: &Config,
    model: &ModelConfig,
    gib: Option<f64>,
    ready: bool,
    out: &mut String,
) -> Result<(), Failure> {
    let memory = Memory::of(config, model);
    line(out, format_args!("memory: {} parameters, {:?}", model.parameters(), config.model.dtype));
    for part in &memory.parts {
        line(out, format_args!("memory: {:>10}  {}", spoken(part.bytes), part.what));
    }
    let machine = match gib {
        Some(gib) if gib > 0.0 && gib.is_finite() => Some(Machine::of_gib(gib)),
        Some(gib) => return Err(Failure::Usage(format!("--memory-gib: must be above 0, got {gib}"))),
        None => Machine::of_run(config),
    };
    let free = machine.map(|machine| format!("; {} of main memory are free", spoken(machine.free))).unwrap_or_default();
    let (total, certain) = (spoken(memory.total()), spoken(memory.certain()));
    line(out, format_args!("memory: {total:>10}  together, {certain} of it for certain{free}"));
    match machine.map(|machine| memory.fit(machine)) {
        Some(Fit::Exceeds(refusal)) if ready || gib.is_some() => return Err(Failure::Usage(refusal)),
        Some(Fit::Exceeds(warning) | Fit::Close(warning)) => line(out, format_args!("warning: {warning}")),
        Some(Fit::Fits) | None => {}
    }
    let (prompt, new) = (config.generator.max_prompt_tokens, config.generator.max_new_tokens);
    let context = usize::try_from(model.max_positions).unwrap_or(usize::MAX);
    if prompt + new > context {
        line(
            out,
            format_args!(
                "context: prompts of more than {} tokens are dropped as too long: the model has {context} positions, and \
                 generator.max_new_tokens takes {new}",
                context - new
            ),
        );
    }
    Ok(())
}

/// What the data are and how they become questions, file by file.
fn questions(config: &Config, out: &mut String, needs: &mut Vec<String>) -> Result<Option<Questions>, Failure> {
    let before = needs.len();
    for (key, files) in [("data.train", Some(&config.data.train)), ("data.eval", config.data.eval.as_ref())] {
        if let Some(missing) =
            files.filter(|_| key == "data.eval" || config.data.task.is_none()).and_then(Files::missing)
        {
            needs.push(format!("{key}: a file of questions (JSONL or Parquet) at {}", missing.display()));
        }
    }
    if needs.len() > before {
        return Ok(None);
    }
    let data = data::load(&config.data, &config.model.path, &config.model.chat_options()).map_err(Failure::usage)?;
    let parts = [("data.train", Some(&data.report)), ("data.eval", data.eval_report.as_ref())];
    for (key, report) in parts {
        for text in report.into_iter().flat_map(data::Report::lines) {
            line(out, format_args!("data: {key}: {text}"));
        }
    }
    let held = if data.train.are_held() { "" } else { ", read again from disk (data.memory_mib)" };
    line(out, format_args!("data: data.train has {} questions{held}", data.train.len()));
    if let Some(held_out) = &data.held_out {
        line(out, format_args!("data: data.eval has {} questions", held_out.len()));
    }
    Ok(Some(data.train))
}
