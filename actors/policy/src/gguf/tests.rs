//! Whole files in: golden ones by llama.cpp's own writer, and ones made here to be wrong.

mod conversion;
mod golden;
mod hostile;
mod refusals;

use super::fixture::{Fixture, floats};
use super::*;

/// What is wrong with a file, in one line.
fn complaint(bytes: &[u8]) -> String {
    let error = match Content::read(bytes) {
        Ok(_) => panic!("the file was read"),
        Err(refusal) => refusal.of(Path::new("model.gguf")).to_string(),
    };
    assert!(error.contains("model.gguf") && error.lines().count() == 1 && error.len() < 1000, "{error}");
    error
}

/// The error must name all of `wanted`.
#[track_caller]
fn assert_refused(file: &Fixture, wanted: &[&str]) {
    let error = complaint(&file.bytes());
    assert!(wanted.iter().all(|part| error.contains(part)), "{wanted:?} wanted: {error}");
}

/// Converts into a directory that goes away with the guard.
fn converted(bytes: &[u8], format: WeightFormat) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("model");
    Content::read(bytes).unwrap().write(&out, format, SHARD_BYTES).unwrap();
    (scratch, out)
}
