//! Parquet by the record API of the `parquet` crate: row group after row group, nested structs and lists as JSON.
//!
//! Files are not trusted: every row group's page headers are checked first ([`super::pages`]), and a panic inside the reader
//! becomes an error of the file. Codecs: none, snappy, gzip, zstd and LZ4_RAW.

use std::cell::Cell;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row as Record};
use serde_json::{Map, Number, Value};

use super::{Place, Row, pages};
use crate::DataError;

/// Bytes of the largest footer: its parsed form is some ten times as large.
const MOST_FOOTER: u64 = 64 << 20;

/// The rows of one file.
pub(super) struct ParquetRows {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
    reader: SerializedFileReader<File>,
    group: usize,
    /// Rows still due in the current group.
    due: u64,
    rows: Option<ReaderIter>,
    number: u64,
}

impl ParquetRows {
    pub(super) fn open(path: &Path, file: File) -> Result<Self, DataError> {
        let length = file.metadata().map_err(DataError::io(path))?.len();
        check_footer(&file, length).map_err(|problem| damaged(path, &problem))?;
        let second = file.try_clone().map_err(DataError::io(path))?;
        let reader = contained(|| SerializedFileReader::new(file)).map_err(|problem| damaged(path, &problem))?;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(second),
            length,
            reader,
            group: 0,
            due: 0,
            rows: None,
            number: 0,
        })
    }

    pub(super) fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        loop {
            if self.due > 0
                && let Some(rows) = &mut self.rows
            {
                let next = contained(|| rows.next().transpose());
                let record = next.and_then(|row| row.ok_or_else(|| "a row group ends before its rows do".to_owned()));
                let record =
                    record.map_err(|problem| damaged(&self.path, &format!("{problem}, behind row {}", self.number)))?;
                self.due -= 1;
                self.number += 1;
                let place = Place { number: self.number, bytes: None };
                return Ok(Some(Row { place, value: row(record) }));
            }
            if !self.next_group()? {
                return Ok(None);
            }
        }
    }

    /// Moves to the next row group, if there is one.
    fn next_group(&mut self) -> Result<bool, DataError> {
        let metadata: &ParquetMetaData = self.reader.metadata();
        if self.group >= metadata.num_row_groups() {
            return Ok(false);
        }
        let group = metadata.row_group(self.group);
        let place = |problem: String| damaged(&self.path, &format!("row group {}: {problem}", self.group + 1));
        self.due = check_group(&self.file, self.length, group).map_err(place)?;
        let (reader, index) = (&self.reader, self.group);
        self.rows = Some(contained(|| rows_of(reader, index)).map_err(place)?);
        self.group += 1;
        Ok(true)
    }
}

/// The iterator owns what it needs of the row group: the page readers share the file.
fn rows_of(reader: &SerializedFileReader<File>, index: usize) -> parquet::errors::Result<ReaderIter> {
    let group = reader.get_row_group(index)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    TreeBuilder::new().as_iter(schema, &*group)
}

fn damaged(path: &Path, problem: &str) -> DataError {
    DataError::file(path, format!("not a Parquet file that can be read: {problem}"))
}

/// The footer's length is the last thing in the file, before the magic.
fn check_footer(file: &File, length: u64) -> Result<(), String> {
    if length < 12 {
        return Err(format!("it has only {length} bytes"));
    }
    let mut tail = [0; 8];
    pages::read_at(file, length - 8, &mut tail).map_err(|e| e.to_string())?;
    let (size, magic) = tail.split_at(4);
    if magic != b"PAR1" {
        return Err("it does not end as one does; is it cut off?".to_owned());
    }
    // Four bytes by construction.
    let size = u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    match size {
        _ if size > length - 12 => Err(format!("its footer claims {size} bytes of a file of {length}")),
        _ if size > MOST_FOOTER => Err(format!("its footer has {size} bytes; at most {MOST_FOOTER} are read")),
        _ => Ok(()),
    }
}

/// Checks what a row group claims, and says how many rows it has.
fn check_group(file: &File, length: u64, group: &RowGroupMetaData) -> Result<u64, String> {
    let rows = u64::try_from(group.num_rows()).map_err(|_| "has a negative number of rows".to_owned())?;
    if group.num_columns() == 0 {
        return Err("has no column".to_owned());
    }
    for column in group.columns() {
        let name = column.column_path().string();
        let place = |problem: String| format!("column {name:?}: {problem}");
        match column.compression() {
            Compression::UNCOMPRESSED
            | Compression::SNAPPY
            | Compression::GZIP(_)
            | Compression::ZSTD(_)
            | Compression::LZ4_RAW => {}
            other => {
                let advice = "write it with snappy, zstd, gzip, LZ4_RAW or none";
                return Err(place(format!("its compression {other} is not supported; {advice}")));
            }
        }
        if u64::try_from(column.num_values()).unwrap_or(0) < rows {
            return Err(place(format!("has fewer values than the {rows} rows")));
        }
        pages::check_column(file, length, column).map_err(place)?;
    }
    Ok(rows)
}

/// Runs the reader; its panic is the file's error, and is not printed.
fn contained<T, E: std::fmt::Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    thread_local! { static QUIET: Cell<bool> = const { Cell::new(false) }; }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(one_line(&error.to_string())),
        Err(panic) => Err(one_line(counterpoint_rollout::panic_text(&*panic))),
    }
}

fn one_line(text: &str) -> String {
    let text = text.strip_prefix("Parquet error: ").unwrap_or(text);
    text.lines().next().unwrap_or("unreadable").to_owned()
}

fn row(record: Record) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    for (name, field) in record.into_columns() {
        let value = json(&field).map_err(|problem| format!("column {name:?}: {problem}"))?;
        out.insert(name, value);
    }
    Ok(out)
}

/// A field as JSON. Text that is kept as plain bytes is text if it is UTF-8.
fn json(field: &Field) -> Result<Value, String> {
    Ok(match field {
        Field::Str(text) => Value::String(text.clone()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.to_owned()),
            // Images and the like: no question needs them, and as text they would be four thirds as large.
            Err(_) => Value::Null,
        },
        // The shortest text that is the same float: 0.1, and not 0.10000000149011612.
        Field::Float(n) => finite(n.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(n) => finite(*n),
        Field::Group(group) => {
            let mut out = Map::new();
            for (name, field) in group.get_column_iter() {
                out.insert(name.clone(), json(field)?);
            }
            Value::Object(out)
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(json).collect::<Result<_, _>>()?),
        Field::MapInternal(map) => {
            let mut out = Map::new();
            for (key, value) in map.entries() {
                let key = match json(key)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                out.insert(key, json(value)?);
            }
            Value::Object(out)
        }
        Field::Null => Value::Null,
        Field::Bool(b) => Value::Bool(*b),
        Field::Byte(n) => (*n).into(),
        Field::Short(n) => (*n).into(),
        Field::Int(n) => (*n).into(),
        Field::Long(n) => (*n).into(),
        Field::UByte(n) => (*n).into(),
        Field::UShort(n) => (*n).into(),
        Field::UInt(n) => (*n).into(),
        Field::ULong(n) => (*n).into(),
        Field::Float16(n) => finite(f64::from(n.to_f32())),
        // Decimals, dates and times have a usual text.
        other => Value::String(other.to_string()),
    })
}

fn finite(n: f64) -> Value {
    Number::from_f64(n).map_or(Value::Null, Value::Number)
}
