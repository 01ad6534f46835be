use counterpoint_policy::{PolicyError, plain};
use counterpoint_rollout::GroupId;

/// What can go wrong while sampling.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// The model or a tensor operation failed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A tensor operation of the engine itself failed.
    #[error("sampling: {0}")]
    Tensor(String),
    /// The engine was set up with values that cannot work.
    #[error("engine options: {0}")]
    Options(String),
    /// Weights of another model were to be loaded.
    #[error("weights {version} have another shape than the engine's model: they must come from the same config.json")]
    OtherModel {
        /// Of the weights refused.
        version: counterpoint_rollout::PolicyVersion,
    },
    /// A group was submitted twice, or without answers to sample.
    #[error("{group} cannot be submitted: {problem}")]
    Request {
        /// Which group.
        group: GroupId,
        /// What is wrong.
        problem: &'static str,
    },
    /// The logits hold NaN or infinity, so there is no distribution to sample from.
    #[error("the model's output is not finite with weights {version}: the weights have diverged or are damaged")]
    NotFinite {
        /// The weights that produced it.
        version: counterpoint_rollout::PolicyVersion,
    },
    /// Tokens cannot be drawn: some row has no number of its own, or some number no row.
    #[error("{rows} rows of logits and {uniforms} uniform numbers: each row needs exactly one")]
    Uniforms {
        /// Rows of logits.
        rows: i64,
        /// Uniform numbers.
        uniforms: usize,
    },
    /// The cache has no block left.
    #[error("the cache of keys and values is full")]
    Cache,
    /// The engine's thread panicked.
    #[error("the engine's thread panicked: {0}")]
    Panicked(String),
    /// The operating system refused a thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

impl From<tch::TchError> for GeneratorError {
    fn from(error: tch::TchError) -> Self {
        Self::Tensor(plain(&error))
    }
}
