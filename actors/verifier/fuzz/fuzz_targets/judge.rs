//! The whole judge on a pair: the first line is the truth, the rest the completion. It must end within its steps, repeat itself,
//! call a text equal to itself, and not depend on which of the two is the truth.
#![no_main]

use counterpoint_verifier::math::{Budget, Compare, Expr, Math, Style, equal, read};
use counterpoint_verifier::{Verdict, VoidReason};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (answer, response) = text.split_once('\n').unwrap_or((text, text));
    completions(response, answer);
    let math = Math::default();
    let found = math.judge(response, &math.truth("")).answer.map(|answer| answer.candidate.text.into_owned());
    expressions(answer, found.as_deref().unwrap_or(response));
});

/// The verdict on whole texts, as a run gets it.
fn completions(response: &str, answer: &str) {
    let math = Math::default();
    let truth = math.truth(answer);
    let judgement = math.judge(response, &truth);
    assert_eq!(judgement, math.judge(response, &math.truth(answer)), "a second judgement differs");
    let known = matches!(judgement.verdict, Verdict::Correct | Verdict::Incorrect | Verdict::Void(VoidReason::Budget));
    assert!(known, "{:?}", judgement.verdict);
    assert_eq!(judgement.rule.is_some(), judgement.verdict == Verdict::Correct, "right without a rule");
    assert!(judgement.answer.is_some() || judgement.verdict != Verdict::Correct, "right without an answer");
    // With fewer steps it may be void, never another verdict.
    for budget in [100, 1_000] {
        let poor = Math { budget, ..Math::default() }.judge_pair(response, answer);
        let void = matches!(poor, Verdict::Void(_)) || matches!(judgement.verdict, Verdict::Void(_));
        assert!(void || poor == judgement.verdict, "{poor:?} in {budget} steps, else {:?}", judgement.verdict);
    }
}

/// Equality itself, on what the parser makes of the two texts.
fn expressions(a: &str, b: &str) {
    let reading =
        |text: &str| read(text, Style::of(text), false, &mut Budget::default()).ok().map(|reading| reading.expr);
    let Some(a) = reading(a) else { return };
    assert_ne!(compare(&a, &a), Some(false), "not equal to itself: {a}");
    let Some(b) = reading(b) else { return };
    assert_ne!(compare(&b, &b), Some(false), "not equal to itself: {b}");
    let (there, back) = (compare(&a, &b), compare(&b, &a));
    // The order may cost other steps, so only one of the two may be over budget.
    let one_is_void = there.is_none() || back.is_none();
    assert!(one_is_void || there == back, "one way {there:?}, the other {back:?}: {a} and {b}");
}

/// `None`: over budget.
fn compare(a: &Expr, b: &Expr) -> Option<bool> {
    let mut budget = Budget::default();
    let result = equal(a, b, &Compare::default(), &mut budget).ok().map(|rule| rule.is_some());
    let again = equal(a, b, &Compare::default(), &mut Budget::default()).ok().map(|rule| rule.is_some());
    assert_eq!(result, again, "a second comparison differs: {a} and {b}");
    result
}
