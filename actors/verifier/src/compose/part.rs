//! The parts of a composite: one verifier with the rules around it, and several that are asked at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use counterpoint_rollout::{Verdict, VoidReason};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::judge::Unfinished;
use crate::{Home, Judge, Pace, Parts, Question, TruncatedPolicy, Verifier, VerifierError};

/// What is left of the time of the whole when its parts are due, so that it answers by its own deadline.
const MARGIN: Duration = Duration::from_millis(20);

/// When the parts of a question are due: a little before the question itself, also where that is soon.
pub(super) fn due(question: &Question) -> Instant {
    question.due(MARGIN, 4)
}

/// One verifier of a composite.
pub(super) struct Part {
    name: String,
    verifier: Arc<dyn Verifier>,
    judge: Judge,
    /// Judgements that run on after their deadline.
    late: Arc<AtomicUsize>,
    most_late: usize,
}

impl Part {
    /// The part that an option names; `key` is the option.
    pub(super) fn named(name: &str, key: &str, parts: &Parts<'_>) -> Result<Arc<Self>, VerifierError> {
        let verifier = parts.verifier(name).map_err(|error| error.at(key))?;
        Ok(Arc::new(Self::new(name, verifier, parts.max_abandoned())))
    }

    pub(super) fn new(name: &str, verifier: Arc<dyn Verifier>, most_late: usize) -> Self {
        // Truncated answers are settled, or shown on purpose, before a composite is asked.
        let judge = Judge::new(name, Arc::clone(&verifier), TruncatedPolicy::Judge);
        Self { name: name.to_owned(), verifier, judge, late: Arc::default(), most_late }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// One verdict per response, by `due`, whatever the verifier does.
    pub(super) async fn ask(&self, question: &Question, due: Instant) -> Vec<Verdict> {
        if self.late.load(Ordering::Relaxed) > self.most_late {
            return vec![Verdict::Void(VoidReason::Unavailable); question.responses.len()];
        }
        let left = due.saturating_duration_since(Instant::now());
        let judged = self.judge.question(question.clone(), left).await;
        if let Some(unfinished) = judged.unfinished {
            self.watch(unfinished);
        }
        judged.verdicts
    }

    /// Counts a judgement as late until it ends, which one that awaits does at once.
    fn watch(&self, mut unfinished: Unfinished) {
        let late = Arc::clone(&self.late);
        let now = late.fetch_add(1, Ordering::Relaxed) + 1;
        if now > self.most_late {
            let (verifier, most) = (&self.name, self.most_late);
            tracing::warn!(
                verifier,
                late = now,
                most,
                "judgements do not end after their deadline; it is asked no more"
            );
        }
        tokio::spawn(async move {
            unfinished.ended().await;
            late.fetch_sub(1, Ordering::Relaxed);
        });
    }

    pub(super) async fn start(&self, home: &Home) -> Result<(), VerifierError> {
        self.judge.start(home).await
    }

    pub(super) async fn stop(&self) {
        self.judge.stop().await;
    }

    /// Per response, its verdict, and an object with the part's name, the verdict and what it has to say.
    pub(super) async fn explain(&self, question: &Question, due: Instant) -> Vec<(Verdict, Value)> {
        let left = due.saturating_duration_since(Instant::now());
        let (verdicts, explained) = tokio::join!(self.ask(question, due), self.judge.explain(question.clone(), left));
        let mut explained = explained.into_iter().flatten();
        let shown = |verdict: Verdict| {
            let shown = with_verdict(&self.name, &verdict, explained.next());
            (verdict, shown)
        };
        verdicts.into_iter().map(shown).collect()
    }

    /// The answers that the responses give, if the part's kind finds any.
    pub(super) async fn answers(&self, question: &Question, due: Instant) -> Option<Vec<Option<String>>> {
        self.judge.answers(question.clone(), due.saturating_duration_since(Instant::now())).await
    }

    /// The same part, spoken to slowly, if its kind allows it.
    fn slowly(&self, pace: Pace) -> Option<Arc<Self>> {
        Some(Arc::new(Self::new(&self.name, self.verifier.slowly(pace)?, self.most_late)))
    }
}

/// What `explain` shows of one part's judgement.
fn with_verdict(name: &str, verdict: &Verdict, explained: Option<Value>) -> Value {
    let mut shown = Map::new();
    shown.insert("part".into(), json!(name));
    shown.insert("verdict".into(), json!(verdict.label()));
    match verdict {
        Verdict::Soft(score) => drop(shown.insert("score".into(), json!(score))),
        Verdict::Void(reason) => drop(shown.insert("reason".into(), json!(reason.to_string()))),
        Verdict::Correct | Verdict::Incorrect => {}
    }
    if let Some(explained) = explained {
        shown.insert("explain".into(), explained);
    }
    Value::Object(shown)
}

/// The parts of a composite, in the order of its options.
#[derive(Clone)]
pub(super) struct Team(Vec<Arc<Part>>);

impl Team {
    /// The parts that a list names; `key` is the option.
    ///
    /// # Errors
    /// An empty list, a name that is there twice, and what is wrong with a part.
    pub(super) fn named(names: &[String], key: &str, parts: &Parts<'_>) -> Result<Self, VerifierError> {
        if names.is_empty() {
            return Err(VerifierError::BadOption(format!(
                "{key}: names no part; name kinds or ids of [verifier.define.<id>], as in [\"exact\", \"math\"]"
            )));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
            return Err(VerifierError::BadOption(format!("{key}: names `{twice}` twice; each part is asked once")));
        }
        names.iter().map(|name| Part::named(name, key, parts)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn of(parts: Vec<Arc<Part>>) -> Self {
        Self(parts)
    }

    pub(super) fn parts(&self) -> &[Arc<Part>] {
        &self.0
    }

    /// The verdicts of all parts, asked at once: one list per part, in order.
    pub(super) async fn ask(&self, question: &Question) -> Vec<Vec<Verdict>> {
        let due = due(question);
        let shared = Arc::new(question.clone());
        let run = |part: Arc<Part>| {
            let question = Arc::clone(&shared);
            async move { part.ask(&question, due).await }
        };
        let crashed = || vec![Verdict::Void(VoidReason::Crash); question.responses.len()];
        self.at_once(run).await.into_iter().map(|verdicts| verdicts.unwrap_or_else(crashed)).collect()
    }

    /// Per response, what each part says of it.
    pub(super) async fn explain(&self, question: &Question) -> Vec<Value> {
        let due = due(question);
        let shared = Arc::new(question.clone());
        let run = |part: Arc<Part>| {
            let question = Arc::clone(&shared);
            async move { part.explain(&question, due).await }
        };
        let told = self.at_once(run).await;
        let of = |response: usize| {
            told.iter().flatten().filter_map(|part| part.get(response)).map(|(_, shown)| shown.clone()).collect()
        };
        (0..question.responses.len()).map(|response| parts_shown(of(response))).collect()
    }

    /// Starts all at once; if one cannot, the others are stopped.
    pub(super) async fn start(&self, home: &Home) -> Result<(), VerifierError> {
        let started = self
            .at_once(|part| {
                let home = home.clone();
                async move { part.start(&home).await }
            })
            .await;
        let crashed = || Err(VerifierError::Setup("a part of the verifier panicked while it started".into()));
        let failed = started.into_iter().map(|started| started.unwrap_or_else(crashed)).find(Result::is_err);
        match failed {
            None => Ok(()),
            Some(error) => {
                self.stop().await;
                error
            }
        }
    }

    pub(super) async fn stop(&self) {
        self.at_once(|part| async move { part.stop().await }).await;
    }

    /// The same parts, those spoken to slowly that can be; `None` if none can.
    pub(super) fn slowly(&self, pace: Pace) -> Option<Self> {
        let slow: Vec<_> = self.0.iter().map(|part| part.slowly(pace)).collect();
        if slow.iter().all(Option::is_none) {
            return None;
        }
        Some(Self(self.0.iter().zip(slow).map(|(part, slow)| slow.unwrap_or_else(|| Arc::clone(part))).collect()))
    }

    /// Runs something for every part at once; the results in order, `None` for one that panicked. Dropping it ends them all.
    async fn at_once<T, F>(&self, run: impl Fn(Arc<Part>) -> F) -> Vec<Option<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for (place, part) in self.0.iter().enumerate() {
            let future = run(Arc::clone(part));
            tasks.spawn(async move { (place, future.await) });
        }
        let mut results: Vec<Option<T>> = self.0.iter().map(|_| None).collect();
        while let Some(ended) = tasks.join_next().await {
            if let Ok((place, result)) = ended {
                results[place] = Some(result);
            }
        }
        results
    }
}

/// The explanation of one response by a composite.
pub(super) fn parts_shown(parts: Vec<Value>) -> Value {
    json!({ "parts": parts })
}
