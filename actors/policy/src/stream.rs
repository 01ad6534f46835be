//! Text from tokens that arrive one by one.
//!
//! Contract: all that [`StreamDecoder::push`] and [`StreamDecoder::finish`] give, put together, is what
//! [`Tokenizer::decode`] gives for all tokens at once; what `push` gave is final. A token costs what it is long, not what
//! came before it.
//!
//! How: the decoder of `tokenizer.json` is a chain of functions from lists of tokens to lists of tokens. Each is turned into
//! a [`Step`] that takes one token and gives what no later token can change: an unfinished character waits for its other
//! bytes; a run of byte-fallback tokens waits for its end, since one bad byte spoils all of it; a suffix that the last token
//! loses waits for the token after it.
//!
//! Limits: what a decoder of another kind (CTC, a regular expression over the joined text) makes is given by `finish`.

use std::sync::Arc;

use tokenizers::{Decoder, DecoderWrapper};

use crate::tokenizer::guarded;
use crate::{PolicyError, Tokenizer};

/// Turns tokens into text while they come.
///
/// ```no_run
/// # use counterpoint_policy::{PolicyError, StreamDecoder, Tokenizer};
/// # fn show(tokenizer: &Tokenizer, tokens: &[u32]) -> Result<(), PolicyError> {
/// let mut decoder = StreamDecoder::new(tokenizer, true);
/// for &token in tokens {
///     print!("{}", decoder.push(token)?);
/// }
/// println!("{}", decoder.finish()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_special: bool,
    plan: Arc<Plan>,
    /// One for each step.
    memory: Vec<Memory>,
}

impl StreamDecoder {
    /// For one answer; `skip_special` leaves special tokens out, as in [`Tokenizer::decode`].
    pub fn new(tokenizer: &Tokenizer, skip_special: bool) -> Self {
        let plan = Arc::clone(tokenizer.plan());
        let memory = plan.0.iter().map(|_| Memory::default()).collect();
        Self { tokenizer: tokenizer.clone(), skip_special, plan, memory }
    }

    /// Takes the next token; the text that is now final, which is often none.
    ///
    /// # Errors
    /// The tokenizer's decoder fails on the token.
    pub fn push(&mut self, token: u32) -> Result<String, PolicyError> {
        let Some(text) = self.tokenizer.token_text(token, self.skip_special) else { return Ok(String::new()) };
        let mut pieces = vec![text];
        for (step, memory) in self.plan.0.iter().zip(&mut self.memory) {
            pieces = step.take_all(memory, pieces)?;
        }
        Ok(pieces.concat())
    }

    /// The rest of the text; U+FFFD for a character whose bytes never came.
    ///
    /// # Errors
    /// As of [`StreamDecoder::push`].
    pub fn finish(mut self) -> Result<String, PolicyError> {
        let mut pieces = Vec::new();
        for (step, memory) in self.plan.0.iter().zip(&mut self.memory) {
            pieces = step.take_all(memory, pieces)?;
            step.end(memory, &mut pieces)?;
        }
        Ok(pieces.concat())
    }
}

/// The steps of a tokenizer's decoder, in order.
#[derive(Debug)]
pub(crate) struct Plan(Vec<Step>);

/// One decoder of the chain. Behind the first that joins tokens, "token" means a piece of the one joined token.
#[derive(Debug)]
enum Step {
    /// Every token for itself.
    Each(DecoderWrapper),
    /// Every token for itself, the first in another way.
    FirstAndOthers(DecoderWrapper),
    /// Every token for itself, the last in another way.
    OthersAndLast(DecoderWrapper),
    /// `<0xE2>` and the like: bytes of characters that have no token.
    ByteFallback,
    /// Every character stands for a byte.
    ByteLevel,
    /// No decoder: a space between tokens.
    Spaces,
    /// Up to so many of a character at the start of the joined text are left out.
    StripStart { content: char, most: usize },
    /// What only the whole shows; `joined`: its input is one token.
    Whole { decoders: Vec<DecoderWrapper>, joined: bool },
}

/// What a step remembers.
#[derive(Clone, Debug, Default)]
struct Memory {
    started: bool,
    stripped: usize,
    bytes: Vec<u8>,
    tokens: Vec<String>,
}

impl Plan {
    pub(crate) fn new(decoder: Option<&DecoderWrapper>) -> Self {
        let Some(decoder) = decoder else { return Self(vec![Step::Spaces]) };
        let mut chain = Vec::new();
        flatten(decoder, &mut chain);
        let (mut steps, mut joined) = (Vec::new(), false);
        for (at, decoder) in chain.iter().enumerate() {
            match step(decoder, joined) {
                Known::Step(step) => {
                    joined |= matches!(step, Step::ByteLevel);
                    steps.push(step);
                }
                Known::Join => joined = true,
                Known::Not => {
                    let decoders = chain[at..].iter().map(|&decoder| decoder.clone()).collect();
                    steps.push(Step::Whole { decoders, joined });
                    break;
                }
            }
        }
        Self(steps)
    }
}

fn flatten<'a>(decoder: &'a DecoderWrapper, chain: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().for_each(|one| flatten(one, chain)),
        one => chain.push(one),
    }
}

enum Known {
    Step(Step),
    /// From here on there is one token. That alone changes no text.
    Join,
    Not,
}

fn step(decoder: &DecoderWrapper, joined: bool) -> Known {
    use DecoderWrapper as D;
    Known::Step(match (decoder, joined) {
        (D::Fuse(_), _) => return Known::Join,
        (D::ByteLevel(_), false) => Step::ByteLevel,
        (D::ByteFallback(_), false) => Step::ByteFallback,
        (D::Replace(_) | D::Strip(_), false) => Step::Each(decoder.clone()),
        (D::Metaspace(_) | D::WordPiece(_), false) => Step::FirstAndOthers(decoder.clone()),
        (D::BPE(_), false) => Step::OthersAndLast(decoder.clone()),
        // The one token is the first one, and its characters change one by one.
        (D::Metaspace(_), true) => Step::Each(decoder.clone()),
        (D::Replace(_), true) if replaces_one_character(decoder) => Step::Each(decoder.clone()),
        (D::Strip(strip), true) if strip.stop == 0 => Step::StripStart { content: strip.content, most: strip.start },
        _ => return Known::Not,
    })
}

/// Whether it looks for one character, not for several or a regular expression. Its pattern shows only in its JSON.
fn replaces_one_character(replace: &DecoderWrapper) -> bool {
    let json = serde_json::to_value(replace).unwrap_or_default();
    json["pattern"]["String"].as_str().is_some_and(|pattern| pattern.chars().count() == 1)
}

impl Step {
    fn take_all(&self, memory: &mut Memory, pieces: Vec<String>) -> Result<Vec<String>, PolicyError> {
        let mut out = Vec::new();
        for piece in pieces {
            self.take(memory, piece, &mut out)?;
        }
        Ok(out)
    }

    /// Takes a token and puts out what is final.
    fn take(&self, memory: &mut Memory, token: String, out: &mut Vec<String>) -> Result<(), PolicyError> {
        let first = !std::mem::replace(&mut memory.started, true);
        match self {
            Self::Each(decoder) => out.extend(decode(decoder, vec![token])?),
            Self::FirstAndOthers(decoder) if first => out.extend(decode(decoder, vec![token])?),
            Self::FirstAndOthers(decoder) => out.extend(decode(decoder, vec![String::new(), token])?.pop()),
            Self::OthersAndLast(decoder) => {
                if let Some(before) = memory.tokens.pop() {
                    out.extend(decode(decoder, vec![before, String::new()])?.into_iter().next());
                }
                memory.tokens.push(token);
            }
            Self::ByteFallback => match fallback_byte(&token) {
                Some(byte) => memory.bytes.push(byte),
                None => {
                    end_run(&mut memory.bytes, out);
                    out.push(token);
                }
            },
            Self::ByteLevel => {
                append_bytes(&token, &mut memory.bytes);
                out.push(complete_characters(&mut memory.bytes));
            }
            Self::Spaces if first => out.push(token),
            Self::Spaces => out.push(format!(" {token}")),
            Self::StripStart { content, most } => {
                let mut rest = token.as_str();
                while memory.stripped < *most {
                    match rest.strip_prefix(*content) {
                        Some(behind) => (rest, memory.stripped) = (behind, memory.stripped + 1),
                        None if rest.is_empty() => break,
                        // Something else has come: nothing is stripped any more.
                        None => memory.stripped = *most,
                    }
                }
                out.push(rest.to_owned());
            }
            Self::Whole { .. } => memory.tokens.push(token),
        }
        Ok(())
    }

    /// Puts out what waited for a token that does not come.
    fn end(&self, memory: &mut Memory, out: &mut Vec<String>) -> Result<(), PolicyError> {
        let held = std::mem::take(&mut memory.tokens);
        match self {
            Self::OthersAndLast(decoder) if !held.is_empty() => out.extend(decode(decoder, held)?),
            Self::ByteFallback => end_run(&mut memory.bytes, out),
            Self::ByteLevel => out.push(String::from_utf8_lossy(&memory.bytes).into_owned()),
            Self::Whole { decoders, joined } => {
                let mut tokens = if *joined { vec![held.concat()] } else { held };
                for decoder in decoders {
                    tokens = decode(decoder, tokens)?;
                }
                out.extend(tokens);
            }
            _ => {}
        }
        Ok(())
    }
}

fn decode(decoder: &DecoderWrapper, tokens: Vec<String>) -> Result<Vec<String>, PolicyError> {
    guarded(|| decoder.decode_chain(tokens)).map_err(PolicyError::Tokenizer)
}

/// The byte that a token as `<0x0A>` stands for, by the reading of the tokenizers library.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// A run of byte tokens: its text if it is UTF-8, or U+FFFD for every byte.
fn end_run(run: &mut Vec<u8>, out: &mut Vec<String>) {
    let run = std::mem::take(run);
    let length = run.len();
    match String::from_utf8(run) {
        Ok(text) if text.is_empty() => {}
        Ok(text) => out.push(text),
        Err(_) => out.extend(std::iter::repeat_n("\u{fffd}".to_owned(), length)),
    }
}

/// The bytes that a token's characters stand for, or its own if one of them stands for none.
fn append_bytes(token: &str, bytes: &mut Vec<u8>) {
    let before = bytes.len();
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(before);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// The byte that a character of a byte-level vocabulary stands for: printable ones for themselves, U+0100 and on for the
/// others in order (`bytes_to_unicode` of GPT-2).
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Takes all characters that are complete, U+FFFD for what can be none, and leaves the beginning of one.
fn complete_characters(bytes: &mut Vec<u8>) -> String {
    let mut done = 0;
    let complete = loop {
        let Err(error) = std::str::from_utf8(&bytes[done..]) else { break bytes.len() };
        match error.error_len() {
            Some(bad) => done += error.valid_up_to() + bad,
            None => break done + error.valid_up_to(),
        }
    };
    let rest = bytes.split_off(complete);
    String::from_utf8_lossy(&std::mem::replace(bytes, rest)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let characters: Vec<char> = (0..=0x143).filter_map(char::from_u32).filter(|&c| byte_of(c).is_some()).collect();
        let mut bytes: Vec<u8> = characters.iter().filter_map(|&c| byte_of(c)).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(
            [byte_of('Ġ'), byte_of('Ċ'), byte_of('a'), byte_of(' ')],
            [Some(b' '), Some(b'\n'), Some(b'a'), None]
        );
    }

    #[test]
    fn characters_are_complete_or_wait() {
        let mut bytes = b"a\xe2\x82".to_vec();
        assert_eq!((complete_characters(&mut bytes).as_str(), bytes.as_slice()), ("a", &b"\xe2\x82"[..]));
        bytes.extend(b"\xac\xff\xf0\x9f");
        assert_eq!((complete_characters(&mut bytes).as_str(), bytes.as_slice()), ("€\u{fffd}", &b"\xf0\x9f"[..]));
        bytes.extend(b"!");
        assert_eq!((complete_characters(&mut bytes).as_str(), bytes.as_slice()), ("\u{fffd}!", &b""[..]));
    }
}
