//! The way through the layers and back, with everything kept for backward, or only what each layer reads
//! (`learner.activation_checkpointing`; Chen et al., arXiv 1604.06174).
//!
//! Without it, backward goes through one recorded graph, whose size is the activations of all layers. With it, forward records
//! nothing, and backward computes the layers again, last first, each with a graph of its own: the memory is what all layers
//! read and the activations of one, for a forward pass more (a third of the work). Both compute the same numbers in the same
//! order, so their gradients are equal to the last bit on a CPU; dropout is seeded before every layer.

use counterpoint_policy::{Angles, Tensor, Transformer, Weights};

use crate::LearnerError;
use crate::pack::MicroInputs;

/// The layers under some weights.
pub(crate) struct Trunk<'a> {
    pub(crate) transformer: &'a Transformer,
    pub(crate) weights: &'a Weights,
    /// Whether to compute the layers again for backward.
    pub(crate) recompute: bool,
    /// Called before a layer is computed, each time, with its number: sets its dropout.
    pub(crate) before: &'a dyn Fn(usize),
}

/// What a forward pass leaves.
pub(crate) struct Passed {
    /// (M, hidden): what the output projection reads to predict the targets; differentiable if anything below is trained.
    pub(crate) normed: Tensor,
    angles: Angles,
    /// What each layer reads and, last, what the last one gives, (1, T, hidden). Empty where everything is kept.
    inputs: Vec<Tensor>,
}

impl Trunk<'_> {
    pub(crate) fn forward(&self, micro: &mut MicroInputs) -> Result<Passed, LearnerError> {
        let angles = self.transformer.angles(&micro.positions, self.weights.kind())?;
        let mut inputs = Vec::new();
        if !self.recompute {
            let mut x = self.transformer.embed(self.weights, &micro.tokens)?;
            for index in 0..self.weights.layers() {
                x = self.layer(index, &x, &angles, micro)?;
            }
            let normed = self.normed(&x, micro)?;
            return Ok(Passed { normed, angles, inputs });
        }
        tch::no_grad(|| -> Result<(), LearnerError> {
            inputs.push(self.transformer.embed(self.weights, &micro.tokens)?);
            for index in 0..self.weights.layers() {
                inputs.push(self.layer(index, &inputs[index], &angles, micro)?);
            }
            Ok(())
        })?;
        for (input, trained) in inputs.iter_mut().zip(self.weights.trained_before()) {
            *input = input.f_set_requires_grad(trained)?;
        }
        let normed = self.normed(&inputs[self.weights.layers()], micro)?;
        Ok(Passed { normed, angles, inputs })
    }

    /// Adds the gradients of the layers and the embedding; `by_normed`: the loss's by [`Passed::normed`].
    pub(crate) fn backward(
        &self,
        passed: Passed,
        by_normed: &Tensor,
        micro: &mut MicroInputs,
    ) -> Result<(), LearnerError> {
        let Passed { normed, angles, mut inputs } = passed;
        go_on(normed, by_normed)?;
        let Some(last) = inputs.pop() else { return Ok(()) }; // everything was kept
        let mut by_output = last.f_grad()?;
        for (index, input) in inputs.into_iter().enumerate().rev() {
            if !by_output.defined() {
                return Ok(()); // everything before is frozen
            }
            go_on(self.layer(index, &input, &angles, micro)?, &by_output)?;
            by_output = input.f_grad()?;
        }
        if by_output.defined() {
            go_on(self.transformer.embed(self.weights, &micro.tokens)?, &by_output)?;
        }
        Ok(())
    }

    fn layer(
        &self,
        index: usize,
        x: &Tensor,
        angles: &Angles,
        micro: &mut MicroInputs,
    ) -> Result<Tensor, LearnerError> {
        (self.before)(index);
        Ok(self.transformer.layer(self.weights, index, x, angles, &mut micro.attention)?)
    }

    /// (1, T, hidden) -> (M, hidden)
    fn normed(&self, x: &Tensor, micro: &MicroInputs) -> Result<Tensor, LearnerError> {
        let width = x.size3()?.2;
        let picked = x.f_view([-1, width])?.f_index_select(0, &micro.picks)?;
        Ok(self.transformer.normed(self.weights, &picked)?)
    }
}

/// Backward from a tensor whose gradient is known; nothing if none is wanted.
fn go_on(output: Tensor, by_output: &Tensor) -> Result<(), LearnerError> {
    if output.requires_grad() {
        // A scalar whose gradient by `output` is `by_output`: tch's backward starts from scalars only.
        output.f_mul(by_output)?.f_sum(output.kind())?.f_backward()?;
    }
    Ok(())
}
