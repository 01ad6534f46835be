//! Formulas between dollar signs, `\(…\)` and `\[…\]`.

/// A formula, or several that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Formula<'a> {
    /// Where it ends in the text, delimiters included.
    pub(super) end: usize,
    /// With delimiters.
    pub(super) text: &'a str,
}

/// The last formulas of a text, the last one first, at most `most`; those joined by `and`, `or` or a comma count as one.
pub(super) fn last(text: &str, most: usize) -> Vec<Formula<'_>> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while let Some(offset) = text[at..].find(['$', '\\', ' ', '\n']) {
        let start = at + offset;
        match delimited(text, start) {
            Some(end) => {
                found.push((start, end));
                at = end;
            }
            None => at = start + 1,
        }
    }
    let mut groups: Vec<Formula<'_>> = Vec::new();
    let mut rest = found.as_slice();
    while let Some((&(mut start, end), before)) = rest.split_last() {
        rest = before;
        while let Some((&(earlier, earlier_end), before)) = rest.split_last() {
            if !joins(&text[earlier_end..start]) || rest.len() + MOST_JOINED < found.len() && groups.is_empty() {
                break;
            }
            start = earlier;
            rest = before;
        }
        groups.push(Formula { end, text: &text[start..end] });
        if groups.len() == most {
            break;
        }
    }
    groups
}

/// The most formulas that are joined.
const MOST_JOINED: usize = 16;

/// The formula that begins a text, with those that are joined to it.
pub(super) fn formula_at(text: &str) -> Option<&str> {
    let mut end = delimited(text, 0)?;
    for _ in 0..MOST_JOINED {
        let rest = &text[end..];
        let Some(next) = rest.find(['$', '\\']).filter(|&gap| joins(&rest[..gap])) else { break };
        let Some(after) = delimited(text, end + next) else { break };
        end = after;
    }
    Some(&text[..end])
}

/// Whether what stands between two formulas joins them.
fn joins(between: &str) -> bool {
    let between = between.trim();
    let between = between.strip_prefix([',', ';']).unwrap_or(between).trim();
    between.is_empty() && !between.contains('\n') || matches!(between, "and" | "or")
}

/// Where the formula ends that begins at `start`, if one does.
fn delimited(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start..];
    let before = text[..start].chars().next_back();
    if rest.starts_with("$$") {
        return closing(rest, 2, "$$", true).map(|end| start + end);
    }
    if rest.starts_with('$') {
        // `5$` is money or the end of something.
        if before.is_some_and(|c| c.is_ascii_digit() || c == '\\') {
            return None;
        }
        return closing(rest, 1, "$", false).map(|end| start + end);
    }
    if rest.starts_with("\\[") {
        return closing(rest, 2, "\\]", true).map(|end| start + end);
    }
    if rest.starts_with("\\(") {
        return closing(rest, 2, "\\)", false).map(|end| start + end);
    }
    // ` [ x = 5 ] `: the backslashes were lost.
    let bracket = rest.strip_prefix([' ', '\n'])?.strip_prefix("[ ")?;
    let line = &bracket[..bracket.find(['\n', '[']).unwrap_or(bracket.len())];
    let length = line.find(" ]")?;
    let end = start + 3 + length + 2;
    (text[end..].is_empty() || text[end..].starts_with(char::is_whitespace)).then_some(end)
}

/// The longest formula, in bytes: where a delimiter has no partner nearer than that, it is none.
const LONGEST: usize = 4000;

/// Where the closing delimiter ends; `lines`: whether the formula may go over several.
fn closing(rest: &str, from: usize, delimiter: &str, lines: bool) -> Option<usize> {
    let inside = super::head(&rest[from..], LONGEST);
    let inside = if lines { inside } else { &inside[..inside.find('\n').unwrap_or(inside.len())] };
    let mut searched = 0;
    loop {
        let at = searched + inside[searched..].find(delimiter)?;
        let escaped = delimiter.starts_with('$') && inside[..at].ends_with('\\');
        if !escaped && !inside[..at].trim().is_empty() {
            return Some(from + at + delimiter.len());
        }
        if !escaped {
            return None;
        }
        searched = at + delimiter.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        last(text, 4).into_iter().map(|formula| formula.text).collect()
    }

    #[test]
    fn formulas_are_found_with_any_delimiters_and_the_last_comes_first() {
        assert_eq!(found(r"so $x=1$ and then \(y\), hence \[ z \] ."), [r"\[ z \]", r"\(y\)", "$x=1$"]);
        assert_eq!(found("$$\n9\n$$"), ["$$\n9\n$$"]);
        assert_eq!(found("Therefore [ x = 5 ] \n"), [" [ x = 5 ]"]);
        assert_eq!(found("costs 5$ or 6$"), [""; 0]);
        assert_eq!(found("$ \\frac{1}{2} \\$ = 1 $"), ["$ \\frac{1}{2} \\$ = 1 $"]);
    }

    #[test]
    fn formulas_that_are_joined_are_one() {
        assert_eq!(found("we get $1$, $2$ and $3$."), ["$1$, $2$ and $3$"]);
        assert_eq!(formula_at("$1$ or $2$ maybe"), Some("$1$ or $2$"));
        assert_eq!(formula_at("none"), None);
    }
}
