use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::VerifierError;
use crate::contain::{Limits, Spec};

/// Options of the kind `process`.
///
/// ```toml
/// [verifier]
/// name = "mine"
///
/// [verifier.define.mine]
/// kind = "process"
/// command = ["python3", "my_verifier.py"]
/// processes = 4
/// ```
///
/// ```
/// use counterpoint_verifier::{ProcessOptions, parse_options};
///
/// let options = serde_json::json!({"command": ["python3", "my_verifier.py"], "processes": 4});
/// let options: ProcessOptions = parse_options(options)?;
/// assert_eq!((options.processes, options.pipeline), (4, 1));
/// # Ok::<(), counterpoint_verifier::VerifierError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessOptions {
    /// The program and its arguments. It is started as it stands, without a shell. Must be given.
    pub command: Vec<String>,
    /// Its working directory. Default: that of Counterpoint.
    pub directory: Option<PathBuf>,
    /// Variables added to its environment. Default: none.
    pub env: BTreeMap<String, String>,
    /// Whether its environment has the variables of `env` only, not those of Counterpoint. Default: false.
    pub clear_env: bool,
    /// How many of it run at once. Default: 1.
    pub processes: usize,
    /// How many requests one process may have before it has answered the first. With more than one it need not wait for the
    /// next request; but then those behind a slow one are late too. Default: 1.
    pub pipeline: usize,
    /// Seconds from a request's being sent to its answer. A process that is late is killed with all its descendants and
    /// started again; the request is void (`timeout`). The deadline of the run, `verifier.deadline_seconds`, also counts the
    /// wait for a process, and holds as well. Default: 10.
    pub deadline_seconds: f64,
    /// Seconds from the start of a process to its hello: time to import and load. At most 55. Default: 30.
    pub start_seconds: f64,
    /// How often one process may be started again within `restart_window_seconds`. One more, and the verifier is out of
    /// service: everything is void (`unavailable`). Default: 20.
    pub max_restarts: usize,
    /// Seconds over which restarts are counted. Default: 300.
    pub restart_window_seconds: f64,
    /// The longest line that it may write, in bytes; a longer one makes its requests void (`output_limit`), and it is started
    /// again. Default: 1048576.
    pub max_line_bytes: usize,
    /// Lines of its standard error that go into the log, per second and process; the others are counted. Default: 20.
    pub stderr_lines_per_second: u32,
    /// Limits that the kernel keeps. Default: none.
    pub limits: Limits,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            directory: None,
            env: BTreeMap::new(),
            clear_env: false,
            processes: 1,
            pipeline: 1,
            deadline_seconds: 10.0,
            start_seconds: 30.0,
            max_restarts: 20,
            restart_window_seconds: 300.0,
            max_line_bytes: 1 << 20,
            stderr_lines_per_second: 20,
            limits: Limits::default(),
        }
    }
}

/// The longest of the settings in seconds: a day.
const DAY: f64 = 24.0 * 60.0 * 60.0;

/// Shorter than what a run waits for a verifier to get ready, so that our own message is the one that is seen.
const LONGEST_START: f64 = 55.0;

impl ProcessOptions {
    /// # Errors
    /// The first value that is out of range.
    pub(super) fn validate(&self) -> Result<(), VerifierError> {
        let bad = |message: String| Err(VerifierError::BadOption(message));
        if self.command.first().is_none_or(String::is_empty) {
            return bad("command: must name a program, as in [\"python3\", \"my_verifier.py\"]".into());
        }
        if let Some(text) =
            self.command.iter().chain(self.env.keys()).chain(self.env.values()).find(|t| t.contains('\0'))
        {
            return bad(format!("command and env: must not contain a NUL byte, got {text:?}"));
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return bad(format!("env: `{name}` is no name of a variable"));
        }
        let counts = [
            ("processes", self.processes, 1024),
            ("pipeline", self.pipeline, 1024),
            ("max_line_bytes", self.max_line_bytes, 1 << 30),
        ];
        if let Some((name, got, most)) = counts.into_iter().find(|(_, got, most)| !(1..=*most).contains(got)) {
            return bad(format!("{name}: must be at least 1 and at most {most}, got {got}"));
        }
        let seconds = [
            ("deadline_seconds", self.deadline_seconds, DAY),
            ("start_seconds", self.start_seconds, LONGEST_START),
            ("restart_window_seconds", self.restart_window_seconds, DAY),
        ];
        if let Some((name, got, most)) = seconds.into_iter().find(|(_, got, most)| !(*got > 0.0 && got <= most)) {
            return bad(format!("{name}: must be > 0 and at most {most}, got {got}"));
        }
        Ok(())
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.deadline_seconds)
    }

    pub(super) fn start(&self) -> Duration {
        Duration::from_secs_f64(self.start_seconds)
    }

    pub(super) fn restart_window(&self) -> Duration {
        Duration::from_secs_f64(self.restart_window_seconds)
    }

    /// The command as people may read it in a message.
    pub(super) fn label(&self) -> String {
        self.command.join(" ").chars().take(100).collect()
    }

    pub(super) fn spec(&self) -> Spec {
        Spec {
            command: self.command.clone(),
            clear_environment: self.clear_env,
            environment: self.env.clone().into_iter().collect(),
            directory: self.directory.clone(),
            limits: self.limits,
            ..Spec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named_with_what_would_be_right() {
        let good = || ProcessOptions { command: vec!["true".into()], ..Default::default() };
        assert!(good().validate().is_ok());
        let wrong = |options: ProcessOptions| options.validate().unwrap_err().to_string();
        assert!(wrong(ProcessOptions::default()).starts_with("command: must name a program"));
        assert_eq!(
            wrong(ProcessOptions { processes: 0, ..good() }),
            "processes: must be at least 1 and at most 1024, got 0"
        );
        assert_eq!(
            wrong(ProcessOptions { start_seconds: 60.0, ..good() }),
            "start_seconds: must be > 0 and at most 55, got 60"
        );
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(wrong(ProcessOptions { deadline_seconds: seconds, ..good() }).starts_with("deadline_seconds: "));
        }
        let env = BTreeMap::from([("A=B".to_owned(), String::new())]);
        assert_eq!(wrong(ProcessOptions { env, ..good() }), "env: `A=B` is no name of a variable");
        assert!(wrong(ProcessOptions { command: vec!["a\0".into()], ..good() }).contains("NUL"));
    }
}
