//! c = a·b (+ c), of matrices that lie any way: what a training pass multiplies.
//!
//! The sampler's product ([`gemm`](super::super::gemm)) reads weights that were packed once for many steps. Here weights change
//! with every step and have hundreds of rows to serve, so a panel of `b` is packed where it is needed, into the room of the
//! thread that needs it. A result is one chain of fused products along the depth, or, with blocks, the sum of a chain per block:
//! in the same order whoever computes it. Without blocks and with the same bias it has the bits of the sampler's.
#![allow(clippy::needless_range_loop, reason = "indices run over several arrays at once, which unroll into registers")]

use std::ops::Range;

use super::super::aligned::LINE;
use super::super::gemm::{PANEL, Rows};
use super::super::lanes::Lanes;
use super::super::level::at_each_level;

/// A matrix to read.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    start: *const f32,
    /// From a row to the next.
    row: usize,
    /// From a column to the next.
    column: usize,
}

impl Operand {
    /// Rows of `stride` floats.
    pub(super) fn new(start: *const f32, stride: usize) -> Self {
        Self { start, row: stride, column: 1 }
    }

    pub(super) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

impl From<Rows<*mut f32>> for Operand {
    fn from(rows: Rows<*mut f32>) -> Self {
        Self::new(rows.start, rows.stride)
    }
}

/// What to compute.
pub(super) struct Product<'a> {
    /// (rows, depth)
    pub(super) a: Operand,
    /// (depth, columns)
    pub(super) b: Operand,
    /// (rows, columns)
    pub(super) c: Rows<*mut f32>,
    /// Those that this call computes.
    pub(super) rows: Range<usize>,
    pub(super) columns: usize,
    pub(super) depth: usize,
    /// How much of the depth is summed at a time.
    pub(super) block: usize,
    /// Added to each row, if not null; columns in whole lines.
    pub(super) bias: *const f32,
    /// Whether the product is added to what stands in c.
    pub(super) add: bool,
    /// Room for a panel: [`PANEL`] · `block`.
    pub(super) room: &'a mut [f32],
}

at_each_level! {
    /// Computes some rows of a product, and writes nothing beside them.
    pub(super) unsafe fn multiply(product: &mut Product<'_>) = multiply_body
}

/// # Safety
/// The operands have the rows, columns and depth that are asked for, nobody writes to them, and nobody else touches the rows of
/// c.
#[inline(always)]
unsafe fn multiply_body<V: Lanes>(product: &mut Product<'_>) {
    let (most_rows, most_vectors) = V::TILE;
    let (a, b, c) = (product.a, product.b, product.c);
    let count = product.rows.len();
    let tiles = count.div_ceil(most_rows);
    for begin in (0..product.depth).step_by(product.block.max(1)) {
        let depth = product.block.min(product.depth - begin);
        let bias = if begin == 0 { product.bias } else { std::ptr::null() };
        for first in (0..product.columns).step_by(PANEL) {
            let columns = PANEL.min(product.columns - first);
            let vectors = columns.div_ceil(LINE);
            // SAFETY: the caller's; the panel is inside b, and the tiles inside a and c.
            unsafe {
                let from = Operand { start: b.start.add(begin * b.row + first * b.column), ..b };
                pack(from, depth, columns, product.room);
                for tile in 0..tiles {
                    // Evenly: eight and one row would be one row alone with a whole panel to read.
                    let row = product.rows.start + tile * count / tiles;
                    let tall = product.rows.start + (tile + 1) * count / tiles - row;
                    let mut vector = 0;
                    while vector < vectors {
                        let wide = most_vectors.min(vectors - vector);
                        let column = first + vector * LINE;
                        let tile = Tile {
                            a: a.start.add(row * a.row + begin * a.column),
                            a_row: a.row,
                            a_column: a.column,
                            b: product.room.as_ptr().add(vector * LINE),
                            width: vectors * LINE,
                            depth,
                            c: c.start.add(row * c.stride + column),
                            c_stride: c.stride,
                            columns: columns - vector * LINE,
                            bias: if bias.is_null() { bias } else { bias.add(column) },
                            add: product.add || begin > 0,
                        };
                        match wide {
                            3 => tile.of_rows::<V, 3>(tall),
                            2 => tile.of_rows::<V, 2>(tall),
                            _ => tile.of_rows::<V, 1>(tall),
                        }
                        vector += wide;
                    }
                }
            }
        }
    }
}

/// Puts `columns` of b side by side, filled up with zeros to whole lines, for each step of the depth in turn.
#[inline(always)]
unsafe fn pack(b: Operand, depth: usize, columns: usize, room: &mut [f32]) {
    /// Steps at a time: the lines that are written stay in the first-level cache.
    const STRIP: usize = 64;
    let width = columns.next_multiple_of(LINE);
    let room = &mut room[..depth * width];
    if b.column == 1 {
        for (step, into) in room.chunks_exact_mut(width).enumerate() {
            // SAFETY: the caller's: b has the step with so many columns.
            into[..columns].copy_from_slice(unsafe { std::slice::from_raw_parts(b.start.add(step * b.row), columns) });
            into[columns..].fill(0.0);
        }
        return;
    }
    if width > columns {
        room.fill(0.0);
    }
    for (strip, into) in room.chunks_mut(width * STRIP).enumerate() {
        for column in 0..columns {
            // SAFETY: as above.
            let from = unsafe { b.start.add(strip * STRIP * b.row + column * b.column) };
            for (step, into) in into[column..].iter_mut().step_by(width).enumerate() {
                // SAFETY: as above.
                *into = unsafe { *from.add(step * b.row) };
            }
        }
    }
}

struct Tile {
    a: *const f32,
    a_row: usize,
    a_column: usize,
    b: *const f32,
    /// Of the panel.
    width: usize,
    depth: usize,
    c: *mut f32,
    c_stride: usize,
    /// How many there are from here to the panel's end; fewer than the vectors have, at the matrix's.
    columns: usize,
    /// Null without one.
    bias: *const f32,
    add: bool,
}

impl Tile {
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
        // SAFETY: the caller's: M rows of a and c, N vectors of the panel.
        unsafe {
            let mut sums = [[V::splat(0.0); N]; M];
            let mut rows = [self.a; M];
            for row in 0..M {
                rows[row] = self.a.add(row * self.a_row);
            }
            let (mut at, mut b) = (0, self.b);
            for _ in 0..self.depth {
                let mut columns = [V::splat(0.0); N];
                for column in 0..N {
                    columns[column] = V::load(b.add(column * LINE));
                }
                for row in 0..M {
                    let a = V::splat(*rows[row].add(at));
                    for column in 0..N {
                        sums[row][column] = a.fma(columns[column], sums[row][column]);
                    }
                }
                at += self.a_column;
                b = b.add(self.width);
            }
            for row in 0..M {
                for column in 0..N {
                    self.put(row, column * LINE, sums[row][column]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn put<V: Lanes>(&self, row: usize, column: usize, mut sum: V) {
        // SAFETY: the caller's; a vector that c does not have whole goes through an array.
        unsafe {
            let to = self.c.add(row * self.c_stride + column);
            let left = self.columns - column;
            if !self.bias.is_null() {
                sum = sum.add(load_part(self.bias.add(column), left));
            }
            if self.add {
                sum = load_part::<V>(to, left).add(sum);
            }
            store_part(sum, to, left);
        }
    }
}

/// Sixteen floats, or as many as are left and zeros.
#[inline(always)]
pub(super) unsafe fn load_part<V: Lanes>(from: *const f32, left: usize) -> V {
    // SAFETY: the caller's: so many floats are there.
    unsafe {
        if left >= LINE {
            return V::load(from);
        }
        let mut array = [0f32; LINE];
        std::ptr::copy_nonoverlapping(from, array.as_mut_ptr(), left);
        V::load(array.as_ptr())
    }
}

/// The first floats of a vector, as many as there is room for.
#[inline(always)]
pub(super) unsafe fn store_part<V: Lanes>(vector: V, to: *mut f32, left: usize) {
    // SAFETY: the caller's: so many floats are there.
    unsafe {
        if left >= LINE {
            return vector.store(to);
        }
        std::ptr::copy_nonoverlapping(vector.to_array().as_ptr(), to, left);
    }
}
