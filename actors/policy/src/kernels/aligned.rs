use std::ops::{Deref, DerefMut};

use super::number::Number;

/// Floats of a cache line, which is also the widest vector.
pub(super) const LINE: usize = 16;

/// A page of the large kind, in bytes. Memory of that size and above is asked for in such pages: with small ones, looking up
/// addresses takes a good part of a decode step.
const LARGE_PAGE: usize = 2 << 20;

/// Zeroed numbers that begin at a cache line.
#[derive(Debug, Default)]
pub(super) struct Aligned<T = f32> {
    memory: Vec<T>,
    /// The first that begins a line (a large page, if there are so many).
    start: usize,
    length: usize,
}

impl<T: Number> Aligned<T> {
    pub(super) fn zeros(length: usize) -> Self {
        let large = length * size_of::<T>() >= LARGE_PAGE;
        let alignment = if large { LARGE_PAGE } else { LINE * size_of::<f32>() };
        // Comes from the system as it is, untouched, where it is large.
        let memory = T::zeros(length.next_multiple_of(LINE) + alignment / size_of::<T>());
        let address = memory.as_ptr().addr();
        let start = (address.next_multiple_of(alignment) - address) / size_of::<T>();
        let mut aligned = Self { memory, start, length };
        if large {
            ask_for_large_pages(&mut aligned);
        }
        aligned
    }
}

impl Aligned {
    /// `values`, and zeros up to a whole number of lines.
    pub(super) fn padded(values: &[f32]) -> Self {
        let mut padded = Self::zeros(round_up(values.len()));
        padded[..values.len()].copy_from_slice(values);
        padded
    }
}

#[cfg(target_os = "linux")]
fn ask_for_large_pages<T>(memory: &mut [T]) {
    // SAFETY: the range is ours, begins at a page, and the advice changes nothing but the size of pages. If it is not taken,
    // that is all right too.
    unsafe {
        libc::madvise(memory.as_mut_ptr().cast(), size_of_val(memory), libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages<T>(_: &mut [T]) {}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..][..self.length]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..][..self.length]
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
