//! The questions that were read: held in memory if they are few, else read again from disk row by row.
//!
//! A line of a plain JSONL file is read again where it stands. Rows of compressed files and of Parquet have no place of their own
//! that could be reached at once, so they are written to a temporary file (in TMPDIR) that nobody else sees and that vanishes
//! with the process. What stays in memory is 24 bytes per row.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use counterpoint_rollout::{Prompt, PromptSet};
use serde_json::Value;

use crate::config::DataConfig;
use crate::formats::{Place, row_of_line};
use crate::schema::{Mapping, Outside};
use crate::{DataError, name_of_place};

/// The questions of one side of the data.
#[derive(Debug)]
pub struct Questions(Store);

#[derive(Debug)]
enum Store {
    Held(Vec<Arc<Prompt>>),
    Disk(Box<Disk>),
}

/// A file whose lines are read again.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) label: String,
    pub(crate) mapping: Mapping,
}

#[derive(Debug)]
struct Disk {
    sources: Vec<Arc<Source>>,
    spool: Option<File>,
    rows: Vec<Placed>,
    config: DataConfig,
}

/// Where a question can be read.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// Index of the source, or [`SPOOL`].
    source: u32,
    length: u32,
    offset: u64,
    number: u64,
}

const SPOOL: u32 = u32::MAX;

impl Questions {
    /// Questions that are at hand.
    pub(crate) fn held(prompts: Vec<Arc<Prompt>>) -> Self {
        Self(Store::Held(prompts))
    }

    /// Whether all are in memory.
    pub fn are_held(&self) -> bool {
        matches!(self.0, Store::Held(_))
    }

    /// The first `limit` of them, in memory.
    ///
    /// # Errors
    /// One that cannot be read again.
    pub fn first(&self, limit: usize) -> Result<Vec<Arc<Prompt>>, DataError> {
        (0..self.len().min(limit)).map(|row| self.get(row).map_err(DataError::Setting)).collect()
    }
}

impl PromptSet for Questions {
    fn len(&self) -> usize {
        match &self.0 {
            Store::Held(prompts) => prompts.len(),
            Store::Disk(disk) => disk.rows.len(),
        }
    }

    fn get(&self, row: usize) -> Result<Arc<Prompt>, String> {
        match &self.0 {
            Store::Held(prompts) => PromptSet::get(prompts, row),
            Store::Disk(disk) => disk.get(row).map(Arc::new),
        }
    }

    fn ids_are_unique(&self) -> bool {
        // They were compared when they were read.
        true
    }
}

impl Disk {
    fn get(&self, row: usize) -> Result<Prompt, String> {
        let placed = self.rows.get(row).ok_or_else(|| format!("there is no row {row}"))?;
        let mut bytes = vec![0; placed.length as usize];
        let Some(source) = self.sources.get(placed.source as usize) else {
            let spool = self.spool.as_ref().ok_or("the temporary file is not there")?;
            spool.read_exact_at(&mut bytes, placed.offset).map_err(|e| format!("temporary file of the data: {e}"))?;
            return serde_json::from_slice(&bytes).map_err(|e| format!("temporary file of the data: {e}"));
        };
        let place = || name_of_place(&source.path, crate::Format::Jsonl, placed.number);
        let changed = |what: String| format!("{}: {what}; the file has changed since it was opened", place());
        source.file.read_exact_at(&mut bytes, placed.offset).map_err(|e| changed(e.to_string()))?;
        let row = row_of_line(&bytes, placed.number == 1).map_err(changed)?;
        let outside = Outside { file: &source.label, number: placed.number, config: &self.config };
        source.mapping.question(row.ok_or_else(|| changed("is blank".to_owned()))?, outside).map_err(changed)
    }
}

/// Gathers the questions of one side.
pub(crate) struct Gather<'a> {
    config: &'a DataConfig,
    most_bytes: u64,
    bytes: u64,
    held: Vec<Arc<Prompt>>,
    on_disk: bool,
    rows: Vec<Placed>,
    sources: Vec<Arc<Source>>,
    spool: Option<BufWriter<File>>,
    spooled: u64,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(config: &'a DataConfig) -> Self {
        Self {
            config,
            most_bytes: config.memory_mib.saturating_mul(1 << 20),
            bytes: 0,
            held: Vec::new(),
            on_disk: false,
            rows: Vec::new(),
            sources: Vec::new(),
            spool: None,
            spooled: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A file whose lines can be read again; its questions follow.
    pub(crate) fn source(&mut self, source: Arc<Source>) {
        self.sources.push(source);
    }

    /// Takes a question; `place` is where it stands in the last source, if it can be read again there.
    pub(crate) fn push(&mut self, prompt: Prompt, place: Place) -> Result<(), DataError> {
        let placed = match place.bytes {
            // There are fewer files than numbers for them.
            Some((offset, length)) if !self.sources.is_empty() => {
                Placed { source: self.sources.len() as u32 - 1, length, offset, number: place.number }
            }
            _ => Placed { source: SPOOL, length: 0, offset: 0, number: place.number },
        };
        self.bytes += size(&prompt);
        self.rows.push(placed);
        self.held.push(Arc::new(prompt));
        if self.on_disk || self.bytes > self.most_bytes {
            self.on_disk = true;
            self.spill()?;
        }
        Ok(())
    }

    /// Lets go of what is held; what cannot be read again is written down.
    fn spill(&mut self) -> Result<(), DataError> {
        let first = self.rows.len() - self.held.len();
        for (placed, prompt) in self.rows[first..].iter_mut().zip(self.held.drain(..)) {
            if placed.source == SPOOL {
                let failed = |e: std::io::Error| {
                    let dir = std::env::temp_dir();
                    DataError::Setting(format!(
                        "{}: temporary file of the data (TMPDIR chooses where): {e}",
                        dir.display()
                    ))
                };
                let bytes = serde_json::to_vec(&*prompt).map_err(|e| failed(e.into()))?;
                if self.spool.is_none() {
                    self.spool = Some(BufWriter::with_capacity(1 << 20, tempfile::tempfile().map_err(failed)?));
                }
                if let Some(spool) = &mut self.spool {
                    spool.write_all(&bytes).map_err(failed)?;
                }
                // A row has at most a few times the bytes of the longest line, which is far below four gibibytes.
                (placed.offset, placed.length) = (self.spooled, bytes.len() as u32);
                self.spooled += bytes.len() as u64;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Questions, DataError> {
        if !self.on_disk {
            return Ok(Questions::held(self.held));
        }
        let spool =
            self.spool.map(|spool| spool.into_inner().map_err(|e| DataError::Setting(e.to_string()))).transpose()?;
        let (sources, rows, config) = (self.sources, self.rows, self.config.clone());
        Ok(Questions(Store::Disk(Box::new(Disk { sources, spool, rows, config }))))
    }
}

/// About the memory of a question, in bytes of text.
fn size(prompt: &Prompt) -> u64 {
    let content = prompt.content.display().len();
    let info: usize = prompt.info.iter().map(|(name, value)| name.len() + size_of_value(value)).sum();
    (content + prompt.answer.len() + prompt.id.len() + prompt.source.len() + info) as u64
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of_value).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size_of_value(value)).sum(),
        _ => 8,
    }
}
