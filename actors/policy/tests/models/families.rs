//! Every family and rope type against transformers: the models beside `tests/golden/make_models.py`, which made them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use counterpoint_policy::checkpoint::{load, save};
use counterpoint_policy::{
    Architecture, CausalAttention, Device, Kind, Layout, ModelConfig, PackedAttention, RopeScaling, Tensor, Weights,
};
use safetensors::{Dtype, SafeTensors};

use crate::distance;
use crate::golden::{TOLERANCE, golden, logits, logits_at};

/// The directories of the golden models.
fn cases() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert_eq!(cases.len(), 12);
    cases
}

struct Case {
    name: String,
    config: ModelConfig,
    weights: Weights,
    ids: Tensor,
    logits: Tensor,
}

impl Case {
    fn read(dir: &Path) -> Self {
        let (config, flat) = load(dir, Kind::Float, Device::Cpu).unwrap();
        let weights = Weights::view(&config, &Layout::new(&config), &flat).unwrap();
        let (ids, logits) = golden(dir);
        Self { name: dir.file_name().unwrap().to_str().unwrap().to_owned(), config, weights, ids, logits }
    }

    /// How far our logits are from those of transformers, under `config`.
    fn off(&self, config: &ModelConfig) -> f64 {
        distance(&logits(config, &self.weights, &self.ids, &mut CausalAttention), &self.logits)
    }
}

#[test]
fn logits_of_every_family_and_rope_type_are_those_of_transformers() {
    for case in cases().iter().map(|dir| Case::read(dir)) {
        let Case { name, config, weights, ids, logits: expected } = &case;
        let mut packed = PackedAttention::causal(ids.size()[1], Device::Cpu).unwrap();
        let masked = distance(&logits(config, weights, ids, &mut packed), expected);
        let unmasked = case.off(config);
        println!("{name}: logits are off by {masked:.1e}, without a mask by {unmasked:.1e}");
        assert!(masked < TOLERANCE && unmasked < TOLERANCE, "{name}: {masked}, {unmasked}");
    }
}

/// Answers behind one prompt and padding, as the learner packs them: each has the logits of its own sequence.
#[test]
fn packed_and_padded_rows_have_the_logits_of_transformers() {
    for case in cases().iter().map(|dir| Case::read(dir)) {
        let Case { name, config, weights, ids, logits: expected } = &case;
        let (prompt, length) = (40, ids.size()[1]);
        let answer = length - prompt;
        // Row by row: its prompt, a part of the other row as an answer, its own rest as another, padding.
        let other = ids.flip([0]).narrow(1, prompt, 30);
        let padding = Tensor::zeros([2, 7], (Kind::Int64, Device::Cpu));
        let tokens = Tensor::cat(&[&ids.narrow(1, 0, prompt), &other, &ids.narrow(1, prompt, answer), &padding], 1);
        let row = |parts: &[Vec<i64>]| Tensor::from_slice(&parts.concat()).unsqueeze(0).repeat([2, 1]);
        let positions =
            row(&[(0..prompt).collect(), (prompt..prompt + 30).collect(), (prompt..length).collect(), vec![0; 7]]);
        let segments = row(&[vec![0; prompt as usize], vec![1; 30], vec![2; answer as usize], vec![-1; 7]]);
        let mut packed = PackedAttention::segmented(&segments).unwrap();
        let found = logits_at(config, weights, &tokens, &positions, &mut packed);
        let off_prompt = distance(&found.narrow(1, 0, prompt), &expected.narrow(1, 0, prompt));
        let off_answer = distance(&found.narrow(1, prompt + 30, answer), &expected.narrow(1, prompt, answer));
        assert!(off_prompt < TOLERANCE && off_answer < TOLERANCE, "{name}: {off_prompt}, {off_answer}");
    }
}

/// A golden that does not change with a feature would not notice that it is gone.
#[test]
fn the_goldens_would_notice_a_missing_window_or_scaling() {
    let (mut windows, mut scalings) = (0, 0);
    for case in cases().iter().map(|dir| Case::read(dir)) {
        let config = &case.config;
        if !config.windows.is_empty() {
            windows += 1;
            let off = case.off(&ModelConfig { windows: Vec::new(), ..config.clone() });
            assert!(off > 0.01, "{}: without windows off by {off} only", case.name);
            let wider = config.windows.iter().map(|window| window.map(|tokens| tokens + 1)).collect();
            let off = case.off(&ModelConfig { windows: wider, ..config.clone() });
            assert!(off > 10.0 * TOLERANCE, "{}: with wider windows off by {off} only", case.name);
        }
        if config.rope_scaling != RopeScaling::Default {
            scalings += 1;
            let off = case.off(&ModelConfig { rope_scaling: RopeScaling::Default, ..config.clone() });
            assert!(off > 0.01, "{}: without scaling off by {off} only", case.name);
        }
    }
    assert_eq!((windows, scalings), (3, 6));
}

#[test]
fn the_goldens_are_of_every_family_and_rope_type_in_both_dialects() {
    let configs: Vec<ModelConfig> = cases().iter().map(|dir| ModelConfig::from_dir(dir).unwrap()).collect();
    for family in [Architecture::Qwen2, Architecture::Qwen3, Architecture::Llama, Architecture::Mistral] {
        assert!(configs.iter().filter(|config| config.architecture == family).count() >= 2, "{family:?}");
    }
    let types = configs.iter().map(|config| match config.rope_scaling {
        RopeScaling::Default => "default",
        RopeScaling::Linear { .. } => "linear",
        RopeScaling::Llama3 { .. } => "llama3",
        RopeScaling::Yarn { .. } => "yarn",
    });
    assert_eq!(types.collect::<std::collections::BTreeSet<_>>().len(), 4);
    let dialects = cases().into_iter().filter(|dir| {
        let config = fs::read_to_string(dir.join("config.json")).unwrap();
        assert_ne!(config.contains("\"torch_dtype\""), config.contains("\"rope_parameters\""), "{}", dir.display());
        config.contains("rope_parameters")
    });
    assert_eq!(dialects.count(), 5);
}

/// Name, format, shape and bytes of every tensor in the files of a directory.
fn tensors(dir: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            let bytes = fs::read(&path).unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                assert!(all.insert(name, tensor).is_none());
            }
        }
    }
    all
}

#[test]
fn every_family_is_written_back_under_the_names_it_was_read_from() {
    for dir in cases() {
        let original = tensors(&dir);
        let (dtype, _, _) = original.values().next().unwrap();
        let kind = match dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            _ => Kind::BFloat16,
        };
        let (config, flat) = load(&dir, Kind::Float, Device::Cpu).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let saved = parent.path().join("saved");
        save(&saved, &dir, &config, &flat, kind).unwrap();
        let written = tensors(&saved);
        let names = |tensors: &BTreeMap<String, _>| tensors.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&original), names(&written), "{}", dir.display());
        assert!(original == written, "{}: some tensor changed its format, shape or values", dir.display());
        let again = load(&saved, Kind::Float, Device::Cpu).unwrap();
        assert!(again == (config, flat), "{}", dir.display());
    }
}
