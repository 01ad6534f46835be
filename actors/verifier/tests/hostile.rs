//! The kind `math` on texts that are not meant well: it must not panic, hang or change its mind, and never call them right.
//!
//! Deterministic: fixed seeds, fixed numbers of cases. The fuzz targets in `fuzz/` look further, for as long as they are let.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod suite;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use counterpoint_verifier::{Question, Registry, Verdict, Verifier, VerifierConfig, VoidReason};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use suite::hostile;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// One text may take so long, in an unoptimised build on a busy machine. The true limit is the step budget.
const LONGEST: Duration = Duration::from_secs(2);

struct Maths {
    runtime: Runtime,
    verifier: Arc<dyn Verifier>,
}

impl Maths {
    fn new() -> Self {
        let config = VerifierConfig { name: "math".into(), ..VerifierConfig::default() };
        let runtime = Builder::new_current_thread().build().unwrap();
        Self { runtime, verifier: Registry::default().build(&config).unwrap() }
    }

    /// The verdict, checked for speed and for being the same the second time.
    fn judge(&self, response: &str, answer: &str) -> Verdict {
        let question = Question::pair(response, answer);
        let start = Instant::now();
        let first = self.runtime.block_on(self.verifier.verify(&question));
        let took = start.elapsed();
        assert!(took < LONGEST, "{took:?} for {} against {}", shown(response), shown(answer));
        let again = self.runtime.block_on(self.verifier.verify(&question));
        assert_eq!(first, again, "{} against {}", shown(response), shown(answer));
        assert_eq!(first.len(), 1);
        let verdict = first.into_iter().next().unwrap();
        let known = matches!(verdict, Verdict::Correct | Verdict::Incorrect | Verdict::Void(VoidReason::Budget));
        assert!(known, "{verdict:?} for {} against {}", shown(response), shown(answer));
        verdict
    }

    fn boxed(&self, response: &str, answer: &str) -> Verdict {
        self.judge(&format!("\\boxed{{{response}}}"), answer)
    }
}

fn shown(text: &str) -> String {
    let short: String = text.chars().take(120).collect();
    if short.len() < text.len() { format!("{short:?}… ({} bytes)", text.len()) } else { format!("{short:?}") }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(4), failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn no_hostile_text_is_right_or_takes_long() {
    let maths = Maths::new();
    for (name, response, answer) in hostile::texts() {
        let verdict = maths.judge(&response, &answer);
        assert_ne!(verdict, Verdict::Correct, "{name}");
        // The other way round: the truth is data too, and no better than who wrote it.
        // A truth whose box was cut off may still be read.
        let readable = name == "an open box";
        assert!(readable || maths.boxed(&answer, &response) != Verdict::Correct, "{name}, swapped");
    }
}

#[test]
fn what_is_too_much_work_is_void_and_not_wrong() {
    let maths = Maths::new();
    for (response, answer) in [
        ("(x+y+z)^{100000}", "(x+y+z)^{99999} (x+y+z+1) - (x+y+z)^{99999}"),
        ("\\binom{1000000000}{500000000}", "\\binom{1000000000}{499999999} \\cdot \\frac{500000001}{500000000}"),
        ("\\sum_{k=1}^{1000000000000} \\frac{1}{k}", "\\sum_{k=2}^{1000000000000} \\frac{1}{k} + 1"),
    ] {
        let verdict = maths.boxed(response, answer);
        // These are equal, so whoever finds that out within the budget is right too.
        assert_ne!(verdict, Verdict::Incorrect, "{response} against {answer}");
    }
}

#[test]
fn equal_giants_are_equal_as_written() {
    let maths = Maths::new();
    for giant in [
        "9^{9^{9^{9^9}}}",
        "1000000000!",
        "\\binom{1000000000}{500000000}",
        "(x+y+z)^{100000}",
        "2^{82589933}-1",
        "e^{e^{e^{79}}}",
    ] {
        assert_eq!(maths.boxed(giant, giant), Verdict::Correct, "{giant}");
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..30_u32).prop_map(|n| n.to_string()),
        1 => "[0-9]{1,3}\\.[0-9]{1,3}",
        1 => "[1-9][0-9]?,[0-9]{3}",
        1 => "\\\\(pi|infty|emptyset)|e|i",
    ]
}

fn symbol() -> impl Strategy<Value = String> {
    select(vec!["x", "y", "n", "a", "\\theta", "x_{1}", "\\alpha"]).prop_map(str::to_owned)
}

/// LaTeX as answers have it, up to four deep.
fn formula() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => number(), 2 => symbol(), 1 => Just("\\text{odd}".to_owned())];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let (a, b, c) = (inner.clone(), inner.clone(), inner);
        (a, b, c, 0..28_u8).prop_map(|(a, b, c, shape)| compose(&a, &b, &c, shape))
    })
}

fn compose(a: &str, b: &str, c: &str, shape: u8) -> String {
    match shape {
        0 => format!("{a} + {b}"),
        1 => format!("{a} - {b}"),
        2 => format!("{a} \\cdot {b}"),
        3 => format!("{a}{b}"),
        4 => format!("\\frac{{{a}}}{{{b}}}"),
        5 => format!("{a}/{b}"),
        6 => format!("{{{a}}}^{{{b}}}"),
        7 => format!("\\sqrt{{{a}}}"),
        8 => format!("\\sqrt[{a}]{{{b}}}"),
        9 => format!("({a})({b})"),
        10 => format!("\\left({a}, {b}\\right)"),
        11 => format!("[{a}, {b}) \\cup \\{{{c}\\}}"),
        12 => format!("\\{{{a}, {b}, {c}\\}}"),
        13 => format!("{a}, {b}"),
        14 => format!("{a} \\text{{ or }} {b}"),
        15 => format!("{a} = {b}"),
        16 => format!("{a} \\le {b} < {c}"),
        17 => format!("\\sin {a} + \\cos^2({b})"),
        18 => format!("\\log_{{{a}}} {b}"),
        19 => format!("\\begin{{pmatrix}} {a} & {b} \\\\ {c} & 1 \\end{{pmatrix}}"),
        20 => format!("\\left|{a}\\right|"),
        21 => format!("{a} \\pm {b}"),
        22 => format!("{a}!"),
        23 => format!("\\binom{{{a}}}{{{b}}}"),
        24 => format!("{a}\\%"),
        25 => format!("{a}^\\circ"),
        26 => format!("\\lfloor {a} \\rfloor"),
        _ => format!("-{a}"),
    }
}

/// A text with some characters removed, doubled or exchanged.
fn mutated(text: &str, changes: &[(Index, u8, char)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, change, new) in changes {
        if chars.is_empty() {
            break;
        }
        let at = at.index(chars.len());
        match change % 4 {
            0 => drop(chars.remove(at)),
            1 => chars.insert(at, chars[at]),
            2 => chars[at] = *new,
            _ => {
                let other = (at * 7 + 3) % chars.len();
                chars.swap(at, other);
            }
        }
    }
    chars.into_iter().collect()
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8, char)>> {
    let mark = select("\\{}()[]^_$,.;:|&!%=<>+-*/0123456789xei π√°−\n".chars().collect::<Vec<_>>());
    prop::collection::vec((any::<Index>(), any::<u8>(), mark), 1..6)
}

static SUITE: LazyLock<Vec<suite::Case>> =
    LazyLock::new(|| suite::cases().into_iter().filter(|c| c.kind == "math").collect());

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn any_text_gets_a_verdict(response in any::<String>(), answer in any::<String>()) {
        let maths = Maths::new();
        maths.judge(&response, &answer);
        maths.boxed(&response, &answer);
    }

    #[test]
    fn a_formula_equals_itself(a in formula()) {
        let verdict = Maths::new().boxed(&a, &a);
        prop_assert!(verdict != Verdict::Incorrect, "{a}");
    }

    #[test]
    fn equality_has_no_direction(a in formula(), b in formula()) {
        let maths = Maths::new();
        prop_assert_eq!(maths.boxed(&a, &b), maths.boxed(&b, &a), "{} and {}", a, b);
    }

    #[test]
    fn a_damaged_formula_gets_a_verdict(a in formula(), b in formula(), changes in changes()) {
        let maths = Maths::new();
        let damaged = mutated(&a, &changes);
        maths.boxed(&damaged, &a);
        maths.boxed(&damaged, &b);
        maths.judge(&damaged, &a);
    }

    #[test]
    fn a_damaged_case_gets_a_verdict(which in any::<Index>(), changes in changes()) {
        let case = which.get(&SUITE);
        let maths = Maths::new();
        maths.judge(&mutated(&case.response, &changes), &case.answer);
        maths.judge(&case.response, &mutated(&case.answer, &changes));
    }
}

#[test]
fn the_verdict_on_a_case_does_not_depend_on_who_is_the_truth() {
    let maths = Maths::new();
    for case in SUITE.iter() {
        let inside = case.response.strip_prefix("\\boxed{").and_then(|rest| rest.strip_suffix('}'));
        let Some(inside) = inside.filter(|inside| !inside.is_empty()) else { continue };
        assert_eq!(maths.boxed(inside, &case.answer), maths.boxed(&case.answer, inside), "{}", case.id);
    }
}
