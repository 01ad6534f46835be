//! A model directory from a base and an adapter, tensor by tensor.
//!
//! Contract: every file of weights of the base is written again under its name, with W + s·B·A (computed in float32) where
//! the adapter says so and the same bytes elsewhere, unless another number format is asked for. Everything is checked
//! before anything is written; a failed merge leaves nothing behind.
//!
//! Memory: one tensor at a time; files are memory mapped.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use safetensors::Dtype;
use safetensors::tensor::{SafeTensorError, View};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::adapter::{Adapter, Pair, is_adapter};
use super::companions::{self, sync_dir, write_synced};
use super::files::{Mapped, weight_files};
use super::read::stored_kind;
use super::stream::format_of;
use super::{CONFIG, FORMATS, INDEX, file_error, header, io};
use crate::{ModelConfig, PolicyError, text_file};

/// Bytes of an index that are read at most.
const LONGEST_INDEX: u64 = 100 << 20;

/// What a merge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Tensors that the adapter changed.
    pub adapted: usize,
    /// All tensors written.
    pub tensors: usize,
}

/// Folds the adapter of one directory into the model of another and writes the result to `out`, which must not exist.
/// `kind`: the number format of every tensor; `None` leaves each as it is.
pub fn merge(base: &Path, adapter: &Path, out: &Path, kind: Option<Kind>) -> Result<Merged, PolicyError> {
    if is_adapter(base) {
        return Err(file_error(base, "is an adapter; --base takes the model that it was trained on".to_owned()));
    }
    if !is_adapter(adapter) {
        return Err(file_error(adapter, format!("holds no {}; it is no adapter of PEFT", super::ADAPTER_CONFIG)));
    }
    // Says what is wrong with a directory that is no model.
    ModelConfig::from_dir(base)?;
    let adapter = Adapter::open(adapter)?;
    let files: Vec<Mapped> = weight_files(base)?.into_iter().map(Mapped::open).collect::<Result<_, _>>()?;
    let failure = Failure::default();
    let plan = plan(&files, &adapter, kind, &failure)?;
    fs::create_dir(out).map_err(io(out))?;
    write(base, out, plan, kind, &failure).inspect_err(|_| {
        // The directory is ours and incomplete. If it cannot be removed either, the first error still says why.
        let _ = fs::remove_dir_all(out);
    })
}

/// One tensor to be written.
struct Planned<'a> {
    name: String,
    shape: Vec<usize>,
    /// Of the file it is read from.
    stored: Kind,
    /// Of the file it is written to.
    dtype: Dtype,
    kind: Kind,
    bytes: &'a [u8],
    change: Option<(&'a Adapter, &'a Pair)>,
    /// Where a failure goes: the library that asks for the data has no way to hear of it.
    failure: Failure,
}

type Failure = Rc<RefCell<Option<PolicyError>>>;

impl Planned<'_> {
    /// The bytes to be written, in `kind`.
    fn values(&self) -> Result<Vec<u8>, PolicyError> {
        let shape: Vec<i64> = self.shape.iter().map(|&n| n as i64).collect();
        tch::no_grad(|| {
            let mut values = Tensor::f_from_data_size(self.bytes, &shape, self.stored)?;
            if let Some((adapter, pair)) = self.change {
                values = adapter.merge(pair, &values)?;
            }
            let values = values.f_to_kind(self.kind)?.f_contiguous()?;
            let mut bytes = vec![0; self.data_len()];
            values.f_copy_data_u8(&mut bytes, values.numel())?;
            Ok(bytes)
        })
    }
}

impl View for Planned<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if self.change.is_none() && self.kind == self.stored {
            return Cow::Borrowed(self.bytes);
        }
        Cow::Owned(self.values().unwrap_or_else(|error| {
            self.failure.replace(Some(error));
            Vec::new()
        }))
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.kind.elt_size_in_bytes()
    }
}

/// The tensors of every file, each with what the adapter does to it.
fn plan<'a>(
    files: &'a [Mapped],
    adapter: &'a Adapter,
    kind: Option<Kind>,
    failure: &Failure,
) -> Result<Vec<(PathBuf, Vec<Planned<'a>>)>, PolicyError> {
    let mut pairs: BTreeMap<&str, &Pair> = adapter.pairs.iter().map(|(module, pair)| (module.as_str(), pair)).collect();
    let mut plan = Vec::new();
    for file in files {
        let mut tensors = Vec::new();
        for declared in header::read(&file.bytes).map_err(|problem| file_error(&file.path, problem))? {
            let header::Declared { name, dtype, shape, bytes } = declared;
            let pair = name.strip_suffix(".weight").and_then(|module| pairs.remove(module));
            if let Some(pair) = pair
                && !shape.iter().map(|&n| n as i64).eq([pair.rows, pair.columns])
            {
                return Err(adapter.misfit(&name, &format!("whose weight is of shape {shape:?}")));
            }
            let format = FORMATS.iter().find(|(known, ..)| *known == dtype);
            let Some(&(_, stored, _)) = format else {
                let what = format!("{}: {name} in {dtype}", file.path.display());
                return Err(PolicyError::Unsupported { what, hint: "F32, F16 and BF16 are".to_owned() });
            };
            let to = kind.unwrap_or(stored);
            let to_dtype = FORMATS.iter().find(|(_, of, _)| *of == to).map_or(dtype, |(dtype, ..)| *dtype);
            tensors.push(Planned {
                name,
                shape,
                stored,
                dtype: to_dtype,
                kind: to,
                bytes: &file.bytes[bytes],
                change: pair.map(|pair| (adapter, pair)),
                failure: Rc::clone(failure),
            });
        }
        plan.push((file.path.clone(), tensors));
    }
    match pairs.keys().next() {
        Some(module) => Err(adapter.misfit(module, "which the base does not have")),
        None => Ok(plan),
    }
}

fn write(
    base: &Path,
    out: &Path,
    plan: Vec<(PathBuf, Vec<Planned<'_>>)>,
    kind: Option<Kind>,
    failure: &Failure,
) -> Result<Merged, PolicyError> {
    let mut done = Merged { adapted: 0, tensors: 0 };
    let mut total = 0;
    companions::write(out, base, format_of(kind.map_or_else(|| stored_kind(base), Ok)?)?.1)?;
    for (source, tensors) in plan {
        done.tensors += tensors.len();
        done.adapted += tensors.iter().filter(|tensor| tensor.change.is_some()).count();
        total += tensors.iter().map(View::data_len).sum::<usize>();
        let path = out.join(source.file_name().unwrap_or_default());
        let named = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(named, Some(metadata), &path).map_err(|error| match error {
            SafeTensorError::IoError(source) => io(&path)(source),
            other => file_error(&path, format!("cannot be written: {other}")),
        })?;
        if let Some(error) = failure.take() {
            return Err(error);
        }
        // The library writes through a temporary file that only its owner may read; make it like the files beside it.
        let permissions = fs::metadata(out.join(CONFIG)).map_err(io(out))?.permissions();
        fs::set_permissions(&path, permissions).and_then(|()| File::open(&path)?.sync_all()).map_err(io(&path))?;
    }
    write_index(base, out, total)?;
    sync_dir(out)?;
    Ok(done)
}

/// The base's index, if it has one, with the new size.
fn write_index(base: &Path, out: &Path, total: usize) -> Result<(), PolicyError> {
    let path = base.join(INDEX);
    // A single file comes before an index.
    if !path.exists() || base.join(super::WEIGHTS).exists() {
        return Ok(());
    }
    let text = text_file::read(&path, LONGEST_INDEX)?;
    let mut value: Value = serde_json::from_str(&text).map_err(|e| file_error(&path, format!("not JSON: {e}")))?;
    if let Some(size) = value.get_mut("metadata").and_then(|metadata| metadata.get_mut("total_size")) {
        *size = total.into();
    }
    write_synced(&out.join(INDEX), format!("{value:#}\n").as_bytes())
}
