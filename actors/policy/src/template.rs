//! Chat templates: the messages of a chat to the text the model was trained on.
//!
//! Contract: what `tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **variables)` of
//! transformers gives, whose environment is mimicked (`transformers/utils/chat_template_utils.py`): blocks trimmed, loop
//! controls, `{% generation %}`, Python's methods, `raise_exception`, `strftime_now`, a `tojson` that escapes no HTML, and
//! no escaping of the output. tests/golden/templates.json holds what transformers makes of every construct.
//!
//! Limits: a template comes with a model, so it is not trusted: it sees nothing but the chat and the variables, its length,
//! its run time and its memory are bounded, and values within values have a depth. No tools and no documents of our own (a
//! variable may give them). `strftime_now` is the day on which the template was loaded, at midnight UTC, or a given one: a
//! prompt that changed while a run goes on could not be sampled again. Keys of objects within a message are in
//! alphabetical order. No `%` between a text and its arguments.

mod date;
mod environment;
mod json;
mod methods;

use std::collections::BTreeMap;

use counterpoint_rollout::ChatMessage;
use minijinja::value::Value;
use minijinja::{Environment, Error, context};
use serde::Deserialize;

use crate::{ChatOptions, PolicyError};

pub(crate) use date::{midnight, parse_day as day};

/// Longest template: ten times the longest that is known.
const MOST_SOURCE: usize = 256 << 10;

/// Stack of a rendering and of a compilation. It is only touched as deep as values and expressions are nested, which the
/// length of the template and the fuel bound: they are walked and dropped by recursion.
const STACK: usize = 256 << 20;

/// Names under which a model's reasoning is given in messages; transformers fills the first two from any of them.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A compiled template. Rendering it needs no exclusive access.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and so on, and the user's: variables of every chat.
    variables: Value,
    /// For chats that begin without one.
    system_prompt: Option<String>,
}

impl ChatTemplate {
    /// Compiles a template, or says what is wrong with it.
    pub(crate) fn new(
        source: &str,
        special_tokens: BTreeMap<String, String>,
        options: &ChatOptions,
    ) -> Result<Self, String> {
        if source.len() > MOST_SOURCE {
            return Err(format!("it has {} bytes, at most {MOST_SOURCE} are read", source.len()));
        }
        let day = options.day()?;
        let environment = on_a_deep_stack(|| environment::new(source, day))?;
        let special_tokens = special_tokens.into_iter().map(|(name, text)| (name, Value::from(text)));
        let given = options.variables.iter().map(|(name, value)| (name.clone(), of_json(value)));
        let variables = Value::from_pairs(special_tokens.chain(given));
        Ok(Self { environment, variables, system_prompt: options.system_prompt.clone() })
    }

    /// The text of a chat, up to where the model's answer begins.
    pub(crate) fn render(&self, messages: &[ChatMessage]) -> Result<String, PolicyError> {
        let has_one = messages.first().is_some_and(|first| matches!(first.role.as_str(), "system" | "developer"));
        let system = self.system_prompt.as_ref().filter(|_| !has_one).map(|text| ChatMessage::new("system", text));
        self.render_values(system.iter().chain(messages).map(fields).map(as_transformers_does).collect())
    }

    fn render_values(&self, messages: Value) -> Result<String, PolicyError> {
        let chat = context! { messages, add_generation_prompt => true };
        let given = context! { tools => (), documents => () };
        let variables = context! { ..chat, ..self.variables.clone(), ..given };
        let render =
            || self.environment.get_template(environment::NAME).and_then(|template| template.render(variables));
        on_a_deep_stack(render).map_err(PolicyError::Template)
    }
}

/// What the template engine makes, or its error on one line.
fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("chat-template".to_owned()).stack_size(STACK);
        let working = thread.spawn_scoped(scope, work).map_err(|e| format!("no thread for it: {e}"))?;
        // A panic of the template engine is one error more that a template can cause.
        working.join().map_err(|_| "the template engine panicked".to_owned())?.map_err(|e| explain(&e))
    })
}

fn of_json(json: &serde_json::Value) -> Value {
    // Cannot fail: a template's value can be whatever JSON can be.
    Value::deserialize(json).unwrap_or_default()
}

fn fields(message: &ChatMessage) -> Vec<(String, Value)> {
    let own = [("role", message.role.as_str()), ("content", message.content.as_str())];
    let other = message.fields.iter().map(|(name, value)| (name.clone(), of_json(value)));
    own.map(|(name, text)| (name.to_owned(), Value::from(text))).into_iter().chain(other).collect()
}

/// A message as transformers hands it to templates: without fields that are null, and with reasoning under both names that
/// templates read.
fn as_transformers_does(mut fields: Vec<(String, Value)>) -> Value {
    fields.retain(|(_, value)| !value.is_none());
    let find = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    if let Some(reasoning) = REASONING.into_iter().find_map(find) {
        if find("thinking").is_none() {
            fields.insert(0, ("thinking".to_owned(), reasoning.clone()));
        }
        match fields.iter_mut().find(|(name, _)| name == "reasoning_content") {
            Some((_, value)) => *value = reasoning,
            None => fields.push(("reasoning_content".to_owned(), reasoning)),
        }
    }
    Value::from_pairs(fields)
}

/// The error on one line: what, where, and what caused it.
fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
