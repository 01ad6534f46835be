//! NFT and RFT against golden values from an independent float64 program (numpy, analytic gradients, checked there by finite
//! differences): 5 batches (on-policy, mildly and strongly off-policy with log-ratios over the cap, unmixed groups, soft
//! scores) times every weight, ε, reduction and level.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use counterpoint_learner::CaseResult;
use counterpoint_learner::objective::case::{evaluate_case, evaluate_in};
use counterpoint_policy::Kind;
use serde_json::{Value, json};

fn golden() -> Value {
    serde_json::from_str(include_str!("data/golden-nft.json")).unwrap()
}

/// Calls `check(name, the case's JSON line, golden result)` for each and returns their number.
fn each(mut check: impl FnMut(&str, &str, &CaseResult)) -> usize {
    let golden = golden();
    let mut checked = 0;
    for case in golden["cases"].as_array().unwrap() {
        for (variant, result) in case["results"].as_object().unwrap() {
            let mut line = golden["variants"][variant].clone();
            line["inputs"] = case["inputs"].clone();
            let name = format!("{} / {variant}", case["name"]);
            check(&name, &line.to_string(), &serde_json::from_value(result.clone()).unwrap());
            checked += 1;
        }
    }
    checked
}

fn gradients<'a>(a: &'a CaseResult, b: &'a CaseResult) -> impl Iterator<Item = (f64, f64)> + 'a {
    assert_eq!(a.grad.len(), b.grad.len());
    a.grad.iter().flatten().copied().zip(b.grad.iter().flatten().copied())
}

#[test]
fn float64_reproduces_every_value_and_gradient_to_nine_digits() {
    // 15 digits are printed; cancellation in a sum of some 40 terms costs a few, the size of a term is about 1e-3.
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs() + 1e-17;
    let checked = each(|name, line, want| {
        let got = evaluate_case(line).unwrap();
        assert!(close(got.loss, want.loss), "{name}: loss {} is not {}", got.loss, want.loss);
        for (got, want) in gradients(&got, want) {
            assert!(close(got, want), "{name}: gradient {got} is not {want}");
        }
    });
    assert_eq!(checked, 53);
}

#[test]
fn float32_stays_within_a_ten_thousandth_of_the_largest_gradient() {
    each(|name, line, want| {
        let got = evaluate_in(line, Kind::Float).unwrap();
        let largest = want.grad.iter().flatten().fold(0.0f64, |m, g| m.max(g.abs()));
        for (got, want) in gradients(&got, want) {
            assert!((got - want).abs() <= 1e-4 * largest, "{name}: gradient {got} is not {want} (largest {largest})");
        }
    });
}

/// The missing keys of a case mean what the golden values' program means by them.
#[test]
fn the_defaults_are_those_of_the_reference() {
    let golden = golden();
    let case = &golden["cases"][1];
    let got = evaluate_case(&json!({"function": "nft", "inputs": case["inputs"]}).to_string()).unwrap();
    let want = case["results"]["nft w=1-r eps=1"]["loss"].as_f64().unwrap();
    assert!((got.loss - want).abs() < 1e-14);
}

/// At ε = 1 every wrong token of an on-policy batch sits on the clip. An ordinary maximum would teach nothing there.
#[test]
fn wrong_answers_teach_on_policy_and_are_pushed_down() {
    let golden = golden();
    let case = &golden["cases"][0];
    let got = evaluate_case(&json!({"function": "nft", "inputs": case["inputs"]}).to_string()).unwrap();
    assert_eq!(got.loss, 0.0, "on-policy the value is exactly zero");
    for (answer, reward) in case["inputs"]["reward"].as_array().unwrap().iter().enumerate() {
        let right = reward.as_f64() == Some(1.0);
        let first = got.grad[answer][0];
        assert!(if right { first < 0.0 } else { first > 0.0 }, "answer {answer}: {first}");
    }
}
