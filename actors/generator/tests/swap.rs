//! What becomes of running answers when new weights come: on the cache they have, or on one that is computed again.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use counterpoint_generator::{Engine, EngineOptions, Event, OnSwap, Sampled};
use counterpoint_policy::{Snapshot, kernels::Blocks};
use counterpoint_rollout::{Completion, GroupId, PolicyVersion};
use proptest::prelude::*;

/// Options under which answers run to the limit of 12 tokens.
fn never_stopping(on_swap: OnSwap) -> EngineOptions {
    EngineOptions { eos_tokens: Vec::new(), ..options(8, 1.0, on_swap) }
}

/// The version of each token.
fn versions(completion: &Completion) -> Vec<PolicyVersion> {
    completion.versions.iter().flat_map(|span| (0..span.tokens).map(|_| span.version)).collect()
}

/// Log-probs as a pass of each token's own version over all before it gives them.
fn score_by_version(snapshots: &[Arc<Snapshot>], prompt: &[u32], completion: &Completion) -> Vec<f64> {
    let scores: Vec<Vec<f64>> = snapshots.iter().map(|s| score(s, prompt, completion, 1.0)).collect();
    let of = |version| snapshots.iter().position(|s| s.version() == version).unwrap();
    versions(completion).iter().enumerate().map(|(index, version)| scores[of(*version)][index]).collect()
}

/// Mean and largest difference between what was recorded and what `reference` says, over all answers.
fn explained(finished: &[Sampled], reference: impl Fn(&[u32], &Completion) -> Vec<f64>) -> (f64, f64) {
    let answers = finished.iter().flat_map(|s| s.completions.iter().map(move |c| (s, c)));
    mismatch(answers.map(|(s, c)| (c.clone(), reference(&s.prompt_tokens, c))))
}

/// Steps, with a swap after every so many; then to the end.
fn run_with_swaps(engine: &mut Engine, snapshots: &[Arc<Snapshot>], steps: &[usize]) -> Vec<Sampled> {
    let (mut finished, mut other) = (Vec::new(), Vec::new());
    for (steps, next) in steps.iter().zip(&snapshots[1..]) {
        for _ in 0..*steps {
            collect(engine.step().unwrap(), &mut finished, &mut other);
        }
        engine.load(Arc::clone(next)).unwrap();
    }
    finished.extend(run(engine).0);
    finished.sort_by_key(|sampled| sampled.group);
    finished
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever was computed with older weights leaves no trace but the tokens; with little memory too.
    #[test]
    fn after_a_recompute_log_probs_are_those_of_a_pass_over_the_whole_sequence(
        prompts in prop::collection::vec((prop::collection::vec(2u32..18, 1..40), 1u32..7), 1..6),
        slots in 1usize..8, swaps in prop::collection::vec(1usize..6, 1..4), qwen: bool, kernels: bool,
        prefill_chunk in 1usize..100, blocks in prop::option::of(15u64..30),
    ) {
        let config = model(qwen);
        let snapshots: Vec<Arc<Snapshot>> = (0..=swaps.len() as u64).map(|v| snapshot(&config, v)).collect();
        let kv_bytes = blocks.map(|blocks| blocks * Blocks::block_bytes(&config));
        let options = EngineOptions { kernels, prefill_chunk, kv_bytes, ..options(slots, 1.0, OnSwap::Recompute) };
        let mut engine = engine(Arc::clone(&snapshots[0]), options);
        for (index, (prompt, answers)) in prompts.iter().enumerate() {
            engine.submit(request(index as u64, prompt, *answers)).unwrap();
        }
        let finished = run_with_swaps(&mut engine, &snapshots, &swaps);
        let asked: Vec<usize> = prompts.iter().map(|(_, answers)| *answers as usize).collect();
        prop_assert_eq!(finished.iter().map(|s| s.completions.len()).collect::<Vec<_>>(), asked, "nothing is lost");
        let (mean, max) = explained(&finished, |prompt, answer| score_by_version(&snapshots, prompt, answer));
        prop_assert!(mean < 1e-6 && max < 1e-5, "mean {mean}, max {max}");
    }

    /// With the kernels an answer goes on, to the bit, as one to a prompt that ends with what it has so far.
    #[test]
    fn a_recomputed_cache_has_the_bits_of_a_prefilled_one(
        prompt in prop::collection::vec(2u32..18, 1..60), steps in 1usize..11, prefill_chunk in 1usize..100,
    ) {
        let config = model(true);
        let (old, new) = (snapshot(&config, 0), snapshot(&config, 1));
        let greedy = |on_swap| EngineOptions { temperature: 0.0, prefill_chunk, ..never_stopping(on_swap) };
        let mut swapped = engine(old, greedy(OnSwap::Recompute));
        swapped.submit(request(0, &prompt, 3)).unwrap();
        let finished = run_with_swaps(&mut swapped, &[Arc::clone(&new), Arc::clone(&new)], &[steps]);
        for answer in &finished[0].completions {
            let had = versions(answer).iter().filter(|version| version.0 == 0).count();
            prop_assert!((1..12).contains(&had), "{had}");
            let mut fresh = engine(Arc::clone(&new), greedy(OnSwap::Keep));
            let prompt: Vec<u32> = prompt.iter().chain(&answer.tokens[..had]).copied().collect();
            fresh.submit(request(0, &prompt, 1)).unwrap();
            let fresh = &run(&mut fresh).0[0].completions[0];
            let rest = answer.tokens.len() - had;
            prop_assert_eq!(&answer.tokens[had..], &fresh.tokens[..rest]);
            prop_assert_eq!(&answer.logprobs[had..], &fresh.logprobs[..rest]);
        }
    }
}

#[test]
fn a_step_computes_no_more_again_than_its_chunk_and_the_others_wait() {
    for kernels in [true, false] {
        let config = model(true);
        let options = EngineOptions { prefill_chunk: 10, kernels, ..never_stopping(OnSwap::Recompute) };
        let mut engine = engine(snapshot(&config, 0), options);
        engine.submit(request(0, &[2, 3, 4], 4)).unwrap();
        engine.step().unwrap();
        engine.step().unwrap();
        assert_eq!(engine.tokens(), 8);
        engine.take_pause();
        engine.load(snapshot(&config, 1)).unwrap();
        // Each has 4 tokens to be computed again: two in the first step, and two in the second.
        for tokens in [8 + 2, 8 + 2 + 4] {
            assert!(engine.swapping());
            engine.step().unwrap();
            assert_eq!(engine.tokens(), tokens);
        }
        assert!(!engine.swapping() && engine.take_pause() > Duration::ZERO);
        let (finished, _) = run(&mut engine);
        let spans = |c: &Completion| c.versions.iter().map(|s| (s.version.0, s.tokens)).collect::<Vec<_>>();
        assert!(finished[0].completions.iter().all(|c| spans(c) == [(0, 2), (1, 10)]), "{finished:?}");
    }
}

#[test]
fn an_answer_longer_than_the_chunk_is_computed_again_alone() {
    let config = model(true);
    let options = EngineOptions { prefill_chunk: 5, ..never_stopping(OnSwap::Recompute) };
    let mut engine = engine(snapshot(&config, 0), options);
    engine.submit(request(0, &[3; 40], 2)).unwrap();
    engine.step().unwrap();
    engine.load(snapshot(&config, 1)).unwrap();
    engine.step().unwrap();
    assert_eq!(engine.tokens(), 3, "one of the two went on");
    engine.step().unwrap();
    assert_eq!(engine.tokens(), 5);
}

#[test]
fn answers_come_to_their_end_though_new_weights_come_at_every_step() {
    let config = model(false);
    let options = EngineOptions { prefill_chunk: 5, ..never_stopping(OnSwap::Recompute) };
    let mut engine = engine(snapshot(&config, 0), options);
    engine.submit(request(0, &[3, 4, 5], 3)).unwrap();
    for version in 1..100 {
        engine.step().unwrap();
        engine.load(snapshot(&config, version)).unwrap();
    }
    assert_eq!((engine.groups(), engine.tokens()), (0, 36));
}

#[test]
fn a_recompute_whose_answers_are_cancelled_is_over() {
    let config = model(false);
    let mut engine = engine(snapshot(&config, 0), never_stopping(OnSwap::Recompute));
    engine.submit(request(0, &[3, 4, 5], 3)).unwrap();
    engine.step().unwrap();
    engine.load(snapshot(&config, 1)).unwrap();
    engine.cancel(&[GroupId(0)]);
    let (_, other) = run(&mut engine);
    assert!(matches!(other[..], [Event::Dropped { group: GroupId(0), .. }]), "{other:?}");
    assert!(!engine.swapping());
}

/// In `keep` mode neither the newest weights nor each token's own version alone explain what was recorded: the cache is of
/// several versions. Both together do, and nothing is left but the rounding of float32.
#[test]
fn in_keep_mode_the_recorded_versions_explain_the_whole_mismatch() {
    let config = model(true);
    let snapshots: Vec<Arc<Snapshot>> = (0..4).map(|version| snapshot(&config, version)).collect();
    for kernels in [true, false] {
        let mut engine = engine(Arc::clone(&snapshots[0]), EngineOptions { kernels, ..never_stopping(OnSwap::Keep) });
        for group in 0..6 {
            // With eight slots, some of these begin between two swaps, and some have siblings that begin after one.
            engine.submit(request(group, &[2 + group as u32, 9, 4], 3)).unwrap();
        }
        let finished = run_with_swaps(&mut engine, &snapshots, &[3, 4, 12]);
        let mixed = |s: &&Sampled| s.completions.iter().any(|c| c.versions.len() > 1);
        assert!(finished.iter().filter(mixed).count() >= 3, "{finished:?}");

        let newest = explained(&finished, |prompt, answer| score(&snapshots[3], prompt, answer, 1.0));
        let own_version = explained(&finished, |prompt, answer| score_by_version(&snapshots, prompt, answer));
        let own_cache = explained(&finished, |prompt, answer| replay(&snapshots, prompt, answer, 1.0));
        assert!(newest.0 > 0.1, "these weights differ: {newest:?}");
        assert!(own_version.0 > 0.01, "the cache of older versions is seen: {own_version:?}");
        assert!(own_cache.0 < 1e-6 && own_cache.1 < 1e-5, "{own_cache:?}");
    }
}
