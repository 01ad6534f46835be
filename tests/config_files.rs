//! The shipped configs are accepted, and the reference page says what the code says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use counterpoint::config;
use counterpoint::data::{Files, read_files};
use counterpoint_verifier::Registry;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn config_reference_is_what_the_code_says() {
    let path = root().join("configs/REFERENCE.md");
    let page = config::reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "configs/REFERENCE.md is stale; UPDATE=1 cargo test --release config_reference writes it");
}

#[test]
fn every_shipped_config_is_accepted() {
    let configs: Vec<PathBuf> = std::fs::read_dir(root().join("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    assert!(configs.len() >= 2);
    for path in configs {
        if let Err(error) = config::load(&path, &[], &Registry::default()) {
            panic!("{error}");
        }
    }
}

#[test]
fn the_quickstart_holds_256_other_questions_out() {
    let config = config::load(&root().join("configs/quickstart.toml"), &[], &Registry::default()).unwrap();
    let read = |files: &Files| {
        let path = root().join(&files.given()[0]);
        read_files(&path.into(), &config.data, None).unwrap().0.first(usize::MAX).unwrap()
    };
    let (train, held_out) = (read(&config.data.train), read(config.data.eval.as_ref().unwrap()));
    assert_eq!((train.len(), held_out.len()), (3744, 256));
    assert!(held_out.iter().all(|h| train.iter().all(|t| t.content != h.content)));
}

#[test]
fn the_paper_has_the_papers_numbers() {
    let config = config::load(&root().join("configs/nft-qwen2.5-math-7b.toml"), &[], &Registry::default()).unwrap();
    assert_eq!((config.feed.prompts_per_step, config.feed.answers_per_prompt), (32, 16));
    assert_eq!((config.weight_sync.every, config.replay.max_staleness), (16, 15));
    assert_eq!(
        (config.learner.learning_rate, config.learner.warmup_steps, config.learner.weight_decay),
        (1e-6, 160, 0.1)
    );
    assert_eq!(config.generator.max_prompt_tokens + config.generator.max_new_tokens, 4096);
}
