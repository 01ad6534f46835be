//! Published weights as model directories, for other processes.
//!
//! ```text
//! <root>/version-000057/    a Hugging Face directory (or PEFT's, where adapters are published alone), and its manifest
//! <root>/version-000058/
//! <root>/latest             a link to the newest
//! ```
//!
//! A publication is complete or absent: it is written as `version-000058.tmp`, every file synced and listed in the manifest with
//! its checksum, then renamed; `latest` is moved afterwards, in one instant, and only then older ones are removed. Whatever an
//! interrupted write left is removed by the next [`WeightDirectory::open`]. A reader resolves `latest` once and then has until
//! `keep` newer publications to open the files.
//!
//! Limits: one run per directory. A run that goes on from a checkpoint publishes versions again that its former life published;
//! the older one is removed first, so for an instant there is neither.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use counterpoint_policy::{Snapshot, checkpoint};
use counterpoint_rollout::PolicyVersion;

use crate::manifest;
use crate::{Delivered, TransportError};

const LATEST: &str = "latest";
const TEMPORARY: &str = ".tmp";

/// Writes the model's files of a snapshot into a directory that does not exist yet. The second path is that of the model that
/// the run started from.
type WriteModel = fn(&Snapshot, &Path, &Path) -> Result<(), TransportError>;

/// See the module.
#[derive(Debug)]
pub struct WeightDirectory {
    root: PathBuf,
    source: PathBuf,
    keep: usize,
    /// What lies there, in the order of publication. Those of a former life come first, by version.
    published: VecDeque<String>,
    write_model: WriteModel,
}

impl WeightDirectory {
    /// The publications under `root`, which is created; at most `keep` of them (at least one) stay. `source`: the model directory
    /// that the run started from, for its config and tokenizer.
    pub fn open(root: &Path, source: &Path, keep: usize) -> Result<Self, TransportError> {
        fs::create_dir_all(root).map_err(TransportError::io(root))?;
        let mut published = Vec::new();
        for entry in fs::read_dir(root).map_err(TransportError::io(root))? {
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = entry.map_err(TransportError::io(root))?.file_name().into_string() else { continue };
            match name.strip_suffix(TEMPORARY) {
                Some(whole) if whole == LATEST || version_of(whole).is_some() => {
                    tracing::warn!("removing {}, left by an interrupted publication", root.join(&name).display());
                    remove(&root.join(&name))?;
                }
                Some(_) => {}
                None => published.extend(version_of(&name).map(|version| (version, name))),
            }
        }
        published.sort();
        let published = published.into_iter().map(|(_, name)| name).collect();
        let directory = Self { root: root.to_owned(), source: source.to_owned(), keep, published, write_model };
        directory.try_out()?;
        Ok(directory)
    }

    /// Refuses at once a directory that cannot be written to.
    fn try_out(&self) -> Result<(), TransportError> {
        let trial = self.root.join(format!("{LATEST}{TEMPORARY}"));
        symlink("nothing", &trial).map_err(TransportError::io(&trial))?;
        remove(&trial)
    }

    /// Publishes weights; takes as long as the disk takes.
    pub fn publish(&mut self, snapshot: &Snapshot) -> Result<Delivered, TransportError> {
        let version = snapshot.version();
        let name = format!("version-{:06}", version.0);
        let temporary = self.root.join(format!("{name}{TEMPORARY}"));
        let bytes = self.write(snapshot, &temporary).inspect_err(|_| {
            // Incomplete, and ours. If it cannot be removed, `open` will; the first error says why there is nothing.
            let _ = remove(&temporary);
        })?;
        let path = self.root.join(&name);
        self.published.retain(|there| *there != name);
        remove(&path)?;
        fs::rename(&temporary, &path).map_err(TransportError::io(&temporary))?;
        sync(&self.root)?;
        self.point_latest(&name)?;
        self.published.push_back(name);
        self.remove_older();
        Ok(Delivered { version, bytes })
    }

    fn write(&self, snapshot: &Snapshot, dir: &Path) -> Result<u64, TransportError> {
        remove(dir)?;
        (self.write_model)(snapshot, dir, &self.source)?;
        let bytes = manifest::write(dir, snapshot.version())?;
        sync(dir)?;
        Ok(bytes)
    }

    fn point_latest(&self, name: &str) -> Result<(), TransportError> {
        let temporary = self.root.join(format!("{LATEST}{TEMPORARY}"));
        remove(&temporary)?;
        symlink(name, &temporary).map_err(TransportError::io(&temporary))?;
        fs::rename(&temporary, self.root.join(LATEST)).map_err(TransportError::io(&temporary))?;
        sync(&self.root)
    }

    /// Each is renamed first, so that one half removed is not taken for whole. One that cannot be removed costs room, no weights.
    fn remove_older(&mut self) {
        while self.published.len() > self.keep.max(1) {
            let Some(old) = self.published.pop_front() else { return };
            let (path, doomed) = (self.root.join(&old), self.root.join(format!("{old}{TEMPORARY}")));
            let renamed = fs::rename(&path, &doomed).map_err(TransportError::io(&path));
            if let Err(error) = renamed.and_then(|()| remove(&doomed)) {
                tracing::warn!("an older publication of weights stays: {error}");
            }
        }
    }
}

/// Only what was trained is written: of an adapter beside a frozen model the adapter alone.
fn write_model(snapshot: &Snapshot, dir: &Path, source: &Path) -> Result<(), TransportError> {
    snapshot.arrive()?;
    match snapshot.adapter() {
        Some((adapted, values)) => checkpoint::save_adapter(dir, source, adapted, values)?,
        None => checkpoint::save(dir, source, snapshot.config(), snapshot.flat(), snapshot.flat().kind())?,
    }
    Ok(())
}

fn version_of(name: &str) -> Option<PolicyVersion> {
    name.strip_prefix("version-")?.parse().ok().map(PolicyVersion)
}

/// A file, link or directory, if it is there.
fn remove(path: &Path) -> Result<(), TransportError> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(TransportError::io(path))
}

/// Makes a directory's entries survive a power cut.
fn sync(path: &Path) -> Result<(), TransportError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(TransportError::io(path))
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
