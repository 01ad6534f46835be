//! Reads what `[data]` names: files through their mappings, filters, the split; or a task.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use counterpoint_rollout::{Prompt, PromptContent};
use serde_json::{Map, Value};

use crate::config::{DataConfig, OnError};
use crate::formats::{Format, Place, Row, Rows, name_of_place};
use crate::questions::{Gather, Questions, Source};
use crate::schema::{self, Mapping, Outside};
use crate::split::is_held_out;
use crate::{DataError, Files, tasks};

/// Bad rows reported at once.
const MOST_PROBLEMS: usize = 10;

/// Rows by which a file's schema is recognised, and the bytes of text that are kept for it at most.
const SAMPLE_ROWS: usize = 64;
const SAMPLE_BYTES: u64 = 8 << 20;

/// Rows that are looked through for one that can be read.
const MOST_WAITING: usize = 10_000;

/// Counts the tokens of a question, chat template included.
pub type CountTokens<'a> = dyn Fn(&PromptContent) -> Result<u64, String> + 'a;

/// What one file turned out to be.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Which.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Rows that are not blank.
    pub rows: u64,
    /// How they become questions; none in a file without rows.
    pub mapping: Option<Mapping>,
}

/// What was read, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every file.
    pub files: Vec<FileReport>,
    /// Rows that are no question, left out by `data.on_error = "skip"`.
    pub skipped: u64,
    /// The first ten of them, each with file and line.
    pub problems: Vec<String>,
    /// Questions with more tokens than `data.max_prompt_tokens`.
    pub too_long: u64,
    /// Whether `data.max_prompt_tokens` is set and nobody was there to count tokens.
    pub not_measured: bool,
    /// What there is to say about a task.
    pub task: Option<String>,
}

impl Report {
    /// Lines for people: one per file, and one per kind of thing that was left out.
    pub fn lines(&self) -> Vec<String> {
        let file = |file: &FileReport| {
            let mapping = file.mapping.as_ref().map_or("no question in it".to_owned(), Mapping::to_string);
            format!("{} ({}, {} rows): {mapping}", file.path.display(), file.format, file.rows)
        };
        let mut lines: Vec<String> = self.files.iter().map(file).chain(self.task.clone()).collect();
        if self.skipped > 0 {
            let first = self.problems.first().map(String::as_str).unwrap_or_default();
            lines.push(format!("{} rows are skipped, as data.on_error says; the first: {first}", self.skipped));
        }
        if self.too_long > 0 {
            lines.push(format!("{} questions are left out: longer than data.max_prompt_tokens", self.too_long));
        }
        if self.not_measured {
            lines.push("data.max_prompt_tokens leaves questions out once the tokenizer is there".to_owned());
        }
        lines
    }
}

/// All questions of a configuration.
#[derive(Debug)]
pub struct Data {
    /// Those to train on.
    pub train: Questions,
    /// Those to evaluate with, if the configuration has any.
    pub held_out: Option<Questions>,
    /// About `train` (and about a part of it that is held out).
    pub report: Report,
    /// About `data.eval`.
    pub eval_report: Option<Report>,
}

/// Reads everything. Tokens are counted only if `data.max_prompt_tokens` is set.
///
/// # Errors
/// Files that cannot be read, rows that are no questions (unless they are skipped), a side without any question.
pub fn load(config: &DataConfig, count: Option<&CountTokens<'_>>) -> Result<Data, DataError> {
    if let Some(task) = config.task {
        return of_task(task, config, count);
    }
    let (train, part, report) = read(&config.train, config, config.eval_share, count)?;
    let (eval, eval_report) = match &config.eval {
        Some(files) => {
            let (eval, _, report) = read(files, config, None, count)?;
            (Some(eval), Some(report))
        }
        None => (part, None),
    };
    Ok(Data { train, held_out: eval, report, eval_report })
}

/// Reads only the held-out questions, if there are any: without touching the training files where `data.eval` names others.
///
/// # Errors
/// As of [`load`].
pub fn load_held_out(
    config: &DataConfig,
    count: Option<&CountTokens<'_>>,
) -> Result<Option<(Questions, Report)>, DataError> {
    if let Some(files) = &config.eval {
        let (questions, _, report) = read(files, config, None, count)?;
        return Ok(Some((questions, report)));
    }
    if !config.holds_out() {
        return Ok(None);
    }
    let data = load(config, count)?;
    Ok(data.held_out.map(|questions| (questions, data.report)))
}

/// Reads all questions of some files.
///
/// # Errors
/// As of [`load`].
pub fn read_files(
    files: &Files,
    config: &DataConfig,
    count: Option<&CountTokens<'_>>,
) -> Result<(Questions, Report), DataError> {
    let (questions, _, report) = read(files, config, None, count)?;
    Ok((questions, report))
}

fn of_task(task: tasks::Task, config: &DataConfig, count: Option<&CountTokens<'_>>) -> Result<Data, DataError> {
    let made = tasks::make(task, &config.task_options);
    let mut report =
        Report { not_measured: config.max_prompt_tokens.is_some() && count.is_none(), ..Report::default() };
    let short = match made.short {
        0 => String::new(),
        _ => format!("; so many different ones there are with these options, {} fewer than asked for", made.short),
    };
    report.task = Some(format!(
        "task {task}: {} questions, {} more held out{short}; the verifier for it is \"{}\"",
        made.train.len(),
        made.held_out.len(),
        task.verifier()
    ));
    let mut sides = [Vec::new(), Vec::new()];
    for (side, prompts) in [made.train, made.held_out].into_iter().enumerate() {
        for mut prompt in prompts {
            let own = Arc::make_mut(&mut prompt);
            own.content = schema::framed(own.content.clone(), config).map_err(DataError::Setting)?;
            if fits(own, config, count).map_err(DataError::Setting)? {
                sides[side].push(prompt);
            } else {
                report.too_long += 1;
            }
        }
    }
    let [train, held_out] = sides;
    let held_out = match (&config.eval, held_out.is_empty()) {
        (Some(files), _) => {
            let (eval, _, eval_report) = read(files, config, None, count)?;
            return Ok(Data {
                train: some(train, config)?,
                held_out: Some(eval),
                report,
                eval_report: Some(eval_report),
            });
        }
        (None, true) if config.task_options.held_out > 0 => {
            let problem =
                "data.task_options.held_out: no question is left to hold out; ask for fewer, or for harder ones";
            return Err(DataError::Setting(problem.to_owned()));
        }
        (None, true) => None,
        (None, false) => Some(Questions::held(held_out)),
    };
    Ok(Data { train: some(train, config)?, held_out, report, eval_report: None })
}

fn some(prompts: Vec<Arc<Prompt>>, config: &DataConfig) -> Result<Questions, DataError> {
    if prompts.is_empty() {
        return Err(DataError::Empty { what: config.train_name() });
    }
    Ok(Questions::held(prompts))
}

fn fits(prompt: &Prompt, config: &DataConfig, count: Option<&CountTokens<'_>>) -> Result<bool, String> {
    match (config.max_prompt_tokens, count) {
        (Some(most), Some(count)) => Ok(count(&prompt.content)? <= most),
        _ => Ok(true),
    }
}

fn read(
    files: &Files,
    config: &DataConfig,
    share: Option<f64>,
    count: Option<&CountTokens<'_>>,
) -> Result<(Questions, Option<Questions>, Report), DataError> {
    let paths = files.resolve()?;
    let labels = labels(&paths);
    let mut reader = Reader {
        config,
        share,
        count,
        train: Gather::new(config),
        held_out: Gather::new(config),
        seen: HashMap::new(),
        report: Report { not_measured: config.max_prompt_tokens.is_some() && count.is_none(), ..Report::default() },
    };
    for (path, label) in paths.iter().zip(&labels) {
        if !reader.file(path, label)? {
            break;
        }
    }
    let Reader { train, held_out, report, .. } = reader;
    if config.on_error == OnError::Stop && !report.problems.is_empty() {
        return Err(DataError::Lines { problems: report.problems });
    }
    if train.len() == 0 {
        let mut what = files.to_string();
        for line in report.lines().iter().skip(report.files.len()) {
            what.push_str(&format!(" ({line})"));
        }
        return Err(DataError::Empty { what });
    }
    if share.is_some() && held_out.len() == 0 {
        let problem = format!("data.eval_share: holds out none of the {} questions of {files}; raise it", train.len());
        return Err(DataError::Setting(problem));
    }
    let held_out = share.map(|_| held_out.finish()).transpose()?;
    Ok((train.finish()?, held_out, report))
}

/// What files are called in ids: their names, or their paths where two have one name.
fn labels(paths: &[PathBuf]) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut often: HashMap<String, usize> = HashMap::new();
    for path in paths {
        *often.entry(name(path)).or_default() += 1;
    }
    paths.iter().map(|path| if often[&name(path)] > 1 { path.display().to_string() } else { name(path) }).collect()
}

struct Reader<'a> {
    config: &'a DataConfig,
    share: Option<f64>,
    count: Option<&'a CountTokens<'a>>,
    train: Gather<'a>,
    held_out: Gather<'a>,
    /// Where ids of a column stood, by 128 bits of their hash.
    seen: HashMap<[u8; 16], (u32, u64)>,
    report: Report,
}

/// A file in reading.
struct Open<'a> {
    label: &'a str,
    format: Format,
    mapping: Mapping,
}

impl Reader<'_> {
    /// Reads a file; false if there are problems enough.
    fn file(&mut self, path: &Path, label: &str) -> Result<bool, DataError> {
        let format = Format::of(path)?;
        let mut rows = Rows::open(path, format)?;
        let waiting = first_rows(&mut rows)?;
        let sample: Vec<Map<String, Value>> =
            waiting.iter().filter_map(|row| row.value.as_ref().ok()).cloned().collect();
        let mut report = FileReport { path: path.to_owned(), format, rows: 0, mapping: None };
        // Without a row that could be read nothing can be said about the columns; the rows' own problems say enough.
        let mapping = if sample.is_empty() { None } else { Some(self.mapping(path, &sample)?) };
        drop(sample);
        report.mapping = mapping.clone();
        if let (Some(mapping), Format::Jsonl) = (&mapping, format) {
            let file = File::open(path).map_err(DataError::io(path))?;
            let (path, label, mapping) = (path.to_owned(), label.to_owned(), mapping.clone());
            let source = Arc::new(Source { path, file, label, mapping });
            self.train.source(Arc::clone(&source));
            self.held_out.source(source);
        }
        let mut waiting = waiting.into_iter();
        let open = mapping.map(|mapping| Open { label, format, mapping });
        while let Some(row) = next(&mut waiting, &mut rows)? {
            report.rows += 1;
            let number = row.place.number;
            let problem = match (&open, row.value) {
                (Some(open), Ok(value)) => self.row(open, row.place, value)?,
                (None, Ok(_)) => Some("the rows before it cannot be read, so that its columns are unknown".to_owned()),
                (_, Err(problem)) => Some(problem),
            };
            if problem
                .is_some_and(|problem| !self.problem(format!("{}: {problem}", name_of_place(path, format, number))))
            {
                return Ok(false);
            }
        }
        self.report.files.push(report);
        Ok(true)
    }

    fn mapping(&self, path: &Path, sample: &[Map<String, Value>]) -> Result<Mapping, DataError> {
        schema::detect(sample, self.config).map_err(|problem| DataError::file(path, problem))
    }

    /// Notes a problem; false if reading should end.
    fn problem(&mut self, problem: String) -> bool {
        if self.report.problems.len() < MOST_PROBLEMS {
            self.report.problems.push(problem);
        }
        match self.config.on_error {
            OnError::Stop => self.report.problems.len() < MOST_PROBLEMS,
            OnError::Skip => {
                self.report.skipped += 1;
                true
            }
        }
    }

    /// Takes a row; its problem, if it is no question.
    fn row(&mut self, open: &Open<'_>, place: Place, value: Map<String, Value>) -> Result<Option<String>, DataError> {
        let number = place.number;
        let outside = Outside { file: open.label, number, config: self.config };
        let question = open.mapping.question(value, outside);
        let checked = question.and_then(|prompt| {
            self.unique(open, &prompt, number)?;
            let fits = fits(&prompt, self.config, self.count)?;
            Ok((prompt, fits))
        });
        match checked {
            Err(problem) => return Ok(Some(problem)),
            Ok((_, false)) => self.report.too_long += 1,
            Ok((prompt, true)) => {
                let held_out = self.share.is_some_and(|share| is_held_out(&prompt, self.config.split_seed, share));
                let side = if held_out { &mut self.held_out } else { &mut self.train };
                side.push(prompt, place)?;
            }
        }
        Ok(None)
    }

    /// Ids of a column must differ; those of file and line do.
    fn unique(&mut self, open: &Open<'_>, prompt: &Prompt, number: u64) -> Result<(), String> {
        if open.mapping.id.is_none() {
            return Ok(());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(prompt.id.as_bytes()).as_bytes()[..16]);
        // There are fewer files than numbers for them.
        let here = self.report.files.len() as u32;
        let Some((file, line)) = self.seen.insert(key, (here, number)) else { return Ok(()) };
        let what = if open.format == Format::Parquet { "row" } else { "line" };
        let place = match self.report.files.get(file as usize) {
            None => format!("{what} {line}"),
            Some(before) => name_of_place(&before.path, before.format, line),
        };
        Err(format!("id {:?} stands in {place} already; ids must be unique", prompt.id))
    }
}

/// The rows by which a file is recognised.
fn first_rows(rows: &mut Rows) -> Result<Vec<Row>, DataError> {
    let mut first: Vec<Row> = Vec::new();
    let (mut good, mut bytes) = (0, 0);
    while good < SAMPLE_ROWS && bytes < SAMPLE_BYTES && first.len() < MOST_WAITING {
        let Some(row) = rows.next_row()? else { break };
        if row.value.is_ok() {
            good += 1;
            bytes += row.place.bytes.map_or(SAMPLE_BYTES / SAMPLE_ROWS as u64, |(_, length)| u64::from(length));
        }
        first.push(row);
    }
    Ok(first)
}

fn next(waiting: &mut std::vec::IntoIter<Row>, rows: &mut Rows) -> Result<Option<Row>, DataError> {
    match waiting.next() {
        Some(row) => Ok(Some(row)),
        None => rows.next_row(),
    }
}
