//! The built-in kinds against the case suite: what a person calls right is right, what a person calls wrong is not.
//!
//! A case that the verifier gets wrong for a known reason carries that reason as `known`; such a case must still miss, so that
//! the reasons do not outlive their cause.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod suite;

use std::collections::{BTreeMap, HashSet};

use counterpoint_verifier::Verdict;
use suite::{Bench, cases};

#[tokio::test]
async fn every_case_gets_the_verdict_that_a_person_gives() {
    let mut bench = Bench::default();
    let (mut misses, mut outdated) = (Vec::new(), Vec::new());
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for case in cases() {
        let verdict = bench.judge(&case).await;
        let agrees = (verdict == Verdict::Correct) == case.expected;
        let count = counts.entry(case.kind.clone()).or_default();
        count.0 += usize::from(agrees);
        count.1 += 1;
        let line = format!(
            "{} should be {}, is {verdict:?}: {:?} against {:?}  {}",
            case.id,
            if case.expected { "correct" } else { "incorrect" },
            case.response,
            case.answer,
            case.note
        );
        match (&case.known, agrees) {
            (None, false) => misses.push(line),
            (Some(reason), true) => outdated.push(format!("{}: no longer true: {reason}", case.id)),
            _ => {}
        }
    }
    for (kind, (agree, all)) in counts {
        println!("{kind}: {agree} of {all} agree");
    }
    assert!(misses.is_empty(), "{} misses:\n{}", misses.len(), misses.join("\n"));
    assert!(outdated.is_empty(), "known misses that no longer miss:\n{}", outdated.join("\n"));
}

#[test]
fn the_suite_has_many_cases_and_nearly_half_of_them_are_wrong_answers() {
    let cases = cases();
    let wrong = cases.iter().filter(|case| !case.expected).count();
    assert!(cases.len() >= 800, "{} cases", cases.len());
    assert!(wrong * 100 >= cases.len() * 45, "{wrong} of {} are wrong answers", cases.len());
    let mut ids = HashSet::new();
    for case in &cases {
        assert!(ids.insert(&case.id), "{} twice", case.id);
    }
}
