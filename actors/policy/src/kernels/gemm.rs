//! y = x·Wᵀ (+ b), for few rows of x and a W that is used many times.
//!
//! W is packed once: its outputs in panels of 48 (the last one narrower), and within a panel, for each input in turn, the
//! weights of the panel's outputs side by side. A tile of some rows by a panel is summed in registers over all inputs in
//! turn, so that each result is one chain of fused products in the order of the inputs: neither the number of rows nor who
//! computes which tile can change it. There is no blocking along the inputs: a panel of 3,000 inputs fits the second-level
//! cache, and the rows of a decode step do too. While a tile is summed, a part of the next panel is fetched.
#![allow(clippy::needless_range_loop, reason = "indices run over several arrays at once, which unroll into registers")]

use std::ops::Range;

use half::bf16;

use super::aligned::{Aligned, LINE, round_up};
use super::lanes::Lanes;
use super::level::at_each_level;
use super::number::{Number, WeightFormat};

/// Outputs of a panel.
pub(super) const PANEL: usize = 3 * LINE;

/// A weight matrix, packed.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    panels: Panels,
    bias: Option<Aligned>,
}

#[derive(Debug)]
enum Panels {
    Float(Aligned),
    Brain(Aligned<bf16>),
}

/// A panel to be packed.
pub(super) enum PanelMut<'a> {
    Float(&'a mut [f32]),
    Brain(&'a mut [bf16]),
}

impl Matrix {
    /// Room for (outputs, inputs), to be filled by [`Self::pack`].
    pub(super) fn new(outputs: usize, inputs: usize, bias: Option<&[f32]>, format: WeightFormat) -> Self {
        let count = round_up(outputs) * inputs;
        let panels = match format {
            WeightFormat::Float32 => Panels::Float(Aligned::zeros(count)),
            WeightFormat::Bfloat16 => Panels::Brain(Aligned::zeros(count)),
        };
        Self { inputs, outputs, panels, bias: bias.map(Aligned::padded) }
    }

    pub(super) fn set_bias(&mut self, bias: Option<&[f32]>) {
        self.bias = bias.map(Aligned::padded);
    }

    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Columns of a panel, padding included.
    fn width(&self, panel: usize) -> usize {
        (round_up(self.outputs) - panel * PANEL).min(PANEL)
    }

    /// Mutable panels, to be packed by several threads.
    pub(super) fn panels_mut(&mut self) -> impl Iterator<Item = (usize, PanelMut<'_>)> {
        let size = (PANEL * self.inputs).max(1);
        // One of the two is empty.
        let (floats, brains) = match &mut self.panels {
            Panels::Float(panels) => (&mut panels[..], &mut [][..]),
            Panels::Brain(panels) => (&mut [][..], &mut panels[..]),
        };
        let floats = floats.chunks_mut(size).map(PanelMut::Float);
        floats.chain(brains.chunks_mut(size).map(PanelMut::Brain)).enumerate()
    }

    /// Writes panel number `panel` of `weight`, (outputs, inputs) row by row.
    pub(super) fn pack(weight: &[f32], outputs: usize, inputs: usize, panel: usize, into: &mut PanelMut<'_>) {
        match into {
            PanelMut::Float(into) => Self::pack_as(weight, outputs, inputs, panel, into),
            PanelMut::Brain(into) => Self::pack_as(weight, outputs, inputs, panel, into),
        }
    }

    fn pack_as<T: Number>(weight: &[f32], outputs: usize, inputs: usize, panel: usize, into: &mut [T]) {
        /// Inputs at a time: the lines that are written stay in the first-level cache.
        const STRIP: usize = 64;
        let first = panel * PANEL;
        let width = (round_up(outputs) - first).min(PANEL);
        let columns = width.min(outputs - first);
        for start in (0..inputs).step_by(STRIP) {
            let end = (start + STRIP).min(inputs);
            for column in 0..columns {
                let row = &weight[(first + column) * inputs..][start..end];
                for (input, value) in (start..end).zip(row) {
                    into[input * width + column] = T::of(*value);
                }
            }
        }
    }
}

/// Rows of a product: where the first is, and the distance between two.
#[derive(Clone, Copy)]
pub(super) struct Rows<P> {
    pub(super) start: P,
    pub(super) stride: usize,
}

/// A part of a product.
#[derive(Clone)]
pub(super) struct Job<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) x: Rows<*const f32>,
    pub(super) y: Rows<*mut f32>,
    pub(super) rows: Range<usize>,
    pub(super) panels: Range<usize>,
    /// Whether it is added to what stands in y.
    pub(super) add: bool,
}

at_each_level! {
    /// Computes rows and panels of a product, padding columns included.
    pub(super) unsafe fn multiply(job: &Job<'_>) = multiply_body
}

/// # Safety
/// `x` has `matrix.inputs` floats in each of the rows, `y` room for `matrix.outputs`, rounded up to whole lines; nobody else
/// touches what is written.
#[inline(always)]
unsafe fn multiply_body<V: Lanes>(job: &Job<'_>) {
    // SAFETY: the caller's.
    unsafe {
        match &job.matrix.panels {
            Panels::Float(all) => multiply_panels::<V, f32>(job, all),
            Panels::Brain(all) => multiply_panels::<V, bf16>(job, all),
        }
    }
}

/// # Safety
/// As of [`multiply_body`]; `all` are the matrix's panels.
#[inline(always)]
unsafe fn multiply_panels<V: Lanes, T: Number>(job: &Job<'_>, all: &[T]) {
    let (most_rows, most_vectors) = V::TILE;
    let Job { matrix, x, y, rows, panels, add } = job;
    let count = rows.len();
    if count == 0 {
        return;
    }
    let blocks = count.div_ceil(most_rows);
    for panel in panels.clone() {
        let width = matrix.width(panel);
        let vectors = width / LINE;
        let weights = all[panel * PANEL * matrix.inputs..].as_ptr();
        let next = weights.wrapping_add(width * matrix.inputs);
        for block in 0..blocks {
            // Evenly: eight and one row would be one row alone with a whole panel to read.
            let first = rows.start + block * count / blocks;
            let tall = rows.start + (block + 1) * count / blocks - first;
            let mut vector = 0;
            while vector < vectors {
                let wide = most_vectors.min(vectors - vector);
                let column = panel * PANEL + vector * LINE;
                let bias = matrix.bias.as_ref().map_or(std::ptr::null(), |bias| bias[column..].as_ptr());
                // A panel has three lines for each input: three tiles fetch the next one, the others what they read anyway.
                let ahead = match block {
                    0..3 => (next.wrapping_add(block * LINE * matrix.inputs), LINE),
                    _ => (weights, 0),
                };
                // SAFETY: the caller's; the panel's columns are inside the matrix, rounded up.
                unsafe {
                    let tile = Tile {
                        inputs: matrix.inputs,
                        x: x.start.add(first * x.stride),
                        x_stride: x.stride,
                        weights: weights.add(vector * LINE),
                        ahead,
                        width,
                        y: y.start.add(first * y.stride + column),
                        y_stride: y.stride,
                        bias,
                        add: *add,
                    };
                    match wide {
                        3 => tile.of_rows::<V, 3>(tall),
                        2 => tile.of_rows::<V, 2>(tall),
                        _ => tile.of_rows::<V, 1>(tall),
                    }
                }
                vector += wide;
            }
        }
    }
}

struct Tile<T> {
    inputs: usize,
    x: *const f32,
    x_stride: usize,
    weights: *const T,
    /// What is fetched meanwhile, a line per input: a part of the next panel, and the distance between two lines. It may be
    /// nobody's memory, which a fetch ignores.
    ahead: (*const T, usize),
    width: usize,
    y: *mut f32,
    y_stride: usize,
    /// Null without one.
    bias: *const f32,
    add: bool,
}

impl<T: Number> Tile<T> {
    #[inline(always)]
    unsafe fn of_rows<V: Lanes, const N: usize>(&self, rows: usize) {
        // SAFETY: the caller's.
        unsafe {
            match rows {
                1 => self.compute::<V, 1, N>(),
                2 => self.compute::<V, 2, N>(),
                3 => self.compute::<V, 3, N>(),
                4 => self.compute::<V, 4, N>(),
                5 => self.compute::<V, 5, N>(),
                6 => self.compute::<V, 6, N>(),
                7 => self.compute::<V, 7, N>(),
                _ => self.compute::<V, 8, N>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn compute<V: Lanes, const M: usize, const N: usize>(&self) {
        if M > V::TILE.0 || N > V::TILE.1 {
            return;
        }
        // SAFETY: the caller's: M rows of inputs and outputs, N vectors of columns.
        unsafe {
            let mut sums = [[V::splat(0.0); N]; M];
            let rows: [*const f32; M] = std::array::from_fn(|row| self.x.add(row * self.x_stride));
            let mut weights = self.weights;
            for input in 0..self.inputs {
                // Not by a closure: one would be compiled without the instructions, and called.
                let mut columns = [V::splat(0.0); N];
                for column in 0..N {
                    columns[column] = T::load(weights.add(column * LINE));
                }
                for row in 0..M {
                    let x = V::splat(*rows[row].add(input));
                    for column in 0..N {
                        sums[row][column] = x.fma(columns[column], sums[row][column]);
                    }
                }
                V::fetch(self.ahead.0.wrapping_add(input * self.ahead.1).cast());
                weights = weights.add(self.width);
            }
            for row in 0..M {
                for column in 0..N {
                    let to = self.y.add(row * self.y_stride + column * LINE);
                    let mut sum = sums[row][column];
                    if !self.bias.is_null() {
                        sum = sum.add(V::load(self.bias.add(column * LINE)));
                    }
                    if self.add {
                        sum = V::load(to).add(sum);
                    }
                    sum.store(to);
                }
            }
        }
    }
}
