//! A config that cannot flow is refused with the numbers and the key to change; forced, it ends with a named stall instead of
//! hanging; and what looks as if it could not flow runs to its end.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Run, counterpoint, output, stderr, stdout};
use serde_json::Value;

/// Refused by `run` and by `check`, before anything is written, in words that have all of these.
fn is_refused(settings: &[&str], words: &[&str]) {
    let run = Run::new(settings);
    for output in [run.finish(&[]), check(settings)] {
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
    }
    assert!(!run.dir().exists(), "a refused run leaves nothing");
}

/// Forced, ends as failed, in words that have all of these.
fn forced_ends(settings: &[&str], words: &[&str]) {
    let run = Run::new(settings);
    let output = run.finish(&["--force", "run.stall_seconds=1", "eval.at_start=false", "run.max_steps=40"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("forced: "), "what was forced is said: {said}");
    let error = run.summary()["error"].as_str().unwrap().to_owned();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error}");
    }
}

fn check(arguments: &[&str]) -> Output {
    let mut command = counterpoint();
    command.args(["check", "tests/data/test.toml"]).args(arguments);
    output(command)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

/// A data file of these questions.
fn data(directory: &Path, lines: &str) -> PathBuf {
    let path = directory.join("data.jsonl");
    std::fs::write(&path, lines).unwrap();
    path
}

const TOO_RARE: [&str; 2] = ["weight_sync.every=4", "replay.max_staleness=2"];

#[test]
fn publishing_too_rarely_is_refused_and_forced_stalls_for_want_of_weights() {
    is_refused(&TOO_RARE, &["weight_sync.every: 4 with replay.max_staleness = 2", "lower it to 3"]);
    forced_ends(&TOO_RARE, &["stalled", "run.stall_seconds", "must start with weights", "weight_sync.every"]);
}

#[test]
fn publishing_every_second_step_without_staleness_stalls_for_want_of_weights_too() {
    forced_ends(&["weight_sync.every=2", "replay.max_staleness=0"], &["stalled", "need weights", "weight_sync.every"]);
}

#[test]
fn less_in_flight_than_a_batch_is_refused_and_forced_stalls_for_want_of_room() {
    for staleness in ["replay.max_staleness=0", "replay.max_staleness=2"] {
        let settings = ["replay.max_in_flight=5", staleness];
        is_refused(&settings, &["replay.max_in_flight: 5 with feed.prompts_per_step = 6", "at least 6"]);
        forced_ends(&settings, &["stalled", "a batch of 6 groups", "replay.max_in_flight = 5 is reached"]);
    }
}

#[test]
fn one_answer_per_prompt_is_refused_and_forced_finds_nothing_to_learn() {
    let settings = ["feed.answers_per_prompt=1"];
    is_refused(&settings, &["feed.answers_per_prompt: 1 cannot teach", "objective.name = \"nft\"", "at least 2"]);
    forced_ends(&settings, &["nothing to learn", "feed.answers_per_prompt"]);
}

#[test]
fn no_data_is_refused_and_cannot_be_forced() {
    let scratch = tempfile::tempdir().unwrap();
    let empty = format!("data.train={}", data(scratch.path(), "").display());
    is_refused(&[&empty], &["data.jsonl"]);
    for setting in [&empty, "data.train=nowhere.jsonl"] {
        let forced = Run::new(&[setting]).finish(&["--force"]);
        assert_eq!(forced.status.code(), Some(2), "{}", stderr(&forced));
    }
}

/// A model directory that says it is far too large for any machine, with the tokenizer of the small one.
fn giant(directory: &Path) -> String {
    let small = common::root().join("configs/arith");
    for file in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(small.join(file), directory.join(file)).unwrap();
    }
    let text = std::fs::read_to_string(small.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config.as_object_mut().unwrap().remove("layer_types");
    for (key, value) in [("hidden_size", 65_536), ("intermediate_size", 262_144), ("num_hidden_layers", 16)] {
        config[key] = value.into();
    }
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    format!("model.path={}", directory.display())
}

#[test]
fn a_model_that_cannot_fit_into_memory_is_refused_with_both_sizes() {
    let scratch = tempfile::tempdir().unwrap();
    let giant = giant(scratch.path());
    is_refused(&[&giant], &["model.path: does not fit", "TiB", "the machine has", "smaller model"]);
    let forced = Run::new(&[&giant]).finish(&["--force"]);
    assert_eq!(forced.status.code(), Some(2), "its files are not what config.json says: {}", stderr(&forced));
    assert!(stderr(&forced).contains("forced: model.path: does not fit"), "{}", stderr(&forced));
}

#[test]
fn memory_is_judged_by_the_machine_that_is_asked_for() {
    let refused = check(&["--memory-gib", "0.001"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("does not fit"), "{}", stderr(&refused));
    let close = check(&["--memory-gib", "0.035"]);
    assert_eq!(close.status.code(), Some(0), "{}", stderr(&close));
    assert!(stdout(&close).contains("# warning: memory: up to"), "{}", stdout(&close));
    let ample = check(&["--memory-gib", "64"]);
    assert!(!stdout(&ample).contains("warning"), "{}", stdout(&ample));
}

#[test]
fn fewer_questions_than_a_batch_are_warned_of_by_check_and_run_and_run_to_the_end() {
    let scratch = tempfile::tempdir().unwrap();
    let one = data(scratch.path(), "{\"prompt\":\"15+93=\",\"answer\":\"108\"}\n");
    let setting = format!("data.train={}", one.display());
    let warning = "an epoch has 1 questions, fewer than feed.prompts_per_step = 6";
    let checked = check(&[&setting]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    assert!(stdout(&checked).contains(warning), "{}", stdout(&checked));
    // One prompt repeated, without an end of epochs: batches are filled with it over and over.
    let run = Run::new(&[&setting, "run.max_steps=2", "generator.temperature=1.5"]);
    let output = run.finish(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains(warning), "{}", stderr(&output));
    let summary = run.summary();
    assert_eq!((&summary["status"], number(&summary["steps"])), (&"done".into(), 2));
    assert_eq!(summary["ledger"]["trained"], 12);
}

#[test]
fn fewer_steps_than_the_staleness_end_after_them() {
    for (steps, staleness) in [(1, 1), (2, 8), (3, 3)] {
        let run = Run::new(&[&format!("run.max_steps={steps}"), &format!("replay.max_staleness={staleness}")]);
        let summary = run.succeed(&["eval.at_start=false"]);
        assert_eq!((&summary["status"], number(&summary["steps"])), (&"done".into(), steps));
        assert_eq!(number(&summary["ledger"]["trained"]), 6 * steps, "nothing is sampled beyond the last step");
    }
}

#[test]
fn without_staleness_a_run_ends_with_one_slot_and_with_room_for_just_a_batch() {
    let settings = ["replay.max_staleness=0", "replay.max_in_flight=6", "generator.slots=1", "run.max_steps=2"];
    let summary = Run::new(&settings).succeed(&["eval.at_start=false"]);
    assert_eq!((&summary["status"], &summary["max_staleness_trained"]), (&"done".into(), &0.into()));
}

#[test]
fn room_for_just_a_batch_flows_with_staleness_too() {
    let summary = Run::new(&["replay.max_in_flight=6", "learner.prefetch=1"]).succeed(&["eval.at_start=false"]);
    assert_eq!((&summary["status"], number(&summary["steps"])), (&"done".into(), 6));
}

#[test]
fn a_run_that_drops_stragglers_trains_its_steps_and_its_ledger_balances() {
    let settings = ["replay.on_straggler=drop", "replay.max_staleness=1", "generator.count=2", "run.max_steps=8"];
    let run = Run::new(&settings);
    let summary = run.succeed(&["eval.at_start=false", "feed.prompts_per_step=2"]);
    assert!(number(&summary["max_staleness_trained"]) <= 1);
    let ledger = &summary["ledger"];
    let dropped: u64 = ledger["dropped"].as_object().unwrap().values().map(number).sum();
    assert_eq!(number(&ledger["trained"]), 16);
    assert_eq!(number(&ledger["issued"]), 16 + dropped + number(&ledger["in_flight"]), "{ledger}");
}

#[test]
fn check_forecasts_from_given_rates_who_waits_and_how_long_the_run_takes() {
    // 6 groups of 4 answers of 5 tokens: 1.2 s to sample 120 tokens, 0.6 s to train them.
    let rates = ["--sampled-per-second", "100", "--trained-per-second", "200", "--answer-tokens", "5"];
    let said = stdout(&check(&rates));
    assert!(said.contains("# forecast: 1.20 s per step; the learner waits 600.0 ms of it (50 %)"), "{said}");
    assert!(said.contains("the learner will wait for answers"), "{said}");
    let synchronous = stdout(&check(&[&rates[..], &["replay.max_staleness=0"]].concat()));
    assert!(synchronous.contains("# forecast: 1.80 s per step"), "{synchronous}");
    assert!(synchronous.contains("the two sides will wait for each other"), "{synchronous}");
    let half = check(&["--sampled-per-second", "100"]);
    assert_eq!(half.status.code(), Some(2));
    assert!(stderr(&half).contains("--trained-per-second"), "{}", stderr(&half));
}

#[test]
fn check_calibrates_with_the_models_own_samples_and_stays_a_config() {
    let checked = check(&["--calibrate", "--seconds", "1"]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    let said = stdout(&checked);
    for word in ["sampled tokens/s", "verdicts/s", "trained tokens/s", "a publication takes", "6 steps take about"] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    let scratch = tempfile::tempdir().unwrap();
    let again = scratch.path().join("again.toml");
    std::fs::write(&again, &said).unwrap();
    let mut command = counterpoint();
    command.arg("check").arg(&again);
    assert_eq!(output(command).status.code(), Some(0), "the output is a config");
}

#[test]
fn calibrating_with_questions_that_are_all_too_long_names_the_limit() {
    let checked = check(&["--calibrate", "--seconds", "0.2", "generator.max_prompt_tokens=2"]);
    assert_eq!(checked.status.code(), Some(2), "{}", stderr(&checked));
    assert!(stderr(&checked).contains("generator.max_prompt_tokens = 2"), "{}", stderr(&checked));
}
