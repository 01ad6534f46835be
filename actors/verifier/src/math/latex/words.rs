//! Runs of letters: which are words, which are names of functions, and which are variables side by side.

use super::commands::{function, greek};
use super::token::Kind;
use crate::math::{Constant, Function, Relation};

/// What a run of letters is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Run<'a> {
    Token(Kind<'a>),
    /// One variable a letter.
    Letters,
    /// A function whose argument follows without a space, as in `sinx`; the length of its name.
    Function(Function, usize),
}

/// What stands before a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// An operand.
    pub(super) operand: bool,
    /// A number.
    pub(super) number: bool,
    /// A closing bracket.
    pub(super) closed: bool,
}

/// Classifies a run of at least one ASCII letter. `text`: it stands inside `\text{…}`, where letters are words.
pub(super) fn classify(run: &str, before: Before, text: bool) -> Run<'_> {
    if let Some(kind) = keyword(run, before) {
        return Run::Token(kind);
    }
    if run.len() == 1 {
        return Run::Letters;
    }
    if text || is_word(run) {
        return Run::Token(Kind::Word(run));
    }
    match glued_function(run) {
        Some((function, length)) => Run::Function(function, length),
        None if run.len() <= 3 || spells_variables(run) => Run::Letters,
        None => Run::Token(Kind::Word(run)),
    }
}

/// Words with a meaning of their own.
fn keyword(run: &str, before: Before) -> Option<Kind<'_>> {
    let kind = match run {
        "and" | "or" | "AND" | "OR" | "And" | "Or" => Kind::And,
        "pi" | "Pi" => Kind::Constant(Constant::Pi),
        "infinity" | "Infinity" | "inf" | "infty" | "oo" => Kind::Constant(Constant::Infinity),
        "sqrt" => Kind::Sqrt,
        "cbrt" => Kind::Cbrt,
        "lg" => Kind::LogTen,
        "cis" => Kind::Cis,
        "Re" => Kind::Function(Function::Re),
        "Im" => Kind::Function(Function::Im),
        "arg" | "Arg" => Kind::Function(Function::Arg),
        "det" => Kind::Function(Function::Det),
        "percent" | "percentage" | "pct" | "Percent" | "Percentage" | "Pct" if before.operand => Kind::Percent,
        "degrees" | "degree" | "deg" if before.operand => Kind::Degree,
        "union" | "cup" if before.closed => Kind::Union,
        "intersect" | "cap" if before.closed => Kind::Intersection,
        "times" if before.operand => Kind::Times,
        "mod" if before.operand => Kind::Modulo,
        "in" if before.operand && !before.number => Kind::Relation(Relation::In),
        "min" | "sec" | "th" | "ch" | "sh" | "max" if before.operand => Kind::Word(run),
        "th" | "sh" | "ch" => return None,
        _ => match function(run) {
            Some(function) => Kind::Function(function),
            None => Kind::Name(greek(run).filter(|_| run.len() > 1)?),
        },
    };
    Some(kind)
}

/// `sinx`: the name of a function and one letter behind it.
fn glued_function(run: &str) -> Option<(Function, usize)> {
    let name = run.get(..run.len() - 1)?;
    let argument = run.as_bytes()[run.len() - 1];
    if !matches!(argument, b'x' | b'y' | b'z' | b'a' | b'b' | b'A' | b'B' | b'C' | b't' | b'n') || name.len() < 2 {
        return None;
    }
    function(name).map(|function| (function, name.len()))
}

/// Four letters and more are a word, unless no language spells one so.
fn spells_variables(run: &str) -> bool {
    let ascending = run.as_bytes().windows(2).all(|pair| pair[0] < pair[1]);
    let vowel = run.bytes().any(|b| matches!(b.to_ascii_lowercase(), b'a' | b'e' | b'i' | b'o' | b'u' | b'y'));
    (ascending || !vowel) && run.len() <= 8
}

/// A short run that is a word or unit all the same.
fn is_word(run: &str) -> bool {
    let capitalised = run.len() >= 3
        && run.as_bytes()[0].is_ascii_uppercase()
        && run.bytes().skip(1).all(|b| b.is_ascii_lowercase())
        && run.bytes().any(|b| matches!(b, b'a' | b'e' | b'i' | b'o' | b'u' | b'y'));
    let sentence_start = run.as_bytes()[0].is_ascii_uppercase()
        && run.len() == 2
        && matches!(
            run,
            "We" | "So" | "If" | "It" | "Is" | "At" | "To" | "By" | "On" | "An" | "He" | "No" | "My" | "As" | "In"
        );
    capitalised || sentence_start || run.contains('\'') || is_unit(run) || SHORT_WORDS.contains(&run)
}

/// A unit of several letters.
pub(super) fn is_unit(word: &str) -> bool {
    UNITS.contains(&word)
}

/// A unit of one letter; only where it cannot be a variable.
pub(super) fn is_unit_letter(letter: char) -> bool {
    matches!(letter, 'm' | 's' | 'g' | 'h' | 'L' | 'l' | 'N' | 'J' | 'W' | 'V' | 'A' | 'K' | 'C' | 'F')
}

const UNITS: &[&str] = &[
    "mm", "cm", "dm", "km", "nm", "ft", "in", "yd", "mi", "mg", "kg", "lb", "lbs", "oz", "gm", "ml", "mL", "cl", "cL",
    "dl", "kL", "gal", "pt", "qt", "hr", "hrs", "min", "mins", "sec", "secs", "ms", "mph", "kph", "kmh", "rpm", "Hz",
    "kHz", "MHz", "GHz", "Pa", "kPa", "atm", "kJ", "kW", "MW", "kWh", "eV", "mol", "rad", "rads", "deg", "USD", "EUR",
    "GBP", "Rs", "rs", "AM", "PM", "am", "pm", "th", "st", "nd", "rd", "cc", "sq", "yr", "yrs", "wk", "pts", "mph",
    "cal", "kcal", "ohm", "ohms", "km²", "cts", "hp", "ha", "KB", "MB", "GB", "TB", "kB", "bps",
];

const SHORT_WORDS: &[&str] = &[
    "yes", "no", "odd", "one", "two", "six", "ten", "all", "any", "not", "is", "at", "of", "to", "by", "if", "it",
    "we", "he", "so", "do", "up", "on", "the", "for", "are", "has", "was", "per", "day", "way", "men", "man", "non",
    "new", "red", "box", "boy", "can", "dog", "cat", "car", "age", "end", "how", "its", "low", "top", "out", "off",
    "old", "our", "own", "set", "she", "sum", "too", "use", "who", "you", "his", "her", "him", "but", "few", "get",
    "had", "let", "may", "say", "see", "now", "big", "pen", "pie", "cup", "bag", "cow", "hen", "egg", "toy", "zip",
    "air", "oil", "gas", "sun", "sea", "an", "as", "be", "us", "my", "me", "go",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(run: &str, before: Before) -> String {
        format!("{:?}", classify(run, before, false))
    }

    #[test]
    fn short_runs_are_variables_and_long_ones_words_unless_known() {
        let nothing = Before::default();
        for variables in ["x", "xy", "abc", "abcd", "pqrs", "xyz", "bc"] {
            assert_eq!(shown(variables, nothing), "Letters", "{variables}");
        }
        for word in ["odd", "east", "Evelyn", "Bob", "km", "none", "rectangle"] {
            assert_eq!(shown(word, nothing), format!("Token(Word({word:?}))"));
        }
        assert_eq!(shown("sinx", nothing), "Function(Sin, 3)");
        assert_eq!(shown("theta", nothing), "Token(Name(\"theta\"))");
    }

    #[test]
    fn some_words_depend_on_what_stands_before() {
        let operand = Before { operand: true, number: true, closed: false };
        assert_eq!(shown("percent", operand), "Token(Percent)");
        assert_eq!(shown("min", operand), "Token(Word(\"min\"))");
        assert_eq!(shown("min", Before::default()), "Token(Function(Min))");
    }
}
