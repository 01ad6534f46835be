//! JSONL, line by line: a byte order mark, CRLF and blank lines are tolerated; a line has a largest length.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Place, Row};
use crate::{DataError, kind};

/// Bytes of the longest line that is read. Its parsed form takes up to about twenty times as much.
pub const MOST_LINE: usize = 16 << 20;

/// The lines of one file.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    /// Offsets mean something: the file is not compressed.
    plain: bool,
    number: u64,
    offset: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(path: &Path, reader: Box<dyn BufRead + Send>, plain: bool) -> Self {
        Self { path: path.to_owned(), reader, plain, number: 0, offset: 0, line: Vec::new() }
    }

    pub(super) fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        loop {
            let start = self.offset;
            let read = self.read_line().map_err(|e| self.unreadable(e))?;
            let Some(length) = read else { return Ok(None) };
            self.number += 1;
            let bytes = u32::try_from(length).ok().filter(|_| self.plain).map(|length| (start, length));
            let place = Place { number: self.number, bytes };
            if length > MOST_LINE as u64 {
                let problem = format!("the line has {length} bytes; at most {MOST_LINE} are read");
                return Ok(Some(Row { place, value: Err(problem) }));
            }
            if let Some(value) = row_of_line(&self.line, self.number == 1).transpose() {
                return Ok(Some(Row { place, value }));
            }
        }
    }

    /// Reads a line with its end; keeps no more than the most, and says how long it was. `None` at the end of the file.
    fn read_line(&mut self) -> io::Result<Option<u64>> {
        self.line.clear();
        // A long line must not leave its memory with all the others.
        self.line.shrink_to(1 << 20);
        let mut length = 0_u64;
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let end = chunk.iter().position(|b| *b == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(chunk.len());
            let kept = taken.min(MOST_LINE.saturating_sub(self.line.len()));
            self.line.extend_from_slice(&chunk[..kept]);
            self.reader.consume(taken);
            length += taken as u64;
            if end.is_some() {
                break;
            }
        }
        self.offset += length;
        Ok((length > 0).then_some(length))
    }

    fn unreadable(&self, error: io::Error) -> DataError {
        if self.plain {
            return DataError::io(&self.path)(error);
        }
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the compressed file is cut off".to_owned(),
            _ => format!("the compressed file is damaged: {error}"),
        };
        DataError::file(&self.path, format!("{what}, behind line {}", self.number))
    }
}

/// The row of one line; `None` for a blank line.
pub(crate) fn row_of_line(line: &[u8], first: bool) -> Result<Option<Map<String, Value>>, String> {
    let line = if first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
    let text = std::str::from_utf8(line)
        .map_err(|e| format!("not valid UTF-8 at byte {} of the line; convert the file to UTF-8", e.valid_up_to() + 1))?
        .trim();
    if text.is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_str(text).map_err(|e| {
        let hint = if first && text == "[" { " (one object per line is expected, not one array)" } else { "" };
        format!("not valid JSON: {}{hint}", in_line(&e))
    })?;
    match value {
        Value::Object(row) => Ok(Some(row)),
        other => Err(format!("expected a JSON object, got {}", kind(&other))),
    }
}

/// What serde_json says of one line: its line number is always 1 and would mislead beside the file's.
pub fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} at column {column}"),
        None => text,
    }
}
