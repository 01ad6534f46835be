//! `counterpoint verify`: judges JSONL lines {"response", "answer"} in parallel and answers in their order.
//!
//! {"verdict": "correct" | "incorrect" | "soft" | "void:REASON"}, a soft one with its "score", and with `--explain` how it came
//! about. Keys of a line other than "response", "answer" and "prompt" reach the verifier as the prompt's `info`. At most a
//! window of lines is in memory, whatever the input's size. Judgements that hang past their deadline are void, and beyond
//! `verifier.max_abandoned` of them still running the command fails.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use counterpoint_rollout::{Prompt, PromptContent, Verdict, VoidReason};
use counterpoint_verifier::{Home, Judge, Known, Question, Registry, SelfTest, VerifierConfig};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::jsonl::{Input, Output};
use crate::cli::VerifyArgs;
use crate::error::Failure;
use crate::{config, data};

/// How long hung threads of verifiers may hold up the end of the program.
pub(super) const LEAVE: Duration = Duration::from_millis(100);

/// Lines in memory per line being judged: one that takes long must not leave the other workers without work.
const WINDOW: usize = 32;

#[derive(Debug, PartialEq, Serialize)]
struct Judgement {
    verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Value>,
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        let (verdict, score) = match verdict {
            Verdict::Soft(score) => ("soft".to_owned(), Some(score)),
            Verdict::Void(VoidReason::Verifier(why)) => (format!("void:verifier: {why}"), None),
            Verdict::Void(reason) => (format!("void:{reason}"), None),
            plain => (plain.label().to_owned(), None),
        };
        Self { verdict, score, explain: None }
    }
}

pub(crate) fn run(args: &VerifyArgs, registry: &Registry) -> Result<(), Failure> {
    if let Some(name) = &args.self_test {
        return self_test(name, args, registry);
    }
    // clap asks for one of the two.
    let name = args.verifier.as_deref().unwrap_or_default();
    let config = section(name, args.deadline, registry)?;
    let judge = Arc::new(build(&config, registry)?);
    let workers = args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let input = Input::open(Some(&args.input.input))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let window = Arc::new(Window {
        judge: Arc::clone(&judge),
        deadline: config.deadline(),
        explain: args.explain,
        turns: Arc::new(Semaphore::new(workers)),
        lines: workers.saturating_mul(WINDOW),
        abandoned: Arc::default(),
        max_abandoned: config.max_abandoned,
    });
    let result = runtime.block_on(async {
        judge.start(&Home::default()).await.map_err(Failure::failed)?;
        let result = judge_all(window, input).await;
        judge.stop().await;
        result
    });
    // Merely dropping the runtime would wait for a hung verifier for ever.
    runtime.shutdown_timeout(LEAVE);
    result
}

/// Examines a verifier: a finding per line; fails if it did anything wrong.
fn self_test(name: &str, args: &VerifyArgs, registry: &Registry) -> Result<(), Failure> {
    let config = section(name, args.deadline, registry)?;
    let verifier = registry.build(&config).map_err(Failure::usage)?;
    let mut known = Vec::new();
    if args.input.input != Path::new("-") {
        let mut input = Input::open(Some(&args.input.input))?;
        while let Some(case) = input.json::<Known>()? {
            known.push(case);
        }
    }
    let test = SelfTest::new(config.name.clone(), verifier, config.deadline(), known);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let mut wrong = 0;
    runtime.block_on(test.run(|finding| {
        wrong += usize::from(finding.outcome.is_err());
        // Whoever does not read on still gets the exit code.
        let _ = writeln!(std::io::stdout(), "{}", crate::console::printable(&finding.to_string()));
    }));
    runtime.shutdown_timeout(LEAVE);
    if wrong == 0 { Ok(()) } else { Err(Failure::Failed(format!("the verifier failed {wrong} of the tests above"))) }
}

/// The verifier that `config` names, ready to start.
pub(super) fn build(config: &VerifierConfig, registry: &Registry) -> Result<Judge, Failure> {
    let verifier = registry.build(config).map_err(Failure::usage)?;
    Ok(Judge::new(config.name.clone(), verifier, config.truncated))
}

/// The `[verifier]` section of a config file, or the defaults with a name.
pub(super) fn section(name: &str, deadline: Option<f64>, registry: &Registry) -> Result<VerifierConfig, Failure> {
    let path = Path::new(name);
    let mut section = if path.extension().is_some_and(|e| e == "toml") {
        config::load_verifier(path, registry).map_err(Failure::usage)?
    } else {
        VerifierConfig { name: name.to_owned(), ..VerifierConfig::default() }
    };
    if let Some(seconds) = deadline {
        section.deadline_seconds = seconds;
    }
    let mut errors = Vec::new();
    section.validate(&mut errors);
    if errors.is_empty() { Ok(section) } else { Err(Failure::Usage(errors.join("\n"))) }
}

struct Window {
    judge: Arc<Judge>,
    deadline: Duration,
    explain: bool,
    /// One permit per line that may be judged now.
    turns: Arc<Semaphore>,
    /// Lines that may be in memory.
    lines: usize,
    /// Judgements that run on past their deadline.
    abandoned: Arc<AtomicUsize>,
    max_abandoned: usize,
}

/// Reads, judges and writes; a malformed line ends it after the verdicts of those before.
async fn judge_all(window: Arc<Window>, mut input: Input) -> Result<(), Failure> {
    let mut output = Output::stdout();
    // Bounded: the reader waits while the window is full. It ends when the input does, or when the other end is dropped.
    let (sender, mut running) = mpsc::channel(window.lines);
    let starter = Arc::clone(&window);
    let reader = tokio::task::spawn_blocking(move || {
        while let Some(question) = next(&mut input)? {
            if sender.blocking_send(starter.start(question)).is_err() {
                break;
            }
        }
        Ok(())
    });
    loop {
        let oldest = match running.try_recv() {
            Ok(oldest) => oldest,
            Err(_) => {
                // Whoever waits for an answer before the next line is sent gets it.
                output.flush()?;
                let Some(oldest) = running.recv().await else { break };
                oldest
            }
        };
        let judgement = judgement(oldest, &mut output).await?;
        output.write(&judgement)?;
        window.check_abandoned()?;
    }
    output.flush()?;
    reader.await.unwrap_or_else(|panic| Err(Failure::Failed(format!("reading failed: {panic}"))))
}

async fn judgement(mut task: JoinHandle<Judgement>, output: &mut Output) -> Result<Judgement, Failure> {
    if !task.is_finished() {
        output.flush()?;
    }
    // A task that panicked (the judge catches a verifier's panic itself) judged nothing.
    Ok((&mut task).await.unwrap_or_else(|_| Verdict::Void(VoidReason::Crash).into()))
}

/// The next line's question.
fn next(input: &mut Input) -> Result<Option<Question>, Failure> {
    let Some(mut line) = input.json::<Map<String, Value>>()? else { return Ok(None) };
    let mut take = |key: &str| line.remove(key).ok_or_else(|| format!("missing field `{key}`"));
    let response = match take("response") {
        Ok(Value::String(response)) => response,
        Ok(other) => return Err(input.malformed(format!("response: expected a text, got {}", data::kind(&other)))),
        Err(missing) => return Err(input.malformed(missing)),
    };
    let answer = take("answer").and_then(|answer| data::scalar(&answer).map_err(|e| format!("answer: {e}")));
    let answer = answer.map_err(|problem| input.malformed(problem))?;
    let content = match line.remove("prompt") {
        None => PromptContent::Text(String::new()),
        Some(prompt) => data::prompt_content(&prompt).map_err(|e| input.malformed(format!("prompt: {e}")))?,
    };
    let source = line.get("data_source").and_then(Value::as_str).unwrap_or_default().to_owned();
    let prompt = Prompt { id: input.number().to_string(), content, answer, source, info: line };
    Ok(Some(Question::new(Arc::new(prompt), vec![response])))
}

impl Window {
    fn start(self: &Arc<Self>, question: Question) -> JoinHandle<Judgement> {
        let window = Arc::clone(self);
        tokio::spawn(async move {
            // The semaphore is never closed, so there is a turn for everyone; the deadline begins with it.
            let _turn = window.turns.acquire().await;
            window.judge(question).await
        })
    }

    async fn judge(&self, question: Question) -> Judgement {
        let explained = if self.explain { self.judge.explain(question.clone(), self.deadline).await } else { None };
        let judged = self.judge.question(question, self.deadline).await;
        if let Some(mut unfinished) = judged.unfinished {
            let abandoned = Arc::clone(&self.abandoned);
            abandoned.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                unfinished.ended().await;
                abandoned.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let verdict = judged.verdicts.into_iter().next().unwrap_or(Verdict::Void(VoidReason::Protocol));
        Judgement { explain: explained.and_then(|all| all.into_iter().next()), ..verdict.into() }
    }

    fn check_abandoned(&self) -> Result<(), Failure> {
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        if abandoned <= self.max_abandoned {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{abandoned} judgements run on past their deadline of {:?} and cannot be stopped; the verifier hangs",
            self.deadline
        )))
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
