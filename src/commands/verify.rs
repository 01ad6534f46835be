//! `counterpoint verify`: judges JSONL lines {"response", "answer"} in parallel and answers in their order.
//!
//! {"verdict": "correct" | "incorrect" | "soft" | "void:REASON"}, a soft one with its "score". At most a window of lines is in
//! memory, whatever the input's size. Judgements that hang past their deadline are void, and beyond
//! `verifier.max_abandoned` of them still running the command fails.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use counterpoint_rollout::{Verdict, VoidReason};
use counterpoint_verifier::{Judge, Question, Registry, VerifierConfig};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::jsonl::{Input, Output};
use crate::cli::VerifyArgs;
use crate::config;
use crate::error::Failure;

/// How long hung threads of verifiers may hold up the end of the program.
pub(super) const LEAVE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Line {
    response: String,
    answer: serde_json::Value,
}

#[derive(Debug, PartialEq, Serialize)]
struct Judgement {
    verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Soft(score) => Self { verdict: "soft".to_owned(), score: Some(score) },
            Verdict::Void(VoidReason::Verifier(why)) => Self { verdict: format!("void:verifier: {why}"), score: None },
            Verdict::Void(reason) => Self { verdict: format!("void:{reason}"), score: None },
            plain => Self { verdict: plain.label().to_owned(), score: None },
        }
    }
}

pub(crate) fn run(args: &VerifyArgs, registry: &Registry) -> Result<(), Failure> {
    let verifier = section(args, registry)?;
    let judge = build(&verifier, registry)?;
    let workers = args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let mut input = Input::open(Some(&args.input.input))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let window = Window { judge: Arc::new(judge), deadline: verifier.deadline(), abandoned: Arc::default() };
    let result = runtime.block_on(judge_all(&window, &mut input, workers, verifier.max_abandoned));
    // Merely dropping the runtime would wait for a hung verifier for ever.
    runtime.shutdown_timeout(LEAVE);
    result
}

/// The verifier that `config` names, ready to judge.
pub(super) fn build(config: &VerifierConfig, registry: &Registry) -> Result<Judge, Failure> {
    let verifier = registry.build(config).map_err(Failure::usage)?;
    Ok(Judge::new(config.name.clone(), verifier, config.truncated))
}

/// The `[verifier]` section of a config file, or the defaults with a name.
fn section(args: &VerifyArgs, registry: &Registry) -> Result<VerifierConfig, Failure> {
    let path = Path::new(&args.verifier);
    let mut section = if path.extension().is_some_and(|e| e == "toml") {
        config::load_verifier(path, registry).map_err(Failure::usage)?
    } else {
        VerifierConfig { name: args.verifier.clone(), ..VerifierConfig::default() }
    };
    if let Some(seconds) = args.deadline {
        section.deadline_seconds = seconds;
    }
    let mut errors = Vec::new();
    section.validate(&mut errors);
    if errors.is_empty() { Ok(section) } else { Err(Failure::Usage(errors.join("\n"))) }
}

struct Window {
    judge: Arc<Judge>,
    deadline: Duration,
    /// Judgements that run on past their deadline.
    abandoned: Arc<AtomicUsize>,
}

/// Reads, judges and writes; a malformed line ends it after the verdicts of those before.
async fn judge_all(window: &Window, input: &mut Input, workers: usize, max_abandoned: usize) -> Result<(), Failure> {
    let mut output = Output::stdout();
    let mut running: VecDeque<JoinHandle<Judgement>> = VecDeque::with_capacity(workers);
    let malformed = loop {
        // Reading blocks this thread only; the judgements run on the runtime's others.
        match tokio::task::block_in_place(|| next(input)) {
            Ok(Some(line)) => running.push_back(window.start(line)),
            Ok(None) => break None,
            Err(failure) => break Some(failure),
        }
        if running.len() >= workers
            && let Some(oldest) = running.pop_front()
        {
            output.write(&judgement(oldest).await)?;
            let abandoned = window.abandoned.load(Ordering::Relaxed);
            if abandoned > max_abandoned {
                output.flush()?;
                return Err(Failure::Failed(format!(
                    "{abandoned} judgements run on past their deadline of {:?} and cannot be stopped; the verifier hangs",
                    window.deadline
                )));
            }
        }
    };
    for task in running {
        output.write(&judgement(task).await)?;
    }
    output.flush()?;
    malformed.map_or(Ok(()), Err)
}

fn next(input: &mut Input) -> Result<Option<(String, String)>, Failure> {
    let Some(line) = input.json::<Line>()? else { return Ok(None) };
    let answer = crate::data::scalar(&line.answer).map_err(|e| input.malformed(format!("answer: {e}")))?;
    Ok(Some((line.response, answer)))
}

async fn judgement(task: JoinHandle<Judgement>) -> Judgement {
    // A task that panicked (the judge catches a verifier's panic itself) judged nothing.
    task.await.unwrap_or_else(|_| Verdict::Void(VoidReason::Crash).into())
}

impl Window {
    fn start(&self, (response, answer): (String, String)) -> JoinHandle<Judgement> {
        let (judge, deadline, abandoned) = (self.judge.clone(), self.deadline, self.abandoned.clone());
        tokio::spawn(async move {
            let judged = judge.question(Question::pair(response, answer), deadline).await;
            if let Some(mut unfinished) = judged.unfinished {
                abandoned.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    unfinished.ended().await;
                    abandoned.fetch_sub(1, Ordering::Relaxed);
                });
            }
            judged.verdicts.into_iter().next().unwrap_or(Verdict::Void(VoidReason::Protocol)).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_one_word_and_says_why_it_is_void() {
        let shown = |verdict: Verdict| serde_json::to_string(&Judgement::from(verdict)).unwrap();
        assert_eq!(shown(Verdict::Correct), r#"{"verdict":"correct"}"#);
        assert_eq!(shown(Verdict::Incorrect), r#"{"verdict":"incorrect"}"#);
        assert_eq!(shown(Verdict::Soft(0.25)), r#"{"verdict":"soft","score":0.25}"#);
        assert_eq!(shown(Verdict::Void(VoidReason::Timeout)), r#"{"verdict":"void:timeout"}"#);
        assert_eq!(
            shown(Verdict::Void(VoidReason::Verifier("no box".into()))),
            r#"{"verdict":"void:verifier: no box"}"#
        );
    }
}
