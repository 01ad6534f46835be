use std::fs;
use std::path::Path;

use tch::{Kind, Tensor};

use super::companions::{self, sync_dir, write_synced};
use super::shards::{in_saved_order, index, split};
use super::stream::{format_of, write_tensors};
use super::{CONFIG, INDEX, file_error, io, places};
use crate::{Layout, ModelConfig, PolicyError};

/// How weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Their number format: f32, f16 or bf16.
    pub kind: Kind,
    /// Bytes of one file of weights, at most; more are split into several with an index. A single tensor is never split.
    pub max_shard_bytes: u64,
}

impl Export {
    /// The size of a file that Hugging Face's tools split at by default: 5 GB.
    pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;
}

impl From<Kind> for Export {
    /// In files of the usual size.
    fn from(kind: Kind) -> Self {
        Self { kind, max_shard_bytes: Self::DEFAULT_SHARD_BYTES }
    }
}

/// Writes `flat`, laid out for `config`, as a model directory: the weights as `export` says, and from `source_dir` the
/// configuration and the tokenizer. `dir` must not exist. All files and the directory are on the disk when it returns; the
/// directory's own name is for the caller to sync.
pub fn save(
    dir: &Path,
    source_dir: &Path,
    config: &ModelConfig,
    flat: &Tensor,
    export: impl Into<Export>,
) -> Result<(), PolicyError> {
    let export = export.into();
    let (_, format) = format_of(export.kind)?;
    if ModelConfig::from_dir(source_dir)? != *config {
        let problem = "describes another model than the weights to be saved".to_owned();
        return Err(file_error(&source_dir.join(CONFIG), problem));
    }
    fs::create_dir(dir).map_err(io(dir))?;
    let write = || {
        companions::write(dir, source_dir, format)?;
        write_weights(dir, config, flat, export)?;
        sync_dir(dir)
    };
    write().inspect_err(|_| {
        // The directory is ours and incomplete. If it cannot be removed either, the first error still says why.
        let _ = fs::remove_dir_all(dir);
    })
}

/// Splits the buffer into the tensors of the checkpoint and writes them to as many files as they need.
fn write_weights(dir: &Path, config: &ModelConfig, flat: &Tensor, export: Export) -> Result<(), PolicyError> {
    let layout = Layout::new(config);
    if flat.size() != [layout.numel()] {
        let problem = format!("weights must be of shape [{}], got {:?}", layout.numel(), flat.size());
        return Err(file_error(dir, problem));
    }
    let places = in_saved_order(places(&layout));
    let width = export.kind.elt_size_in_bytes() as u64;
    let sizes: Vec<u64> = places.iter().map(|place| place.numel as u64 * width).collect();
    let shards = split(&sizes, export.max_shard_bytes);
    for (file, tensors) in &shards {
        let views = tensors.iter().map(|i| &places[*i]).map(|place| {
            let view =
                tch::no_grad(|| flat.f_detach()?.f_narrow(0, place.offset, place.numel)?.f_view(&place.shape[..]))?;
            Ok((place.name, view))
        });
        write_tensors(&dir.join(file), &views.collect::<Result<Vec<_>, PolicyError>>()?, export.kind)?;
    }
    if shards.len() > 1 {
        write_synced(&dir.join(INDEX), index(&shards, &places, width).as_bytes())?;
    }
    Ok(())
}
