//! The questions that `[data]` names, as the commands want them; reading them is `counterpoint-data`'s.

use std::path::Path;

use counterpoint_policy::{ChatOptions, Tokenizer};
use counterpoint_rollout::PromptContent;

pub use counterpoint_data::{
    Data, DataError, Files, Questions, Report, kind, load_held_out, prompt_content, read_files, scalar,
};

use crate::config::DataConfig;

/// Reads everything; the tokenizer of the model directory, with chats as `chat` says, counts tokens where
/// `data.max_prompt_tokens` asks for it. Without a tokenizer there nothing is left out.
///
/// # Errors
/// See [`counterpoint_data::load`].
pub fn load(config: &DataConfig, model: &Path, chat: &ChatOptions) -> Result<Data, DataError> {
    let tokenizer = tokenizer(config, model, chat)?;
    match &tokenizer {
        Some(tokenizer) => counterpoint_data::load(config, Some(&|content: &PromptContent| count(tokenizer, content))),
        None => counterpoint_data::load(config, None),
    }
}

/// The same, of the held-out questions alone.
///
/// # Errors
/// See [`counterpoint_data::load`].
pub fn load_eval(config: &DataConfig, model: &Path, chat: &ChatOptions) -> Result<Option<Questions>, DataError> {
    let tokenizer = tokenizer(config, model, chat)?;
    let loaded = match &tokenizer {
        Some(tokenizer) => load_held_out(config, Some(&|content: &PromptContent| count(tokenizer, content))),
        None => load_held_out(config, None),
    };
    Ok(loaded?.map(|(questions, _)| questions))
}

fn tokenizer(config: &DataConfig, model: &Path, chat: &ChatOptions) -> Result<Option<Tokenizer>, DataError> {
    if config.max_prompt_tokens.is_none() || !model.join("tokenizer.json").exists() {
        return Ok(None);
    }
    Tokenizer::with_options(model, chat)
        .map(Some)
        .map_err(|e| DataError::Setting(format!("data.max_prompt_tokens: {e}")))
}

fn count(tokenizer: &Tokenizer, content: &PromptContent) -> Result<u64, String> {
    tokenizer.encode_prompt(content).map(|tokens| tokens.len() as u64).map_err(|e| e.to_string())
}
