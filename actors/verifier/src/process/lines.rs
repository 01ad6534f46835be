//! Cuts a stream of bytes into lines, in bounded memory. Pure.

/// A line, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// The first part of one that is longer than allowed; the rest is skipped.
    Cut(Vec<u8>),
}

/// What was read of a line whose end has not come yet.
#[derive(Debug)]
pub(super) struct Lines {
    longest: usize,
    pending: Vec<u8>,
    /// The pending line was too long and is handed out already.
    skipping: bool,
}

impl Lines {
    /// No line longer than this, in bytes, is kept.
    pub(super) fn new(longest: usize) -> Self {
        Self { longest, pending: Vec::new(), skipping: false }
    }

    /// Takes some bytes in, and hands out the lines that end with them. `\r\n` ends a line too.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|&byte| byte == b'\n');
        // A split has at least one piece; every piece but the last is the end of a line.
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.extend(piece, &mut lines);
            lines.extend(self.finish());
        }
        self.extend(last, &mut lines);
        lines
    }

    /// The line that the end of the stream cut off, if there is one.
    pub(super) fn rest(&mut self) -> Option<Line> {
        if self.pending.is_empty() { None } else { self.finish() }
    }

    fn extend(&mut self, piece: &[u8], lines: &mut Vec<Line>) {
        if self.skipping {
            return;
        }
        let room = self.longest - self.pending.len();
        self.pending.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            lines.push(Line::Cut(std::mem::take(&mut self.pending)));
            self.skipping = true;
        }
    }

    fn finish(&mut self) -> Option<Line> {
        if std::mem::take(&mut self.skipping) {
            return None;
        }
        let mut line = std::mem::take(&mut self.pending);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(Line::Whole(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Line {
        Line::Whole(text.into())
    }

    #[test]
    fn lines_come_whole_empty_ones_too_and_the_last_needs_its_end() {
        let mut lines = Lines::new(10);
        assert_eq!(lines.push(b"one\ntw"), [whole("one")]);
        assert_eq!(lines.push(b"o\r\n\nthree"), [whole("two"), whole("")]);
        assert_eq!(lines.rest(), Some(whole("three")));
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_as_soon_as_it_is_and_the_next_is_whole() {
        let mut lines = Lines::new(3);
        assert_eq!(lines.push(b"abc"), []);
        assert_eq!(lines.push(b"d"), [Line::Cut(b"abc".into())]);
        assert_eq!(lines.push(b"efghijkl"), []);
        assert_eq!(lines.rest(), None);
        assert_eq!(lines.push(b"mn\nxyz\n"), [whole("xyz")]);
    }

    proptest! {
        #[test]
        fn how_the_stream_arrives_does_not_matter_and_no_more_than_one_line_is_kept(
            chunks in prop::collection::vec("[ab\n]{0,12}", 0..20),
            longest in 1_usize..8,
        ) {
            let mut lines = Lines::new(longest);
            let mut got = Vec::new();
            for chunk in &chunks {
                got.extend(lines.push(chunk.as_bytes()));
                prop_assert!(lines.pending.len() <= longest);
            }
            let stream = chunks.concat();
            let mut expected: Vec<&str> = stream.split('\n').collect();
            let last = expected.pop().unwrap_or_default();
            let cut = |line: &str| match line.len() > longest {
                true => Line::Cut(line.as_bytes()[..longest].into()),
                false => whole(line),
            };
            let mut expected: Vec<Line> = expected.into_iter().map(cut).collect();
            if last.len() > longest {
                expected.push(cut(last));
            }
            prop_assert_eq!(got, expected);
        }
    }
}
