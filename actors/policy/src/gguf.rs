//! GGUF files in: [`convert`] makes a Hugging Face directory of one.
//!
//! Contract: models of the llama, qwen2 and qwen3 architectures with byte-level BPE tokenizers, in the number formats of
//! `gguf/format.rs`. The weights are what llama.cpp's Python package dequantises, in the rows' order of Hugging Face; the
//! directory has config.json, generation_config.json, the weights, tokenizer.json, tokenizer_config.json and, where the file
//! has one, chat_template.jinja. What is not understood and would change results is refused by name.
//!
//! Limits: the file comes from anywhere, so nothing in it is believed: every length and offset is checked against the file
//! before it is used, and memory stays a small multiple of the metadata's size. The file is memory mapped and must not shrink
//! meanwhile. One file: parts of a split one must be joined first.
//!
//! Recovery: the directory is written under another name beside its own, synced and renamed: it is complete or absent.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::json;

use crate::PolicyError;

mod cursor;
mod error;
#[cfg(test)]
mod fixture;
mod format;
mod metadata;
mod model;
mod reader;
mod rope;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;
mod write;

pub use write::WeightFormat;

use error::{Refusal, invalid};
use model::Model;
use reader::Gguf;
use tensors::Planned;
use tokenizer::TokenizerFiles;
use write::{SHARD_BYTES, write_json, write_text, write_weights};

/// From this many parameters on, weights are written in two bytes each unless asked otherwise: float32 keeps dequantised
/// values exactly, which a large model's memory does not repay.
const LARGE: u64 = 1_000_000_000;

/// What was made of a file.
#[derive(Clone, Debug)]
pub struct Converted {
    /// model_type of config.json.
    pub architecture: &'static str,
    /// Number of parameters.
    pub parameters: u64,
    /// How they were written.
    pub format: WeightFormat,
    /// Tokens of the vocabulary.
    pub tokens: usize,
    /// Tokens that end an answer.
    pub eos_tokens: Vec<u32>,
    /// Whether chats can be rendered.
    pub chat_template: bool,
    /// What is worth knowing about the file: one sentence each.
    pub notes: Vec<String>,
}

/// Converts the GGUF file at `path` to a Hugging Face directory at `out`, which must not exist. Without a `format`, models
/// under a billion parameters are written in float32 and larger ones in bfloat16.
pub fn convert(path: &Path, out: &Path, format: Option<WeightFormat>) -> Result<Converted, PolicyError> {
    let file = File::open(path).map_err(io(path))?;
    if !file.metadata().map_err(io(path))?.is_file() {
        return Err(Refusal::Invalid("a GGUF file is wanted, and this is none".to_owned()).of(path));
    }
    // SAFETY: the map is read only. Should another process shrink the file while we read, the operating system ends this
    // process with SIGBUS: that files do not shrink is part of the module's contract.
    let bytes = unsafe { Mmap::map(&file) }.map_err(io(path))?;
    let content = Content::read(&bytes).map_err(|refusal| refusal.of(path))?;
    let format = format.unwrap_or(content.usual_format());
    content.write(out, format, SHARD_BYTES)?;
    Ok(content.summary(format))
}

/// All that a directory is made of.
struct Content<'a> {
    model: Model,
    tensors: Vec<Planned<'a>>,
    tokenizer: TokenizerFiles,
    notes: Vec<String>,
}

impl<'a> Content<'a> {
    /// Reads and checks everything but the weights' values.
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let file = Gguf::parse(bytes)?;
        let mut notes = Vec::new();
        let model = Model::read(&file, &mut notes)?;
        let tensors = tensors::plan(&model, &file)?;
        let tokenizer = tokenizer::build(&file.metadata, model.context, &mut notes)?;
        if tokenizer.tokens as u64 > model.vocab {
            let (tokens, rows) = (tokenizer.tokens, model.vocab);
            return Err(invalid(format!(
                "tokenizer.ggml.tokens has {tokens} entries, but token_embd.weight {rows} rows"
            )));
        }
        // The library's own reader is the judge of what we made for it: a merge of tokens that do not exist, say.
        tokenizers::Tokenizer::from_bytes(tokenizer.tokenizer.to_string()).map_err(|e| {
            let said = e.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            invalid(format!("its tokenizer (metadata keys tokenizer.ggml.*) does not work: {said}"))
        })?;
        Ok(Self { model, tensors, tokenizer, notes })
    }

    fn parameters(&self) -> u64 {
        self.tensors.iter().map(Planned::elements).sum()
    }

    fn usual_format(&self) -> WeightFormat {
        if self.parameters() < LARGE { WeightFormat::Float32 } else { WeightFormat::Bfloat16 }
    }

    /// Writes the directory beside its place, and renames it when all of it is on the disk.
    fn write(&self, out: &Path, format: WeightFormat, shard_bytes: u64) -> Result<(), PolicyError> {
        let taken = || PolicyError::File {
            path: out.to_owned(),
            problem: "is there already: name a directory that does not exist yet".to_owned(),
        };
        if out.exists() {
            return Err(taken());
        }
        let (parent, partial) = beside(out)?;
        fs::create_dir_all(&parent).map_err(io(&parent))?;
        fs::create_dir(&partial).map_err(io(&partial))?;
        let write = || {
            self.write_files(&partial, format, shard_bytes)?;
            File::open(&partial).and_then(|dir| dir.sync_all()).map_err(io(&partial))?;
            // Linux renames over an empty directory that came up meanwhile, and over nothing else.
            fs::rename(&partial, out).map_err(io(out))?;
            File::open(&parent).and_then(|dir| dir.sync_all()).map_err(io(&parent))
        };
        write().inspect_err(|_| {
            // The directory is ours and incomplete. If it cannot be removed either, the first error still says why.
            let _ = fs::remove_dir_all(&partial);
        })
    }

    fn write_files(&self, dir: &Path, format: WeightFormat, shard_bytes: u64) -> Result<(), PolicyError> {
        let ids = &self.tokenizer.ids;
        let mut config = self.model.config(format.name());
        config["bos_token_id"] = ids.bos.into();
        config["eos_token_id"] = ids.eos.first().copied().into();
        config["pad_token_id"] = ids.pad.into();
        write_json(&dir.join("config.json"), &config)?;
        let generation = json!({"bos_token_id": ids.bos, "eos_token_id": ids.eos, "pad_token_id": ids.pad});
        write_json(&dir.join("generation_config.json"), &generation)?;
        write_json(&dir.join("tokenizer.json"), &self.tokenizer.tokenizer)?;
        write_json(&dir.join("tokenizer_config.json"), &self.tokenizer.settings)?;
        if let Some(template) = &self.tokenizer.template {
            write_text(&dir.join("chat_template.jinja"), template)?;
        }
        write_weights(dir, &self.tensors, format, shard_bytes)
    }

    fn summary(self, format: WeightFormat) -> Converted {
        Converted {
            architecture: self.model.family.name(),
            parameters: self.parameters(),
            format,
            tokens: self.tokenizer.tokens,
            chat_template: self.tokenizer.template.is_some(),
            eos_tokens: self.tokenizer.ids.eos,
            notes: self.notes,
        }
    }
}

/// The folder that `out` is to lie in, and a name in it for the time of writing.
fn beside(out: &Path) -> Result<(PathBuf, PathBuf), PolicyError> {
    let name = out.file_name().ok_or_else(|| PolicyError::File {
        path: out.to_owned(),
        problem: "names no directory that could be made".to_owned(),
    })?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
    Ok((parent.to_owned(), parent.join(partial)))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PolicyError {
    let path = path.to_owned();
    |source| PolicyError::Io { path, source }
}
