//! The tokenizer that a GGUF file carries, as tokenizer.json and tokenizer_config.json.
//!
//! Contract: the tokens that the model's own Hugging Face tokenizer gives, for byte-level BPE (`tokenizer.ggml.model` is
//! "gpt2") with the pre-tokenizers below. They decide where a text is cut before tokens are merged, and each is written here
//! as the models of that name have it; one that is not known is refused by name, since any other would quietly give tokens
//! that the model has not been trained on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::{Refusal, invalid, quoted, unsupported};
use super::metadata::Metadata;

/// Tokens that end an answer although only one of them is the file's `eos_token_id`: the turn's end of chat models and the
/// text's end of the models they were made of.
const ENDS: [&str; 5] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>"];

/// What is made of the file.
#[derive(Debug)]
pub(super) struct TokenizerFiles {
    /// tokenizer.json.
    pub(super) tokenizer: Value,
    /// tokenizer_config.json.
    pub(super) settings: Value,
    /// chat_template.jinja.
    pub(super) template: Option<String>,
    /// How many tokens there are, unused ones included.
    pub(super) tokens: usize,
    pub(super) ids: SpecialIds,
}

/// Tokens with a purpose.
#[derive(Debug, Default, PartialEq)]
pub(super) struct SpecialIds {
    pub(super) bos: Option<u32>,
    /// The file's own first.
    pub(super) eos: Vec<u32>,
    pub(super) pad: Option<u32>,
    pub(super) unknown: Option<u32>,
}

/// Makes the files, for a model with a context of `context` tokens; remarks go to `notes`.
pub(super) fn build(metadata: &Metadata, context: u64, notes: &mut Vec<String>) -> Result<TokenizerFiles, Refusal> {
    match metadata.text("tokenizer.ggml.model")?.ok_or_else(|| missing("tokenizer.ggml.model"))? {
        "gpt2" => {}
        other => {
            let what = format!("tokenizer.ggml.model = {}", quoted(other));
            return Err(unsupported(what, "\"gpt2\" (byte-level BPE) is: SentencePiece models are not"));
        }
    }
    let pre = Pre::of(metadata.text("tokenizer.ggml.pre")?, notes)?;
    let vocabulary = Vocabulary::read(metadata)?;
    let ids = special_ids(metadata, &vocabulary)?;
    let around = Around::read(metadata, pre, &ids)?;
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": pre.normalizer(),
        "pre_tokenizer": pre.pre_tokenizer(),
        "post_processor": around.post_processor(&vocabulary),
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre == Pre::Llama3,
            "vocab": vocabulary.by_text(),
            "merges": merges(metadata)?,
        },
    });
    let template = metadata.text("tokenizer.chat_template")?.map(str::to_owned);
    Ok(TokenizerFiles {
        tokenizer,
        settings: settings(&vocabulary, &ids, context),
        template,
        tokens: vocabulary.tokens.len(),
        ids,
    })
}

/// tokenizer_config.json.
fn settings(vocabulary: &Vocabulary, ids: &SpecialIds, context: u64) -> Value {
    let mut settings = json!({
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
        "model_max_length": context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    let named = [
        ("bos_token", ids.bos),
        ("eos_token", ids.eos.first().copied()),
        ("pad_token", ids.pad),
        ("unk_token", ids.unknown),
    ];
    for (name, id) in named {
        if let Some(id) = id {
            settings[name] = vocabulary.text(id).into();
        }
    }
    settings
}

fn missing(key: &str) -> Refusal {
    invalid(format!("metadata key {} is missing", quoted(key)))
}

/// How a text is cut before its parts are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pre {
    /// GPT-2: a pattern that the tokenizers library has built in.
    Gpt2,
    /// SmolLM, StarCoder: the same, with every digit alone.
    SmolLm,
    /// Qwen2, 2.5 and 3: a digit alone, case-insensitive contractions, NFC.
    Qwen2,
    /// Llama 3: up to three digits together; words of the vocabulary are taken whole.
    Llama3,
}

/// The pattern of Qwen2 and Llama 3, but for how many digits stand together.
macro_rules! words_of {
    ($digits:literal) => {
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

impl Pre {
    fn of(name: Option<&str>, notes: &mut Vec<String>) -> Result<Self, Refusal> {
        match name {
            Some("gpt-2") => Ok(Self::Gpt2),
            Some("smollm" | "starcoder") => Ok(Self::SmolLm),
            Some("qwen2") => Ok(Self::Qwen2),
            Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Self::Llama3),
            None | Some("default") => {
                notes.push(
                    "the file names no pre-tokenizer (tokenizer.ggml.pre), GPT-2's is taken: tokens may differ \
                            from those that the model was trained on"
                        .to_owned(),
                );
                Ok(Self::Gpt2)
            }
            Some(other) => {
                let what = format!("tokenizer.ggml.pre = {}", quoted(other));
                Err(unsupported(what, "\"smollm\", \"qwen2\", \"llama-bpe\" and \"gpt-2\" are"))
            }
        }
    }

    fn normalizer(self) -> Value {
        if self == Self::Qwen2 { json!({"type": "NFC"}) } else { Value::Null }
    }

    fn pre_tokenizer(self) -> Value {
        let first = match self {
            Self::Gpt2 => return byte_level(true),
            Self::SmolLm => json!({"type": "Digits", "individual_digits": true}),
            Self::Qwen2 => split(words_of!(r"\p{N}")),
            Self::Llama3 => split(words_of!(r"\p{N}{1,3}")),
        };
        json!({"type": "Sequence", "pretokenizers": [first, byte_level(self == Self::SmolLm)]})
    }
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

/// Bytes as letters, and with `use_regex` cut by GPT-2's pattern first.
fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

/// What a token is for, as the file says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    Normal,
    /// Never in the text of an answer; unknown ones too.
    Control,
    /// Found in a text before it is cut.
    UserDefined,
    /// Fills the embedding up; the tokenizer does not have it.
    Unused,
}

struct Vocabulary<'a> {
    tokens: Vec<(&'a str, Purpose)>,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &Metadata<'a>) -> Result<Self, Refusal> {
        let (texts_key, types_key) = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type");
        let texts = metadata.texts(texts_key)?.ok_or_else(|| missing(texts_key))?;
        let types = metadata.integers(types_key)?.ok_or_else(|| missing(types_key))?;
        if u32::try_from(texts.len()).is_err() {
            return Err(invalid(format!("{texts_key} has {} entries, more than ids can number", texts.len())));
        }
        if texts.len() != types.len() {
            return Err(invalid(format!("{types_key} has {} entries and {texts_key} {}", types.len(), texts.len())));
        }
        let token = |(id, (&text, kind)): (usize, (&&'a str, i128))| {
            let purpose = match kind {
                // Bytes by number occur in SentencePiece models only; here one is a text like another.
                1 | 6 => Purpose::Normal,
                2 | 3 => Purpose::Control,
                4 => Purpose::UserDefined,
                5 => Purpose::Unused,
                other => return Err(invalid(format!("{types_key}[{id}] is {other}, allowed are 1 to 6"))),
            };
            Ok((text, purpose))
        };
        let tokens: Vec<(&str, Purpose)> = texts.iter().zip(types).enumerate().map(token).collect::<Result<_, _>>()?;
        let mut seen = BTreeMap::new();
        for (id, (text, _)) in tokens.iter().enumerate().filter(|(_, (_, purpose))| *purpose != Purpose::Unused) {
            if let Some(other) = seen.insert(*text, id) {
                return Err(invalid(format!("{texts_key}[{id}] is {}, as {texts_key}[{other}] is", quoted(text))));
            }
        }
        Ok(Self { tokens })
    }

    fn is_used(&self, id: u32) -> bool {
        self.tokens.get(id as usize).is_some_and(|(_, purpose)| *purpose != Purpose::Unused)
    }

    /// The text of a token; ids were checked.
    fn text(&self, id: u32) -> &'a str {
        self.tokens.get(id as usize).map_or("", |(text, _)| text)
    }

    fn id_of_control(&self, wanted: &str) -> Option<u32> {
        let found = self.tokens.iter().position(|&(text, purpose)| purpose == Purpose::Control && text == wanted);
        found.map(|id| id as u32)
    }

    fn used(&self) -> impl Iterator<Item = (usize, &'a str, Purpose)> {
        let all = self.tokens.iter().enumerate().map(|(id, &(text, purpose))| (id, text, purpose));
        all.filter(|(_, _, purpose)| *purpose != Purpose::Unused)
    }

    /// `vocab`. Added tokens are in it too: that fixes their ids, whatever ids are left out.
    fn by_text(&self) -> Value {
        Value::Object(self.used().map(|(id, text, _)| (text.to_owned(), id.into())).collect())
    }

    fn added(&self) -> Vec<Value> {
        let added = self.used().filter(|(_, _, purpose)| *purpose != Purpose::Normal);
        let written = added.map(|(id, content, purpose)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": purpose == Purpose::Control})
        });
        written.collect()
    }
}

/// Pairs of texts, in the order in which they are merged.
fn merges(metadata: &Metadata) -> Result<Vec<[String; 2]>, Refusal> {
    let key = "tokenizer.ggml.merges";
    let merges = metadata.texts(key)?.ok_or_else(|| missing(key))?;
    let pair = |(i, merge): (usize, &&str)| match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok([left.to_owned(), right.to_owned()])
        }
        _ => Err(invalid(format!("{key}[{i}] must be two texts with a space between, got {}", quoted(merge)))),
    };
    merges.iter().enumerate().map(pair).collect()
}

fn special_ids(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<SpecialIds, Refusal> {
    let id = |name: &str| {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let tokens = vocabulary.tokens.len();
        match metadata.count(&key)? {
            Some(id) if id >= tokens as u64 => {
                Err(invalid(format!("metadata key {} is {id}, but there are {tokens} tokens", quoted(&key))))
            }
            // A token that the tokenizer does not have serves no purpose.
            id => Ok(id.map(|id| id as u32).filter(|&id| vocabulary.is_used(id))),
        }
    };
    let mut eos = Vec::new();
    let named = [id("eos")?, id("eot")?, id("eom")?].into_iter().flatten();
    for end in named.chain(ENDS.iter().filter_map(|text| vocabulary.id_of_control(text))) {
        if !eos.contains(&end) {
            eos.push(end);
        }
    }
    if eos.is_empty() {
        return Err(missing("tokenizer.ggml.eos_token_id"));
    }
    Ok(SpecialIds { bos: id("bos")?, eos, pad: id("padding")?, unknown: id("unknown")? })
}

/// Tokens put around every text.
struct Around {
    before: Option<u32>,
    after: Option<u32>,
}

impl Around {
    fn read(metadata: &Metadata, pre: Pre, ids: &SpecialIds) -> Result<Self, Refusal> {
        // llama.cpp's defaults, for files that do not say.
        let flag = |key: &str, default| Ok(metadata.flag(key)?.unwrap_or(default));
        let before = flag("tokenizer.ggml.add_bos_token", pre == Pre::Llama3)?;
        let after = flag("tokenizer.ggml.add_eos_token", false)?;
        if before && ids.bos.is_none() {
            return Err(missing("tokenizer.ggml.bos_token_id"));
        }
        Ok(Self { before: ids.bos.filter(|_| before), after: ids.eos.first().copied().filter(|_| after) })
    }

    fn post_processor(&self, vocabulary: &Vocabulary) -> Value {
        if self.before.is_none() && self.after.is_none() {
            return Value::Null;
        }
        let token = |id: u32, sequence: u32| json!({"SpecialToken": {"id": vocabulary.text(id), "type_id": sequence}});
        let text = |name: &str, sequence: u32| {
            let before = self.before.map(|id| token(id, sequence));
            let after = self.after.map(|id| token(id, sequence));
            let middle = json!({"Sequence": {"id": name, "type_id": sequence}});
            before.into_iter().chain([middle]).chain(after).collect::<Vec<_>>()
        };
        let named = self.before.into_iter().chain(self.after).map(|id| {
            let text = vocabulary.text(id);
            (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]}))
        });
        json!({
            "type": "TemplateProcessing",
            "single": text("A", 0),
            "pair": Value::from([text("A", 0), text("B", 1)].concat()),
            "special_tokens": named.collect::<serde_json::Map<_, _>>(),
        })
    }
}
