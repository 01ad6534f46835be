//! "The answer is …", "Answer: …", "**Final Answer**".

use super::formulas::formula_at;

/// What is said to be the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// Where the word `answer` begins.
    pub(super) start: usize,
    /// The word `final` stands before it.
    pub(super) last_word: bool,
    /// What may be the answer, the likeliest first.
    pub(super) texts: Vec<&'a str>,
}

/// Words for the answer, without a first letter that may be a capital. Whatever language a model is asked in, many answer in one
/// of these.
const STEMS: [&str; 4] = ["nswer", "答案", "orrect option", "orrect choice"];

/// How far behind the word its answer begins at most, in bytes.
const REACH: usize = 120;

/// The longest sentence that is looked at, in bytes.
const LONGEST: usize = 600;

/// The statements of a text, the last one first.
pub(super) fn backwards(text: &str) -> impl Iterator<Item = Statement<'_>> {
    let mut stems = STEMS.map(|stem| text.rmatch_indices(stem).peekable());
    let words = std::iter::from_fn(move || {
        let last = |stems: &mut [std::iter::Peekable<std::str::RMatchIndices<'_, &str>>]| {
            let places = stems.iter_mut().enumerate();
            places.filter_map(|(index, matches)| Some((matches.peek()?.0, index))).max()
        };
        let (_, index) = last(&mut stems)?;
        stems[index].next().map(|(at, stem)| (at, at + stem.len()))
    });
    words.filter_map(|(at, end)| {
        let first: &[char] = match text[at..].chars().next() {
            Some('n') => &['a', 'A'],
            Some('o') => &['c', 'C'],
            _ => &[],
        };
        let start = if first.is_empty() { at } else { at - text[..at].ends_with(first).then_some(1)? };
        let texts = answer_behind(text, end)?;
        let before = text[..start].trim_end_matches([' ', '*', '_', '\n']);
        let last_word =
            before.get(before.len().saturating_sub(5)..).is_some_and(|word| word.eq_ignore_ascii_case("final"));
        Some(Statement { start, last_word, texts })
    })
}

/// The candidates behind the word, whose end is at `at`.
fn answer_behind(text: &str, at: usize) -> Option<Vec<&str>> {
    let rest = text[at..].strip_prefix("R").unwrap_or(&text[at..]);
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    // Chinese has no space between words.
    if rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let from = text.len() - rest.len() + introduction(rest)?;
    let sentence = sentence(&text[from..]);
    if sentence.is_empty() {
        return None;
    }
    let mut texts = Vec::with_capacity(4);
    if let Some(formula) = formula_at(&text[from..]) {
        // `$5$ and $6$`, `$5$ apples`; then the formula alone.
        texts.push(sentence);
        texts.push(formula);
        return Some(texts);
    }
    texts.push(sentence);
    texts.extend(leading_value(sentence));
    for verb in [" is ", " are ", " be ", " equals ", " = ", ": "] {
        if let Some(after) = sentence.rfind(verb) {
            texts.push(sentence[after + verb.len()..].trim());
        }
    }
    if let Some(dollar) = sentence.find(['$', '\\'])
        && let Some(formula) = formula_at(&sentence[dollar..])
    {
        texts.push(formula);
    }
    Some(texts)
}

/// How long what introduces the answer is: ` is`, `:`, ` to the question is:`, or nothing but space.
fn introduction(rest: &str) -> Option<usize> {
    let decoration = |c: char| c.is_whitespace() || matches!(c, '*' | '_' | '"' | '\'' | '`' | '#' | ':' | '}');
    let clean = rest.trim_start_matches(decoration);
    let skipped = rest.len() - clean.len();
    let colon = rest[..skipped].contains(':');
    if colon
        || rest[..skipped].contains('\n')
        || clean.starts_with("\\[")
        || clean.starts_with("\\(")
        || clean.starts_with('$')
    {
        let verb = verb_at(clean).unwrap_or(0);
        return Some(skipped + verb);
    }
    if let Some(verb) = verb_at(clean) {
        return Some(skipped + verb);
    }
    // Within the sentence: `answer to the question is 5`.
    let reach = super::head(rest, REACH);
    let end = reach.find(['\n', '?', '!']).or_else(|| reach.find(". ")).unwrap_or(reach.len());
    let reach = &reach[..end];
    let found = [" is ", " is: ", " is:", " are ", " be ", " equals ", ": ", " = ", ":"]
        .iter()
        .filter_map(|verb| reach.find(verb).map(|at| at + verb.len()))
        .min()?;
    let after = &rest[found..];
    Some(found + (after.len() - after.trim_start_matches(decoration).len()))
}

/// A verb at the start, and the space and decoration behind it.
fn verb_at(text: &str) -> Option<usize> {
    let verb = [
        "is:",
        "is",
        "：",
        "是",
        "为",
        "are",
        "=",
        "would be",
        "should be",
        "will be",
        "must be",
        "equals",
        "was",
        "->",
        "→",
    ]
    .iter()
    .find(|verb| text.starts_with(**verb))?;
    let after = &text[verb.len()..];
    if verb.ends_with(|c: char| c.is_ascii_alphabetic()) && after.starts_with(|c: char| c.is_alphanumeric()) {
        return None;
    }
    let clean =
        after.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | ':' | '：' | '_' | '"' | '`' | '}'));
    Some(text.len() - clean.len())
}

/// Up to the end of the sentence or line, without what decorates it.
fn sentence(text: &str) -> &str {
    let text = super::head(text, LONGEST);
    let mut end = text.len();
    let mut formula = false;
    let mut display = false;
    for (at, c) in text.char_indices() {
        match c {
            '$' if !text[..at].ends_with('\\') => formula = !formula,
            '\\' if text[at..].starts_with("\\[") => display = true,
            '\\' if text[at..].starts_with("\\]") => display = false,
            '\n' if !display && !text[..at].trim_end().ends_with("$$") => {
                end = at;
                break;
            }
            '.' | '?' if !formula && text[at + 1..].starts_with(|c: char| c.is_whitespace()) => {
                end = at;
                break;
            }
            '。' | '<'
                if !formula
                    && !display
                    && (c == '。' || text[at..].starts_with("</") || text[at..].starts_with("<|")) =>
            {
                end = at;
                break;
            }
            _ => {}
        }
    }
    text[..end].trim().trim_end_matches(['.', '*', '"', '!', '`']).trim_end_matches("**").trim()
}

/// The number, or the letter of a choice, at the start of a sentence.
fn leading_value(sentence: &str) -> Option<&str> {
    if let Some(value) = super::prose::leading(sentence) {
        return Some(value);
    }
    let letter = sentence.trim_start_matches(['(', '*', '[']);
    let mut chars = letter.char_indices();
    let choice = chars.next().is_some_and(|(_, c)| c.is_ascii_uppercase() && c <= 'J');
    let ends = chars.next().is_none_or(|(_, c)| matches!(c, '.' | ',' | ')' | ':' | ' ' | ';' | '*' | ']'));
    (choice && ends).then(|| &letter[..1])
}
