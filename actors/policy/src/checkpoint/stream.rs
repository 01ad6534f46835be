//! Writes a safetensors file piece by piece.
//!
//! Contract: the bytes are those that the safetensors library writes for the same tensors with the metadata that transformers
//! asks for; of each tensor no more than a piece is copied, so that saving takes a few megabytes whatever the model's size,
//! from any device and into any of the number formats. The file must not exist; it is on the disk when [`write_tensors`]
//! returns. Limits: one number format for the whole file.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::{FORMATS, file_error, io};
use crate::PolicyError;

/// Elements that are converted and written at a time.
const PIECE: i64 = 1 << 20;

/// What a header says of one tensor, in the library's order of keys.
#[derive(Serialize)]
struct Info {
    dtype: Dtype,
    shape: Vec<i64>,
    data_offsets: (u64, u64),
}

/// Writes named, contiguous tensors as a new safetensors file in the number format `kind` (f32, f16 or bf16), ordered by
/// name, and syncs it.
pub fn write_tensors(path: &Path, tensors: &[(&str, Tensor)], kind: Kind) -> Result<(), PolicyError> {
    let dtype = format_of(kind)?.0;
    let mut tensors: Vec<&(&str, Tensor)> = tensors.iter().collect();
    tensors.sort_by_key(|(name, _)| *name);
    let header = header(path, &tensors, dtype)?;
    let mut file = File::create_new(path).map_err(io(path))?;
    file.write_all(&header).map_err(io(path))?;
    for (_, tensor) in tensors {
        write_values(&mut file, path, tensor, kind)?;
    }
    file.sync_all().map_err(io(path))
}

/// The number format of a kind, as safetensors and as config.json name it.
pub(super) fn format_of(kind: Kind) -> Result<(Dtype, &'static str), PolicyError> {
    let format = FORMATS.iter().find(|(_, of, _)| *of == kind).map(|(dtype, _, name)| (*dtype, *name));
    format.ok_or_else(|| PolicyError::Unsupported {
        what: format!("saving weights as {kind:?}"),
        hint: "Float, Half and BFloat16 are".to_owned(),
    })
}

/// Length and JSON, padded with blanks so that the data begins at a multiple of 8.
fn header(path: &Path, tensors: &[&(&str, Tensor)], dtype: Dtype) -> Result<Vec<u8>, PolicyError> {
    let refuse = |e: serde_json::Error| file_error(path, format!("cannot be written: {e}"));
    let mut json = r#"{"__metadata__":{"format":"pt"}"#.to_owned();
    let mut end = 0;
    for (name, tensor) in tensors {
        let begin = end;
        end += tensor.numel() as u64 * (dtype.bitsize() / 8) as u64;
        let info = Info { dtype, shape: tensor.size(), data_offsets: (begin, end) };
        let (name, info) = (serde_json::to_string(name), serde_json::to_string(&info));
        json += &format!(",{}:{}", name.map_err(refuse)?, info.map_err(refuse)?);
    }
    json.push('}');
    json += &" ".repeat(json.len().next_multiple_of(8) - json.len());
    Ok([&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat())
}

fn write_values(file: &mut File, path: &Path, tensor: &Tensor, kind: Kind) -> Result<(), PolicyError> {
    let flat = tch::no_grad(|| tensor.f_detach()?.f_view([-1]))?;
    let numel = flat.numel() as i64;
    for begin in (0..numel).step_by(PIECE as usize) {
        let piece = tch::no_grad(|| {
            let piece = flat.f_narrow(0, begin, PIECE.min(numel - begin))?;
            piece.f_to_kind(kind)?.f_to_device(Device::Cpu)?.f_contiguous()
        })?;
        file.write_all(bytes_of(&piece)).map_err(io(path))?;
    }
    Ok(())
}

/// The memory of a contiguous tensor on the CPU.
fn bytes_of(tensor: &Tensor) -> &[u8] {
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    // SAFETY: the caller's tensor is contiguous and on the CPU, so its data is `length` initialised bytes, which live as long
    // as the borrow. Nobody writes to them meanwhile: the learner saves between two optimiser steps, on its own thread, and
    // anybody else saves snapshots, which do not change.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), length) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_safetensors_library() {
        let dir = tempfile::tempdir().unwrap();
        let tensor = |n: i64| Tensor::arange(n, (Kind::Float, Device::Cpu)) / 7;
        // A name with what JSON escapes, an empty tensor, a scalar, and one that is longer than a piece.
        let tensors = [
            ("z", tensor(PIECE + 3)),
            ("a\"\n\u{e9}", tensor(6).view([2, 3])),
            ("empty", tensor(0)),
            ("one", tensor(1).view([0i64; 0])),
        ];
        for (dtype, kind, name) in FORMATS {
            let path = dir.path().join(name);
            write_tensors(&path, &tensors, kind).unwrap();
            let converted = tensors.each_ref().map(|(name, tensor)| (*name, tensor.to_kind(kind)));
            let views = converted.iter().map(|(name, tensor)| {
                let shape = tensor.size().iter().map(|n| *n as usize).collect();
                (*name, TensorView::new(dtype, shape, bytes_of(tensor)).unwrap())
            });
            let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            let expected = safetensors::serialize(views, Some(metadata)).unwrap();
            assert!(std::fs::read(&path).unwrap() == expected, "{name}");
        }
        let error = write_tensors(&dir.path().join("float32"), &tensors, Kind::Float).unwrap_err();
        assert!(matches!(error, PolicyError::Io { .. }), "what is there is not overwritten: {error}");
        let error = write_tensors(&dir.path().join("new"), &tensors, Kind::Int64).unwrap_err().to_string();
        assert_eq!(error, "saving weights as Int64 is not supported: Float, Half and BFloat16 are");
    }
}
