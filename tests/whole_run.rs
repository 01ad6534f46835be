//! The whole loop through the public interface: what it trains, what it writes, how it ends.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Run, eventually, get, signal, stderr, stdout, wait};
use serde_json::Value;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

/// `issued = trained + dropped + in flight`, in the summary.
fn assert_balances(summary: &Value) {
    let ledger = &summary["ledger"];
    let dropped: u64 = ledger["dropped"].as_object().unwrap().values().map(number).sum();
    assert_eq!(
        number(&ledger["issued"]),
        number(&ledger["trained"]) + dropped + number(&ledger["in_flight"]),
        "{ledger}"
    );
}

/// What the newest checkpoint says: the learner's version is the ledger's, and the ledger balances.
fn assert_checkpoint_is_consistent(run: &Run) {
    let state =
        |file: &str| -> Value { serde_json::from_str(&run.read(&format!("checkpoints/latest/state/{file}"))).unwrap() };
    let (learner, replay) = (state("learner.json"), state("replay.json"));
    assert_eq!(learner["version"], replay["completed"], "weights and ledger are of different steps");
    assert_eq!(learner["version"], run.summary()["steps"]);
    let totals = &replay["totals"];
    let dropped: u64 = totals["dropped"].as_object().unwrap().values().map(number).sum();
    assert_eq!(number(&totals["issued"]), number(&totals["trained"]) + dropped + number(&totals["in_flight"]));
    assert_eq!(totals["trained"], run.summary()["ledger"]["trained"]);
}

/// Questions that no answer is right for.
fn impossible_data() -> (tempfile::TempDir, std::path::PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("impossible.jsonl");
    let lines: Vec<String> =
        (0..200).map(|i| format!("{{\"prompt\":\"{}+{}=\",\"answer\":\"none\"}}", i / 10, i % 10)).collect();
    std::fs::write(&data, lines.join("\n")).unwrap();
    (scratch, data)
}

#[test]
fn an_asynchronous_run_with_two_generators_trains_its_steps_within_the_staleness_bound() {
    let run = Run::new(&["generator.count=2", "replay.max_staleness=3", "eval.every=3"]);
    let summary = run.succeed(&[]);
    assert_eq!(summary["status"], "done");
    assert_eq!(summary["steps"], 6);
    assert_eq!(summary["policy_version"], 6);
    assert_eq!(summary["ledger"]["trained"], 36);
    assert!(number(&summary["max_staleness_trained"]) <= 3);
    assert_balances(&summary);
    let steps: Vec<u64> = run.lines("eval.jsonl").iter().map(|line| number(&line["step"])).collect();
    assert_eq!(steps, [0, 3, 6]);
    for sample in run.lines("samples.jsonl") {
        assert!(
            sample["text"].is_string() && sample["verdict"].is_string() && sample["versions"].is_array(),
            "{sample}"
        );
    }
    assert!(run.read("config.toml").contains("max_staleness = 3"));
}

#[test]
fn generators_run_where_they_are_told_with_matrices_as_they_are_told() {
    let options = ["generator.count=2", "generator.devices=[\"cpu\"]", "generator.kernel_weights=bfloat16"];
    let run = Run::new(&[&options[..], &["replay.max_staleness=0", "run.max_steps=2"]].concat());
    assert_eq!(run.succeed(&[])["steps"], 2);
    let metrics = run.read("metrics.prom");
    let mean = metrics.lines().find_map(|line| line.strip_prefix("counterpoint_logprob_mismatch_mean ")).unwrap();
    let mean: f64 = mean.parse().unwrap();
    // Eight significant bits of each weight, so far more than float32's rounding, and far less than a nat.
    assert!((1e-5..0.1).contains(&mean), "{mean}");
}

#[test]
fn the_synchronous_algorithm_works_with_several_generators() {
    let run = Run::new(&["generator.count=2", "replay.max_staleness=0", "run.max_steps=3"]);
    let summary = run.succeed(&[]);
    assert_eq!(summary["max_staleness_trained"], 0);
    assert_balances(&summary);
}

#[test]
fn a_probe_measures_the_mismatch_where_there_is_staleness_and_there_is_none_without() {
    let probed = |staleness: &str| -> Option<(f64, f64)> {
        let run = Run::new(&["generator.probe_every=1", staleness]);
        run.succeed(&[]);
        let metrics = run.read("metrics.prom");
        let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let tokens: f64 = value("counterpoint_logprob_probe_tokens_total")?;
        assert!(tokens > 0.0);
        Some((value("counterpoint_logprob_probe_mean")?, value("counterpoint_logprob_probe_max")?))
    };
    let (mean, max) = probed("replay.max_staleness=2").unwrap();
    // Of the few tokens of one group, where a whole batch comes to a mean of 1e-6.
    assert!(mean < 1e-5 && max < 1e-4, "mean {mean}, max {max}");
    assert_eq!(probed("replay.max_staleness=0"), None);
}

#[test]
fn publishing_less_often_than_every_step_flows_up_to_the_bound() {
    for on_swap in ["generator.on_swap=drain", "generator.on_swap=recompute"] {
        let run = Run::new(&["weight_sync.every=3", "replay.max_staleness=2", on_swap]);
        let summary = run.succeed(&[]);
        assert_eq!(summary["steps"], 6);
        assert!(number(&summary["max_staleness_trained"]) <= 2);
        assert_balances(&summary);
    }
}

#[test]
fn data_smaller_than_a_batch_and_a_single_prompt_run_to_their_end() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("few.jsonl");
    std::fs::write(&data, "{\"prompt\":\"15+93=\",\"answer\":\"108\"}\n").unwrap();
    let run = Run::new(&["feed.epochs=12", "run.max_steps=40"]);
    let summary = run.succeed(&[&format!("data.train={}", data.display())]);
    assert_eq!(summary["status"], "done");
    assert_eq!(number(&summary["ledger"]["issued"]), 12, "twelve epochs of one prompt");
    assert_eq!(summary["ledger"]["in_flight"], 0);
    assert_balances(&summary);
}

#[test]
fn when_no_group_is_ever_mixed_the_run_stops_with_a_clear_word() {
    let (_scratch, data) = impossible_data();
    let run = Run::new(&[]);
    let output = run.finish(&[&format!("data.train={}", data.display())]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing to learn"), "{}", stderr(&output));
    let summary = run.summary();
    assert_eq!(summary["status"], "failed");
    assert!(summary["error"].as_str().unwrap().contains("nothing to learn"));
    assert_balances(&summary);
}

#[test]
fn an_interrupt_drains_and_the_next_run_goes_on_to_the_end_with_a_balanced_ledger() {
    let run = Run::new(&["run.max_steps=40", "generator.count=2"]);
    let child = run.command(&[]).spawn().unwrap();
    eventually("two steps", || {
        let text = std::fs::read_to_string(run.dir().join("metrics.jsonl")).ok()?;
        (text.lines().count() >= 2).then_some(())
    });
    signal(&child, libc::SIGINT);
    let output = wait(child);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let stopped = run.summary();
    assert_eq!(stopped["status"], "interrupted");
    assert_balances(&stopped);
    assert_checkpoint_is_consistent(&run);
    let resumed = run.succeed(&[]);
    assert_eq!(resumed["status"], "done");
    assert_eq!(resumed["steps"], 40);
    assert_eq!(number(&resumed["ledger"]["trained"]), 240);
    assert!(number(&resumed["tokens_generated"]) > number(&stopped["tokens_generated"]));
    assert_balances(&resumed);
    let again = run.finish(&[]);
    assert_eq!(again.status.code(), Some(0));
    assert!(stdout(&again).contains("has finished"), "a finished run says so: {}", stdout(&again));
}

#[test]
fn a_resume_refuses_another_learning_rate_and_names_the_key() {
    let run = Run::new(&["run.max_steps=2"]);
    run.succeed(&[]);
    let output = run.finish(&["run.max_steps=4", "learner.learning_rate=1.0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("learner.learning_rate"), "{}", stderr(&output));
    assert_eq!(run.succeed(&["run.max_steps=4"])["steps"], 4, "more steps are no change of the run");
}

#[test]
fn the_port_serves_metrics_health_and_status_during_the_run_and_its_last_words_match_the_summary() {
    let run = Run::new(&["run.max_steps=60"]);
    let child = run.command(&[]).spawn().unwrap();
    let address = eventually("the address file", || std::fs::read_to_string(run.dir().join("address")).ok());
    let address = address.trim().trim_start_matches("http://").to_owned();
    eventually("readiness", || get(&address, "/readyz").ok().filter(|(status, _)| status.contains("200")));
    eventually("a trained step", || {
        let (_, text) = get(&address, "/metrics").ok()?;
        text.lines().any(|l| l.starts_with("counterpoint_steps_total ") && !l.ends_with(" 0")).then_some(())
    });
    let (health, _) = get(&address, "/healthz").unwrap();
    assert!(health.contains("200"));
    let (_, status) = get(&address, "/status").unwrap();
    assert!(serde_json::from_str::<Value>(&status).unwrap()["step"].is_u64(), "{status}");
    let output = wait(child);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (summary, exposition) = (run.summary(), run.read("metrics.prom"));
    let value = |name: &str| -> f64 {
        let line =
            exposition.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("counterpoint_steps_total"), summary["steps"].as_f64().unwrap());
    assert_eq!(value("counterpoint_trained_tokens_total"), summary["tokens_trained"].as_f64().unwrap());
    assert_eq!(value("counterpoint_generated_tokens_total"), summary["tokens_generated"].as_f64().unwrap());
    assert_eq!(value("counterpoint_groups_issued_total"), summary["ledger"]["issued"].as_f64().unwrap());
}

#[test]
fn every_metric_of_the_table_is_in_a_real_exposition_and_promtool_has_no_complaint() {
    let shadow = ["verifier.name=watched", "verifier.define.watched.kind=shadow", "verifier.define.watched.of=exact"];
    let run = Run::new(&[&shadow[..], &["verifier.define.watched.shadow=math", "eval.every=3"]].concat());
    let published = tempfile::tempdir().unwrap();
    let directory = format!("weight_sync.directory={}", published.path().display());
    run.succeed(&["learner.grad_norm_by_layer=true", "generator.probe_every=1", &directory]);
    let exposition = run.read("metrics.prom");
    let families: Vec<&str> = exposition.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for metric in counterpoint_rollout::telemetry::METRICS {
        assert!(
            families.contains(&metric.name),
            "{} is in the table (and on the dashboard) and was not exported",
            metric.name
        );
    }
    // Debian's package prometheus brings promtool; where it is not installed, the lint of the exporter's unit test stands in.
    let mut promtool = std::process::Command::new("promtool");
    promtool.args(["check", "metrics"]);
    if std::process::Command::new("promtool").arg("--version").output().is_ok() {
        let output = common::pipe(promtool, &exposition);
        assert!(output.status.success() && stderr(&output).is_empty(), "{}", stderr(&output));
    }
}

#[test]
fn a_target_reached_beside_the_training_ends_the_run_at_one_version_and_a_higher_target_goes_on() {
    let settings = ["eval.mode=overlap", "eval.every=1", "eval.at_start=false", "run.max_steps=60", "feed.epochs=3"];
    let run = Run::new(&settings);
    let summary = run.succeed(&["run.target_accuracy=0.01"]);
    assert!(number(&summary["steps"]) < 60, "the target ended it");
    assert_eq!(summary["accuracy_start"], Value::Null, "nothing was evaluated before the first step");
    assert_checkpoint_is_consistent(&run);
    let resumed = run.succeed(&["run.target_accuracy=1.0"]);
    assert_eq!(resumed["steps"], 60);
    assert_checkpoint_is_consistent(&run);
}

#[test]
fn a_failed_run_leaves_a_checkpoint_from_which_it_can_go_on() {
    let (_scratch, data) = impossible_data();
    let run = Run::new(&[]);
    let data = format!("data.train={}", data.display());
    for _ in 0..2 {
        assert_eq!(run.finish(&[&data]).status.code(), Some(1));
        assert!(run.summary()["error"].as_str().unwrap().contains("nothing to learn"));
        assert_checkpoint_is_consistent(&run);
    }
}

#[test]
fn draining_generators_survive_an_evaluation_longer_than_the_deadline_of_a_load() {
    let settings = ["generator.on_swap=drain", "weight_sync.deadline_seconds=0.3", "eval.every=2", "eval.samples=16"];
    let run = Run::new(&settings);
    let summary = run.succeed(&["eval.limit=256"]);
    assert_eq!(summary["status"], "done");
}
