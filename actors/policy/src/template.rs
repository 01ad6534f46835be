//! Chat templates: the messages of a chat to the text the model was trained on.
//!
//! Contract: what `tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)` of transformers
//! gives, whose environment is mimicked (`transformers/utils/chat_template_utils.py`): blocks trimmed, Python's string
//! methods, `raise_exception`, a `tojson` that does not escape HTML, and no escaping of the output.
//!
//! Limits: a template comes with a model, so it is not trusted: it sees nothing but the chat and its run time and memory are
//! bounded. No tools, no documents, no `strftime_now` (a prompt that changes with the date cannot be sampled again).

use std::collections::BTreeMap;
use std::io;

use counterpoint_rollout::ChatMessage;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::PolicyError;

/// Steps of one rendering: hundreds of messages, and about 64 MB at most (minijinja counts 64 bytes a step).
const FUEL: u64 = 1_000_000;

/// A compiled template. Rendering it needs no exclusive access.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and so on: variables of every template.
    special_tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    pub(crate) fn new(source: String, special_tokens: BTreeMap<String, String>) -> Result<Self, PolicyError> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| explain(&e))?,
        );
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", tojson);
        environment.add_template_owned("chat", source).map_err(|e| explain(&e))?;
        Ok(Self { environment, special_tokens })
    }

    /// The text of a chat, up to where the model's answer begins.
    pub(crate) fn render(&self, messages: &[ChatMessage]) -> Result<String, PolicyError> {
        let message = |m: &ChatMessage| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]);
        let messages: Value = messages.iter().map(message).collect();
        let chat = context! { messages, add_generation_prompt => true, tools => (), documents => () };
        let special_tokens = self.special_tokens.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let variables = context! { ..chat, ..Value::from_pairs(special_tokens) };
        self.environment.get_template("chat").and_then(|t| t.render(variables)).map_err(|e| explain(&e))
    }
}

/// The error on one line: what, where, and what caused it.
fn explain(error: &Error) -> PolicyError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    PolicyError::Template(text)
}

/// What templates call to refuse a chat, e.g. one whose roles do not alternate.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("the template refuses this chat: {message}")))
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    // Templates for Python pass it; not escaping is all that we do.
    let _ = options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |e| Error::new(ErrorKind::BadSerialization, "cannot be written as JSON").with_source(e);
    let mut out = Vec::new();
    match indent {
        // More is no template's wish, and would cost memory that no fuel counts.
        Some(indent) => {
            let spaces = " ".repeat(indent.min(16));
            let style = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, style)).map_err(failed)?;
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, PythonStyle)).map_err(failed)?,
    }
    String::from_utf8(out).map_err(|e| Error::new(ErrorKind::BadSerialization, "JSON is not UTF-8").with_source(e))
}

/// JSON as Python writes it on one line: a space behind each comma and colon.
struct PythonStyle;

impl Formatter for PythonStyle {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
