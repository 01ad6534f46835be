//! `counterpoint-manifest.json` of published weights: their version, and size and SHA-256 of every other file.
//!
//! ```text
//! {"format": 1, "version": 57, "files": {"config.json": {"bytes": 617, "sha256": "..."}, ...}, "sha256": "..."}
//! ```
//!
//! The last checksum is that of `{"format": .., "version": .., "files": ..}` as one line without blanks. The file is written in
//! one form only, so that any changed bit is noticed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use counterpoint_rollout::PolicyVersion;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::TransportError;

/// The manifest's name in the directory that it describes.
pub const MANIFEST: &str = "counterpoint-manifest.json";
const FORMAT: u32 = 1;
/// Bytes of a manifest that are read at most.
const LONGEST: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Listed {
    format: u32,
    version: PolicyVersion,
    /// By path inside the directory.
    files: BTreeMap<String, Fingerprint>,
}

#[derive(Serialize)]
struct Manifest<'a> {
    #[serde(flatten)]
    listed: &'a Listed,
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    bytes: u64,
    sha256: String,
}

/// Whether a directory has a manifest: it was published, and [`verify`] may be asked.
pub fn is_published(dir: &Path) -> bool {
    dir.join(MANIFEST).exists()
}

/// Checks every file that a published directory's manifest names; the version of the weights. Resolve a link (`latest`) before,
/// since it may be moved while one reads.
pub fn verify(dir: &Path) -> Result<PolicyVersion, TransportError> {
    let Listed { version, files, .. } = read(&dir.join(MANIFEST))?;
    for (name, listed) in files {
        let path = dir.join(&name);
        let problem = match fingerprint(&path) {
            Ok(found) if found == listed => continue,
            Ok(found) if found.bytes != listed.bytes => {
                format!("it has {} bytes, {} were published", found.bytes, listed.bytes)
            }
            Ok(_) => "its content is not what was published (SHA-256 differs)".to_owned(),
            Err(error) => format!("it was published and cannot be read ({error})"),
        };
        return Err(TransportError::Damaged { path, problem });
    }
    Ok(version)
}

/// Writes the manifest of all files in `dir` and one folder deep, and syncs it. Returns the bytes of them all.
pub(crate) fn write(dir: &Path, version: PolicyVersion) -> Result<u64, TransportError> {
    let mut files = BTreeMap::new();
    list(dir, "", &mut files)?;
    let bytes = files.values().map(|file: &Fingerprint| file.bytes).sum();
    let path = dir.join(MANIFEST);
    let text = text(&path, &Listed { format: FORMAT, version, files })?;
    let write = || {
        let mut file = File::create_new(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(TransportError::io(&path))?;
    Ok(bytes)
}

fn list(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Fingerprint>) -> Result<(), TransportError> {
    for entry in fs::read_dir(dir).map_err(TransportError::io(dir))? {
        let path = entry.map_err(TransportError::io(dir))?.path();
        // The names are those that we have just written.
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            list(&path, &format!("{name}/"), files)?;
        } else {
            files.insert(name, fingerprint(&path).map_err(TransportError::io(&path))?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Listed, TransportError> {
    let refuse = |problem: String| TransportError::Damaged { path: path.to_owned(), problem };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(TransportError::io(path))?;
    file.take(LONGEST).read_to_end(&mut bytes).map_err(TransportError::io(path))?;
    let listed: Listed = serde_json::from_slice(&bytes).map_err(|e| refuse(format!("not a manifest: {e}")))?;
    if listed.format != FORMAT {
        return Err(refuse(format!("its format is {}, this program reads {FORMAT}", listed.format)));
    }
    if text(path, &listed)?.as_bytes() != bytes {
        return Err(refuse("its content is not what was published (its own checksum differs)".to_owned()));
    }
    Ok(listed)
}

/// The one form of a manifest.
fn text(path: &Path, listed: &Listed) -> Result<String, TransportError> {
    let refuse = |e: serde_json::Error| TransportError::Damaged { path: path.to_owned(), problem: e.to_string() };
    let sha256 = hex(Sha256::digest(serde_json::to_vec(listed).map_err(refuse)?).as_slice());
    Ok(serde_json::to_string(&Manifest { listed, sha256 }).map_err(refuse)? + "\n")
}

fn fingerprint(path: &Path) -> std::io::Result<Fingerprint> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(Fingerprint { bytes, sha256: hex(hasher.finalize().as_slice()) });
        }
        hasher.update(&piece[..count]);
        bytes += count as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
