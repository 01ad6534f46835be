//! The number formats of GGUF tensors: their names, the size of their blocks, and their values as float32.
//!
//! Contract: bit for bit what `gguf.quants.dequantize` of llama.cpp's Python package computes, for the formats in
//! [`FORMATS`]. A block is a run of values of one row that share their scales; all multi-byte parts are little-endian.

use half::{bf16, f16};

/// A number format that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// As the file writes it.
    pub(super) id: u32,
    /// As llama.cpp names it.
    pub(super) name: &'static str,
    /// Values in a block.
    pub(super) values: usize,
    /// Bytes of a block.
    pub(super) bytes: usize,
    decode: fn(&[u8], &mut [f32]),
}

impl Format {
    /// The values of whole blocks. `values` has room for exactly those in `blocks`.
    pub(super) fn decode(&self, blocks: &[u8], values: &mut [f32]) {
        debug_assert_eq!(blocks.len() / self.bytes * self.values, values.len());
        for (block, values) in blocks.chunks_exact(self.bytes).zip(values.chunks_exact_mut(self.values)) {
            (self.decode)(block, values);
        }
    }
}

/// All that are read.
pub(super) const FORMATS: [Format; 11] = [
    Format { id: 0, name: "F32", values: 1, bytes: 4, decode: f32 },
    Format { id: 1, name: "F16", values: 1, bytes: 2, decode: half_precision },
    Format { id: 2, name: "Q4_0", values: 32, bytes: 18, decode: q4_0 },
    Format { id: 3, name: "Q4_1", values: 32, bytes: 20, decode: q4_1 },
    Format { id: 6, name: "Q5_0", values: 32, bytes: 22, decode: q5_0 },
    Format { id: 7, name: "Q5_1", values: 32, bytes: 24, decode: q5_1 },
    Format { id: 8, name: "Q8_0", values: 32, bytes: 34, decode: q8_0 },
    Format { id: 12, name: "Q4_K", values: 256, bytes: 144, decode: q4_k },
    Format { id: 13, name: "Q5_K", values: 256, bytes: 176, decode: q5_k },
    Format { id: 14, name: "Q6_K", values: 256, bytes: 210, decode: q6_k },
    Format { id: 30, name: "BF16", values: 1, bytes: 2, decode: brain_float },
];

/// The format that the file means by `id`, or the name of one that is not read.
pub(super) fn format(id: u32) -> Result<Format, String> {
    FORMATS.into_iter().find(|format| format.id == id).ok_or_else(|| {
        OTHERS
            .iter()
            .find(|(other, _)| *other == id)
            .map_or_else(|| format!("type {id}"), |(_, name)| (*name).to_owned())
    })
}

/// What an error names as possible.
pub(super) fn names() -> String {
    FORMATS.map(|format| format.name).join(", ")
}

/// Formats that llama.cpp has, or had.
const OTHERS: [(u32, &str); 25] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

// === the decoders: each gets one block, and room for its values ===

fn f32(block: &[u8], values: &mut [f32]) {
    values[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
}

fn half_precision(block: &[u8], values: &mut [f32]) {
    values[0] = f16_at(block, 0);
}

fn brain_float(block: &[u8], values: &mut [f32]) {
    values[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32();
}

fn q8_0(block: &[u8], values: &mut [f32]) {
    let scale = f16_at(block, 0);
    for (value, &q) in values.iter_mut().zip(&block[2..]) {
        *value = scale * f32::from(q as i8);
    }
}

fn q4_0(block: &[u8], values: &mut [f32]) {
    let scale = f16_at(block, 0);
    nibbles(&block[2..], values, |q, _| scale * (q as f32 - 8.0));
}

fn q4_1(block: &[u8], values: &mut [f32]) {
    let (scale, least) = (f16_at(block, 0), f16_at(block, 2));
    nibbles(&block[4..], values, |q, _| scale * q as f32 + least);
}

fn q5_0(block: &[u8], values: &mut [f32]) {
    let scale = f16_at(block, 0);
    let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    nibbles(&block[6..], values, |q, i| scale * ((q | (fifth >> i & 1) << 4) as f32 - 16.0));
}

fn q5_1(block: &[u8], values: &mut [f32]) {
    let (scale, least) = (f16_at(block, 0), f16_at(block, 2));
    let fifth = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    nibbles(&block[8..], values, |q, i| scale * (q | (fifth >> i & 1) << 4) as f32 + least);
}

/// The low nibbles are the first half of a block's values, the high ones the second.
fn nibbles(packed: &[u8], values: &mut [f32], value: impl Fn(u32, usize) -> f32) {
    let (first, second) = values.split_at_mut(packed.len());
    for (i, &byte) in packed.iter().enumerate() {
        first[i] = value(u32::from(byte & 0xf), i);
        second[i] = value(u32::from(byte >> 4), i + packed.len());
    }
}

fn q4_k(block: &[u8], values: &mut [f32]) {
    let (scale, least) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, quants) = (&block[4..16], &block[16..144]);
    for (sub, values) in values.chunks_exact_mut(32).enumerate() {
        let (s, m) = six_bit_pair(scales, sub);
        let (scale, least) = (scale * s, least * m);
        for (i, value) in values.iter_mut().enumerate() {
            *value = scale * k_nibble(quants, sub, i) as f32 - least;
        }
    }
}

fn q5_k(block: &[u8], values: &mut [f32]) {
    let (scale, least) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, fifths, quants) = (&block[4..16], &block[16..48], &block[48..176]);
    for (sub, values) in values.chunks_exact_mut(32).enumerate() {
        let (s, m) = six_bit_pair(scales, sub);
        let (scale, least) = (scale * s, least * m);
        for (i, value) in values.iter_mut().enumerate() {
            let q = k_nibble(quants, sub, i) | (fifths[i] >> sub & 1) << 4;
            *value = scale * f32::from(q) - least;
        }
    }
}

/// Value `i` of sub-block `sub` (of 8): two neighbours share 32 bytes, the even one in the low nibbles.
fn k_nibble(quants: &[u8], sub: usize, i: usize) -> u8 {
    quants[sub / 2 * 32 + i] >> (sub % 2 * 4) & 0xf
}

/// Scale and minimum of sub-block `sub` (of 8), 6 bits each, packed in 12 bytes: the last four have their upper bits in
/// what the first four leave free.
fn six_bit_pair(packed: &[u8], sub: usize) -> (f32, f32) {
    let (scale, least) = if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        let low = packed[sub + 4];
        (low & 0xf | packed[sub - 4] >> 6 << 4, low >> 4 | packed[sub] >> 6 << 4)
    };
    (f32::from(scale), f32::from(least))
}

fn q6_k(block: &[u8], values: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = f16_at(block, 208);
    for (i, value) in values.iter_mut().enumerate() {
        // Each half of the block: four runs of 32, whose low bits lie in 64 bytes and whose high ones in 32.
        let (half, run, at) = (i / 128, i / 32 % 4, i % 32);
        let four = low[half * 64 + run % 2 * 32 + at] >> (run / 2 * 4) & 0xf;
        let two = high[half * 32 + at] >> (run * 2) & 3;
        let q = i32::from(four | two << 4) - 32;
        *value = scale * f32::from(scales[i / 16] as i8) * q as f32;
    }
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
