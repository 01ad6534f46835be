//! `\boxed{…}` and `\fbox{…}`.

use super::tail;

/// The contents of the last boxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boxes<'a> {
    /// Where the first of them begins.
    pub(super) start: usize,
    /// Their contents, in order: one, or several that stand together (`\boxed{1} and \boxed{2}`).
    pub(super) contents: Vec<&'a str>,
}

/// The boxes of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Boxed<'a> {
    None,
    /// The last box is never closed: the answer was cut off.
    Unclosed,
    Some(Boxes<'a>),
}

/// The farthest apart that boxes of one answer stand, in bytes.
const FARTHEST: usize = 70;

/// Boxes nearer than that, in bytes, need no word or comma between them.
const CLOSE: usize = 16;

/// The most boxes that are joined.
const MOST: usize = 32;

/// The most boxes that are looked at: repeats count for one, so they are more than are joined.
const MOST_SEEN: usize = 256;

/// How far before another box a box of the same answer can begin, in bytes.
const LONGEST_COMPANION: usize = 1000;

/// The last boxes of a text that are closed. Time is linear in the text.
pub(super) fn last(text: &str) -> Boxed<'_> {
    let Some(command) = last_command(text) else { return Boxed::None };
    match content(text, command) {
        Content::Closed(inside, _) => Boxed::Some(with_companions(text, command.start, inside)),
        Content::Bare(inside) => Boxed::Some(Boxes { start: command.start, contents: vec![inside] }),
        Content::Unclosed => match last_closed(text) {
            Some((start, inside)) => Boxed::Some(with_companions(text, start, inside)),
            None => Boxed::Unclosed,
        },
    }
}

/// Where a command for a box begins, and where its name ends.
#[derive(Clone, Copy, Debug)]
struct Command {
    start: usize,
    end: usize,
}

/// The last command for a box.
fn last_command(text: &str) -> Option<Command> {
    let boxed = text.rmatch_indices("oxed").find_map(|(at, name)| {
        // The backslash and the `b` may have been read as the escape of a backspace.
        let start =
            ["\\b", "\u{8}"].iter().find(|before| text[..at].ends_with(**before)).map(|before| at - before.len())?;
        Some(Command { start, end: at + name.len() })
    });
    let framed = text.rfind("\\fbox").map(|start| Command { start, end: start + "\\fbox".len() });
    boxed.into_iter().chain(framed).max_by_key(|command| command.start)
}

enum Content<'a> {
    /// What is in the braces, and where the command ends.
    Closed(&'a str, usize),
    /// `\boxed 5`: no braces.
    Bare(&'a str),
    Unclosed,
}

fn content(text: &str, command: Command) -> Content<'_> {
    let rest = &text[command.end..];
    let argument = rest.trim_start();
    if argument.starts_with('{') {
        let from = text.len() - argument.len() + 1;
        return match closing_brace(&text[from..]) {
            Some(length) => Content::Closed(&text[from..from + length], from + length + 1),
            None => Content::Unclosed,
        };
    }
    let bare = argument.split(['$', '\n']).next().unwrap_or("").trim_end().trim_end_matches('.');
    let glued = argument.len() == rest.len() && !argument.starts_with(|c: char| c.is_ascii_digit());
    if bare.is_empty() || glued { Content::Unclosed } else { Content::Bare(bare) }
}

/// Where the brace closes that was open before the text. Escaped braces do not count.
pub(crate) fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The last box that is closed, with its content, found in one pass: a stack of open braces knows what each `}` closes.
fn last_closed(text: &str) -> Option<(usize, &str)> {
    let bytes = text.as_bytes();
    // Per open brace: where it stands, and where the command for a box begins if it is one's.
    let mut open: Vec<(usize, Option<usize>)> = Vec::new();
    let mut last: Option<(usize, &str)> = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => match box_brace(text, at) {
                Some(brace) => {
                    open.push((brace, Some(at)));
                    at = brace;
                }
                // The byte behind it is escaped: a brace, or no matter.
                None => at += 1,
            },
            b'{' => open.push((at, None)),
            b'}' => {
                if let Some((brace, Some(start))) = open.pop()
                    && last.is_none_or(|(before, _)| before < start)
                {
                    last = Some((start, &text[brace + 1..at]));
                }
            }
            _ => {}
        }
        at += 1;
    }
    last
}

/// The opening brace of the box whose command begins at `at`, if one does.
fn box_brace(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    let rest = rest.strip_prefix("\\boxed").or_else(|| rest.strip_prefix("\\fbox"))?.trim_start();
    rest.starts_with('{').then(|| text.len() - rest.len())
}

/// The box with those before it that belong to the same answer.
fn with_companions<'a>(text: &'a str, start: usize, inside: &'a str) -> Boxes<'a> {
    let mut contents = vec![inside.trim()];
    let mut first = start;
    for _ in 1..MOST_SEEN {
        if contents.len() == MOST || !tail(&text[..first], FARTHEST + 1).contains('}') {
            break;
        }
        let before = &text[..first];
        let region = before.len() - tail(before, LONGEST_COMPANION).len();
        let Some(command) = last_command(&before[region..]) else { break };
        let command = Command { start: region + command.start, end: region + command.end };
        let Content::Closed(inside, end) = content(before, command) else { break };
        if !stand_together(&before[end..]) {
            break;
        }
        if contents.last() != Some(&inside.trim()) {
            contents.push(inside.trim());
        }
        first = command.start;
    }
    contents.reverse();
    Boxes { start: first, contents }
}

/// Whether what stands between two boxes joins them: nothing, a comma, `and`; not a new sentence or a new attempt.
fn stand_together(between: &str) -> bool {
    if between.len() > FARTHEST || between.contains("\n\n") {
        return false;
    }
    let mut joins = between.contains([',', ';', '&']);
    for word in between.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "and" | "or" => joins = true,
            "final" | "finally" | "answer" | "so" | "thus" | "therefore" | "then" | "hence" | "wait" | "no" | "not"
            | "correct" | "actually" | "instead" | "which" | "simplifies" | "equals" | "is" | "but" | "rather"
            | "gives" => {
                return false;
            }
            _ => {}
        }
    }
    let bare = between.replace("quad", "");
    joins || bare.len() < CLOSE && !bare.contains(|c: char| c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Vec<&str> {
        match last(text) {
            Boxed::Some(boxes) => boxes.contents,
            Boxed::None => vec!["none"],
            Boxed::Unclosed => vec!["unclosed"],
        }
    }

    #[test]
    fn the_last_closed_box_counts_with_its_nested_braces() {
        for (text, expected) in [
            (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
            (r"\boxed{1}. No, it is \boxed{2}", "2"),
            (r"\boxed{3}. Then \boxed{4", "3"),
            (r"\boxed{4", "unclosed"),
            (r"\boxed {5}", "5"),
            (r"\boxed 5$.", "5"),
            (r"\boxed5", "5"),
            (r"\fbox{6}", "6"),
            (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
            (r"\boxed{\boxed{7}}", "7"),
            (r"nothing boxed here", "none"),
            (r"\boxed{}", ""),
            (r"first attempt \boxed{wrong}, final \boxed{42}", "42"),
        ] {
            assert_eq!(contents(text), [expected], "{text}");
        }
    }

    #[test]
    fn boxes_that_stand_together_are_one_answer() {
        assert_eq!(contents(r"\boxed{1} and \boxed{2}"), ["1", "2"]);
        assert_eq!(contents(r"$\boxed{1}$, $\boxed{2}$, or $\boxed{3}$"), ["1", "2", "3"]);
        assert_eq!(contents(r"\boxed{1}\boxed{2}"), ["1", "2"]);
        assert_eq!(contents(r"\(y_1 = \boxed{a} \) and \( y_2 = \boxed{b} \)"), ["a", "b"]);
        assert_eq!(contents(r"\boxed{1} papers and \boxed{2} bins"), ["1", "2"]);
        assert_eq!(contents(r"\boxed{1} no no no no no \boxed{2}"), ["2"]);
        assert_eq!(contents(r"\boxed{5}. So \boxed{5}"), ["5"]);
    }

    #[test]
    fn a_megabyte_of_open_boxes_takes_linear_time() {
        let text = r"\boxed{".repeat(150_000);
        assert_eq!(last(&text), Boxed::Unclosed);
        let closed = format!("{text}1{}", "}".repeat(150_000));
        assert_eq!(contents(&closed), ["1"]);
        assert_eq!(contents(&format!(r"\boxed{{9}}{text}")), ["9"]);
    }

    #[test]
    fn of_many_repeats_only_the_last_are_looked_at() {
        let text = format!(r"\boxed{{1}}, {}", r"\boxed{2}, ".repeat(MOST_SEEN));
        assert_eq!(contents(&text), ["2"]);
        assert_eq!(contents(&text.replacen(r"\boxed{2}, ", "", 1)), ["1", "2"]);
    }
}
