//! One run of a program in a contained child: its input goes in, its output comes out, and neither can block us.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, sleep_until, timeout};

use crate::contain::{Contained, Spec};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// How long what a program left in its pipes may take to read after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How much of the end of standard error is kept, for messages.
const KEPT_ERRORS: usize = 4096;

/// How much longer than its time a program may run if it had to wait for a processor meanwhile.
const PATIENCE: u32 = 10;

/// The time of a program, or of a part of its work. Time that it waited for a processor does not count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    /// How long it had waited before.
    waited: Duration,
    limit: Duration,
}

impl Clock {
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// When it ends, if the program does not have to wait.
    pub(super) fn end(&self) -> Instant {
        self.began + self.limit
    }
}

/// A running program.
pub(super) struct Program {
    child: Contained,
    /// `None` once the input is written, or the program does not want more of it.
    stdin: Option<ChildStdin>,
    /// `None` once the program has closed it; the next one too.
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    input: Vec<u8>,
    written: usize,
    from_stdout: Vec<u8>,
    from_stderr: Vec<u8>,
    output: Output,
}

/// What a program wrote.
#[derive(Debug, Default)]
struct Output {
    /// All of standard output that was not taken yet.
    text: Vec<u8>,
    /// The end of standard error.
    errors: Vec<u8>,
    /// How much it may still write, to both together.
    allowance: usize,
    too_much: bool,
}

/// What can happen to a program.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// It wrote something to its standard output.
    Output,
    /// It wrote more than it may.
    TooMuch,
    /// It has ended; what it left in its pipes comes from [`Program::end`].
    Ended(ExitStatus),
    /// Its time is up.
    Late,
    /// It has had to wait for so long that nobody can say whether it is slow.
    Starved,
}

/// What is left of a program.
#[derive(Debug)]
pub(super) struct Remains {
    /// Standard output, without what was taken before.
    pub(super) output: Vec<u8>,
    pub(super) too_much: bool,
    /// The last line of standard error that says something.
    pub(super) last_line: Option<String>,
}

impl Program {
    /// # Errors
    /// If it cannot be started, which is not its own fault.
    pub(super) async fn start(spec: Spec, input: Vec<u8>, most_output: usize) -> io::Result<Self> {
        let (child, pipes) = Contained::start(spec).await?;
        Ok(Self {
            child,
            stdin: Some(pipes.stdin),
            stdout: Some(pipes.stdout),
            stderr: Some(pipes.stderr),
            input,
            written: 0,
            from_stdout: vec![0; CHUNK],
            from_stderr: vec![0; CHUNK],
            output: Output { allowance: most_output, ..Output::default() },
        })
    }

    /// Gives it so much time from now on.
    pub(super) fn clock(&self, limit: Duration) -> Clock {
        Clock { began: Instant::now(), waited: self.waited(), limit }
    }

    fn waited(&self) -> Duration {
        self.child.waited_for_processor().unwrap_or_default()
    }

    /// How much of the clock's time it has used.
    pub(super) fn used(&self, clock: &Clock) -> Duration {
        clock.began.elapsed().saturating_sub(self.waited().saturating_sub(clock.waited))
    }

    /// The next thing that happens, while its time lasts.
    pub(super) async fn next(&mut self, clock: &Clock) -> Event {
        let mut deadline = clock.end();
        loop {
            if self.output.too_much {
                return Event::TooMuch;
            }
            let Self { child, stdin, stdout, stderr, input, written, from_stdout, from_stderr, output, .. } = self;
            if *written == input.len() {
                *stdin = None;
            }
            tokio::select! {
                sent = send(stdin, &input[*written..]) => match sent {
                    Ok(bytes) => *written += bytes,
                    // A program need not read its input.
                    Err(_) => *stdin = None,
                },
                read = receive(stdout, from_stdout) => match read {
                    Ok(0) | Err(_) => *stdout = None,
                    Ok(bytes) => {
                        output.write(&from_stdout[..bytes]);
                        return if output.too_much { Event::TooMuch } else { Event::Output };
                    }
                },
                read = receive(stderr, from_stderr) => match read {
                    Ok(0) | Err(_) => *stderr = None,
                    Ok(bytes) => output.complain(&from_stderr[..bytes]),
                },
                // To lose sight of a child is as good as its crash.
                status = child.ended() => return Event::Ended(status.unwrap_or_default()),
                () = sleep_until(deadline) => {
                    let left = clock.limit.saturating_sub(self.used(clock));
                    let now = Instant::now();
                    if left < Duration::from_millis(1) {
                        return Event::Late;
                    }
                    if now >= clock.began + PATIENCE * clock.limit {
                        return Event::Starved;
                    }
                    deadline = now + left;
                }
            }
        }
    }

    /// Its standard output since the last call.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output.text)
    }

    /// Ends it with all its descendants.
    pub(super) async fn end(self) -> Remains {
        let Self { child, stdout, stderr, mut output, .. } = self;
        child.end().await;
        output.write(&last_words(stdout, output.allowance).await);
        output.complain(&last_words(stderr, output.allowance).await);
        let text = String::from_utf8_lossy(&output.errors);
        let last_line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let last_line = last_line.map(|line| line.chars().take(200).collect());
        Remains { output: output.text, too_much: output.too_much, last_line }
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) {
        if self.spend(bytes.len()) {
            self.text.extend_from_slice(bytes);
        }
    }

    fn complain(&mut self, bytes: &[u8]) {
        self.spend(bytes.len());
        self.errors.extend_from_slice(bytes);
        let surplus = self.errors.len().saturating_sub(KEPT_ERRORS);
        self.errors.drain(..surplus);
    }

    fn spend(&mut self, bytes: usize) -> bool {
        self.too_much |= bytes > self.allowance;
        self.allowance = self.allowance.saturating_sub(bytes);
        !self.too_much
    }
}

async fn send(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        None => std::future::pending().await,
    }
}

async fn receive(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// What is left in a pipe whose writers are dead; a byte more than allowed shows that it is too much.
async fn last_words(stream: Option<impl AsyncRead + Unpin>, allowance: usize) -> Vec<u8> {
    let mut words = Vec::new();
    if let Some(stream) = stream {
        let most = u64::try_from(allowance).unwrap_or(u64::MAX).saturating_add(1);
        // Late or broken: what was read until then must do.
        let _ = timeout(LAST_WORDS, stream.take(most).read_to_end(&mut words)).await;
    }
    words
}
