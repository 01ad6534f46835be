//! The environment of a template: jinja2's as transformers sets it up, where minijinja's differs.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State};

use super::{date, json, methods};

/// The name under which an environment holds its one template.
pub(super) const NAME: &str = "chat";

/// Steps of one rendering: hundreds of messages, and about 64 MB at most (minijinja counts 64 bytes a step).
const FUEL: u64 = 1_000_000;

/// Values within a value that is written out, and how deep they lie at most. Writing goes by recursion, and a template can
/// make a list of itself in itself, and so on, in few steps.
const MOST_VALUES: usize = 100_000;
const MOST_DEPTH: usize = 100;

/// An environment with one template. `day`: the second at which the day of `strftime_now` begins.
pub(super) fn new(source: &str, day: i64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| {
        bounded(value)?;
        minijinja::escape_formatter(out, state, value)
    });
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |format: String| {
        date::strftime(&format, day)
            .ok_or_else(|| refuse(format!("strftime_now: the format {format:?} has a directive that is not supported")))
    });
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("center", center);
    environment.add_filter("indent", indent);
    environment.add_filter("trim", trim);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordcount", wordcount);
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
    });
    // Not none, as minijinja has it: templates ask this of `tools`.
    environment.add_test("iterable", |value: &Value| {
        let more = value.kind() == ValueKind::Iterable;
        more || matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    environment.add_template_owned(NAME, without_generation(&source))?;
    Ok(environment)
}

fn refuse(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

/// What templates call to refuse a chat, e.g. one whose roles do not alternate.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(refuse(format!("the template refuses this chat: {message}")))
}

/// Refuses a value that is too large or too deep to be written out.
pub(super) fn bounded(value: &Value) -> Result<(), Error> {
    walk(value, MOST_DEPTH, &mut MOST_VALUES.clone())
}

fn walk(value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Plain) {
        return Ok(());
    }
    let Ok(items) = value.try_iter() else { return Ok(()) };
    let keyed = matches!(value.kind(), ValueKind::Map | ValueKind::Plain);
    for item in items {
        if depth == 0 || *left == 0 {
            return Err(refuse("a value has too many values within it, or too deep ones".to_owned()));
        }
        *left -= 1;
        let inner = if keyed { value.get_item(&item)? } else { item };
        walk(&inner, depth - 1, left)?;
    }
    Ok(())
}

/// `{% generation %}` marks the model's own part of a text for masks that nobody here asks for; what it leaves of that is
/// a scope. minijinja does not know it, and knows `{% with %}`.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let name = tag.trim_start_matches(['-', '+']).trim_start();
        let marks = &tag[..tag.len() - name.len()];
        let renamed = [("generation", "with"), ("endgeneration", "endwith")].into_iter().find_map(|(theirs, ours)| {
            let behind = name.strip_prefix(theirs)?;
            let ends = behind.trim_start().trim_start_matches(['-', '+']).starts_with("%}");
            ends.then_some((ours, behind))
        });
        rest = match renamed {
            Some((ours, behind)) => {
                out.push_str(marks);
                out.push_str(ours);
                behind
            }
            None => tag,
        };
    }
    out + rest
}

/// `default(value, default_value='', boolean=False)`.
fn default(value: &Value, default: Option<Value>, boolean: Option<bool>, options: Kwargs) -> Result<Value, Error> {
    let default = default.or(options.get("default_value")?).unwrap_or_else(|| Value::from(""));
    let boolean = boolean.or(options.get("boolean")?).unwrap_or(false);
    options.assert_all_used()?;
    Ok(if value.is_undefined() || (boolean && !value.is_true()) { default } else { value.clone() })
}

/// `int(value, default=0, base=10)`: what is no number is the default.
fn int(
    state: &State,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    options: Kwargs,
) -> Result<Value, Error> {
    let default = default.or(options.get("default")?).unwrap_or_else(|| Value::from(0));
    let base = base.or(options.get("base")?);
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "int of an undefined value"));
    }
    let stripped = value.as_str().map(|text| Value::from(text.trim_matches(methods::is_space)));
    let none = Kwargs::from_iter(std::iter::empty::<(&str, Value)>());
    let number = minijinja::filters::int(state, stripped.as_ref().unwrap_or(value), Some(default.clone()), base, none);
    Ok(number.unwrap_or(default))
}

/// `float(value, default=0.0)`: what is no number is the default.
fn float(state: &State, value: &Value, default: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let default = default.or(options.get("default")?).unwrap_or_else(|| Value::from(0.0));
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "float of an undefined value"));
    }
    let none = Kwargs::from_iter(std::iter::empty::<(&str, Value)>());
    Ok(minijinja::filters::float(state, value, Some(default.clone()), none).unwrap_or(default))
}

/// `indent(value, width=4, first=False, blank=False)`; the width may be the text that is put in front.
fn indent(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (width, first, blank, options): (Option<Value>, Option<bool>, Option<bool>, Kwargs) = from_args(&args)?;
    let width = width.or(options.get("width")?).unwrap_or_else(|| Value::from(4));
    let first = first.or(options.get("first")?).unwrap_or(false);
    let blank = blank.or(options.get("blank")?).unwrap_or(false);
    options.assert_all_used()?;
    let margin = match width.as_str() {
        Some(text) => text.to_owned(),
        None => methods::pad(state, "", usize::try_from(width)?, ' ', "ljust")?,
    };
    let text = text(value) + "\n";
    let lines = methods::lines(&text, false);
    methods::charge(state, lines.len().saturating_mul(margin.len()))?;
    let indented = lines.iter().enumerate().map(|(number, line)| match number {
        0 if first => format!("{margin}{line}"),
        0 => (*line).to_owned(),
        _ if blank || !line.is_empty() => format!("{margin}{line}"),
        _ => String::new(),
    });
    Ok(indented.collect::<Vec<_>>().join("\n"))
}

/// `trim(value, chars=None)`, with Python's white space.
fn trim(value: &Value, characters: Option<String>, options: Kwargs) -> Result<String, Error> {
    let characters = characters.or(options.get("chars")?);
    options.assert_all_used()?;
    let text = text(value);
    Ok(match characters {
        Some(these) => text.trim_matches(|c| these.contains(c)).to_owned(),
        None => text.trim_matches(methods::is_space).to_owned(),
    })
}

/// `truncate(value, length=255, killwords=False, end='...', leeway=5)`.
fn truncate(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    type Given = (Option<usize>, Option<bool>, Option<String>, Option<usize>, Kwargs);
    let (length, kill, end, leeway, options): Given = from_args(&args)?;
    let length = length.or(options.get("length")?).unwrap_or(255);
    let kill = kill.or(options.get("killwords")?).unwrap_or(false);
    let end = end.or(options.get("end")?).unwrap_or_else(|| "...".to_owned());
    let leeway = leeway.or(options.get("leeway")?).unwrap_or(5);
    options.assert_all_used()?;
    let text = text(value);
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = if kill { kept.as_str() } else { kept.rsplit_once(' ').map_or(kept.as_str(), |(words, _)| words) };
    Ok(format!("{kept}{end}"))
}

/// `center(value, width=80)`.
fn center(state: &State, value: &Value, width: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let width = width.or(options.get("width")?).unwrap_or(80);
    options.assert_all_used()?;
    methods::pad(state, &text(value), width, ' ', "center")
}

fn wordcount(value: &Value) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text(value).split(|c| !is_part(c)).filter(|word| !word.is_empty()).count()
}

fn text(value: &Value) -> String {
    if value.is_undefined() { String::new() } else { value.to_string() }
}
