//! What the kind `numeric` reads as a number, what it takes for equal, and what it must not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use counterpoint_rollout::{Prompt, PromptContent};
use counterpoint_verifier::{
    Numeric, NumericOptions, Question, Verdict, Verifier, VerifierError, VoidReason, parse_options,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn numeric(options: Value) -> Numeric {
    Numeric::new(parse_options(options).unwrap()).unwrap()
}

fn judge(response: &str, answer: &str) -> Verdict {
    numeric(json!({})).judge(response, answer)
}

/// Each response is right for the truth, and stays so if a sentence goes on around it.
fn right(cases: &[(&str, &str)]) {
    for (response, answer) in cases {
        assert_eq!(judge(response, answer), Verdict::Correct, "{response:?} for {answer:?}");
        let sentence = format!("After 7 steps, the answer is {response}.");
        assert_eq!(judge(&sentence, answer), Verdict::Correct, "{sentence:?} for {answer:?}");
    }
}

fn wrong(cases: &[(&str, &str)]) {
    for (response, answer) in cases {
        assert_eq!(judge(response, answer), Verdict::Incorrect, "{response:?} for {answer:?}");
    }
}

#[test]
fn whole_and_decimal_numbers_are_equal_by_value() {
    right(&[
        ("42", "42"),
        ("42.0", "42"),
        ("042", "42"),
        (".5", "0.5"),
        ("-3", "-3"),
        ("−3", "-3"),
        ("+3", "3"),
        ("-0", "0"),
        ("x = 5", "5"),
        ("0.30", "0.3"),
        ("123456789012345678901234567890", "123456789012345678901234567890.0"),
        ("**17**", "17"),
        ("$17$", "17"),
        ("\\(17\\)", "17"),
        ("\\boxed{-17}", "-17"),
        ("答案是17个", "17"),
    ]);
    wrong(&[
        ("41.999999999999999999999", "42"),
        ("123456789012345678901234567891", "123456789012345678901234567890"),
        ("3", "-3"),
        ("-3", "3"),
        ("four", "4"),
        ("", "4"),
        ("4 or 5", "4"),
        ("0.3000000000000000001", "0.3"),
    ]);
}

#[test]
fn thousands_may_be_separated() {
    right(&[
        ("1,234,567", "1234567"),
        ("1,234.5", "1234.5"),
        ("1{,}000", "1000"),
        ("1\\,000", "1000"),
        ("1,\\!000", "1000"),
        ("1'000", "1000"),
        ("1\u{202f}000", "1000"),
        ("1\u{a0}000\u{a0}000", "1000000"),
        ("1_000", "1000"),
        ("$1,234", "1234"),
        ("-$1,234.50", "-1234.5"),
        ("\\$12", "12"),
        ("€12", "12"),
        ("USD12", "12"),
        ("US$12", "12"),
    ]);
    wrong(&[("1,234", "1.234"), ("1,23", "123"), ("1,23", "23"), ("1,2345", "12345"), ("12,34", "34"), ("3,5", "5")]);
}

#[test]
fn percent_fractions_and_powers_are_read() {
    right(&[
        ("50%", "0.5"),
        ("50%", "50"),
        ("50 %", "50%"),
        ("50\\%", "1/2"),
        ("50 percent", "0.5"),
        ("0.5", "50%"),
        ("50", "50%"),
        ("3/4", "0.75"),
        ("3 / 4", "0.75"),
        ("-3/4", "-0.75"),
        ("1/-2", "-0.5"),
        ("6/8", "3/4"),
        ("\\frac{3}{4}", "0.75"),
        ("\\frac34", "0.75"),
        ("-\\dfrac{3}{4}", "-0.75"),
        ("\\tfrac{-3}{4}", "-3/4"),
        ("3 1/2", "3.5"),
        ("3\\frac{1}{2}", "3.5"),
        ("-3 1/2", "-3.5"),
        ("3½", "3.5"),
        ("½", "0.5"),
        ("1.5e3", "1500"),
        ("1.5E-3", "0.0015"),
        ("1.5 × 10^3", "1500"),
        ("1.5 \\times 10^{-3}", "0.0015"),
        ("1.5x10^3", "1500"),
        ("1.5*10^3", "1500"),
        ("1.5×10⁻³", "0.0015"),
        ("10^5", "100000"),
        ("2^{10}", "1024"),
        ("10**5", "100000"),
        ("10⁵", "100000"),
        ("2^{-2}", "0.25"),
    ]);
    wrong(&[
        ("50%", "5"),
        ("3/4", "4/3"),
        ("3/4", "4"),
        ("3 1/2", "1/2"),
        ("3\\frac{1}{2}", "1/2"),
        ("\\frac{1}{2}", "2"),
        ("1/0", "0"),
        ("0^{-1}", "0"),
        ("1.5e-3", "1500"),
        ("10^5", "5"),
        ("2^{10}", "10"),
    ]);
}

#[test]
fn units_names_and_exponents_of_units_are_no_numbers() {
    right(&[
        ("5kg", "5"),
        ("5 km", "5"),
        ("12 cm^2", "12"),
        ("12 cm²", "12"),
        ("12 \\text{ m}^{2}", "12"),
        ("9.8 m/s^2", "9.8"),
        ("90°", "90"),
        ("90^\\circ", "90"),
        ("3 moles of H2O", "3"),
        ("12, as GPT-4 says", "12"),
        ("x_1 = 5", "5"),
        ("5-year plan", "5"),
        ("the 3rd", "3"),
        ("(a) 5", "5"),
        ("2 + 3 = 5", "5"),
        ("2+3=5", "5"),
    ]);
}

#[test]
fn what_only_has_digits_in_it_is_not_the_number() {
    wrong(&[
        ("2π", "2"),
        ("2\\pi", "2"),
        ("2 \\pi", "2"),
        ("\\pi/2", "2"),
        ("\\frac{\\pi}{2}", "2"),
        ("\\sqrt{2}", "2"),
        ("√2", "2"),
        ("3\\sqrt{2}", "2"),
        ("3\\sqrt{2}", "3"),
        ("\\sqrt[3]{2}", "2"),
        ("\\sqrt[3]{2}", "3"),
        ("3x", "3"),
        ("3xy", "3"),
        ("2i", "2"),
        ("±2", "2"),
        ("\\pm 2", "2"),
        ("+/-2", "2"),
        ("3:45", "45"),
        ("2-1", "1"),
        ("2*3", "3"),
        ("1.2.3", "3"),
        ("2020-01-05", "5"),
        ("1/2/2020", "2020"),
        ("101_2", "2"),
        ("101_{2}", "101"),
        ("(3,5)", "5"),
        ("4²", "4"),
        ("5^x", "5"),
        ("0x1F", "1"),
        ("it goes from 5 to infinity", "5"),
        ("5, no: NaN", "5"),
        ("5 < ∞", "5"),
        ("inf", "0"),
    ]);
}

#[test]
fn a_truth_that_is_not_one_number_is_void() {
    for truth in ["", "four", "nan", "inf", "3 or 4", "2π", "1/0", "(1, 2)"] {
        let reason = VoidReason::Verifier(format!("the truth is not one number: {truth}"));
        assert_eq!(judge("4", truth), Verdict::Void(reason), "{truth:?}");
    }
}

#[test]
fn a_tolerance_is_exact_at_its_edge() {
    let within = numeric(json!({"absolute_tolerance": 0.1}));
    assert_eq!(within.judge("0.3", "0.2"), Verdict::Correct);
    assert_eq!(within.judge("0.30000000000000000001", "0.2"), Verdict::Incorrect);
    let relative = numeric(json!({"relative_tolerance": "1/100"}));
    assert_eq!(relative.judge("99", "100"), Verdict::Correct);
    assert_eq!(relative.judge("98.999999999999999999", "100"), Verdict::Incorrect);
    assert_eq!(relative.judge("0", "0"), Verdict::Correct);
    assert_eq!(relative.judge("1e-30", "0"), Verdict::Incorrect);
}

#[tokio::test]
async fn the_data_may_set_the_tolerance_of_a_question() {
    let numeric = numeric(json!({}));
    let reason = VoidReason::Verifier("the question's absolute_tolerance is no number of at least 0".into());
    for (tolerance, verdict) in [
        (json!(0.01), Verdict::Correct),
        (json!("0.001"), Verdict::Incorrect),
        (Value::Null, Verdict::Incorrect),
        (json!(-1), Verdict::Void(reason)),
    ] {
        let prompt = Prompt {
            id: "1".into(),
            content: PromptContent::Text(String::new()),
            answer: "3.14159".into(),
            source: String::new(),
            info: [("absolute_tolerance".to_owned(), tolerance.clone())].into_iter().collect(),
        };
        let question = Question::new(Arc::new(prompt), vec!["3.14".into()]);
        assert_eq!(numeric.verify(&question).await, [verdict], "{tolerance}");
    }
}

#[test]
fn which_number_counts_is_a_setting() {
    let first = numeric(json!({"several": "first"}));
    assert_eq!(first.judge("5 is the sum of 2 and 3", "5"), Verdict::Correct);
    let only = numeric(json!({"several": "wrong", "extract": "boxed"}));
    assert_eq!(only.judge("1 + 4 = \\boxed{5}", "5"), Verdict::Correct);
    assert_eq!(only.judge("\\boxed{4, 5}", "5"), Verdict::Incorrect);
    assert_eq!(only.judge("5", "5"), Verdict::Incorrect);
    let gsm8k = numeric(json!({"extract": "after_marker"}));
    assert_eq!(gsm8k.judge("2 + 3 = 5\n#### 5", "It is 2 + 3.\n#### 5"), Verdict::Correct);
    let strict = numeric(json!({"percent": "hundredth"}));
    assert_eq!(strict.judge("50%", "0.5"), Verdict::Correct);
    assert_eq!(strict.judge("50%", "50"), Verdict::Incorrect);
}

#[test]
fn bad_options_name_their_key() {
    let error = |options: NumericOptions| -> VerifierError { Numeric::new(options).unwrap_err() };
    let negative = error(NumericOptions { absolute_tolerance: (-1.0).into(), ..Default::default() });
    let expected = "absolute_tolerance: must be a number of at least 0, like 0.01 or \"1e-6\", got -1";
    assert_eq!(negative.to_string(), expected);
    let relative = error(NumericOptions { relative_tolerance: f64::NAN.into(), ..Default::default() });
    assert!(relative.to_string().starts_with("relative_tolerance: "));
}

#[test]
fn hostile_numbers_cost_a_void_verdict_at_most() {
    let megabyte = 1_000_000;
    let void = Verdict::Void(VoidReason::Budget);
    assert_eq!(judge(&"9".repeat(megabyte), "9"), void);
    assert_eq!(judge(&format!("0.{}", "3".repeat(megabyte)), "0.3"), void);
    assert_eq!(judge("1e999999999999", "1"), void);
    assert_eq!(judge("1e-99999999", "0"), void);
    assert_eq!(judge("9^{99999999}", "1"), void);
    assert_eq!(judge("10^{-9999999999999999999}", "1"), void);
    assert_eq!(judge("9", &"9".repeat(megabyte)), void);
    assert_eq!(judge(&"9".repeat(20_000), &"9".repeat(20_000)), Verdict::Correct);
    for part in [
        "\\frac{", "1 ", "1/", "{", "$", "-", "1,", "^{", "\\sqrt{", "1.", "1e", "\\pm", "x-1", "\\", "1'000", "\0",
        "²",
    ] {
        let text = part.repeat(megabyte / part.len());
        let verdict = judge(&text, "123456789");
        assert!(matches!(verdict, Verdict::Incorrect), "{part:?}: {verdict:?}");
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,3}(\\.[0-9]{1,2})?",
        "[0-9]{1,2}/[1-9]",
        "[0-9]{1,2}%",
        "[1-9](\\.[0-9])?e-?[0-3]",
        "[0-9] 1/[2-9]"
    ]
}

proptest! {
    #[test]
    fn a_number_equals_itself_and_equality_is_symmetric(
        a in number(), b in number(), absolute in 0.0..2.0_f64, relative in 0.0..0.5_f64, hundredth in any::<bool>(),
    ) {
        let percent = if hundredth { "hundredth" } else { "either" };
        let numeric = numeric(json!({
            "absolute_tolerance": absolute, "relative_tolerance": relative, "percent": percent,
        }));
        prop_assert_eq!(numeric.judge(&a, &a), Verdict::Correct);
        prop_assert_eq!(numeric.judge(&a, &b), numeric.judge(&b, &a));
        if numeric.judge(&a, &b) == Verdict::Incorrect {
            let exact = self::numeric(json!({"percent": percent}));
            prop_assert_eq!(exact.judge(&a, &b), Verdict::Incorrect, "less tolerance accepts nothing more");
        }
    }

    #[test]
    fn integers_agree_with_integers(a in -10_000..10_000_i64, b in -10_000..10_000_i64, tolerance in 0..100_u32) {
        let numeric = numeric(json!({"absolute_tolerance": tolerance}));
        let expected = (a - b).unsigned_abs() <= u64::from(tolerance);
        prop_assert_eq!(numeric.judge(&format!("so {a}."), &b.to_string()), Verdict::from(expected));
    }

    #[test]
    fn no_text_breaks_it(text in r"([0-9.,/%^_{}()+\-− eEx×½⁵π√]|\\frac|\\sqrt|\\pm|\\times| 10|é|\PC){0,30}") {
        let verdict = judge(&text, "5");
        prop_assert!(matches!(verdict, Verdict::Correct | Verdict::Incorrect | Verdict::Void(VoidReason::Budget)));
    }
}
