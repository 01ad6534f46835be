use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use counterpoint_policy::{Adapted, Device, Kind, Layout, LoraConfig, ModelConfig, PolicyError, Tensor};

use super::*;
use crate::{MANIFEST, is_published, verify};

/// A model directory to start from, and where to publish.
struct World {
    scratch: tempfile::TempDir,
    config: Arc<ModelConfig>,
}

impl World {
    fn new() -> Self {
        let json = serde_json::json!({"model_type": "llama", "vocab_size": 4, "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8, "rms_norm_eps": 1e-6});
        let scratch = tempfile::tempdir().unwrap();
        let source = scratch.path().join("model");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("config.json"), json.to_string()).unwrap();
        fs::create_dir(source.join("additional_chat_templates")).unwrap();
        fs::write(source.join("additional_chat_templates/short.jinja"), "{{ messages }}").unwrap();
        let config = Arc::new(ModelConfig::from_dir(&source).unwrap());
        Self { scratch, config }
    }

    fn source(&self) -> PathBuf {
        self.scratch.path().join("model")
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("published")
    }

    fn open(&self) -> WeightDirectory {
        WeightDirectory::open(&self.root(), &self.source(), 2).unwrap()
    }

    fn flat(&self, version: u64) -> Tensor {
        Tensor::arange(Layout::new(&self.config).numel(), (Kind::Float, Device::Cpu)) + version as f64
    }

    fn snapshot(&self, version: u64) -> Snapshot {
        Snapshot::new(Arc::clone(&self.config), PolicyVersion(version), self.flat(version)).unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        fs::read_dir(self.root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn latest(&self) -> PathBuf {
        self.root().join("latest")
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_publication_is_a_model_directory_and_the_newest_few_stay() {
    let world = World::new();
    let mut directory = world.open();
    for version in [3, 4, 6] {
        let delivered = directory.publish(&world.snapshot(version)).unwrap();
        assert_eq!(delivered.version, PolicyVersion(version));
        assert!(delivered.bytes > 4 * Layout::new(&world.config).numel() as u64);
        assert_eq!(verify(&world.latest()).unwrap(), PolicyVersion(version));
    }
    assert_eq!(world.names(), set(&["version-000004", "version-000006", "latest"]));
    let (config, flat) = checkpoint::load(&world.latest(), Kind::Float, Device::Cpu).unwrap();
    assert_eq!((config, flat), ((*world.config).clone(), world.flat(6)));
    assert!(world.latest().join("additional_chat_templates/short.jinja").exists());
}

#[test]
fn an_adapter_beside_a_frozen_model_is_published_alone() {
    let world = World::new();
    let lora = LoraConfig { rank: 2, ..LoraConfig::default() };
    let adapted = Adapted::new(Arc::clone(&world.config), world.flat(0), lora, 1).unwrap();
    let values = adapted.initial().unwrap();
    let snapshot = Snapshot::adapted(adapted, values.copy(), PolicyVersion(1)).unwrap();
    world.open().publish(&snapshot).unwrap();
    assert_eq!(verify(&world.latest()).unwrap(), PolicyVersion(1));
    assert!(checkpoint::is_adapter(&world.latest()) && !world.latest().join("model.safetensors").exists());
    let (_, read) = checkpoint::load_adapter(&world.latest(), &world.config, Device::Cpu).unwrap();
    assert_eq!(read, values);
}

#[test]
fn what_an_interruption_left_is_removed_and_nothing_else() {
    let world = World::new();
    world.open().publish(&world.snapshot(2)).unwrap();
    // Cut off in the middle of the weights, before the link was moved; and one that was being removed.
    for torn in ["version-000003.tmp", "version-000001.tmp"] {
        fs::create_dir(world.root().join(torn)).unwrap();
        fs::write(world.root().join(torn).join("model.safetensors"), [1; 100]).unwrap();
    }
    symlink("version-000003", world.root().join("latest.tmp")).unwrap();
    for foreign in ["notes.tmp", "version-x", "README.md"] {
        fs::write(world.root().join(foreign), "mine").unwrap();
    }
    let mut directory = world.open();
    assert_eq!(world.names(), set(&["version-000002", "latest", "notes.tmp", "version-x", "README.md"]));
    assert_eq!(verify(&world.latest()).unwrap(), PolicyVersion(2));
    directory.publish(&world.snapshot(3)).unwrap();
    assert_eq!(verify(&world.latest()).unwrap(), PolicyVersion(3));
}

#[test]
fn a_run_that_goes_on_from_a_checkpoint_publishes_versions_anew() {
    let world = World::new();
    let mut directory = world.open();
    directory.publish(&world.snapshot(7)).unwrap();
    directory.publish(&world.snapshot(8)).unwrap();
    let mut resumed = world.open();
    resumed.publish(&world.snapshot(6)).unwrap();
    assert_eq!(world.names(), set(&["version-000006", "version-000008", "latest"]), "6 is the newest in time");
    let other = Snapshot::new(Arc::clone(&world.config), PolicyVersion(8), world.flat(80)).unwrap();
    resumed.publish(&other).unwrap();
    assert_eq!(verify(&world.latest()).unwrap(), PolicyVersion(8));
    assert_eq!(checkpoint::load(&world.latest(), Kind::Float, Device::Cpu).unwrap().1, world.flat(80));
    assert_eq!(world.names(), set(&["version-000006", "version-000008", "latest"]));
}

/// Writes half of it, then the device is full.
fn full_disk(_: &Snapshot, dir: &Path, _: &Path) -> Result<(), TransportError> {
    fs::create_dir(dir).map_err(TransportError::io(dir))?;
    fs::write(dir.join("model.safetensors"), [1; 100]).map_err(TransportError::io(dir))?;
    let full = Path::new("/dev/full");
    let written = fs::OpenOptions::new().write(true).open(full).and_then(|mut device| device.write_all(&[1; 100]));
    written.map_err(|source| PolicyError::Io { path: dir.join("model.safetensors"), source }.into())
}

#[test]
fn a_full_disk_costs_the_new_publication_and_not_the_last_one() {
    let world = World::new();
    let mut directory = world.open();
    directory.publish(&world.snapshot(1)).unwrap();
    directory.write_model = full_disk;
    let error = directory.publish(&world.snapshot(2)).unwrap_err().to_string();
    assert!(error.contains("version-000002.tmp/model.safetensors") && error.contains("No space left"), "{error}");
    assert_eq!(world.names(), set(&["version-000001", "latest"]));
    assert_eq!(verify(&world.latest()).unwrap(), PolicyVersion(1));
    directory.write_model = write_model;
    directory.publish(&world.snapshot(2)).unwrap();
    assert_eq!(verify(&world.latest()).unwrap(), PolicyVersion(2));
}

#[test]
fn a_directory_that_cannot_be_written_to_is_refused_at_once_by_name() {
    let world = World::new();
    let file = world.scratch.path().join("file");
    fs::write(&file, "").unwrap();
    // Nobody may write in /proc/sys, the superuser neither.
    for root in [Path::new("/proc/sys/kernel"), &file, &file.join("below")] {
        let error = WeightDirectory::open(root, &world.source(), 2).unwrap_err();
        assert!(matches!(&error, TransportError::Io { path, .. } if path.starts_with(root)), "{error}");
    }
    // It was there, and is gone while the run goes on.
    let mut directory = world.open();
    fs::remove_dir_all(world.root()).unwrap();
    let error = directory.publish(&world.snapshot(1)).unwrap_err().to_string();
    assert!(error.contains("version-000001.tmp"), "{error}");
}

#[test]
fn whatever_is_not_what_was_published_is_refused_by_file() {
    let world = World::new();
    world.open().publish(&world.snapshot(1)).unwrap();
    let dir = world.root().join("version-000001");
    let files = ["config.json", "generation_config.json", "model.safetensors", "additional_chat_templates/short.jinja"];
    for name in files {
        let path = dir.join(name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (content, problem) in
            [(&whole[..whole.len() - 1], "bytes, "), (&flipped[..], "SHA-256 differs"), (&[], "bytes, ")]
        {
            fs::write(&path, content).unwrap();
            let error = verify(&dir).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(problem), "{error}");
        }
        fs::remove_file(&path).unwrap();
        let error = verify(&dir).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("cannot be read"), "{error}");
        fs::write(&path, whole).unwrap();
        assert_eq!(verify(&dir).unwrap(), PolicyVersion(1));
    }
    let manifest = dir.join(MANIFEST);
    let whole = fs::read(&manifest).unwrap();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1;
        fs::write(&manifest, flipped).unwrap();
        assert!(verify(&dir).is_err(), "byte {byte} of the manifest was flipped and nobody noticed");
    }
    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    assert!(verify(&dir).unwrap_err().to_string().contains("not a manifest"));
    fs::remove_file(&manifest).unwrap();
    assert!(!is_published(&dir) && verify(&dir).is_err());
}
