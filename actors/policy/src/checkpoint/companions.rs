//! What goes with the weights: configuration, tokenizer, chat templates, licence.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{CONFIG, file_error, io};
use crate::PolicyError;

const GENERATION_CONFIG: &str = "generation_config.json";
const TEMPLATES: &str = "additional_chat_templates";

/// Files that are copied as they are, where the source has them: how to tokenize and to chat, and the terms.
const COPIED: [&str; 15] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "tekken.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
];

/// Writes everything but the weights, which will be in the number format of this name.
pub(super) fn write(dir: &Path, source: &Path, format: &str) -> Result<(), PolicyError> {
    let config = write_config(&source.join(CONFIG), &dir.join(CONFIG), format)?;
    let generation = dir.join(GENERATION_CONFIG);
    if !copy(&source.join(GENERATION_CONFIG), &generation)? {
        write_synced(&generation, generation_config(&config).as_bytes())?;
    }
    write_tokenizer(dir, source)
}

/// Writes what says how to tokenize and to chat, and the terms.
pub(super) fn write_tokenizer(dir: &Path, source: &Path) -> Result<(), PolicyError> {
    for name in COPIED {
        copy(&source.join(name), &dir.join(name))?;
    }
    copy_templates(&source.join(TEMPLATES), &dir.join(TEMPLATES))
}

/// Copies config.json, as it is unless it names another number format than the weights have, or none: then rewritten the way
/// transformers writes it (keys sorted, two spaces). Keys that this program does not know stay.
fn write_config(source: &Path, target: &Path, format: &str) -> Result<Value, PolicyError> {
    let mut text = fs::read(source).map_err(io(source))?;
    let mut value: Value = serde_json::from_slice(&text).map_err(|e| file_error(source, format!("not JSON: {e}")))?;
    let mut changed = false;
    // transformers 5 and 4. Without either, 4 and vLLM would take the weights for float32; both read the older key.
    let named = ["dtype", "torch_dtype"].into_iter().filter(|key| value.get(*key).is_some());
    let named: Vec<&str> = named.collect();
    for key in if named.is_empty() { vec!["torch_dtype"] } else { named } {
        if let Some(settings) = value.as_object_mut().filter(|settings| settings.get(key).is_none_or(|n| n != format)) {
            settings.insert(key.to_owned(), format.into());
            changed = true;
        }
    }
    if changed {
        text = format!("{value:#}\n").into_bytes();
    }
    write_synced(target, &text)?;
    Ok(value)
}

/// What transformers derives from config.json for a model that has no generation_config.json.
fn generation_config(config: &Value) -> String {
    let mut settings = Map::from_iter([("_from_model_config".to_owned(), json!(true))]);
    for key in ["bos_token_id", "eos_token_id", "pad_token_id", "transformers_version"] {
        if let Some(value) = config.get(key).filter(|value| !value.is_null()) {
            settings.insert(key.to_owned(), value.clone());
        }
    }
    format!("{:#}\n", Value::Object(settings))
}

/// Whether there was a file to copy.
fn copy(source: &Path, target: &Path) -> Result<bool, PolicyError> {
    if !source.is_file() {
        return Ok(false);
    }
    write_synced(target, &fs::read(source).map_err(io(source))?)?;
    Ok(true)
}

/// The templates that a model has beside its first one.
fn copy_templates(source: &Path, target: &Path) -> Result<(), PolicyError> {
    if !source.is_dir() {
        return Ok(());
    }
    fs::create_dir(target).map_err(io(target))?;
    for entry in fs::read_dir(source).map_err(io(source))? {
        let path = entry.map_err(io(source))?.path();
        if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|e| e == "jinja")) {
            copy(&path, &target.join(name))?;
        }
    }
    sync_dir(target)
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), PolicyError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io(path))
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), PolicyError> {
    File::open(dir).and_then(|opened| opened.sync_all()).map_err(io(dir))
}
