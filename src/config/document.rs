//! A config file as TOML values that remember where they came from: a line of the file or the command line.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    CommandLine,
}

/// The file and the overrides, merged, before any key is known to be right.
#[derive(Debug)]
pub(super) struct Document {
    file: String,
    table: Table,
    /// By dotted key, in the notation of `serde_path_to_error` (`a.b[0]`).
    origins: HashMap<String, Origin>,
}

impl Document {
    /// Parses a file's text; every syntax error becomes one message with file, line and column.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Vec<String>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (spanned, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(errors.iter().map(|e| syntax_message(file, text, e.message(), e.span())).collect());
        }
        let table = text.parse::<Table>().map_err(|e| vec![syntax_message(file, text, e.message(), e.span())])?;
        let mut origins = HashMap::new();
        collect_lines("", spanned.get_ref(), text, &mut origins);
        Ok(Self { file: file.to_owned(), table, origins })
    }

    /// Sets one value from the command line. `is_text` says whether a key must be a text: its value is then taken as typed.
    pub(super) fn set(&mut self, argument: &str, is_text: impl Fn(&str) -> bool) -> Result<(), String> {
        let shape =
            || format!("command line: {argument:?} is no setting: write KEY=VALUE with a dotted key, as run.seed=1");
        let (key, raw) = argument.split_once('=').ok_or_else(shape)?;
        let (key, raw) = (key.trim(), raw.trim());
        let segments: Vec<&str> = key.split('.').map(str::trim).collect();
        let (last, sections) = segments.split_last().ok_or_else(shape)?;
        if segments.iter().any(|s| s.is_empty()) || sections.is_empty() {
            return Err(shape());
        }
        let mut table = &mut self.table;
        for (depth, section) in sections.iter().enumerate() {
            let entry = table.entry((*section).to_owned()).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().ok_or_else(|| {
                format!("command line: {key}: {} is a value and has no keys of its own", segments[..=depth].join("."))
            })?;
        }
        let value = override_value(raw, is_text(key));
        table.insert((*last).to_owned(), value);
        self.origins.retain(|path, _| !(path.starts_with(key) && path[key.len()..].starts_with(['.', '['])));
        self.origins.insert(key.to_owned(), Origin::CommandLine);
        Ok(())
    }

    /// The merged values.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Messages of (key, text) with their places, in the order of the file, those of the command line last.
    pub(super) fn located(&self, mut messages: Vec<(String, String)>) -> Vec<String> {
        messages.sort_by_key(|(key, _)| match self.origin(key) {
            None => 0,
            Some(Origin::Line(line)) => line,
            Some(Origin::CommandLine) => usize::MAX,
        });
        messages.into_iter().map(|(key, text)| format!("{}{text}", self.place(&key))).collect()
    }

    /// "FILE:LINE: " or "command line: " of the key or of its nearest ancestor that was written down.
    pub(super) fn place(&self, key: &str) -> String {
        match self.origin(key) {
            Some(Origin::Line(line)) => format!("{}:{line}: ", self.file),
            Some(Origin::CommandLine) => "command line: ".to_owned(),
            None => format!("{}: ", self.file),
        }
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        let mut path = key;
        loop {
            match self.origins.get(path) {
                Some(origin) => return Some(*origin),
                None => path = &path[..path.rfind(['.', '['])?],
            }
        }
    }
}

/// A value from the command line: TOML where it parses as such and the key does not ask for a text, else the text itself.
fn override_value(raw: &str, is_text: bool) -> Value {
    match format!("value = {raw}").parse::<Table>().ok().and_then(|mut t| t.remove("value")) {
        Some(value @ Value::String(_)) => value,
        Some(value) if !is_text => value,
        _ => Value::String(raw.to_owned()),
    }
}

/// Joins a dotted key.
pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn collect_lines(prefix: &str, table: &DeTable<'_>, text: &str, out: &mut HashMap<String, Origin>) {
    for (key, value) in table {
        let path = join(prefix, key.get_ref());
        out.insert(path.clone(), Origin::Line(line_of(text, key.span().start)));
        collect_value(&path, value, text, out);
    }
}

fn collect_value(path: &str, value: &Spanned<DeValue<'_>>, text: &str, out: &mut HashMap<String, Origin>) {
    match value.get_ref() {
        DeValue::Table(inner) => collect_lines(path, inner, text, out),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                out.insert(path.clone(), Origin::Line(line_of(text, item.span().start)));
                collect_value(&path, item, text, out);
            }
        }
        _ => {}
    }
}

/// The line of a byte offset, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count()
}

fn syntax_message(file: &str, text: &str, message: &str, span: Option<Range<usize>>) -> String {
    let message = message.trim().replace('\n', ", ");
    let Some(span) = span else { return format!("{file}: {message}") };
    let start = text.floor_char_boundary(span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let column = 1 + text[line_start..start].chars().count();
    format!("{file}:{}:{column}: {message}", line_of(text, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[run]\nseed = 3\n\n[verifier]\nargs = [\n  \"a\",\n  \"b\",\n]\n";

    #[test]
    fn every_value_remembers_its_line() {
        let document = Document::parse("a.toml", TEXT).unwrap();
        assert_eq!(document.place("run.seed"), "a.toml:2: ");
        assert_eq!(document.place("verifier.args[1]"), "a.toml:7: ");
        assert_eq!(document.place("run.dir"), "a.toml:1: ", "a key that is not written down is in its section");
        assert_eq!(document.place("data.train"), "a.toml: ");
    }

    #[test]
    fn an_override_wins_and_names_the_command_line() {
        let mut document = Document::parse("a.toml", TEXT).unwrap();
        document.set("run.seed=7", |_| false).unwrap();
        document.set("run.dir = runs/x", |_| true).unwrap();
        document.set("data.id_column=7", |_| true).unwrap();
        document.set("eval.every=[1, 2]", |_| false).unwrap();
        let table = document.table();
        assert_eq!(table["run"]["seed"], Value::Integer(7));
        assert_eq!(table["run"]["dir"], Value::String("runs/x".into()));
        assert_eq!(table["data"]["id_column"], Value::String("7".into()), "a key that asks for a text gets one");
        assert_eq!(table["eval"]["every"].as_array().unwrap().len(), 2);
        assert_eq!(document.place("run.seed"), "command line: ");
    }

    #[test]
    fn what_is_no_override_is_refused() {
        let mut document = Document::parse("a.toml", TEXT).unwrap();
        for argument in ["run.seed", "=1", "run.=1", "seed=1"] {
            assert!(document.set(argument, |_| false).unwrap_err().contains("write KEY=VALUE"), "{argument}");
        }
        let error = document.set("run.seed.x=1", |_| false).unwrap_err();
        assert_eq!(error, "command line: run.seed.x: run.seed is a value and has no keys of its own");
    }

    #[test]
    fn a_syntax_error_names_line_and_column() {
        let errors = Document::parse("a.toml", "[run]\nseed = \n").unwrap_err();
        assert!(errors[0].starts_with("a.toml:2:8: "), "{errors:?}");
        let twice = Document::parse("a.toml", "[run]\nseed = 1\nseed = 2\n").unwrap_err();
        assert!(twice[0].starts_with("a.toml:3:1: duplicate key"), "{twice:?}");
    }
}
