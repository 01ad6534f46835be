//! What a child writes to its standard error, on its way into the log.

use tokio::time::Instant;

use super::lines::{Line, Lines};
use super::pacing::RateLimit;

/// The longest line of a child in our log, in bytes; a longer one is cut.
const LONGEST_LINE: usize = 2000;

/// Takes a child's standard error in and logs it, a line at a time and not too fast.
#[derive(Debug)]
pub(super) struct Log {
    command: String,
    process: usize,
    lines: Lines,
    limit: RateLimit,
    /// The last line that said something, for messages.
    last: Option<String>,
}

impl Log {
    pub(super) fn new(command: String, process: usize, lines_per_second: u32) -> Self {
        let (lines, limit) = (Lines::new(LONGEST_LINE), RateLimit::new(lines_per_second));
        Self { command, process, lines, limit, last: None }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        for line in self.lines.push(bytes) {
            self.line(&line);
        }
    }

    /// The stream has ended. Returns the last line that said something.
    pub(super) fn finish(&mut self) -> Option<String> {
        if let Some(line) = self.lines.rest() {
            self.line(&line);
        }
        let suppressed = self.limit.held_back();
        if suppressed > 0 {
            self.tell_of(suppressed);
        }
        self.last.take()
    }

    fn line(&mut self, line: &Line) {
        let (bytes, cut) = match line {
            Line::Whole(bytes) => (bytes, ""),
            Line::Cut(bytes) => (bytes, "…"),
        };
        // Control characters could rewrite the terminal of whoever reads the log.
        let clean = String::from_utf8_lossy(bytes).replace(|c: char| c.is_control(), " ");
        let text = format!("{}{cut}", clean.trim_end());
        if text.is_empty() {
            return;
        }
        if let Some(suppressed) = self.limit.pass(Instant::now()) {
            if suppressed > 0 {
                self.tell_of(suppressed);
            }
            tracing::info!(verifier = self.command, process = self.process, "stderr: {text}");
        }
        self.last = Some(text);
    }

    fn tell_of(&self, suppressed: u64) {
        tracing::info!(verifier = self.command, process = self.process, "stderr: suppressed {suppressed} lines");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_is_kept_also_when_it_is_not_logged() {
        let mut log = Log::new("test".into(), 0, 0);
        log.take(b"Traceback:\n  File x\nValueError: no\x1b[2J number\n\n  ");
        assert_eq!(log.finish().as_deref(), Some("ValueError: no [2J number"));
        assert_eq!(log.finish(), None);
        log.take(&[b'x'; 5000]);
        assert_eq!(log.finish().map(|line| line.chars().count()), Some(LONGEST_LINE + 1));
    }
}
