use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{FORMATS, INDEX, Place, WEIGHTS, file_error, io, places};
use crate::{Layout, ModelConfig, PolicyError};

/// Reads a model directory: its shape and its weights, converted to `kind`, as one flat buffer on `device` laid out by
/// [`Layout::new`].
pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<(ModelConfig, Tensor), PolicyError> {
    let config = ModelConfig::from_dir(dir)?;
    let files: Vec<Mapped> = weight_files(dir)?.into_iter().map(Mapped::open).collect::<Result<_, _>>()?;
    let layout = Layout::new(&config);
    let places = places(&layout);
    let sources = take(dir, &config, &places, index(&files)?)?;
    let flat = tch::no_grad(|| fill(&layout, &places, &sources, kind, device))?;
    Ok((config, flat))
}

/// The files that hold the weights: one, or the shards that the index names.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, PolicyError> {
    let (single, index) = (dir.join(WEIGHTS), dir.join(INDEX));
    if single.exists() {
        return Ok(vec![single]);
    }
    if !index.exists() {
        return Err(no_weights(dir));
    }
    let text = fs::read_to_string(&index).map_err(io(&index))?;
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
    Ok(shards.into_iter().map(|name| dir.join(name)).collect())
}

/// Whether a name stays in its directory and is of the one format that is read.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let single =
        matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name);
    single && !name.contains('\\') && name.ends_with(".safetensors")
}

fn no_weights(dir: &Path) -> PolicyError {
    let pickle = fs::read_dir(dir).ok().into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let is_pickle = |path: &PathBuf| path.extension().is_some_and(|e| e == "bin" || e == "pt" || e == "pth");
    match pickle.filter(is_pickle).min() {
        Some(path) => PolicyError::Unsupported {
            what: format!("{} (a pickle, which can run code when it is read)", path.display()),
            hint: "convert it in Python: AutoModelForCausalLM.from_pretrained(dir).save_pretrained(new, safe_serialization=True)"
                .to_owned(),
        },
        None => file_error(dir, format!("holds neither {WEIGHTS} nor {INDEX}")),
    }
}

/// A file of weights in memory.
struct Mapped {
    path: PathBuf,
    bytes: Mmap,
}

impl Mapped {
    fn open(path: PathBuf) -> Result<Self, PolicyError> {
        let file = File::open(&path).map_err(io(&path))?;
        // SAFETY: the map is read only. Should another process shrink the file while we copy, the operating system ends
        // this process with SIGBUS: that files do not shrink is part of the module's contract.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io(&path))?;
        Ok(Self { path, bytes })
    }
}

/// One tensor of a file.
struct Found<'a> {
    path: &'a Path,
    view: TensorView<'a>,
}

/// All tensors of all files by name.
fn index(files: &[Mapped]) -> Result<BTreeMap<String, Found<'_>>, PolicyError> {
    let mut found = BTreeMap::new();
    for file in files {
        let tensors = SafeTensors::deserialize(&file.bytes)
            .map_err(|e| file_error(&file.path, format!("not a safetensors file, or cut short: {e}")))?;
        for (name, view) in tensors.tensors() {
            if let Some(Found { path, .. }) = found.insert(name.clone(), Found { path: &file.path, view }) {
                return Err(file_error(&file.path, format!("holds {name}, which {} holds as well", path.display())));
            }
        }
    }
    Ok(found)
}

/// Finds every tensor that the model has, in the order of `places`, and sees to it that there is no other: before memory is
/// taken for the weights.
fn take<'a>(
    dir: &Path,
    config: &ModelConfig,
    places: &[Place],
    mut tensors: BTreeMap<String, Found<'a>>,
) -> Result<Vec<Source<'a>>, PolicyError> {
    let sources = places
        .iter()
        .map(|place| {
            let missing = || file_error(dir, format!("{} is missing, of shape {:?}", place.name, place.shape));
            tensors.remove(place.name).ok_or_else(missing).and_then(|found| Source::new(place, found))
        })
        .collect::<Result<_, _>>()?;
    // Some writers keep the tied projection, and old Llama checkpoints the rotary frequencies that config.json gives.
    let known = |name: &str| name.ends_with(".rotary_emb.inv_freq") || (config.tied && name == "lm_head.weight");
    tensors.retain(|name, _| !known(name));
    match tensors.first_key_value() {
        None => Ok(sources),
        Some((name, found)) => {
            let shape = found.view.shape();
            let problem = format!("holds {name} of shape {shape:?}, which the model of config.json does not have");
            Err(file_error(found.path, problem))
        }
    }
}

/// The bytes of one tensor, of the right shape and of a format that is read.
struct Source<'a> {
    bytes: &'a [u8],
    kind: Kind,
}

impl<'a> Source<'a> {
    fn new(place: &Place, found: Found<'a>) -> Result<Self, PolicyError> {
        let Found { path, view } = found;
        // A length that i64 cannot hold is wrong in any case.
        if !view.shape().iter().map(|&n| i64::try_from(n).unwrap_or(-1)).eq(place.shape.iter().copied()) {
            let problem = format!("{} must be of shape {:?}, got {:?}", place.name, place.shape, view.shape());
            return Err(file_error(path, problem));
        }
        let format = FORMATS.iter().find(|(dtype, ..)| *dtype == view.dtype());
        let &(_, kind, _) = format.ok_or_else(|| PolicyError::Unsupported {
            what: format!("{}: {} in {}", path.display(), place.name, view.dtype()),
            hint: "F32, F16 and BF16 are".to_owned(),
        })?;
        Ok(Self { bytes: view.data(), kind })
    }
}

/// Copies every tensor to its place.
fn fill(
    layout: &Layout,
    places: &[Place],
    sources: &[Source],
    kind: Kind,
    device: Device,
) -> Result<Tensor, PolicyError> {
    let flat = Tensor::f_empty([layout.numel()], (kind, device))?;
    for (place, source) in places.iter().zip(sources) {
        let values = Tensor::f_from_data_size(source.bytes, &[place.numel], source.kind)?;
        flat.f_narrow(0, place.offset, place.numel)?.f_copy_(&values)?;
    }
    Ok(flat)
}
