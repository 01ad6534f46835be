//! `counterpoint eval`: how well a model answers questions with known answers.
//!
//! One JSON object: {"model", "data", "prompts", "samples", "pass@1", ..., "mean@k", "majority@k", ...}, with
//! "standard_error" and "interval_95" of each figure, and the same by data source where there are several. mean@k is the mean
//! score of all answers; pass@j the chance that j answers hold a right one (an unbiased estimate from all k; at j = 1 it
//! equals mean@k unless scores are soft); majority@k the score of the answer that most samples give. A void verdict counts
//! as wrong and is shown apart. What the uncertainty means stands in `counterpoint_generator`'s `eval_stats`.

mod plan;
mod report;
mod samples;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_generator::{Outcome, PromptScores, Request, Sampled, sample_all};
use counterpoint_policy::Tokenizer;
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::{Completion, GroupId, Prompt};
use counterpoint_verifier::{Home, Judge, Registry};
use serde_json::{Map, Value, json};
use tokio::task::{JoinError, JoinSet};

use self::plan::Plan;
use self::samples::{Answered, Sample, SamplesFile};
use super::jsonl::Output;
use super::sampler::{Sampler, noise};
use super::verify;
use crate::cli::EvalArgs;
use crate::console::Counter;
use crate::data;
use crate::error::Failure;
use crate::rundir;

pub(crate) fn run(args: &EvalArgs, registry: &Registry) -> Result<(), Failure> {
    let plan = Plan::new(args, registry)?;
    let questions = data::load_eval(&plan.data, &plan.model, &plan.chat).map_err(Failure::usage)?;
    let questions = questions.ok_or_else(|| {
        Failure::Usage("data.eval: name a file of held-out questions (or set data.eval_share)".to_owned())
    })?;
    let prompts = questions.first(plan.eval.limit.unwrap_or(usize::MAX)).map_err(Failure::usage)?;
    let judge = Arc::new(verify::build(&plan.verifier, registry)?);
    let mut sampler = Sampler::load(&plan.model, &plan.device, &plan.chat, |t: &Tokenizer| {
        plan.eval.engine_options(&plan.generator, t)
    })?;
    // Last of what may be refused, so that no file is begun in vain.
    let (file, answered) = match &args.samples_out {
        Some(path) => open(path, args.resume, &plan, &prompts)?,
        None => (None, HashMap::new()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let started = Stopwatch::start();
    runtime.block_on(judge.start(&Home::default())).map_err(Failure::failed)?;
    let results = Results::new(prompts.len(), file, answered);
    let results = evaluate(&plan, &prompts, results, &mut sampler, &judge, &runtime);
    runtime.block_on(judge.stop());
    runtime.shutdown_timeout(verify::LEAVE);
    let answered = results?.finish()?;
    let mut output = Output::stdout();
    output.write(&report::shown(&plan, &answered, started.elapsed().as_secs_f64()))?;
    output.flush()
}

type Opened = (Option<SamplesFile>, HashMap<String, Answered>);

fn open(path: &Path, resume: bool, plan: &Plan, prompts: &[Arc<Prompt>]) -> Result<Opened, Failure> {
    let settings = settings(plan, prompts)?;
    let (file, answered) = SamplesFile::open(path, resume, settings, plan.eval.samples)?;
    Ok((Some(file), answered))
}

/// All that decides the answers and their verdicts: a file of samples is only continued under the same.
fn settings(plan: &Plan, prompts: &[Arc<Prompt>]) -> Result<Map<String, Value>, Failure> {
    let (eval, generator) = (&plan.eval, &plan.generator);
    let mut verifier = serde_json::to_value(&plan.verifier).map_err(Failure::failed)?;
    if let Some(verifier) = verifier.as_object_mut() {
        // How many at once and who schedules them changes no verdict.
        for key in ["workers", "actor", "max_abandoned"] {
            verifier.remove(key);
        }
    }
    let Value::Object(settings) = json!({
        "model": rundir::model_digest(&plan.model).map_err(Failure::usage)?,
        "chat": {
            "system_prompt": plan.chat.system_prompt,
            "template": plan.chat.template,
            "variables": plan.chat.variables,
            "date": plan.chat.date,
        },
        "prompts": digest(prompts)?,
        "samples": eval.samples,
        "seed": plan.seed,
        "temperature": eval.temperature,
        "top_k": eval.top_k,
        "top_p": eval.top_p,
        "min_p": eval.min_p,
        "repetition_penalty": eval.repetition_penalty,
        "stop": eval.stop.as_ref().unwrap_or(&generator.stop),
        "max_new_tokens": eval.max_new_tokens.unwrap_or(generator.max_new_tokens),
        "max_prompt_tokens": generator.max_prompt_tokens,
        "verifier": verifier,
    }) else {
        return Ok(Map::new());
    };
    Ok(settings)
}

fn digest(prompts: &[Arc<Prompt>]) -> Result<String, Failure> {
    let mut hasher = blake3::Hasher::new();
    for prompt in prompts {
        let text = serde_json::to_vec(&**prompt).map_err(Failure::failed)?;
        hasher.update(&text).update(b"\n");
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// What is answered so far, where it is written, and how it is shown.
struct Results {
    answered: Vec<Answered>,
    /// Read back from the file, by prompt.
    known: HashMap<String, Answered>,
    file: Option<SamplesFile>,
    counter: Counter,
}

impl Results {
    fn new(prompts: usize, file: Option<SamplesFile>, known: HashMap<String, Answered>) -> Self {
        let counter = Counter::new(prompts, known.len(), "prompts");
        Self { answered: known.values().cloned().collect(), known, file, counter }
    }

    fn add(&mut self, joined: Option<Result<Judgement, JoinError>>, samples: u32) -> Result<(), Failure> {
        match joined {
            Some(Ok(lines)) => {
                if let Some(file) = &mut self.file {
                    file.append(&lines)?;
                }
                self.answered.push(Answered::of(&lines));
            }
            // A judgement that panicked judged nothing.
            Some(Err(_)) => self.unanswered(String::new(), samples),
            None => return Ok(()),
        }
        self.counter.add_one();
        Ok(())
    }

    /// Not written down: the next run finds it out as fast.
    fn unanswered(&mut self, source: String, samples: u32) {
        self.answered.push(Answered { source, scores: PromptScores::unanswered(samples), extracted: true });
    }

    fn finish(self) -> Result<Vec<Answered>, Failure> {
        if let Some(file) = &self.file {
            file.sync()?;
        }
        Ok(self.answered)
    }
}

/// Samples on this thread, judges on the runtime's; as many judgements at once as the verifier has workers.
fn evaluate(
    plan: &Plan,
    prompts: &[Arc<Prompt>],
    mut results: Results,
    sampler: &mut Sampler,
    judge: &Arc<Judge>,
    runtime: &tokio::runtime::Runtime,
) -> Result<Results, Failure> {
    let samples = plan.eval.samples;
    let open: Vec<&Arc<Prompt>> = prompts.iter().filter(|p| !results.known.contains_key(&p.id)).collect();
    let requests: Result<Vec<Request>, _> = open
        .iter()
        .zip(0..)
        .map(|(prompt, id)| Request::new(GroupId(id), prompt, samples, noise(plan.seed), &sampler.tokenizer))
        .collect();
    let mut judging = JoinSet::new();
    // Outcomes come in the order of the requests.
    for (outcome, prompt) in sample_all(&mut sampler.engine, requests.map_err(Failure::usage)?).zip(open) {
        match outcome.map_err(Failure::failed)? {
            Outcome::Dropped { .. } => {
                results.counter.say(&format!("prompt {:?} does not fit and counts as wrong", prompt.id));
                results.unanswered(prompt.source.clone(), samples);
                results.counter.add_one();
            }
            Outcome::Answered(Sampled { completions, .. }) => {
                let deadline = plan.verifier.deadline();
                judging.spawn_on(judged(judge.clone(), prompt.clone(), completions, deadline), runtime.handle());
            }
        }
        while let Some(joined) = judging.try_join_next() {
            results.add(Some(joined), samples)?;
        }
        while judging.len() > plan.verifier.workers {
            results.add(runtime.block_on(judging.join_next()), samples)?;
        }
    }
    while !judging.is_empty() {
        results.add(runtime.block_on(judging.join_next()), samples)?;
    }
    Ok(results)
}

type Judgement = Vec<Sample>;

async fn judged(judge: Arc<Judge>, prompt: Arc<Prompt>, completions: Vec<Completion>, deadline: Duration) -> Judgement {
    let verdicts = judge.completions(&prompt, &completions, deadline).await.verdicts;
    let votes = judge.votes(&prompt, &completions, deadline).await;
    samples::samples(&prompt, &completions, &verdicts, votes)
}
