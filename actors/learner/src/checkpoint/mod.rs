//! Checkpoints: complete or absent.
//!
//! `<root>/step-000100` is a Hugging Face directory (weights, config.json, tokenizer, README.md), which transformers and vLLM
//! open, with what a resume needs beside it in a folder of its own (vLLM reads every *.safetensors of a model directory):
//!
//! ```text
//! state/optimizer.safetensors   AdamW's m and v, laid out like the parameters
//! state/weights.safetensors     the parameters in float32, where the weights for others are of another number format
//! state/learner.json            version, optimiser step
//! state/<extra>                 what the caller adds: the replay actor's cut, counters
//! state/MANIFEST.json           size and blake3 of every file, checked before anything is read
//! ```
//!
//! A run that trains an adapter (`[lora]`) writes PEFT's directory instead: adapter_config.json and
//! adapter_model.safetensors with the model's tokenizer; the model itself is not copied, its config.json is in `state`.
//!
//! It is written as `step-000100.tmp`, every file and directory synced, and then renamed, so a directory without `.tmp` is
//! complete. A step that has a checkpoint already is saved anew (the caller's files may differ): the old one becomes
//! `step-000100.old.tmp` until the new one has its name. An interruption between the two renames leaves that name alone, and
//! then it is the step's checkpoint: [`load_latest`] reads it, [`CheckpointStore::open`] gives it its name back. Whatever else
//! an interrupted write left, `open` removes. The link `latest` names the newest, for people; [`load_latest`] goes by the
//! numbers. Old ones are removed, but never the best by evaluation, which the link `best` names (`retention`). A corrupt newest checkpoint is refused by file name, and never quietly replaced by an older one; removing its
//! directory makes the one before it the newest.
//!
//! Saving reads the learner's tensors, so it runs on the learner's thread, between two steps. Sampling goes on meanwhile.

mod config;
mod manifest;
mod retention;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use counterpoint_policy::checkpoint::{self as directory, Export, write_tensors};
use counterpoint_policy::{Device, Kind, LoraConfig, ModelConfig, Tensor};
use counterpoint_rollout::PolicyVersion;
use serde::{Deserialize, Serialize};

pub use config::{CheckpointConfig, SavedDtype};

use crate::{Learner, LearnerError, OptimizerState};

const STATE: &str = "state";
const OPTIMIZER: &str = "optimizer.safetensors";
const WEIGHTS: &str = "weights.safetensors";
const LEARNER: &str = "learner.json";
/// The base's, beside an adapter.
const CONFIG: &str = "config.json";
const CARD: &str = "README.md";
const LATEST: &str = "latest";
const TEMPORARY: &str = ".tmp";
/// Ends the name of a checkpoint while its successor takes its place.
const REPLACED: &str = ".old.tmp";
const FORMAT: u32 = 1;

/// A file that the caller adds to a checkpoint's `state` folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Its name: letters, digits, `.`, `-` and `_`.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What the caller adds to a checkpoint, and knows of others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Additions {
    /// Files for the `state` folder.
    pub extras: Vec<Extra>,
    /// The model card, README.md.
    pub card: Option<String>,
    /// How well the versions did that were evaluated so far.
    pub evaluations: BTreeMap<PolicyVersion, f64>,
}

/// Where a run's checkpoints lie, how they are written and how many stay.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    root: PathBuf,
    source: PathBuf,
    keep: usize,
    export: Export,
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct LoadedCheckpoint {
    /// Where it lies.
    pub path: PathBuf,
    /// The model's shape.
    pub model: ModelConfig,
    /// What was trained, in float32, on the device asked for: the model's parameters, or the adapter's.
    pub flat: Tensor,
    /// The adapter's settings, as far as its format has them, if an adapter was trained.
    pub lora: Option<LoraConfig>,
    /// AdamW's memory, on the same device.
    pub optimizer: OptimizerState,
    /// The optimiser steps that made the parameters.
    pub version: PolicyVersion,
    /// What the caller added, by name.
    pub extras: BTreeMap<String, Vec<u8>>,
}

/// `state/learner.json`.
#[derive(Debug, Serialize, Deserialize)]
struct LearnerFile {
    format: u32,
    version: PolicyVersion,
    optimizer_step: u64,
}

impl CheckpointStore {
    /// The checkpoints under `root`, which is created; leftovers of interrupted writes are removed. `source`: the model
    /// directory that the run started from, for its config and tokenizer.
    pub fn open(root: &Path, source: &Path, config: &CheckpointConfig) -> Result<Self, LearnerError> {
        let export = config.export(source)?;
        fs::create_dir_all(root).map_err(LearnerError::io(root))?;
        restore_replaced(root)?;
        for name in names(root)?.iter().filter(|name| name.ends_with(TEMPORARY)) {
            let leftover = root.join(name);
            tracing::warn!(path = %leftover.display(), "removing what an interrupted write of a checkpoint left");
            let removed = if leftover.is_dir() && !leftover.is_symlink() {
                fs::remove_dir_all(&leftover)
            } else {
                fs::remove_file(&leftover)
            };
            removed.map_err(LearnerError::io(leftover))?;
        }
        retention::forget_missing(root)?;
        Ok(Self { root: root.to_owned(), source: source.to_owned(), keep: config.keep, export })
    }

    /// Writes a checkpoint of the learner's present version and returns its directory. If that version has one already, it
    /// is replaced: what the caller adds may be newer. At every instant one of the two is there and complete.
    pub fn save(&self, learner: &Learner, additions: &Additions) -> Result<PathBuf, LearnerError> {
        let version = learner.version();
        let path = self.root.join(directory_name(version));
        let temporary = self.root.join(format!("{}{TEMPORARY}", directory_name(version)));
        if let Err(error) = self.write(&temporary, learner, additions) {
            // Incomplete, and ours. If it cannot be removed, `open` will; the first error says why there is no checkpoint.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        self.put_in_place(&temporary, &path, version)?;
        self.point(LATEST, version)?;
        let point = |link: &str, version| self.point(link, version);
        let best = retention::point_best(&self.root, &additions.evaluations, point)?;
        self.retain(best.into_iter().chain([version]).collect())?;
        Ok(path)
    }

    fn write(&self, dir: &Path, learner: &Learner, additions: &Additions) -> Result<(), LearnerError> {
        remove_if_there(dir)?;
        match learner.adapted() {
            Some(adapted) => directory::save_adapter(dir, &self.source, adapted, learner.flat())?,
            None => directory::save(dir, &self.source, learner.model(), learner.flat(), self.export)?,
        }
        if let Some(card) = &additions.card {
            write_synced(&dir.join(CARD), card.as_bytes())?;
        }
        let state = dir.join(STATE);
        fs::create_dir(&state).map_err(LearnerError::io(&state))?;
        let OptimizerState { step, first, second } = learner.optimizer_state();
        let moments = [("first", first.f_detach()?), ("second", second.f_detach()?)];
        write_tensors(&state.join(OPTIMIZER), &moments, Kind::Float)?;
        if learner.adapted().is_some() {
            // The adapter itself is in float32 always.
            let source = self.source.join(CONFIG);
            write_synced(&state.join(CONFIG), &fs::read(&source).map_err(LearnerError::io(source))?)?;
        } else if self.export.kind != Kind::Float {
            let weights = [("weights", learner.flat().f_detach()?)];
            write_tensors(&state.join(WEIGHTS), &weights, Kind::Float)?;
        }
        let file = LearnerFile { format: FORMAT, version: learner.version(), optimizer_step: *step };
        let path = state.join(LEARNER);
        write_synced(&path, json(&path, &file)?.as_bytes())?;
        for Extra { name, bytes } in &additions.extras {
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if !plain
                || name.starts_with('.')
                || [OPTIMIZER, WEIGHTS, LEARNER, CONFIG, manifest::NAME].contains(&name.as_str())
            {
                let problem = "not a name for an extra file; letters, digits, '.', '-' and '_' make one".to_owned();
                return Err(LearnerError::Checkpoint { path: state.join(name), problem });
            }
            write_synced(&state.join(name), bytes)?;
        }
        manifest::write(dir, &state)?;
        sync(&state)?;
        sync(dir)
    }

    /// Gives a complete checkpoint its name, and removes the one that had it.
    fn put_in_place(&self, temporary: &Path, path: &Path, version: PolicyVersion) -> Result<(), LearnerError> {
        let replaced = self.root.join(format!("{}{REPLACED}", directory_name(version)));
        let replaces = path.exists();
        if replaces {
            remove_if_there(&replaced)?;
            fs::rename(path, &replaced).map_err(LearnerError::io(path))?;
        }
        if let Err(error) = fs::rename(temporary, path) {
            if replaces {
                // If even this fails, `open` will do it; the first error says why there is no new checkpoint.
                let _ = fs::rename(&replaced, path);
            }
            return Err(LearnerError::io(path)(error));
        }
        sync(&self.root)?;
        remove_if_there(&replaced)
    }

    /// Lets a link name a version's checkpoint, in one instant.
    fn point(&self, link: &str, version: PolicyVersion) -> Result<(), LearnerError> {
        let temporary = self.root.join(format!("{link}{TEMPORARY}"));
        if temporary.is_symlink() {
            fs::remove_file(&temporary).map_err(LearnerError::io(&temporary))?;
        }
        symlink(directory_name(version), &temporary).map_err(LearnerError::io(&temporary))?;
        fs::rename(&temporary, self.root.join(link)).map_err(LearnerError::io(&temporary))?;
        sync(&self.root)
    }

    /// Removes all but the newest and those needed. Each is renamed first, so that one half removed is not mistaken for a
    /// checkpoint.
    fn retain(&self, needed: BTreeSet<PolicyVersion>) -> Result<(), LearnerError> {
        let complete = complete(&self.root)?.into_keys().collect();
        for old in retention::doomed(&complete, self.keep, &needed) {
            let path = self.root.join(directory_name(old));
            let doomed = self.root.join(format!("{}{TEMPORARY}", directory_name(old)));
            fs::rename(&path, &doomed).map_err(LearnerError::io(&path))?;
            fs::remove_dir_all(&doomed).map_err(LearnerError::io(&doomed))?;
        }
        Ok(())
    }
}

/// Loads the newest checkpoint under `root`; `None` if there is none, or no such directory. A corrupt one is an error.
pub fn load_latest(root: &Path, device: Device) -> Result<Option<LoadedCheckpoint>, LearnerError> {
    if !root.exists() {
        return Ok(None);
    }
    complete(root)?.values().next_back().map(|newest| load(&root.join(newest), device)).transpose()
}

/// Checks and loads one checkpoint.
pub fn load(dir: &Path, device: Device) -> Result<LoadedCheckpoint, LearnerError> {
    let state = dir.join(STATE);
    let files = manifest::verify(dir, &state)?;
    let learner = read_learner_file(&state.join(LEARNER))?;
    let own = format!("{STATE}/{WEIGHTS}");
    let (model, flat, lora) = if directory::is_adapter(dir) {
        let model = ModelConfig::from_dir(&state)?;
        let (lora, flat) = directory::load_adapter(dir, &model, device)?;
        (model, flat, Some(lora))
    } else {
        let (model, flat) = match files.contains(&own) {
            true => read_weights(dir, &dir.join(own), device)?,
            false => directory::load(dir, Kind::Float, device)?,
        };
        (model, flat, None)
    };
    let optimizer = read_optimizer(&state.join(OPTIMIZER), learner.optimizer_step, flat.device())?;
    let mut extras = BTreeMap::new();
    for name in files.iter().filter_map(|file| file.strip_prefix(STATE)?.strip_prefix('/')) {
        if ![OPTIMIZER, WEIGHTS, LEARNER, CONFIG].contains(&name) {
            let path = state.join(name);
            extras.insert(name.to_owned(), fs::read(&path).map_err(LearnerError::io(path))?);
        }
    }
    Ok(LoadedCheckpoint { path: dir.to_owned(), model, flat, lora, optimizer, version: learner.version, extras })
}

fn read_learner_file(path: &Path) -> Result<LearnerFile, LearnerError> {
    let refuse = |problem: String| LearnerError::Checkpoint { path: path.to_owned(), problem };
    let bytes = fs::read(path).map_err(LearnerError::io(path))?;
    let file: LearnerFile = serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
    if file.format != FORMAT {
        return Err(refuse(format!("its format is {}, this program reads {FORMAT}", file.format)));
    }
    Ok(file)
}

/// The model's shape and its parameters as they were trained.
fn read_weights(dir: &Path, path: &Path, device: Device) -> Result<(ModelConfig, Tensor), LearnerError> {
    let model = ModelConfig::from_dir(dir)?;
    let [flat] = read_tensors(path, ["weights"], Some(model.parameters()), device)?;
    Ok((model, flat))
}

/// As long as what was trained; the optimiser that takes it checks that.
fn read_optimizer(path: &Path, step: u64, device: Device) -> Result<OptimizerState, LearnerError> {
    let [first, second] = read_tensors(path, ["first", "second"], None, device)?;
    Ok(OptimizerState { step, first, second })
}

/// Flat tensors by name, of one length if it is known.
fn read_tensors<const N: usize>(
    path: &Path,
    names: [&str; N],
    numel: Option<i64>,
    device: Device,
) -> Result<[Tensor; N], LearnerError> {
    let mut tensors: BTreeMap<String, Tensor> = Tensor::read_safetensors(path)?.into_iter().collect();
    let mut found = Vec::with_capacity(N);
    for name in names {
        let fits =
            |t: &Tensor| t.dim() == 1 && numel.is_none_or(|numel| t.size() == [numel]) && t.kind() == Kind::Float;
        let tensor = tensors.remove(name).filter(fits).ok_or_else(|| {
            let shape = numel.map_or("one dimension".to_owned(), |numel| format!("shape [{numel}]"));
            let problem = format!("it has no tensor \"{name}\" of {shape} in float32");
            LearnerError::Checkpoint { path: path.to_owned(), problem }
        })?;
        found.push(tensor.f_to_device(device)?);
    }
    found
        .try_into()
        .map_err(|_| LearnerError::Checkpoint { path: path.to_owned(), problem: "it has too few tensors".to_owned() })
}

fn directory_name(version: PolicyVersion) -> String {
    format!("step-{:06}", version.0)
}

/// The version of a checkpoint with this name.
fn version_of(name: &str) -> Option<PolicyVersion> {
    name.strip_prefix("step-")?.parse().ok().map(PolicyVersion)
}

/// The complete checkpoints and the names of their directories.
fn complete(root: &Path) -> Result<BTreeMap<PolicyVersion, String>, LearnerError> {
    let names = names(root)?;
    let of_replaced = |name: &String| Some((version_of(name.strip_suffix(REPLACED)?)?, name.clone()));
    let mut complete: BTreeMap<PolicyVersion, String> = names.iter().filter_map(of_replaced).collect();
    // After the replaced ones: those with the plain name are newer, and count.
    complete.extend(names.iter().filter_map(|name| Some((version_of(name)?, name.clone()))));
    Ok(complete)
}

/// Gives checkpoints back the names that their successors did not come to take.
fn restore_replaced(root: &Path) -> Result<(), LearnerError> {
    for (version, name) in complete(root)? {
        let path = root.join(directory_name(version));
        if name.ends_with(REPLACED) {
            tracing::warn!(path = %path.display(), "restoring the checkpoint that an interrupted save was about to replace");
            fs::rename(root.join(name), &path).map_err(LearnerError::io(&path))?;
            sync(root)?;
        }
    }
    Ok(())
}

fn remove_if_there(dir: &Path) -> Result<(), LearnerError> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(LearnerError::io(dir))?;
    }
    Ok(())
}

/// The names in a directory; those that are not UTF-8 are none of ours.
fn names(root: &Path) -> Result<Vec<String>, LearnerError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).map_err(LearnerError::io(root))? {
        let entry = entry.map_err(LearnerError::io(root))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// One line of JSON for the file at `path`.
fn json(path: &Path, value: &impl Serialize) -> Result<String, LearnerError> {
    let refuse = |e: serde_json::Error| LearnerError::Checkpoint { path: path.to_owned(), problem: e.to_string() };
    serde_json::to_string(value).map_err(refuse)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), LearnerError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(LearnerError::io(path))
}

/// Makes a file's content, or a directory's entries, survive a power cut.
fn sync(path: &Path) -> Result<(), LearnerError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(LearnerError::io(path))
}
