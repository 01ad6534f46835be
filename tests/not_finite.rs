//! Steps that are not finite, through the whole runtime. β = 1e38 lets the gradient overflow in float32.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Run, stderr};

const OVERFLOWS: [&str; 2] = ["objective.name=dpo", "objective.beta=1e38"];

#[test]
fn a_run_that_skips_goes_on_with_its_account_in_order() {
    let run = Run::new(&["eval.at_start=false", "learner.on_not_finite=skip", "run.max_steps=6"]);
    let summary = run.succeed(&OVERFLOWS);
    assert_eq!((&summary["steps"], &summary["steps_skipped"]), (&6.into(), &6.into()));
    let ledger = &summary["ledger"];
    let dropped: u64 = ledger["dropped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let count = |key: &str| ledger[key].as_u64().unwrap();
    assert_eq!(count("issued"), count("trained") + count("in_flight") + dropped);
    for line in run.lines("metrics.jsonl") {
        assert!(line["not_finite"].as_str().unwrap().starts_with("gradient norm is "), "{line}");
        assert_eq!(line["grad_norm"], 0.0);
    }
    assert!(run.read("metrics.prom").contains("counterpoint_steps_skipped_total 6"));
}

#[test]
fn a_run_that_stops_leaves_the_batch_behind() {
    let run = Run::new(&["eval.at_start=false", "run.max_steps=6"]);
    let output = run.finish(&OVERFLOWS);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let saved = run.dir().join("not-finite-v0.json");
    assert!(stderr(&output).contains(&format!("the batch is saved in {}", saved.display())), "{}", stderr(&output));
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
    assert_eq!(saved["weights_finite"], true);
    assert!(!saved["groups"].as_array().unwrap().is_empty());
}
