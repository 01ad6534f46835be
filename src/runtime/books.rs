//! The books of a run: what the conductor hears becomes lines in the run directory, the status and the summary.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use counterpoint_generator::EvalReport;
use counterpoint_rollout::contract::{LearnerEvent, rate_bar};
use counterpoint_rollout::{PolicyVersion, ScoredGroup, Verdict, clock, telemetry};
use serde::{Deserialize, Serialize};

use super::card::{Card, Evaluation, Progress};
use super::clock::TrainingClock;
use super::conductor::Ending;
use super::counters;
use super::supervisor::Role;
use crate::http::Exporter;
use crate::rundir::{
    EvalLine, JudgedGroups, LedgerSummary, RunDir, RunDirError, RunStatus, SampleLine, StepLine, Summary,
};
use crate::status::{Phase, StatusBoard};

/// What goes on over a resume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) seconds: f64,
    pub(crate) seconds_training: f64,
    pub(crate) accuracy_start: Option<f64>,
    pub(crate) accuracy: Option<f64>,
    pub(crate) max_staleness: u64,
    /// The version that the newest evaluation saw.
    pub(crate) evaluated: Option<PolicyVersion>,
    /// What every evaluation found, by the version that it saw.
    #[serde(default)]
    pub(crate) evaluations: BTreeMap<u64, Evaluation>,
}

/// See the module's first line.
pub(crate) struct Books {
    pub(crate) clock: TrainingClock,
    /// Of the newest evaluation.
    pub(crate) accuracy: Option<f64>,
    dir: RunDir,
    board: StatusBoard,
    exporter: Exporter,
    carried: Carried,
    started: clock::Stopwatch,
    accuracy_start: Option<f64>,
    max_staleness: u64,
    /// The version that the newest evaluation saw; none is evaluated twice.
    pub(crate) evaluated: Option<PolicyVersion>,
    evaluations: BTreeMap<u64, Evaluation>,
    /// What the model cards of this run's checkpoints say; none before the run is prepared.
    pub(crate) card: Option<Card>,
    steps: u64,
    since_step: Judged,
    samples_per_step: u32,
    restarts: HashMap<Role, u32>,
    data_used_up: bool,
}

/// Answers judged since the last step.
#[derive(Debug, Default)]
struct Judged {
    answers: u64,
    right: f64,
    truncated: u64,
    samples: u32,
    groups: JudgedGroups,
}

impl JudgedGroups {
    fn count(&mut self, scored: &ScoredGroup) {
        let Some(rate) = scored.rate().filter(|_| !scored.any_void()) else {
            self.void += 1;
            return;
        };
        self.rates[rate_bar(f64::from(rate))] += 1;
        match scored.mixed() {
            true => self.mixed += 1,
            false if rate > 0.5 => self.all_right += 1,
            false => self.all_wrong += 1,
        }
    }
}

impl Books {
    pub(crate) fn new(
        dir: RunDir,
        board: StatusBoard,
        exporter: Exporter,
        carried: Carried,
        samples_per_step: u32,
    ) -> Self {
        Self {
            clock: TrainingClock::stopped_at(Duration::from_secs_f64(carried.seconds_training)),
            accuracy: carried.accuracy,
            accuracy_start: carried.accuracy_start,
            max_staleness: carried.max_staleness,
            evaluated: carried.evaluated,
            evaluations: carried.evaluations.clone(),
            card: None,
            dir,
            board,
            exporter,
            carried,
            started: clock::Stopwatch::start(),
            steps: 0,
            since_step: Judged::default(),
            samples_per_step,
            restarts: HashMap::new(),
            data_used_up: false,
        }
    }

    pub(crate) fn board(&self) -> &StatusBoard {
        &self.board
    }

    /// A group was judged, whatever became of it.
    pub(crate) fn scored(&mut self, scored: &ScoredGroup) {
        let judged = &mut self.since_step;
        judged.groups.count(scored);
        for (completion, verdict) in scored.group.completions.iter().zip(&scored.verdicts) {
            judged.answers += 1;
            judged.right += f64::from(verdict.score().unwrap_or(0.0));
            judged.truncated += u64::from(completion.truncated());
        }
        if judged.samples < self.samples_per_step {
            judged.samples += 1;
            self.sample(scored);
        }
    }

    fn sample(&mut self, scored: &ScoredGroup) {
        let lease = &scored.group.lease;
        for (index, (completion, verdict)) in scored.group.completions.iter().zip(&scored.verdicts).enumerate() {
            let line = SampleLine {
                step: self.steps,
                group: lease.group.0,
                prompt_id: lease.prompt.id.clone(),
                sample: index as u32,
                prompt: lease.prompt.content.display(),
                answer: lease.prompt.answer.clone(),
                text: completion.text.clone(),
                verdict: verdict.label().to_owned(),
                score: verdict.score(),
                reason: if let Verdict::Void(reason) = verdict { Some(reason.to_string()) } else { None },
                finish: completion.finish.label().to_owned(),
                tokens: completion.tokens.len() as u64,
                versions: completion.versions.clone(),
            };
            self.write(|dir| dir.sample(&line));
        }
    }

    /// An optimiser step is done.
    pub(crate) fn stepped(&mut self, event: &LearnerEvent) {
        let judged = std::mem::take(&mut self.since_step);
        let share = |part: f64| if judged.answers > 0 { part / judged.answers as f64 } else { 0.0 };
        let (pass_rate, truncated_share) = (share(judged.right), share(judged.truncated as f64));
        telemetry::judged_since_last_step(pass_rate, truncated_share);
        self.steps = event.version.0;
        self.max_staleness = self.max_staleness.max(event.report.staleness_max);
        let line = StepLine {
            step: event.version.0,
            time: clock::unix_seconds(),
            seconds_training: self.clock.read().as_secs_f64(),
            pass_rate,
            truncated_share,
            answers_judged: judged.answers,
            judged: judged.groups,
            report: (*event.report).clone(),
        };
        self.write(|dir| dir.step(&line));
        self.board.update(|status| {
            status.step = event.version.0;
            status.pass_rate = (judged.answers > 0).then_some(pass_rate);
            status.loss = Some(event.report.loss);
            status.staleness = Some(event.report.staleness_max);
        });
    }

    /// An evaluation is done.
    pub(crate) fn evaluated(&mut self, report: &EvalReport) {
        self.accuracy = Some(report.accuracy);
        self.evaluated = Some(report.policy_version);
        let found = Evaluation { accuracy: report.accuracy, answers: report.answers };
        self.evaluations.insert(report.policy_version.0, found);
        if report.policy_version.0 == 0 {
            self.accuracy_start.get_or_insert(report.accuracy);
        }
        let line = EvalLine {
            step: report.step,
            policy_version: report.policy_version.0,
            seconds_training: self.clock.read().as_secs_f64(),
            accuracy: report.accuracy,
            details: serde_json::to_value(report).unwrap_or_default(),
        };
        self.write(|dir| dir.eval(&line));
        let start = self.accuracy_start;
        self.board.update(|status| {
            status.eval_accuracy = Some(report.accuracy);
            status.accuracy_start = start;
        });
        tracing::info!(
            "step {}: accuracy {:.3} on {} held-out answers, after {:.1} s of training",
            report.step,
            report.accuracy,
            report.answers,
            line.seconds_training
        );
    }

    /// No further batch will come: the epochs are over.
    pub(crate) fn data_used_up(&mut self) {
        self.data_used_up = true;
    }

    /// How often this actor was restarted, this time included.
    pub(crate) fn restarts(&mut self, role: Role) -> u32 {
        let count = self.restarts.entry(role).or_default();
        *count += 1;
        *count
    }

    /// How well each version did that was evaluated.
    pub(crate) fn evaluations(&self) -> BTreeMap<PolicyVersion, f64> {
        self.evaluations.iter().map(|(version, found)| (PolicyVersion(*version), found.accuracy)).collect()
    }

    /// Whether the version was evaluated and did better than any before it.
    pub(crate) fn is_best(&self, version: PolicyVersion) -> bool {
        self.evaluations.get(&version.0).is_some_and(|found| {
            version.0 > 0 && self.evaluations.range(..version.0).all(|(_, earlier)| earlier.accuracy < found.accuracy)
        })
    }

    /// The model card of a checkpoint that is written now.
    pub(crate) fn model_card(&self) -> Option<String> {
        let text = self.exporter.render();
        let count = |name: &str| counters::total(&text, name, &[]) as u64;
        self.card.as_ref().map(|card| {
            card.render(&Progress {
                steps: self.steps,
                tokens_generated: count("counterpoint_generated_tokens_total"),
                tokens_trained: count("counterpoint_trained_tokens_total"),
                evaluations: &self.evaluations,
            })
        })
    }

    /// What a checkpoint must carry beside the learner's state and the replay's cut: file name and content.
    pub(crate) fn carried_over(&mut self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let carried = Carried {
            seconds: self.seconds(),
            seconds_training: self.clock.read().as_secs_f64(),
            accuracy_start: self.accuracy_start,
            accuracy: self.accuracy,
            max_staleness: self.max_staleness,
            evaluated: self.evaluated,
            evaluations: self.evaluations.clone(),
        };
        let counters = counters::counters(&self.exporter.render());
        let lengths = self.dir.lengths().map_err(|e| e.to_string())?;
        let json = |name: &str, value: serde_json::Result<Vec<u8>>| {
            Ok::<_, String>((name.to_owned(), value.map_err(|e| format!("{name}: {e}"))?))
        };
        Ok(vec![
            json("books.json", serde_json::to_vec(&carried))?,
            json("counters.json", serde_json::to_vec(&counters))?,
            json("lengths.json", serde_json::to_vec(&lengths))?,
        ])
    }

    /// Refreshes the figures of the status that come out of the counters.
    pub(crate) fn refresh(&self) {
        let text = self.exporter.render();
        let training = self.clock.read().as_secs_f64();
        let rate = |name: &str| if training > 0.0 { counters::total(&text, name, &[]) / training } else { 0.0 };
        let (learner, generator) = (idle_share(&text, "learner"), idle_share(&text, "generator"));
        let by = |name: &str, label: &str| counters::by_label(&text, name, label);
        let seconds = self.started.elapsed().as_secs_f64();
        telemetry::process(resident_bytes(), Duration::from_secs_f64(self.seconds()));
        self.board.update(|status| {
            status.tokens_per_second_generated = rate("counterpoint_generated_tokens_total");
            status.tokens_per_second_trained = rate("counterpoint_trained_tokens_total");
            status.learner_idle_share = learner;
            status.generator_idle_share = generator;
            status.groups_in_flight = by("counterpoint_groups_in_flight", "state");
            status.groups_ended = groups_ended(&text);
            status.policy_versions = by("counterpoint_policy_version", "actor");
            status.seconds = seconds;
            status.seconds_training = training;
        });
    }

    /// Writes the summary and the last exposition, however the run ended.
    pub(crate) fn close(&mut self, ended: &Result<Ending, String>) -> Summary {
        self.refresh();
        let text = self.exporter.render();
        let status = match ended {
            Ok(Ending::Done) => RunStatus::Done,
            Ok(Ending::Interrupted) => RunStatus::Interrupted,
            Err(_) => RunStatus::Failed,
        };
        let count = |name: &str| counters::total(&text, name, &[]) as u64;
        let summary = Summary {
            status,
            error: ended.as_ref().err().cloned(),
            steps: self.steps,
            steps_skipped: count("counterpoint_steps_skipped_total"),
            policy_version: self.steps,
            accuracy_start: self.accuracy_start,
            accuracy_end: self.accuracy,
            ledger: account(&text),
            data_used_up: self.data_used_up,
            tokens_generated: count("counterpoint_generated_tokens_total"),
            tokens_trained: count("counterpoint_trained_tokens_total"),
            seconds: self.seconds(),
            seconds_training: self.clock.read().as_secs_f64(),
            learner_idle_share: idle_share(&text, "learner"),
            generator_idle_share: idle_share(&text, "generator"),
            max_staleness_trained: self.max_staleness,
        };
        self.write(|dir| dir.exposition(&text));
        self.write(|dir| dir.summary(&summary));
        self.board.update(|board| {
            board.phase = match ended {
                Ok(Ending::Done) => Phase::Done,
                Ok(Ending::Interrupted) => Phase::Interrupted,
                Err(_) => Phase::Failed,
            };
            board.error = ended.as_ref().err().cloned();
        });
        summary
    }

    /// Starts the count of steps where a checkpoint left it.
    pub(crate) fn resume_at(&mut self, steps: u64) {
        self.steps = steps;
        let (accuracy, start) = (self.accuracy, self.accuracy_start);
        self.board.update(|status| {
            status.step = steps;
            status.eval_accuracy = accuracy;
            status.accuracy_start = start;
        });
    }

    fn seconds(&self) -> f64 {
        self.carried.seconds + self.started.elapsed().as_secs_f64()
    }

    /// A line that cannot be written must not stop the training, and must not be missed silently.
    fn write(&mut self, write: impl FnOnce(&mut RunDir) -> Result<(), RunDirError>) {
        if let Err(error) = write(&mut self.dir) {
            tracing::error!("the run directory is incomplete: {error}");
        }
    }
}

/// The ledger as the counters have it, so that the summary equals the last exposition to the digit.
fn account(exposition: &str) -> LedgerSummary {
    let issued = counters::total(exposition, "counterpoint_groups_issued_total", &[]) as u64;
    let mut dropped = groups_ended(exposition);
    let ended = dropped.values().sum();
    let trained = dropped.remove(TRAINED).unwrap_or(0);
    LedgerSummary { issued, trained, in_flight: issued.saturating_sub(ended), dropped }
}

/// Share of its running time that an actor (or all whose name starts so) spent idle.
fn idle_share(exposition: &str, actor: &str) -> f64 {
    const NAME: &str = "counterpoint_actor_state_seconds_total";
    let of = |state| counters::total_by_prefix(exposition, NAME, ("actor", actor), ("state", state));
    let (idle, busy) = (of("idle"), of("busy"));
    if idle + busy > 0.0 { idle / (idle + busy) } else { 0.0 }
}

/// The key of the trained groups among those that ended, and their outcome in the counters.
const TRAINED: &str = "trained";

/// Groups that ended: those trained, and those dropped by reason.
fn groups_ended(exposition: &str) -> BTreeMap<String, u64> {
    let name = "counterpoint_groups_total";
    let mut ended = counters::by_label(exposition, name, "reason");
    ended.remove(""); // the trained ones have no reason
    ended.insert(TRAINED.to_owned(), counters::total(exposition, name, &[("outcome", TRAINED)]) as u64);
    ended
}

/// Resident memory, from the kernel; 0 where it does not say.
fn resident_bytes() -> u64 {
    let pages =
        std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    // SAFETY: sysconf has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * u64::try_from(page).unwrap_or(0)
}
