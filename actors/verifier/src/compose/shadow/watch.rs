//! One question in the background: the shadow's verdicts held against the deciding ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use counterpoint_rollout::{Verdict, VoidReason, telemetry};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout_at;

use super::log::{Line, Log};
use crate::Question;
use crate::compose::part::{Part, due};

/// What two verdicts on one answer are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// The scores are the same, or nearly.
    Agree,
    /// They are not.
    Disagree,
    /// One of the two, or both, gave no score.
    Void,
    /// The shadow did not see the answer, for want of room.
    Skipped,
}

impl Agreement {
    pub(super) fn of(decided: &Verdict, shadow: &Verdict, tolerance: f32) -> Self {
        match (decided.score(), shadow.score()) {
            (Some(a), Some(b)) if (a - b).abs() <= tolerance => Self::Agree,
            (Some(_), Some(_)) => Self::Disagree,
            _ => Self::Void,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::Disagree => "disagree",
            Self::Void => "void",
            Self::Skipped => "skipped",
        }
    }
}

/// Counts answers by agreement: for the metric, and for a line in the log at the end.
#[derive(Clone)]
pub(super) struct Tally(Arc<Counts>);

struct Counts {
    of: String,
    shadow: String,
    /// By the agreement's number.
    answers: [AtomicU64; 4],
}

impl Tally {
    pub(super) fn new(of: &str, shadow: &str) -> Self {
        Self(Arc::new(Counts { of: of.to_owned(), shadow: shadow.to_owned(), answers: Default::default() }))
    }

    fn add(&self, agreement: Agreement, answers: usize) {
        let answers = answers as u64;
        self.0.answers[agreement as usize].fetch_add(answers, Ordering::Relaxed);
        telemetry::shadowed(&self.0.of, &self.0.shadow, agreement.label(), answers);
    }

    fn counted(&self, agreement: Agreement) -> u64 {
        self.0.answers[agreement as usize].load(Ordering::Relaxed)
    }

    /// Tells the counts in the log, if there are any.
    pub(super) fn tell(&self) {
        use Agreement::{Agree, Disagree, Skipped, Void};
        let [agree, disagree, void, skipped] = [Agree, Disagree, Void, Skipped].map(|a| self.counted(a));
        if agree + disagree + void + skipped > 0 {
            let (verifier, shadow) = (&self.0.of, &self.0.shadow);
            tracing::info!(verifier, shadow, agree, disagree, void, skipped, "answers that a shadow was to judge");
        }
    }

    pub(super) fn void(&self, answers: usize) {
        self.add(Agreement::Void, answers);
    }

    pub(super) fn skipped(&self, answers: usize) {
        self.add(Agreement::Skipped, answers);
    }
}

/// A question on its way through the shadow.
pub(super) struct Comparison {
    pub(super) question: Question,
    pub(super) shadow: Arc<Part>,
    pub(super) turns: Arc<Semaphore>,
    pub(super) tolerance: f32,
    pub(super) tally: Tally,
    pub(super) log: Option<Arc<Log>>,
}

impl Comparison {
    /// Asks the shadow, waits for the deciding verdicts, and counts and writes down what differs.
    pub(super) async fn run(self, decided: oneshot::Receiver<Vec<Verdict>>) {
        let shadow = self.ask().await;
        // They are sent before the deadline, or never: then the question itself was cancelled.
        let Ok(Ok(decided)) = timeout_at(self.question.deadline, decided).await else {
            self.tally.void(shadow.len());
            return;
        };
        let mut lines = Vec::new();
        for ((response, decided), shadow) in self.question.responses.iter().zip(&decided).zip(&shadow) {
            let agreement = Agreement::of(decided, shadow, self.tolerance);
            self.tally.add(agreement, 1);
            if agreement == Agreement::Disagree && self.log.is_some() {
                lines.push(Line::new(&self.question.prompt, response, decided, shadow).text());
            }
        }
        if let Some(log) = self.log
            && !lines.is_empty()
        {
            log.write(lines).await;
        }
    }

    /// The shadow's verdicts, which are there before the question's deadline; its wait for a turn counts.
    async fn ask(&self) -> Vec<Verdict> {
        let due = due(&self.question);
        match timeout_at(due, self.turns.acquire()).await {
            Ok(Ok(_turn)) => self.shadow.ask(&self.question, due).await,
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => vec![Verdict::Void(VoidReason::Timeout); self.question.responses.len()],
        }
    }
}
