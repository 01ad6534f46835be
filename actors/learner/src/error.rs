use std::path::PathBuf;
use std::time::Duration;

use counterpoint_policy::{PolicyError, plain};
use counterpoint_rollout::{GroupId, PolicyVersion};

/// What can go wrong between a batch and new weights, or between weights and a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum LearnerError {
    /// The model, or a file of it.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(String),
    /// A group of the batch is not what a group must be.
    #[error("{group} cannot be trained: {problem}")]
    Group {
        /// Which group.
        group: GroupId,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// There is nothing in the batch.
    #[error("the batch for {0} has no groups; a step needs at least one")]
    EmptyBatch(PolicyVersion),
    /// The batch was made for other weights than the learner holds.
    #[error(
        "the batch starts from {batch}, the learner holds {learner}; a batch trains the weights that it was made for"
    )]
    Version {
        /// The batch's.
        batch: PolicyVersion,
        /// The learner's.
        learner: PolicyVersion,
    },
    /// A checkpoint was asked for of other weights than the learner holds; nothing was written.
    #[error("a checkpoint of {asked} was asked for, the learner holds {learner}; ask again with its version")]
    SaveVersion {
        /// The asker's.
        asked: PolicyVersion,
        /// The learner's.
        learner: PolicyVersion,
    },
    /// The step would have destroyed the weights.
    #[error(
        "the step from {version} was not taken: its {what} is {value} (groups {groups}); the weights are unchanged"
    )]
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The weights it started from.
        version: PolicyVersion,
        /// The groups of the batch.
        groups: String,
    },
    /// The same, with the batch written down for inspection.
    #[error("{problem}; the batch is saved in {path}", path = path.display())]
    NotFiniteSaved {
        /// What it would have been without the file.
        problem: Box<LearnerError>,
        /// The file.
        path: PathBuf,
    },
    /// Steps are skipped one after the other: the weights themselves must be broken, or the data is.
    #[error(
        "{problem}; the {steps} steps before it were skipped for the same reason (learner.on_not_finite = \"skip\")"
    )]
    SkippedTooOften {
        /// The last of them.
        problem: Box<LearnerError>,
        /// How many in a row.
        steps: u64,
    },
    /// `objective.kl_coef` is set and nobody gave the weights to keep near to.
    #[error("objective.kl_coef: needs the reference model's weights, and none were given")]
    NoReference,
    /// `learner.weight_decay_groups` beside an adapter.
    #[error("learner.weight_decay_groups: an adapter has neither embeddings nor norms; set learner.weight_decay")]
    DecayGroupsOfAdapter,
    /// An objective that a program registered, or wanted to.
    #[error("{0}")]
    Objective(String),
    /// The optimiser's memory is that of another model.
    #[error("the optimiser's state does not fit the parameters: {0}")]
    OptimizerState(String),
    /// A case of `counterpoint loss` is malformed.
    #[error("{0}")]
    Case(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A checkpoint is incomplete or corrupt.
    #[error("checkpoint refused: {path}: {problem}", path = path.display())]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The engine was told to stop in the middle of a step; the weights are those before it.
    #[error("the learner's engine was told to stop; the step from {0} was given up")]
    Stopped(PolicyVersion),
    /// The engine's thread ended, or its queue is full: nobody takes the command.
    #[error("the learner's engine takes no command: {0}")]
    Engine(String),
    /// The engine's thread did not end in time.
    #[error("the learner's engine did not stop within {:.1} s (it finishes the micro-batch at hand first)", .0.as_secs_f64())]
    StopDeadline(Duration),
}

impl From<tch::TchError> for LearnerError {
    fn from(error: tch::TchError) -> Self {
        Self::Tensor(plain(&error))
    }
}

impl LearnerError {
    /// Whether it is about a loss or gradient that is not finite.
    pub fn is_not_finite(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::NotFiniteSaved { .. } | Self::SkippedTooOften { .. })
    }

    /// An error of the operating system, with the file it is about.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
