use std::ops::{Deref, DerefMut};

/// Floats of a cache line, which is also the widest vector.
pub(super) const LINE: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Zeroed floats that begin at a cache line.
#[derive(Clone, Debug, Default)]
pub(super) struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

impl Aligned {
    pub(super) fn zeros(length: usize) -> Self {
        Self { lines: vec![Line([0.0; LINE]); length.div_ceil(LINE)], length }
    }

    /// `values`, and zeros up to a whole number of lines.
    pub(super) fn padded(values: &[f32]) -> Self {
        let mut padded = Self::zeros(round_up(values.len()));
        padded[..values.len()].copy_from_slice(values);
        padded
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the lines are `length` floats or more, without gaps: a line has the size of its array.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

/// To a whole number of lines.
pub(super) fn round_up(floats: usize) -> usize {
    floats.next_multiple_of(LINE)
}

/// Floats from one row of a buffer to the next: whole lines, and not a multiple of 1 KiB, since rows at such distances would
/// share a few sets of the first-level cache.
pub(super) fn stride(width: usize) -> usize {
    let lines = round_up(width);
    if lines.is_multiple_of(256) { lines + LINE } else { lines }
}
