//! The kind `http` against real servers on the loopback interface, most of which misbehave. Deadlines are short and real, since
//! a paused clock drives no socket; bounds on times are generous, since the machine may be busy.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod dialects;
mod examples;
mod faults;
mod limits;
mod secrets;
mod server;
mod start;

use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{Prompt, PromptContent};
use counterpoint_verifier::{HttpOptions, HttpVerifier, Question, Verdict, Verifier, VoidReason};
use serde_json::json;
use tokio::time::{Instant, timeout};

const TIMEOUT: Verdict = Verdict::Void(VoidReason::Timeout);
const CRASH: Verdict = Verdict::Void(VoidReason::Crash);
const PROTOCOL: Verdict = Verdict::Void(VoidReason::Protocol);
const OUTPUT_LIMIT: Verdict = Verdict::Void(VoidReason::OutputLimit);
const UNAVAILABLE: Verdict = Verdict::Void(VoidReason::Unavailable);

/// Long enough for whatever is meant to end by itself.
const LONG: Duration = Duration::from_secs(20);

/// Far above the short deadlines of these tests, and far below `LONG`.
const SOON: Duration = Duration::from_secs(8);

fn void(reason: &str) -> Verdict {
    Verdict::Void(VoidReason::Verifier(reason.into()))
}

/// Options with pauses of milliseconds, for a server that need not be there at the start.
fn options(url: impl Into<String>) -> HttpOptions {
    HttpOptions {
        url: url.into().into(),
        backoff_seconds: 0.002,
        breaker_failures: 0,
        check_at_start: false,
        ..Default::default()
    }
}

/// A question with two responses.
fn question() -> Question {
    let content = PromptContent::Text("2 + 2 = ".into());
    let info = json!({"unit": "apples"}).as_object().unwrap().clone();
    let prompt = Prompt { id: "p7".into(), content, answer: "4".into(), source: "test".into(), info };
    Question::new(Arc::new(prompt), vec!["4".into(), "5".into()])
}

fn verifier(options: HttpOptions) -> Arc<HttpVerifier> {
    Arc::new(HttpVerifier::new(options).unwrap())
}

/// Asks a verifier with a deadline, and checks that it kept to it.
async fn ask(verifier: &HttpVerifier, deadline: Duration) -> Vec<Verdict> {
    let question = Question { deadline: Instant::now() + deadline, ..question() };
    let verdicts = timeout(deadline + SOON, verifier.verify(&question)).await;
    verdicts.unwrap_or_else(|_| panic!("no verdicts long after the deadline of {deadline:?}"))
}

/// What a new verifier says of both responses, which must be the same, and how long it took.
async fn both(options: HttpOptions, deadline: Duration) -> (Verdict, Duration) {
    let begin = Instant::now();
    let verdicts = ask(&verifier(options), deadline).await;
    assert_eq!(verdicts.len(), 2);
    assert_eq!(verdicts[0], verdicts[1]);
    (verdicts[0].clone(), begin.elapsed())
}
