//! What is wrong with data, in lines that a user can act on.

use std::path::PathBuf;

/// What is wrong with a data file, or with what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It could not be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It has no question.
    #[error("{what}: holds no question; expected one JSON object per line, or a Parquet file with rows")]
    Empty {
        /// Which files.
        what: String,
    },
    /// The whole file is not what it should be.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Some lines or rows are not questions.
    #[error("{}", problems.join("\n"))]
    Lines {
        /// The first ten, each with file and line.
        problems: Vec<String>,
    },
    /// The settings cannot be met.
    #[error("{0}")]
    Setting(String),
}

impl DataError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn file(path: &std::path::Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }
}
