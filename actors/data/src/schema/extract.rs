//! The answer at the end of a worked solution.

/// What follows the last `####`, trimmed, as GSM8K ends its solutions; nothing if nothing follows.
///
/// ```
/// use counterpoint_data::after_hashes;
///
/// assert_eq!(after_hashes("48/2 = 24.\n#### 72"), Some("72"));
/// assert_eq!(after_hashes("24"), None);
/// ```
pub fn after_hashes(text: &str) -> Option<&str> {
    let (_, answer) = text.rsplit_once("####")?;
    Some(answer.trim()).filter(|answer| !answer.is_empty())
}

/// The content of the last `\boxed{...}` or `\fbox{...}`, nested braces included; `\boxed 5` without braces goes to the end of
/// its word. Nothing if the last one is never closed, or empty.
///
/// ```
/// use counterpoint_data::last_box;
///
/// assert_eq!(last_box(r"\boxed{1}, no: \boxed{\frac{1}{2}}."), Some(r"\frac{1}{2}"));
/// assert_eq!(last_box(r"so $\boxed 5$."), Some("5"));
/// assert_eq!(last_box(r"\boxed{4"), None);
/// ```
pub fn last_box(text: &str) -> Option<&str> {
    let (at, command) = ["\\boxed", "\\fbox"].iter().filter_map(|c| Some((text.rfind(c)?, c.len()))).max()?;
    let rest = text[at + command..].trim_start_matches([' ', '\t']);
    let content = match rest.strip_prefix('{') {
        Some(inside) => &inside[..closing_brace(inside)?],
        None => rest.split(|c: char| c == '$' || c.is_whitespace()).next()?.trim_end_matches(['.', ',']),
    };
    Some(content.trim()).filter(|content| !content.is_empty())
}

/// Where the brace closes that was open before the text. Escaped braces do not count.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut open, mut escaped) = (0_usize, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_box_counts_with_its_nested_braces() {
        for (text, expected) in [
            (r"\boxed{1} or \fbox{2}", Some("2")),
            (r"\boxed{\{1, 2\}}", Some(r"\{1, 2\}")),
            (r"\boxed {3}", Some("3")),
            (r"\boxed{1} then \boxed{", None),
            (r"\boxed{ }", None),
            (r"\boxed", None),
            ("no box", None),
        ] {
            assert_eq!(last_box(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_balanced_content_comes_back(content in "([a-z0-9é]|\\{[a-z]{0,3}\\}){1,8}", tail in "[^\\\\]{0,20}") {
            let text = format!("first \\boxed{{0}}, then \\boxed{{{content}}}{tail}");
            prop_assert_eq!(last_box(&text), Some(content.as_str()));
        }

        #[test]
        fn any_text_is_read_without_a_crash(text in "(\\\\boxed|[{}\\\\# é]|####|[a-z]){0,40}") {
            let _ = (last_box(&text), after_hashes(&text));
        }
    }
}
