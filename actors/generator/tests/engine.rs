//! The engine against the learner's way of scoring, and against itself under other schedules.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use counterpoint_generator::{Engine, EngineOptions, Event, Filters, GeneratorError, OnSwap, Sampled};
use counterpoint_policy::{ModelConfig, Snapshot, Tensor, device};
use counterpoint_rollout::{DropReason, FinishReason, GroupId, PolicyVersion};
use proptest::prelude::*;

/// Prompts of 1 to 70 tokens, which crosses the store's first size, each with K.
fn groups() -> impl Strategy<Value = Vec<(Vec<u32>, u32)>> {
    let short = prop::collection::vec(2u32..18, 1..9);
    let long = prop::collection::vec(2u32..18, 40..71);
    prop::collection::vec((prop_oneof![4 => short, 1 => long], 1u32..7), 1..7)
}

fn sample(snapshot: &Arc<Snapshot>, groups: &[(Vec<u32>, u32)], slots: usize, temperature: f64) -> Vec<Sampled> {
    sample_as(snapshot, groups, options(slots, temperature, OnSwap::Keep))
}

fn sample_as(snapshot: &Arc<Snapshot>, groups: &[(Vec<u32>, u32)], options: EngineOptions) -> Vec<Sampled> {
    let mut engine = engine(Arc::clone(snapshot), options);
    for (index, (prompt, answers)) in groups.iter().enumerate() {
        engine.submit(request(index as u64, prompt, *answers)).unwrap();
    }
    run(&mut engine).0
}

/// Qwen and Llama, with and without normed heads, and with a sliding window in all layers, one or none.
fn models() -> impl Strategy<Value = Arc<ModelConfig>> {
    let window = || prop_oneof![2 => Just(None), 1 => (1i64..20).prop_map(Some)];
    (any::<bool>(), any::<bool>(), window(), any::<bool>()).prop_map(|(qwen, qk_norm, window, all)| {
        let windows = window.map_or(Vec::new(), |window| vec![Some(window).filter(|_| all), Some(window)]);
        Arc::new(ModelConfig { qk_norm, windows, ..(*model(qwen)).clone() })
    })
}

/// Options under which answers run to the limit of 12 tokens.
fn never_stopping(on_swap: OnSwap) -> EngineOptions {
    EngineOptions { eos_tokens: Vec::new(), ..options(8, 1.0, on_swap) }
}

fn tokens(sampled: &Sampled) -> Vec<Vec<u32>> {
    sampled.completions.iter().map(|c| c.tokens.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn recorded_log_probs_are_those_of_the_learner(
        groups in groups(), slots in 1usize..20, model in models(), temperature in prop_oneof![Just(1.0), 0.5f64..2.0],
        kernels: bool, prefill_chunk in 1usize..100,
    ) {
        let snapshot = snapshot(&model, 0);
        let options = EngineOptions { kernels, prefill_chunk, ..options(slots, temperature, OnSwap::Keep) };
        let sampled = sample_as(&snapshot, &groups, options);
        prop_assert_eq!(sampled.len(), groups.len());
        let answers = sampled.iter().flat_map(|s| s.completions.iter().map(move |c| (s, c)));
        let (mean, max) = mismatch(answers.map(|(s, c)| (c.clone(), score(&snapshot, &s.prompt_tokens, c, temperature))));
        // float32 over a few layers; the same figures hold for real models of this size
        prop_assert!(mean < 1e-6 && max < 1e-4, "mean {mean}, max {max}");
    }

    #[test]
    fn a_group_gets_the_same_tokens_alone_with_others_and_with_few_slots(
        groups in groups(), slots in 1usize..8, model in models(), kernels: bool,
    ) {
        let snapshot = snapshot(&model, 0);
        let options = |slots| EngineOptions { kernels, ..options(slots, 1.0, OnSwap::Keep) };
        let together = sample_as(&snapshot, &groups, options(64));
        let crowded = sample_as(&snapshot, &groups, options(slots));
        for (index, (prompt, answers)) in groups.iter().enumerate() {
            let mut engine = engine(Arc::clone(&snapshot), options(64));
            engine.submit(request(index as u64, prompt, *answers)).unwrap();
            let alone = tokens(&run(&mut engine).0[0]);
            prop_assert_eq!(&alone, &tokens(&together[index]));
            prop_assert_eq!(&alone, &tokens(&crowded[index]));
        }
    }

    /// With the kernels nothing may change, not even a log-prob's last bit.
    #[test]
    fn threads_chunks_and_slots_do_not_change_a_bit(
        groups in groups(), slots in 1usize..8, model in models(), prefill_chunk in 1usize..40, threads in 1usize..4,
    ) {
        let snapshot = snapshot(&model, 0);
        let whole = EngineOptions { prefill_chunk: usize::MAX, ..options(64, 1.0, OnSwap::Keep) };
        let expected = sample_as(&snapshot, &groups, whole);
        let mut engine = engine(Arc::clone(&snapshot), EngineOptions { prefill_chunk, ..options(slots, 1.0, OnSwap::Keep) });
        device::set_threads(threads);
        for (index, (prompt, answers)) in groups.iter().enumerate() {
            engine.submit(request(index as u64, prompt, *answers)).unwrap();
        }
        prop_assert_eq!(run(&mut engine).0, expected);
    }

    /// Little memory costs time, and not a bit of an answer.
    #[test]
    fn suspended_answers_go_on_as_if_nothing_had_been(
        groups in groups(), slots in 1usize..12, model in models(), blocks in 15u64..30, prefill_chunk in 1usize..100,
    ) {
        let snapshot = snapshot(&model, 0);
        let plenty = EngineOptions { max_new_tokens: 40, ..options(slots, 1.0, OnSwap::Keep) };
        let kv_bytes = Some(blocks * counterpoint_policy::kernels::Blocks::block_bytes(&model));
        let little = EngineOptions { kv_bytes, prefill_chunk, ..plenty.clone() };
        prop_assert_eq!(sample_as(&snapshot, &groups, little), sample_as(&snapshot, &groups, plenty));
    }

    /// With filters too, where the repetition penalty looks at each sequence's own prompt and answer.
    #[test]
    fn filters_look_at_a_sequence_alone(groups in groups(), slots in 1usize..8, penalty in 0.5f64..3.0) {
        let snapshot = snapshot(&model(true), 0);
        let filters = Filters { repetition_penalty: penalty, top_k: 9, top_p: 0.95, min_p: 0.02 };
        let sample = |slots, chosen: &[usize]| {
            let mut engine = engine(Arc::clone(&snapshot), EngineOptions { filters, ..options(slots, 0.9, OnSwap::Keep) });
            for &index in chosen {
                engine.submit(request(index as u64, &groups[index].0, groups[index].1)).unwrap();
            }
            run(&mut engine).0
        };
        let crowded = sample(slots, &(0..groups.len()).collect::<Vec<_>>());
        for (index, sampled) in crowded.iter().enumerate() {
            let alone = &sample(64, &[index])[0];
            prop_assert_eq!(tokens(alone), tokens(sampled));
        }
    }

    /// Also covers groups with more answers than slots, whose late siblings start after a swap.
    #[test]
    fn log_probs_across_swaps_are_those_of_the_recorded_versions(
        groups in groups(), slots in 1usize..8, swaps in prop::collection::vec(1usize..6, 1..4), model in models(),
        kernels: bool, prefill_chunk in 1usize..100,
    ) {
        let snapshots: Vec<Arc<Snapshot>> = (0..=swaps.len() as u64).map(|v| snapshot(&model, v)).collect();
        let options = EngineOptions { kernels, prefill_chunk, ..options(slots, 1.0, OnSwap::Keep) };
        let mut engine = engine(Arc::clone(&snapshots[0]), options);
        for (index, (prompt, answers)) in groups.iter().enumerate() {
            engine.submit(request(index as u64, prompt, *answers)).unwrap();
        }
        let (mut finished, mut other) = (Vec::new(), Vec::new());
        for (steps, next) in swaps.iter().zip(&snapshots[1..]) {
            for _ in 0..*steps {
                collect(engine.step().unwrap(), &mut finished, &mut other);
            }
            engine.load(Arc::clone(next)).unwrap();
            prop_assert_eq!(engine.version(), next.version());
        }
        let (rest, _) = run(&mut engine);
        finished.extend(rest);
        prop_assert_eq!(finished.len(), groups.len());
        for sampled in &finished {
            let first = sampled.completions.iter().filter_map(|c| c.versions.first()).map(|span| span.version).min();
            prop_assert_eq!(Some(sampled.start_version), first);
            let replayed = sampled.completions.iter().map(|c| (c.clone(), replay(&snapshots, &sampled.prompt_tokens, c, 1.0)));
            let (_, max) = mismatch(replayed);
            prop_assert!(max < 1e-4, "{max}");
        }
    }
}

#[test]
fn keep_goes_on_with_the_new_weights_within_an_answer() {
    let config = model(true);
    let mut engine = engine(snapshot(&config, 0), never_stopping(OnSwap::Keep));
    engine.submit(request(0, &[3, 4], 2)).unwrap();
    for _ in 0..3 {
        engine.step().unwrap();
    }
    engine.load(snapshot(&config, 4)).unwrap();
    let (finished, _) = run(&mut engine);
    for completion in &finished[0].completions {
        let spans: Vec<(u64, u32)> = completion.versions.iter().map(|s| (s.version.0, s.tokens)).collect();
        assert_eq!(spans, [(0, 3), (4, 9)]);
    }
}

#[test]
fn drain_finishes_on_the_old_weights_and_starts_nothing_meanwhile() {
    let config = model(true);
    let mut options = never_stopping(OnSwap::Drain);
    options.slots = 2;
    let mut engine = engine(snapshot(&config, 0), options);
    engine.submit(request(0, &[3, 4], 1)).unwrap();
    engine.step().unwrap();
    engine.load(snapshot(&config, 1)).unwrap();
    assert_eq!(engine.version(), PolicyVersion(0), "an answer runs");
    engine.load(snapshot(&config, 2)).unwrap();
    engine.submit(request(1, &[5], 1)).unwrap();
    let (finished, _) = run(&mut engine);
    let versions: Vec<Vec<u64>> =
        finished.iter().map(|s| s.completions[0].versions.iter().map(|span| span.version.0).collect()).collect();
    assert_eq!(versions, [[0], [2]], "the newest weights replaced those that waited");
}

#[test]
fn cancelling_frees_the_slots_and_leaves_the_others_alone() {
    let config = model(false);
    let alone = {
        let mut engine = engine(snapshot(&config, 0), never_stopping(OnSwap::Keep));
        engine.submit(request(1, &[5, 6], 3)).unwrap();
        tokens(&run(&mut engine).0[0])
    };
    let mut options = never_stopping(OnSwap::Keep);
    options.slots = 4;
    let mut engine = engine(snapshot(&config, 0), options);
    engine.submit(request(0, &[3, 4, 5], 3)).unwrap();
    engine.submit(request(1, &[5, 6], 3)).unwrap();
    engine.submit(request(2, &[9], 1)).unwrap();
    for _ in 0..3 {
        engine.step().unwrap();
    }
    engine.cancel(&[GroupId(0), GroupId(2), GroupId(77)]);
    let (finished, other) = run(&mut engine);
    assert_eq!(finished.iter().map(|s| s.group).collect::<Vec<_>>(), [GroupId(1)]);
    assert_eq!(tokens(&finished[0]), alone);
    let dropped = other.iter().filter(|e| matches!(e, Event::Dropped { reason: DropReason::Cancelled, .. })).count();
    assert_eq!(dropped, 2, "an unknown group is not reported");
    assert_eq!(engine.groups(), 0);
}

#[test]
fn a_prompt_that_does_not_fit_is_dropped_and_the_longest_that_fits_is_sampled() {
    let mut engine = engine(snapshot(&model(true), 0), never_stopping(OnSwap::Keep));
    engine.submit(request(0, &[3; 81], 1)).unwrap();
    engine.submit(request(1, &[3; 80], 2)).unwrap();
    let (finished, other) = run(&mut engine);
    assert!(matches!(other[0], Event::Dropped { group: GroupId(0), reason: DropReason::TooLong }));
    assert!(matches!(other[1], Event::Started { group: GroupId(1), version: PolicyVersion(0) }));
    assert!(finished[0].completions.iter().all(|c| c.tokens.len() == 12 && c.finish == FinishReason::Length));
}

#[test]
fn the_model_s_context_bounds_prompt_and_answer_together() {
    let mut options = never_stopping(OnSwap::Keep);
    options.max_prompt_tokens = 1000;
    let mut engine = engine(snapshot(&model(true), 0), options);
    engine.submit(request(0, &[3; 117], 1)).unwrap();
    engine.submit(request(1, &[3; 116], 1)).unwrap();
    let (finished, other) = run(&mut engine);
    assert!(matches!(other[0], Event::Dropped { group: GroupId(0), reason: DropReason::TooLong }));
    assert_eq!(finished[0].completions[0].tokens.len(), 12);
}

#[test]
fn a_request_waits_for_the_version_it_needs() {
    let config = model(true);
    let mut engine = engine(snapshot(&config, 0), options(8, 1.0, OnSwap::Keep));
    let mut early = request(0, &[3, 4], 1);
    early.min_version = PolicyVersion(2);
    engine.submit(early).unwrap();
    assert!(engine.is_idle(), "nothing can start");
    engine.load(snapshot(&config, 2)).unwrap();
    let (finished, _) = run(&mut engine);
    assert_eq!(finished[0].start_version, PolicyVersion(2));
}

#[test]
fn temperature_zero_needs_no_noise() {
    let snapshot = snapshot(&model(true), 0);
    let groups = [(vec![3, 4, 5], 3)];
    let greedy = sample(&snapshot, &groups, 8, 0.0);
    let answers = tokens(&greedy[0]);
    assert!(answers.iter().all(|a| *a == answers[0]));
}

#[test]
fn the_repetition_penalty_counts_the_prompt_and_the_answer() {
    let snapshot = snapshot(&model(true), 0);
    let filters = Filters { repetition_penalty: 1e6, ..Filters::default() };
    let options = EngineOptions { filters, eos_tokens: Vec::new(), ..options(4, 0.0, OnSwap::Keep) };
    let mut engine = engine(Arc::clone(&snapshot), options);
    engine.submit(request(0, &[3, 4, 5], 1)).unwrap();
    let answer = &tokens(&run(&mut engine).0[0])[0];
    // Of 18 tokens 3 are in the prompt; a seen one only comes back when no unseen one has a positive logit.
    assert!(answer.iter().take(4).all(|token| ![3, 4, 5].contains(token)), "{answer:?}");
    assert!((1..4).all(|i| !answer[..i].contains(&answer[i])), "{answer:?}");
}

#[test]
fn weights_that_are_not_finite_or_of_another_model_are_named() {
    let config = model(true);
    let damaged = Tensor::full(
        [config.parameters()],
        f64::NAN,
        (counterpoint_policy::Kind::Float, counterpoint_policy::Device::Cpu),
    );
    let damaged = Arc::new(Snapshot::new(Arc::clone(&config), PolicyVersion(3), damaged).unwrap());
    let mut engine = engine(snapshot(&config, 0), options(8, 1.0, OnSwap::Keep));
    let error = engine.load(snapshot(&model(false), 1)).unwrap_err();
    assert!(matches!(error, GeneratorError::OtherModel { version: PolicyVersion(1) }));
    engine.load(damaged).unwrap();
    engine.submit(request(0, &[3, 4], 1)).unwrap();
    let error = engine.step().unwrap_err();
    assert!(matches!(error, GeneratorError::NotFinite { version: PolicyVersion(3) }), "{error}");
}

#[test]
fn an_engine_with_no_time_for_answers_ends_each_with_the_token_after_its_first() {
    let snapshot = snapshot(&model(true), 0);
    let options = EngineOptions { max_time: Some(Duration::from_nanos(1)), ..never_stopping(OnSwap::Keep) };
    let mut engine = engine(snapshot, options);
    engine.submit(request(0, &[2, 3], 3)).unwrap();
    let (finished, _) = run(&mut engine);
    let lengths: Vec<usize> = tokens(&finished[0]).iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 2, 2], "the first is drawn in the step in which it begins");
    assert!(finished[0].completions.iter().all(|answer| answer.finish == FinishReason::Length));
}

#[test]
fn a_long_prompt_does_not_stall_running_answers() {
    let snapshot = snapshot(&model(true), 0);
    let options = EngineOptions { prefill_chunk: 10, slots: 4, ..never_stopping(OnSwap::Keep) };
    let mut engine = engine(snapshot, options);
    engine.submit(request(0, &[3, 4], 2)).unwrap();
    engine.step().unwrap();
    engine.submit(request(1, &[5; 75], 2)).unwrap();
    // 75 tokens, ten a step: the answers of the first group get a token in each of those steps.
    for step in 1..8 {
        let events = engine.step().unwrap();
        assert!(events.is_empty(), "{events:?}");
        assert_eq!(engine.tokens(), 2 + 2 * step);
    }
    assert!(matches!(engine.step().unwrap()[..], [Event::Started { group: GroupId(1), .. }]));
    assert_eq!(engine.tokens(), 2 + 2 * 8 + 2);
}

#[test]
fn answers_that_outgrow_the_memory_are_suspended_the_youngest_first() {
    let config = model(true);
    let snapshot = snapshot(&config, 0);
    let each = counterpoint_policy::kernels::Blocks::block_bytes(&config);
    // Six answers share a block of prompt; they begin with room for two blocks each, and come to need three.
    let options = EngineOptions { kv_bytes: Some(15 * each), max_new_tokens: 40, ..never_stopping(OnSwap::Drain) };
    let mut limited = engine(Arc::clone(&snapshot), options.clone());
    let mut free = engine(Arc::clone(&snapshot), EngineOptions { kv_bytes: None, ..options.clone() });
    for engine in [&mut limited, &mut free] {
        for group in 0..2 {
            engine.submit(request(group, &[3; 16], 6)).unwrap();
        }
    }
    let (finished, _) = run(&mut limited);
    assert_eq!(finished, run(&mut free).0);
    assert!(limited.suspensions() > 0 && free.suspensions() == 0, "{}", limited.suspensions());

    let text =
        Engine::new(snapshot, EngineOptions { kv_bytes: Some(14 * each), ..options }, Arc::new(|_| String::new()));
    let text = text.err().unwrap().to_string();
    assert!(text.contains("kv_memory_mb") && text.contains(&(15 * each).to_string()), "{text}");
}
