//! The run directory: everything a run leaves behind, owned by one process at a time.
//!
//! | file | content |
//! |---|---|
//! | `lock` | held while a process runs here; its pid inside |
//! | `config.toml` | the resolved config |
//! | `inputs.json` | fingerprints of model and data |
//! | `metrics.jsonl`, `samples.jsonl`, `eval.jsonl` | one line per step, per written answer, per evaluation; append-only |
//! | `metrics.prom` | the last exposition |
//! | `address` | where the status server listens |
//! | `summary.json` | how the run ended; absent while it has not |
//! | `checkpoints/` | the checkpointer's |
//! | `not-finite-vN.json` | the learner's: the batch whose step from version N ended the run |
//!
//! `config.toml`, `inputs.json`, `metrics.prom`, `address` and `summary.json` are written beside and renamed: complete or
//! absent. A line of a JSONL file is one write; a torn last line, after a crash, goes with [`RunDir::truncate_to`], which
//! takes the files back to what the checkpoint knew.

mod fingerprint;
mod jsonl;
mod lines;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, refuse_changes};

pub(crate) use fingerprint::model_digest;
pub use fingerprint::{Inputs, fingerprint};
pub use jsonl::JsonLines;
pub use lines::{EvalLine, JudgedGroups, LedgerSummary, RunStatus, SampleLine, StepLine, Summary};

const LOCK: &str = "lock";
const CONFIG: &str = "config.toml";
const INPUTS: &str = "inputs.json";
const SUMMARY: &str = "summary.json";
const ADDRESS: &str = "address";
const EXPOSITION: &str = "metrics.prom";
const EVAL: &str = "eval.jsonl";
const JSONL: [&str; 3] = ["metrics.jsonl", "samples.jsonl", EVAL];
const CHECKPOINTS: &str = "checkpoints";

/// The first line of `config.toml`, by which a directory is known as a run's.
const CONFIG_HEAD: &str = "# The resolved settings of a run of counterpoint; a resumed run is compared with them.\n";

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// A file operation failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process runs there.
    #[error("{path}: a run is going on there (pid {pid}); wait for it, stop it, or choose another run.dir", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, as its lock file says.
        pid: String,
    },
    /// A recorded file is not what a run writes.
    #[error("{path}: {problem}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// Settings or inputs differ from those that the run was started with.
    #[error("{}", changes.join("\n"))]
    Changed {
        /// One line per difference.
        changes: Vec<String>,
    },
}

impl RunDirError {
    /// Whether the user's request is at fault (exit code 2) and not the machine (1).
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

/// Lengths of the JSONL files at a moment, for the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Bytes of metrics.jsonl.
    pub metrics: u64,
    /// Bytes of samples.jsonl.
    pub samples: u64,
    /// Bytes of eval.jsonl.
    pub eval: u64,
}

/// A run directory that this process owns until it is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held open: the operating system frees the lock with the file, also after a kill.
    _lock: File,
    metrics: JsonLines,
    samples: JsonLines,
    eval: JsonLines,
    previous: Option<Summary>,
}

impl RunDir {
    /// Creates or reopens the directory of a run.
    ///
    /// With `fresh`, what an earlier run wrote there is removed first, and nothing else. Otherwise settings and inputs must
    /// be those of the earlier run, but for what may change.
    pub fn open(config: &Config, inputs: &Inputs, fresh: bool) -> Result<Self, RunDirError> {
        let path = config.run.dir.clone();
        std::fs::create_dir_all(&path).map_err(at(&path))?;
        let lock = lock(&path)?;
        if fresh {
            remove_what_runs_write(&path)?;
        }
        let mut changes = recorded_config(&path)?.map(|recorded| refuse_changes(&recorded, config)).unwrap_or_default();
        if let Some(recorded) = read_json::<Inputs>(&path.join(INPUTS))? {
            changes.extend(inputs.differences(&recorded));
        }
        if !changes.is_empty() {
            return Err(RunDirError::Changed { changes });
        }
        let previous = read_json::<Summary>(&path.join(SUMMARY))?;
        write_atomically(&path.join(CONFIG), format!("{CONFIG_HEAD}{}", config.to_toml()).as_bytes())?;
        write_atomically(&path.join(INPUTS), json(inputs).as_bytes())?;
        let [metrics, samples, eval] = JSONL.map(|name| JsonLines::open(&path.join(name)));
        Ok(Self { _lock: lock, metrics: metrics?, samples: samples?, eval: eval?, path, previous })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where checkpoints belong.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// How the run that was here before ended; `None` if there was none or it was killed.
    pub fn previous(&self) -> Option<&Summary> {
        self.previous.as_ref()
    }

    /// The run goes on: it has not ended any more.
    pub fn begin(&self) -> Result<(), RunDirError> {
        remove(&self.path.join(SUMMARY))
    }

    /// Appends to metrics.jsonl.
    pub fn step(&mut self, line: &StepLine) -> Result<(), RunDirError> {
        self.metrics.append(line)
    }

    /// Appends to samples.jsonl.
    pub fn sample(&mut self, line: &SampleLine) -> Result<(), RunDirError> {
        self.samples.append(line)
    }

    /// Appends to eval.jsonl.
    pub fn eval(&mut self, line: &EvalLine) -> Result<(), RunDirError> {
        self.eval.append(line)
    }

    /// The evaluations that are written there; a torn line is none.
    pub fn evaluations(&self) -> Result<Vec<EvalLine>, RunDirError> {
        let path = self.path.join(EVAL);
        let text = std::fs::read(&path).map_err(at(&path))?;
        Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Makes all lines durable and gives the lengths of the files: what a checkpoint records.
    pub fn lengths(&mut self) -> Result<Lengths, RunDirError> {
        Ok(Lengths { metrics: self.metrics.sync()?, samples: self.samples.sync()?, eval: self.eval.sync()? })
    }

    /// Cuts the files back to what a checkpoint recorded: the steps after it are run again. All zero for a run that starts.
    pub fn truncate_to(&mut self, lengths: &Lengths) -> Result<(), RunDirError> {
        self.metrics.truncate_to(lengths.metrics)?;
        self.samples.truncate_to(lengths.samples)?;
        self.eval.truncate_to(lengths.eval)
    }

    /// Writes where the status server listens, one line `HOST:PORT`.
    pub fn address(&self, address: std::net::SocketAddr) -> Result<(), RunDirError> {
        write_atomically(&self.path.join(ADDRESS), format!("{address}\n").as_bytes())
    }

    /// Writes the last exposition.
    pub fn exposition(&self, text: &str) -> Result<(), RunDirError> {
        write_atomically(&self.path.join(EXPOSITION), text.as_bytes())
    }

    /// Writes how the run ended.
    pub fn summary(&self, summary: &Summary) -> Result<(), RunDirError> {
        write_atomically(&self.path.join(SUMMARY), json(summary).as_bytes())
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Nobody listens there any more; a stale address would mislead, a missing file cannot.
        let _ = std::fs::remove_file(self.path.join(ADDRESS));
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> RunDirError + '_ {
    |source| RunDirError::Io { path: path.to_owned(), source }
}

fn lock(dir: &Path) -> Result<File, RunDirError> {
    let path = dir.join(LOCK);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(source)) => return Err(RunDirError::Io { path, source }),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message: the pid may not be written yet.
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(RunDirError::Locked { path: dir.to_owned(), pid });
        }
    }
    file.set_len(0).map_err(at(&path))?;
    file.seek(SeekFrom::Start(0)).map_err(at(&path))?;
    writeln!(file, "{}", std::process::id()).map_err(at(&path))?;
    Ok(file)
}

/// The settings that an earlier run here recorded.
fn recorded_config(dir: &Path) -> Result<Option<Config>, RunDirError> {
    let path = dir.join(CONFIG);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RunDirError::Io { path, source }),
    };
    if !text.starts_with(CONFIG_HEAD) {
        let problem = "was not written by a run, and is left alone; choose another run.dir".to_owned();
        return Err(RunDirError::Unreadable { path, problem });
    }
    crate::config::recorded(&path.display().to_string(), &text).map(Some).map_err(|e| RunDirError::Unreadable {
        problem: format!(
            "the recorded settings cannot be read ({e}); start over with --fresh or choose another run.dir"
        ),
        path,
    })
}

/// Removes what a run writes, and nothing else: a file of another name stays, and so does a config.toml of another origin.
fn remove_what_runs_write(dir: &Path) -> Result<(), RunDirError> {
    let config = dir.join(CONFIG);
    if std::fs::read_to_string(&config).is_ok_and(|text| text.starts_with(CONFIG_HEAD)) {
        remove(&config)?;
    }
    for name in JSONL.iter().chain(&[INPUTS, SUMMARY, ADDRESS, EXPOSITION]) {
        remove(&dir.join(name))?;
    }
    remove_saved_batches(dir)?;
    remove_checkpoints(&dir.join(CHECKPOINTS))
}

/// Removes `not-finite-vNUMBER.json`.
fn remove_saved_batches(dir: &Path) -> Result<(), RunDirError> {
    for entry in std::fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix("not-finite-v").and_then(|rest| rest.strip_suffix(".json"));
        if number.is_some_and(|number| number.parse::<u64>().is_ok()) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes `step-NUMBER` directories, complete or not, and the links `latest` and `best` with what is recorded of it; then
/// the folder, if nothing else is in it.
fn remove_checkpoints(root: &Path) -> Result<(), RunDirError> {
    let entries = match std::fs::read_dir(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(at(root))?,
    };
    for entry in entries {
        let path = entry.map_err(at(root))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // `step-N`, and what a write that was cut off left: `step-N.tmp`, `step-N.old.tmp`.
        let plain = name.strip_suffix(".tmp").map_or(name.as_str(), |n| n.strip_suffix(".old").unwrap_or(n));
        let number = plain.strip_prefix("step-");
        if number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) && !path.is_symlink() {
            std::fs::remove_dir_all(&path).map_err(at(&path))?;
        } else if matches!(plain, "latest" | "best") && path.is_symlink() || plain == "best.json" {
            remove(&path)?;
        }
    }
    // Fails where something else is left, which is then not ours.
    let _ = std::fs::remove_dir(root);
    Ok(())
}

fn remove(path: &Path) -> Result<(), RunDirError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(at(path)(e)),
        _ => Ok(()),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, RunDirError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(at(path)(source)),
    };
    serde_json::from_str(&text).map(Some).map_err(|e| RunDirError::Unreadable {
        path: path.to_owned(),
        problem: format!("not what a run writes ({e}); start over with --fresh or choose another run.dir"),
    })
}

fn json(value: &impl Serialize) -> String {
    // Plain structs with string keys: cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// Complete or absent: written beside, fsynced, renamed, the directory fsynced.
fn write_atomically(path: &Path, content: &[u8]) -> Result<(), RunDirError> {
    let beside = path.with_added_extension("tmp");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(at(path))
}

#[cfg(test)]
mod tests;
