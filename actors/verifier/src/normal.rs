//! The normal form of a text, for kinds that compare texts.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// Whether upper and lower case differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// They differ.
    #[default]
    Sensitive,
    /// Letters that share an upper case in Unicode's default mapping are equal (`ß` equals `SS`, `ς` equals `σ`), whatever
    /// the language.
    Insensitive,
}

/// Which ways of writing one character are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnicodeForm {
    /// None: texts are equal if their code points are.
    #[default]
    AsIs,
    /// Canonical equivalence: `é` in one code point equals `e` with an accent.
    Nfc,
    /// Compatibility, too: full-width letters and digits, ligatures and superscripts equal plain ones (`４`, `ﬁ`, `²`).
    Nfkc,
}

/// What becomes of punctuation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Punctuation {
    /// It counts.
    #[default]
    Keep,
    /// Full stops, quotation marks, emphasis (`**4**`) and the like do not count at the ends of a text, nor does white space
    /// around them. Brackets, and what may belong to a number, do: `-4`, `.5`, `5!`, `50%`, `(0, 1)`.
    Ends,
    /// No punctuation of Unicode counts anywhere, except where it may belong to a number: before a digit (`-4`, `.5`, `1/2`,
    /// `1,000`, `9:30`) or a `%` or `!` after one.
    Ignore,
}

/// Quotation marks and the emphasis of Markdown: at either end.
const WRAPPING: &str = "\"'`*_“”‘’«»„";

/// What ends a sentence: at the right end only, since `.5` is a number.
const ENDING: &str = ".,;:!?…。，；：！？、";

pub(crate) fn unicode(form: UnicodeForm, text: &str) -> Cow<'_, str> {
    match form {
        UnicodeForm::AsIs => Cow::Borrowed(text),
        // Both forms of ASCII are that text itself.
        _ if text.is_ascii() => Cow::Borrowed(text),
        UnicodeForm::Nfc => Cow::Owned(text.nfc().collect()),
        UnicodeForm::Nfkc => Cow::Owned(text.nfkc().collect()),
    }
}

/// Each letter by itself, so that equality does not depend on its neighbours (`str::to_lowercase` looks at them for `Σ`). The
/// first lowering is for `ẞ`, whose own upper case is not that of `ß`.
pub(crate) fn fold_case(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Every run of white space as one space.
pub(crate) fn collapse_whitespace(text: &str) -> String {
    let mut collapsed = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_whitespace() {
            collapsed.push(c);
        } else if !collapsed.ends_with(' ') {
            collapsed.push(' ');
        }
    }
    collapsed
}

pub(crate) fn punctuation<'a>(rule: Punctuation, text: &'a str) -> Cow<'a, str> {
    match rule {
        Punctuation::Keep => Cow::Borrowed(text),
        Punctuation::Ends => Cow::Borrowed(strip_ends(text)),
        Punctuation::Ignore => Cow::Owned(without_punctuation(text)),
    }
}

/// The text without the punctuation around it.
pub(crate) fn strip_ends(text: &str) -> &str {
    let wrapping = |c: char| c.is_whitespace() || WRAPPING.contains(c);
    let mut text = text.trim_start_matches(wrapping);
    while let Some(last) = text.chars().next_back() {
        let rest = &text[..text.len() - last.len_utf8()];
        let factorial = last == '!' && rest.ends_with(|c: char| c.is_ascii_digit());
        if factorial || !(wrapping(last) || ENDING.contains(last)) {
            break;
        }
        text = rest;
    }
    text
}

fn without_punctuation(text: &str) -> String {
    /// Unicode's general category P. The pattern is a constant that a test compiles.
    #[expect(clippy::expect_used, reason = "a constant pattern")]
    static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{P}").expect("a valid pattern"));
    let digit = |c: char| c.is_ascii_digit();
    PUNCTUATION
        .replace_all(text, |found: &regex::Captures<'_>| {
            // Group 0 always took part in the match.
            let mark = found.get(0).map_or(0..0, |mark| mark.range());
            let of_number = match &text[mark.clone()] {
                "-" | "." | "," | "/" | ":" => text[mark.end..].starts_with(digit),
                "%" | "!" => text[..mark.start].ends_with(digit),
                _ => false,
            };
            if of_number { text[mark].to_owned() } else { String::new() }
        })
        .into_owned()
}

/// The text without the English articles, words joined by single spaces; if nothing else is left, the text itself.
pub(crate) fn without_articles(text: &str) -> String {
    let article = |word: &&str| ["a", "an", "the"].iter().any(|article| word.eq_ignore_ascii_case(article));
    let words: Vec<&str> = text.split_whitespace().filter(|word| !article(word)).collect();
    if words.is_empty() { text.to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_lose_punctuation_but_nothing_of_a_number() {
        for (text, stripped) in [
            ("**Paris.**", "Paris"),
            ("\"Paris\" .", "Paris"),
            ("“4”…", "4"),
            ("-4.", "-4"),
            (".5.", ".5"),
            ("5!", "5!"),
            ("Paris!", "Paris"),
            ("50%", "50%"),
            ("(0, 1).", "(0, 1)"),
            ("...", ""),
            ("你好。", "你好"),
        ] {
            assert_eq!(strip_ends(text), stripped, "{text}");
        }
    }

    #[test]
    fn punctuation_inside_goes_but_nothing_of_a_number() {
        for (text, left) in [
            ("it's (well) known.", "its well known"),
            ("-4", "-4"),
            ("1,000.5 / 1/2 at 9:30", "1,000.5  1/2 at 9:30"),
            ("50%! 5!", "50% 5!"),
            ("$4 + x^2", "$4 + x^2"),
            ("«é»", "é"),
        ] {
            assert_eq!(without_punctuation(text), left, "{text}");
        }
    }

    #[test]
    fn articles_go_as_words_only_and_never_everything() {
        assert_eq!(without_articles("The  cat ate an apple"), "cat ate apple");
        assert_eq!(without_articles("another A"), "another");
        assert_eq!(without_articles("A"), "A");
        assert_eq!(without_articles(""), "");
    }

    #[test]
    fn unicode_forms_equate_what_they_say() {
        let same = |form, a, b| unicode(form, a) == unicode(form, b);
        assert!(!same(UnicodeForm::AsIs, "é", "e\u{301}"));
        assert!(same(UnicodeForm::Nfc, "é", "e\u{301}"));
        assert!(!same(UnicodeForm::Nfc, "４", "4"));
        assert!(same(UnicodeForm::Nfkc, "４ﬁ²", "4fi2"));
    }

    #[test]
    fn folding_ascii_is_folding() {
        let ascii: String = (0..128_u8).map(char::from).collect();
        let long = fold_case(&format!("{ascii}é"));
        assert_eq!(fold_case(&ascii), long.strip_suffix('é').unwrap());
    }
}
