use std::path::PathBuf;

/// What can be wrong with a model, its files or a tensor operation on it.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file's content is not what it must be.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The model needs something that this program does not have.
    #[error("{what} is not supported: {hint}")]
    Unsupported {
        /// The feature, by name.
        what: String,
        /// What is supported.
        hint: String,
    },
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] tch::TchError),
    /// The requested device is not there.
    #[error("device {wanted}: {problem}")]
    Device {
        /// As configured.
        wanted: String,
        /// Why it cannot be used.
        problem: String,
    },
    /// Text could not be turned into tokens or back.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template could not be rendered.
    #[error("chat template: {0}")]
    Template(String),
}
