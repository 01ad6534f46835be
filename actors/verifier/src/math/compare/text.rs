//! Words: equal up to case, punctuation and spaces.

use super::{Comparison, Rule, Verdict};
use crate::math::{Constant, Expr};

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

impl Comparison<'_> {
    /// `None` unless both are words, at least one of them written as such.
    pub(super) fn words(&mut self, a: &Expr, b: &Expr) -> Option<Verdict> {
        let is_text = |expr: &Expr| matches!(expr, Expr::Text(_));
        if !is_text(a) && !is_text(b) {
            return None;
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

fn folded(text: &str) -> String {
    let mut words = text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric())).peekable();
    let article = |word: &&str| ["the", "a", "an"].iter().any(|article| word.eq_ignore_ascii_case(article));
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
