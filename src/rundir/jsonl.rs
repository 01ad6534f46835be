use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{RunDirError, at};

/// An append-only file of JSON lines. Each line is one write, so that a reader that follows the file sees whole lines.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    pub(crate) fn open(path: &Path) -> Result<Self, RunDirError> {
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(at(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(crate) fn append(&mut self, line: &impl Serialize) -> Result<(), RunDirError> {
        let text = serde_json::to_string(line).map_err(|e| at(&self.path)(e.into()))? + "\n";
        self.file.write_all(text.as_bytes()).map_err(at(&self.path))
    }

    /// Makes what was appended durable; gives the file's length.
    pub(super) fn sync(&mut self) -> Result<u64, RunDirError> {
        self.file.sync_data().map_err(at(&self.path))?;
        Ok(self.file.metadata().map_err(at(&self.path))?.len())
    }

    /// Cuts the file back. One that is shorter than recorded has lost lines; that is said, and the run goes on, since no
    /// decision rests on these files.
    pub(super) fn truncate_to(&mut self, length: u64) -> Result<(), RunDirError> {
        let is = self.file.metadata().map_err(at(&self.path))?.len();
        if is < length {
            tracing::warn!("{}: {} bytes are missing that the checkpoint knew", self.path.display(), length - is);
            return Ok(());
        }
        self.file.set_len(length).map_err(at(&self.path))
    }
}
