//! Which files hold a model's weights, and their bytes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;

use super::{INDEX, WEIGHTS, file_error, io};
use crate::{PolicyError, text_file};

/// Bytes of an index that are read at most: a hundred for each of a million tensors.
const LONGEST_INDEX: u64 = 100 << 20;

/// The files that hold the weights: one, or the shards that the index names.
pub(super) fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, PolicyError> {
    let (single, index) = (dir.join(WEIGHTS), dir.join(INDEX));
    if single.exists() {
        return Ok(vec![single]);
    }
    if !index.exists() {
        return Err(no_weights(dir));
    }
    let text = text_file::read(&index, LONGEST_INDEX)?;
    let value: Value = serde_json::from_str(&text).map_err(|e| file_error(&index, format!("not JSON: {e}")))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| file_error(&index, "needs a \"weight_map\" from tensor to file name".to_owned()))?;
    // Sorted, and each shard once.
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        let name = shard.as_str().filter(|name| is_plain(name)).ok_or_else(|| {
            file_error(&index, format!("{tensor} must lie in a .safetensors file of the same directory, got {shard}"))
        })?;
        shards.insert(name);
    }
    if shards.is_empty() {
        return Err(file_error(&index, "\"weight_map\" names no file".to_owned()));
    }
    shards.into_iter().map(|name| inside(dir, name)).collect()
}

/// Whether a name stays in its directory and is of the one format that is read.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let single =
        matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name);
    single && !name.contains(['\\', '\0']) && name.ends_with(".safetensors")
}

/// The path of a shard, unless it is a link that leads out of the model's directory. The links of a Hugging Face cache,
/// from `snapshots/<revision>` to the `blobs` of the same model, may.
fn inside(dir: &Path, name: &str) -> Result<PathBuf, PolicyError> {
    let path = dir.join(name);
    let real_dir = fs::canonicalize(dir).map_err(io(dir))?;
    let real = fs::canonicalize(&path).map_err(io(&path))?;
    let snapshots = real_dir.parent().filter(|parent| parent.file_name() == Some(OsStr::new("snapshots")));
    let blobs = snapshots.and_then(Path::parent).map(|model| model.join("blobs"));
    if real.starts_with(&real_dir) || blobs.is_some_and(|blobs| real.parent() == Some(&blobs)) {
        return Ok(path);
    }
    let problem = format!("is a link to {}, outside the model's directory; put the file itself there", real.display());
    Err(file_error(&path, problem))
}

fn no_weights(dir: &Path) -> PolicyError {
    let pickle = fs::read_dir(dir).ok().into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let is_pickle = |path: &PathBuf| path.extension().is_some_and(|e| e == "bin" || e == "pt" || e == "pth");
    match pickle.filter(is_pickle).min() {
        Some(path) => PolicyError::Unsupported {
            what: format!("{} (a pickle, which can run code when it is read)", path.display()),
            hint: "convert it to safetensors in Python: \
                   AutoModelForCausalLM.from_pretrained(dir).save_pretrained(new, safe_serialization=True)"
                .to_owned(),
        },
        None => file_error(dir, format!("holds neither {WEIGHTS} nor {INDEX}")),
    }
}

/// A file of weights in memory.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) path: PathBuf,
    pub(super) bytes: Mmap,
}

impl Mapped {
    pub(super) fn open(path: PathBuf) -> Result<Self, PolicyError> {
        // To open a pipe would wait for who writes to it.
        if !fs::metadata(&path).map_err(io(&path))?.is_file() {
            return Err(file_error(&path, "is not a regular file".to_owned()));
        }
        let file = File::open(&path).map_err(io(&path))?;
        // SAFETY: the map is read only. Should another process shrink the file while we copy, the operating system ends
        // this process with SIGBUS: that files do not shrink is part of the module's contract.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io(&path))?;
        Ok(Self { path, bytes })
    }

    /// Lets the memory go that holds `part` of the file. It is read from the disk again if it is looked at again.
    pub(super) fn release(&self, part: &[u8]) {
        let offset = (part.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize);
        let Some(offset) = offset.filter(|offset| offset + part.len() <= self.bytes.len()) else { return };
        #[cfg(unix)]
        // SAFETY: the map is shared and read only, so that what it shows afterwards is what it showed before: the file.
        // Should the advice fail, memory is held longer and nothing else happens.
        let _ = unsafe { self.bytes.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len()) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Names made of what paths are made of, most of them with the right ending.
        #[test]
        fn a_name_that_is_taken_is_an_entry_of_the_directory(
            pieces in prop::collection::vec(prop::sample::select(vec!["..", ".", "/", "\\", "a", "\0", "~", ".safetensors"]), 0..6),
            ending in prop::sample::select(vec!["", ".safetensors"]),
        ) {
            let name = pieces.concat() + ending;
            let plain = !name.contains(['/', '\\', '\0']) && name.ends_with(".safetensors");
            prop_assert_eq!(is_plain(&name), plain);
            if plain {
                let path = Path::new("/models/one").join(&name);
                prop_assert_eq!(path.parent(), Some(Path::new("/models/one")));
                prop_assert_eq!(path.file_name(), Some(OsStr::new(&name)));
            }
        }
    }
}
