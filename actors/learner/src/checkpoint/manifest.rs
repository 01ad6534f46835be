//! `state/MANIFEST.json`: the size and blake3 of every other file of a checkpoint, and of itself. It is written in one
//! canonical form, so that any changed bit is noticed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{STATE, json, names, write_synced};
use crate::LearnerError;

pub(super) const NAME: &str = "MANIFEST.json";

#[derive(Serialize, Deserialize)]
struct Manifest {
    /// By path inside the checkpoint.
    files: BTreeMap<String, Fingerprint>,
    /// blake3 of `files` as JSON.
    checksum: String,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Fingerprint {
    bytes: u64,
    blake3: String,
}

/// Writes the manifest of all files that lie in `dir` and its `state` folder.
pub(super) fn write(dir: &Path, state: &Path) -> Result<(), LearnerError> {
    let mut files = BTreeMap::new();
    for name in names(dir)?.into_iter().filter(|name| name != STATE) {
        files.insert(name.clone(), fingerprint(&dir.join(&name))?);
    }
    for name in names(state)? {
        files.insert(format!("{STATE}/{name}"), fingerprint(&state.join(&name))?);
    }
    let path = state.join(NAME);
    let checksum = blake3::hash(json(&path, &files)?.as_bytes()).to_hex().to_string();
    write_synced(&path, json(&path, &Manifest { files, checksum })?.as_bytes())
}

/// Checks every file that the manifest names, and returns their paths inside the checkpoint.
pub(super) fn verify(dir: &Path, state: &Path) -> Result<Vec<String>, LearnerError> {
    let manifest = read(&state.join(NAME))?;
    for (name, listed) in &manifest.files {
        let path = dir.join(name);
        let problem = match fingerprint(&path) {
            Ok(found) if found == *listed => continue,
            Ok(found) if found.bytes != listed.bytes => {
                format!("it has {} bytes, {} were written", found.bytes, listed.bytes)
            }
            Ok(_) => "its content is not what was written (blake3 differs)".to_owned(),
            Err(error) => format!("it cannot be read ({error})"),
        };
        return Err(LearnerError::Checkpoint { path, problem });
    }
    Ok(manifest.files.into_keys().collect())
}

fn read(path: &Path) -> Result<Manifest, LearnerError> {
    let refuse = |problem: String| LearnerError::Checkpoint { path: path.to_owned(), problem };
    let bytes = fs::read(path).map_err(|e| refuse(format!("it cannot be read ({e})")))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| refuse(format!("not a manifest: {e}")))?;
    let checksum = blake3::hash(json(path, &manifest.files)?.as_bytes()).to_hex().to_string();
    if checksum != manifest.checksum || json(path, &manifest)?.as_bytes() != bytes {
        return Err(refuse("its content is not what was written (its own checksum differs)".to_owned()));
    }
    Ok(manifest)
}

fn fingerprint(path: &Path) -> Result<Fingerprint, LearnerError> {
    let io = |e| LearnerError::io(path)(e);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).map_err(io)?).map_err(io)?;
    Ok(Fingerprint { bytes: fs::metadata(path).map_err(io)?.len(), blake3: hasher.finalize().to_hex().to_string() })
}
