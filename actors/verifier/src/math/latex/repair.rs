//! Rewrites what the lexer need not know about: raised digits, vulgar fractions, broken escapes, doubled backslashes.

use std::borrow::Cow;

use super::commands::{command, script, vulgar};

/// The text in the form that the lexer reads; borrowed when nothing needs to change, which is the rule.
pub(super) fn repair(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if text.bytes().any(|b| matches!(b, 0x08 | 0x09 | 0x0c | 0x0d) || !b.is_ascii()) {
        text = Cow::Owned(rewrite_signs(&text));
    }
    for (written, meant) in [("{.}", "."), ("US\\$", "\\$"), ("US$", "\\$")] {
        if text.contains(written) {
            text = Cow::Owned(text.replace(written, meant));
        }
    }
    if let Some(halved) = halve_backslashes(&text) {
        text = Cow::Owned(halved);
    }
    text
}

/// What is left of a command whose backslash and first letter were read as an escape in a string: form feed and `rac`.
const BROKEN_ESCAPES: &[(char, &str, &str)] = &[
    ('\u{c}', "rac", "\\f"),
    ('\u{8}', "oxed", "\\b"),
    ('\u{8}', "inom", "\\b"),
    ('\u{8}', "egin", "\\b"),
    ('\u{8}', "eta", "\\b"),
    ('\u{8}', "ar{", "\\b"),
    ('\t', "ext{", "\\t"),
    ('\t', "ext ", "\\t"),
    ('\t', "extbf{", "\\t"),
    ('\t', "imes", "\\t"),
    ('\t', "heta", "\\t"),
    ('\t', "frac", "\\t"),
    ('\r', "ight", "\\r"),
    ('\r', "ho", "\\r"),
];

fn rewrite_signs(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars();
    // The script that is open: raised or lowered.
    let mut open: Option<bool> = None;
    while let Some(c) = rest.next() {
        let script = script(c);
        if open.is_some() && open != script.map(|(_, up)| up) {
            out.push('}');
            open = None;
        }
        if let Some((plain, up)) = script {
            if open.is_none() {
                out.push_str(if up { "^{" } else { "_{" });
                open = Some(up);
            }
            out.push(plain);
        } else if let Some((above, below)) = vulgar(c) {
            out.extend(["\\frac{", above, "}{", below, "}"]);
        } else if let Some((_, _, start)) =
            BROKEN_ESCAPES.iter().find(|(sign, end, _)| *sign == c && rest.as_str().starts_with(end))
        {
            // `\` before it is what is left of `\\f`.
            if out.ends_with('\\') {
                out.pop();
            }
            out.push_str(start);
        } else if ('０'..='９').contains(&c) {
            out.push(char::from(b'0' + (c as u32 - '０' as u32) as u8));
        } else if !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}') {
            out.push(c);
        }
    }
    if open.is_some() {
        out.push('}');
    }
    out
}

/// `\\frac` where `\frac` was meant. In a text whose every command is doubled all backslashes are halved; else, unless `\\` may
/// end a row, those before the name of a command.
fn halve_backslashes(text: &str) -> Option<String> {
    if !text.contains("\\\\") {
        return None;
    }
    let runs = || {
        text.match_indices('\\').filter(|(at, _)| !text[..*at].ends_with('\\')).map(|(at, _)| {
            let rest = &text[at..];
            let length = rest.len() - rest.trim_start_matches('\\').len();
            (length, &rest[length..])
        })
    };
    let mut named = runs().filter(|(_, after)| after.starts_with(|c: char| c.is_ascii_alphabetic())).peekable();
    named.peek()?;
    if named.all(|(length, after)| length % 2 == 0 && starts_with_command(after)) {
        return Some(text.replace("\\\\", "\\"));
    }
    if ["matrix", "array", "cases", "align", "gather"].iter().any(|rows| text.contains(rows)) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\\\") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        rest = &from[2..];
        out.push_str(if starts_with_command(rest) { "\\" } else { "\\\\" });
    }
    out.push_str(rest);
    Some(out)
}

fn starts_with_command(text: &str) -> bool {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    end >= 2 && command(&text[..end]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_broken_escapes_become_commands() {
        for (text, repaired) in [
            ("x² + y¹⁰", "x^{2} + y^{10}"),
            ("a₁₂", "a_{12}"),
            ("3½", "3\\frac{1}{2}"),
            ("\u{c}rac{1}{2}", "\\frac{1}{2}"),
            ("-\\\u{c}rac{7}{4}", "-\\frac{7}{4}"),
            ("\text{13}", "\\text{13}"),
            ("１２", "12"),
            ("2\t3", "2\t3"),
        ] {
            assert_eq!(repair(text), repaired);
        }
    }

    #[test]
    fn doubled_backslashes_are_halved_but_rows_still_end() {
        for (text, repaired) in [
            (r"\\frac{1}{2}", r"\frac{1}{2}"),
            (r"\\begin{pmatrix}1\\\\2\\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
            (r"\\dfrac{1}{2}+\frac13", r"\dfrac{1}{2}+\frac13"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
            (r"x=\frac12\\y=2", r"x=\frac12\\y=2"),
        ] {
            assert_eq!(repair(text), repaired);
        }
    }

    #[test]
    fn a_text_without_such_things_is_borrowed() {
        assert!(matches!(repair(r"\frac{1}{2} + x^2"), Cow::Borrowed(_)));
    }
}
