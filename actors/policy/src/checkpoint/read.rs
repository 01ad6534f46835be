use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use super::files::{Mapped, weight_files};
use super::{FORMATS, Place, file_error, header, places};
use crate::{Layout, ModelConfig, PolicyError};

/// Bytes that are copied at a time; a multiple of every element's size.
const PIECE: usize = 4 << 20;

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Reads a model directory: its shape and its weights, converted to `kind`, as one flat buffer on `device` laid out by
/// [`Layout::new`]. An adapter's directory stands for its base with the adapter folded in.
pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<(ModelConfig, Tensor), PolicyError> {
    if super::is_adapter(dir) { super::adapter::load_merged(dir, kind, device) } else { load_model(dir, kind, device) }
}

/// The same for a directory that holds a whole model.
pub(super) fn load_model(dir: &Path, kind: Kind, device: Device) -> Result<(ModelConfig, Tensor), PolicyError> {
    let config = ModelConfig::from_dir(dir)?;
    let files: Vec<Mapped> = weight_files(dir)?.into_iter().map(Mapped::open).collect::<Result<_, _>>()?;
    let layout = Layout::new(&config);
    let places = places(&layout);
    let sources = take(dir, &config, &places, index(&files)?)?;
    let flat = tch::no_grad(|| fill(&layout, sources, kind, device))?;
    Ok((config, flat))
}

/// The number format that most of a model directory's weights are stored in.
pub fn stored_kind(dir: &Path) -> Result<Kind, PolicyError> {
    let files: Vec<Mapped> = weight_files(dir)?.into_iter().map(Mapped::open).collect::<Result<_, _>>()?;
    let tensors = index(&files)?;
    let bytes =
        |dtype: Dtype| tensors.values().filter(|found| found.dtype == dtype).map(|found| found.bytes.len()).sum();
    let most =
        FORMATS.iter().map(|(dtype, kind, _)| (bytes(*dtype), *kind)).max_by_key(|(bytes, _): &(usize, Kind)| *bytes);
    let found = most.filter(|(bytes, _)| *bytes > 0).map(|(_, kind)| kind);
    found.ok_or_else(|| file_error(dir, "holds no weights in F32, F16 or BF16".to_owned()))
}

/// One tensor of a file.
#[derive(Debug)]
struct Found<'a> {
    file: &'a Mapped,
    bytes: &'a [u8],
    dtype: Dtype,
    shape: Vec<usize>,
}

/// All tensors of all files by name.
fn index(files: &[Mapped]) -> Result<BTreeMap<String, Found<'_>>, PolicyError> {
    let mut found = BTreeMap::new();
    for file in files {
        for declared in header::read(&file.bytes).map_err(|problem| file_error(&file.path, problem))? {
            let header::Declared { name, dtype, shape, bytes } = declared;
            let tensor = Found { file, bytes: &file.bytes[bytes], dtype, shape };
            if let Some(other) = found.insert(name.clone(), tensor) {
                let problem = format!("holds {name}, which {} holds as well", other.file.path.display());
                return Err(file_error(&file.path, problem));
            }
        }
    }
    Ok(found)
}

/// Finds every tensor that the model has and sees to it that there is no other: before memory is taken for the weights.
fn take<'a>(
    dir: &Path,
    config: &ModelConfig,
    places: &'a [Place<'a>],
    mut tensors: BTreeMap<String, Found<'a>>,
) -> Result<Vec<Source<'a>>, PolicyError> {
    if config.tied {
        check_tied(&tensors)?;
    }
    let (mut sources, mut missing) = (Vec::with_capacity(places.len()), Vec::new());
    for place in places {
        match tensors.remove(place.name) {
            Some(found) => sources.push(Source::new(place, found)?),
            None => missing.push(place),
        }
    }
    if let Some(first) = missing.first() {
        let more = more(missing.len() - 1, "missing");
        return Err(file_error(dir, format!("{} is missing, of shape {:?}{more}", first.name, first.shape)));
    }
    // Some writers keep the tied projection, and old Llama checkpoints the rotary frequencies that config.json gives.
    let known = |name: &str| name.ends_with(".rotary_emb.inv_freq") || (config.tied && name == HEAD);
    tensors.retain(|name, _| !known(name));
    let Some((name, found)) = tensors.first_key_value() else { return Ok(sources) };
    let (shape, more) = (&found.shape, more(tensors.len() - 1, "too many"));
    let problem = format!("holds {name} of shape {shape:?}, which the model of config.json does not have{more}");
    Err(file_error(&found.file.path, problem))
}

fn more(count: usize, what: &str) -> String {
    if count == 0 { String::new() } else { format!(" ({count} more are {what})") }
}

/// A tied model may carry its projection, but only if that is the embedding: transformers 5 would else take it for a model
/// of its own.
fn check_tied(tensors: &BTreeMap<String, Found<'_>>) -> Result<(), PolicyError> {
    let (Some(head), Some(embedding)) = (tensors.get(HEAD), tensors.get(EMBEDDING)) else { return Ok(()) };
    let mut parts = head.bytes.chunks(PIECE).zip(embedding.bytes.chunks(PIECE));
    let equal = |(one, other): (&[u8], &[u8])| {
        let equal = one == other;
        head.file.release(one);
        embedding.file.release(other);
        equal
    };
    if head.dtype == embedding.dtype && head.shape == embedding.shape && parts.all(equal) {
        return Ok(());
    }
    let problem =
        format!("holds {HEAD} that differs from {EMBEDDING}: tie_word_embeddings in config.json must be false");
    Err(file_error(&head.file.path, problem))
}

/// The bytes of one tensor, of the right shape and of a format that is read.
struct Source<'a> {
    place: &'a Place<'a>,
    file: &'a Mapped,
    bytes: &'a [u8],
    kind: Kind,
}

impl<'a> Source<'a> {
    fn new(place: &'a Place<'a>, found: Found<'a>) -> Result<Self, PolicyError> {
        let Found { file, bytes, dtype, shape } = found;
        // A length that i64 cannot hold is wrong in any case.
        if !shape.iter().map(|&n| i64::try_from(n).unwrap_or(-1)).eq(place.shape.iter().copied()) {
            let problem = format!("{} must be of shape {:?}, got {shape:?}", place.name, place.shape);
            return Err(file_error(&file.path, problem));
        }
        let format = FORMATS.iter().find(|(known, ..)| *known == dtype);
        let &(_, kind, _) = format.ok_or_else(|| PolicyError::Unsupported {
            what: format!("{}: {} in {dtype}", file.path.display(), place.name),
            hint: "F32, F16 and BF16 are".to_owned(),
        })?;
        Ok(Self { place, file, bytes, kind })
    }
}

/// Copies every tensor to its place, in the order of the files, a piece at a time. Of the files no more than a piece is in
/// memory, so that the weights are there once.
fn fill(layout: &Layout, mut sources: Vec<Source<'_>>, kind: Kind, device: Device) -> Result<Tensor, PolicyError> {
    let flat = Tensor::f_empty([layout.numel()], (kind, device))?;
    sources.sort_by_key(|source| (&source.file.path, source.bytes.as_ptr()));
    for Source { place, file, bytes, kind } in sources {
        let mut offset = place.offset;
        for piece in bytes.chunks(PIECE) {
            let numel = (piece.len() / kind.elt_size_in_bytes()) as i64;
            // Copied first: a hostile file need not be aligned.
            let values = Tensor::f_from_data_size(piece, &[numel], kind)?;
            flat.f_narrow(0, offset, numel)?.f_copy_(&values)?;
            offset += numel;
            file.release(piece);
        }
    }
    Ok(flat)
}
