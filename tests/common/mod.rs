//! What the whole-runtime tests share: a scratch directory, the real binary as a child process, and its run directory.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "each test file uses its own part, as a module")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// No child of a test may outlive this; a test that needs longer is a bug.
const LIMIT: Duration = Duration::from_secs(240);

/// The binary, to be run from the project's root.
pub fn counterpoint() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterpoint"));
    command.current_dir(root()).env("RUST_BACKTRACE", "1").env("COUNTERPOINT_STRICT", "1");
    command
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A run of the test configuration in a directory of its own.
pub struct Run {
    scratch: tempfile::TempDir,
    settings: Vec<String>,
}

impl Run {
    /// `settings`: `key=value` overrides of configs/test.toml.
    pub fn new(settings: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        Self { scratch, settings: settings.iter().map(|s| (*s).to_owned()).collect() }
    }

    pub fn dir(&self) -> PathBuf {
        self.scratch.path().join("run")
    }

    /// The command line; `more` overrides what `new` set.
    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = counterpoint();
        command.args(["run", "tests/data/test.toml"]).arg(format!("run.dir={}", self.dir().display()));
        command.args(&self.settings).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    pub fn finish(&self, more: &[&str]) -> Output {
        output(self.command(more))
    }

    /// Runs to the end, which must be exit code 0.
    pub fn succeed(&self, more: &[&str]) -> Value {
        let output = self.finish(more);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        self.summary()
    }

    pub fn summary(&self) -> Value {
        serde_json::from_str(&self.read("summary.json")).unwrap()
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    pub fn lines(&self, file: &str) -> Vec<Value> {
        self.read(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn final_weights(&self) -> Vec<u8> {
        std::fs::read(self.dir().join("checkpoints/latest/model.safetensors")).unwrap()
    }
}

/// Runs a command under the limit.
pub fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().unwrap())
}

/// Feeds a command's standard input.
pub fn pipe(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = wait(child);
    feeder.join().unwrap();
    output
}

/// Waits for a child; kills it and fails the test when the limit passes.
pub fn wait(child: Child) -> Output {
    let pid = child.id();
    let (done, finished) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = finished.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            // SAFETY: kill(2) on a child that has not been waited for yet.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
        late
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    assert!(!watchdog.join().unwrap(), "the child hung and was killed; it said:\n{}", stderr(&output));
    output
}

pub fn signal(child: &Child, signal: i32) {
    // SAFETY: kill(2) on a child that has not been waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One GET request over plain TCP: status line and body.
pub fn get(address: &str, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

/// Waits until `probe` gives something; the child may be anywhere between start and end. Polls a file of another process,
/// which nothing can notify us of.
#[allow(clippy::disallowed_methods, reason = "another process's files can only be polled")]
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2400 {
        if let Some(found) = probe() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("waited a minute for {what}");
}
