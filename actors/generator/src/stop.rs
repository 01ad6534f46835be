//! Stop strings: an answer ends with the token that completes one of them in its text.
//!
//! The text of an answer is what the tokenizer makes of its tokens, special ones left out. Since a stop string may begin in
//! the middle of a token and a character may end in the next one, only text is compared, never tokens: a window of the
//! newest tokens is decoded after each, together with those just before it, on which the decoding of the newest may depend
//! (a leading space, the bytes of one character). What the window finds is confirmed on the whole text, which decides.
//! Without stop strings nothing is decoded and nothing is kept.

use crate::Detokenize;

/// Tokens after which a window moves on although its text ends within a character: no character has so many, so it is one
/// that will never be complete.
const INCOMPLETE: usize = 8;

/// Texts that end an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopStrings {
    strings: Vec<String>,
    /// Bytes of text that must be kept, so that a stop string that began in them is found.
    kept: usize,
}

/// What is known of one answer's text.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The first token of the window.
    first: usize,
    /// The first token whose text is new.
    new: usize,
    /// The text of the window's tokens before `new`.
    before: String,
    /// The end of the text before `new`.
    tail: String,
}

impl StopStrings {
    /// Empty strings stop nothing.
    pub(crate) fn new(strings: &[String]) -> Self {
        let strings: Vec<String> = strings.iter().filter(|s| !s.is_empty()).cloned().collect();
        let kept = strings.iter().map(String::len).max().unwrap_or(1) - 1;
        Self { strings, kept }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    /// To be called after every token: the text before the first stop string, if the newest token completed one.
    pub(crate) fn cut(&self, watch: &mut Watch, tokens: &[u32], detokenize: &Detokenize) -> Option<String> {
        let window = detokenize(&tokens[watch.first..]);
        // A decoder that changes its mind about earlier text costs a needless look at the whole, and never a miss.
        let seen = format!("{}{}", watch.tail, window.strip_prefix(watch.before.as_str()).unwrap_or(&window));
        if self.find(&seen).is_some() {
            let text = detokenize(tokens);
            if let Some(at) = self.find(&text) {
                return Some(text[..at].to_owned());
            }
        }
        if !window.ends_with('\u{fffd}') || tokens.len() - watch.new >= INCOMPLETE {
            watch.tail = seen[seen.floor_char_boundary(seen.len().saturating_sub(self.kept))..].to_owned();
            watch.before = detokenize(&tokens[watch.new..]);
            (watch.first, watch.new) = (watch.new, tokens.len());
        }
        None
    }

    /// Where the first of them begins.
    fn find(&self, text: &str) -> Option<usize> {
        self.strings.iter().filter_map(|stop| text.find(stop.as_str())).min()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// A tokenizer whose tokens are bytes, and whose text drops a leading space as sentencepiece does.
    fn bytes() -> Detokenize {
        Arc::new(|tokens| {
            let bytes: Vec<u8> = tokens.iter().map(|&t| t as u8).collect();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.strip_prefix(' ').map_or(text.clone(), str::to_owned)
        })
    }

    /// How many tokens are taken, and the text.
    fn run(stops: &[&str], tokens: &[u32], detokenize: &Detokenize) -> Option<(usize, String)> {
        let stops = StopStrings::new(&stops.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let mut watch = Watch::default();
        (1..=tokens.len()).find_map(|n| Some((n, stops.cut(&mut watch, &tokens[..n], detokenize)?)))
    }

    fn stopped(stops: &[&str], text: &[u8]) -> Option<(usize, String)> {
        run(stops, &text.iter().map(|&b| u32::from(b)).collect::<Vec<_>>(), &bytes())
    }

    #[test]
    fn an_answer_ends_with_the_token_that_completes_a_stop_string() {
        assert_eq!(stopped(&["\n\n"], b"4\n\n5"), Some((3, "4".to_owned())));
        assert_eq!(stopped(&["\n\n", "Q:"], b"4\nQ: "), Some((4, "4\n".to_owned())));
        assert_eq!(stopped(&["Q:"], b"4 Q"), None);
        assert_eq!(stopped(&["a b"], b" a b"), Some((4, String::new())), "the leading space is no text");
    }

    #[test]
    fn a_stop_string_of_multi_byte_characters_is_complete_with_its_last_byte() {
        let text = "né🪐é".as_bytes();
        assert_eq!(stopped(&["é🪐"], text), Some((7, "n".to_owned())));
        assert_eq!(stopped(&["🪐é"], text), Some((9, "né".to_owned())));
    }

    #[test]
    fn a_token_may_complete_a_stop_string_and_begin_a_character() {
        let pieces: [&[u8]; 4] = [b"4.", b"\n", b"\nab\xf0\x9f", b"\xaa\x90"];
        let decode: Detokenize = Arc::new(move |tokens| {
            String::from_utf8_lossy(&tokens.iter().flat_map(|&t| pieces[t as usize]).copied().collect::<Vec<u8>>())
                .into()
        });
        assert_eq!(run(&["\n\n"], &[0, 1, 2, 3], &decode), Some((3, "4.".to_owned())), "at the third token, not later");
        assert_eq!(run(&["b🪐"], &[0, 1, 2, 3], &decode), Some((4, "4.\n\na".to_owned())));
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hold_the_window() {
        let mut text = vec![0xff; 40];
        text.extend(b"ab.");
        let (tokens, before) = stopped(&["b."], &text).unwrap();
        assert_eq!((tokens, before.ends_with('a')), (43, true));
    }

    proptest! {
        /// As if the whole text were decoded and searched after every token.
        #[test]
        fn the_window_finds_what_the_whole_text_holds(
            text in "[ab🪐é ]{0,24}", stops in prop::collection::vec("[ab🪐é ]{1,3}", 1..3), broken in prop::bool::ANY,
        ) {
            let mut tokens: Vec<u32> = text.bytes().map(u32::from).collect();
            if broken {
                tokens.insert(tokens.len() / 2, 0xf0);
            }
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let decode = bytes();
            let plain = (1..=tokens.len()).find_map(|n| {
                let text = decode(&tokens[..n]);
                let at = stops.iter().filter_map(|s| text.find(s)).min()?;
                Some((n, text[..at].to_owned()))
            });
            prop_assert_eq!(run(&stops, &tokens, &decode), plain);
        }
    }
}
