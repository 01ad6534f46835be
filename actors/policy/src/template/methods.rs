//! Methods that Python's values have and minijinja's `pycompat` has not, or has otherwise.

use minijinja::value::{Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Digits of a width in a format: more would be memory that no fuel counts.
const MOST_WIDTH_DIGITS: usize = 3;

/// What minijinja asks for a method that a value does not have.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => of_text(state, text, method, args)?,
        (ValueKind::Seq, _) => of_list(value, method, args)?,
        (ValueKind::Map, _) if method == "copy" => Some(from_args::<()>(args).map(|()| value.clone())?),
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn of_text(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<&str>,) = from_args(args)?;
            let strips = |c: char| characters.map_or_else(|| is_space(c), |these| these.contains(c));
            Value::from(match method {
                "strip" => text.trim_matches(strips),
                "lstrip" => text.trim_start_matches(strips),
                _ => text.trim_end_matches(strips),
            })
        }
        "split" | "rsplit" => split(text, args, method == "rsplit")?,
        "splitlines" => {
            let (keep, options): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(options.get("keepends")?).unwrap_or(false);
            options.assert_all_used()?;
            lines(text, keep).into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            some(separator)?;
            let split = if method == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            match (split, method) {
                (Some((before, behind)), _) => triple([before, separator, behind]),
                (None, "partition") => triple([text, "", ""]),
                (None, _) => triple(["", "", text]),
            }
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "replace" => return replace(state, text, args),
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "index" { text.find(part) } else { text.rfind(part) };
            Value::from(text[..at.ok_or_else(|| wrong("substring not found"))?].chars().count())
        }
        "title" => from_args::<()>(args).map(|()| Value::from(title(text)))?,
        "swapcase" => from_args::<()>(args).map(|()| Value::from(swap(text)))?,
        "casefold" => from_args::<()>(args).map(|()| Value::from(text.to_lowercase()))?,
        "isdecimal" => {
            from_args::<()>(args).map(|()| Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())))?
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            Value::from(pad(state, text, width, fill.unwrap_or(' '), method)?)
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            Value::from(format!("{sign}{}", pad(state, digits, width.saturating_sub(sign.len()), '0', "rjust")?))
        }
        "format" => {
            let wide = |run: &str| run.len() > MOST_WIDTH_DIGITS && run.bytes().all(|b| b.is_ascii_digit());
            if text.split(|c: char| !c.is_ascii_digit()).any(wide) && text.contains('{') {
                return Err(wrong("a format with a number of more than three digits is not supported"));
            }
            return Ok(None);
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn of_list(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "index" => {
            let (item,): (&Value,) = from_args(args)?;
            let place = list.try_iter()?.position(|other| other == *item);
            Ok(Some(Value::from(place.ok_or_else(|| wrong("the value is not in the list"))?)))
        }
        "copy" => Ok(Some(from_args::<()>(args).map(|()| list.clone())?)),
        "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
            Err(wrong("a template may not change a list; add lists with + instead"))
        }
        _ => Ok(None),
    }
}

fn triple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from)))
}

fn wrong(problem: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

fn some(separator: &str) -> Result<(), Error> {
    if separator.is_empty() { Err(wrong("empty separator")) } else { Ok(()) }
}

/// Python's `str.isspace` of one character; Unicode's separators of files and records are not White_Space to Rust.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

fn split(text: &str, args: &[Value], from_the_right: bool) -> Result<Value, Error> {
    let (separator, most, options): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(options.get::<Option<&str>>("sep")?);
    let most = most.or(options.get("maxsplit")?);
    options.assert_all_used()?;
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX).saturating_add(1);
    let mut parts: Vec<&str> = match (separator, from_the_right) {
        (Some(separator), false) => some(separator).map(|()| text.splitn(most, separator).collect())?,
        (Some(separator), true) => some(separator).map(|()| text.rsplitn(most, separator).collect())?,
        (None, false) => words(text, most, |text| text.split_once(is_space), |text| text.trim_start_matches(is_space)),
        (None, true) => words(
            text,
            most,
            |text| text.rsplit_once(is_space).map(|(before, word)| (word, before)),
            |text| text.trim_end_matches(is_space),
        ),
    };
    if from_the_right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words between any white space, at most so many; the last one is all the rest. `next` splits off one word, `trim` what
/// stands before one.
fn words<'a>(
    text: &'a str,
    most: usize,
    next: impl Fn(&'a str) -> Option<(&'a str, &'a str)>,
    trim: impl Fn(&'a str) -> &'a str,
) -> Vec<&'a str> {
    let mut words = Vec::new();
    let mut rest = trim(text);
    while !rest.is_empty() && words.len() + 1 < most {
        let (word, behind) = next(rest).unwrap_or((rest, ""));
        words.push(word);
        rest = trim(behind);
    }
    if !rest.is_empty() {
        words.push(rest);
    }
    words
}

/// Python's lines: more characters end one than `\n`.
pub(super) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    while let Some((at, end)) = rest.char_indices().find(|(_, c)| ends.contains(c)) {
        let behind = at + if rest[at..].starts_with("\r\n") { 2 } else { end.len_utf8() };
        lines.push(&rest[..if keep { behind } else { at }]);
        rest = &rest[behind..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// `replace` with its count by name; all else is minijinja's.
fn replace(state: &State, text: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let (old, new, count, options): (&str, &str, Option<i64>, Kwargs) = from_args(args)?;
    let count = count.or(options.get("count")?).unwrap_or(-1);
    options.assert_all_used()?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let matches = count.min(text.len() / old.len().max(1) + 1);
    charge(state, matches.saturating_mul(new.len().saturating_sub(old.len())))?;
    Ok(Some(Value::from(text.replacen(old, new, count))))
}

/// A capital where a letter follows none, as `str.title`; the filter of that name looks for spaces.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        inside = character.is_alphabetic();
    }
    out
}

fn swap(text: &str) -> String {
    let swapped =
        |c: char| -> String { if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() } };
    text.chars().map(swapped).collect()
}

/// The text in a field of so many characters, as the method of that name.
pub(super) fn pad(state: &State, text: &str, width: usize, fill: char, method: &str) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    charge(state, missing.saturating_mul(fill.len_utf8()))?;
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // Python's: the odd one goes left when the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let run = |n: usize| std::iter::repeat_n(fill, n);
    Ok(run(left).chain(text.chars()).chain(run(missing - left)).collect())
}

/// Pays for bytes before they are made: what an operation made is otherwise counted only afterwards.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / 64)
}
