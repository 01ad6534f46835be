//! Lists of requests through an engine.

mod common;

use common::*;
use counterpoint_generator::{OnSwap, Outcome, Request, sample_all};
use counterpoint_rollout::GroupId;

fn requests(groups: std::ops::Range<u64>) -> impl Iterator<Item = Request> {
    // Every third prompt is too long.
    groups.map(|group| {
        request(group, &vec![3 + (group % 9) as u32; if group % 3 == 2 { 90 } else { 2 }], 1 + group as u32 % 4)
    })
}

#[test]
fn outcomes_come_in_the_order_of_the_requests() {
    let mut engine = engine(snapshot(&model(true), 0), options(3, 1.0, OnSwap::Keep));
    let outcomes: Vec<Outcome> = sample_all(&mut engine, requests(0..40)).map(Result::unwrap).collect();
    assert_eq!(outcomes.len(), 40);
    for (index, outcome) in (0..).zip(outcomes) {
        match outcome {
            Outcome::Answered(sampled) => {
                assert_eq!((sampled.group, sampled.completions.len()), (GroupId(index), 1 + index as usize % 4));
            }
            Outcome::Dropped { group, .. } => assert!(group == GroupId(index) && index % 3 == 2),
        }
    }
}

#[test]
fn outcomes_as_finished_wait_for_no_earlier_one() {
    let mut engine = engine(snapshot(&model(true), 0), options(3, 1.0, OnSwap::Keep));
    let outcomes: Vec<Outcome> = sample_all(&mut engine, requests(0..40)).as_finished().map(Result::unwrap).collect();
    assert_eq!(outcomes[0].group(), GroupId(2), "the first that does not fit is known at once");
    let mut groups: Vec<u64> = outcomes.iter().map(|outcome| outcome.group().0).collect();
    groups.sort_unstable();
    assert_eq!(groups, (0..40).collect::<Vec<_>>());
}

#[test]
fn an_iterator_dropped_early_leaves_an_engine_that_works() {
    let mut engine = engine(snapshot(&model(true), 0), options(3, 1.0, OnSwap::Keep));
    assert!(sample_all(&mut engine, requests(0..40)).next().is_some());
    assert!(engine.is_idle());
    assert_eq!(sample_all(&mut engine, requests(0..4)).filter(Result::is_ok).count(), 4, "the same numbers again");
}

#[test]
fn requests_are_drawn_only_as_the_engine_has_room() {
    let drawn = std::cell::Cell::new(0);
    let endless = (0..).map(|group| {
        drawn.set(drawn.get() + 1);
        request(group, &[3, 4], 1)
    });
    let mut engine = engine(snapshot(&model(true), 0), options(3, 1.0, OnSwap::Keep));
    assert_eq!(sample_all(&mut engine, endless).take(20).count(), 20);
    assert!(drawn.get() < 200, "{}", drawn.get());
}
