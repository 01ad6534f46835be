//! safetensors files, tensor by tensor: no more than a row is in memory.
//!
//! Contract: what the safetensors library reads, in the files and with the index that transformers writes: one
//! `model.safetensors`, or shards of at most [`SHARD_BYTES`] and `model.safetensors.index.json`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};

use super::tensors::Planned;
use crate::PolicyError;

/// As transformers cuts: 5 GB.
pub(super) const SHARD_BYTES: u64 = 5_000_000_000;

/// The number format of the weights written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// float32, which holds every dequantised value exactly.
    Float32,
    /// bfloat16.
    Bfloat16,
    /// float16.
    Float16,
}

impl WeightFormat {
    /// As config.json names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }

    /// Bytes of one value.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Float32 => 4,
            Self::Bfloat16 | Self::Float16 => 2,
        }
    }

    fn safetensors(self) -> &'static str {
        match self {
            Self::Float32 => "F32",
            Self::Bfloat16 => "BF16",
            Self::Float16 => "F16",
        }
    }

    /// Appends the values, rounded to the nearest; the first that is not finite is given back instead.
    fn encode(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), f32> {
        for &value in values {
            let finite = match self {
                Self::Float32 => {
                    bytes.extend(value.to_le_bytes());
                    value.is_finite()
                }
                Self::Bfloat16 => {
                    let rounded = bf16::from_f32(value);
                    bytes.extend(rounded.to_le_bytes());
                    rounded.is_finite()
                }
                Self::Float16 => {
                    let rounded = f16::from_f32(value);
                    bytes.extend(rounded.to_le_bytes());
                    rounded.is_finite()
                }
            };
            if !finite {
                return Err(value);
            }
        }
        Ok(())
    }
}

/// Writes the tensors below `dir`, in files of at most `shard_bytes` (a larger tensor has one of its own). Everything is on
/// the disk when it returns.
pub(super) fn write_weights(
    dir: &Path,
    tensors: &[Planned],
    format: WeightFormat,
    shard_bytes: u64,
) -> Result<(), PolicyError> {
    let shards = cut(tensors, format, shard_bytes);
    if let [only] = shards.as_slice() {
        return write_shard(&dir.join("model.safetensors"), only, format);
    }
    let mut files = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        write_shard(&dir.join(&file), shard, format)?;
        files.extend(shard.iter().map(|tensor| (tensor.name.as_str(), file.clone())));
    }
    let total: u64 = tensors.iter().map(Planned::elements).sum::<u64>() * format.bytes();
    let index = json!({"metadata": {"total_size": total}, "weight_map": files});
    write_json(&dir.join("model.safetensors.index.json"), &index)
}

/// Runs of tensors that fit in a file.
fn cut<'t, 'a>(tensors: &'t [Planned<'a>], format: WeightFormat, shard_bytes: u64) -> Vec<&'t [Planned<'a>]> {
    let mut shards = Vec::new();
    let (mut begin, mut held) = (0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.elements() * format.bytes();
        if held > 0 && held + bytes > shard_bytes {
            shards.push(&tensors[begin..i]);
            (begin, held) = (i, 0);
        }
        held += bytes;
    }
    shards.push(&tensors[begin..]);
    shards
}

fn write_shard(path: &Path, tensors: &[Planned], format: WeightFormat) -> Result<(), PolicyError> {
    let failed = |source| PolicyError::Io { path: path.to_owned(), source };
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(failed)?);
    out.write_all(&header(tensors, format)).map_err(failed)?;
    for tensor in tensors {
        write_tensor(&mut out, tensor, format).map_err(failed)?.map_err(|value| PolicyError::File {
            path: path.to_owned(),
            problem: format!("{} holds {value}, which no {} can be", tensor.name, format.name()),
        })?;
    }
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)
}

/// Length and text of the header: names, shapes and places, padded so that the values are aligned.
fn header(tensors: &[Planned], format: WeightFormat) -> Vec<u8> {
    let mut end = 0;
    let mut entries = serde_json::Map::new();
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    for tensor in tensors {
        let begin = end;
        end += tensor.elements() * format.bytes();
        let entry = json!({"dtype": format.safetensors(), "shape": tensor.shape, "data_offsets": [begin, end]});
        entries.insert(tensor.name.clone(), entry);
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    header
}

/// The inner error is a value that cannot be written.
fn write_tensor(out: &mut impl Write, tensor: &Planned, format: WeightFormat) -> io::Result<Result<(), f32>> {
    let stored = &tensor.stored;
    let mut values = vec![0.0; stored.row_values()];
    let mut bytes = Vec::with_capacity(values.len() * format.bytes() as usize);
    for row in 0..stored.rows() {
        let at = tensor.source_row(row) * stored.row_bytes();
        stored.format.decode(&stored.bytes[at..at + stored.row_bytes()], &mut values);
        bytes.clear();
        if let Err(value) = format.encode(&values, &mut bytes) {
            return Ok(Err(value));
        }
        out.write_all(&bytes)?;
    }
    Ok(Ok(()))
}

/// Writes a new file as transformers does (two spaces), and sees to it that it is on the disk.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), PolicyError> {
    write_text(path, &format!("{value:#}\n"))
}

pub(super) fn write_text(path: &Path, text: &str) -> Result<(), PolicyError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| PolicyError::Io { path: path.to_owned(), source })
}
