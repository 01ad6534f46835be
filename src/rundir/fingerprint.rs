use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{RunDirError, at};
use crate::config::Config;

/// Files up to this size are hashed whole; of larger ones (weights) length, head and tail.
const WHOLE: u64 = 64 << 20;
/// Bytes of head and of tail.
const END: u64 = 1 << 20;

/// What model and data were when the run began, by file name: enough to notice a changed one, not a proof of equality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Files of the model directory.
    pub model: BTreeMap<String, String>,
    /// The chat template that replaces the model's, if there is one.
    #[serde(default)]
    pub chat_template: Option<String>,
    /// The training data.
    pub train: String,
}

/// Fingerprints of a config's model and training data (the evaluation data may change).
pub fn fingerprint(config: &Config) -> Result<Inputs, RunDirError> {
    let chat_template = config.model.chat_template.as_deref().map(digest).transpose()?;
    Ok(Inputs { model: model(&config.model.path)?, chat_template, train: training(config)? })
}

/// One fingerprint of all files of a model directory.
pub(crate) fn model_digest(dir: &Path) -> Result<String, RunDirError> {
    let mut hasher = blake3::Hasher::new();
    for (name, digest) in model(dir)? {
        hasher.update(format!("{name} {digest}\n").as_bytes());
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

fn model(dir: &Path) -> Result<BTreeMap<String, String>, RunDirError> {
    let mut model = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let counts = [".json", ".safetensors", ".jinja", ".model"].iter().any(|s| name.ends_with(s));
        if counts && path.is_file() {
            model.insert(name, digest(&path)?);
        }
    }
    Ok(model)
}

/// One file's digest, or that of all names and digests; a task is a function of its options, which the config records.
fn training(config: &Config) -> Result<String, RunDirError> {
    if config.data.task.is_some() {
        return Ok(String::new());
    }
    let files = match config.data.train.resolve() {
        Ok(files) => files,
        // Reading the data says better what is wrong.
        Err(_) => config.data.train.given().to_vec(),
    };
    if let [file] = files.as_slice() {
        return digest(file);
    }
    let mut hasher = blake3::Hasher::new();
    for file in &files {
        hasher.update(format!("{} {}\n", file.display(), digest(file)?).as_bytes());
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

impl Inputs {
    /// One line per file that differs from what was recorded.
    pub(super) fn differences(&self, recorded: &Self) -> Vec<String> {
        let advice = "set it back, choose another run.dir, or start over with --fresh";
        let names = self.model.keys().chain(recorded.model.keys().filter(|name| !self.model.contains_key(*name)));
        let mut out: Vec<String> = names
            .filter(|name| self.model.get(*name) != recorded.model.get(*name))
            .map(|name| {
                format!("model.path: {name} is not the file that the run in this directory was started with; {advice}")
            })
            .collect();
        let others = [
            ("model.chat_template", self.chat_template != recorded.chat_template),
            ("data.train", self.train != recorded.train),
        ];
        out.extend(others.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| {
            format!("{key}: the file is not the one that the run in this directory was started with; {advice}")
        }));
        out
    }
}

fn digest(path: &Path) -> Result<String, RunDirError> {
    let hash = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&length.to_le_bytes());
        let mut bytes = Vec::new();
        if length <= WHOLE {
            file.read_to_end(&mut bytes)?;
        } else {
            (&file).take(END).read_to_end(&mut bytes)?;
            file.seek(SeekFrom::End(-(END as i64)))?;
            file.read_to_end(&mut bytes)?;
        }
        hasher.update(&bytes);
        Ok(hasher.finalize().to_hex()[..32].to_owned())
    };
    hash().map_err(at(path))
}
