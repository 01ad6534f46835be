//! Every objective trains: the whole runtime, three steps each.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::Run;

#[test]
fn every_objective_trains_through_the_whole_runtime() {
    for settings in [
        &["objective.name=grpo", "objective.reduction=seq_mean"][..],
        &["objective.name=dr_grpo", "objective.reduction=const_len", "objective.max_len=6"],
        &["objective.name=dapo", "objective.clip_high=0.28", "objective.overlong={ max_len = 6, buffer = 2 }"],
        &["objective.name=dpo"],
        &["objective.name=contrast"],
        &["objective.name=rft", "objective.weight=one"],
        &["learner.old_logprobs=decoupled", "objective.kl_coef=0.1", "objective.entropy_coef=0.01"],
        &[
            "learner.lr_scheduler_type=wsd",
            "learner.grad_norm_by_layer=true",
            "learner.weight_decay_groups={ embeddings = 0.0 }",
        ],
    ] {
        let run = Run::new(&["run.max_steps=3", "eval.at_start=false"]);
        let summary = run.succeed(settings);
        assert_eq!(summary["steps"], 3, "{settings:?}");
        for line in run.lines("metrics.jsonl") {
            assert!(line["grad_norm"].as_f64().unwrap() > 0.0, "{settings:?}: {line}");
        }
    }
}
