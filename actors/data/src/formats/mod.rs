//! Rows of files: JSONL (plain, gzip, zstd) and Parquet, each row a JSON object.
//!
//! The format is told by the file's first bytes, not by its name. Rows come one after another and only one is in memory, or a
//! page per column of a Parquet file. What a damaged or hostile file can claim is bounded before anything is allocated for it.

mod lines;
mod pages;
mod parquet;

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::DataError;

pub(crate) use lines::row_of_line;
pub use lines::{MOST_LINE, in_line};

/// The memory that a zstd frame may ask for is two to this power: 128 MiB, as the command line tool has it.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// The same, compressed by gzip.
    JsonlGzip,
    /// The same, compressed by zstd.
    JsonlZstd,
    /// Apache Parquet.
    Parquet,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jsonl => "JSONL",
            Self::JsonlGzip => "JSONL, gzip",
            Self::JsonlZstd => "JSONL, zstd",
            Self::Parquet => "Parquet",
        })
    }
}

impl Format {
    /// Tells the format of a file by its first bytes.
    ///
    /// # Errors
    /// A file that cannot be read, or whose name promises another format than it has.
    pub fn of(path: &Path) -> Result<Self, DataError> {
        let mut head = Vec::new();
        let file = File::open(path).map_err(DataError::io(path))?;
        file.take(4).read_to_end(&mut head).map_err(DataError::io(path))?;
        let found = match head.as_slice() {
            [0x1f, 0x8b, ..] => Self::JsonlGzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Self::JsonlZstd,
            b"PAR1" => Self::Parquet,
            _ => Self::Jsonl,
        };
        let name = path.to_string_lossy().to_lowercase();
        let promised = [
            (".gz", Self::JsonlGzip, "gzip"),
            (".zst", Self::JsonlZstd, "zstd"),
            (".parquet", Self::Parquet, "Parquet"),
        ];
        match promised.into_iter().find(|(ending, ..)| name.ends_with(ending)) {
            Some((ending, format, what)) if format != found => Err(DataError::file(
                path,
                format!("ends in {ending}, but does not begin as a {what} file does; is it damaged?"),
            )),
            _ => Ok(found),
        }
    }
}

/// Where a row stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line of JSONL or row of Parquet, from 1.
    pub number: u64,
    /// First byte of the line in a plain JSONL file, and how many there are.
    pub bytes: Option<(u64, u32)>,
}

/// A row, or what is wrong with it.
#[derive(Debug)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// Its columns by name.
    pub value: Result<Map<String, Value>, String>,
}

/// The rows of one file, in order.
pub struct Rows(Inner);

enum Inner {
    Lines(lines::Lines),
    Parquet(Box<parquet::ParquetRows>),
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no Parquet file though it begins like one.
    pub fn open(path: &Path, format: Format) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io(path))?;
        let plain = format == Format::Jsonl;
        let reader: Box<dyn BufRead + Send> = match format {
            Format::Jsonl => Box::new(BufReader::with_capacity(1 << 16, file)),
            Format::JsonlGzip => {
                Box::new(BufReader::with_capacity(1 << 16, flate2::read::MultiGzDecoder::new(BufReader::new(file))))
            }
            Format::JsonlZstd => {
                let mut decoder = zstd::stream::read::Decoder::new(file).map_err(DataError::io(path))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(DataError::io(path))?;
                Box::new(BufReader::with_capacity(1 << 16, decoder))
            }
            Format::Parquet => return Ok(Self(Inner::Parquet(Box::new(parquet::ParquetRows::open(path, file)?)))),
        };
        Ok(Self(Inner::Lines(lines::Lines::new(path, reader, plain))))
    }

    /// The next row that is not blank.
    ///
    /// # Errors
    /// The file cannot be read on: nothing behind this place can be known.
    pub fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        match &mut self.0 {
            Inner::Lines(lines) => lines.next_row(),
            Inner::Parquet(rows) => rows.next_row(),
        }
    }
}

/// How a message names a row: `a.jsonl:3`, or `a.parquet: row 3`.
pub fn name_of_place(path: &Path, format: Format, number: u64) -> String {
    match format {
        Format::Parquet => format!("{}: row {number}", path.display()),
        _ => format!("{}:{number}", path.display()),
    }
}
