//! Numbers and plain expressions in running text.

use std::sync::LazyLock;

use regex::Regex;

/// A value: digits with separators, operators between them, a currency before and a percent sign behind.
const VALUE: &str = r"[-+−–]?(?:\\?[$€£¥₹])?\(?[-+−–]?(?:[\d√π]|\.\d)[\d.,√π²³]*(?:\s?[-+*/^×÷−–()]\s?[-+*/^×÷−–()]*(?:[\d√π][\d.,√π²³]*)?)*(?:[ ]\d{3}(?:[ .,]|$))*";

/// The value at the start of a text.
static LEADING: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r"^(?:[A-Za-z]\s?=\s?)?(?:{VALUE}(?:\s*(?:\\?%|percent|pct))?)")).ok());

/// A value in a text: what stands before it must end a word.
static ANYWHERE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(r"(?:^|[\s=:≈~>(\[*[^\x00-\x7f]])(?P<value>{VALUE}(?:\s*(?:\\?%|[Pp]ercent(?:age)?|[Pp]ct))?)"))
        .ok()
});

/// Values to choose from: `3 or 4`.
static ALTERNATIVES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(r"(?:^|[\s:(*])(?P<value>{VALUE}(?:\s{VALUE})*\s?or\s(?:maybe\s|possibly\s|even\s)?{VALUE})"))
        .ok()
});

/// Values for names: `x = 2 and y = -1`.
static ASSIGNMENTS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let one = format!(r"[A-Za-z]\s?=\s?{VALUE}");
    Regex::new(&format!(r"(?:^|[\s:(*])(?P<value>{one}(?:\s?(?:,|;)?\s?(?:and|or)?\s{one})+)")).ok()
});

/// A number alone.
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?:^|[\s=:≈~>(\[*/+×[^\x00-\x7f√]])(?P<value>[-−]?(?:\\?[$€£¥₹])?(?:\d{1,3}(?:[ ,]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)(?:\s*(?:\\?%|[Pp]ercent(?:age)?|[Pp]ct))?)").ok()
});

/// A fraction in LaTeX without delimiters around it.
static FRACTION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?P<value>-?\\[dt]?frac\s?\{-?\d+(?:[.,]\d+)?\}\s?\{-?\d+(?:[.,]\d+)?\})").ok());

/// The value that begins a text.
pub(super) fn leading(text: &str) -> Option<&str> {
    let found = LEADING.as_ref()?.find(text)?;
    let value = trimmed(found.as_str());
    // `3 or 4, whichever`: the first of several is not the answer.
    let rest = text[found.end()..].trim_start_matches([' ', ',']);
    let several = ["or ", "and "].iter().any(|word| rest.starts_with(word));
    (!value.is_empty() && !several).then_some(value)
}

/// The last values for names in a text and where they end; its last value; the last number; the last fraction in LaTeX.
pub(super) fn last(text: &str) -> Vec<(usize, &str)> {
    let of = |regex: &'static LazyLock<Option<Regex>>| {
        let found = regex.as_ref()?.captures_iter(text).last()?.name("value")?;
        let value = trimmed(found.as_str());
        let before = found.as_str().find(value).unwrap_or(0);
        Some((found.start() + before + value.len(), value))
    };
    let mut values: Vec<_> = of(&ASSIGNMENTS)
        .into_iter()
        .chain(of(&ALTERNATIVES))
        .chain(of(&ANYWHERE))
        .chain(of(&NUMBER))
        .chain(of(&FRACTION))
        .collect();
    values.dedup_by(|a, b| a.1 == b.1);
    values
}

/// Without the punctuation that ends a sentence, and without brackets that have no partner.
fn trimmed(value: &str) -> &str {
    let mut value = value.trim().trim_end_matches(['.', ',', '-', '*', '/', '+', '^', '−', '–', ' ', '×', '÷']);
    if value.matches('(').count() > value.matches(')').count() {
        value = value.trim_start_matches('(');
    }
    if value.matches(')').count() > value.matches('(').count() {
        value = value.trim_end_matches([')', ' ']);
    }
    value.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        last(text).first().map(|(_, value)| *value)
    }

    #[test]
    fn the_last_value_of_a_text_is_found() {
        for (text, value) in [
            ("the number is not 10 which is 1,000.99€", "1,000.99"),
            ("it is 10/9.", "10/9"),
            ("so 3 + 4 = 7", "7"),
            ("it grew by 28 percent", "28 percent"),
            ("it costs $1,234.50.", "$1,234.50"),
            ("minus: -5", "-5"),
            ("about .4", ".4"),
            ("is (3+4)*2 indeed", "(3+4)*2"),
            ("how many $? just about 1$", "1"),
        ] {
            assert_eq!(found(text), Some(value), "{text}");
        }
        assert_eq!(found("计划的比例为13/28"), Some("13/28"));
        assert_eq!(found("AZYUK2A"), None);
        assert_eq!(leading("42 apples because 6*7=42"), Some("42"));
        assert_eq!(leading("apples"), None);
    }
}
