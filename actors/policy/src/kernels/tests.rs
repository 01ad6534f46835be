//! The parts against plain sums in double precision, at every level that this machine has.

use proptest::prelude::*;

use super::aligned::{Aligned, LINE, round_up, stride};
use super::gemm::{Job, Matrix, Rows, multiply};
use super::lanes::Lanes;
use super::level::{Level, at_each_level};
use super::number::WeightFormat;
use super::pick::pick;
use super::rowwise::{gated, rms_norm, rotate};
use super::team::{Barrier, Team};

/// Numbers around zero, a function of `seed`.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn matrix(weight: &[f32], outputs: usize, inputs: usize, bias: Option<&[f32]>, format: WeightFormat) -> Matrix {
    let mut matrix = Matrix::new(outputs, inputs, bias, format);
    for (panel, mut into) in matrix.panels_mut() {
        Matrix::pack(weight, outputs, inputs, panel, &mut into);
    }
    matrix
}

/// Rows `rows` of the product onto `y`, in strides of [`stride`].
fn product(level: Level, matrix: &Matrix, x: &Aligned, y: &mut Aligned, rows: std::ops::Range<usize>, add: bool) {
    let job = Job {
        matrix,
        x: Rows { start: x.as_ptr(), stride: stride(matrix.inputs) },
        y: Rows { start: y.as_mut_ptr(), stride: stride(matrix.outputs) },
        rows,
        panels: 0..matrix.panels(),
        add,
    };
    // SAFETY: both buffers have the rows at these strides, and the level is available.
    unsafe { multiply(level, &job) }
}

fn spread(rows: usize, width: usize, values: &[f32]) -> Aligned {
    let mut spread = Aligned::zeros(rows * stride(width));
    for (row, values) in values.chunks(width).enumerate() {
        spread[row * stride(width)..][..width].copy_from_slice(values);
    }
    spread
}

proptest! {
    #[test]
    fn a_product_is_the_sum_of_products_at_every_level(
        rows in 1usize..20, inputs in 1usize..70, outputs in 1usize..130, biased: bool, add: bool, rounded: bool, seed: u64,
    ) {
        let (mut weight, bias) = (numbers(seed, outputs * inputs), numbers(seed ^ 1, outputs));
        let format = if rounded { WeightFormat::Bfloat16 } else { WeightFormat::Float32 };
        let (x, before) = (numbers(seed ^ 2, rows * inputs), numbers(seed ^ 3, rows * outputs));
        let matrix = matrix(&weight, outputs, inputs, biased.then_some(&bias), format);
        if rounded {
            weight.iter_mut().for_each(|weight| *weight = half::bf16::from_f32(*weight).to_f32());
        }
        let mut results = Vec::new();
        for &level in Level::available() {
            let mut y = spread(rows, outputs, &before);
            product(level, &matrix, &spread(rows, inputs, &x), &mut y, 0..rows, add);
            for row in 0..rows {
                for output in 0..outputs {
                    let products = (0..inputs)
                        .map(|i| f64::from(x[row * inputs + i]) * f64::from(weight[output * inputs + i]));
                    let mut expected: f64 = products.sum();
                    expected += if biased { f64::from(bias[output]) } else { 0.0 };
                    expected += if add { f64::from(before[row * outputs + output]) } else { 0.0 };
                    let off = (f64::from(y[row * stride(outputs) + output]) - expected).abs();
                    prop_assert!(off < 1e-5, "{level:?} row {row} output {output}: {off}");
                }
            }
            results.push((level, y));
        }
        let fused: Vec<_> = results.iter().filter(|(level, _)| *level != Level::Portable).collect();
        prop_assert!(fused.windows(2).all(|pair| pair[0].1[..] == pair[1].1[..]), "AVX2 and AVX-512 differ");
    }

    #[test]
    fn a_row_of_a_product_does_not_depend_on_the_others(
        rows in 2usize..40, inputs in 1usize..40, outputs in 1usize..100, seed: u64,
    ) {
        let format = if seed % 2 == 0 { WeightFormat::Bfloat16 } else { WeightFormat::Float32 };
        let matrix = matrix(&numbers(seed, outputs * inputs), outputs, inputs, None, format);
        let x = spread(rows, inputs, &numbers(seed ^ 2, rows * inputs));
        for &level in Level::available() {
            let mut together = Aligned::zeros(rows * stride(outputs));
            product(level, &matrix, &x, &mut together, 0..rows, false);
            let mut alone = Aligned::zeros(rows * stride(outputs));
            for row in 0..rows {
                product(level, &matrix, &x, &mut alone, row..row + 1, false);
            }
            prop_assert!(together[..] == alone[..], "{level:?}");
        }
    }

    #[test]
    fn a_token_is_drawn_where_the_uniform_falls(
        logits in prop::collection::vec(-8f32..8.0, 1..700), uniform in 0f32..0.999, temperature in 0.3f32..3.0,
    ) {
        for &level in Level::available() {
            let drawn = draw(level, &logits, uniform, temperature);
            let scaled: Vec<f64> = logits.iter().map(|&l| f64::from(l) / f64::from(temperature)).collect();
            let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scaled.iter().map(|l| (l - largest).exp()).sum();
            let probability = |l: &f64| (l - largest).exp() / total;
            let below: f64 = scaled[..drawn.token as usize].iter().map(probability).sum();
            let own = probability(&scaled[drawn.token as usize]);
            prop_assert!(below <= f64::from(uniform) + 1e-6 && f64::from(uniform) < below + own + 1e-6);
            prop_assert!((f64::from(drawn.logprob) - own.ln()).abs() < 1e-5, "{level:?} {drawn:?} {own}");
        }
    }

    #[test]
    fn a_token_without_probability_is_never_drawn(
        live in prop::collection::vec(any::<bool>(), 2..600),
        uniform in prop_oneof![Just(0.0f32), Just(1.0 - 1.0 / (1u32 << 23) as f32), 0f32..0.999],
    ) {
        prop_assume!(live.iter().any(|&l| l));
        let logits: Vec<f32> = live.iter().map(|&l| if l { 0.0 } else { f32::NEG_INFINITY }).collect();
        for &level in Level::available() {
            let drawn = draw(level, &logits, uniform, 1.0);
            prop_assert!(live[drawn.token as usize]);
            prop_assert!(drawn.logprob.is_finite());
        }
    }

    #[test]
    fn norms_activations_and_rotations_are_their_formulas(width in 1usize..70, seed: u64) {
        let (x, weight) = (numbers(seed, width), numbers(seed ^ 1, width));
        for &level in Level::available() {
            let mut normed = vec![0f32; width];
            // SAFETY: the pointers are to `width` floats.
            unsafe { rms_norm(level, x.as_ptr(), weight.as_ptr(), normed.as_mut_ptr(), width, 1e-6) };
            let square: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / width as f64;
            for i in 0..width {
                let expected = f64::from(x[i]) * f64::from(weight[i]) / (square + 1e-6).sqrt();
                prop_assert!((f64::from(normed[i]) - expected).abs() < 1e-5);
            }
            let both: Vec<f32> = [&x[..], &weight[..], &[0.0; LINE]].concat().iter().map(|v| v * 30.0).collect();
            let mut gate = both.clone();
            // SAFETY: `2 · width` floats and a line more.
            unsafe { gated(level, gate.as_mut_ptr(), width) };
            for i in 0..width {
                let (gate_i, up) = (f64::from(both[i]), f64::from(both[width + i]));
                let expected = gate_i / (1.0 + (-gate_i).exp()) * up;
                prop_assert!((f64::from(gate[i]) - expected).abs() < 1e-5 * expected.abs().max(1.0));
            }
            if width % 2 == 0 {
                let (cos, sin) = (numbers(seed ^ 2, width), numbers(seed ^ 3, width));
                let mut turned = x.clone();
                // SAFETY: all have `width` floats.
                unsafe { rotate(level, turned.as_mut_ptr(), &cos, &sin) };
                for i in 0..width {
                    let expected = x[i] * cos[i] + x[(i + width / 2) % width] * sin[i];
                    prop_assert!(turned[i] == expected);
                }
            }
        }
    }
}

fn draw(level: Level, logits: &[f32], uniform: f32, temperature: f32) -> super::Picked {
    let mut padded = Aligned::zeros(round_up(logits.len()));
    padded.fill(f32::NEG_INFINITY);
    padded[..logits.len()].copy_from_slice(logits);
    // SAFETY: the level is available.
    unsafe { pick(level, &padded, uniform, temperature, &mut Vec::new()) }
}

#[test]
fn temperature_zero_takes_the_likeliest_and_nan_shows_in_the_log_prob() {
    for &level in Level::available() {
        for uniform in [0.0, 0.5, 0.99] {
            let drawn = draw(level, &[0.0, 3.0, 1.0], uniform, 0.0);
            let expected = 3.0 - (1.0 + 3f64.exp() + 1f64.exp()).ln();
            assert_eq!(drawn.token, 1);
            assert!((f64::from(drawn.logprob) - expected).abs() < 1e-6);
        }
        assert!(draw(level, &[0.0, f32::NAN], 0.5, 1.0).logprob.is_nan());
        assert!(!draw(level, &[0.0, f32::INFINITY], 0.5, 1.0).logprob.is_finite());
    }
}

at_each_level! {
    unsafe fn exponential(values: &mut [f32]) = exponential_body
}

/// # Safety
/// Whole lines.
#[inline(always)]
unsafe fn exponential_body<V: Lanes>(values: &mut [f32]) {
    for line in values.chunks_exact_mut(LINE) {
        // SAFETY: a whole line.
        unsafe { V::load(line.as_ptr()).exp().store(line.as_mut_ptr()) };
    }
}

#[test]
fn the_exponential_is_right_to_two_units_in_the_last_place() {
    let inputs: Vec<f32> = (0..16_000).map(|i| i as f32 * (174.0 / 16_000.0) - 87.0).collect();
    for &level in Level::available() {
        let mut values = inputs.clone();
        // SAFETY: a whole number of lines.
        unsafe { exponential(level, &mut values) };
        for (x, y) in inputs.iter().zip(&values) {
            let expected = f64::from(*x).exp();
            let off = (f64::from(*y) - expected).abs() / expected;
            assert!(off < 2.0 * f64::from(f32::EPSILON), "{level:?}: e^{x} off by {off:e}");
        }
        let mut ends = [0.0; LINE];
        ends[..4].copy_from_slice(&[f32::NEG_INFINITY, -1000.0, f32::NAN, 1000.0]);
        // SAFETY: a whole line.
        unsafe { exponential(level, &mut ends) };
        assert!(ends[0] == 0.0 && ends[1] == 0.0 && ends[2].is_nan() && ends[3].is_finite() && ends[4] == 1.0);
    }
}

#[test]
fn every_thread_of_a_team_works_and_meets_the_others() {
    for threads in [1, 2, 3] {
        let team = Team::new(threads).unwrap();
        let barrier = Barrier::new(threads);
        let come = std::sync::atomic::AtomicUsize::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        for round in 1..=50 {
            team.run(&|_| {
                come.fetch_add(1, order);
                barrier.wait();
                assert_eq!(come.load(order), round * threads);
                barrier.wait();
            });
        }
    }
}

#[test]
fn a_panic_of_one_thread_ends_the_waiting_of_the_others() {
    for who in [0, 1] {
        let team = Team::new(2).unwrap();
        let barrier = Barrier::new(2);
        let job = |thread| {
            let _guard = barrier.guard();
            assert_ne!(thread, who, "on purpose");
            barrier.wait();
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| team.run(&job)));
        assert!(outcome.is_err());
        team.run(&|_| ());
    }
}
