//! Checkpoints: complete or absent, refused by file name when corrupt.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{batch, group, model_dir, sampled, setup};
use counterpoint_learner::checkpoint::{SavedDtype, load, load_latest};
use counterpoint_learner::{
    Additions, CheckpointConfig, CheckpointStore, Extra, Learner, LearnerConfig, LearnerSetup, ObjectiveConfig,
};
use counterpoint_policy::{Device, Kind};
use counterpoint_rollout::{PolicyVersion, Verdict};

fn learner() -> Learner {
    let config = LearnerConfig { learning_rate: 1e-3, ..LearnerConfig::default() };
    Learner::new(setup(Kind::Float, config, ObjectiveConfig::default())).unwrap()
}

fn step(learner: &mut Learner) {
    let answer = |tokens: &[u32]| sampled(learner, &[4, 12, 4, 15], tokens, 1.0);
    let answers = vec![(answer(&[6, 1]), Verdict::Correct), (answer(&[7, 1]), Verdict::Incorrect)];
    let batch = batch(learner.version().0, vec![group(0, vec![4, 12, 4, 15], answers)]);
    learner.train_step(&batch).unwrap();
}

fn adding(extras: Vec<Extra>) -> Additions {
    Additions { extras, ..Additions::default() }
}

fn extras() -> Additions {
    adding(vec![Extra { name: "replay.json".into(), bytes: b"{\"cursor\":7}".to_vec() }])
}

fn store(root: &Path, keep: usize) -> CheckpointStore {
    CheckpointStore::open(root, &model_dir(), &CheckpointConfig { keep, ..CheckpointConfig::default() }).unwrap()
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn training_goes_on_from_a_checkpoint_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    let mut unbroken = learner();
    step(&mut unbroken);
    step(&mut unbroken);
    let path = store(root.path(), 2).save(&unbroken, &extras()).unwrap();
    assert_eq!(path, root.path().join("step-000002"));

    let loaded = load_latest(root.path(), Device::Cpu).unwrap().unwrap();
    assert_eq!((loaded.version, loaded.optimizer.step), (PolicyVersion(2), 2));
    assert_eq!(loaded.extras["replay.json"], b"{\"cursor\":7}");
    let fresh =
        setup(Kind::Float, LearnerConfig { learning_rate: 1e-3, ..Default::default() }, ObjectiveConfig::default());
    let mut resumed = Learner::new(LearnerSetup {
        model: loaded.model.into(),
        flat: loaded.flat,
        version: loaded.version,
        optimizer: Some(loaded.optimizer),
        ..fresh
    })
    .unwrap();
    for _ in 0..2 {
        step(&mut unbroken);
        step(&mut resumed);
    }
    assert!(unbroken.flat().equal(resumed.flat()));
    assert_eq!(resumed.version(), PolicyVersion(4));
}

#[test]
fn a_checkpoint_is_a_model_directory_with_one_weights_file() {
    let root = tempfile::tempdir().unwrap();
    let learner = learner();
    let path = store(root.path(), 2).save(&learner, &extras()).unwrap();
    let (model, flat) = counterpoint_policy::checkpoint::load(&path, Kind::Float, Device::Cpu).unwrap();
    assert_eq!(model, **learner.model());
    assert!(flat.equal(learner.flat()));
    let weights: Vec<String> = names(&path).into_iter().filter(|n| n.ends_with(".safetensors")).collect();
    assert_eq!(weights, ["model.safetensors"]);
    assert!(path.join("tokenizer.json").exists());
}

#[test]
fn a_changed_bit_in_any_file_is_refused_by_its_name() {
    let root = tempfile::tempdir().unwrap();
    let path = store(root.path(), 2).save(&learner(), &extras()).unwrap();
    let files = files(&path);
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let sound = fs::read(&file).unwrap();
        for place in [0, sound.len() / 2, sound.len() - 1] {
            let mut corrupt = sound.clone();
            corrupt[place] ^= 1;
            fs::write(&file, &corrupt).unwrap();
            let error = load(&path, Device::Cpu).unwrap_err().to_string();
            assert!(error.starts_with(&format!("checkpoint refused: {}: ", file.display())), "{error}");
        }
        fs::remove_file(&file).unwrap();
        let error = load(&path, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()) && error.contains("cannot be read"), "{error}");
        fs::write(&file, &sound).unwrap();
    }
    load(&path, Device::Cpu).unwrap();
}

#[test]
fn an_interrupted_write_is_ignored_and_then_cleaned_away() {
    let root = tempfile::tempdir().unwrap();
    let mut learner = learner();
    store(root.path(), 2).save(&learner, &Additions::default()).unwrap();
    step(&mut learner);
    fs::create_dir_all(root.path().join("step-000001.tmp/state")).unwrap();
    fs::write(root.path().join("step-000001.tmp/model.safetensors"), b"half").unwrap();
    std::os::unix::fs::symlink("step-000001", root.path().join("latest.tmp")).unwrap();
    assert_eq!(load_latest(root.path(), Device::Cpu).unwrap().unwrap().version, PolicyVersion(0));
    let store = store(root.path(), 2);
    assert_eq!(names(root.path()), ["latest", "step-000000"]);
    store.save(&learner, &Additions::default()).unwrap();
    assert_eq!(load_latest(root.path(), Device::Cpu).unwrap().unwrap().version, PolicyVersion(1));
}

/// What the caller added to the newest checkpoint.
fn added(root: &Path) -> String {
    let loaded = load_latest(root, Device::Cpu).unwrap().unwrap();
    String::from_utf8(loaded.extras["replay.json"].clone()).unwrap()
}

fn save_adding(root: &Path, text: &str) {
    let extra = Extra { name: "replay.json".into(), bytes: text.as_bytes().to_vec() };
    store(root, 2).save(&learner(), &adding(vec![extra])).unwrap();
}

#[test]
fn a_step_saved_again_has_what_was_added_last() {
    let root = tempfile::tempdir().unwrap();
    save_adding(root.path(), "old");
    save_adding(root.path(), "new");
    assert_eq!((added(root.path()).as_str(), names(root.path())), ("new", vec!["latest".into(), "step-000000".into()]));
}

#[test]
fn a_replacement_cut_short_anywhere_leaves_one_complete_checkpoint() {
    const PLAIN: &str = "step-000000";
    const NEW: &str = "step-000000.tmp";
    const OLD: &str = "step-000000.old.tmp";
    // What lies there at each instant: where the old one is, where the new one is, which one is half written or half removed.
    let instants = [
        (Some(PLAIN), Some(NEW), Some(NEW), "old"),
        (Some(PLAIN), Some(NEW), None, "old"),
        (Some(OLD), Some(NEW), None, "old"),
        (Some(OLD), Some(PLAIN), None, "new"),
        (Some(OLD), Some(PLAIN), Some(OLD), "new"),
        (None, Some(PLAIN), None, "new"),
    ];
    for (old, new, half, expected) in instants {
        let root = tempfile::tempdir().unwrap();
        for (text, place) in [("old", old), ("new", new)] {
            let elsewhere = tempfile::tempdir().unwrap();
            save_adding(elsewhere.path(), text);
            if let Some(place) = place {
                fs::rename(elsewhere.path().join(PLAIN), root.path().join(place)).unwrap();
            }
        }
        if let Some(half) = half {
            fs::remove_file(root.path().join(half).join("model.safetensors")).unwrap();
        }
        assert_eq!(added(root.path()), expected, "read as it lies: {old:?} {new:?}");
        let store = store(root.path(), 2);
        assert_eq!((added(root.path()).as_str(), names(root.path())), (expected, vec![PLAIN.to_owned()]));
        store.save(&learner(), &extras()).unwrap();
        assert_eq!(added(root.path()), "{\"cursor\":7}");
    }
}

#[test]
fn a_failed_write_leaves_nothing_and_says_why() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), 2);
    for name in ["../escape", "learner.json", ".hidden", ""] {
        let error = store.save(&learner(), &adding(vec![Extra { name: name.into(), bytes: vec![] }])).unwrap_err();
        assert!(!error.to_string().is_empty(), "{name}");
        assert_eq!(names(root.path()), Vec::<String>::new());
    }
    assert!(load_latest(root.path(), Device::Cpu).unwrap().is_none());
    assert!(load_latest(&root.path().join("missing"), Device::Cpu).unwrap().is_none());
}

#[test]
fn only_the_newest_stay_and_latest_names_the_last() {
    let root = tempfile::tempdir().unwrap();
    let mut learner = learner();
    let store = store(root.path(), 2);
    for _ in 0..4 {
        store.save(&learner, &Additions::default()).unwrap();
        step(&mut learner);
    }
    assert_eq!(names(root.path()), ["latest", "step-000002", "step-000003"]);
    assert_eq!(fs::read_link(root.path().join("latest")).unwrap(), Path::new("step-000003"));
}

/// Saves a version and says how well some did.
fn save_knowing(store: &CheckpointStore, learner: &Learner, known: &[(u64, f64)]) {
    let evaluations = known.iter().map(|(version, accuracy)| (PolicyVersion(*version), *accuracy)).collect();
    store.save(learner, &Additions { evaluations, ..Additions::default() }).unwrap();
}

fn best(root: &Path) -> (PathBuf, String) {
    (fs::read_link(root.join("best")).unwrap(), fs::read_to_string(root.join("best.json")).unwrap())
}

#[test]
fn the_best_by_evaluation_stays_however_old_and_over_a_reopening() {
    let root = tempfile::tempdir().unwrap();
    let mut learner = learner();
    for known in [&[][..], &[(1, 0.5)], &[(1, 0.5), (2, 0.25)]] {
        save_knowing(&store(root.path(), 1), &learner, known);
        step(&mut learner);
    }
    assert_eq!(names(root.path()), ["best", "best.json", "latest", "step-000001", "step-000002"]);
    let record = "{\"checkpoint\":\"step-000001\",\"accuracy\":0.5}\n".to_owned();
    assert_eq!(best(root.path()), (PathBuf::from("step-000001"), record.clone()));
    // What an earlier process recorded counts also where this one knows nothing of it.
    save_knowing(&store(root.path(), 1), &learner, &[(3, 0.25)]);
    assert_eq!(names(root.path()), ["best", "best.json", "latest", "step-000001", "step-000003"]);
    assert_eq!(best(root.path()).1, record);
    step(&mut learner);
    save_knowing(&store(root.path(), 1), &learner, &[(3, 0.25), (4, 0.75)]);
    assert_eq!(names(root.path()), ["best", "best.json", "latest", "step-000004"]);
    assert_eq!(best(root.path()).0, Path::new("step-000004"));
}

#[test]
fn a_crash_between_any_two_acts_of_a_save_costs_neither_the_newest_nor_the_best() {
    let mut learner = learner();
    let before = tempfile::tempdir().unwrap();
    for known in [&[(0, 0.5)][..], &[(0, 0.5)], &[(0, 0.5)]] {
        save_knowing(&store(before.path(), 2), &learner, known);
        step(&mut learner);
    }
    assert_eq!(names(before.path()), ["best", "best.json", "latest", "step-000000", "step-000001", "step-000002"]);
    // What is on the disk when version 3, the new best, is saved over this and the process dies: each link old or new, and
    // an old checkpoint not removed, half removed, or about to be.
    let after = tempfile::tempdir().unwrap();
    save_knowing(&store(after.path(), 2), &learner, &[(3, 0.75)]);
    for links_moved in 0..4 {
        for removed in ["", "step-000000.tmp", "gone"] {
            let root = tempfile::tempdir().unwrap();
            copy(before.path(), root.path());
            copy(&after.path().join("step-000003"), &root.path().join("step-000003"));
            for name in ["latest", "best.json", "best"].into_iter().take(links_moved) {
                fs::remove_file(root.path().join(name)).unwrap();
                copy_one(&after.path().join(name), &root.path().join(name));
            }
            let (old, doomed) = (root.path().join("step-000000"), root.path().join("step-000000.tmp"));
            match removed {
                "step-000000.tmp" if links_moved == 3 => fs::rename(&old, &doomed).unwrap(),
                "gone" if links_moved == 3 => fs::remove_dir_all(&old).unwrap(),
                _ => {}
            }
            let store = store(root.path(), 2);
            assert_eq!(load_latest(root.path(), Device::Cpu).unwrap().unwrap().version, PolicyVersion(3));
            // The run goes on from version 3, and knows of the evaluation that came before its checkpoint.
            let mut resumed = self::learner();
            (0..4).for_each(|_| step(&mut resumed));
            save_knowing(&store, &resumed, &[(0, 0.5), (3, 0.75)]);
            let context = format!("{links_moved} links moved, {removed:?}");
            let expected = ["best", "best.json", "latest", "step-000003", "step-000004"];
            assert_eq!(names(root.path()), expected, "{context}");
            assert_eq!(best(root.path()).0, Path::new("step-000003"), "{context}");
            assert_eq!(fs::read_link(root.path().join("latest")).unwrap(), Path::new("step-000004"), "{context}");
        }
    }
}

#[test]
fn a_best_checkpoint_that_somebody_removed_is_forgotten() {
    let root = tempfile::tempdir().unwrap();
    let learner = learner();
    save_knowing(&store(root.path(), 1), &learner, &[(0, 0.5)]);
    fs::remove_dir_all(root.path().join("step-000000")).unwrap();
    let store = store(root.path(), 1);
    assert_eq!(names(root.path()), ["latest"]);
    // The same number, but other weights.
    store.save(&learner, &Additions::default()).unwrap();
    assert_eq!(names(root.path()), ["latest", "step-000000"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        copy_one(&from.join(&name), &to.join(&name));
    }
}

fn copy_one(from: &Path, to: &Path) {
    if from.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to).unwrap();
    } else if from.is_dir() {
        copy(from, to);
    } else {
        fs::copy(from, to).unwrap();
    }
}

#[test]
fn training_goes_on_bit_for_bit_from_a_checkpoint_in_another_number_format_and_in_shards() {
    for (dtype, kind) in [(SavedDtype::Bfloat16, Kind::BFloat16), (SavedDtype::Float16, Kind::Half)] {
        let root = tempfile::tempdir().unwrap();
        let mut unbroken = learner();
        step(&mut unbroken);
        let config = CheckpointConfig { dtype, max_shard_size: "64KB".into(), ..CheckpointConfig::default() };
        let store = CheckpointStore::open(root.path(), &model_dir(), &config).unwrap();
        let additions = Additions { card: Some("# A card\n".into()), ..extras() };
        let path = store.save(&unbroken, &additions).unwrap();

        let loaded = load_latest(root.path(), Device::Cpu).unwrap().unwrap();
        assert!(loaded.flat.equal(unbroken.flat()), "what was trained is there to the last bit");
        assert_eq!(loaded.extras.keys().collect::<Vec<_>>(), ["replay.json"]);
        // What others load is what was trained, rounded once.
        let (_, rounded) = counterpoint_policy::checkpoint::load(&path, Kind::Float, Device::Cpu).unwrap();
        assert!(rounded.equal(&unbroken.flat().to_kind(kind).to_kind(Kind::Float)));
        assert!(!rounded.equal(unbroken.flat()), "the format is a narrower one");
        let shards = names(&path).into_iter().filter(|name| name.ends_with(".safetensors")).count();
        assert!(shards > 1 && path.join("model.safetensors.index.json").exists(), "{:?}", names(&path));
        assert_eq!(fs::read_to_string(path.join("README.md")).unwrap(), "# A card\n");
    }
}

#[test]
fn the_number_format_of_the_model_is_that_of_its_files() {
    let export = |dtype| CheckpointConfig { dtype, ..CheckpointConfig::default() }.export(&model_dir()).unwrap().kind;
    assert_eq!(export(SavedDtype::Model), Kind::Float);
    let root = tempfile::tempdir().unwrap();
    let config = CheckpointConfig { dtype: SavedDtype::Bfloat16, ..CheckpointConfig::default() };
    let path = CheckpointStore::open(root.path(), &model_dir(), &config).unwrap().save(&learner(), &extras()).unwrap();
    let config = CheckpointConfig { dtype: SavedDtype::Model, ..config };
    assert_eq!(config.export(&path).unwrap().kind, Kind::BFloat16);
}
