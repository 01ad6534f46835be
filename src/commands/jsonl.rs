//! JSON lines in and out: one line of input is one line of output, in order, in flat memory.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use counterpoint_data::in_line;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Failure;

/// A longer line is refused: input without line ends must not fill the memory.
const LONGEST_LINE: u64 = 256 << 20;

/// The name of standard input in messages.
const STDIN: &str = "stdin";

/// Lines of a file or of standard input, counted.
pub(super) struct Input {
    name: String,
    reader: Box<dyn BufRead + Send>,
    number: usize,
}

impl Input {
    /// Opens a file; standard input without one, or for "-".
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let (name, reader): (String, Box<dyn BufRead + Send>) = match path.filter(|p| *p != Path::new("-")) {
            None => (STDIN.to_owned(), Box::new(BufReader::new(std::io::stdin()))),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::open(path).map_err(|e| Failure::Usage(format!("{name}: {e}")))?;
                (name, Box::new(BufReader::new(file)))
            }
        };
        Ok(Self { name, reader, number: 0 })
    }

    /// The next line without its end; `None` at the end of the input.
    pub(super) fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes);
        read.map_err(|e| Failure::Failed(format!("{}: {e}", self.name)))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if bytes.len() as u64 > LONGEST_LINE {
            return Err(self.malformed(format!("longer than {} MiB", LONGEST_LINE >> 20)));
        }
        if self.number == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        let end = bytes.len() - bytes.iter().rev().take_while(|b| matches!(b, b'\n' | b'\r')).count();
        bytes.truncate(end);
        String::from_utf8(bytes).map(Some).map_err(|e| {
            self.malformed(format!("not valid UTF-8 at byte {} of the line", e.utf8_error().valid_up_to() + 1))
        })
    }

    /// The next line as JSON.
    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let Some(line) = self.line()? else { return Ok(None) };
        serde_json::from_str(&line).map(Some).map_err(|e| self.malformed(in_line(&e)))
    }

    /// The number of the line read last.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// What is wrong with the line read last.
    pub(super) fn malformed(&self, problem: impl std::fmt::Display) -> Failure {
        self.malformed_at(self.number, problem)
    }

    /// What is wrong with an earlier line.
    pub(super) fn malformed_at(&self, number: usize, problem: impl std::fmt::Display) -> Failure {
        Failure::Failed(match self.name.as_str() {
            STDIN => format!("{STDIN}: line {number}: {problem}"),
            file => format!("{file}:{number}: {problem}"),
        })
    }
}

/// JSON lines on standard output. What was written is flushed when it is dropped, also on the way out of an error.
pub(super) struct Output(BufWriter<std::io::Stdout>);

impl Output {
    pub(super) fn stdout() -> Self {
        Self(BufWriter::new(std::io::stdout()))
    }

    pub(super) fn write(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        // Plain structs and numbers: only the writing can fail.
        serde_json::to_writer(&mut self.0, line)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(self.0))
            .map_err(closed)
    }

    /// Hands everything over now: for a reader that waits for each answer.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(closed)
    }
}

fn closed(error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Failed(format!("stdout: {error}")),
    }
}
