use std::path::Path;

use counterpoint_rollout::contract::StepReport;

use super::*;

fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.run.dir = dir.join("run");
    config.model.path = "m".into();
    config.data.train = "t.jsonl".into();
    config
}

fn step(step: u64) -> StepLine {
    StepLine {
        step,
        time: 0.0,
        seconds_training: 1.0,
        pass_rate: 0.5,
        truncated_share: 0.0,
        answers_judged: 7,
        judged: JudgedGroups::default(),
        report: StepReport::default(),
    }
}

fn summary() -> Summary {
    Summary {
        status: RunStatus::Done,
        error: None,
        steps: 3,
        steps_skipped: 0,
        policy_version: 3,
        accuracy_start: None,
        accuracy_end: Some(0.5),
        ledger: LedgerSummary { issued: 1, trained: 1, ..LedgerSummary::default() },
        tokens_generated: 1,
        tokens_trained: 1,
        seconds: 1.0,
        seconds_training: 1.0,
        learner_idle_share: 0.0,
        generator_idle_share: 0.0,
        max_staleness_trained: 2,
        data_used_up: false,
    }
}

#[test]
fn a_second_run_is_refused_with_the_pid_of_the_first_until_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let first = RunDir::open(&config, &Inputs::default(), false).unwrap();
    let error = RunDir::open(&config, &Inputs::default(), false).unwrap_err();
    assert!(error.is_usage());
    assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
    drop(first);
    RunDir::open(&config, &Inputs::default(), false).unwrap();
}

#[test]
fn lines_after_a_checkpoint_are_cut_off_and_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut run = RunDir::open(&config, &Inputs::default(), false).unwrap();
    run.step(&step(1)).unwrap();
    let lengths = run.lengths().unwrap();
    run.step(&step(2)).unwrap();
    drop(run);
    let metrics = config.run.dir.join("metrics.jsonl");
    std::fs::OpenOptions::new().append(true).open(&metrics).unwrap().write_all(b"{\"step\":3,\"to").unwrap();
    let mut run = RunDir::open(&config, &Inputs::default(), false).unwrap();
    run.truncate_to(&lengths).unwrap();
    run.step(&step(2)).unwrap();
    let text = std::fs::read_to_string(&metrics).unwrap();
    let steps: Vec<u64> = text.lines().map(|l| serde_json::from_str::<StepLine>(l).unwrap().step).collect();
    assert_eq!(steps, [1, 2]);
    assert_eq!(lengths.samples, 0);
}

#[test]
fn a_file_shorter_than_recorded_is_kept_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = RunDir::open(&config(dir.path()), &Inputs::default(), false).unwrap();
    run.step(&step(1)).unwrap();
    let before = run.lengths().unwrap();
    run.truncate_to(&Lengths { metrics: before.metrics + 100, ..before }).unwrap();
    assert_eq!(run.lengths().unwrap(), before);
}

#[test]
fn a_changed_setting_or_input_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    drop(RunDir::open(&config, &Inputs::default(), false).unwrap());
    config.run.max_steps += 1;
    drop(RunDir::open(&config, &Inputs::default(), false).unwrap());
    config.run.seed += 1;
    let inputs = Inputs { train: "other".into(), ..Inputs::default() };
    let error = RunDir::open(&config, &inputs, false).unwrap_err();
    let text = error.to_string();
    assert!(error.is_usage() && text.contains("run.seed: ") && text.contains("data.train: "), "{text}");
    RunDir::open(&config, &inputs, true).unwrap();
}

#[test]
fn fresh_removes_what_runs_write_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let run = RunDir::open(&config, &Inputs::default(), false).unwrap();
    run.summary(&summary()).unwrap();
    run.exposition("x 1\n").unwrap();
    std::fs::write(config.run.dir.join("notes.txt"), "mine").unwrap();
    std::fs::write(config.run.dir.join("not-finite-v12.json"), "{}").unwrap();
    for name in ["step-000010", "step-000020.tmp", "step-mine"] {
        std::fs::create_dir_all(run.checkpoints().join(name).join("state")).unwrap();
    }
    for link in ["latest", "best"] {
        std::os::unix::fs::symlink("step-000010", run.checkpoints().join(link)).unwrap();
    }
    for record in ["best.json", "best.json.tmp"] {
        std::fs::write(run.checkpoints().join(record), "{}").unwrap();
    }
    drop(run);
    let run = RunDir::open(&config, &Inputs::default(), true).unwrap();
    assert!(run.previous().is_none());
    assert!(!config.run.dir.join("metrics.prom").exists());
    assert!(!config.run.dir.join("not-finite-v12.json").exists());
    assert_eq!(std::fs::read_to_string(config.run.dir.join("notes.txt")).unwrap(), "mine");
    let left: Vec<_> = std::fs::read_dir(run.checkpoints()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["step-mine"]);
}

#[test]
fn a_config_of_another_origin_is_neither_overwritten_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    std::fs::create_dir_all(&config.run.dir).unwrap();
    std::fs::write(config.run.dir.join("config.toml"), "mine = 1\n").unwrap();
    for fresh in [false, true] {
        let error = RunDir::open(&config, &Inputs::default(), fresh).unwrap_err();
        assert!(error.to_string().contains("was not written by a run"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(config.run.dir.join("config.toml")).unwrap(), "mine = 1\n");
}

#[test]
fn the_summary_is_found_again_until_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let run = RunDir::open(&config, &Inputs::default(), false).unwrap();
    run.summary(&summary()).unwrap();
    drop(run);
    let run = RunDir::open(&config, &Inputs::default(), false).unwrap();
    assert_eq!(run.previous(), Some(&summary()));
    run.begin().unwrap();
    drop(run);
    assert_eq!(RunDir::open(&config, &Inputs::default(), false).unwrap().previous(), None);
}

#[test]
fn a_changed_model_or_data_file_changes_its_fingerprint() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.model.path = dir.path().join("model");
    let train = dir.path().join("t.jsonl");
    config.data.train = train.as_path().into();
    std::fs::create_dir(&config.model.path).unwrap();
    std::fs::write(config.model.path.join("config.json"), "{}").unwrap();
    std::fs::write(&train, "a").unwrap();
    let before = fingerprint(&config).unwrap();
    assert_eq!(before, fingerprint(&config).unwrap());
    std::fs::write(config.model.path.join("config.json"), "{ }").unwrap();
    std::fs::write(&train, "b").unwrap();
    assert_eq!(fingerprint(&config).unwrap().differences(&before).len(), 2);
    let template = dir.path().join("t.jinja");
    std::fs::write(&template, "a").unwrap();
    config.model.chat_template = Some(template.clone());
    let before = fingerprint(&config).unwrap();
    std::fs::write(&template, "b").unwrap();
    let differences = fingerprint(&config).unwrap().differences(&before);
    assert!(
        matches!(&differences[..], [one] if one.starts_with("model.chat_template: the file is not")),
        "{differences:?}"
    );
}

#[test]
fn evaluations_are_read_back_and_a_torn_line_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut run = RunDir::open(&config, &Inputs::default(), false).unwrap();
    assert_eq!(run.evaluations().unwrap(), []);
    let details = serde_json::json!({"answers": 64});
    let line = EvalLine { step: 7, policy_version: 7, seconds_training: 1.5, accuracy: 0.25, details };
    run.eval(&line).unwrap();
    let path = config.run.dir.join("eval.jsonl");
    let torn = std::fs::read_to_string(&path).unwrap() + "{\"step\": 8, \"policy_ver";
    std::fs::write(&path, torn).unwrap();
    assert_eq!(run.evaluations().unwrap(), [line]);
}
