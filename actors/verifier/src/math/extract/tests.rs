use proptest::prelude::*;

use super::*;

/// The candidates of all stages, as text with the method that found them.
fn candidates(text: &str) -> Vec<(Method, String)> {
    let mut search = Search::new(conclusion(text), &Method::ALL);
    let mut all = Vec::new();
    while let Some(stage) = search.stage() {
        all.extend(stage.into_iter().map(|c| (c.method, c.text.into_owned())));
    }
    all
}

#[track_caller]
fn first(text: &str, method: Method, found: &str) {
    assert_eq!(candidates(text).first(), Some(&(method, found.to_owned())), "{text}");
}

#[test]
fn explicit_answers_win_and_the_last_of_them_counts() {
    first(r"The answer is 3. So \boxed{4}.", Method::Boxed, "4");
    first(r"\boxed{4}. The final answer is 5.", Method::Statement, "5");
    first(r"The final answer is \boxed{6}.", Method::Boxed, "6");
    first("Work.\n#### 1,024", Method::Hashes, "1,024");
    first("#### Step\nThe final answer is: $7$. I hope it is correct.", Method::Statement, "$7$");
}

#[test]
fn statements_are_found_in_many_words() {
    for (text, found) in [
        ("So the answer is -3.5", "-3.5"),
        ("Answer: 12 cm", "12 cm"),
        ("**Answer:** 12", "12"),
        ("The answer to the question is: $x = 5$.", "$x = 5$"),
        ("**Final Answer**\n\n$\\frac{1}{2}$", "$\\frac{1}{2}$"),
        ("Final answer: (C)", "(C)"),
        ("The correct answer is **B**.", "B"),
        ("The answer would be 3 or 4.", "3 or 4"),
        ("答案是：42。", "42"),
    ] {
        first(text, Method::Statement, found);
    }
    let largest = candidates("Final Answer: The largest $n$ is 34.");
    assert!(largest.contains(&(Method::Statement, "34".into())), "{largest:?}");
}

#[test]
fn otherwise_the_whole_text_or_the_last_formula_or_number_is_the_answer() {
    first(r"\frac{10}{9}", Method::Whole, r"\frac{10}{9}");
    let last = |text: &str| candidates(text).into_iter().find(|(method, _)| *method != Method::Whole).unwrap();
    assert_eq!(last("We get $x=1$ and then $y=2$ somehow."), (Method::Formula, "$y=2$".into()));
    assert_eq!(last("The sum $a$ grew by $28$ percent"), (Method::Formula, "$28$ percent".into()));
    assert_eq!(last("So he has **72 marbles** now"), (Method::Bold, "72 marbles".into()));
    assert_eq!(last("so he pays 1,000.99€ in all"), (Method::Expression, "1,000.99".into()));
    assert_eq!(candidates("I have no idea"), [(Method::Whole, "I have no idea".into())]);
    assert_eq!(candidates(""), []);
}

#[test]
fn thoughts_and_tags_bound_what_counts() {
    first(r"<think>\boxed{1}</think> It is \boxed{2}.", Method::Boxed, "2");
    first("<answer> 7 </answer> bye", Method::Whole, "7");
    assert_eq!(candidates(r"<think>\boxed{1}</think>"), []);
}

#[test]
fn an_answer_that_was_cut_off_is_none() {
    assert_eq!(candidates(r"We know that 17 is prime. \boxed{1"), []);
}

#[test]
fn only_the_chosen_methods_are_used() {
    let mut search = Search::new("The answer is 5", &[Method::Boxed]);
    let found: usize = std::iter::from_fn(|| search.stage()).map(|stage| stage.len()).sum();
    assert_eq!(found, 0);
}

#[test]
fn megabytes_take_linear_time() {
    for piece in [
        r"\boxed{",
        "}",
        "{",
        "answer ",
        "answer is ",
        "the final answer is ",
        "$",
        "$$",
        "1 ",
        "9",
        "**",
        "####",
        "\\[",
        " [ ",
        "é",
        "答案",
    ] {
        let text = piece.repeat(1_000_000 / piece.len());
        let _found = candidates(&text);
    }
}

/// Pieces of completions.
const PIECES: &[&str] = &[
    "\\boxed{",
    "\\fbox{",
    "}",
    "{",
    "answer",
    "The answer is ",
    "Answer: ",
    "final answer",
    "####",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    " [ ",
    " ] ",
    "1",
    "2.5",
    ",",
    ".",
    ". ",
    "\n",
    "\n\n",
    "**",
    "é",
    "答案",
    "是",
    "、",
    " and ",
    "or",
    "</think>",
    "<answer>",
    "</answer>",
    "%",
    "percent",
    "x = 3",
    "\\frac{1}{2}",
    "\\",
    "\u{8}",
    "(",
    ")",
    "€",
    "−",
    "…",
    "\u{0}",
    " is ",
    ":",
    "boxed",
    "\\text{",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_candidates_that_are_parts_of_it(text in any::<String>()) {
        for (method, found) in candidates(&text) {
            prop_assert!(method == Method::Boxed || text.contains(&found));
        }
    }

    #[test]
    fn any_heap_of_pieces_has_candidates(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        let text: String = pieces.concat();
        for (method, found) in candidates(&text) {
            prop_assert!(method == Method::Boxed || text.contains(&found));
        }
    }
}
