//! How a pass goes through the layers: by libtorch, which records it for backward ([`Trunk`]), or by kernels of our own, which
//! go back by hand. The kernels train float32 on a CPU, all parameters of a model; everything else is libtorch's.

use counterpoint_policy::kernels::{Keep, TrainingPasses};
use counterpoint_policy::{Parameters, Tensor, Transformer, Weights};

use crate::LearnerError;
use crate::pack::{MicroBatch, MicroInputs};
use crate::trunk::{Passed, Trunk};

/// The kernels with the gradients that they add to.
#[derive(Debug)]
pub(crate) struct Kernels {
    passes: TrainingPasses,
    /// Of all parameters, laid out like them.
    gradient: Tensor,
    by: Weights,
    keep: Keep,
}

impl Kernels {
    /// For parameters that [`Parameters::fit_kernels`]. `recompute`: as [`Trunk::recompute`].
    pub(crate) fn new(
        transformer: &Transformer,
        parameters: &Parameters,
        recompute: bool,
    ) -> Result<Self, LearnerError> {
        let gradient = parameters.flat().f_zeros_like()?;
        let by = Weights::view(transformer.config(), parameters.layout(), &gradient)?;
        let passes = TrainingPasses::new(transformer, usize::try_from(tch::get_num_threads()).unwrap_or(1))?;
        Ok(Self { passes, gradient, by, keep: if recompute { Keep::Inputs } else { Keep::All } })
    }

    /// Forgets all gradients. Returns where that by the output projection belongs, (vocabulary, hidden).
    pub(crate) fn start(&mut self) -> Result<Tensor, LearnerError> {
        let _ = self.gradient.f_zero_()?;
        Ok(self.by.head().shallow_clone())
    }

    /// The gradients of all parameters, in one.
    pub(crate) fn gradient(&self) -> &Tensor {
        &self.gradient
    }

    /// (M, hidden), for good.
    pub(crate) fn look(&mut self, weights: &Weights, micro: &MicroBatch) -> Result<Tensor, LearnerError> {
        Ok(self.passes.forward(weights, &micro.packed_rows(), Keep::Nothing)?)
    }
}

/// One micro-batch's way.
pub(crate) enum Route<'a> {
    Kernels(&'a mut Kernels),
    /// What it reads, and what its forward pass left.
    Recorded(Trunk<'a>, MicroInputs, Option<Passed>),
}

impl Route<'_> {
    /// What the output projection reads, (M, hidden).
    pub(crate) fn forward(&mut self, weights: &Weights, micro: &MicroBatch) -> Result<Tensor, LearnerError> {
        match self {
            Self::Kernels(kernels) => Ok(kernels.passes.forward(weights, &micro.packed_rows(), kernels.keep)?),
            Self::Recorded(trunk, inputs, left) => {
                let passed = trunk.forward(inputs)?;
                let normed = passed.normed.shallow_clone();
                *left = Some(passed);
                Ok(normed)
            }
        }
    }

    /// Adds the gradients of the layers and the embedding; `by_normed`: the loss's by what [`Self::forward`] gave.
    pub(crate) fn backward(
        self,
        weights: &Weights,
        micro: &MicroBatch,
        by_normed: &Tensor,
    ) -> Result<(), LearnerError> {
        match self {
            Self::Kernels(Kernels { passes, by, keep, .. }) => {
                Ok(passes.backward(weights, &micro.packed_rows(), *keep, by_normed, by)?)
            }
            Self::Recorded(trunk, mut inputs, Some(passed)) => trunk.backward(passed, by_normed, &mut inputs),
            Self::Recorded(.., None) => Ok(()), // nothing went forward
        }
    }
}
