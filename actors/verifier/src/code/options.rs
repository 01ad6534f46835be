use std::num::NonZero;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::VerifierError;

/// Options of the kind `code`.
///
/// ```toml
/// [verifier.define.programs]
/// kind = "code"
/// test_seconds = 4.0
/// user = 65534
/// ```
///
/// ```
/// use counterpoint_verifier::{CodeOptions, parse_options};
///
/// let options: CodeOptions = parse_options(serde_json::json!({"test_seconds": 2.5, "partial": true}))?;
/// assert_eq!(options.interpreter, ["python3"]);
/// # Ok::<(), counterpoint_verifier::VerifierError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CodeOptions {
    /// The interpreter and its arguments, to which a file with the program is added. Tests other than `inputs` and `outputs`
    /// need Python. Default: `["python3"]`.
    pub interpreter: Vec<String>,
    /// Which fenced blocks hold programs, by the word after the fence; `""` is one without a word, which counts if no other
    /// does. Default: `["python", "python3", "py", ""]`.
    pub languages: Vec<String>,
    /// What becomes of an answer without such a block. Default: `incorrect`.
    pub without_fence: WithoutFence,
    /// The column of the data that holds the tests; the prompt's answer if there is none. Default: none.
    pub column: Option<String>,
    /// Whether an answer that passes some of the tests gets their share as its score; otherwise it is wrong, and what follows
    /// the first failure is not run. Default: false.
    pub partial: bool,
    /// Seconds for one test, and for the program before the first; longer is a failure. At most 3600. Default: 4.
    pub test_seconds: f64,
    /// Seconds for all tests of one answer; longer is a failure. At most 3600. Default: 20.
    pub total_seconds: f64,
    /// Mebibytes of address space of each process; to ask for more fails within the program. Default: 1024.
    pub memory_mib: u64,
    /// Kibibytes of output, standard error included; more is a failure. Default: 1024.
    pub output_kib: u64,
    /// Mebibytes of each file that the program writes. Default: 16.
    pub file_mib: u64,
    /// Open files of each process. Default: 64.
    pub open_files: u64,
    /// Processes and threads of one program. Takes a namespace of its own, or `user`. Default: 64.
    pub processes: u64,
    /// How many programs run at once; 0 stands for the number of processors. Default: 0.
    pub concurrency: usize,
    /// The number of a user (whose group has the same number) that the programs run as: 65534 is `nobody`. Takes root, and
    /// an interpreter that this user can read. Default: none, the user of Counterpoint.
    pub user: Option<u32>,
    /// What to do about the network. Default: `drop`.
    pub network: Network,
}

/// What becomes of an answer without a fenced block in the language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithoutFence {
    /// It is wrong.
    #[default]
    Incorrect,
    /// All of it is the program.
    Whole,
}

/// What to do about the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Keep the programs from it where the kernel lets us; warn at the start where it does not.
    #[default]
    Drop,
    /// Keep the programs from it, or do not start.
    Require,
    /// Leave it to them.
    Keep,
}

impl Default for CodeOptions {
    fn default() -> Self {
        Self {
            interpreter: vec!["python3".into()],
            languages: ["python", "python3", "py", ""].map(str::to_owned).into(),
            without_fence: WithoutFence::Incorrect,
            column: None,
            partial: false,
            test_seconds: 4.0,
            total_seconds: 20.0,
            memory_mib: 1024,
            output_kib: 1024,
            file_mib: 16,
            open_files: 64,
            processes: 64,
            concurrency: 0,
            user: None,
            network: Network::Drop,
        }
    }
}

const HOUR: f64 = 3600.0;

impl CodeOptions {
    /// # Errors
    /// The first value that is out of range.
    pub(super) fn validate(&self) -> Result<(), VerifierError> {
        let bad = |message: String| Err(VerifierError::BadOption(message));
        if self.interpreter.first().is_none_or(String::is_empty)
            || self.interpreter.iter().any(|part| part.contains('\0'))
        {
            return bad("interpreter: must name a program, as in [\"python3\"]".into());
        }
        let seconds = [("test_seconds", self.test_seconds), ("total_seconds", self.total_seconds)];
        if let Some((name, got)) = seconds.into_iter().find(|(_, got)| !(*got > 0.0 && *got <= HOUR)) {
            return bad(format!("{name}: must be > 0 and at most {HOUR}, got {got}"));
        }
        let counts = [
            ("memory_mib", self.memory_mib),
            ("output_kib", self.output_kib),
            ("file_mib", self.file_mib),
            ("open_files", self.open_files),
            ("processes", self.processes),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, got)| *got == 0) {
            return bad(format!("{name}: must be at least 1, got 0"));
        }
        if self.output_kib > 1 << 20 {
            return bad(format!("output_kib: must be at most {}, got {}", 1 << 20, self.output_kib));
        }
        if self.concurrency > 4096 {
            return bad(format!("concurrency: must be at most 4096, got {}", self.concurrency));
        }
        Ok(())
    }

    pub(super) fn test(&self) -> Duration {
        Duration::from_secs_f64(self.test_seconds)
    }

    pub(super) fn total(&self) -> Duration {
        Duration::from_secs_f64(self.total_seconds)
    }

    pub(super) fn concurrency(&self) -> usize {
        match self.concurrency {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            given => given,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        assert!(CodeOptions::default().validate().is_ok());
        let wrong = |options: CodeOptions| options.validate().unwrap_err().to_string();
        let with = CodeOptions::default;
        assert!(wrong(CodeOptions { interpreter: Vec::new(), ..with() }).starts_with("interpreter: must name"));
        assert_eq!(
            wrong(CodeOptions { test_seconds: 0.0, ..with() }),
            "test_seconds: must be > 0 and at most 3600, got 0"
        );
        assert!(wrong(CodeOptions { total_seconds: f64::NAN, ..with() }).starts_with("total_seconds: "));
        assert_eq!(wrong(CodeOptions { memory_mib: 0, ..with() }), "memory_mib: must be at least 1, got 0");
        assert!(wrong(CodeOptions { concurrency: 5000, ..with() }).starts_with("concurrency: "));
    }
}
