//! `counterpoint check`: whether a config can run, what it says in full, and what it will need.
//!
//! Settings that cannot work are errors (exit code 2). A model or data that is not there yet is not: the config is right, and
//! a line that begins with "needs:" says what must be put where. What is there is read, and must be right.

use std::fmt::Write as _;
use std::io::Write as _;

use counterpoint_policy::ModelConfig;
use counterpoint_rollout::PromptSet as _;
use counterpoint_verifier::Registry;

use super::estimate::{Flow, Memory, spoken};
use crate::cli::ConfigArgs;
use crate::config::{self, Config};
use crate::data::{self, Files};
use crate::error::Failure;
use crate::lora::refuse_adapter;

pub(crate) fn run(args: &ConfigArgs, registry: &Registry) -> Result<(), Failure> {
    let config = config::load(&args.config, &args.overrides, registry).map_err(Failure::usage)?;
    let report = report(&config)?;
    match write!(std::io::stdout(), "{}\n{report}", config.to_toml()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        other => other.map_err(|e| Failure::Failed(format!("stdout: {e}"))),
    }
}

/// Everything behind the resolved config: comments, so that the whole output is a config again.
fn report(config: &Config) -> Result<String, Failure> {
    let mut out = flow(config);
    let mut needs = Vec::new();
    match model(config, &mut needs)? {
        Some(model) => memory(config, &model, &mut out),
        None => line(&mut out, format_args!("memory: known once the model's config.json is there")),
    }
    questions(config, &mut out, &mut needs)?;
    for need in &needs {
        line(&mut out, format_args!("needs: {need}"));
    }
    line(
        &mut out,
        format_args!("ok: the settings are accepted{}", if needs.is_empty() { "" } else { "; `run` needs the above" }),
    );
    Ok(out)
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# {text}");
}

fn flow(config: &Config) -> String {
    let flow = Flow::of(config);
    let (b, k) = (config.feed.prompts_per_step, config.feed.answers_per_prompt);
    let (eta, n) = (config.replay.max_staleness, config.weight_sync.every);
    let mut out = String::new();
    line(
        &mut out,
        format_args!("flow: B = {b} mixed groups per step, K = {k} answers per group, eta = {eta}, n = {n}"),
    );
    line(
        &mut out,
        format_args!(
            "flow: at most {} groups in flight; {} answers and up to {} answer tokens trained per step, more sampled, since \
             groups that are all right or all wrong teach nothing; {} publications of weights in {} steps",
            flow.groups_in_flight, flow.answers_per_step, flow.tokens_per_step, flow.publications, config.run.max_steps
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

fn memory(config: &Config, model: &ModelConfig, out: &mut String) {
    let memory = Memory::of(config, model);
    line(out, format_args!("memory: {} parameters, {:?}", model.parameters(), config.model.dtype));
    for (what, bytes) in &memory.parts {
        line(out, format_args!("memory: {:>10}  {what}", spoken(*bytes)));
    }
    let here = available().map(|bytes| format!("; {} of main memory are free on this machine", spoken(bytes)));
    line(out, format_args!("memory: {:>10}  together{}", spoken(memory.total()), here.unwrap_or_default()));
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
}

/// What the data are and how they become questions, file by file.
fn questions(config: &Config, out: &mut String, needs: &mut Vec<String>) -> Result<(), Failure> {
    let before = needs.len();
    for (key, files) in [("data.train", Some(&config.data.train)), ("data.eval", config.data.eval.as_ref())] {
        if let Some(missing) =
            files.filter(|_| key == "data.eval" || config.data.task.is_none()).and_then(Files::missing)
        {
            needs.push(format!("{key}: a file of questions (JSONL or Parquet) at {}", missing.display()));
        }
    }
    if needs.len() > before {
        return Ok(());
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
    Ok(())
}

/// Memory that new processes can use, as the kernel says.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?.trim().strip_suffix("kB")?.trim();
    kib.parse::<u64>().ok().map(|kib| kib * 1024)
}
