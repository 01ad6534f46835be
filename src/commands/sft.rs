//! `counterpoint sft`: supervised training on the answers that the data gives, with the optimiser, schedules and checkpoints of a
//! run, and nothing else of one. What it leaves is a model directory.
//!
//! Of the config it reads `[model]`, `[data]` (the held-out share stays out), `[learner]`, `[lora]`, `objective.reduction` and what can be
//! added to any objective, `feed.prompts_per_step` questions per step, `feed.shuffle`, `feed.epochs`, `run.max_steps`, `run.seed` and
//! `run.device`. Questions longer than `generator.max_prompt_tokens` and answers longer than `generator.max_new_tokens` are left
//! out, as a run's sampler would cut them off.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_learner::objective::ObjectiveName;
use counterpoint_learner::{Additions, CheckpointStore, ObjectiveConfig};
use counterpoint_policy::Tokenizer;
use counterpoint_replay::feed::Feed;
use counterpoint_rollout::contract::StepReport;
use counterpoint_rollout::{
    Batch, Completion, FinishReason, GeneratorId, Group, GroupId, Lease, PolicyVersion, Prompt, ScoredGroup, Verdict,
};
use counterpoint_verifier::Registry;
use serde_json::json;

use super::trainer;
use crate::cli::SftArgs;
use crate::config::{self, Config};
use crate::data;
use crate::error::Failure;
use crate::lora::refuse_adapter;
use crate::rundir::JsonLines;

pub(crate) fn run(args: &SftArgs, registry: &Registry) -> Result<(), Failure> {
    let config = config::load(&args.config.config, &args.config.overrides, registry).map_err(Failure::usage)?;
    refuse_adapter(&config.model.path)?;
    if args.out.exists() {
        return Err(Failure::Usage(format!("--out: {} exists already; name a new directory", args.out.display())));
    }
    let questions =
        data::load(&config.data, &config.model.path, &config.model.chat_options()).map_err(Failure::usage)?.train;
    let feed = Feed::new(&config.feed, config.run.seed, questions).map_err(Failure::usage)?;
    let tokenizer =
        Tokenizer::with_options(&config.model.path, &config.model.chat_options()).map_err(Failure::usage)?;
    let objective = ObjectiveConfig { name: ObjectiveName::Sft, ..config.objective.clone() };
    let mut learner = trainer::learner(&config, objective, 1.0)?;
    let store = CheckpointStore::open(&args.out, &config.model.path, &config.checkpoint).map_err(Failure::failed)?;
    let mut metrics = JsonLines::open(&args.out.join("metrics.jsonl")).map_err(Failure::failed)?;
    let mut given =
        Given { feed, tokenizer, column: args.response_column.clone(), config: &config, skipped: 0, issued: 0 };
    while learner.version().0 < config.run.max_steps {
        let Some(batch) = given.batch(learner.version())? else { break };
        let report = learner.train_step(&batch).map_err(Failure::failed)?;
        let step = learner.version().0;
        metrics.append(&line(step, &report)).map_err(Failure::failed)?;
        show(step, &config, &report);
    }
    if learner.version().0 == 0 {
        let skipped = given.skipped;
        return Err(Failure::Usage(format!("no question has an answer that fits ({skipped} are too long)")));
    }
    let written = store.save(&learner, &Additions::default()).map_err(Failure::failed)?;
    eprintln!("{} steps, {} answers too long; the model is {}", learner.version().0, given.skipped, written.display());
    Ok(())
}

/// What of a step's report says something where nothing was sampled.
fn line(step: u64, report: &StepReport) -> serde_json::Value {
    let StepReport { loss, grad_norm, learning_rate, entropy, tokens, answers, seconds, not_finite, .. } = report;
    json!({"step": step, "loss": loss, "grad_norm": grad_norm, "learning_rate": learning_rate, "entropy": entropy,
        "tokens": tokens, "answers": answers, "seconds": seconds, "not_finite": not_finite})
}

fn show(step: u64, config: &Config, report: &StepReport) {
    if step.is_multiple_of(10) || step == config.run.max_steps {
        // A terminal that is gone is no reason to stop.
        let _ = writeln!(std::io::stderr(), "step {step} of {}: loss {:.4}", config.run.max_steps, report.loss);
    }
}

/// Batches of given answers, as groups of one that were judged right.
struct Given<'c> {
    feed: Feed,
    tokenizer: Tokenizer,
    /// The column of the answer's text; without it the truth is the answer.
    column: Option<String>,
    config: &'c Config,
    /// Draws that were too long.
    skipped: u64,
    issued: u64,
}

impl Given<'_> {
    /// `None` once the epochs are over, or if a whole epoch has nothing that fits.
    fn batch(&mut self, version: PolicyVersion) -> Result<Option<Batch>, Failure> {
        let mut groups = Vec::new();
        let epoch = self.feed.epoch();
        while groups.len() < self.config.feed.prompts_per_step as usize {
            let Some(draw) = self.feed.draw() else { break };
            if groups.is_empty() && draw.epoch > epoch + 1 {
                return Ok(None);
            }
            let prompt = self.feed.prompt(draw.row).map_err(Failure::Failed)?;
            groups.extend(self.group(prompt, draw.epoch, version)?.map(Arc::new));
        }
        Ok(if groups.is_empty() { None } else { Some(Batch { version, groups }) })
    }

    /// `None` if it is too long.
    fn group(
        &mut self,
        prompt: Arc<Prompt>,
        epoch: u32,
        version: PolicyVersion,
    ) -> Result<Option<ScoredGroup>, Failure> {
        let prompt_tokens = self.tokenizer.encode_prompt(&prompt.content).map_err(Failure::usage)?;
        let text = self.text(&prompt)?;
        let mut tokens = self.tokenizer.encode_plain(&text).map_err(Failure::usage)?;
        tokens.extend(self.tokenizer.eos_tokens().first());
        let limits = &self.config.generator;
        if tokens.is_empty() || tokens.len() > limits.max_new_tokens || prompt_tokens.len() > limits.max_prompt_tokens {
            self.skipped += 1;
            return Ok(None);
        }
        let mut completion = Completion {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            versions: Vec::new(),
            finish: FinishReason::Stop,
            text,
        };
        // Nobody sampled them: the log-probs are in no ratio that is looked at.
        tokens.into_iter().for_each(|token| completion.push(token, 0.0, version));
        let lease = Lease {
            group: GroupId(self.issued),
            prompt,
            epoch,
            attempt: 0,
            answers: 1,
            position: self.issued,
            min_version: version,
            deadline: Duration::MAX,
        };
        self.issued += 1;
        let completions = vec![completion];
        let group = Group { lease, prompt_tokens, completions, start_version: version, generator: GeneratorId(0) };
        Ok(Some(ScoredGroup { group: Arc::new(group), verdicts: vec![Verdict::Correct] }))
    }

    fn text(&self, prompt: &Prompt) -> Result<String, Failure> {
        let Some(column) = &self.column else { return Ok(prompt.answer.clone()) };
        let text = prompt.info.get(column).and_then(serde_json::Value::as_str);
        text.map(str::to_owned).ok_or_else(|| {
            Failure::Usage(format!("--response-column: question {:?} has no text in column {column:?}", prompt.id))
        })
    }
}
