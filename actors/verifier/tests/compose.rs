//! The kinds made of other verifiers, built from configurations: their rules, and what a faulty part does to them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod parts;

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use counterpoint_verifier::{Home, Judge, Pace, TruncatedPolicy, Verdict, Verifier, VoidReason};
use parts::{Notes, built, from, judge, question, refused, verdicts};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

const RIGHT: Verdict = Verdict::Correct;
const WRONG: Verdict = Verdict::Incorrect;

fn told() -> Verdict {
    Verdict::Void(VoidReason::Verifier("as told".into()))
}

/// The verdict of a composite that nobody needs notes of.
async fn verdict(composite: Value) -> Verdict {
    let verdicts = verdicts(&judge(&composite, &Arc::default()), &["correct", "correct"]).await;
    assert_eq!(verdicts[0], verdicts[1], "{composite}");
    verdicts[0].clone()
}

#[tokio::test]
async fn each_response_gets_the_verdict_of_its_own_parts() {
    let responses = ["correct", "incorrect", "0.25", "void"];
    let all = judge(&json!({"kind": "all", "of": ["says", "half"]}), &Arc::default());
    assert_eq!(verdicts(&all, &responses).await, [Verdict::Soft(0.5), WRONG, Verdict::Soft(0.25), told()]);
    let any = judge(&json!({"kind": "any", "of": ["says", "half"]}), &Arc::default());
    assert_eq!(verdicts(&any, &responses).await, [RIGHT, Verdict::Soft(0.5), Verdict::Soft(0.5), told()]);
    let mean = judge(&json!({"kind": "weighted", "weights": {"says": 3, "half": 1}}), &Arc::default());
    let expected = [Verdict::Soft(0.875), Verdict::Soft(0.125), Verdict::Soft(0.3125), told()];
    assert_eq!(verdicts(&mean, &responses).await, expected);
    let hard = json!({"kind": "weighted", "weights": {"says": 3, "half": 1}, "threshold": 0.3});
    assert_eq!(verdicts(&judge(&hard, &Arc::default()), &responses).await, [RIGHT, WRONG, RIGHT, told()]);
}

#[tokio::test]
async fn built_in_kinds_and_definitions_and_composites_are_parts_alike() {
    let exact = json!({"kind": "any", "of": ["exact", "inner"]});
    let mut config = parts::config(&exact);
    let inner = json!({"kind": "all", "of": ["math", "half"]});
    config.define.insert("inner".into(), serde_json::from_value(inner).unwrap());
    let verifier = parts::registry(&Arc::default()).build(&config).unwrap();
    let judge = Judge::new("it", verifier, TruncatedPolicy::Judge);
    let pair = |response| judge.pair(response, "1/2", Duration::from_secs(3));
    assert_eq!(pair("1/2").await, RIGHT);
    assert_eq!(pair("\\boxed{0.5}").await, Verdict::Soft(0.5));
    assert_eq!(pair("\\boxed{2}").await, WRONG);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_a_part_is_void_for_that_part_alone() {
    let reasons = [
        ("panics", VoidReason::Crash),
        ("panics_on_its_thread", VoidReason::Crash),
        ("short", VoidReason::Protocol),
        ("mad", VoidReason::Protocol),
        ("hangs", VoidReason::Timeout),
    ];
    for (part, reason) in reasons {
        let void = Verdict::Void(reason);
        assert_eq!(verdict(json!({"kind": "all", "of": [part, "right"]})).await, void, "{part}");
        assert_eq!(verdict(json!({"kind": "all", "of": ["wrong", part]})).await, WRONG, "{part}");
        assert_eq!(verdict(json!({"kind": "any", "of": [part, "right"]})).await, RIGHT, "{part}");
        assert_eq!(verdict(json!({"kind": "any", "of": ["half", part]})).await, void, "{part}");
        assert_eq!(verdict(json!({"kind": "weighted", "weights": {"right": 1, part: 1}})).await, void, "{part}");
        assert_eq!(verdict(json!({"kind": "first", "of": [part, "half"]})).await, Verdict::Soft(0.5), "{part}");
        assert_eq!(verdict(json!({"kind": "first", "of": [part]})).await, void, "{part}");
        assert_eq!(verdict(json!({"kind": "by_source", "default": part})).await, void, "{part}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_void_by_the_deadline_also_deep_inside_and_also_a_short_one() {
    let mut config = parts::config(&json!({"kind": "any", "of": ["b", "wrong"]}));
    for (id, inner) in [("b", "c"), ("c", "hangs")] {
        let inner = json!({"kind": "any", "of": [inner]});
        config.define.insert(id.into(), serde_json::from_value(inner).unwrap());
    }
    let verifier = parts::registry(&Arc::default()).build(&config).unwrap();
    let judge = Judge::new("it", verifier, TruncatedPolicy::Judge);
    for deadline in [Duration::from_millis(16), Duration::from_secs(30)] {
        let begin = Instant::now();
        let judged = judge.question(question(&["x"]), deadline).await;
        assert_eq!(judged.verdicts, [Verdict::Void(VoidReason::Timeout)]);
        // The composite itself was in time, so it is known that nothing of it runs on.
        assert!(judged.unfinished.is_none() && begin.elapsed() < deadline);
    }
}

#[tokio::test]
async fn parts_that_block_are_on_threads_of_their_own_and_run_at_once() {
    // One async worker: if the part that blocks held it, the other part and the deadline would stand still.
    let notes: Arc<Notes> = Arc::default();
    let (release, held) = mpsc::channel();
    *notes.release.lock().unwrap() = Some(held);
    let judge = Arc::new(judge(&json!({"kind": "all", "of": ["blocks", "says", "says_on_a_thread"]}), &notes));
    let asked = tokio::spawn({
        let judge = Arc::clone(&judge);
        async move { verdicts(&judge, &["correct", "incorrect"]).await }
    });
    let both = async {
        while notes.asked().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), both).await.unwrap();
    assert!(!asked.is_finished());
    release.send(()).unwrap();
    assert_eq!(asked.await.unwrap(), [RIGHT, WRONG]);
}

#[tokio::test]
async fn a_part_whose_threads_hang_is_asked_no_more_until_they_end() {
    let notes: Arc<Notes> = Arc::default();
    let (release, held) = mpsc::channel();
    *notes.release.lock().unwrap() = Some(held);
    let mut config = parts::config(&json!({"kind": "any", "of": ["blocks", "wrong"]}));
    config.max_abandoned = 0;
    let verifier = parts::registry(&notes).build(&config).unwrap();
    let judge = Judge::new("it", verifier, TruncatedPolicy::Judge);
    let late = judge.question(question(&["x"]), Duration::from_millis(100)).await;
    assert_eq!(late.verdicts, [Verdict::Void(VoidReason::Timeout)]);
    assert_eq!(verdicts(&judge, &["x"]).await, [Verdict::Void(VoidReason::Unavailable)]);
    release.send(()).unwrap();
    let well = async {
        while verdicts(&judge, &["x"]).await != [RIGHT] {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), well).await.unwrap();
}

#[tokio::test]
async fn first_asks_later_parts_only_about_what_is_still_void() {
    let notes: Arc<Notes> = Arc::default();
    let judge = judge(&json!({"kind": "first", "of": ["says", "half", "right"]}), &notes);
    let verdicts = verdicts(&judge, &["void", "incorrect", "void", "0.75"]).await;
    assert_eq!(verdicts, [Verdict::Soft(0.5), WRONG, Verdict::Soft(0.5), Verdict::Soft(0.75)]);
    // `right` was not asked at all.
    let asked = notes.asked();
    assert_eq!(asked, [vec!["void", "incorrect", "void", "0.75"], vec!["void", "void"]]);
}

#[tokio::test(start_paused = true)]
async fn first_leaves_time_for_the_parts_after_one_that_hangs() {
    let begin = Instant::now();
    let composite = json!({"kind": "first", "of": ["hangs", "void", "right"]});
    assert_eq!(verdict(composite).await, RIGHT);
    // A third of the three seconds, and no time for those that answer at once.
    assert!(begin.elapsed() <= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(verdict(json!({"kind": "first", "of": ["hangs", "void"]})).await, told());
}

#[tokio::test]
async fn by_source_asks_the_verifier_of_the_source_and_of_no_other() {
    let notes: Arc<Notes> = Arc::default();
    let sources = json!({"gsm8k": "right", "trivia": "half", "sums": "right"});
    let composite = json!({"kind": "by_source", "sources": sources, "default": "wrong"});
    let judge = judge(&composite, &notes);
    for (source, verdict) in [("gsm8k", RIGHT), ("sums", RIGHT), ("trivia", Verdict::Soft(0.5)), ("GSM8K", WRONG)] {
        let judged = judge.question(from(source, &["a", "b"]), Duration::from_secs(3)).await;
        assert_eq!(judged.verdicts, [verdict.clone(), verdict], "{source}");
    }
    assert_eq!(notes.asked().len(), 4);
    // A name is one part, whatever the number of its sources.
    judge.start(&Home::default()).await.unwrap();
    assert_eq!(notes.started.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_source_without_a_verifier_is_void_and_the_reason_names_it() {
    let judge = judge(&json!({"kind": "by_source", "sources": {"gsm8k": "right"}}), &Arc::default());
    let judged = judge.question(from("code\n", &["a"]), Duration::from_secs(3)).await;
    let reason = "no verifier for the source \"code\\n\"; list it in `sources` or set a `default`";
    assert_eq!(judged.verdicts, [Verdict::Void(VoidReason::Verifier(reason.into()))]);
    assert_eq!(judge.explain(from("code", &["a"]), Duration::from_secs(3)).await, None);
}

#[tokio::test]
async fn start_and_stop_reach_every_part_and_a_part_that_cannot_start_is_named() {
    for composite in [
        json!({"kind": "all", "of": ["right", "wrong"]}),
        json!({"kind": "any", "of": ["right", "wrong"]}),
        json!({"kind": "weighted", "weights": {"right": 1, "wrong": 1}}),
        json!({"kind": "first", "of": ["right", "wrong"]}),
        json!({"kind": "by_source", "sources": {"a": "right"}, "default": "wrong"}),
        json!({"kind": "shadow", "of": "right", "shadow": "wrong"}),
    ] {
        let notes: Arc<Notes> = Arc::default();
        let judge = judge(&composite, &notes);
        judge.start(&Home::default()).await.unwrap();
        judge.stop().await;
        let count = (notes.started.load(Ordering::SeqCst), notes.stopped.load(Ordering::SeqCst));
        assert_eq!(count, (2, 2), "{composite}");
    }
    let notes: Arc<Notes> = Arc::default();
    let error = judge(&json!({"kind": "all", "of": ["right", "homeless"]}), &notes).start(&Home::default()).await;
    assert_eq!(error.unwrap_err().to_string(), "verifier `it`: verifier `homeless`: no such server");
    // What had started by then is not left running.
    assert_eq!(notes.stopped.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn slowly_reaches_the_parts_that_can_be_slow() {
    let pace = Pace { bytes: 1, pause: Duration::ZERO };
    for composite in [
        json!({"kind": "all", "of": ["exact", "right"]}),
        json!({"kind": "weighted", "weights": {"exact": 0.001, "right": 1000}, "threshold": 0.5}),
        json!({"kind": "first", "of": ["right", "exact"]}),
        json!({"kind": "by_source", "sources": {"a": "exact"}, "default": "right"}),
        json!({"kind": "shadow", "of": "right", "shadow": "exact"}),
    ] {
        let notes: Arc<Notes> = Arc::default();
        let slow = built(&composite, &notes).slowly(pace).unwrap();
        assert_eq!(notes.slowed.load(Ordering::SeqCst), 1, "{composite}");
        assert_eq!(slow.verify(&question(&["the truth"])).await, [RIGHT], "{composite}");
    }
    assert!(built(&json!({"kind": "all", "of": ["exact", "math"]}), &Arc::default()).slowly(pace).is_none());
}

#[tokio::test]
async fn explain_shows_each_part_that_was_asked_with_its_verdict() {
    let explain = async |composite: Value| {
        let verifier: Arc<dyn Verifier> = built(&composite, &Arc::default());
        verifier.explain(&from("a", &["correct", "void"])).await.unwrap()
    };
    let says = |verdict| json!({"part": "says", "verdict": verdict, "explain": {"read": verdict}});
    let half = |read| json!({"part": "half", "verdict": "soft", "score": 0.5, "explain": {"read": read}});
    let void = json!({"part": "says", "verdict": "void", "reason": "as told", "explain": {"read": "void"}});
    let of_all = [json!({"parts": [says("correct"), half("correct")]}), json!({"parts": [void, half("void")]})];
    assert_eq!(explain(json!({"kind": "all", "of": ["says", "half"]})).await, of_all);
    assert_eq!(explain(json!({"kind": "shadow", "of": "says", "shadow": "half"})).await, of_all);
    let of_first = [json!({"parts": [says("correct")]}), of_all[1].clone()];
    assert_eq!(explain(json!({"kind": "first", "of": ["says", "half"]})).await, of_first);
    let of_source = [json!({"parts": [half("correct")]}), json!({"parts": [half("void")]})];
    assert_eq!(explain(json!({"kind": "by_source", "sources": {"a": "half"}, "default": "says"})).await, of_source);
    let silent = explain(json!({"kind": "any", "of": ["exact", "panics"]})).await;
    let parts = [
        json!({"part": "exact", "verdict": "incorrect", "explain": {"extracted": "correct", "truth": "the truth"}}),
        json!({"part": "panics", "verdict": "void", "reason": "crash"}),
    ];
    assert_eq!(silent[0], json!({"parts": parts}));
}

#[test]
fn options_that_cannot_work_are_refused_in_one_line_with_the_key() {
    let parts = "name kinds or ids of [verifier.define.<id>], as in [\"exact\", \"math\"]";
    for kind in ["all", "any", "first"] {
        let refused = |of| refused(&json!({"kind": kind, "of": of}));
        assert_eq!(refused(json!([])), format!("verifier.define.it: of: names no part; {parts}"));
        let twice = "verifier.define.it: of: names `math` twice; each part is asked once";
        assert_eq!(refused(json!(["math", "exact", "math"])), twice);
        let error = refused(json!(["mth"]));
        let unknown = "verifier.define.it: of: `mth` is neither a kind of verifier nor an id of [verifier.define.<id>]";
        assert_eq!(error, format!("{unknown}; did you mean `math`?"));
        assert!(refused(json!(["it"])).ends_with("is part of itself: it > it"));
    }
    for (options, error) in [
        (json!({"kind": "all", "parts": []}), "unknown option `parts`; known: `of`"),
        (
            json!({"kind": "weighted"}),
            "weights: names no part; give each its weight, as in { math = 0.8, exact = 0.2 }",
        ),
        (json!({"kind": "weighted", "weights": {"math": 0}}), "weights.math: must be from 0.001 to 1000, got 0"),
        (json!({"kind": "weighted", "weights": {"math": -1}}), "weights.math: must be from 0.001 to 1000, got -1"),
        (
            json!({"kind": "weighted", "weights": {"math": 1}, "threshold": 0}),
            "threshold: must be > 0 and at most 1, got 0",
        ),
        (
            json!({"kind": "by_source"}),
            "sources: names no part; give each source its verifier, as in { gsm8k = \"math\" }, or a `default`",
        ),
    ] {
        assert_eq!(refused(&options), format!("verifier.define.it: {error}"));
    }
    let error = refused(&json!({"kind": "by_source", "sources": {"a.b": "mth"}}));
    assert!(error.starts_with("verifier.define.it: sources.a.b: `mth` is neither"), "{error}");
    let error = refused(&json!({"kind": "by_source", "default": "mth"}));
    assert!(error.starts_with("verifier.define.it: default: `mth` is neither"), "{error}");
}
