use half::bf16;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lanes::Lanes;

/// The number format in which the kernels hold a model's matrices. They compute in float32 all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    /// As they are.
    #[default]
    Float32,
    /// Rounded to eight significant bits: half the memory, and half the time to read it.
    Bfloat16,
}

/// A number format of matrices.
pub(super) trait Number: Copy {
    fn zeros(count: usize) -> Vec<Self>;

    /// The nearest.
    fn of(value: f32) -> Self;

    /// Sixteen of them.
    ///
    /// # Safety
    /// The processor has the instructions of `V`, and sixteen numbers are there.
    unsafe fn load<V: Lanes>(from: *const Self) -> V;
}

impl Number for f32 {
    fn zeros(count: usize) -> Vec<Self> {
        vec![0.0; count]
    }

    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        // SAFETY: the caller's.
        unsafe { V::load(from) }
    }
}

impl Number for bf16 {
    fn zeros(count: usize) -> Vec<Self> {
        vec![Self::ZERO; count]
    }

    #[inline(always)]
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }

    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        // SAFETY: the caller's.
        unsafe { V::widen(from) }
    }
}
