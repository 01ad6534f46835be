//! One running plug-in process: asked one thing at a time.

use std::process::Stdio;
use std::time::Duration;

use counterpoint_rollout::{Verdict, VoidReason};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout_at};

use super::protocol;
use super::tree::Tree;
use crate::{Pace, Question};

/// Lines on standard error that reach the log within a second.
const LOG_LINES: u32 = 20;
/// Bytes of such a line.
const LOG_BYTES: u64 = 2000;
/// Second answers to earlier questions that are passed over before the process counts as out of its mind.
const STALE: usize = 16;

/// What the process did wrong.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) reason: VoidReason,
    pub(super) what: String,
}

fn fault(reason: VoidReason, what: impl Into<String>) -> Fault {
    Fault { reason, what: what.into() }
}

/// A process that has said hello. Dropping it ends it with all that it started.
#[derive(Debug)]
pub(super) struct Plug {
    tree: Tree,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    asked: u64,
    max_line_bytes: usize,
    pace: Option<Pace>,
}

impl Plug {
    /// Starts the command and hears its hello by `due`.
    pub(super) async fn start(
        command: &[String],
        max_line_bytes: usize,
        pace: Option<Pace>,
        due: Instant,
    ) -> Result<Self, Fault> {
        let [program, arguments @ ..] = command else { return Err(fault(VoidReason::Crash, "the command is empty")) };
        let mut child = Command::new(program);
        child.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tree = Tree::spawn(&mut child)
            .map_err(|error| fault(VoidReason::Crash, format!("{program:?} could not be started: {error}")))?;
        let pipes =
            tree.child().and_then(|child| Some((child.stdin.take()?, child.stdout.take()?, child.stderr.take()?)));
        // All three were asked for above.
        let Some((stdin, stdout, stderr)) = pipes else { return Err(fault(VoidReason::Crash, "it has no pipes")) };
        tokio::spawn(log(stderr));
        let mut plug = Self { tree, stdin, stdout: BufReader::new(stdout), asked: 0, max_line_bytes, pace };
        let line = timeout_at(due, plug.line()).await.map_err(|_| fault(VoidReason::Timeout, "it said no hello"))??;
        protocol::hello(&line).map_err(|what| fault(VoidReason::Protocol, what))?;
        Ok(plug)
    }

    /// Asks one question. After a fault the process must not be asked again.
    pub(super) async fn ask(&mut self, question: &Question, due: Instant) -> Result<Vec<Verdict>, Fault> {
        self.asked += 1;
        let line = protocol::request(self.asked, question, due.saturating_duration_since(Instant::now()));
        let answers = question.responses.len();
        let exchange = async {
            // Both at once: a child may answer before it has read everything, or read nothing before it is read.
            let (stdin, pace) = (&mut self.stdin, self.pace);
            let write = async { send(stdin, &line, pace).await };
            let read = answer(&mut self.stdout, self.asked, self.max_line_bytes, pace);
            let (written, read) = tokio::join!(write, read);
            let verdicts = read?;
            written.map_err(|error| fault(VoidReason::Crash, format!("it closed its standard input: {error}")))?;
            Ok(verdicts)
        };
        let verdicts = match timeout_at(due, exchange).await {
            Ok(exchanged) => exchanged?,
            Err(_late) => return Err(fault(VoidReason::Timeout, "it did not answer in time")),
        };
        if verdicts.len() != answers {
            let what = format!("it gave {} verdicts for {answers} responses", verdicts.len());
            return Err(fault(VoidReason::Protocol, what));
        }
        Ok(verdicts)
    }

    /// Kills the process with all that it started, and reaps them.
    pub(super) async fn end(self) {
        drop(self.stdin);
        self.tree.end().await;
    }

    async fn line(&mut self) -> Result<Vec<u8>, Fault> {
        line(&mut self.stdout, self.max_line_bytes, self.pace).await
    }
}

async fn send(stdin: &mut ChildStdin, bytes: &[u8], pace: Option<Pace>) -> std::io::Result<()> {
    let Some(pace) = pace else { return stdin.write_all(bytes).await };
    for chunk in bytes.chunks(pace.bytes.max(1)) {
        stdin.write_all(chunk).await?;
        sleep(pace.pause).await;
    }
    Ok(())
}

/// The reply to question `asked`.
async fn answer(
    stdout: &mut BufReader<ChildStdout>,
    asked: u64,
    most: usize,
    pace: Option<Pace>,
) -> Result<Vec<Verdict>, Fault> {
    for _ in 0..=STALE {
        let line = line(stdout, most, pace).await?;
        let reply = protocol::reply(&line).map_err(|what| fault(VoidReason::Protocol, what))?;
        if reply.id == asked {
            return Ok(reply.verdicts);
        }
        if reply.id > asked || reply.id == 0 {
            return Err(fault(VoidReason::Protocol, format!("it answered question {}, which was not asked", reply.id)));
        }
        tracing::warn!("a verifier answered question {} twice", reply.id);
    }
    Err(fault(VoidReason::Protocol, "it answers earlier questions again and again"))
}

/// The next line without its end, of at most `most` bytes.
async fn line(stdout: &mut BufReader<ChildStdout>, most: usize, pace: Option<Pace>) -> Result<Vec<u8>, Fault> {
    let mut line = Vec::new();
    loop {
        let buffer = match stdout.fill_buf().await {
            Ok([]) => return Err(fault(VoidReason::Crash, "it ended, or closed its standard output")),
            Ok(buffer) => buffer,
            Err(error) => return Err(fault(VoidReason::Crash, format!("it could not be read: {error}"))),
        };
        let buffer = &buffer[..pace.map_or(buffer.len(), |pace| pace.bytes.clamp(1, buffer.len()))];
        let end = buffer.iter().position(|b| *b == b'\n');
        line.extend_from_slice(&buffer[..end.unwrap_or(buffer.len())]);
        let taken = end.map_or(buffer.len(), |end| end + 1);
        stdout.consume(taken);
        if line.len() > most {
            return Err(fault(VoidReason::OutputLimit, format!("it wrote a line of more than {most} bytes")));
        }
        if end.is_some() {
            return Ok(line);
        }
        if let Some(pace) = pace {
            sleep(pace.pause).await;
        }
    }
}

/// Standard error goes to the log, at a bounded rate; the pipe is always emptied, or the child would stand still.
async fn log(stderr: ChildStderr) {
    let mut stderr = BufReader::new(stderr);
    let (mut second, mut lines, mut suppressed) = (Instant::now(), 0, 0u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stderr).take(LOG_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if second.elapsed() >= Duration::from_secs(1) {
            if suppressed > 0 {
                tracing::warn!("verifier: {suppressed} more lines on standard error were suppressed");
            }
            (second, lines, suppressed) = (Instant::now(), 0, 0);
        }
        if lines < LOG_LINES {
            lines += 1;
            tracing::info!("verifier: {}", String::from_utf8_lossy(&line).trim_end().escape_debug());
        } else {
            suppressed += 1;
        }
    }
}
