//! What the page headers of a Parquet column claim, checked before the reader believes it.
//!
//! A page header may claim two gibibytes or a billion values in a few bytes of file, and the reader allocates what it claims.
//! This walks the headers of a column chunk (Thrift's compact protocol), reading nothing else but gzip pages, whose real size no
//! header bounds.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;

/// Bytes of the largest page once decompressed; usual is one megabyte.
const MOST_PAGE: u64 = 256 << 20;

/// Bytes of the largest page header, statistics included.
const MOST_HEADER: u64 = 1 << 20;

/// Values that a list column may always have in a row group, and how many more per byte of its pages. All of them may stand in
/// one row, and a run of nulls takes no bytes.
const FREE_VALUES: u64 = 4 << 20;
const VALUES_PER_BYTE: u64 = 64;

/// Structs within structs in a header.
const MOST_DEPTH: u32 = 16;

pub(super) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Checks all pages of a column chunk.
pub(super) fn check_column(file: &File, length: u64, column: &ColumnChunkMetaData) -> Result<(), String> {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let (start, size) = (u64::try_from(start).ok(), u64::try_from(column.compressed_size()).ok());
    let (Some(start), Some(size)) = (start, size) else { return Err("has a negative place or size".to_owned()) };
    let end = start.checked_add(size).filter(|end| *end <= length);
    let Some(end) = end else { return Err(format!("claims bytes beyond the file's end of {length}")) };
    let (mut at, mut values, mut bytes) = (start, 0_u64, 0_u64);
    while at < end {
        let header = header(file, at, end)?;
        let body = at + header.length;
        if header.compressed > end - body {
            return Err(format!("a page of {} bytes does not fit in its column", header.compressed));
        }
        if header.uncompressed > MOST_PAGE {
            return Err(format!("a page claims {} bytes; at most {MOST_PAGE} are read", header.uncompressed));
        }
        if header.dictionary_values > header.uncompressed {
            let (n, size) = (header.dictionary_values, header.uncompressed);
            return Err(format!("a dictionary claims {n} values in {size} bytes"));
        }
        if matches!(column.compression(), Compression::GZIP(_)) {
            // Levels of the second version's pages stand before the compressed part.
            let levels = header.levels.min(header.compressed).min(header.uncompressed);
            if !header.stored && header.uncompressed > levels {
                check_gzip(file, body + levels, header.compressed - levels, header.uncompressed - levels)?;
            }
        }
        values = values.saturating_add(header.values);
        bytes += header.uncompressed;
        at = body + header.compressed;
    }
    let most = FREE_VALUES.saturating_add(bytes.saturating_mul(VALUES_PER_BYTE));
    if column.column_descr().max_rep_level() > 0 && values > most {
        return Err(format!("its lists claim {values} values in {bytes} bytes; at most {most} are read"));
    }
    Ok(())
}

/// A gzip page decompresses to what its own bytes say, whatever the header does.
fn check_gzip(file: &File, at: u64, compressed: u64, uncompressed: u64) -> Result<(), String> {
    let body = Region { file, at, end: at + compressed };
    let mut decoder = flate2::read::MultiGzDecoder::new(io::BufReader::new(body)).take(uncompressed + 1);
    let size = io::copy(&mut decoder, &mut io::sink()).map_err(|e| format!("a gzip page is damaged: {e}"))?;
    if size > uncompressed {
        return Err(format!("a gzip page is larger than the {uncompressed} bytes it claims"));
    }
    Ok(())
}

/// A part of a file, read by position.
struct Region<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Region<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// What a page header says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    /// Bytes of the header itself.
    length: u64,
    compressed: u64,
    uncompressed: u64,
    /// Of a data page.
    values: u64,
    /// Of a dictionary page.
    dictionary_values: u64,
    /// Bytes before the compressed part, in a data page of the second version.
    levels: u64,
    /// A data page of the second version that is not compressed.
    stored: bool,
}

fn header(file: &File, at: u64, end: u64) -> Result<Header, String> {
    // Most headers are short; one with long statistics is read again whole.
    let most = (end - at).min(MOST_HEADER);
    for size in [most.min(512), most] {
        // At most a mebibyte.
        let mut bytes = vec![0; size as usize];
        read_at(file, at, &mut bytes).map_err(|e| e.to_string())?;
        let mut thrift = Thrift { bytes: &bytes, at: 0 };
        match thrift.header() {
            Ok(header) => return Ok(header),
            Err(Broken::Damaged) => break,
            Err(Broken::Short) => {}
        }
    }
    Err("a page header is damaged".to_owned())
}

/// Why a header cannot be read.
enum Broken {
    /// It goes on behind the bytes that were read.
    Short,
    Damaged,
}

/// Thrift's compact protocol, as far as a page header needs it.
struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Types of the protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

impl Thrift<'_> {
    fn header(&mut self) -> Result<Header, Broken> {
        let mut header = Header::default();
        let mut id = 0;
        while let Some(kind) = self.field(&mut id)? {
            match (id, kind) {
                (2, I32) => header.uncompressed = self.size()?,
                (3, I32) => header.compressed = self.size()?,
                // Data page, dictionary page, data page of the second version: the first field is the number of values.
                (5, STRUCT) => header.values = self.first_number()?,
                (8, STRUCT) => self.second_version(&mut header)?,
                (7, STRUCT) => header.dictionary_values = self.first_number()?,
                _ => self.skip(kind, 0)?,
            }
        }
        header.length = self.at as u64;
        Ok(header)
    }

    fn first_number(&mut self) -> Result<u64, Broken> {
        let (mut id, mut number) = (0, 0);
        while let Some(kind) = self.field(&mut id)? {
            match (id, kind) {
                (1, I32) => number = self.size()?,
                _ => self.skip(kind, 1)?,
            }
        }
        Ok(number)
    }

    fn second_version(&mut self, header: &mut Header) -> Result<(), Broken> {
        let mut id = 0;
        while let Some(kind) = self.field(&mut id)? {
            match (id, kind) {
                (1, I32) => header.values = self.size()?,
                (5 | 6, I32) => header.levels = header.levels.saturating_add(self.size()?),
                (7, FALSE) => header.stored = true,
                _ => self.skip(kind, 1)?,
            }
        }
        Ok(())
    }

    /// The type of the next field, whose id is set; `None` at the end of the struct.
    fn field(&mut self, id: &mut i64) -> Result<Option<u8>, Broken> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        *id = match byte >> 4 {
            0 => self.zigzag()?,
            delta => id.checked_add(i64::from(delta)).ok_or(Broken::Damaged)?,
        };
        Ok(Some(byte & 15))
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Result<(), Broken> {
        if depth > MOST_DEPTH {
            return Err(Broken::Damaged);
        }
        match kind {
            TRUE | FALSE => {}
            BYTE => self.advance(1)?,
            I16 | I32 | I64 => drop(self.varint()?),
            DOUBLE => self.advance(8)?,
            BINARY => {
                let length = usize::try_from(self.varint()?).map_err(|_| Broken::Damaged)?;
                self.advance(length)?;
            }
            LIST | SET => {
                let byte = self.byte()?;
                let length = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                for _ in 0..length {
                    // Booleans take a byte each in a list.
                    self.skip(if matches!(byte & 15, TRUE | FALSE) { BYTE } else { byte & 15 }, depth + 1)?;
                }
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
            }
            _ => return Err(Broken::Damaged),
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        let byte = *self.bytes.get(self.at).ok_or(Broken::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, bytes: usize) -> Result<(), Broken> {
        self.at = self.at.checked_add(bytes).ok_or(Broken::Damaged)?;
        if self.at > self.bytes.len() { Err(Broken::Short) } else { Ok(()) }
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte & 128 == 0 {
                return Ok(number);
            }
        }
        Err(Broken::Damaged)
    }

    fn zigzag(&mut self) -> Result<i64, Broken> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A size, which must not be negative.
    fn size(&mut self) -> Result<u64, Broken> {
        u64::try_from(self.zigzag()?).map_err(|_| Broken::Damaged)
    }
}
