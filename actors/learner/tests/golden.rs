//! Every objective against golden values from an independent float64 program (numpy, analytic gradients, checked there by
//! finite differences): 5 batches (on-policy, mildly and strongly off-policy with log-ratios over the cap, unmixed groups, soft
//! scores) times every weight, ε, reduction, level, advantage and clip.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use counterpoint_learner::CaseResult;
use counterpoint_learner::objective::case::{evaluate_case, evaluate_in};
use counterpoint_policy::Kind;
use serde_json::{Value, json};

fn golden() -> Value {
    serde_json::from_str(include_str!("data/golden.json")).unwrap()
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
    // 15 digits are printed; cancellation in a sum of some 40 terms, each below 1, costs a few of the last ones.
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs() + 1e-15;
    let checked = each(|name, line, want| {
        let got = evaluate_case(line).unwrap();
        assert!(close(got.loss, want.loss), "{name}: loss {} is not {}", got.loss, want.loss);
        for (got, want) in gradients(&got, want) {
            assert!(close(got, want), "{name}: gradient {got} is not {want}");
        }
    });
    assert_eq!(checked, 89);
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

#[test]
fn the_overlong_penalty_is_as_in_the_golden_table() {
    for row in golden()["overlong_penalty"].as_array().unwrap() {
        let case = json!({"function": "overlong_penalty", "length": row[0], "max_response_len": row[1],
            "buffer_len": row[2], "factor": row[3]});
        assert_eq!(evaluate_case(&case.to_string()).unwrap().loss, row[4].as_f64().unwrap(), "{row}");
    }
}

/// Proposition 4.2: on-policy, NFT with w = √((1−r)/r) is GRPO, and with w = 1 − r Dr. GRPO.
#[test]
fn on_policy_nft_has_the_gradients_of_grpo_and_dr_grpo() {
    let golden = golden();
    let inputs = &golden["cases"][0]["inputs"];
    for (weight, adv) in [("sqrt", "grpo"), ("1-r", "drgrpo")] {
        let nft = json!({"function": "nft", "weight": weight, "inputs": inputs});
        let pg = json!({"function": "clipped_pg", "adv": adv, "reduction": "sum1000", "inputs": inputs});
        let (nft, pg) = (evaluate_case(&nft.to_string()).unwrap(), evaluate_case(&pg.to_string()).unwrap());
        assert!(gradients(&nft, &pg).all(|(a, b)| (a - b).abs() < 1e-15), "{weight}");
    }
}

/// The naive contrast has no floor: its gradient on a wrong token stays as the token becomes unlikely, NFT's fades.
#[test]
fn the_contrast_pushes_an_unlikely_wrong_token_as_hard_as_a_likely_one() {
    let push = |function: &str, logp: f64| {
        let inputs = json!({"logp_new": [[-1.0], [logp]], "logp_old": [[-1.0], [-1.0]], "mask": [[1], [1]],
            "reward": [1, 0], "group": [0, 0]});
        evaluate_case(&json!({"function": function, "inputs": inputs}).to_string()).unwrap().grad[1][0]
    };
    assert_eq!(push("contrast", -1.0), push("contrast", -9.0));
    assert!(push("nft", -9.0) < 0.001 * push("nft", -1.0));
    assert_eq!(push("contrast", -1.0), 0.5 / 1000.0);
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
