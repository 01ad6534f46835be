//! The file of disagreements: JSON lines, at most so many, however often the run is resumed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use counterpoint_rollout::{Prompt, Verdict};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::VerifierError;

/// The longest text in a line, in bytes; what is longer is cut, since a line limit alone does not bound the file.
const LONGEST_TEXT: usize = 1 << 16;

/// Whether a file's name stays within the run directory.
pub(super) fn check(file: &str) -> Result<(), VerifierError> {
    let plain = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    if !file.is_empty() && !file.ends_with('/') && Path::new(file).components().all(plain) {
        return Ok(());
    }
    let what = format!("must be a file's name within the run directory, as in \"disagreements.jsonl\", got {file:?}");
    Err(VerifierError::BadOption(what))
}

/// One disagreement.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    prompt_id: &'a str,
    data_source: &'a str,
    answer: &'a str,
    response: &'a str,
    verdict: &'a Verdict,
    shadow_verdict: &'a Verdict,
    /// Whether a text was cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

impl<'a> Line<'a> {
    pub(super) fn new(prompt: &'a Prompt, response: &'a str, decided: &'a Verdict, shadow: &'a Verdict) -> Self {
        let (answer, answer_cut) = cut(&prompt.answer);
        let (response, response_cut) = cut(response);
        Self {
            prompt_id: cut(&prompt.id).0,
            data_source: cut(&prompt.source).0,
            answer,
            response,
            verdict: decided,
            shadow_verdict: shadow,
            cut: answer_cut || response_cut,
        }
    }

    pub(super) fn text(&self) -> String {
        // Texts and finite numbers are always JSON; nothing here can fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The beginning of a text, and whether that is not all.
fn cut(text: &str) -> (&str, bool) {
    let end = text.floor_char_boundary(LONGEST_TEXT);
    (&text[..end], end < text.len())
}

/// The open file.
pub(super) struct Log {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    file: File,
    /// Lines that may still be written; 0 also after a failure, which is told once.
    left: u64,
}

impl Log {
    /// Opens the file to append to it; lines of an earlier start count.
    ///
    /// # Errors
    /// If it cannot be opened or read.
    pub(super) async fn open(path: PathBuf, most_lines: u64) -> Result<Self, VerifierError> {
        let shown = path.clone();
        let failed = |error: String| VerifierError::Setup(format!("file {}: {error}", shown.display()));
        let opened = spawn_blocking(move || State::open(&path, most_lines).map(|state| (path, state))).await;
        match opened {
            Ok(Ok((path, state))) => Ok(Self { path, state: Arc::new(Mutex::new(state)) }),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(cancelled) => Err(failed(cancelled.to_string())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the lines that there is room for. A failure is told in the log, once, and ends the writing.
    pub(super) async fn write(&self, lines: Vec<String>) {
        let state = Arc::clone(&self.state);
        let written = spawn_blocking(move || state.lock().unwrap_or_else(PoisonError::into_inner).write(&lines)).await;
        if let Ok(Err(error)) = written {
            let file = self.path.display();
            tracing::warn!(%file, "cannot write disagreements, they are only counted from now on: {error}");
        }
    }
}

impl State {
    fn open(path: &Path, most_lines: u64) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut lines = 0;
        let mut reader = BufReader::new(&file);
        let mut unfinished = false;
        loop {
            let buffer = reader.fill_buf()?;
            let Some(last) = buffer.last() else { break };
            unfinished = *last != b'\n';
            lines += buffer.iter().filter(|&&byte| byte == b'\n').count() as u64;
            let read = buffer.len();
            reader.consume(read);
        }
        if unfinished {
            // The run was cut off in the middle of a line; what follows must not become part of it.
            file.write_all(b"\n")?;
            lines += 1;
        }
        Ok(Self { file, left: most_lines.saturating_sub(lines) })
    }

    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(lines.len());
        if room == 0 {
            return Ok(());
        }
        let mut text = lines[..room].join("\n");
        text.push('\n');
        self.left -= room as u64;
        if self.left == 0 {
            tracing::info!("the file of disagreements is full (most_lines); further ones are only counted");
        }
        // In one piece: another writer of the same file does not get in between.
        self.file.write_all(text.as_bytes()).inspect_err(|_| self.left = 0)
    }
}
