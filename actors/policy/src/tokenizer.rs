//! Text and chats to tokens, and back.
//!
//! Contract: the tokens that transformers gives for the same directory: `tokenizer(text)` for text, and for chats
//! `apply_chat_template(messages, add_generation_prompt=True)`. Read from `tokenizer.json`; special tokens and the template
//! from `tokenizer_config.json` and `chat_template.jinja`.
//!
//! Limits: fast tokenizers only (no `tokenizer.json`, no tokens); truncation and padding named there are ignored, as
//! transformers does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use counterpoint_rollout::PromptContent;
use serde_json::Value;

use crate::config::token_ids;
use crate::stream::Plan;
use crate::template::ChatTemplate;
use crate::{ModelConfig, PolicyError};

/// Why a model that was trained on plain text takes no chats.
const NO_TEMPLATE: &str = "the model has none (neither chat_template.jinja nor chat_template in tokenizer_config.json), so \
                           prompts must be text, not messages";

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
        let config = ModelConfig::from_dir(dir)?;
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| PolicyError::Io { path: path.clone(), source })?;
        let failed = |e| PolicyError::File { path: path.clone(), problem: format!("not a tokenizer: {e}") };
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(failed)?;
        tokenizer.with_truncation(None).map_err(failed)?.with_padding(None);
        let settings = json(&dir.join("tokenizer_config.json"))?;
        let generation = json(&dir.join("generation_config.json"))?;
        let special_tokens = special_tokens(&json(&dir.join("special_tokens_map.json"))?, &settings);
        let eos_tokens = eos_tokens(&config, &generation, &special_tokens, &tokenizer);
        let source = template_source(dir, &settings)?.ok_or_else(|| NO_TEMPLATE.to_owned());
        let template = source.and_then(|source| ChatTemplate::new(source, special_tokens));
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
            PromptContent::Chat(messages) => {
                let template = self.0.template.as_ref().map_err(|why| PolicyError::Template(why.clone()))?;
                self.encode_plain(&template.render(messages)?)
            }
        }
    }

    /// The text of tokens, with or without special ones. Tokens that end within a character give U+FFFD for it.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String, PolicyError> {
        self.0.tokenizer.decode(tokens, skip_special).map_err(|e| PolicyError::Tokenizer(e.to_string()))
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
        let failed = |e: tokenizers::Error| PolicyError::Tokenizer(e.to_string());
        let tokens = self.0.tokenizer.encode_fast(text, add_special).map_err(failed)?.get_ids().to_vec();
        match tokens.iter().find(|&&token| i64::from(token) >= self.0.vocab_size) {
            None => Ok(tokens),
            Some(token) => {
                let entries = self.0.vocab_size;
                Err(PolicyError::Tokenizer(format!("token {token} is outside the model's vocabulary of {entries}")))
            }
        }
    }
}

/// A JSON file, or null where there is none.
fn json(path: &Path) -> Result<Value, PolicyError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| PolicyError::File { path: path.to_owned(), problem: format!("not JSON: {e}") }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(source) => Err(PolicyError::Io { path: path.to_owned(), source }),
    }
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

/// The chat template: its own file wins, as in transformers, over tokenizer_config.json, which holds one or a list of named
/// ones.
fn template_source(dir: &Path, settings: &Value) -> Result<Option<String>, PolicyError> {
    let path = dir.join("chat_template.jinja");
    match std::fs::read_to_string(&path) {
        Ok(source) => return Ok(Some(source)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(PolicyError::Io { path, source }),
    }
    let source = match settings.get("chat_template") {
        Some(Value::Array(named)) => {
            named.iter().find(|one| one.get("name") == Some(&"default".into())).and_then(|one| one.get("template"))
        }
        other => other,
    };
    Ok(source.and_then(Value::as_str).map(str::to_owned))
}
