//! The kind `code`: takes the program out of an answer and runs it against the prompt's tests.
//!
//! The program is the last fenced block of the completion in the right language. The tests are in the prompt's answer, or in a
//! column of the data, as JSON (an object or its text):
//!
//! | tests | how a program passes one |
//! |---|---|
//! | `{"inputs": ["1 2\n"], "outputs": ["3\n"]}` | run on the input, it ends with code 0 and prints the output; white space at the ends of lines and empty lines at the end do not count |
//! | `{"asserts": ["assert add(1, 2) == 3"]}`, or that list alone | run once, then the statement runs in its name space without an exception |
//! | `{"test": "def check(f): ...", "entry_point": "add"}` | the same with this code, followed by `check(add)` if there is an `entry_point` (here or as a column) |
//! | `{"inputs": [[1, 2]], "outputs": [3], "entry_point": "add"}` | the function (or that method of a class `Solution`), called with these arguments, returns the output; `fn_name` means the same |
//!
//! `setup` is code that runs before the program. A column that holds plain text is taken for `test`. All but the first kind
//! need Python.
//!
//! # Whose fault it is
//!
//! | what happens | verdict |
//! |---|---|
//! | all tests pass | correct |
//! | a test fails; the program crashes, exits early, is too slow, takes too much memory, prints too much; there is no program | incorrect |
//! | some tests pass, with `partial = true` | their share as a score |
//! | the tests are malformed, or their `setup` fails | void, with the reason |
//! | the program cannot be started, or the machine runs out of memory | void, with the reason |
//! | it had to wait for a processor so long that nobody can say whether it is too slow | void (`timeout`) |
//! | the deadline of the question passes | void (`timeout`) |
//!
//! Time that a program waits for a processor, while the machine is busy with something else, does not count as its own.
//!
//! A group of 16 answers that never end takes `16 * test_seconds / concurrency`; `verifier.deadline_seconds` must leave room
//! for that, or such groups are void.
//!
//! # Containment, and its limits
//!
//! Each program runs in a child of its own: own session, limits on time, memory, files and processes, an empty environment but
//! for a few fixed variables, a private directory that is removed afterwards, no network where an unprivileged process can
//! make namespaces (said at the start where not), killed with all its descendants and reaped.
//!
//! **This is containment, not a sandbox.** A program can read and write whatever its user can (set `user`, above all if
//! Counterpoint runs as root, whom the limit on processes does not bind), talk to sockets in the file system, and fill the
//! disk with many files. For code that may be hostile use SandboxFusion, nsjail or gVisor, behind the kind `http`.
//!
//! Tests other than `inputs` and `outputs` run in the same interpreter as the program. A program cannot pass by ending early:
//! each passed test is reported with a number that is new in every run. But one that searches its interpreter's memory can
//! find the number, and one may return objects that claim to equal everything. `inputs` and `outputs` are safe from that, and
//! so are calls, whose results are compared outside.
//!
//! A run forks the whole program that is Counterpoint, which takes some ten milliseconds per gigabyte of its memory.

mod cases;
mod interpreter;
mod judge;
mod options;
mod program;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use cases::Tests;
use interpreter::Interpreter;
use judge::{Judgement, Outcome};
pub use options::{CodeOptions, Network, WithoutFence};

use crate::fence::last_block;
use crate::{Home, Mode, Question, Verifier, VerifierError};

/// The longest that is kept back from a question's deadline, so that verdicts reach whoever asked before he gives up.
const MARGIN: Duration = Duration::from_millis(250);

/// A verifier that runs programs; see the module's text.
pub struct Code {
    options: Arc<CodeOptions>,
    /// One permit per program that may run.
    permits: Arc<Semaphore>,
    interpreter: OnceCell<Arc<Interpreter>>,
}

/// What became of one answer.
enum Judged {
    /// It has no program.
    NoProgram,
    Program(String, Judgement),
    /// It was not tried.
    Void(VoidReason),
}

impl Judged {
    fn verdict(&self, partial: bool) -> Verdict {
        match self {
            Self::NoProgram => Verdict::Incorrect,
            Self::Program(_, judgement) => judgement.verdict(partial),
            Self::Void(reason) => Verdict::Void(reason.clone()),
        }
    }

    fn explain(&self, partial: bool) -> Value {
        let outcome = |outcome: &Outcome| match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed(why) => format!("failed: {why}"),
            Outcome::Void(why) => format!("void: {why}"),
        };
        let verdict = self.verdict(partial);
        match self {
            Self::NoProgram => json!({"verdict": verdict.label(), "program": null}),
            Self::Program(code, judgement) => json!({
                "verdict": verdict.label(),
                "program": code,
                "tests": judgement.tests,
                "outcomes": judgement.outcomes.iter().map(outcome).collect::<Vec<_>>(),
            }),
            Self::Void(reason) => json!({"verdict": verdict.label(), "reason": reason.to_string()}),
        }
    }
}

impl Code {
    /// Starts nothing yet.
    ///
    /// # Errors
    /// Options that are out of range.
    pub fn new(options: CodeOptions) -> Result<Self, VerifierError> {
        options.validate()?;
        let permits = Arc::new(Semaphore::new(options.concurrency()));
        Ok(Self { options: Arc::new(options), permits, interpreter: OnceCell::new() })
    }

    async fn interpreter(&self) -> Result<&Arc<Interpreter>, VerifierError> {
        let find = || async { Interpreter::find(&self.options).await.map(Arc::new) };
        self.interpreter.get_or_try_init(find).await
    }

    /// Judges the answers, as many at once as may be. What is not done by the deadline is void.
    async fn judge(&self, question: &Question) -> Vec<Judged> {
        let same = |reason: VoidReason| question.responses.iter().map(|_| Judged::Void(reason.clone())).collect();
        let due = question.due(MARGIN, 10);
        let tests = match self.tests(question) {
            Ok(tests) => Arc::new(tests),
            Err(error) => return same(VoidReason::Verifier(format!("tests: {error}").chars().take(200).collect())),
        };
        let interpreter = match timeout_at(due, self.interpreter()).await {
            Ok(Ok(interpreter)) => interpreter,
            Ok(Err(error)) => {
                tracing::error!("{error}");
                return same(VoidReason::Unavailable);
            }
            Err(_late) => return same(VoidReason::Timeout),
        };
        if !interpreter.is_python && !matches!(*tests, Tests::Streams(_)) {
            return same(VoidReason::Verifier("tests other than inputs and outputs need Python".into()));
        }
        let mut judged: Vec<Judged> = same(VoidReason::Timeout);
        let mut tasks = JoinSet::new();
        for (place, response) in question.responses.iter().enumerate() {
            let Some(code) = self.program(response) else {
                judged[place] = Judged::NoProgram;
                continue;
            };
            let (permits, interpreter, tests) =
                (Arc::clone(&self.permits), Arc::clone(interpreter), Arc::clone(&tests));
            let partial = self.options.partial;
            tasks.spawn(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire_owned().await;
                let judgement = judge::judge(&interpreter, &code, &tests, partial).await;
                (place, Judged::Program(code, judgement))
            });
        }
        // What is dropped at the deadline is killed; so is everything if this future is dropped.
        while let Ok(Some(done)) = timeout_at(due, tasks.join_next()).await {
            match done {
                Ok((place, outcome)) => judged[place] = outcome,
                Err(error) => tracing::error!(%error, "a judgement is lost"),
            }
        }
        judged
    }

    fn tests(&self, question: &Question) -> Result<Tests, String> {
        let info = &question.prompt.info;
        match &self.options.column {
            None => Tests::from_text(question.answer(), info),
            Some(column) => match info.get(column) {
                Some(value) => Tests::from_value(value, info),
                None => Err(format!("the data has no column `{column}`")),
            },
        }
    }

    fn program(&self, response: &str) -> Option<String> {
        let block = last_block(response, &self.options.languages);
        match self.options.without_fence {
            WithoutFence::Incorrect => block,
            WithoutFence::Whole => block.or_else(|| Some(response.to_owned())),
        }
    }
}

#[async_trait]
impl Verifier for Code {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        self.judge(question).await.iter().map(|judged| judged.verdict(self.options.partial)).collect()
    }

    async fn start(&self, _home: &Home) -> Result<(), VerifierError> {
        self.interpreter().await.map(drop)
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        Some(self.judge(question).await.iter().map(|judged| judged.explain(self.options.partial)).collect())
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}
