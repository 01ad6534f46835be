//! The model: what a Hugging Face directory says, as tensors, and one transformer for sampling and for training.
//!
//! * [`ModelConfig`]: config.json of the supported architectures, in both dialects of the key names.
//! * [`Layout`]: where each parameter lies in one flat buffer. Projections that read the same input are fused (q, k, v; gate,
//!   up), and what is decayed comes first, so that an optimiser step, a snapshot and a weight swap are a few operations on
//!   one tensor.
//! * [`Weights`]: views into such a buffer; [`Parameters`]: the same as leaves of autograd; [`Snapshot`]: an immutable,
//!   versioned copy that other threads read.
//! * [`Transformer`]: the forward pass. How attention reaches earlier positions is the caller's affair ([`Attend`]):
//!   [`SegmentAttention`] for training, a KV cache for sampling.
//! * [`kernels`]: the same forward pass for sampling on a CPU, without libtorch.
//! * [`Adapted`]: a frozen model with low-rank adapters (LoRA) beside it, which are trained instead.
//! * [`checkpoint`]: Hugging Face directories in and out. [`Tokenizer`]: text and chats to tokens and back;
//!   [`StreamDecoder`]: text from tokens as they come.
//! * [`gguf`]: Hugging Face directories from GGUF files.
//! * [`Scorer`]: log-probabilities of given tokens.
//! * [`Device`]s are chosen in one place, [`device::choose`]; [`streams`]: queues of work on a GPU.
//!
//! Everything returns [`PolicyError`]; nothing here panics on bad input.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod attention;
mod chat_options;
pub mod checkpoint;
mod config;
pub mod device;
mod error;
pub mod gguf;
pub mod kernels;
mod layout;
mod lora;
mod parameters;
mod rope;
mod score;
mod segment_attention;
mod stream;
pub mod streams;
mod template;
mod text_file;
mod threads;
mod tokenizer;
mod transformer;
mod weights;

pub use attention::{Attend, CausalAttention, PackedAttention};
pub use chat_options::ChatOptions;
pub use config::{Architecture, ModelConfig, RopeScaling};
pub use error::{PolicyError, plain};
pub use layout::{Entry, Layout, Part};
pub use lora::{Adapted, LoraConfig, LoraLayout, Publish, Target, TargetModules};
pub use parameters::{Parameters, Stretch};
pub use score::{ScoredCompletion, Scorer, sequence_logprobs};
pub use segment_attention::SegmentAttention;
pub use stream::StreamDecoder;
pub use tch::{Device, Kind, Tensor};
pub use threads::{Auto, Threads};
pub use tokenizer::Tokenizer;
pub use transformer::{Angles, Transformer, token_logprobs};
pub use weights::{LoadWeights, Loaded, Snapshot, Weights};
