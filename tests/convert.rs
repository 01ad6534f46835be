//! `counterpoint convert`: what it makes can be sampled from, and what it refuses costs one line.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{counterpoint, output, pipe, stderr, stdout};
use serde_json::Value;

const FILE: &str = "actors/policy/tests/data/gguf/tiny-llama.gguf";

#[test]
fn a_converted_model_answers_a_chat() {
    let scratch = tempfile::tempdir().unwrap();
    let model = scratch.path().join("model");
    let mut command = counterpoint();
    command.args(["convert", FILE, "--dtype", "bfloat16", "--out"]).arg(&model);
    let converted = output(command);
    assert_eq!(converted.status.code(), Some(0), "{}", stderr(&converted));
    let said = stdout(&converted);
    assert!(said.contains("llama") && said.contains("bfloat16") && said.contains("[2, 0]"), "{said}");

    let mut command = counterpoint();
    command.args(["generate", "--device", "cpu", "--temperature", "0", "--max-new-tokens", "4", "--model"]).arg(&model);
    let answered = pipe(command, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n");
    assert_eq!(answered.status.code(), Some(0), "{}", stderr(&answered));
    let line: Value = serde_json::from_str(&stdout(&answered)).unwrap();
    assert!((1..=4).contains(&line["tokens"].as_array().unwrap().len()), "{line}");
}

#[test]
fn what_cannot_be_converted_is_named_in_one_line_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let broken = scratch.path().join("broken.gguf");
    std::fs::write(&broken, &std::fs::read(common::root().join(FILE)).unwrap()[..2000]).unwrap();
    let missing = scratch.path().join("missing.gguf");
    for (file, word) in
        [(&broken, "left in the file"), (&missing, "No such file"), (&scratch.path().to_owned(), "GGUF")]
    {
        let out = scratch.path().join("out");
        let mut command = counterpoint();
        command.arg("convert").arg(file).arg("--out").arg(&out);
        let output = output(command);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(word) && said.contains(file.to_str().unwrap()) && !out.exists(), "{said}");
    }
}
