//! Holds one program against its tests.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fs, io};

use counterpoint_rollout::{Verdict, VoidReason};
use serde_json::{Value, json};

use super::cases::{Call, Stream, Tests, same_output, same_result};
use super::interpreter::Interpreter;
use super::program::{Clock, Event, Program, Remains};
use crate::contain::random;

/// How long an interpreter may take to start, before the program's own time begins.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// Runs in the child and reports on the program.
const HARNESS: &str = include_str!("harness.py");

/// How a test went.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Passed,
    /// By the program's fault.
    Failed(String),
    /// Not by the program's fault.
    Void(VoidReason),
}

impl Outcome {
    fn void(reason: impl Into<String>) -> Self {
        Self::Void(VoidReason::Verifier(reason.into()))
    }
}

/// What was found out about an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judgement {
    /// One per test; without `partial`, up to the first that did not pass.
    pub(super) outcomes: Vec<Outcome>,
    /// How many tests there are.
    pub(super) tests: usize,
}

impl Judgement {
    /// The verdict, with the share of the tests passed as a score if that is wanted. A test that says nothing leaves nothing
    /// to say, unless the answer is wrong already.
    pub(super) fn verdict(&self, partial: bool) -> Verdict {
        let void = self.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Void(reason) => Some(reason.clone()),
            _ => None,
        });
        let failed = self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_)));
        let passed = self.outcomes.iter().filter(|outcome| **outcome == Outcome::Passed).count();
        match void {
            Some(reason) if partial || !failed => Verdict::Void(reason),
            _ if partial => Verdict::from_score(passed as f32 / self.tests as f32),
            _ => Verdict::from(passed == self.tests),
        }
    }
}

/// Runs a program against its tests. Without `all`, it stops at the first that does not pass.
pub(super) async fn judge(interpreter: &Interpreter, code: &str, tests: &Tests, all: bool) -> Judgement {
    let outcomes = match tests {
        Tests::Streams(streams) => run_streams(interpreter, code, streams, all).await,
        Tests::Asserts { setup, tests } => {
            let task = json!({"setup": setup, "code": code, "tests": tests, "function": null, "calls": []});
            run_harness(interpreter, task, Expected::Passes(tests.len()), all).await
        }
        Tests::Calls { setup, function, calls } => {
            let arguments: Vec<_> = calls.iter().map(|call| &call.arguments).collect();
            let task = json!({"setup": setup, "code": code, "tests": [], "function": function, "calls": arguments});
            run_harness(interpreter, task, Expected::Results(calls), all).await
        }
    };
    Judgement { outcomes, tests: tests.len() }
}

// === Standard input and output ===

async fn run_streams(interpreter: &Interpreter, code: &str, streams: &[Stream], all: bool) -> Vec<Outcome> {
    let (mut outcomes, mut left) = (Vec::new(), interpreter.options.total());
    for stream in streams {
        let time = left.min(interpreter.options.test());
        let (outcome, used) = match time.is_zero() {
            true => (Outcome::Failed("no time left (total_seconds)".into()), Duration::ZERO),
            false => run_stream(interpreter, code, stream, time).await,
        };
        left = left.saturating_sub(used);
        let go_on = all || outcome == Outcome::Passed;
        outcomes.push(outcome);
        if !go_on {
            break;
        }
    }
    outcomes
}

/// Runs a program on one input. Also returns how much of its time it used.
async fn run_stream(interpreter: &Interpreter, code: &str, stream: &Stream, time: Duration) -> (Outcome, Duration) {
    let arguments = |directory: &Path| -> io::Result<Vec<String>> {
        let file = directory.join(interpreter.file_name());
        fs::write(&file, code)?;
        Ok(vec![file.to_string_lossy().into_owned()])
    };
    let mut program = match interpreter.start(arguments, stream.input.clone().into_bytes(), time).await {
        Ok(program) => program,
        Err(error) => return (cannot_start(&error), Duration::ZERO),
    };
    let (clock, oom_kills) = (program.clock(time), oom_kills());
    let event = not_output(&mut program, &clock).await;
    let used = program.used(&clock);
    let Remains { output, too_much, last_line } = program.end().await;
    let outcome = match event {
        Event::Starved => STARVED,
        Event::Late => late(time),
        _ if too_much => too_much_output(),
        Event::Ended(status) if !status.success() => ended(status, last_line, oom_kills),
        Event::Ended(_) if same_output(&String::from_utf8_lossy(&output), &stream.output) => Outcome::Passed,
        Event::Ended(_) => Outcome::Failed(format!("wrong output {}", quoted(&output))),
        Event::TooMuch | Event::Output => too_much_output(),
    };
    (outcome, used)
}

/// The first event that is more than output.
async fn not_output(program: &mut Program, clock: &Clock) -> Event {
    loop {
        match program.next(clock).await {
            Event::Output => {}
            other => return other,
        }
    }
}

// === Asserts and calls, within one interpreter ===

/// What the harness is to report.
enum Expected<'a> {
    /// So many passed tests.
    Passes(usize),
    /// These results.
    Results(&'a [Call]),
}

impl Expected<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Passes(tests) => *tests,
            Self::Results(calls) => calls.len(),
        }
    }

    /// The outcome that a report about test number `test` tells; none if it is no report of the harness after all.
    fn outcome(&self, test: usize, kind: &str, what: &str) -> Option<Outcome> {
        match (self, kind) {
            (_, "fail") => Some(Outcome::Failed(what.to_owned())),
            (Self::Passes(_), "pass") => Some(Outcome::Passed),
            (Self::Results(calls), "value") => {
                let result: Value = serde_json::from_str(what).ok()?;
                let right = same_result(&result, &calls.get(test)?.result);
                Some(if right {
                    Outcome::Passed
                } else {
                    Outcome::Failed(format!("wrong result {}", quoted(what.as_bytes())))
                })
            }
            _ => None,
        }
    }
}

/// The reports of a harness as far as they came.
struct Reports<'a> {
    token: String,
    expected: Expected<'a>,
    /// Bytes of a line whose end has not come yet.
    pending: Vec<u8>,
    ready: bool,
    outcomes: Vec<Outcome>,
    /// The same for all tests: the program or its tests did not get as far as the first.
    all: Option<Outcome>,
}

impl Reports<'_> {
    fn hear(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end());
        }
    }

    /// A line without the token is none of the harness's, and says nothing.
    fn line(&mut self, line: &str) {
        let Some(report) = line.strip_prefix(&self.token).and_then(|rest| rest.strip_prefix(' ')) else { return };
        let (kind, what) = report.split_once(' ').unwrap_or((report, ""));
        match kind {
            "ready" => self.ready = true,
            "malformed" => self.all = Some(Outcome::void(format!("tests: {what}"))),
            "broken" => self.all = Some(Outcome::Failed(what.to_owned())),
            _ if self.outcomes.len() == self.expected.len() => {}
            _ => self.outcomes.extend(self.expected.outcome(self.outcomes.len(), kind, what)),
        }
    }

    /// Whether there is nothing to wait for.
    fn complete(&self, all: bool) -> bool {
        let failed = || self.outcomes.iter().any(|outcome| *outcome != Outcome::Passed);
        self.all.is_some() || self.outcomes.len() == self.expected.len() || (!all && failed())
    }
}

async fn run_harness(interpreter: &Interpreter, mut task: Value, expected: Expected<'_>, all: bool) -> Vec<Outcome> {
    // The token is what the program cannot print by accident or from memory: each run has its own.
    let token = format!("{:016x}{:016x}", random(), random());
    task["token"] = token.as_str().into();
    let arguments = |_: &Path| Ok(vec!["-c".to_owned(), HARNESS.to_owned()]);
    let started = interpreter.start(arguments, task.to_string().into_bytes(), interpreter.options.total()).await;
    let mut program = match started {
        Ok(program) => program,
        Err(error) => return vec![cannot_start(&error)],
    };
    let mut reports = Reports { token, expected, pending: Vec::new(), ready: false, outcomes: Vec::new(), all: None };
    let oom_kills = oom_kills();
    let last = hear_out(interpreter, &mut program, &mut reports, all).await;
    let Remains { output, too_much, last_line } = program.end().await;
    reports.hear(&output);
    let Reports { ready, mut outcomes, all: same_for_all, expected, .. } = reports;
    if let Some(outcome) = same_for_all {
        return vec![outcome];
    }
    let stopped = !all && outcomes.iter().any(|outcome| *outcome != Outcome::Passed);
    if outcomes.len() < expected.len() && !stopped {
        outcomes.push(match last {
            _ if too_much => too_much_output(),
            Last::Ended(status) if ready && status.success() => Outcome::Failed("ended before its tests did".into()),
            Last::Ended(status) if ready => ended(status, last_line, oom_kills),
            Last::Ended(_) => Outcome::void(with(last_line, "the interpreter did not start".into())),
            Last::Starved => STARVED,
            Last::Late(_) if !ready => STARVED,
            Last::Late(time) => late(time),
            Last::Complete => Outcome::Failed("reports that nobody can believe".into()),
        });
    }
    outcomes
}

/// Why no more reports are waited for.
enum Last {
    Complete,
    Ended(ExitStatus),
    Late(Duration),
    Starved,
}

/// Listens until all is said, or the time for the next report or for all of them is over.
async fn hear_out(interpreter: &Interpreter, program: &mut Program, reports: &mut Reports<'_>, all: bool) -> Last {
    let (test, total) = (interpreter.options.test(), interpreter.options.total());
    let mut clock = program.clock(START_DEADLINE);
    let mut whole = clock;
    while !reports.complete(all) {
        let (was_ready, heard) = (reports.ready, reports.outcomes.len());
        match program.next(&clock).await {
            Event::Output => reports.hear(&program.take_output()),
            Event::Ended(status) => return Last::Ended(status),
            Event::TooMuch => return Last::Complete,
            Event::Late => return Last::Late(clock.limit()),
            Event::Starved => return Last::Starved,
        }
        if reports.ready && !was_ready {
            whole = program.clock(total);
        }
        if reports.ready && (!was_ready || reports.outcomes.len() > heard) {
            let next = program.clock(test);
            clock = if next.end() < whole.end() { next } else { whole };
        }
    }
    Last::Complete
}

// === Words ===

/// It took too long to start, or had to wait too long for a processor: that says nothing of it.
const STARVED: Outcome = Outcome::Void(VoidReason::Timeout);

fn late(time: Duration) -> Outcome {
    Outcome::Failed(format!("no end within {:.1} s", time.as_secs_f64()))
}

fn too_much_output() -> Outcome {
    Outcome::Failed("too much output (output_kib)".into())
}

fn cannot_start(error: &io::Error) -> Outcome {
    Outcome::void(format!("the program cannot be started: {error}"))
}

/// What an end other than with success says. A `SIGKILL` that was not ours is the program's own, unless the kernel killed for
/// want of memory meanwhile.
fn ended(status: ExitStatus, last_line: Option<String>, oom_kills_before: Option<u64>) -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(libc::SIGKILL) if oom_kills_before.is_none() || oom_kills() != oom_kills_before => {
            Outcome::void("the machine ran out of memory")
        }
        Some(libc::SIGXCPU) => Outcome::Failed("too much processor time".into()),
        Some(signal) => Outcome::Failed(with(last_line, format!("killed by signal {signal}"))),
        None => Outcome::Failed(with(last_line, format!("exited with code {}", status.code().unwrap_or(-1)))),
    }
}

fn with(last_line: Option<String>, what: String) -> String {
    last_line.map_or_else(|| what.clone(), |line| format!("{what}: {line}"))
}

/// How many processes the kernel has killed for want of memory, if it says.
fn oom_kills() -> Option<u64> {
    let counters = fs::read_to_string("/proc/vmstat").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn quoted(text: &[u8]) -> String {
    const MOST: usize = 100;
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MOST)]);
    format!("{:?}", text.chars().take(MOST).collect::<String>())
}
