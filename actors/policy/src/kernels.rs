//! Passes on a CPU, in float32: kernels of our own where libtorch's cost per call, and not its arithmetic, sets the pace of a
//! decode step, or of a small model's training.
//!
//! * [`PackedWeights`]: a snapshot's matrices in panels that the product reads front to back; made once per version.
//! * [`Blocks`]: keys and values in blocks of 16 positions, counted, so that the answers to a prompt share its cache.
//! * [`Decoder`]: rows in, logits out. A row is one token of one sequence: a decode step has one row per sequence, a prompt
//!   is as many rows as it has tokens, and any mixture is a pass.
//! * [`TrainingPasses`]: the same pass over packed rows for training, and the way back.
//! * [`Level`]: the vector instructions in use, asked of the processor at run time.
//!
//! **The rule of numerics.** What comes out for a row is a function of that row's sequence and the weights alone, to the bit:
//! every sum runs in an order that neither the other rows of the pass, nor their number, nor the number of threads can
//! change. Work is split by rows and by columns, never along a sum. So a completion's tokens are the same alone and in a
//! batch, with a prompt in one piece or in chunks, and after its cache was thrown away and computed again. The AVX2 and
//! AVX-512 levels add in the same order too and fuse the same products, and give the same bits; the portable level rounds
//! products before it adds them.
//!
//! Matrices may be held in bfloat16 ([`WeightFormat`]), which is half as much to read where reading sets the pace; sums, activations
//! and the cache stay float32.
//!
//! Limits: float32 weights in main memory, no adapter beside them ([`PackedWeights::fits`]). Elsewhere the transformer's own
//! pass ([`crate::Transformer`]) is used, which is also what these kernels are tested against.

mod aligned;
mod attend;
mod blocks;
mod decoder;
mod gemm;
mod lanes;
mod level;
mod number;
mod pass;
mod pick;
mod rowwise;
mod team;
#[cfg(test)]
mod tests;
mod training;
mod weights;

pub use blocks::{BLOCK, Blocks};
pub use decoder::{Decoder, Row};
pub use level::Level;
pub use number::WeightFormat;
pub use pick::Picked;
pub use training::{Keep, PackedRows, TrainingPasses};
pub use weights::PackedWeights;
