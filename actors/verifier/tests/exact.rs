//! What equality after normalisation must satisfy, for any text and any options.

use counterpoint_verifier::{Case, Exact};
use proptest::prelude::*;

fn options() -> impl Strategy<Value = Exact> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(trim, collapse_whitespace, insensitive)| Exact {
        trim,
        collapse_whitespace,
        case: if insensitive { Case::Insensitive } else { Case::Sensitive },
    })
}

/// Texts that often are equal up to case and white space.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[aAbB \t\n\u{a0}]{0,6}", any::<String>()]
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n\u{a0}\u{2003}]{1,4}"
}

const PLAIN: Exact = Exact { trim: false, collapse_whitespace: false, case: Case::Sensitive };

proptest! {
    #[test]
    fn it_is_reflexive_and_symmetric(exact in options(), a in text(), b in text()) {
        prop_assert!(exact.equal(&a, &a));
        prop_assert_eq!(exact.equal(&a, &b), exact.equal(&b, &a));
    }

    #[test]
    fn without_any_option_it_is_equality_of_texts(a in text(), b in text()) {
        prop_assert_eq!(PLAIN.equal(&a, &b), a == b);
    }

    #[test]
    fn an_option_more_never_parts_what_was_equal(exact in options(), a in text(), b in text()) {
        let trim = Exact { trim: true, ..exact.clone() };
        let collapse_whitespace = Exact { collapse_whitespace: true, ..exact.clone() };
        let insensitive = Exact { case: Case::Insensitive, ..exact.clone() };
        for wider in [trim, collapse_whitespace, insensitive] {
            prop_assert!(!exact.equal(&a, &b) || wider.equal(&a, &b), "{exact:?}, {wider:?}");
        }
    }

    #[test]
    fn trim_ignores_white_space_at_the_ends_only(a in text(), before in space(), after in space()) {
        let padded = format!("{before}{a}{after}");
        prop_assert!(Exact::default().equal(&padded, &a));
        prop_assert!(!PLAIN.equal(&padded, &a));
        let inner = format!("x{before}x");
        prop_assert!(!Exact::default().equal(&inner, "xx"));
    }

    #[test]
    fn collapse_makes_all_runs_of_white_space_alike(
        words in prop::collection::vec("[a-z]{1,3}", 1..4),
        one in space(),
        other in space(),
    ) {
        let collapse = Exact { collapse_whitespace: true, ..PLAIN };
        prop_assert!(collapse.equal(&words.join(&one), &words.join(&other)));
        prop_assert_eq!(collapse.equal(&words.join(&one), &words.concat()), words.len() == 1);
        let leading = format!("{one}a");
        prop_assert!(!collapse.equal(&leading, "a"));
    }
}

#[test]
fn insensitive_ignores_the_case_of_every_letter_of_unicode() {
    let insensitive = Exact { case: Case::Insensitive, ..PLAIN };
    for c in '\0'..=char::MAX {
        let (text, upper, lower) = (c.to_string(), c.to_uppercase().to_string(), c.to_lowercase().to_string());
        assert!(insensitive.equal(&text, &upper), "{c:?}");
        assert!(insensitive.equal(&text, &lower), "{c:?}");
    }
    assert!(insensitive.equal("STRASSE", "straße"));
    assert!(insensitive.equal("ΟΔΟΣ", "οδος"));
    assert!(!insensitive.equal("a", "b"));
}
