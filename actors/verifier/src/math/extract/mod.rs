//! Finds the final answer in a completion: pure, in time linear in the text.
//!
//! [`Search`] gives what may be the answer, the likeliest first. Explicit answers (a box, a statement of the *final*
//! answer, `####`) come before all others, and of them the last. Then what is called the answer elsewhere, then a short text as
//! a whole, then the last formula, bold text or number.

mod boxes;
mod formulas;
mod prose;
mod statement;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use boxes::Boxed;
pub(crate) use boxes::closing_brace;
use formulas::Formula;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Style;

/// A way to find the final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// `\boxed{…}`, `\fbox{…}`: the last that is closed, with those that stand together with it.
    Boxed,
    /// "The answer is …", "Answer: …"; "final answer" counts more.
    Statement,
    /// `#### 42`, as in GSM8K.
    Hashes,
    /// The whole text, where it is short and mathematics.
    Whole,
    /// The last formula between dollar signs, `\(…\)` or `\[…\]`.
    Formula,
    /// The last words in bold: `**42**`.
    Bold,
    /// The last number or plain expression.
    Expression,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Boxed, Self::Statement, Self::Hashes, Self::Whole, Self::Formula, Self::Bold, Self::Expression];
}

/// What may be the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// Its text.
    pub text: Cow<'a, str>,
    /// How to read it.
    pub style: Style,
    /// How it was found.
    pub method: Method,
    /// It is the answer whatever it says; others are only if they are mathematics.
    pub firm: bool,
}

/// How much of the end of a text is searched for formulas and bold text, in bytes.
const FORMULA_REACH: usize = 8_000;

/// How much of the end of a text is searched for plain expressions, in bytes.
const EXPRESSION_REACH: usize = 2_000;

/// The longest text that may be an answer as a whole, in bytes.
const LONGEST_WHOLE: usize = 400;

/// How many statements are looked at.
const MOST_STATEMENTS: usize = 8;

/// At most so many bytes from the start.
fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// At most so many bytes from the end.
fn tail(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

/// The part of a completion that answers: what follows the thoughts, and what is tagged as the answer.
pub fn conclusion(text: &str) -> &str {
    let text = text.rfind("</think>").map_or(text, |at| &text[at + "</think>".len()..]);
    // Cut off within its thoughts, it has not answered.
    let text = text.find("<think>").map_or(text, |at| &text[..at]);
    let tagged = text.rfind("</answer>").and_then(|end| {
        let start = text[..end].rfind("<answer>")? + "<answer>".len();
        Some(&text[start..end])
    });
    tagged.unwrap_or(text)
}

/// A search for the answer, in stages of falling trust.
pub struct Search<'a, 'm> {
    text: &'a str,
    methods: &'m [Method],
    stage: u8,
    /// A box was opened and never closed: what stands in it is no answer.
    cut_off: bool,
}

impl<'a, 'm> Search<'a, 'm> {
    /// `text`: what [`conclusion`] left.
    pub fn new(text: &'a str, methods: &'m [Method]) -> Self {
        Self { text, methods, stage: 0, cut_off: false }
    }

    fn uses(&self, method: Method) -> bool {
        self.methods.contains(&method)
    }

    /// The candidates of the next stage; `None` after the last.
    pub fn stage(&mut self) -> Option<Vec<Candidate<'a>>> {
        self.stage += 1;
        Some(match self.stage {
            1 => self.explicit(),
            2 => self.statements(),
            3 => self.whole(),
            4 => self.last(),
            _ => return None,
        })
    }

    fn explicit(&mut self) -> Vec<Candidate<'a>> {
        let mut found: Vec<(usize, Vec<Candidate<'a>>)> = Vec::new();
        let mut from = 0;
        if self.uses(Method::Boxed) {
            match boxes::last(self.text) {
                Boxed::None => {}
                Boxed::Unclosed => self.cut_off = true,
                Boxed::Some(boxes) => {
                    from = boxes.start;
                    let text = match boxes.contents.as_slice() {
                        [one] => Cow::Borrowed(*one),
                        several => Cow::Owned(several.join(" , ")),
                    };
                    found.push((
                        from,
                        vec![Candidate { text, style: Style::Formula, method: Method::Boxed, firm: true }],
                    ));
                }
            }
        }
        // What stands before a box cannot be later than it.
        let rest = &self.text[from..];
        if self.uses(Method::Hashes)
            && let Some(at) = rest.rfind("####")
        {
            let line = rest[at + 4..].trim_start_matches('#').lines().next().unwrap_or("").trim();
            found.push((from + at, vec![prose(line, Method::Hashes)]));
        }
        if self.uses(Method::Statement)
            && let Some(statement) = statement::backwards(rest).take(MOST_STATEMENTS).find(|s| s.last_word)
        {
            found.push((from + statement.start, from_statement(&statement)));
        }
        // The last one first; a box is inside its statement and so behind it.
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found.into_iter().flat_map(|(_, candidates)| candidates).collect()
    }

    fn statements(&self) -> Vec<Candidate<'a>> {
        if !self.uses(Method::Statement) {
            return Vec::new();
        }
        statement::backwards(self.text).take(MOST_STATEMENTS).flat_map(|s| from_statement(&s)).collect()
    }

    fn whole(&self) -> Vec<Candidate<'a>> {
        let text = self.text.trim();
        let labelled = text.split_once(':').is_some_and(|(label, _)| {
            (label.len() > 1 || label == "A") && label.chars().all(|c| c.is_alphabetic() || c == ' ')
        });
        if !self.uses(Method::Whole) || self.cut_off || text.is_empty() || text.len() > LONGEST_WHOLE || labelled {
            return Vec::new();
        }
        vec![Candidate { text: Cow::Borrowed(text), style: Style::of(text), method: Method::Whole, firm: false }]
    }

    /// Formulas, bold text and plain expressions, the last one first.
    fn last(&self) -> Vec<Candidate<'a>> {
        let mut found: Vec<(usize, Candidate<'a>)> = Vec::new();
        if self.cut_off {
            return Vec::new();
        }
        let end = tail(self.text, FORMULA_REACH);
        let before = self.text.len() - end.len();
        if self.uses(Method::Formula) {
            for formula in formulas::last(end, 3) {
                let candidate = Candidate {
                    text: Cow::Borrowed(with_percent(end, &formula)),
                    style: Style::Formula,
                    method: Method::Formula,
                    firm: is_wording(end, &formula),
                };
                found.push((before + formula.end, candidate));
            }
        }
        if self.uses(Method::Bold)
            && let Some((at, text)) = last_bold(end)
        {
            found.push((before + at, prose(text, Method::Bold)));
        }
        if self.uses(Method::Expression) {
            let end = tail(self.text, EXPRESSION_REACH);
            let before = self.text.len() - end.len();
            for (at, value) in prose::last(end) {
                found.push((before + at, prose(value, Method::Expression)));
            }
        }
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found.into_iter().map(|(_, candidate)| candidate).collect()
    }
}

fn prose(text: &str, method: Method) -> Candidate<'_> {
    Candidate { text: Cow::Borrowed(text), style: Style::of(text), method, firm: false }
}

fn from_statement<'a>(statement: &statement::Statement<'a>) -> Vec<Candidate<'a>> {
    statement.texts.iter().map(|text| prose(text, Method::Statement)).collect()
}

/// Whether a formula says something in words, rather than being the unit behind a number: `$\text{odd}$`.
fn is_wording(text: &str, formula: &Formula<'_>) -> bool {
    let before = text[..formula.end - formula.text.len()].trim_end();
    formula.text.contains("\\text") && !before.ends_with(|c: char| c.is_ascii_digit() || c == '$')
}

/// The formula with the percent sign or word that follows it.
fn with_percent<'a>(text: &'a str, formula: &Formula<'a>) -> &'a str {
    let start = formula.end - formula.text.len();
    let after = &text[formula.end..];
    let word = after.trim_start_matches([' ', '\\']);
    let percent = ["percentage", "percent", "pct", "%"].into_iter().find(|sign| word.starts_with(sign));
    let length = percent.map_or(0, |sign| after.len() - word.len() + sign.len());
    &text[start..formula.end + length]
}

/// The last bold text and where it ends.
fn last_bold(text: &str) -> Option<(usize, &str)> {
    let end = text.rfind("**")?;
    let start = text[..end].rfind("**")? + 2;
    let inside = &text[start..end];
    (!inside.contains('\n') && inside.len() <= LONGEST_WHOLE).then(|| (end, inside.trim()))
}
