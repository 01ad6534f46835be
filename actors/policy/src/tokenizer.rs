//! Text and chats to tokens, and back.
//!
//! Contract: the tokens that transformers gives for the same directory: `tokenizer(text)` for text, and for chats
//! `apply_chat_template(messages, add_generation_prompt=True)`. Read from `tokenizer.json`; special tokens and the template
//! from `tokenizer_config.json` and `chat_template.jinja`.
//!
//! Limits: fast tokenizers only (no `tokenizer.json`, no tokens); truncation and padding named there are ignored, as
//! transformers does.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use counterpoint_rollout::PromptContent;
use serde_json::Value;

use crate::config::token_ids;
use crate::stream::Plan;
use crate::template::ChatTemplate;
use crate::{ChatOptions, ModelConfig, PolicyError, checkpoint, text_file};

/// Why a model that was trained on plain text takes no chats.
const NO_TEMPLATE: &str = "the model has none (neither chat_template.jinja nor chat_template in tokenizer_config.json), so \
                           prompts must be text, not messages";

/// Bytes that are read of a file with a template, of tokenizer.json and of the small files beside it.
const MOST_TEMPLATE: u64 = 1 << 20;
const MOST_TOKENIZER: u64 = 256 << 20;
const MOST_SETTINGS: u64 = 64 << 20;

/// The tokenizer of a model directory. Cloning is cheap; all threads may use it at once.
#[derive(Clone, Debug)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tokenizer: tokenizers::Tokenizer,
    /// Or why chats cannot be encoded: texts still can.
    template: Result<ChatTemplate, String>,
    eos_tokens: Vec<u32>,
    /// How tokens become text one by one.
    plan: Arc<Plan>,
    /// Entries of the model's embedding.
    vocab_size: i64,
}

impl Tokenizer {
    /// Reads the tokenizer of a model directory.
    pub fn from_dir(dir: &Path) -> Result<Self, PolicyError> {
        Self::with_options(dir, &ChatOptions::default())
    }

    /// Reads the tokenizer of a model directory; chats become text as `options` say. An adapter's directory needs the one of
    /// its base beside it, for the model's settings, and for the tokenizer if it holds none itself.
    pub fn with_options(dir: &Path, options: &ChatOptions) -> Result<Self, PolicyError> {
        options.check()?;
        let model = checkpoint::model_dir(dir)?;
        let dir = if dir.join("tokenizer.json").exists() { dir } else { &model };
        let config = ModelConfig::from_dir(&model)?;
        let path = dir.join("tokenizer.json");
        let text = text_file::read(&path, MOST_TOKENIZER)?;
        let tokenizer = guarded(|| {
            let mut tokenizer = tokenizers::Tokenizer::from_bytes(text)?;
            tokenizer.with_truncation(None)?.with_padding(None);
            Ok(tokenizer)
        })
        .map_err(|problem| PolicyError::File { path, problem: format!("not a tokenizer: {problem}") })?;
        let settings = json(&dir.join("tokenizer_config.json"))?;
        let generation = json(&model.join("generation_config.json"))?;
        let special_tokens = special_tokens(&json(&dir.join("special_tokens_map.json"))?, &settings);
        let eos_tokens = eos_tokens(&config, &generation, &special_tokens, &tokenizer);
        let template = template(dir, &settings, special_tokens, options)?;
        let plan = Arc::new(Plan::new(tokenizer.get_decoder()));
        Ok(Self(Arc::new(Inner { tokenizer, template, eos_tokens, plan, vocab_size: config.vocab_size })))
    }

    /// The tokens of a text, with what the tokenizer puts around one by default (a beginning-of-sequence token, say).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, PolicyError> {
        self.tokens(text, true)
    }

    /// The tokens of a text alone: a piece of a sequence, or one that has its special tokens written out.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, PolicyError> {
        self.tokens(text, false)
    }

    /// The tokens of a prompt, up to where the model's answer begins.
    pub fn encode_prompt(&self, prompt: &PromptContent) -> Result<Vec<u32>, PolicyError> {
        match prompt {
            PromptContent::Text(text) => self.encode(text),
            PromptContent::Tokens(tokens) => self.known(tokens.clone()),
            PromptContent::Chat(messages) => {
                let template = self.0.template.as_ref().map_err(|why| PolicyError::Template(why.clone()))?;
                self.encode_plain(&template.render(messages)?)
            }
        }
    }

    /// The text of tokens, with or without special ones. Tokens that end within a character give U+FFFD for it.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String, PolicyError> {
        guarded(|| self.0.tokenizer.decode(tokens, skip_special)).map_err(PolicyError::Tokenizer)
    }

    /// The tokens that end an answer, ascending: all that config.json, generation_config.json and tokenizer_config.json name.
    pub fn eos_tokens(&self) -> &[u32] {
        &self.0.eos_tokens
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.0.plan
    }

    /// A token as the vocabulary writes it; none for one that is not there, or is special and not wanted.
    pub(crate) fn token_text(&self, token: u32, skip_special: bool) -> Option<String> {
        let vocabulary = self.0.tokenizer.get_added_vocabulary();
        let text = self.0.tokenizer.id_to_token(token)?;
        (!skip_special || !vocabulary.is_special_token(&text)).then_some(text)
    }

    fn tokens(&self, text: &str, add_special: bool) -> Result<Vec<u32>, PolicyError> {
        let encoding = guarded(|| self.0.tokenizer.encode_fast(text, add_special)).map_err(PolicyError::Tokenizer)?;
        self.known(encoding.get_ids().to_vec())
    }

    /// The tokens, if the model has all of them.
    fn known(&self, tokens: Vec<u32>) -> Result<Vec<u32>, PolicyError> {
        match tokens.iter().find(|&&token| i64::from(token) >= self.0.vocab_size) {
            None => Ok(tokens),
            Some(token) => {
                let entries = self.0.vocab_size;
                Err(PolicyError::Tokenizer(format!("token {token} is outside the model's vocabulary of {entries}")))
            }
        }
    }
}

/// What the tokenizers library makes, or its error on one line. It panics on some files that it reads (a decoder that strips
/// more than there is, a template of tokens that are not there), so that a panic is an error too: nothing that it was at
/// work on is used afterwards.
pub(crate) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    let line = |error: tokenizers::Error| error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(made) => made.map_err(line),
        Err(_) => Err("the tokenizers library panicked; tokenizer.json asks for what cannot be done".to_owned()),
    }
}

/// A file of text, or none where there is none.
fn optional(path: &Path, most: u64) -> Result<Option<String>, PolicyError> {
    match text_file::read(path, most) {
        Ok(text) => Ok(Some(text)),
        Err(PolicyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(other),
    }
}

/// A JSON file, or null where there is none.
fn json(path: &Path) -> Result<Value, PolicyError> {
    let Some(text) = optional(path, MOST_SETTINGS)? else { return Ok(Value::Null) };
    serde_json::from_str(&text)
        .map_err(|e| PolicyError::File { path: path.to_owned(), problem: format!("not JSON: {e}") })
}

/// The special tokens by name (`eos_token`); a later source wins. A token is written as a string or as an object.
fn special_tokens(map: &Value, settings: &Value) -> BTreeMap<String, String> {
    let named =
        [map, settings].into_iter().filter_map(Value::as_object).flatten().filter(|(key, _)| key.ends_with("_token"));
    let text = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
    named.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

fn eos_tokens(
    config: &ModelConfig,
    generation: &Value,
    special_tokens: &BTreeMap<String, String>,
    tokenizer: &tokenizers::Tokenizer,
) -> Vec<u32> {
    let mut all: BTreeSet<u32> = config.eos_tokens.iter().copied().collect();
    all.extend(generation.get("eos_token_id").map(token_ids).unwrap_or_default());
    all.extend(special_tokens.get("eos_token").and_then(|text| tokenizer.token_to_id(text)));
    all.into_iter().collect()
}

/// The template that chats go through, or why none can. One that the user names must be right; the model's own need not,
/// since the prompts may be texts.
fn template(
    dir: &Path,
    settings: &Value,
    special_tokens: BTreeMap<String, String>,
    options: &ChatOptions,
) -> Result<Result<ChatTemplate, String>, PolicyError> {
    if let Some(path) = &options.template {
        let source = text_file::read(path, MOST_TEMPLATE)?;
        let template = ChatTemplate::new(&source, special_tokens, options);
        return template.map(Ok).map_err(|problem| PolicyError::File { path: path.clone(), problem });
    }
    let source = template_source(dir, settings)?.ok_or_else(|| NO_TEMPLATE.to_owned());
    Ok(source.and_then(|source| ChatTemplate::new(&source, special_tokens, options)))
}

/// The chat template: its own file wins, as in transformers, over tokenizer_config.json, which holds one or a list of named
/// ones.
fn template_source(dir: &Path, settings: &Value) -> Result<Option<String>, PolicyError> {
    if let Some(source) = optional(&dir.join("chat_template.jinja"), MOST_TEMPLATE)? {
        return Ok(Some(source));
    }
    let source = match settings.get("chat_template") {
        Some(Value::Array(named)) => {
            named.iter().find(|one| one.get("name") == Some(&"default".into())).and_then(|one| one.get("template"))
        }
        other => other,
    };
    Ok(source.and_then(Value::as_str).map(str::to_owned))
}
