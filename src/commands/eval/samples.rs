//! The file of an evaluation's answers, from which an interrupted one goes on.
//!
//! The first line holds what decides the answers ({"counterpoint_eval": 1, "settings": {...}}); each further line is one
//! judged answer. All answers to a prompt are one write, so that a prompt is there whole or (after a crash) torn at the end
//! of the file, where it is dropped. The file is locked while a process writes it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use counterpoint_data::in_line;
use counterpoint_generator::{AnswerScore, PromptScores};
use counterpoint_rollout::{Completion, FinishReason, Prompt, Verdict};
use counterpoint_verifier::Votes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Failure;

/// The version of the format.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    counterpoint_eval: u32,
    settings: Map<String, Value>,
}

/// One judged answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    prompt_id: String,
    source: String,
    /// Which of the prompt's answers, from 0.
    sample: u32,
    text: String,
    /// What it votes for in the majority; none if it has no answer.
    answer: Option<String>,
    /// Whether the verifier found that answer; otherwise it is the normalised text.
    extracted: bool,
    /// `correct`, `incorrect`, `soft` or `void`.
    verdict: String,
    /// None if the verdict is void.
    score: Option<f32>,
    /// Why the verdict is void.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<String>,
    /// Length of the answer, the token that ended it included.
    tokens: u32,
    /// Natural log-probability of the whole answer under the distribution it was sampled from.
    logprob: f64,
    finish: FinishReason,
}

/// The answers to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answered {
    pub(super) source: String,
    pub(super) scores: PromptScores,
    /// Whether the verifier found what votes.
    pub(super) extracted: bool,
}

/// The answers to a prompt, as they are written down.
pub(super) fn samples(prompt: &Prompt, completions: &[Completion], verdicts: &[Verdict], votes: Votes) -> Vec<Sample> {
    let all = completions.iter().zip(verdicts).zip(votes.answers).zip(0..);
    all.map(|(((completion, verdict), answer), sample)| Sample {
        prompt_id: prompt.id.clone(),
        source: prompt.source.clone(),
        sample,
        text: completion.text.clone(),
        answer,
        extracted: votes.extracted,
        verdict: verdict.label().to_owned(),
        score: verdict.score(),
        reason: match verdict {
            Verdict::Void(reason) => Some(reason.to_string()),
            _ => None,
        },
        tokens: completion.tokens.len() as u32,
        logprob: completion.logprobs.iter().copied().map(f64::from).sum(),
        finish: completion.finish,
    })
    .collect()
}

impl Answered {
    /// Of all answers to one prompt.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let score = |sample: &Sample| AnswerScore {
            score: sample.score,
            truncated: sample.finish == FinishReason::Length,
            tokens: sample.tokens,
            vote: sample.answer.clone(),
        };
        Self {
            source: samples.first().map(|s| s.source.clone()).unwrap_or_default(),
            scores: PromptScores::of(&samples.iter().map(score).collect::<Vec<_>>()),
            extracted: samples.iter().all(|s| s.extracted),
        }
    }
}

/// Where answers are written.
pub(super) struct SamplesFile {
    path: PathBuf,
    file: File,
}

impl SamplesFile {
    /// Begins a file, or with `resume` goes on with one whose settings must be these; then also what is answered in it, by
    /// prompt. `samples`: answers per prompt.
    pub(super) fn open(
        path: &Path,
        resume: bool,
        settings: Map<String, Value>,
        samples: u32,
    ) -> Result<(Self, HashMap<String, Answered>), Failure> {
        let named = |e: std::io::Error| Failure::Usage(format!("{}: {e}", path.display()));
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(named)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::Usage(format!("{}: another process is writing this file", path.display())));
            }
            Err(TryLockError::Error(e)) => return Err(named(e)),
        }
        let empty = file.metadata().map_err(named)?.len() == 0;
        if !(empty || resume) {
            return Err(Failure::Usage(format!(
                "{}: the file is there already; go on with it by --resume, or choose another",
                path.display()
            )));
        }
        let (answered, whole) = Reader::new(path, &file, samples).read(&settings)?;
        file.set_len(whole).map_err(named)?;
        let mut this = Self { path: path.to_owned(), file };
        if whole == 0 {
            this.append(&[Header { counterpoint_eval: FORMAT, settings }])?;
        }
        Ok((this, answered))
    }

    /// Writes all answers to one prompt.
    pub(super) fn append(&mut self, lines: &[impl Serialize]) -> Result<(), Failure> {
        let mut text = Vec::new();
        for line in lines {
            // Plain structs: writing them to memory cannot fail, and would be reported like a full disk.
            serde_json::to_writer(&mut text, line).map_err(|e| self.failed(e.into()))?;
            text.push(b'\n');
        }
        self.file.write_all(&text).map_err(|e| self.failed(e))
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        match self.file.sync_data() {
            // A pipe or a device, which has nothing to make durable.
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput) => Ok(()),
            other => other.map_err(|e| self.failed(e)),
        }
    }

    fn failed(&self, error: std::io::Error) -> Failure {
        Failure::Failed(format!("{}: {error}", self.path.display()))
    }
}

/// Reads a file of answers line by line.
struct Reader<'a> {
    path: &'a Path,
    lines: BufReader<&'a File>,
    samples: u32,
    number: usize,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, file: &'a File, samples: u32) -> Self {
        Self { path, lines: BufReader::new(file), samples, number: 0 }
    }

    /// What is answered, and how many bytes hold whole prompts (or at least the header).
    fn read(mut self, settings: &Map<String, Value>) -> Result<(HashMap<String, Answered>, u64), Failure> {
        let (mut answered, mut whole) = (HashMap::new(), 0);
        let Some(line) = self.line()? else { return Ok((answered, 0)) };
        self.check(&line, settings)?;
        whole += line.len() as u64;
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(line) = self.line()? {
            let sample: Sample = serde_json::from_slice(&line).map_err(|e| self.malformed(&in_line(&e)))?;
            let first = group.first().is_none_or(|first: &Sample| first.prompt_id == sample.prompt_id);
            if !first || sample.sample as usize != group.len() || answered.contains_key(&sample.prompt_id) {
                return Err(self.malformed("the answers to a prompt must stand together, once, in order from sample 0"));
            }
            group.push(sample);
            bytes += line.len() as u64;
            if group.len() == self.samples as usize {
                answered.insert(group[0].prompt_id.clone(), Answered::of(&group));
                whole += bytes;
                (group, bytes) = (Vec::new(), 0);
            }
        }
        Ok((answered, whole))
    }

    /// The next line with its end; `None` at the end of the file, or at a torn last line.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let read = self.lines.read_until(b'\n', &mut line);
        read.map_err(|e| Failure::Failed(format!("{}: {e}", self.path.display())))?;
        self.number += 1;
        Ok(Some(line).filter(|line| line.ends_with(b"\n")))
    }

    fn check(&self, line: &[u8], settings: &Map<String, Value>) -> Result<(), Failure> {
        let header: Header = serde_json::from_slice(line)
            .map_err(|_| self.malformed("not the first line of an evaluation's samples; choose another file"))?;
        if header.counterpoint_eval != FORMAT {
            let found = header.counterpoint_eval;
            return Err(self.malformed(&format!("the file has format {found}, this program writes format {FORMAT}")));
        }
        let keys = settings.keys().chain(header.settings.keys().filter(|key| !settings.contains_key(*key)));
        let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
        let differs = |key: &&String| header.settings.get(*key) != settings.get(*key);
        let problems: Vec<String> = keys
            .filter(differs)
            .map(|key| {
                let (was, is) = (shown(header.settings.get(key)), shown(settings.get(key)));
                format!(
                    "{}: {key} was {was} when the file was begun, now it is {is}; set it back, or choose another file",
                    self.path.display()
                )
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(Failure::Usage(problems.join("\n"))) }
    }

    fn malformed(&self, problem: &str) -> Failure {
        Failure::Usage(format!("{}:{}: {problem}", self.path.display(), self.number))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(seed: u64) -> Map<String, Value> {
        json!({"model": "m", "seed": seed}).as_object().unwrap().clone()
    }

    fn answers(id: &str) -> Vec<Sample> {
        let answer = |sample| Sample {
            prompt_id: id.to_owned(),
            source: "s".to_owned(),
            sample,
            text: "4".to_owned(),
            answer: Some("4".to_owned()),
            extracted: true,
            verdict: "correct".to_owned(),
            score: Some(1.0),
            reason: None,
            tokens: 2,
            logprob: -0.5,
            finish: FinishReason::Stop,
        };
        (0..2).map(answer).collect()
    }

    /// A file with the answers to two prompts.
    fn begun() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("samples.jsonl");
        let (mut file, answered) = SamplesFile::open(&path, false, settings(1), 2).unwrap();
        assert!(answered.is_empty());
        file.append(&answers("a")).unwrap();
        file.append(&answers("b")).unwrap();
        file.sync().unwrap();
        (scratch, path)
    }

    fn complaint(path: &Path, resume: bool, seed: u64) -> String {
        SamplesFile::open(path, resume, settings(seed), 2).err().unwrap().to_string()
    }

    #[test]
    fn what_is_written_is_read_back_and_a_torn_prompt_is_dropped_wherever_it_is_torn() {
        let (_scratch, path) = begun();
        let whole = std::fs::read(&path).unwrap();
        let first = whole.split_inclusive(|b| *b == b'\n').take(3).map(<[u8]>::len).sum::<usize>();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut file, answered) = SamplesFile::open(&path, true, settings(1), 2).unwrap();
            let expected = if length == whole.len() { 2 } else { usize::from(length >= first) };
            assert_eq!(answered.len(), expected, "{length}");
            for id in ["a", "b"].into_iter().filter(|id| !answered.contains_key(*id)) {
                file.append(&answers(id)).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{length}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten_and_not_continued_under_other_settings() {
        let (_scratch, path) = begun();
        assert!(complaint(&path, false, 1).contains("go on with it by --resume"));
        let said = complaint(&path, true, 2);
        assert!(said.ends_with("seed was 1 when the file was begun, now it is 2; set it back, or choose another file"));
        assert_eq!(said.lines().count(), 1);
        let (_held, _) = SamplesFile::open(&path, true, settings(1), 2).unwrap();
        assert!(complaint(&path, true, 1).contains("another process is writing"));
    }

    #[test]
    fn a_file_of_something_else_is_named_with_the_line() {
        let (scratch, path) = begun();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"prompt_id\":\"c\"}}\n")).unwrap();
        assert!(complaint(&path, true, 1).contains("samples.jsonl:6: "), "{}", complaint(&path, true, 1));
        let lines: Vec<&str> = text.lines().collect();
        std::fs::write(&path, format!("{text}{}\n", lines[1])).unwrap();
        assert!(complaint(&path, true, 1).contains(":6: the answers to a prompt must stand together, once"));
        std::fs::write(&path, "{\"prompt\":\"1\"}\n").unwrap();
        assert!(complaint(&path, true, 1).contains("samples.jsonl:1: not the first line"));
        let missing = scratch.path().join("nowhere/samples.jsonl");
        assert!(complaint(&missing, true, 1).contains("nowhere/samples.jsonl: No such file"));
    }
}
