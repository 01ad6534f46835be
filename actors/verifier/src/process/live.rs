//! A running child: its pipes, its log, and the conversation that goes through them.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::jobs::Signal;
use super::log::Log;
use super::options::ProcessOptions;
use super::talk::{Breach, Talk};
use crate::Pace;
use crate::contain::Contained;

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// How long the last words of a child that was killed may take. Nobody writes any more, so they end at once, unless the
/// child handed its pipes to a process that is not its descendant.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long a child that closed a pipe may take to end, for its end to count as the reason.
const ABOUT_TO_END: Duration = Duration::from_millis(50);

/// The most that is read of last words, in bytes: what a pipe may hold.
const MOST_LAST_WORDS: u64 = 1 << 20;

/// A running child.
pub(super) struct Live {
    pub(super) talk: Talk,
    child: Contained,
    /// `None` once it was told to end.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// `None` once the child has closed it.
    stderr: Option<ChildStderr>,
    from_stdout: Vec<u8>,
    from_stderr: Vec<u8>,
    log: Log,
    /// For the self-test: how slowly to send and read.
    pace: Option<Pace>,
    /// Until when to be slow.
    pause: Option<Instant>,
}

/// What can happen.
#[derive(Debug)]
pub(super) enum Event {
    /// It said something; `Ok(true)` means that a good answer was in it.
    Heard(Result<bool, Breach>),
    /// It does not listen or speak any more.
    Broken(String),
    /// It has ended.
    Ended(ExitStatus),
    /// The time is up.
    Due,
    /// There may be jobs, or an order to stop.
    Signal,
    /// Something that needs no one's attention.
    Progress,
}

impl Live {
    /// Starts the program.
    pub(super) async fn start(options: &ProcessOptions, process: usize, pace: Option<Pace>) -> io::Result<Self> {
        let (child, pipes) = Contained::start(options.spec()).await?;
        let at_once = pace.map_or(CHUNK, |pace| pace.bytes.clamp(1, CHUNK));
        Ok(Self {
            talk: Talk::new(options.max_line_bytes),
            child,
            stdin: Some(pipes.stdin),
            stdout: pipes.stdout,
            stderr: Some(pipes.stderr),
            from_stdout: vec![0; at_once],
            from_stderr: vec![0; CHUNK],
            log: Log::new(options.label(), process, options.stderr_lines_per_second),
            pace,
            pause: None,
        })
    }

    /// Sends and reads until something happens, at `until` at the latest. May be dropped at any moment without loss.
    pub(super) async fn next(&mut self, until: Option<Instant>, signals: &mut watch::Receiver<Signal>) -> Event {
        let Self { talk, child, stdin, stdout, stderr, from_stdout, from_stderr, log, pace, pause } = self;
        let unsent = talk.unsent();
        let unsent = &unsent[..unsent.len().min(pace.map_or(usize::MAX, |pace| pace.bytes.max(1)))];
        let slow = pause.is_some();
        let pause_after = |pause: &mut Option<Instant>| *pause = pace.map(|pace| Instant::now() + pace.pause);
        tokio::select! {
            sent = send(stdin, unsent), if !unsent.is_empty() && !slow => match sent {
                Ok(bytes) => {
                    talk.sent(bytes);
                    pause_after(pause);
                    Event::Progress
                }
                Err(error) => Event::Broken(format!("does not read its standard input: {error}")),
            },
            read = stdout.read(from_stdout), if !slow => match read {
                Ok(0) => Event::Broken("closed its standard output".into()),
                Ok(bytes) => {
                    pause_after(pause);
                    Event::Heard(talk.hear(&from_stdout[..bytes]))
                }
                Err(error) => Event::Broken(format!("cannot be read from: {error}")),
            },
            read = receive(stderr, from_stderr) => {
                match read {
                    Ok(0) | Err(_) => *stderr = None,
                    Ok(bytes) => log.take(&from_stderr[..bytes]),
                }
                Event::Progress
            }
            ended = child.ended() => match ended {
                Ok(status) => Event::Ended(status),
                Err(error) => Event::Broken(format!("is lost: {error}")),
            },
            () = at(until) => Event::Due,
            () = at(*pause) => {
                *pause = None;
                Event::Progress
            }
            // The sender lives as long as the slots.
            _ = signals.changed() => Event::Signal,
        }
    }

    /// How it ended, if it has or is about to; for a child that closed a pipe, which may have been the first sign of its end.
    pub(super) async fn ending(&mut self) -> Option<ExitStatus> {
        timeout(ABOUT_TO_END, self.child.ended()).await.ok()?.ok()
    }

    /// Closes its input, which asks it to end.
    pub(super) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Ends it with all its descendants. What it had said before is heard, unless it is not to be trusted. Returns the last
    /// line of its standard error.
    pub(super) async fn end(self, trusted: bool) -> (Talk, Option<String>) {
        let Self { mut talk, child, stdout, stderr, mut log, .. } = self;
        child.end().await;
        if trusted {
            // Whatever is wrong with it changes nothing any more.
            let _ = talk.hear(&last_words(stdout).await);
        }
        if let Some(stderr) = stderr {
            log.take(&last_words(stderr).await);
        }
        (talk, log.finish())
    }
}

async fn send(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        None => std::future::pending().await,
    }
}

async fn receive(stderr: &mut Option<ChildStderr>, buffer: &mut [u8]) -> io::Result<usize> {
    match stderr {
        Some(stderr) => stderr.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn last_words(stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut words = Vec::new();
    // Late or broken: what was read until then must do.
    let _ = timeout(LAST_WORDS, stream.take(MOST_LAST_WORDS).read_to_end(&mut words)).await;
    words
}
