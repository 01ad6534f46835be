//! The `tojson` filter: Python's `json.dumps`, which escapes no HTML.

use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::environment::bounded;

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as transformers' filter.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(refuse("an undefined value cannot be written as JSON"));
    }
    bounded(value)?;
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<(String, String)> = options.get::<Option<Value>>("separators")?.map(pair).transpose()?;
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    options.assert_all_used()?;
    let (item, key) = separators.unwrap_or((if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()));
    // A wider indent is no template's wish, and would cost memory that no fuel counts.
    let style = PythonStyle { item, key, indent: indent.map(|width| width.min(16)), depth: 0, empty: false };
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, style);
    let written = if sorted {
        serde_json::to_value(value).map(sort).and_then(|value| value.serialize(&mut serializer))
    } else {
        value.serialize(&mut serializer)
    };
    written.map_err(|e| refuse("cannot be written as JSON").with_source(e))?;
    let text = String::from_utf8(out).map_err(|e| refuse("JSON is not UTF-8").with_source(e))?;
    Ok(if ascii { escape(&text) } else { text })
}

fn refuse(problem: &'static str) -> Error {
    Error::new(ErrorKind::BadSerialization, problem)
}

fn pair(separators: Value) -> Result<(String, String), Error> {
    let texts: Vec<String> = separators.try_iter()?.filter_map(|one| one.as_str().map(str::to_owned)).collect();
    <[String; 2]>::try_from(texts).map(|[item, key]| (item, key)).map_err(|_| refuse("separators: expected two texts"))
}

/// With the keys of all objects in order.
fn sort(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sort(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            serde_json::Value::Object(entries.into_iter().collect())
        }
        serde_json::Value::Array(items) => items.into_iter().map(sort).collect(),
        other => other,
    }
}

/// Everything beyond ASCII as `\u` escapes. In JSON that only stands in texts.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// JSON as Python writes it: by default a space behind each comma and colon, on one line.
struct PythonStyle {
    item: String,
    key: String,
    indent: Option<usize>,
    depth: usize,
    /// Whether the array or object that was begun last has nothing in it so far.
    empty: bool,
}

impl PythonStyle {
    fn begin<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn end<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }

    fn next<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.empty = false;
        self.line(writer)
    }

    fn line<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(width) => writer.write_all(format!("\n{}", " ".repeat(width * self.depth)).as_bytes()),
            None => Ok(()),
        }
    }
}

impl Formatter for PythonStyle {
    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn end_array_value<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }
}

/// Python's `repr` of a finite number: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent @ (16.. | ..=-5)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value:?}"),
    }
}
