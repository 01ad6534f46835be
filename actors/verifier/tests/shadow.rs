//! The kind `shadow`: the second verifier is watched, and never felt.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod parts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use counterpoint_verifier::{Home, Judge, Verdict, VoidReason};
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parts::{Notes, judge, question, refused, verdicts};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

const RIGHT: Verdict = Verdict::Correct;
const WRONG: Verdict = Verdict::Incorrect;

/// The counters of `counterpoint_verifier_shadow_total` by their labels, for the thread that made it.
#[derive(Clone, Default)]
struct Counters(Arc<Mutex<BTreeMap<String, u64>>>);

struct Cell(Counters, String);

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, _value: u64) {}
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        assert_eq!(key.name(), "counterpoint_verifier_shadow_total");
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Counter::from_arc(Arc::new(Cell(self.clone(), labels.join(" "))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Counters {
    /// Waits until the background has counted so many answers, and returns the counts by agreement.
    async fn counted(&self, answers: u64) -> Vec<(String, u64)> {
        let enough = async {
            while self.0.lock().unwrap().values().sum::<u64>() < answers {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), enough).await.unwrap();
        let counts = self.0.lock().unwrap();
        let agreement = |labels: &str| labels.split("agreement=").nth(1).unwrap().to_owned();
        counts.iter().map(|(labels, count)| (agreement(labels), *count)).collect()
    }
}

fn counts(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(agreement, count)| ((*agreement).to_owned(), *count)).collect()
}

/// A directory of its own for a run; gone with it.
struct Run(PathBuf);

impl Run {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("counterpoint-shadow-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn home(&self) -> Home {
        Home { directory: Some(self.0.clone()) }
    }

    fn file(&self) -> PathBuf {
        self.0.join("disagreements.jsonl")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until a file has so many lines; each must be JSON.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let enough = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap();
            if text.matches('\n').count() >= count {
                return text;
            }
            tokio::task::yield_now().await;
        }
    };
    let text = timeout(Duration::from_secs(10), enough).await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn shadow(options: Value) -> Value {
    let mut all = json!({"kind": "shadow", "of": "says", "shadow": "half"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    all
}

#[tokio::test]
async fn answers_are_counted_by_agreement_under_both_names() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let judge = judge(&shadow(json!({"tolerance": 0.1})), &Arc::default());
    let responses = ["correct", "0.5", "0.4375", "incorrect", "void"];
    let expected = [RIGHT, Verdict::Soft(0.5), Verdict::Soft(0.4375), WRONG];
    assert_eq!(verdicts(&judge, &responses).await[..4], expected);
    assert_eq!(counters.counted(5).await, counts(&[("agree", 2), ("disagree", 2), ("void", 1)]));
    let labels = counters.0.lock().unwrap().keys().next().unwrap().clone();
    assert_eq!(labels, "verifier=says shadow=half agreement=agree");
}

#[tokio::test(start_paused = true)]
async fn whatever_the_shadow_does_the_verdicts_are_those_of_the_other_and_come_at_once() {
    for faulty in ["panics", "panics_on_its_thread", "short", "mad", "hangs", "void"] {
        let counters = Counters::default();
        let _recorder = metrics::set_default_local_recorder(&counters);
        let judge = judge(&shadow(json!({"shadow": faulty})), &Arc::default());
        let begin = Instant::now();
        assert_eq!(verdicts(&judge, &["correct", "incorrect"]).await, [RIGHT, WRONG], "{faulty}");
        assert_eq!(begin.elapsed(), Duration::ZERO, "{faulty}");
        if faulty == "hangs" {
            tokio::time::advance(Duration::from_secs(3)).await;
        }
        assert_eq!(counters.counted(2).await, counts(&[("void", 2)]), "{faulty}");
    }
}

#[tokio::test]
async fn a_shadow_that_blocks_its_thread_delays_nobody() {
    let notes: Arc<Notes> = Arc::default();
    let (release, held) = mpsc::channel();
    *notes.release.lock().unwrap() = Some(held);
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let judge = judge(&shadow(json!({"shadow": "blocks"})), &notes);
    let judged = judge.question(question(&["incorrect"]), Duration::from_millis(200)).await;
    assert_eq!((judged.verdicts, judged.unfinished.is_none()), (vec![WRONG], true));
    assert_eq!(counters.counted(1).await, counts(&[("void", 1)]));
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_one_that_decides_is_its_own_and_is_no_disagreement() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let judge = judge(&shadow(json!({"of": "panics", "shadow": "right"})), &Arc::default());
    assert_eq!(verdicts(&judge, &["x"]).await, [Verdict::Void(VoidReason::Crash)]);
    assert_eq!(counters.counted(1).await, counts(&[("void", 1)]));
}

#[tokio::test(start_paused = true)]
async fn more_questions_than_there_is_room_for_are_skipped() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let options = json!({"shadow": "hangs", "at_once": 1, "most_waiting": 2});
    let judge = judge(&shadow(options), &Arc::default());
    for _ in 0..5 {
        assert_eq!(verdicts(&judge, &["correct", "correct"]).await, [RIGHT, RIGHT]);
    }
    assert_eq!(counters.counted(4).await, counts(&[("skipped", 4)]));
    // At their deadline those in the background are given up, and there is room again.
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(counters.counted(10).await, counts(&[("skipped", 4), ("void", 6)]));
    verdicts(&judge, &["correct"]).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(counters.counted(11).await, counts(&[("skipped", 4), ("void", 7)]));
}

#[tokio::test(start_paused = true)]
async fn stop_ends_what_runs_in_the_background() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let judge = judge(&shadow(json!({"shadow": "hangs"})), &Arc::default());
    verdicts(&judge, &["correct"]).await;
    judge.stop().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(counters.0.lock().unwrap().is_empty());
    // It can be asked again, as after a restart of its actor.
    assert_eq!(verdicts(&judge, &["correct"]).await, [RIGHT]);
}

#[tokio::test]
async fn a_shadow_that_cannot_start_does_not_stop_the_run_and_is_void() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let judge = judge(&shadow(json!({"shadow": "homeless"})), &Arc::default());
    judge.start(&Home::default()).await.unwrap();
    assert_eq!(verdicts(&judge, &["correct"]).await, [RIGHT]);
    assert_eq!(counters.counted(1).await, counts(&[("void", 1)]));
}

#[tokio::test]
async fn a_sample_shows_its_share_of_the_questions_evenly() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let judge = judge(&shadow(json!({"sample": 0.3})), &Arc::default());
    for _ in 0..20 {
        verdicts(&judge, &["correct"]).await;
    }
    assert_eq!(counters.counted(6).await, counts(&[("disagree", 6)]));
}

async fn started(options: Value, run: &Run) -> Judge {
    let mut all = json!({"file": "disagreements.jsonl"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let judge = judge(&shadow(all), &Arc::default());
    judge.start(&run.home()).await.unwrap();
    judge
}

#[tokio::test]
async fn disagreements_are_lines_with_all_that_is_needed_to_judge_them_again() {
    let run = Run::new("lines");
    let judge = started(json!({}), &run).await;
    verdicts(&judge, &["correct", "0.5", "void", "incorrect"]).await;
    let common = json!({"prompt_id": "p1", "data_source": "", "answer": "the truth", "shadow_verdict": {"soft": 0.5}});
    let line = |response: &str| {
        let mut line = common.clone();
        line["response"] = json!(response);
        line["verdict"] = json!(response);
        line
    };
    assert_eq!(lines(&run.file(), 2).await, [line("correct"), line("incorrect")]);
}

#[tokio::test]
async fn the_file_stays_within_its_limit_also_across_starts_and_is_whole_after_a_cut() {
    let run = Run::new("limit");
    // A run that was killed in the middle of its second line.
    std::fs::write(run.file(), "{\"response\":\"earlier\"}\n\"half a li\"").unwrap();
    for _start in 0..3 {
        let judge = started(json!({"most_lines": 4}), &run).await;
        let counters = Counters::default();
        let _recorder = metrics::set_default_local_recorder(&counters);
        verdicts(&judge, &["correct", "incorrect", "correct"]).await;
        assert_eq!(counters.counted(3).await, counts(&[("disagree", 3)]));
        assert_eq!(lines(&run.file(), 4).await.len(), 4);
    }
}

#[tokio::test]
async fn an_endless_text_is_cut_between_two_letters() {
    let run = Run::new("cut");
    let judge = started(json!({"of": "wrong"}), &run).await;
    let endless = format!("x{}", "é".repeat(100_000));
    verdicts(&judge, &[&endless]).await;
    let lines = lines(&run.file(), 1).await;
    assert_eq!(lines[0]["cut"], json!(true));
    let kept = lines[0]["response"].as_str().unwrap();
    assert!(endless.starts_with(kept) && kept.len() == 65_535, "{}", kept.len());
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_said_at_the_start_and_outside_a_run_there_is_none() {
    let run = Run::new("blocked");
    std::fs::create_dir(run.file()).unwrap();
    let judge = judge(&shadow(json!({"file": "disagreements.jsonl"})), &Arc::default());
    let error = judge.start(&run.home()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("verifier `it`: file {}: ", run.file().display())), "{error}");
    judge.start(&Home::default()).await.unwrap();
    assert_eq!(verdicts(&judge, &["correct"]).await, [RIGHT]);
}

#[test]
fn options_that_cannot_work_are_refused_in_one_line_with_the_key() {
    let name = "names no verifier; name a kind or an id of [verifier.define.<id>]";
    let file = "must be a file's name within the run directory, as in \"disagreements.jsonl\"";
    for (options, error) in [
        (json!({"of": ""}), format!("of: {name}")),
        (json!({"shadow": ""}), format!("shadow: {name}")),
        (json!({"shadow": "says"}), "shadow: `says` is also the one that decides; name another".into()),
        (json!({"file": "/tmp/x"}), format!("file: {file}, got \"/tmp/x\"")),
        (json!({"file": "a/../../x"}), format!("file: {file}, got \"a/../../x\"")),
        (json!({"file": ""}), format!("file: {file}, got \"\"")),
        (json!({"most_lines": 0}), "most_lines: must be at least 1; leave `file` out to write nothing".into()),
        (json!({"sample": 0.0}), "sample: must be > 0 and at most 1, got 0".into()),
        (json!({"sample": 1.5}), "sample: must be > 0 and at most 1, got 1.5".into()),
        (json!({"tolerance": -0.5}), "tolerance: must be at least 0 and below 1, got -0.5".into()),
        (json!({"at_once": 0}), "at_once: must be at least 1".into()),
        (json!({"most_waiting": u64::MAX}), "most_waiting: must be at most 100000".into()),
    ] {
        assert_eq!(refused(&shadow(options)), format!("verifier.define.it: {error}"));
    }
    let error = refused(&shadow(json!({"shadow": "exat"})));
    assert!(error.starts_with("verifier.define.it: shadow: `exat` is neither"), "{error}");
}
