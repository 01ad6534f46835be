//! [`counterpoint_replay::core::ReplayCore`] in simulated worlds: see `world`. Every failing case prints its `Spec`.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod world;

use counterpoint_replay::{OnStraggler, OnVoid};
use counterpoint_rollout::DropReason;
use proptest::prelude::*;
use world::{End, Spec, World};

fn specs(staleness: impl Strategy<Value = u32>, faults: u32) -> impl Strategy<Value = Spec> {
    let sizes = (1u32..=4, staleness, 1usize..=12, prop::option::of(1u32..=3), 1u64..=12);
    let actors = (
        prop::collection::vec(1usize..=6, 1..=3),
        1usize..=2,
        any::<(bool, bool)>(),
        0u32..=3,
        prop::option::of(0u64..=8),
    );
    let chance = (0u64..=50, 0u64..=20, 0..=faults, any::<u64>(), any::<u64>(), any::<u64>());
    (sizes, actors, chance).prop_map(|(sizes, actors, chance)| {
        let (batch, staleness, prompts, epochs, max_steps) = sizes;
        let (windows, credits, (wait, rest), max_attempts, room) = actors;
        let (unmixed_percent, void_percent, faults, publish, outcome_seed, order_seed) = chance;
        Spec {
            batch,
            staleness,
            publish: 1 + publish % u64::from(staleness + 1),
            prompts,
            epochs,
            max_steps,
            windows,
            credits,
            straggler: if wait { OnStraggler::Wait } else { OnStraggler::Drop },
            max_in_flight: room.map(|room| u64::from(batch) + room),
            max_attempts,
            unmixed_percent,
            void_percent,
            on_void: if rest { OnVoid::RateRest } else { OnVoid::Drop },
            faults,
            outcome_seed,
            order_seed,
        }
    })
}

/// A world where nothing is ever void, unmixed or broken.
fn calm(batch: u32, staleness: u32) -> Spec {
    Spec {
        batch,
        staleness,
        publish: 1,
        prompts: 8,
        epochs: None,
        max_steps: 10,
        windows: vec![4, 4],
        credits: 1,
        straggler: OnStraggler::Wait,
        max_in_flight: None,
        max_attempts: 3,
        unmixed_percent: 0,
        void_percent: 0,
        on_void: OnVoid::Drop,
        faults: 0,
        outcome_seed: 1,
        order_seed: 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_run_without_faults_reaches_its_end(spec in specs(0u32..=3, 0)) {
        World::new(spec).run();
    }

    #[test]
    fn every_run_reaches_its_end_over_any_faults_and_resumes(spec in specs(0u32..=3, 25)) {
        World::new(spec).run();
    }

    #[test]
    fn without_staleness_leases_and_batches_do_not_depend_on_the_order_of_arrival(
        spec in specs(Just(0), 0),
        other_order in any::<u64>(),
    ) {
        let mut one = World::new(spec.clone());
        let mut two = World::new(Spec { order_seed: other_order, ..spec });
        prop_assert_eq!(one.run(), two.run());
        prop_assert_eq!(&one.log, &two.log);
    }
}

#[test]
fn a_calm_run_trains_every_group_that_it_issues() {
    for staleness in 0..4 {
        let mut world = World::new(calm(3, staleness));
        assert_eq!(world.run(), End::Exhausted);
        let totals = world.core.totals();
        assert_eq!((totals.issued, totals.trained), (30, 30), "η = {staleness}");
    }
}

#[test]
fn groups_with_a_void_verdict_are_trained_without_it_only_if_the_rest_is_to_be_rated() {
    for (on_void, end) in [(OnVoid::Drop, 0), (OnVoid::RateRest, 24)] {
        let mut world = World::new(Spec { void_percent: 100, on_void, epochs: Some(3), ..calm(3, 1) });
        world.run();
        assert_eq!(world.core.totals().trained, end, "{on_void:?}");
    }
}

#[test]
fn an_unmixed_group_between_two_publications_does_not_deadlock_the_run() {
    // The case of the proof in `admission`: B = 1, η = 1, every second step published.
    for outcome_seed in 0..200 {
        let spec = Spec { publish: 2, unmixed_percent: 50, outcome_seed, ..calm(1, 1) };
        World::new(spec).run();
    }
}

#[test]
fn data_smaller_than_a_batch_is_trained_as_one_short_batch() {
    let mut world = World::new(Spec { prompts: 3, epochs: Some(1), ..calm(8, 2) });
    assert_eq!(world.run(), End::Exhausted);
    assert_eq!(world.log.batches.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
}

#[test]
fn one_prompt_fills_batches_over_epoch_borders() {
    let mut world = World::new(Spec { prompts: 1, epochs: Some(7), ..calm(3, 1) });
    assert_eq!(world.run(), End::Exhausted);
    assert_eq!(world.log.batches.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
}

#[test]
fn max_steps_below_the_staleness_ends_after_max_steps() {
    let mut world = World::new(Spec { max_steps: 2, ..calm(3, 9) });
    assert_eq!(world.run(), End::Exhausted);
    assert_eq!(world.core.totals().issued, 6);
}

#[test]
fn a_limit_of_a_batch_or_more_in_flight_is_kept_and_the_run_reaches_its_end() {
    for limit in 3..8 {
        let mut world = World::new(Spec { max_in_flight: Some(limit), credits: 2, ..calm(3, 3) });
        assert_eq!(world.run(), End::Exhausted);
        assert_eq!(world.core.totals().trained, 30, "limit {limit}");
    }
}

#[test]
fn stragglers_are_dropped_only_if_asked_for_and_their_prompts_come_back() {
    let mut dropped = 0;
    for order_seed in 0..40 {
        for straggler in [OnStraggler::Wait, OnStraggler::Drop] {
            let mut world = World::new(Spec { straggler, order_seed, max_attempts: 1000, ..calm(2, 1) });
            assert_eq!(world.run(), End::Exhausted);
            let totals = world.core.totals();
            let stragglers = totals.dropped.get(&DropReason::Straggler).copied().unwrap_or(0);
            assert!(totals.balance() && totals.trained == 20, "{totals:?}");
            assert_eq!(totals.issued, 20 + stragglers, "nothing but stragglers is lost: {totals:?}");
            match straggler {
                OnStraggler::Wait => assert_eq!(stragglers, 0),
                OnStraggler::Drop => dropped += stragglers,
            }
        }
    }
    assert!(dropped > 0, "no world had a straggler");
}

#[test]
fn with_room_for_less_than_a_batch_the_status_says_what_nothing_comes_of() {
    for staleness in [0, 2] {
        let mut world = World::new(Spec { max_in_flight: Some(2), ..calm(3, staleness) });
        let waits_for = world.stand_still();
        assert!(waits_for.contains("replay.max_in_flight = 2") && waits_for.contains("batch of 3"), "{waits_for}");
    }
}

#[test]
fn with_too_rare_publications_the_status_names_the_weights_that_never_come() {
    for staleness in [0, 1] {
        let mut world = World::new(Spec { publish: u64::from(staleness) + 2, ..calm(3, staleness) });
        let waits_for = world.stand_still();
        assert!(waits_for.contains("weight_sync.every"), "{waits_for}");
    }
}
