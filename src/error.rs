//! The one error that ends the program, and the exit codes.

use std::process::ExitCode;

/// Why the program ends without having done what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be done: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// What was asked for is wrong (arguments, config, data): exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The user interrupted it, and it ended cleanly: exit code 130.
    #[error("interrupted")]
    Interrupted,
    /// Whoever read the output has gone (as `head` does): nothing more to do, exit code 0.
    #[error("the output was closed")]
    OutputClosed,
}

impl Failure {
    /// A failure of what was asked rightly, with the whole chain of causes on one line.
    pub fn failed(error: impl std::error::Error) -> Self {
        Self::Failed(chain(&error))
    }

    /// A wrong request, with the whole chain of causes on one line.
    pub fn usage(error: impl std::error::Error) -> Self {
        Self::Usage(chain(&error))
    }

    /// Puts what was being done before the message.
    pub fn context(self, what: &str) -> Self {
        match self {
            Self::Failed(message) => Self::Failed(format!("{what}: {message}")),
            Self::Usage(message) => Self::Usage(format!("{what}: {message}")),
            other => other,
        }
    }

    /// The exit code that stands for it; 0 is for what was done.
    pub fn code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        }
    }

    /// Says it on stderr, each problem on a line of its own, and gives the exit code.
    ///
    /// An interrupted run has said its word already.
    pub fn report(&self) -> ExitCode {
        if !matches!(self, Self::Interrupted) && self.code() != 0 {
            for line in self.to_string().lines() {
                eprintln!("counterpoint: error: {}", crate::console::printable(line));
            }
        }
        ExitCode::from(self.code())
    }
}

/// An error and its causes, joined with colons; a cause that its parent already names is not said twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the log")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_says_its_whole_chain_on_one_line_and_each_kind_has_its_code() {
        let failure = Failure::failed(Outer(std::io::Error::other("disk full"))).context("resume");
        assert_eq!(failure.to_string(), "resume: cannot open the log: disk full");
        assert_eq!([failure.code(), Failure::Usage(String::new()).code(), Failure::Interrupted.code()], [1, 2, 130]);
    }
}
