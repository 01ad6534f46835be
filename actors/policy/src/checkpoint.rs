//! Hugging Face model directories, in and out.
//!
//! Contract: [`load`] fills one flat buffer (see [`Layout`]) from `model.safetensors`, or from the shards that
//! `model.safetensors.index.json` names, in f32, f16 or bf16. Every tensor of the layout must be there with its shape, and
//! no tensor may be there that the model does not have: a surplus bias means that config.json describes another model.
//! [`save`] writes a complete directory that transformers, and `load`, read, a piece at a time: one file of weights or, above
//! [`Export::max_shard_bytes`], shards and their index. Saving what was loaded in the same number format gives the same bytes
//! as the safetensors library wrote.
//!
//! A directory with an adapter of PEFT (LoRA) is loaded as its base with the adapter folded in; [`load_adapter`] and
//! [`save_adapter`] handle the adapter alone, [`merge()`] makes a directory of both.
//!
//! Limits: safetensors only, never pickles. The files are memory mapped while they are copied and must not shrink meanwhile;
//! of them no more than a few megabytes are in memory, so that a load takes the parameters' own size. What an index names
//! lies in the model's directory or is refused. Nothing of the size of the weights is allocated before every tensor is found.
//!
//! Recovery: a failed `save` leaves nothing behind; a `save` that the power cut is recognised by the caller, who renames a
//! complete directory into place.

use std::path::Path;

use safetensors::Dtype;
use tch::Kind;

use crate::{Layout, PolicyError};

mod adapter;
mod adapter_config;
mod companions;
mod files;
mod header;
mod merge;
mod read;
mod shards;
mod stream;
mod write;

pub(crate) use adapter::model_dir;
pub use adapter::{is_adapter, load as load_adapter, save as save_adapter};
pub use merge::{Merged, merge};
pub use read::{load, stored_kind};
pub use stream::write_tensors;
pub use write::{Export, save};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// The number formats in which weights are read and written.
const FORMATS: [(Dtype, Kind, &str); 3] = [
    (Dtype::F32, Kind::Float, "float32"),
    (Dtype::F16, Kind::Half, "float16"),
    (Dtype::BF16, Kind::BFloat16, "bfloat16"),
];

/// One tensor of the checkpoint and its place in the flat buffer.
struct Place<'a> {
    name: &'a str,
    shape: Vec<i64>,
    offset: i64,
    numel: i64,
}

/// Every tensor that a model's checkpoint has, in the buffer's order.
fn places(layout: &Layout) -> Vec<Place<'_>> {
    let mut offset = 0;
    let parts = layout.entries().iter().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part)));
    parts
        .map(|(entry, part)| {
            let shape = entry.part_shape(part);
            let numel = shape.iter().product();
            let place = Place { name: &part.name, shape, offset, numel };
            offset += numel;
            place
        })
        .collect()
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PolicyError {
    let path = path.to_owned();
    |source| PolicyError::Io { path, source }
}

fn file_error(path: &Path, problem: String) -> PolicyError {
    PolicyError::File { path: path.to_owned(), problem }
}
