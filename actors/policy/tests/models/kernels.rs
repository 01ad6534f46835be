//! The kernels against the transformer by libtorch, and against themselves under other divisions of the work.

use std::path::Path;
use std::sync::Arc;

use counterpoint_policy::kernels::{BLOCK, Blocks, Decoder, Level, PackedWeights, Row, WeightFormat};
use counterpoint_policy::{Device, Kind, Layout, ModelConfig, PackedAttention, Snapshot, Tensor, checkpoint::load};
use counterpoint_rollout::PolicyVersion;

use crate::golden::{TOLERANCE, golden, logits};
use crate::{MODELS, data, model_dir};

/// Every family and rope type, with and without biases, normed heads and windows.
const GOLDEN: [&str; 12] = [
    "llama-linear-biased",
    "llama-yarn",
    "llama3",
    "mistral",
    "mistral-linear",
    "qwen2",
    "qwen2-window",
    "qwen2-yarn",
    "qwen3",
    "qwen3-tied-window",
    "qwen3-yarn-mscale",
    "smollm2",
];

fn golden_dir(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn snapshot(dir: &Path) -> Arc<Snapshot> {
    let (config, flat) = load(dir, Kind::Float, Device::Cpu).unwrap();
    Arc::new(Snapshot::new(Arc::new(config), PolicyVersion(0), flat).unwrap())
}

fn decoder(snapshot: &Arc<Snapshot>, threads: usize, level: Level) -> Decoder {
    decoder_in(WeightFormat::Float32, snapshot, threads, level)
}

fn decoder_in(format: WeightFormat, snapshot: &Arc<Snapshot>, threads: usize, level: Level) -> Decoder {
    assert!(PackedWeights::fits(snapshot));
    let mut decoder = Decoder::new(snapshot, format, snapshot.config().max_positions.min(4096), threads).unwrap();
    decoder.set_level(level);
    decoder
}

/// Logits of every position of every sequence, all in one pass or, with `chunk`, so many tokens of each at a time.
fn run(decoder: &mut Decoder, config: &ModelConfig, sequences: &[Vec<u32>], chunk: usize) -> Vec<Vec<f32>> {
    let mut blocks = Blocks::new(config, usize::MAX);
    let tables: Vec<Vec<u32>> = sequences
        .iter()
        .map(|tokens| (0..tokens.len().div_ceil(BLOCK)).map(|_| blocks.take().unwrap()).collect())
        .collect();
    let longest = sequences.iter().map(Vec::len).max().unwrap();
    let mut all: Vec<Vec<f32>> = vec![Vec::new(); sequences.len()];
    for start in (0..longest).step_by(chunk) {
        let mut rows = Vec::new();
        let mut whose = Vec::new();
        for (number, (tokens, table)) in sequences.iter().zip(&tables).enumerate() {
            for (position, &token) in tokens.iter().enumerate().skip(start).take(chunk) {
                rows.push(Row { token, position, blocks: table });
                whose.push(number);
            }
        }
        let wanted: Vec<usize> = (0..rows.len()).collect();
        decoder.run(&rows, &wanted, &mut blocks).unwrap();
        let vocabulary = decoder.vocabulary();
        for (number, logits) in whose.into_iter().zip(decoder.logits()) {
            all[number].extend(&logits[..vocabulary]);
        }
    }
    all
}

fn sequences(ids: &Tensor) -> Vec<Vec<u32>> {
    let rows = Vec::<Vec<i64>>::try_from(ids).unwrap();
    rows.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect()
}

fn farthest(ours: &[Vec<f32>], theirs: &Tensor) -> f64 {
    let theirs = Vec::<f32>::try_from(theirs.reshape([-1])).unwrap();
    let pairs = ours.iter().flatten().zip(&theirs);
    assert_eq!(ours.iter().map(Vec::len).sum::<usize>(), theirs.len());
    pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0.0, f64::max)
}

#[test]
fn logits_are_those_of_libtorch_and_of_transformers_for_every_family_at_every_level() {
    let dirs = GOLDEN.map(|name| (name, golden_dir(name), golden_dir(name)));
    let own = MODELS.map(|name| (name, model_dir(name), data(name)));
    for (name, dir, reference) in dirs.into_iter().chain(own) {
        let snapshot = snapshot(&dir);
        let config = snapshot.config();
        let (ids, expected) = golden(&reference);
        let mut packed = PackedAttention::causal(ids.size()[1], Device::Cpu).unwrap();
        let by_libtorch = logits(config, snapshot.weights(), &ids, &mut packed);
        for &level in Level::available() {
            let ours = run(&mut decoder(&snapshot, 1, level), config, &sequences(&ids), usize::MAX >> 1);
            let (off, from_golden) = (farthest(&ours, &by_libtorch), farthest(&ours, &expected));
            // As libtorch's own against transformers: float32, sums in another order.
            assert!(off < TOLERANCE && from_golden < TOLERANCE, "{name} {level:?}: {off}, {from_golden}");
        }
    }
}

#[test]
fn matrices_held_in_bfloat16_are_the_rounded_ones_to_the_bit() {
    for name in ["qwen2", "qwen3-tied-window"] {
        let exact = snapshot(&golden_dir(name));
        let config = exact.config();
        // What the kernels do not hold as a matrix, an untied embedding, norms and biases, is rounded in neither.
        let layout = Layout::new(config);
        let flat = exact.flat().copy();
        let embedding = if config.tied { 0 } else { config.vocab_size * config.hidden_size };
        let mut matrices = flat.narrow(0, embedding, layout.decayed() - embedding);
        let rounded = matrices.to_kind(Kind::BFloat16).to_kind(Kind::Float);
        matrices.copy_(&rounded);
        let rounded = Arc::new(Snapshot::new(Arc::clone(config), PolicyVersion(0), flat.shallow_clone()).unwrap());
        let all = vec![vec![1, 2, 3, 4, 5], vec![6, 7]];
        let mut held = decoder_in(WeightFormat::Bfloat16, &exact, 2, Level::best());
        if config.tied {
            // The embedding is looked up as it is, so that it must be rounded before.
            held = decoder_in(WeightFormat::Bfloat16, &rounded, 2, Level::best());
        }
        let got = run(&mut held, config, &all, 100);
        assert!(got == run(&mut decoder(&rounded, 1, Level::best()), config, &all, 100), "{name}");
        held.load(&rounded).unwrap();
        assert!(got == run(&mut held, config, &all, 100), "{name}: loaded in place");
        held.begin_load(&rounded).unwrap();
        assert!(held.swap(true).unwrap() && got == run(&mut held, config, &all, 100), "{name}: swapped");
    }
}

#[test]
fn threads_chunks_and_company_do_not_change_a_bit() {
    for name in ["qwen3-tied-window", "qwen2", "llama3"] {
        let snapshot = snapshot(&golden_dir(name));
        let config = snapshot.config();
        let vocabulary = config.vocab_size as u32;
        // Of unlike lengths, more rows than are taken together, and shorter and longer than a block.
        let lengths = [1usize, 7, 16, 17, 40, 63, 100, 3, 5, 64, 90, 33, 80, 77, 2, 96];
        let tokens =
            |number: usize, length: usize| (0..length).map(|i| (7 * number + 3 * i * i) as u32 % vocabulary).collect();
        let all: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(number, &length)| tokens(number, length)).collect();
        let level = Level::best();
        let expected = run(&mut decoder(&snapshot, 1, level), config, &all, 1000);
        for (threads, chunk) in [(1, 1), (1, 13), (2, 1000), (2, 1), (3, 5), (3, 1000)] {
            let got = run(&mut decoder(&snapshot, threads, level), config, &all, chunk);
            assert!(got == expected, "{name}: {threads} threads, {chunk} tokens at a time");
        }
        for (number, sequence) in all.iter().enumerate() {
            let alone = run(&mut decoder(&snapshot, 1, level), config, std::slice::from_ref(sequence), 1000);
            assert!(alone[0] == expected[number], "{name}: sequence {number} alone");
        }
    }
}

#[test]
fn other_weights_are_taken_in_place_and_those_of_another_model_refused() {
    let first = snapshot(&golden_dir("qwen3"));
    let changed = first.flat().copy() * 1.25;
    let second = Arc::new(Snapshot::new(Arc::clone(first.config()), PolicyVersion(1), changed).unwrap());
    let all = vec![vec![1, 2, 3, 4], vec![5, 6]];
    let mut swapped = decoder(&first, 2, Level::best());
    let before = run(&mut swapped, first.config(), &all, 100);
    swapped.load(&second).unwrap();
    let after = run(&mut swapped, first.config(), &all, 100);
    assert!(before != after);
    assert!(after == run(&mut decoder(&second, 1, Level::best()), first.config(), &all, 100));
    assert!(swapped.load(&snapshot(&golden_dir("llama3"))).is_err());
}

#[test]
fn rows_that_make_no_sense_are_refused() {
    let snapshot = snapshot(&golden_dir("qwen2"));
    let mut decoder = decoder(&snapshot, 1, Level::best());
    let mut blocks = Blocks::new(snapshot.config(), 1);
    let table = [blocks.take().unwrap()];
    assert!(blocks.take().is_none(), "there may be one");
    let good = Row { token: 1, position: 0, blocks: &table };
    let vocabulary = snapshot.config().vocab_size as u32;
    for (row, wanted) in [
        (Row { token: vocabulary, ..good }, vec![0]),
        (Row { position: BLOCK, ..good }, vec![0]),
        (Row { blocks: &[7], ..good }, vec![0]),
        (good, vec![1]),
        (good, vec![0, 0]),
    ] {
        assert!(decoder.run(&[row], &wanted, &mut blocks).is_err(), "{row:?} {wanted:?}");
    }
    decoder.run(&[good], &[0], &mut blocks).unwrap();
    assert_eq!(decoder.logits().len(), 1);
}

#[test]
fn only_float32_weights_without_adapters_fit() {
    let snapshot = snapshot(&golden_dir("qwen2"));
    assert!(PackedWeights::fits(&snapshot));
    assert!(!PackedWeights::fits(&snapshot.to(Device::Cpu, Kind::BFloat16).unwrap()));
}
