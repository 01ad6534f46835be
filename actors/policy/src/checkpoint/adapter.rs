//! LoRA adapters in PEFT's format, in and out: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Contract: every A has its B, their shapes fit each other and the rank; a tensor that is neither is refused by name.
//! [`save`] writes what PEFT, transformers and vLLM open, with the base's tokenizer beside it but not its config.json, with
//! which transformers would take the directory for a whole model; [`load`] reads such a directory back into an adapter's buffer, bit for bit. [`load_merged`] makes a model of an adapter and the base that
//! it names.
//!
//! Limits: as in [`AdapterConfig`]; one safetensors file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::adapter_config::{self, AdapterConfig};
use super::companions::{sync_dir, write_synced, write_tokenizer};
use super::files::Mapped;
use super::stream::write_tensors;
use super::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, FORMATS, file_error, header, io};
use crate::{Adapted, Layout, LoraConfig, LoraLayout, ModelConfig, PolicyError};

/// PEFT's wrapper around the model.
const PREFIX: &str = "base_model.model.";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// Whether a directory holds an adapter.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER_CONFIG).exists()
}

/// An adapter's file in memory.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) config: AdapterConfig,
    file: Mapped,
    /// By module, as `model.layers.0.self_attn.q_proj`.
    pub(super) pairs: BTreeMap<String, Pair>,
}

/// A and B of one module, as the file declares them.
#[derive(Debug)]
pub(super) struct Pair {
    a: header::Declared,
    b: header::Declared,
    pub(super) rows: i64,
    pub(super) columns: i64,
}

impl Adapter {
    /// Opens the adapter of a directory and checks it against itself.
    pub(super) fn open(dir: &Path) -> Result<Self, PolicyError> {
        let config = AdapterConfig::read(dir)?;
        let path = dir.join(ADAPTER_WEIGHTS);
        if !path.exists() {
            return Err(file_error(dir, format!("holds {ADAPTER_CONFIG} but no {ADAPTER_WEIGHTS}")));
        }
        let file = Mapped::open(path)?;
        let refuse = |problem: String| file_error(&file.path, problem);
        let (mut ones, mut others) = (BTreeMap::new(), BTreeMap::new());
        for declared in header::read(&file.bytes).map_err(refuse)? {
            let name = declared.name.strip_prefix(PREFIX).unwrap_or_default();
            let halves = [(A, &mut ones), (B, &mut others)];
            let half = halves.into_iter().find_map(|(end, half)| Some((name.strip_suffix(end)?.to_owned(), half)));
            let Some((module, half)) = half else { return Err(unknown(&file.path, &declared.name)) };
            half.insert(module, declared);
        }
        let mut pairs = BTreeMap::new();
        for (module, a) in ones {
            let b = others.remove(&module).ok_or_else(|| refuse(format!("has {PREFIX}{module}{A} but no {B}")))?;
            pairs.insert(module, Pair::new(a, b, config.lora.rank).map_err(refuse)?);
        }
        if let Some(module) = others.keys().next() {
            return Err(refuse(format!("has {PREFIX}{module}{B} but no {A}")));
        }
        if pairs.is_empty() {
            return Err(refuse(format!("holds no tensor {PREFIX}...{A}")));
        }
        Ok(Self { config, file, pairs })
    }

    /// A (r, in) and B (out, r) in `kind`.
    pub(super) fn tensors(&self, pair: &Pair, kind: Kind) -> Result<[Tensor; 2], PolicyError> {
        let read = |declared: &header::Declared| -> Result<Tensor, PolicyError> {
            let format = FORMATS.iter().find(|(known, ..)| *known == declared.dtype);
            let &(_, stored, _) = format.ok_or_else(|| PolicyError::Unsupported {
                what: format!("{}: {} in {}", self.file.path.display(), declared.name, declared.dtype),
                hint: "F32, F16 and BF16 are".to_owned(),
            })?;
            let shape: Vec<i64> = declared.shape.iter().map(|&n| n as i64).collect();
            Ok(Tensor::f_from_data_size(&self.file.bytes[declared.bytes.clone()], &shape, stored)?.f_to_kind(kind)?)
        };
        Ok([read(&pair.a)?, read(&pair.b)?])
    }

    /// W + s·B·A, computed in float32.
    pub(super) fn merge(&self, pair: &Pair, weight: &Tensor) -> Result<Tensor, PolicyError> {
        let [a, b] = self.tensors(pair, Kind::Float)?;
        let (a, b) = (a.f_to_device(weight.device())?, b.f_to_device(weight.device())?);
        Ok(weight.f_to_kind(Kind::Float)?.f_addmm(&b.f_mul_scalar(self.config.lora.scale())?, &a)?)
    }

    /// The error for a module that the base does not have, or not with this shape.
    pub(super) fn misfit(&self, module: &str, problem: &str) -> PolicyError {
        file_error(&self.file.path, format!("has an adapter for {module}, {problem}"))
    }
}

impl Pair {
    fn new(a: header::Declared, b: header::Declared, rank: u32) -> Result<Self, String> {
        let rank = rank as usize;
        match (&a.shape[..], &b.shape[..]) {
            // The header has seen to it that so many elements are in the file.
            (&[r, columns], &[rows, s]) if r == rank && s == rank && columns > 0 && rows > 0 => {
                let (rows, columns) = (rows as i64, columns as i64);
                Ok(Self { a, b, rows, columns })
            }
            _ => Err(format!(
                "{} is of shape {:?} and {} of {:?}; with \"r\": {rank} they must be [{rank}, in] and [out, {rank}]",
                a.name, a.shape, b.name, b.shape
            )),
        }
    }
}

fn unknown(path: &Path, name: &str) -> PolicyError {
    let what = if name.contains("lora_magnitude_vector") {
        "DoRA".to_owned()
    } else if name.contains("lora_embedding_") {
        "an adapter of an embedding".to_owned()
    } else {
        "a tensor that is no A or B of LoRA".to_owned()
    };
    PolicyError::Unsupported {
        what: format!("{}: {name}, {what},", path.display()),
        hint: format!("{PREFIX}<module>{A} and {B} are"),
    }
}

/// Writes an adapter's buffer as a PEFT directory; `source` is the base's. `dir` must not exist. All files and the directory
/// are on the disk when it returns.
pub fn save(dir: &Path, source: &Path, adapted: &Adapted, flat: &Tensor) -> Result<(), PolicyError> {
    let layout = adapted.layout();
    // The last parts of the modules' names, each once.
    let mut modules: Vec<&str> = layout.targets().iter().filter_map(|t| t.module.rsplit('.').next()).collect();
    modules.sort_unstable();
    modules.dedup();
    let base = fs::canonicalize(source).map_err(io(source))?;
    let mut tensors = Vec::new();
    for target in layout.targets() {
        let halves = [(A, target.a, [layout.rank(), target.columns]), (B, target.b, [target.rows, layout.rank()])];
        for (end, offset, shape) in halves {
            let values = tch::no_grad(|| flat.f_detach()?.f_narrow(0, offset, shape[0] * shape[1])?.f_view(shape))?;
            tensors.push((format!("{PREFIX}{}{end}", target.module), values));
        }
    }
    fs::create_dir(dir).map_err(io(dir))?;
    let write = || {
        write_tokenizer(dir, source)?;
        write_synced(&dir.join(ADAPTER_CONFIG), adapter_config::text(adapted.config(), &base, &modules).as_bytes())?;
        let named: Vec<(&str, Tensor)> = tensors.iter().map(|(name, t)| (name.as_str(), t.shallow_clone())).collect();
        write_tensors(&dir.join(ADAPTER_WEIGHTS), &named, Kind::Float)?;
        sync_dir(dir)
    };
    write().inspect_err(|_| {
        // The directory is ours and incomplete. If it cannot be removed either, the first error still says why.
        let _ = fs::remove_dir_all(dir);
    })
}

/// Reads a directory that [`save`] wrote: the settings and the buffer in float32, laid out for `model`. An adapter that does
/// not have exactly the tensors that its settings say is refused.
pub fn load(dir: &Path, model: &ModelConfig, device: Device) -> Result<(LoraConfig, Tensor), PolicyError> {
    let adapter = Adapter::open(dir)?;
    let layout = LoraLayout::new(model, &adapter.config.lora)?;
    let flat = Tensor::f_zeros([layout.numel()], (Kind::Float, device))?;
    for target in layout.targets() {
        let pair = adapter.pairs.get(&target.module).filter(|p| (p.rows, p.columns) == (target.rows, target.columns));
        let pair = pair.ok_or_else(|| {
            let (rows, columns, rank) = (target.rows, target.columns, layout.rank());
            let shapes = format!("A [{rank}, {columns}] and B [{rows}, {rank}]");
            file_error(
                &adapter.file.path,
                format!("must have {shapes} for {}, which \"target_modules\" names", target.module),
            )
        })?;
        let [a, b] = adapter.tensors(pair, Kind::Float)?;
        for (offset, values) in [(target.a, a), (target.b, b)] {
            flat.f_narrow(0, offset, values.numel() as i64)?.f_copy_(&values.f_view([-1])?)?;
        }
    }
    let known = |module: &String| layout.targets().iter().any(|target| target.module == *module);
    match adapter.pairs.keys().find(|module| !known(module)) {
        Some(module) => Err(adapter.misfit(module, "which \"target_modules\" does not name")),
        None => Ok((adapter.config.lora, flat)),
    }
}

/// Loads the base that an adapter names, which must be a directory here, with the adapter folded in.
pub(super) fn load_merged(dir: &Path, kind: Kind, device: Device) -> Result<(ModelConfig, Tensor), PolicyError> {
    let adapter = Adapter::open(dir)?;
    let base = base_of(dir, &adapter.config)?;
    let (config, flat) = super::read::load_model(&base, kind, device)?;
    let mut pairs: BTreeMap<&str, &Pair> = adapter.pairs.iter().map(|(module, pair)| (module.as_str(), pair)).collect();
    for place in super::places(&Layout::new(&config)) {
        let Some(pair) = place.name.strip_suffix(".weight").and_then(|module| pairs.remove(module)) else { continue };
        if place.shape != [pair.rows, pair.columns] {
            return Err(adapter.misfit(place.name, &format!("whose weight is of shape {:?}", place.shape)));
        }
        let weight = flat.f_narrow(0, place.offset, place.numel)?.f_view([pair.rows, pair.columns])?;
        weight.shallow_clone().f_copy_(&adapter.merge(pair, &weight)?)?;
    }
    match pairs.keys().next() {
        Some(module) => Err(adapter.misfit(module, "which its base does not have")),
        None => Ok((config, flat)),
    }
}

/// The directory with the model's own config.json: this one, or that of an adapter's base.
pub(crate) fn model_dir(dir: &Path) -> Result<PathBuf, PolicyError> {
    if is_adapter(dir) { base_of(dir, &AdapterConfig::read(dir)?) } else { Ok(dir.to_owned()) }
}

fn base_of(dir: &Path, config: &AdapterConfig) -> Result<PathBuf, PolicyError> {
    let problem = match &config.base {
        Some(base) if base.join(CONFIG).exists() && !is_adapter(base) => return Ok(base.clone()),
        Some(base) => format!("names {:?} as its base, which is no model directory here", base.display().to_string()),
        None => "does not name its base (\"base_model_name_or_path\")".to_owned(),
    };
    let hint = "make a model of both: counterpoint merge --base DIR --adapter DIR --out DIR";
    Err(file_error(&dir.join(ADAPTER_CONFIG), format!("{problem}; {hint}")))
}
