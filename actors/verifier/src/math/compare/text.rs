//! Words: equal up to case, punctuation and spaces.

use dashu::rational::RBig;

use super::{Comparison, Rule, Verdict};
use crate::math::{Constant, Expr, Number};

/// Ways to say that there is nothing: each also equals the empty set.
const NOTHING: [&str; 8] = [
    "nosolution",
    "nosolutions",
    "norealsolution",
    "norealsolutions",
    "nosolutionexists",
    "nosuchvalues",
    "none",
    "emptyset",
];

/// Words that have a short form.
const SAME: [(&str, &str); 3] =
    [("dne", "doesnotexist"), ("infinitely", "infinitelymany"), ("cannotbedetermined", "undetermined")];

/// Numbers in words.
const NUMBERS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// Fractions in words: numerator and denominator.
const FRACTIONS: [(&str, u32, u32); 9] = [
    ("half", 1, 2),
    ("onehalf", 1, 2),
    ("onethird", 1, 3),
    ("twothirds", 2, 3),
    ("onefourth", 1, 4),
    ("onequarter", 1, 4),
    ("threefourths", 3, 4),
    ("threequarters", 3, 4),
    ("onefifth", 1, 5),
];

impl Comparison<'_> {
    /// `None` unless both are words, at least one of them written as such.
    pub(super) fn words(&mut self, a: &Expr, b: &Expr) -> Option<Verdict> {
        let is_text = |expr: &Expr| matches!(expr, Expr::Text(_));
        if !is_text(a) && !is_text(b) {
            let same = (is_segment(a) || is_segment(b)) && words_of(a).is_some_and(|a| words_of(b) == Some(a));
            return same.then_some(Ok(Some(Rule::Words)));
        }
        if !is_text(a) || !is_text(b) {
            let (text, other) = if is_text(a) { (a, b) } else { (b, a) };
            if let Some(meant) = words_of(text).and_then(|text| meaning(&text))
                && words_of(other).is_none()
            {
                return Some(self.same(&meant, other));
            }
        }
        if let Expr::Set(items) = if is_text(a) { b } else { a }
            && items.is_empty()
        {
            let text = words_of(if is_text(a) { a } else { b })?;
            return Some(Ok(NOTHING.contains(&text.as_str()).then_some(Rule::Words)));
        }
        let (a, b) = (words_of(a)?, words_of(b)?);
        if let Err(over) = self.budget.spend(1 + (a.len() + b.len()) as u64 / 64) {
            return Some(Err(over));
        }
        let nothing = |text: &String| NOTHING.contains(&text.as_str());
        let same = !a.is_empty() && a == b || nothing(&a) && nothing(&b);
        Some(Ok(same.then_some(Rule::Words)))
    }
}

/// The object that words name.
fn meaning(text: &str) -> Option<Expr> {
    if let Some(set) = set_of_numbers(text) {
        return Some(set);
    }
    let number = |above: u32, below: u32| {
        let value = RBig::from_parts(above.into(), below.into());
        Expr::Number(Number { value, decimals: None, repeating: false })
    };
    if let Some(value) = NUMBERS.iter().position(|word| *word == text) {
        return Some(number(value as u32, 1));
    }
    for (word, size) in [("hundred", 100), ("thousand", 1000), ("million", 1_000_000), ("billion", 1_000_000_000)] {
        let count = text.strip_suffix(word).and_then(|count| NUMBERS.iter().position(|known| *known == count));
        if let Some(count) = count.and_then(|count| u32::try_from(count).ok()?.checked_mul(size)) {
            return Some(number(count, 1));
        }
    }
    FRACTIONS.iter().find(|(word, ..)| *word == text).map(|(_, above, below)| number(*above, *below))
}

/// `all positive real numbers`: the set, where the words name one.
fn set_of_numbers(text: &str) -> Option<Expr> {
    let text = text.strip_prefix("setof").unwrap_or(text);
    let text = text.strip_prefix("all").or_else(|| text.strip_prefix("any")).unwrap_or(text);
    let text = text.strip_suffix("numbers").or_else(|| text.strip_suffix("number")).unwrap_or(text);
    let part =
        |letter, sign: &str| Expr::Power(Box::new(Expr::NumberSet(letter)), Box::new(Expr::Symbol(sign.to_owned())));
    Some(match text {
        "real" | "reals" | "realvalues" => Expr::NumberSet('R'),
        "integer" | "integers" => Expr::NumberSet('Z'),
        "rational" | "rationals" => Expr::NumberSet('Q'),
        "natural" | "naturals" => Expr::NumberSet('N'),
        "complex" => Expr::NumberSet('C'),
        "positivereal" | "positivereals" => part('R', "+"),
        "negativereal" | "negativereals" => part('R', "-"),
        "nonnegativereal" | "nonnegativereals" => part('R', "≥0"),
        "nonzeroreal"
        | "nonzeroreals"
        | "realexcept0"
        | "realnumbersexcept0"
        | "realnumbersotherthan0"
        | "realexceptzero"
        | "realnumbersexceptzero" => part('R', "*"),
        "positiveinteger" | "positiveintegers" => part('Z', "+"),
        _ => return None,
    })
}

/// `AB` under a bar or in words: the name of a segment or figure.
fn is_segment(expr: &Expr) -> bool {
    matches!(expr, Expr::Symbol(name) if name.len() > 1 && name.bytes().all(|b| b.is_ascii_uppercase()))
}

/// The letter that stands for a constant.
pub(super) fn letter_of(constant: Constant) -> Option<&'static str> {
    match constant {
        Constant::E => Some("e"),
        Constant::I => Some("i"),
        Constant::Pi => Some("pi"),
        Constant::Infinity => None,
    }
}

/// Letters and digits in lower case. A product of names is the word they spell, since words may come without `\text`.
fn words_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Text(text) => Some(folded(text)),
        Expr::Symbol(name) => Some(folded(name)),
        Expr::Constant(constant) => letter_of(*constant).map(str::to_owned),
        Expr::Product(items) => items.iter().map(words_of).collect(),
        _ => None,
    }
}

/// Letters and digits in lower case, without a leading article or `option`.
pub(super) fn folded(text: &str) -> String {
    let mut words = text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric())).peekable();
    let article =
        |word: &&str| ["the", "a", "an", "option", "choice"].iter().any(|article| word.eq_ignore_ascii_case(article));
    let several = words.clone().nth(1).is_some();
    if several {
        words.next_if(article);
    }
    let kept = words.flat_map(str::chars).filter(|c| c.is_alphanumeric());
    let folded: String = kept.flat_map(char::to_lowercase).collect();
    let short = SAME.iter().find(|(_, long)| *long == folded);
    short.map_or(folded, |(short, _)| (*short).to_owned())
}

#[cfg(test)]
mod tests {
    use super::folded;

    #[test]
    fn case_punctuation_and_a_leading_article_do_not_count() {
        assert_eq!(folded("Yes."), folded("yes"));
        assert_eq!(folded("(A)"), folded("a"));
        assert_eq!(folded("The blue  circle"), folded("blue circle"));
        assert_eq!(folded("does not exist"), folded("DNE"));
        assert_ne!(folded("odd"), folded("oddd"));
        assert_ne!(folded("a"), folded(""));
    }
}
