//! Reading bytes of a file that may lie about its lengths.

use super::error::{Refusal, invalid};

/// A place in a file's bytes. Every read says what it reads, for the error when it is not there.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes already read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes not yet read.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: u64, field: impl Fn() -> String) -> Result<&'a [u8], Refusal> {
        let length = usize::try_from(length).ok().filter(|&length| length <= self.left()).ok_or_else(|| {
            invalid(format!("{} takes {length} bytes, but only {} are left in the file", field(), self.left()))
        })?;
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    pub(super) fn u32(&mut self, field: impl Fn() -> String) -> Result<u32, Refusal> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: impl Fn() -> String) -> Result<u64, Refusal> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A length and as many bytes of UTF-8.
    pub(super) fn text(&mut self, field: impl Fn() -> String) -> Result<&'a str, Refusal> {
        let length = self.u64(|| format!("{}: its length", field()))?;
        let bytes = self.take(length, &field)?;
        std::str::from_utf8(bytes).map_err(|e| invalid(format!("{} is not UTF-8: {e}", field())))
    }

    /// A count of things that take at least `least` bytes each: more cannot be left in the file.
    pub(super) fn count(&mut self, least: usize, field: impl Fn() -> String) -> Result<usize, Refusal> {
        let count = self.u64(&field)?;
        let most = self.left() / least;
        usize::try_from(count).ok().filter(|&count| count <= most).ok_or_else(|| {
            invalid(format!(
                "{} is {count}, but the {} bytes left in the file hold {most} at most",
                field(),
                self.left()
            ))
        })
    }

    fn array<const N: usize>(&mut self, field: impl Fn() -> String) -> Result<[u8; N], Refusal> {
        let taken = self.take(N as u64, field)?;
        // `take` gave exactly N bytes.
        Ok(std::array::from_fn(|i| taken[i]))
    }
}
