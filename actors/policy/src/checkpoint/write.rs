use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{SafeTensorError, TensorView};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{CONFIG, FORMATS, WEIGHTS, file_error, io, places};
use crate::{Layout, ModelConfig, PolicyError};

/// What goes with the weights, where the source has it: how to tokenize and how to generate.
const COMPANIONS: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
];

/// Writes `flat`, laid out for `config`, as a model directory: the weights in `kind` (f32, f16 or bf16), and from
/// `source_dir` the configuration and the tokenizer. `dir` must not exist. All files and the directory are on the disk when
/// it returns; the directory's own name is for the caller to sync.
pub fn save(dir: &Path, source_dir: &Path, config: &ModelConfig, flat: &Tensor, kind: Kind) -> Result<(), PolicyError> {
    let format = FORMATS.iter().find(|(_, of, _)| *of == kind);
    let &(dtype, _, name) = format.ok_or_else(|| PolicyError::Unsupported {
        what: format!("saving weights as {kind:?}"),
        hint: "Float, Half and BFloat16 are".to_owned(),
    })?;
    if ModelConfig::from_dir(source_dir)? != *config {
        let problem = "describes another model than the weights to be saved".to_owned();
        return Err(file_error(&source_dir.join(CONFIG), problem));
    }
    fs::create_dir(dir).map_err(io(dir))?;
    let write = || {
        write_config(&source_dir.join(CONFIG), &dir.join(CONFIG), name)?;
        copy_companions(source_dir, dir)?;
        write_weights(dir, config, flat, kind, dtype)?;
        File::open(dir).and_then(|opened| opened.sync_all()).map_err(io(dir))
    };
    write().inspect_err(|_| {
        // The directory is ours and incomplete. If it cannot be removed either, the first error still says why.
        let _ = fs::remove_dir_all(dir);
    })
}

/// Copies what goes with the weights, as far as it is there.
pub(super) fn copy_companions(source_dir: &Path, dir: &Path) -> Result<(), PolicyError> {
    for name in COMPANIONS {
        let source = source_dir.join(name);
        if source.exists() {
            write_synced(&dir.join(name), &fs::read(&source).map_err(io(&source))?)?;
        }
    }
    Ok(())
}

/// Copies config.json, as it is unless it names another number format than the weights will have: then rewritten the way
/// transformers writes it (keys sorted, two spaces).
pub(super) fn write_config(source: &Path, target: &Path, format: &str) -> Result<(), PolicyError> {
    let mut text = fs::read(source).map_err(io(source))?;
    let mut value: Value = serde_json::from_slice(&text).map_err(|e| file_error(source, format!("not JSON: {e}")))?;
    let mut changed = false;
    // transformers 5 and 4
    for key in ["dtype", "torch_dtype"] {
        if let Some(named) = value.get_mut(key).filter(|named| *named != format) {
            *named = format.into();
            changed = true;
        }
    }
    if changed {
        text = format!("{value:#}\n").into_bytes();
    }
    write_synced(target, &text)
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), PolicyError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io(path))
}

/// Splits the buffer into the tensors of the checkpoint and writes them, ordered and padded by the safetensors library.
fn write_weights(dir: &Path, config: &ModelConfig, flat: &Tensor, kind: Kind, dtype: Dtype) -> Result<(), PolicyError> {
    let path = dir.join(WEIGHTS);
    let layout = Layout::new(config);
    if flat.size() != [layout.numel()] {
        let problem = format!("weights must be of shape [{}], got {:?}", layout.numel(), flat.size());
        return Err(file_error(&path, problem));
    }
    let flat = tch::no_grad(|| flat.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(kind)?.f_contiguous())?;
    let bytes = bytes_of(&flat);
    let width = kind.elt_size_in_bytes();
    let views = places(&layout).into_iter().map(|place| {
        let shape = place.shape.iter().map(|&n| n as usize).collect();
        let (start, length) = (place.offset as usize * width, place.numel as usize * width);
        TensorView::new(dtype, shape, &bytes[start..start + length]).map(|view| (place.name.to_owned(), view))
    });
    let views: Vec<(String, TensorView)> = views.collect::<Result<_, _>>().map_err(|e| weights_error(&path, e))?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), &path).map_err(|e| weights_error(&path, e))?;
    // The library writes through a temporary file that only its owner may read; make it like the files beside it.
    let beside = dir.join(CONFIG);
    let permissions = fs::metadata(&beside).map_err(io(&beside))?.permissions();
    fs::set_permissions(&path, permissions).and_then(|()| File::open(&path)?.sync_all()).map_err(io(&path))
}

fn weights_error(path: &Path, error: SafeTensorError) -> PolicyError {
    match error {
        SafeTensorError::IoError(source) => io(path)(source),
        other => file_error(path, format!("cannot be written: {other}")),
    }
}

/// The memory of a contiguous tensor on the CPU.
fn bytes_of(tensor: &Tensor) -> &[u8] {
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    // SAFETY: the caller's tensor is contiguous and on the CPU, so its data is `length` initialised bytes, which live as long
    // as the borrow. Nobody writes to them meanwhile: the learner saves between two optimiser steps, on its own thread.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), length) }
}
