//! Passes against libtorch's, whose gradients are autograd's, and parts against plain sums.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::kernels::aligned::Aligned;
use crate::kernels::number::WeightFormat;
use crate::kernels::training::product::{Operand, Product, multiply};
use crate::kernels::{BLOCK, Blocks, Decoder, Row};
use crate::{Layout, Parameters, SegmentAttention, Snapshot, checkpoint};
use counterpoint_rollout::PolicyVersion;

/// Numbers around zero, a function of `seed`.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((seed % 1000) as f32 + i as f32 * 1.7).sin()).collect()
}

proptest! {
    #[test]
    fn a_product_is_the_sum_of_products_however_its_matrices_lie(
        rows in 1usize..20, depth in 1usize..70, columns in 1usize..130, block in 1usize..80,
        turned in any::<[bool; 2]>(), biased: bool, add: bool, seed: u64,
    ) {
        let (a, b) = (numbers(seed, rows * depth), numbers(seed ^ 1, depth * columns));
        let (bias, before) = (Aligned::padded(&numbers(seed ^ 2, columns)), numbers(seed ^ 3, rows * columns + 1));
        let place = |turned: bool, row: usize, column: usize, [rows, columns]: [usize; 2]| {
            if turned { column * rows + row } else { row * columns + column }
        };
        let operand = |of: &[f32], turned: bool, [rows, columns]: [usize; 2]| match turned {
            true => Operand::new(of.as_ptr(), rows).transposed(),
            false => Operand::new(of.as_ptr(), columns),
        };
        let mut results = Vec::new();
        for &level in Level::available() {
            let (mut c, mut room) = (before.clone(), vec![0.0; PANEL * block]);
            let mut product = Product {
                a: operand(&a, turned[0], [rows, depth]),
                b: operand(&b, turned[1], [depth, columns]),
                c: Rows { start: c.as_mut_ptr(), stride: columns },
                rows: 0..rows,
                columns,
                depth,
                block,
                bias: if biased { bias.as_ptr() } else { std::ptr::null() },
                add,
                room: &mut room,
            };
            // SAFETY: the vectors have these sizes, and the level is available.
            unsafe { multiply(level, &mut product) };
            for row in 0..rows {
                for column in 0..columns {
                    let of = |i: usize| {
                        let (a, b) = (a[place(turned[0], row, i, [rows, depth])], b[place(turned[1], i, column, [depth, columns])]);
                        f64::from(a) * f64::from(b)
                    };
                    let mut expected: f64 = (0..depth).map(of).sum();
                    expected += if biased { f64::from(bias[column]) } else { 0.0 };
                    expected += if add { f64::from(before[row * columns + column]) } else { 0.0 };
                    let off = (f64::from(c[row * columns + column]) - expected).abs();
                    prop_assert!(off < 2e-5, "{level:?} row {row} column {column}: {off}");
                }
            }
            prop_assert_eq!(c[rows * columns], before[rows * columns], "nothing is written behind it");
            results.push((level, c));
        }
        let fused: Vec<_> = results.iter().filter(|(level, _)| *level != Level::Portable).collect();
        prop_assert!(fused.windows(2).all(|pair| pair[0].1 == pair[1].1), "AVX2 and AVX-512 differ");
    }
}

struct Work {
    tokens: Vec<i64>,
    positions: Vec<i64>,
    segments: Vec<i64>,
    rows: Vec<usize>,
    picks: Vec<i64>,
}

impl Work {
    /// Of prompts and the answers behind each.
    fn of(shapes: &[(usize, &[usize])], vocabulary: i64) -> Self {
        let mut work = Self { tokens: vec![], positions: vec![], segments: vec![], rows: vec![], picks: vec![] };
        for (prompt, answers) in shapes {
            let start = work.tokens.len();
            for (number, (before, length)) in
                std::iter::once((0, prompt)).chain(answers.iter().map(|length| (*prompt, length))).enumerate()
            {
                for place in 0..*length {
                    let token = work.tokens.len() as i64;
                    work.tokens.push((token * 7 + token * token) % vocabulary);
                    work.positions.push((before + place) as i64);
                    work.segments.push(number as i64);
                    work.picks.push(token);
                }
                if number > 0 {
                    work.picks.push((start + prompt - 1) as i64);
                }
            }
            work.rows.push(work.tokens.len() - start);
        }
        work
    }

    fn packed(&self) -> PackedRows<'_> {
        let Self { tokens, positions, segments, rows, picks } = self;
        PackedRows { tokens, positions, segments, rows, picks }
    }
}

/// Hidden states and the gradients by all parameters, by libtorch in double precision.
fn by_autograd(config: &ModelConfig, flat: &Tensor, work: &Work, by_normed: &Tensor) -> [Tensor; 2] {
    let parameters = Parameters::new(config, flat.to_kind(Kind::Double)).unwrap();
    let weights = parameters.weights().unwrap();
    let transformer = Transformer::new(config, config.max_positions, Device::Cpu).unwrap();
    let mut attention = SegmentAttention::new(&work.segments, &work.rows, Device::Cpu).unwrap();
    let row = |values: &[i64]| Tensor::from_slice(values).unsqueeze(0);
    let hidden = transformer.hidden(&weights, &row(&work.tokens), &row(&work.positions), &mut attention).unwrap();
    let picked = hidden.squeeze_dim(0).index_select(0, &Tensor::from_slice(&work.picks));
    let normed = transformer.normed(&weights, &picked).unwrap();
    (&normed * by_normed.to_kind(Kind::Double)).sum(None).backward();
    let gradients = Tensor::cat(&parameters.gradients(None).unwrap(), 0);
    [normed.detach(), gradients]
}

/// The same by the kernels.
fn by_kernels(
    config: &ModelConfig,
    flat: &Tensor,
    work: &Work,
    by_normed: &Tensor,
    keep: Keep,
    threads: usize,
) -> [Tensor; 2] {
    let transformer = Transformer::new(config, config.max_positions, Device::Cpu).unwrap();
    let mut passes = TrainingPasses::new(&transformer, threads).unwrap();
    let layout = Layout::new(config);
    let gradients = flat.zeros_like();
    let [weights, by] = [flat, &gradients].map(|flat| Weights::view(config, &layout, flat).unwrap());
    // Memory that was in use before changes nothing.
    let _ = passes.forward(&weights, &Work::of(&[(9, &[2, 30])], 10).packed(), Keep::All).unwrap();
    let normed = passes.forward(&weights, &work.packed(), keep).unwrap();
    passes.backward(&weights, &work.packed(), keep, by_normed, &by).unwrap();
    [normed, gradients]
}

fn off(got: &Tensor, expected: &Tensor) -> f64 {
    let most = |x: &Tensor| f64::try_from(x.abs().max()).unwrap();
    most(&(got.to_kind(Kind::Double) - expected)) / most(expected)
}

fn models() -> Vec<(String, ModelConfig, Tensor)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut models = Vec::new();
    for entry in ["data", "golden"].iter().flat_map(|dir| std::fs::read_dir(golden.join(dir)).unwrap()) {
        let path = entry.unwrap().path();
        if path.join("config.json").exists() && path.join("model.safetensors").exists() {
            let (config, flat) = checkpoint::load(&path, Kind::Float, Device::Cpu).unwrap();
            models.push((path.file_name().unwrap().to_string_lossy().into_owned(), config, flat));
        }
    }
    models
}

#[test]
fn hidden_states_and_gradients_are_those_of_autograd_for_every_family() {
    // Rows of many shapes: prompts without answers, answers far longer than their prompt, one token alone.
    let shapes: [(usize, &[usize]); 5] = [(3, &[4, 1, 20]), (9, &[]), (17, &[2, 3]), (5, &[18, 9, 1]), (1, &[1])];
    let models = models();
    assert!(models.len() > 5, "a tiny model of every family is committed");
    for (name, mut config, flat) in models {
        let work = Work::of(&shapes, config.vocab_size);
        for window in [None, Some(4)] {
            if window.is_some() {
                config.windows = vec![window; config.layers];
            }
            let by_normed = Tensor::from_slice(&numbers(5, work.picks.len() * config.hidden_size as usize))
                .view([-1, config.hidden_size]);
            let expected = by_autograd(&config, &flat, &work, &by_normed);
            let got = by_kernels(&config, &flat, &work, &by_normed, Keep::All, 2);
            let offs = [off(&got[0], &expected[0]), off(&got[1], &expected[1])];
            println!("{name}, window {window:?}: off by {offs:?}");
            assert!(offs[0] < 2e-5 && offs[1] < 1e-4, "{name}, window {window:?}: {offs:?}");
            for (keep, threads) in [(Keep::Inputs, 2), (Keep::All, 1), (Keep::Inputs, 3)] {
                let other = by_kernels(&config, &flat, &work, &by_normed, keep, threads);
                assert!(got[0].equal(&other[0]) && got[1].equal(&other[1]), "{name}: {keep:?} with {threads} threads");
            }
        }
    }
}

/// The logits of a sequence's tokens as the sampler computes them.
fn sampled(config: &Arc<ModelConfig>, flat: &Tensor, tokens: &[i64]) -> Vec<Vec<f32>> {
    let snapshot = Snapshot::new(Arc::clone(config), PolicyVersion(0), flat.copy()).unwrap();
    let mut decoder = Decoder::new(&Arc::new(snapshot), WeightFormat::Float32, config.max_positions, 2).unwrap();
    let mut blocks = Blocks::new(config, tokens.len());
    let own: Vec<u32> = (0..tokens.len().div_ceil(BLOCK)).map(|_| blocks.take().unwrap()).collect();
    let row = |(position, token): (usize, &i64)| Row { token: *token as u32, position, blocks: &own };
    let rows: Vec<Row<'_>> = tokens.iter().enumerate().map(row).collect();
    let wanted: Vec<usize> = (0..rows.len()).collect();
    decoder.run(&rows, &wanted, &mut blocks).unwrap();
    decoder.logits().map(|row| row[..config.vocab_size as usize].to_vec()).collect()
}

#[test]
fn hidden_states_have_the_bits_of_the_samplers() {
    for (name, config, flat) in models() {
        let config = Arc::new(config);
        let work = Work::of(&[(20, &[21, 5, 2])], config.vocab_size);
        let transformer = Transformer::new(&config, config.max_positions, Device::Cpu).unwrap();
        let weights = Weights::view(&config, &Layout::new(&config), &flat).unwrap();
        let normed = TrainingPasses::new(&transformer, 2).unwrap().forward(&weights, &work.packed(), Keep::Nothing);
        let (normed, [vocabulary, hidden]) =
            (normed.unwrap(), [config.vocab_size as usize, config.hidden_size as usize]);
        let (mut logits, mut room) = (vec![0f32; work.picks.len() * vocabulary], vec![0.0; PANEL * hidden]);
        let mut product = Product {
            a: Operand::new(place(&normed).unwrap(), hidden),
            b: Operand::new(place(weights.head()).unwrap(), hidden).transposed(),
            c: Rows { start: logits.as_mut_ptr(), stride: vocabulary },
            rows: 0..work.picks.len(),
            columns: vocabulary,
            depth: hidden,
            block: hidden,
            bias: std::ptr::null(),
            add: false,
            room: &mut room,
        };
        // SAFETY: the tensors and vectors have these sizes.
        unsafe { multiply(Level::best(), &mut product) };
        let prompt: Vec<i64> = work.tokens[..20].to_vec();
        for answer in [20..41, 41..46, 46..48] {
            let sequence = [&prompt, &work.tokens[answer.clone()]].concat();
            let places = (0..20).chain(answer);
            for (place, expected) in places.zip(sampled(&config, &flat, &sequence)) {
                let pick = work.picks.iter().position(|pick| *pick == place as i64).unwrap();
                assert!(logits[pick * vocabulary..][..vocabulary] == expected, "{name}: token {place}");
            }
        }
    }
}

#[test]
fn what_is_no_pass_is_refused() {
    let (_, config, flat) = models().remove(0);
    let transformer = Transformer::new(&config, config.max_positions, Device::Cpu).unwrap();
    let mut passes = TrainingPasses::new(&transformer, 1).unwrap();
    let weights = Weights::view(&config, &Layout::new(&config), &flat).unwrap();
    let mut refused = |change: fn(&mut Work)| {
        let mut work = Work::of(&[(3, &[2])], config.vocab_size);
        change(&mut work);
        passes.forward(&weights, &work.packed(), Keep::All).unwrap_err().to_string()
    };
    assert!(refused(|work| work.rows = vec![4]).contains("are no pass of 5 tokens"));
    assert!(refused(|work| work.tokens[1] = 1 << 40).contains("are no pass"));
    assert!(refused(|work| work.picks[0] = 5).contains("are no pass"));
    assert!(refused(|work| work.positions[3] = 2).contains("answers that go on from it"));
    let snapshot = Arc::new(config);
    let work = Work::of(&[(3, &[2])], snapshot.vocab_size);
    let normed = passes.forward(&weights, &work.packed(), Keep::Nothing).unwrap();
    assert!(passes.backward(&weights, &work.packed(), Keep::Nothing, &normed, &weights).is_err());
}
