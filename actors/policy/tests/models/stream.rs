//! Tokenizers of every kind that language models have (tests/data/tokenizers): round trips, and text from tokens as they
//! come.

use std::sync::LazyLock;

use counterpoint_policy::{StreamDecoder, Tokenizer};
use proptest::prelude::*;

use crate::data;

/// Larger than every one of the small vocabularies, so that some random tokens have no text.
const IDS: u32 = 700;

static ALL: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
    ["byte_level", "llama3", "sentencepiece", "metaspace", "wordpiece", "suffixes"]
        .into_iter()
        .map(|name| (name, small(name, |_| {})))
        .collect()
});

/// A tokenizer of tests/data/tokenizers, its JSON changed first.
fn small(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(data("tokenizers").join(format!("{name}.json"))).unwrap();
    let mut json = serde_json::from_str(&text).unwrap();
    change(&mut json);
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    let config = std::fs::read_to_string(data("tiny-qwen2").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["vocab_size"] = IDS.into();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    Tokenizer::from_dir(dir.path()).unwrap()
}

/// What comes with each token, and at the end.
fn pieces(tokenizer: &Tokenizer, tokens: &[u32], skip_special: bool) -> Vec<String> {
    let mut decoder = StreamDecoder::new(tokenizer, skip_special);
    let mut pieces: Vec<String> = tokens.iter().map(|&token| decoder.push(token).unwrap()).collect();
    pieces.push(decoder.finish().unwrap());
    pieces
}

fn the_stream_is_the_whole(name: &str, tokenizer: &Tokenizer, tokens: &[u32]) {
    for skip_special in [true, false] {
        let whole = tokenizer.decode(tokens, skip_special).unwrap();
        assert_eq!(pieces(tokenizer, tokens, skip_special).concat(), whole, "{name}, {tokens:?}");
    }
}

/// Texts as people and models write them: emoji that are sequences, several scripts, combining characters, spaces.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("👩‍👩‍👧‍👦".to_owned()),
        Just("🏴󠁧󠁢󠁳󠁣󠁴󠁿🇩🇪👍🏽❤️".to_owned()),
        Just("e\u{301}o\u{308}\u{323}ก็ำ".to_owned()),
        Just("日本語の文、中文。".to_owned()),
        Just("\u{200f}שלום\u{feff}\u{fffd}".to_owned()),
        Just("▁<0x41>Ġ##</w>".to_owned()),
        Just("<|end|></s>".to_owned()),
        "[ \t\n]{1,4}",
        "[a-z ,.!?'0-9]{1,12}",
        any::<String>(),
    ];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_text_streams_as_it_decodes(text in text()) {
        for (name, tokenizer) in ALL.iter() {
            the_stream_is_the_whole(name, tokenizer, &tokenizer.encode(&text).unwrap());
        }
    }

    #[test]
    fn any_tokens_stream_as_they_decode(tokens in proptest::collection::vec(0..IDS, 0..60)) {
        for (name, tokenizer) in ALL.iter() {
            the_stream_is_the_whole(name, tokenizer, &tokens);
        }
    }

    /// Few tokens but many bytes: characters are cut, spoilt and completed.
    #[test]
    fn any_bytes_stream_as_they_decode(
        bytes in proptest::collection::vec(prop_oneof![
            proptest::sample::select(&b"\xf0\x9f\x99\x82\xe2\x82\xac\xc3"[..]), any::<u8>()
        ], 0..40),
    ) {
        for (name, first) in [("sentencepiece", 3), ("metaspace", 107)] {
            let (_, tokenizer) = ALL.iter().find(|(other, _)| *other == name).unwrap();
            let tokens: Vec<u32> = bytes.iter().map(|&byte| first + u32::from(byte)).collect();
            the_stream_is_the_whole(name, tokenizer, &tokens);
        }
        let (name, tokenizer) = &ALL[0];
        let tokens: Vec<u32> = bytes.iter().map(|&byte| 2 + letter(byte)).collect();
        the_stream_is_the_whole(name, tokenizer, &tokens);
    }

    #[test]
    fn what_was_encoded_comes_back(text in text()) {
        let bytes = tokenizer("llama3");
        prop_assert_eq!(&bytes.decode(&bytes.encode_plain(&text).unwrap(), false).unwrap(), &text);
        // SentencePiece's own spaces are spaces, and one comes behind a special token.
        let text = text.replace('▁', " ").replace("</s>", "");
        let spaces = tokenizer("sentencepiece");
        prop_assert_eq!(spaces.decode(&spaces.encode_plain(&text).unwrap(), false).unwrap(), text);
    }
}

/// The place of a byte's letter in the alphabet of a byte-level vocabulary: those that show themselves come first.
fn letter(byte: u8) -> u32 {
    let shown = |byte: &u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let before = (0..byte).filter(|other| shown(other) == shown(&byte)).count();
    let shown_first = if shown(&byte) { 0 } else { (0..=255).filter(shown).count() };
    u32::try_from(before + shown_first).unwrap()
}

fn tokenizer(name: &str) -> &'static Tokenizer {
    &ALL.iter().find(|(other, _)| *other == name).unwrap().1
}

#[test]
fn text_comes_as_soon_as_it_is_final() {
    let bytes = tokenizer("byte_level");
    let tokens = bytes.encode("a 🦀!").unwrap();
    let shown = pieces(bytes, &tokens, true);
    assert_eq!(shown.iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>(), ["a", " ", "🦀", "!"]);
    assert_eq!(shown.last().unwrap(), "", "nothing is kept until the end");

    let spaces = tokenizer("sentencepiece");
    let shown = pieces(spaces, &spaces.encode("the cat 🦀 sat").unwrap(), true);
    assert_eq!(shown.concat(), "the cat 🦀 sat", "no space in front");
    assert!(shown[0].starts_with('t'), "{shown:?}");
    assert_eq!(shown.last().unwrap(), "");
}

#[test]
fn an_unfinished_character_is_replaced_at_the_end() {
    let bytes = tokenizer("byte_level");
    let mut tokens = bytes.encode("a🦀").unwrap();
    tokens.pop();
    let shown = pieces(bytes, &tokens, true);
    assert_eq!((shown[0].as_str(), shown.last().unwrap().as_str()), ("a", "\u{fffd}"));
}

#[test]
fn special_tokens_are_shown_or_not() {
    let tokenizer = tokenizer("byte_level");
    let tokens = tokenizer.encode("<|start|>hi<|end|>").unwrap();
    assert_eq!(pieces(tokenizer, &tokens, true).concat(), "hi");
    assert_eq!(pieces(tokenizer, &tokens, false)[0], "<|start|>");
}

/// Chains that no known model has, or that only the whole text shows.
#[test]
fn any_chain_of_decoders_gives_the_whole() {
    let replace = |pattern: serde_json::Value, content: &str| serde_json::json!({"type": "Replace", "pattern": pattern, "content": content});
    let string = |text: &str| serde_json::json!({"String": text});
    let strip =
        |start: u32, stop: u32| serde_json::json!({"type": "Strip", "content": " ", "start": start, "stop": stop});
    let plain = |name: &str| serde_json::json!({"type": name});
    let metaspace =
        serde_json::json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let wordpiece = serde_json::json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    let chains = [
        vec![plain("Fuse"), replace(string("▁"), " "), strip(3, 0)],
        vec![plain("Fuse"), replace(string("▁t"), "T")],
        vec![plain("Fuse"), replace(serde_json::json!({"Regex": "e+"}), "E"), strip(1, 0)],
        vec![plain("ByteFallback"), plain("Fuse"), metaspace.clone(), plain("Fuse")],
        vec![plain("Fuse"), plain("ByteFallback")],
        vec![replace(string("▁"), " "), plain("Fuse"), strip(1, 1)],
        vec![metaspace, wordpiece],
        vec![serde_json::json!({"type": "CTC", "pad_token": "<s>", "word_delimiter_token": "▁", "cleanup": true})],
        vec![
            serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
            plain("Fuse"),
            strip(2, 0),
        ],
        vec![],
    ];
    for chain in chains {
        let shown = serde_json::to_string(&chain).unwrap();
        let decoder = if chain.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::json!({"type": "Sequence", "decoders": chain})
        };
        let tokenizer = small("sentencepiece", |json| json["decoder"] = decoder);
        for text in ["the cat sat ", "   the  teeth 🦀🦀 e", " ", "1"] {
            the_stream_is_the_whole(&shown, &tokenizer, &tokenizer.encode(text).unwrap());
        }
    }
}

#[test]
fn the_folder_names_all_tokenizers_of_the_test() {
    let files = std::fs::read_dir(data("tokenizers")).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension() == Some("json".as_ref()));
    assert_eq!(json.count(), ALL.len());
}
