//! The actor with stub neighbours on a paused clock: the whole loop, a verifier that dies, a lease that nobody fulfils.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may")]

mod stubs;

use std::time::Duration;

use counterpoint_replay::core::VERIFY_GRACE;
use counterpoint_replay::{Cut, FeedConfig, ReplayConfig, ReplayMsg};
use counterpoint_rollout::contract::ReplayEvent;
use counterpoint_rollout::{DropReason, GeneratorId, PolicyVersion};
use stubs::{Manner, Stage, VERIFY_DEADLINE};

fn feed() -> FeedConfig {
    FeedConfig { prompts_per_step: 4, answers_per_prompt: 2, ..FeedConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn the_whole_loop_trains_max_steps_batches_and_says_that_it_is_done() {
    for max_staleness in [0, 3] {
        let replay = ReplayConfig { max_staleness, ..ReplayConfig::default() };
        let mut stage = Stage::new(feed(), replay, 50, None).await;
        stage.generator(0, Manner::Works).await;
        stage.generator(1, Manner::Works).await;
        stage.verifier(Manner::Works).await;
        stage.learner().await;
        stage.tell(ReplayMsg::Begin);
        assert!(matches!(stage.end().await, ReplayEvent::Exhausted));
        let totals = stage.ask(ReplayMsg::Totals).await.unwrap();
        assert_eq!((totals.issued, totals.trained, totals.in_flight), (200, 200, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_verifier_that_dies_costs_nothing_once_another_is_up() {
    let mut stage = Stage::new(feed(), ReplayConfig::default(), 5, None).await;
    stage.generator(0, Manner::Works).await;
    stage.verifier(Manner::DiesAtOnce).await;
    stage.learner().await;
    stage.tell(ReplayMsg::Begin);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let status = stage.ask(ReplayMsg::Status).await.unwrap();
    assert_eq!(status.groups["verifying"], status.capacity_groups, "{status:?}");
    stage.verifier(Manner::Works).await;
    assert!(matches!(stage.end().await, ReplayEvent::Exhausted));
    let totals = stage.ask(ReplayMsg::Totals).await.unwrap();
    assert_eq!((totals.trained, totals.dropped.len()), (20, 0), "{totals:?}");
}

#[tokio::test(start_paused = true)]
async fn without_any_verifier_the_groups_become_void_after_their_deadlines_and_the_run_fails() {
    let mut stage = Stage::new(feed(), ReplayConfig::default(), 5, None).await;
    stage.generator(0, Manner::Works).await;
    stage.learner().await;
    stage.tell(ReplayMsg::Begin);
    let ReplayEvent::Failed(why) = stage.end().await else { panic!("the run must fail") };
    assert!(why.contains("void verdicts"), "{why}");
    let status = stage.ask(ReplayMsg::Status).await.unwrap();
    let missed = status.last_missed_deadline.unwrap();
    let after = (VERIFY_DEADLINE + VERIFY_GRACE).as_secs_f64();
    assert!(missed.contains(&format!("waited {after} s for a verifier")), "{missed}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_fulfilled_in_time_is_lost_and_its_prompt_asked_again() {
    let mut stage = Stage::new(feed(), ReplayConfig::default(), 5, None).await;
    stage.generator(0, Manner::NeverGenerates).await;
    stage.verifier(Manner::Works).await;
    stage.learner().await;
    stage.tell(ReplayMsg::Begin);
    tokio::time::sleep(Duration::from_secs(601)).await;
    let status = stage.ask(ReplayMsg::Status).await.unwrap();
    assert!(status.last_missed_deadline.unwrap().contains("before g0, g1, g2"));
    let lost = status.totals.dropped[&DropReason::Lost];
    // A generator in its place, under the same number, does what was asked.
    stage.generator(0, Manner::Works).await;
    assert!(matches!(stage.end().await, ReplayEvent::Exhausted));
    let totals = stage.ask(ReplayMsg::Totals).await.unwrap();
    assert_eq!(totals.trained, 20);
    assert!(totals.dropped[&DropReason::Lost] >= lost);
}

#[tokio::test(start_paused = true)]
async fn a_generator_that_does_not_even_answer_cancellations_fails_the_run() {
    let mut stage = Stage::new(feed(), ReplayConfig::default(), 5, None).await;
    stage.generator(0, Manner::Hangs).await;
    stage.verifier(Manner::Works).await;
    stage.learner().await;
    stage.tell(ReplayMsg::Begin);
    let ReplayEvent::Failed(why) = stage.end().await else { panic!("the run must fail") };
    assert!(why.contains("generator 0 has not given up g"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn no_deadline_runs_and_nothing_goes_out_during_a_pause() {
    let mut stage = Stage::new(feed(), ReplayConfig::default(), 5, None).await;
    stage.generator(0, Manner::Works).await;
    stage.verifier(Manner::Works).await;
    stage.learner().await;
    stage.tell(ReplayMsg::Hold);
    stage.tell(ReplayMsg::Begin);
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert_eq!(stage.ask(ReplayMsg::Totals).await.unwrap().issued, 0);
    stage.tell(ReplayMsg::Release);
    assert!(matches!(stage.end().await, ReplayEvent::Exhausted));
}

#[tokio::test(start_paused = true)]
async fn a_run_resumed_from_a_cut_closes_the_batches_of_the_unbroken_run_without_staleness() {
    let run = async |max_steps, from: Option<Cut>| {
        let replay = ReplayConfig { max_staleness: 0, ..ReplayConfig::default() };
        let version = from.as_ref().map_or(PolicyVersion(0), |cut| cut.completed);
        let mut stage = Stage::new(feed(), replay, max_steps, from).await;
        stage.loaded = version;
        stage.generator(0, Manner::Works).await;
        stage.verifier(Manner::Works).await;
        stage.learner().await;
        stage.tell(ReplayMsg::Begin);
        assert!(matches!(stage.end().await, ReplayEvent::Exhausted));
        (stage.ask(ReplayMsg::Cut).await.unwrap(), stage.batches())
    };
    let (_, unbroken) = run(6, None).await;
    let (cut, first) = run(3, None).await;
    assert_eq!(cut.completed, PolicyVersion(3));
    let (_, second) = run(6, Some(cut)).await;
    assert_eq!(unbroken, [first, second].concat());
}

#[tokio::test(start_paused = true)]
async fn a_generator_whose_mailbox_is_closed_is_down() {
    let mut stage = Stage::new(feed(), ReplayConfig::default(), 2, None).await;
    stage.generator(0, Manner::DiesAtOnce).await;
    stage.verifier(Manner::Works).await;
    stage.learner().await;
    stage.tell(ReplayMsg::Begin);
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.tell(ReplayMsg::GeneratorDown(GeneratorId(0)));
    let status = stage.ask(ReplayMsg::Status).await.unwrap();
    assert!(status.generators.is_empty() && status.totals.in_flight == 0, "{status:?}");
    stage.generator(1, Manner::Works).await;
    assert!(matches!(stage.end().await, ReplayEvent::Exhausted));
}
