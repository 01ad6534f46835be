//! Parts for the tests of composites: one that says what it is told to, and those that misbehave.
#![allow(dead_code, reason = "each test file uses some")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use counterpoint_rollout::{Prompt, PromptContent};
use counterpoint_verifier::{
    Home, Judge, Mode, Pace, Question, Registry, TruncatedPolicy, Verdict, Verifier, VerifierConfig, VerifierError,
    VoidReason, async_trait,
};
use serde_json::{Map, Value, json};

/// What happened to the parts of one test.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) started: AtomicUsize,
    pub(crate) stopped: AtomicUsize,
    pub(crate) slowed: AtomicUsize,
    /// The responses that `says` parts were asked about, per question.
    pub(crate) asked: Mutex<Vec<Vec<String>>>,
    /// Held by each `blocks` part until the test ends.
    pub(crate) release: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Notes {
    pub(crate) fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().clone()
    }
}

/// Judges a response by what it says itself: `correct`, `incorrect`, `void`, or a score; with `verdict`, always the same.
struct Says {
    notes: Arc<Notes>,
    verdict: Option<String>,
    mode: Mode,
    fails_to_start: bool,
}

fn meant(text: &str) -> Verdict {
    match text {
        "correct" => Verdict::Correct,
        "incorrect" => Verdict::Incorrect,
        "void" => Verdict::Void(VoidReason::Verifier("as told".into())),
        score => Verdict::from_score(score.parse().unwrap()),
    }
}

#[async_trait]
impl Verifier for Says {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        self.notes.asked.lock().unwrap().push(question.responses.clone());
        question.each(|response| meant(self.verdict.as_deref().unwrap_or(response)))
    }

    async fn start(&self, _home: &Home) -> Result<(), VerifierError> {
        if self.fails_to_start {
            return Err(VerifierError::Setup("no such server".into()));
        }
        self.notes.started.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn stop(&self) {
        self.notes.stopped.fetch_add(1, Ordering::SeqCst);
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        Some(question.responses.iter().map(|response| json!({"read": response})).collect())
    }

    fn slowly(&self, _pace: Pace) -> Option<Arc<dyn Verifier>> {
        self.notes.slowed.fetch_add(1, Ordering::SeqCst);
        let (notes, verdict) = (Arc::clone(&self.notes), self.verdict.clone());
        Some(Arc::new(Self { notes, verdict, mode: self.mode, fails_to_start: false }))
    }

    fn mode(&self) -> Mode {
        self.mode
    }
}

/// What is wrong with a part.
#[derive(Clone, Copy)]
enum Fault {
    Panics,
    PanicsOnItsThread,
    Short,
    Mad,
    Hangs,
    /// Until the test lets go of it, and at most for some seconds.
    Blocks,
}

struct Faulty(Fault, Arc<Notes>);

#[async_trait]
impl Verifier for Faulty {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        match self.0 {
            Fault::Panics | Fault::PanicsOnItsThread => panic!("as told"),
            Fault::Short => vec![Verdict::Correct; question.responses.len() - 1],
            Fault::Mad => question.each(|_| Verdict::Soft(f32::NAN)),
            Fault::Hangs => std::future::pending().await,
            Fault::Blocks => {
                let release = self.1.release.lock().unwrap().take();
                if let Some(release) = release {
                    let _ = release.recv_timeout(Duration::from_secs(20));
                }
                question.each(|_| Verdict::Correct)
            }
        }
    }

    fn mode(&self) -> Mode {
        match self.0 {
            Fault::PanicsOnItsThread | Fault::Blocks => Mode::Blocking,
            _ => Mode::Async,
        }
    }
}

/// A registry with the parts of this module as kinds.
pub(crate) fn registry(notes: &Arc<Notes>) -> Registry {
    let mut registry = Registry::default();
    for (kind, mode) in [("says", Mode::Async), ("says_on_a_thread", Mode::Blocking)] {
        let notes = Arc::clone(notes);
        let make = move |options: Value| -> Result<Arc<dyn Verifier>, VerifierError> {
            let verdict = options.get("verdict").and_then(Value::as_str).map(str::to_owned);
            let fails_to_start = options.get("fails_to_start").is_some();
            Ok(Arc::new(Says { notes: Arc::clone(&notes), verdict, mode, fails_to_start }))
        };
        registry.register(kind, make).unwrap();
    }
    for (kind, fault) in [
        ("panics", Fault::Panics),
        ("panics_on_its_thread", Fault::PanicsOnItsThread),
        ("short", Fault::Short),
        ("mad", Fault::Mad),
        ("hangs", Fault::Hangs),
        ("blocks", Fault::Blocks),
    ] {
        let notes = Arc::clone(notes);
        registry.register(kind, move |_| Ok(Arc::new(Faulty(fault, Arc::clone(&notes))))).unwrap();
    }
    registry
}

/// The section `[verifier]` with `composite` as the verifier, beside parts that always say the same.
pub(crate) fn config(composite: &Value) -> VerifierConfig {
    let mut config: VerifierConfig = serde_json::from_value(json!({"name": "it", "define": {
        "right": {"kind": "says", "verdict": "correct"},
        "wrong": {"kind": "says", "verdict": "incorrect"},
        "half": {"kind": "says", "verdict": "0.5"},
        "void": {"kind": "says", "verdict": "void"},
        "homeless": {"kind": "says", "verdict": "correct", "fails_to_start": true},
    }}))
    .unwrap();
    config.define.insert("it".into(), serde_json::from_value(composite.clone()).unwrap());
    config
}

/// Builds a composite.
pub(crate) fn built(composite: &Value, notes: &Arc<Notes>) -> Arc<dyn Verifier> {
    registry(notes).build(&config(composite)).unwrap()
}

/// Why a composite is not built.
pub(crate) fn refused(composite: &Value) -> String {
    registry(&Arc::default()).build(&config(composite)).err().unwrap().to_string()
}

pub(crate) fn judge(composite: &Value, notes: &Arc<Notes>) -> Judge {
    Judge::new("it", built(composite, notes), TruncatedPolicy::Judge)
}

/// The verdicts on these responses, within three seconds.
pub(crate) async fn verdicts(judge: &Judge, responses: &[&str]) -> Vec<Verdict> {
    judge.question(question(responses), Duration::from_secs(3)).await.verdicts
}

pub(crate) fn question(responses: &[&str]) -> Question {
    from("", responses)
}

/// A question from a data source.
pub(crate) fn from(source: &str, responses: &[&str]) -> Question {
    let prompt = Prompt {
        id: "p1".into(),
        content: PromptContent::Text("What is right?".into()),
        answer: "the truth".into(),
        source: source.into(),
        info: Map::new(),
    };
    Question::new(Arc::new(prompt), responses.iter().map(|&response| response.to_owned()).collect())
}
