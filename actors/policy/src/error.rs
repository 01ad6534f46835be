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
    Tensor(String),
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

impl From<tch::TchError> for PolicyError {
    fn from(error: tch::TchError) -> Self {
        Self::Tensor(plain(&error))
    }
}

/// What libtorch said, in one line: without the C++ stack that it puts behind its message.
pub fn plain(error: &tch::TchError) -> String {
    let text = error.to_string();
    let ends = ["\nException raised from", "\nframe #"].map(|mark| text.find(mark).unwrap_or(text.len()));
    let said = &text[..ends[0].min(ends[1])];
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Kind, Tensor};

    #[test]
    fn an_error_of_libtorch_is_one_line_that_says_what_is_wrong() {
        let zeros = |n: i64| Tensor::zeros([n], (Kind::Float, Device::Cpu));
        let raw = zeros(2).f_add(&zeros(3)).unwrap_err();
        assert!(raw.to_string().lines().count() > 1, "libtorch adds no stack any more: {raw}");
        let error = PolicyError::from(raw).to_string();
        assert!(error.starts_with("tensor operation failed: ") && error.contains("size of tensor a (2)"), "{error}");
        assert!(!error.contains('\n') && !error.contains("frame #") && !error.contains("Exception raised"), "{error}");
    }
}
