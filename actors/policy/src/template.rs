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
    /// Compiles a template, or says what is wrong with it.
    pub(crate) fn new(source: String, special_tokens: BTreeMap<String, String>) -> Result<Self, String> {
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
        self.environment
            .get_template("chat")
            .and_then(|t| t.render(variables))
            .map_err(|e| PolicyError::Template(explain(&e)))
    }
}

/// The error on one line: what, where, and what caused it.
fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, content: &str) -> Result<String, String> {
        let message = ChatMessage { role: "user".to_owned(), content: content.to_owned() };
        let template =
            ChatTemplate::new(source.to_owned(), BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]));
        template.and_then(|t| t.render(&[message]).map_err(|e| e.to_string()))
    }

    #[test]
    fn texts_are_those_of_jinja2() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../tests/data/chat_templates.json")).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let lines: Vec<&str> =
                case["template"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
            let template = ChatTemplate::new(lines.join("\n"), BTreeMap::new()).unwrap();
            for chat in case["chats"].as_array().unwrap() {
                let messages: Vec<ChatMessage> = serde_json::from_value(chat["messages"].clone()).unwrap();
                assert_eq!(template.render(&messages).unwrap(), chat["text"].as_str().unwrap(), "{}", case["name"]);
            }
        }
    }

    #[test]
    fn json_is_written_as_python_does() {
        let text = "<a href=\"x\">'é' & 1</a>\n";
        let json = r#"[{"role": "user", "content": "<a href=\"x\">'é' & 1</a>\n"}]"#;
        assert_eq!(render("{{ messages | tojson }}", text).as_deref(), Ok(json));
        assert_eq!(render("{{ messages | tojson(ensure_ascii=False) }}", text).as_deref(), Ok(json));
        let indented = "{\n  \"role\": \"user\",\n  \"content\": \"1\"\n}";
        assert_eq!(render("{{ messages[0] | tojson(indent=2) }}", "1").as_deref(), Ok(indented));
        assert_eq!(render("{{ [true, none, 1.5, {}] | tojson }}", "").as_deref(), Ok("[true, null, 1.5, {}]"));
    }

    #[test]
    fn nothing_is_escaped_and_what_is_missing_is_empty() {
        let source = "{{ bos_token }}{{ messages[0].content }}{{ unknown }}{{ messages[0].tool_calls }}";
        assert_eq!(render(source, "<b>&'").as_deref(), Ok("<s><b>&'"));
    }

    #[test]
    fn pythons_string_methods_and_loop_controls_work() {
        let source = "{% set ns = namespace(n=0) %}{% for w in messages[0].content.strip().split(',') %}\
                      {% if w.startswith('x') %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}{{ w.upper() }}{% endfor %}{{ ns.n }}";
        assert_eq!(render(source, " a,xb,c ").as_deref(), Ok("AC2"));
    }

    #[test]
    fn an_error_is_one_line_with_its_place() {
        let error = render("{{ raise_exception('no') }}", "").unwrap_err();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("the template refuses this chat: no") && error.contains("chat:1"), "{error}");
    }

    #[test]
    fn a_template_sees_no_files() {
        assert!(render("{% include '/etc/passwd' %}", "").is_err());
    }
}
