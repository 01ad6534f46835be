//! What equality after normalisation must satisfy, for any text and any options.

use counterpoint_verifier::{Case, Exact, Extract, Punctuation, UnicodeForm};
use proptest::prelude::*;

fn options() -> impl Strategy<Value = Exact> {
    let punctuation = prop::sample::select(&[Punctuation::Keep, Punctuation::Ends, Punctuation::Ignore]);
    let unicode = prop::sample::select(&[UnicodeForm::AsIs, UnicodeForm::Nfc, UnicodeForm::Nfkc]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, punctuation, unicode).prop_map(
        |((trim, collapse_whitespace, insensitive, ignore_articles), punctuation, unicode)| {
            let case = if insensitive { Case::Insensitive } else { Case::Sensitive };
            Exact { trim, collapse_whitespace, case, ignore_articles, punctuation, unicode, ..Exact::default() }
        },
    )
}

/// Texts that often are equal up to case and white space.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[aAbB \t\n\u{a0}]{0,6}", "[aAe\u{301}é４4ﬁ.,*! -]{0,6}", any::<String>()]
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n\u{a0}\u{2003}]{1,4}"
}

fn plain() -> Exact {
    Exact { trim: false, ..Exact::default() }
}

proptest! {
    #[test]
    fn it_is_reflexive_and_symmetric(exact in options(), a in text(), b in text()) {
        prop_assert!(exact.equal(&a, &a));
        prop_assert_eq!(exact.equal(&a, &b), exact.equal(&b, &a));
    }

    #[test]
    fn without_any_option_it_is_equality_of_texts(a in text(), b in text()) {
        prop_assert_eq!(plain().equal(&a, &b), a == b);
    }

    #[test]
    fn an_option_more_never_parts_what_was_equal(exact in options(), a in text(), b in text()) {
        let trim = Exact { trim: true, ..exact.clone() };
        let collapse_whitespace = Exact { collapse_whitespace: true, ..exact.clone() };
        let insensitive = Exact { case: Case::Insensitive, ..exact.clone() };
        let ends = match exact.punctuation {
            Punctuation::Keep => Exact { punctuation: Punctuation::Ends, ..exact.clone() },
            _ => exact.clone(),
        };
        for wider in [trim, collapse_whitespace, insensitive, ends] {
            prop_assert!(!exact.equal(&a, &b) || wider.equal(&a, &b), "{exact:?}, {wider:?}");
        }
    }

    #[test]
    fn trim_ignores_white_space_at_the_ends_only(a in text(), before in space(), after in space()) {
        let padded = format!("{before}{a}{after}");
        prop_assert!(Exact::default().equal(&padded, &a));
        prop_assert!(!plain().equal(&padded, &a));
        let inner = format!("x{before}x");
        prop_assert!(!Exact::default().equal(&inner, "xx"));
    }

    #[test]
    fn collapse_makes_all_runs_of_white_space_alike(
        words in prop::collection::vec("[a-z]{1,3}", 1..4),
        one in space(),
        other in space(),
    ) {
        let collapse = Exact { collapse_whitespace: true, ..plain() };
        prop_assert!(collapse.equal(&words.join(&one), &words.join(&other)));
        prop_assert_eq!(collapse.equal(&words.join(&one), &words.concat()), words.len() == 1);
        let leading = format!("{one}a");
        prop_assert!(!collapse.equal(&leading, "a"));
    }
}

#[test]
fn insensitive_ignores_the_case_of_every_letter_of_unicode() {
    let insensitive = Exact { case: Case::Insensitive, ..plain() };
    for c in '\0'..=char::MAX {
        let (text, upper, lower) = (c.to_string(), c.to_uppercase().to_string(), c.to_lowercase().to_string());
        assert!(insensitive.equal(&text, &upper), "{c:?}");
        assert!(insensitive.equal(&text, &lower), "{c:?}");
    }
    assert!(insensitive.equal("STRASSE", "straße"));
    assert!(insensitive.equal("ΟΔΟΣ", "οδος"));
    assert!(!insensitive.equal("a", "b"));
}

#[test]
fn the_answer_is_looked_for_where_the_options_say() {
    let boxed = Exact { extract: Extract::Boxed, ..Exact::default() };
    assert!(boxed.equal(r"First \boxed{3}, no: \boxed{ 4 }.", "4"));
    assert!(boxed.equal(r"\boxed{4}", r"The solution: $\boxed{4}$"));
    assert!(!boxed.equal("4", "4"));
    assert!(!boxed.equal("", ""));
    let last_line = Exact { extract: Extract::LastLine, ..Exact::default() };
    assert!(last_line.equal("Let me think.\n\nParis\n", "Paris"));
    assert!(!last_line.equal("Paris\nor Rome", "Paris"));
    let marked = Exact { extract: Extract::AfterMarker, marker: "Answer:".into(), ..Exact::default() };
    assert!(marked.equal("Because.\nanswer: Paris", "Paris"));
    assert!(!marked.equal("Paris", "Paris"));
}

#[test]
fn short_answers_to_questions_are_compared_as_their_graders_do() {
    let qa = Exact {
        case: Case::Insensitive,
        punctuation: Punctuation::Ignore,
        ignore_articles: true,
        collapse_whitespace: true,
        ..Exact::default()
    };
    assert!(qa.equal("The  Eiffel Tower.", "eiffel tower"));
    assert!(qa.equal("\"Eiffel Tower\"", "an Eiffel tower"));
    assert!(!qa.equal("the", "a"));
    assert!(!qa.equal("-4", "4"));
    assert!(!qa.equal("1.5", "15"));
    assert!(!qa.equal("50%", "50"));
}

#[test]
fn a_megabyte_is_normalised_in_no_time() {
    let all = Exact {
        extract: Extract::Whole,
        unicode: UnicodeForm::Nfkc,
        case: Case::Insensitive,
        punctuation: Punctuation::Ignore,
        ignore_articles: true,
        collapse_whitespace: true,
        ..Exact::default()
    };
    for part in ["\u{fdfa}", "e\u{301}", " ", "the ", "-", "\0", "ß"] {
        let text = part.repeat(1_000_000 / part.len());
        assert!(all.equal(&text, &text), "{part:?}");
        assert!(!all.equal(&text, "4"), "{part:?}");
    }
}
