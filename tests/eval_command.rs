//! `counterpoint eval` and `generate` as programs: figures, files, filters, stop strings, and what they refuse.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::{Run, counterpoint, output, pipe, stderr, stdout};
use serde_json::Value;

/// An evaluation of the arithmetic policy on held-out problems.
fn eval(more: &[&str]) -> Command {
    eval_on(Path::new("configs/arith/eval.jsonl"), more)
}

fn eval_on(data: &Path, more: &[&str]) -> Command {
    let mut command = counterpoint();
    command.args(["eval", "--model", "configs/arith", "--device", "cpu", "--data"]).arg(data);
    command.args(["--max-new-tokens", "6", "--samples", "4", "--limit", "24"]).args(more);
    command
}

fn succeed(command: Command) -> Value {
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// The one line that a refused command says.
fn refused(command: Command) -> String {
    let output = output(command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("panicked") && stdout(&output).is_empty(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// The lines of a samples file without its header and without what rounding may change, sorted.
fn answers(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let answer = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("logprob").unwrap();
        line.to_string()
    };
    let mut lines: Vec<String> = text.lines().skip(1).map(answer).collect();
    lines.sort();
    lines
}

fn without_time(mut report: Value) -> Value {
    report.as_object_mut().unwrap().remove("seconds").unwrap();
    report
}

#[test]
fn the_report_has_every_figure_with_its_uncertainty_and_says_the_same_again() {
    let report = succeed(eval(&[]));
    assert_eq!((&report["prompts"], &report["samples"]), (&24.into(), &4.into()));
    for figure in ["pass@1", "pass@2", "pass@4", "mean@4", "majority@4"] {
        let value = report[figure].as_f64().unwrap();
        let interval: Vec<f64> = serde_json::from_value(report["interval_95"][figure].clone()).unwrap();
        assert!(interval[0] <= value && value <= interval[1], "{figure}: {report}");
        assert!(report["standard_error"][figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
    }
    assert_eq!(report["majority_of"], "answers");
    assert_eq!(report["pass@1"], report["mean@4"]);
    assert_eq!(without_time(succeed(eval(&[]))), without_time(report.clone()));
    assert_ne!(without_time(succeed(eval(&["--seed", "5"]))), without_time(report));
}

#[test]
fn a_config_gives_the_same_as_options_and_options_win_over_it() {
    let mut by_config = counterpoint();
    by_config.args(["eval", "tests/data/test.toml", "eval.samples=2", "run.seed=0", "run.device=cpu"]);
    by_config.args(["--samples", "4", "--limit", "24"]);
    assert_eq!(without_time(succeed(by_config)), without_time(succeed(eval(&[]))));
}

#[test]
fn an_evaluation_that_was_cut_off_goes_on_where_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("samples.jsonl");
    let file = path.to_str().unwrap();
    let whole = succeed(eval(&["--samples-out", file]));
    let (bytes, all) = (std::fs::read(&path).unwrap(), answers(&path));
    assert_eq!(all.len(), 96);
    let first: Value = serde_json::from_str(&all[0]).unwrap();
    for key in ["prompt_id", "source", "sample", "text", "answer", "verdict", "score", "tokens", "finish"] {
        assert!(first.get(key).is_some(), "{key}: {first}");
    }
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let resumed = succeed(eval(&["--samples-out", file, "--resume"]));
    assert_eq!(answers(&path), all);
    assert_eq!(without_time(resumed), without_time(whole.clone()));
    // Nothing is left to ask: the file alone is read.
    let length = std::fs::metadata(&path).unwrap().len();
    let again = succeed(eval(&["--samples-out", file, "--resume"]));
    assert_eq!(without_time(again), without_time(whole));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);

    assert!(refused(eval(&["--samples-out", file])).contains("--resume"));
    let said = refused(eval(&["--samples-out", file, "--resume", "--temperature", "0.5"]));
    assert!(said.contains("temperature was 1.0 when the file was begun, now it is 0.5"), "{said}");
    std::fs::write(&path, "{}\n").unwrap();
    let said = refused(eval(&["--samples-out", file, "--resume"]));
    assert!(said.contains("samples.jsonl:1: not the first line of an evaluation's samples"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n", "a file of something else is left as it is");
}

#[test]
fn settings_that_cannot_be_are_refused_in_one_line_that_names_them() {
    for (options, part) in [
        (&["--top-p", "0"][..], "eval.top_p: must be > 0 and at most 1"),
        (&["--min-p", "1.5"], "eval.min_p: must be in [0, 1]"),
        (&["--repetition-penalty", "0"], "eval.repetition_penalty: must be > 0"),
        (&["--stop", ""], "eval.stop: a stop string must not be empty"),
        (&["--temperature", "NaN"], "eval.temperature: must be >= 0"),
        (&["--slots", "0"], "generator.slots: must be at least 1"),
        (&["--max-prompt-tokens", "0"], "generator.max_prompt_tokens: must be at least 1"),
        (&["--verifier", "exakt"], "did you mean `exact`?"),
        (&["--samples-out", "/nowhere/samples.jsonl"], "/nowhere/samples.jsonl: No such file"),
    ] {
        let said = refused(eval(options));
        assert!(said.contains(part), "{options:?}: {said}");
    }
    let mut generate = counterpoint();
    generate.args(["generate", "--model", "configs/arith", "--top-p", "2"]);
    assert!(refused(generate).contains("top_p must be > 0 and at most 1"));
}

#[test]
fn several_sources_are_reported_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("questions.jsonl");
    let line = |i: usize| {
        let source = if i.is_multiple_of(3) { "thirds" } else { "others" };
        format!("{{\"prompt\":\"{i}+{i}=\",\"answer\":\"{}\",\"data_source\":\"{source}\"}}\n", 2 * i)
    };
    std::fs::write(&data, (0..9).map(line).collect::<String>()).unwrap();
    let report = succeed(eval_on(&data, &[]));
    assert_eq!(report["sources"]["thirds"]["prompts"], 3);
    let mean = |of: &Value| of["mean@4"].as_f64().unwrap();
    let together = (3.0 * mean(&report["sources"]["thirds"]) + 6.0 * mean(&report["sources"]["others"])) / 9.0;
    assert!((together - mean(&report)).abs() < 1e-12, "{report}");
}

const PROMPTS: &str =
    "{\"id\":\"a\",\"prompt\":\"15+93=\"}\n{\"id\":\"b\",\"prompt\":\"7*8=\"}\n{\"id\":\"c\",\"prompt\":\"50-1=\"}\n";

fn generate(more: &[&str]) -> Vec<Value> {
    let mut command = counterpoint();
    command.args(["generate", "--model", "configs/arith", "--device", "cpu", "--max-new-tokens", "6"]).args(more);
    let output = pipe(command, PROMPTS);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_stop_string_ends_an_answer_and_its_text_and_keeps_tokens_and_log_probs() {
    let plain = generate(&["--temperature", "0"]);
    let text = plain[1]["text"].as_str().unwrap();
    let second = &text[1..2];
    let stopped = generate(&["--temperature", "0", "--stop", "nothing like it", "--stop", second]);
    let line = &stopped[1];
    assert_eq!((&line["text"], &line["finish"]), (&text[..1].into(), &"stop".into()), "{line}");
    let count = |key: &str| line[key].as_array().unwrap().len();
    assert_eq!((count("tokens"), count("logprobs")), (2, 2), "the token that completed it stays: {line}");
}

#[test]
fn filters_leave_what_they_say_and_log_probs_are_of_what_is_left() {
    let greedy = generate(&["--temperature", "0"]);
    for filter in [["--top-k", "1"], ["--top-p", "0.000001"], ["--min-p", "1"]] {
        let filtered = generate(&filter);
        for (line, greedy) in filtered.iter().zip(&greedy) {
            assert_eq!(line["tokens"], greedy["tokens"], "{filter:?}");
            let certain = line["logprobs"].as_array().unwrap().iter().all(|l| l.as_f64().unwrap().abs() < 1e-6);
            assert!(certain, "one token is left, and it is certain: {line}");
        }
    }
    let repelled = generate(&["--temperature", "0", "--repetition-penalty", "1000"]);
    assert_ne!(repelled, greedy);
}

#[test]
fn completions_as_finished_are_the_same_ones() {
    let lines = |more: &[&str]| generate(more).iter().map(Value::to_string).collect::<Vec<_>>();
    let in_order = lines(&["--samples", "2", "--slots", "8"]);
    let as_finished = lines(&["--samples", "2", "--slots", "8", "--as-finished"]);
    assert_eq!(in_order.len(), 6);
    assert_eq!(in_order.iter().collect::<BTreeSet<_>>(), as_finished.iter().collect::<BTreeSet<_>>());
}

#[test]
fn a_run_trains_and_evaluates_answers_that_a_stop_string_ended() {
    let run = Run::new(&["run.max_steps=2", "generator.stop=[\"7\"]", "telemetry.samples_per_step=50"]);
    run.succeed(&[]);
    let samples = run.lines("samples.jsonl");
    let stopped = |line: &&Value| line["finish"] == "stop" && !line["text"].as_str().unwrap().contains('7');
    assert!(!samples.is_empty());
    assert!(samples.iter().all(|line| !line["text"].as_str().unwrap().contains('7')));
    assert!(samples.iter().filter(stopped).count() > 0);
    let details = &run.lines("eval.jsonl")[0]["details"];
    assert!(details["standard_error"].as_f64().unwrap() > 0.0, "{details}");
}
