//! The case files of `tests/cases`, and how a case is judged.
//!
//! One JSON object per line: `id`, `answer` (the truth), `response`, `expected` (whether the response is right), and where
//! needed `note` (what the case is about), `options` (of the kind), `info` (the prompt's other columns), `known` (why the
//! verifier gets it wrong for now). `math-*.jsonl` is of the kind `math`, any other file of the kind it is named after, unless
//! a case has a `verifier`: then that whole `[verifier]` section.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod hostile;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use counterpoint_rollout::{Prompt, PromptContent};
use counterpoint_verifier::{Question, Registry, Verdict, Verifier, VerifierConfig};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One line of a case file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub id: String,
    pub answer: String,
    pub response: String,
    pub expected: bool,
    #[serde(default)]
    pub note: String,
    #[serde(default)]
    pub options: Map<String, Value>,
    #[serde(default)]
    pub info: Map<String, Value>,
    pub verifier: Option<Value>,
    pub known: Option<String>,
    /// The kind that the file's name says.
    #[serde(skip)]
    pub kind: String,
}

/// All cases, file by file in the order of their names.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Case> {
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let kind = if stem.starts_with("math-") { "math" } else { stem };
    let text = std::fs::read_to_string(file).unwrap();
    let parse = |(index, line): (usize, &str)| {
        let case: Case = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}, line {}: {error}", file.display(), index + 1));
        Case { kind: kind.to_owned(), ..case }
    };
    text.lines().enumerate().map(parse).collect()
}

impl Case {
    /// The configuration that judges the case.
    pub(crate) fn config(&self) -> VerifierConfig {
        let section = self.verifier.clone().unwrap_or_else(|| {
            if self.options.is_empty() {
                return json!({"name": self.kind});
            }
            let mut definition = self.options.clone();
            definition.insert("kind".into(), self.kind.clone().into());
            json!({"name": "case", "define": {"case": definition}})
        });
        serde_json::from_value(section).unwrap_or_else(|error| panic!("{}: {error}", self.id))
    }

    /// What its verifier is asked.
    pub(crate) fn question(&self) -> Question {
        let prompt = Prompt {
            id: self.id.clone(),
            content: PromptContent::Text(String::new()),
            answer: self.answer.clone(),
            source: String::new(),
            info: self.info.clone(),
        };
        Question::new(Arc::new(prompt), vec![self.response.clone()])
    }
}

/// Builds verifiers once per configuration.
#[derive(Default)]
pub(crate) struct Bench {
    registry: Registry,
    built: HashMap<String, Arc<dyn Verifier>>,
}

impl Bench {
    /// The verifier of a case.
    pub(crate) fn verifier(&mut self, case: &Case) -> Arc<dyn Verifier> {
        let config = case.config();
        let key = serde_json::to_string(&config).unwrap();
        let build = || self.registry.build(&config).unwrap_or_else(|error| panic!("{}: {error}", case.id));
        Arc::clone(self.built.entry(key).or_insert_with(build))
    }

    /// The verdict on a case.
    pub(crate) async fn judge(&mut self, case: &Case) -> Verdict {
        let mut verdicts = self.verifier(case).verify(&case.question()).await;
        assert_eq!(verdicts.len(), 1, "{}", case.id);
        verdicts.remove(0)
    }
}

/// The verdict of the kind `math`, with its default options, on one pair.
pub(crate) async fn math(response: &str, answer: &str) -> Verdict {
    let config = VerifierConfig { name: "math".into(), ..VerifierConfig::default() };
    let verifier = Registry::default().build(&config).unwrap();
    verifier.verify(&Question::pair(response, answer)).await.remove(0)
}
