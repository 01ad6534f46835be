//! The model card of a checkpoint: README.md with the front matter that Hugging Face's hub reads, what was trained on what, how
//! it did, and how to load it.
//!
//! Contract: a function of the settings, the data and the run's counts; it holds no time and no path of the machine, of files
//! only their names. Names come from outside: in the front matter they are quoted as YAML, elsewhere shown as code.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data::Report;

/// Files of questions that are named.
const MOST_FILES: usize = 20;

/// Keys of the front matter of a model's card that hold for what is made of it.
const LICENCE: [&str; 3] = ["license", "license_name", "license_link"];

/// What an evaluation found, as far as it is kept over a resume.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evaluation {
    pub(crate) accuracy: f64,
    /// How many answers were judged.
    pub(crate) answers: u64,
}

/// How a model is opened.
const USE_MODEL: &str = "```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(\"PATH\", dtype=\"auto\")
tokenizer = AutoTokenizer.from_pretrained(\"PATH\")
```

```sh
vllm serve PATH
```
";

/// How an adapter is opened; BASE stands for the model that it was trained on.
const USE_ADAPTER: &str = "A LoRA adapter of the base model, whose directory is called BASE here.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained(\"BASE\", dtype=\"auto\")
model = PeftModel.from_pretrained(base, \"PATH\")
tokenizer = AutoTokenizer.from_pretrained(\"PATH\")
```

```sh
vllm serve BASE --enable-lora --lora-modules trained=PATH
counterpoint merge --base BASE --adapter PATH --out MERGED
```
";

/// What a card says of every checkpoint of a run.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    base_model: String,
    /// The checkpoint is an adapter.
    adapter: bool,
    licence: Vec<(&'static str, String)>,
    objective: String,
    settings: String,
    data: String,
}

/// The run's questions, counted.
pub(crate) struct Questions<'a> {
    pub(crate) train: usize,
    pub(crate) held_out: usize,
    pub(crate) report: &'a Report,
    pub(crate) eval_report: Option<&'a Report>,
}

/// What it says of one.
pub(crate) struct Progress<'a> {
    pub(crate) steps: u64,
    pub(crate) tokens_generated: u64,
    pub(crate) tokens_trained: u64,
    /// By the steps that made the weights.
    pub(crate) evaluations: &'a BTreeMap<u64, Evaluation>,
}

impl Card {
    /// For a run with these settings and questions. A model directory without a readable card has no licence.
    pub(crate) fn new(config: &Config, questions: &Questions<'_>) -> Self {
        let source = config.model.path.canonicalize().unwrap_or_else(|_| config.model.path.clone());
        let readme = std::fs::read_to_string(source.join("README.md")).unwrap_or_default();
        Self {
            base_model: model_name(&source),
            adapter: config.lora.enabled(),
            licence: licence(&readme),
            objective: word(&config.objective.name),
            settings: settings(config),
            data: data(config, questions),
        }
    }

    /// The text of README.md.
    pub(crate) fn render(&self, progress: &Progress<'_>) -> String {
        let Progress { steps, tokens_generated, tokens_trained, evaluations } = progress;
        let mut licence = String::new();
        for (key, value) in &self.licence {
            let _ = writeln!(licence, "{key}: {}", yaml_text(value));
        }
        format!(
            "---\n\
             base_model: {base_yaml}\n\
             {licence}\
             library_name: {library}\n\
             pipeline_tag: text-generation\n\
             tags:\n- counterpoint\n- {objective}\n- reinforcement-learning\n\
             ---\n\n\
             # {base} after {steps} steps\n\n\
             {base}, trained by reinforcement learning on verified answers with Counterpoint {version} (objective \
             `{objective}`): {steps} optimiser steps, {tokens_generated} answer tokens sampled, {tokens_trained} of them \
             trained.\n\n\
             ## Evaluation\n\n{evaluation}\n\
             ## Data\n\n{data}\n\
             ## Settings\n\n{settings}\n\
             ## Use\n\n\
             {usage}\n\
             PATH is this directory. Its folder `state` is only for resuming the run; leave it out when you publish the model.\n",
            base_yaml = yaml_text(&self.base_model),
            base = code(&self.base_model),
            objective = self.objective,
            version = env!("CARGO_PKG_VERSION"),
            evaluation = evaluation(*steps, evaluations),
            data = self.data,
            settings = self.settings,
            library = if self.adapter { "peft" } else { "transformers" },
            usage = if self.adapter { USE_ADAPTER } else { USE_MODEL },
        )
    }
}

/// What people call the model in a directory: the hub's name if it lies in Hugging Face's cache
/// (`models--OWNER--NAME/snapshots/REVISION`), else the directory's.
fn model_name(dir: &Path) -> String {
    let text = |name: Option<&OsStr>| name.map(|name| name.to_string_lossy().into_owned());
    let snapshots = dir.parent().filter(|parent| parent.file_name() == Some(OsStr::new("snapshots")));
    let cached = text(snapshots.and_then(Path::parent).and_then(Path::file_name));
    let hub = cached.as_deref().and_then(|name| name.strip_prefix("models--")).map(|name| name.replacen("--", "/", 1));
    hub.or_else(|| text(dir.file_name())).unwrap_or_else(|| "model".to_owned())
}

/// What the front matter of the model's own card says of its licence. Only plain values on one line are taken.
fn licence(readme: &str) -> Vec<(&'static str, String)> {
    let mut lines = readme.lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for line in lines.take_while(|line| line.trim_end() != "---") {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        let value = quoted.unwrap_or(value);
        let plain = !value.is_empty() && value.len() <= 200 && !value.starts_with(['[', '{', '|', '>', '&', '*', '#']);
        if let Some(key) = LICENCE.into_iter().find(|known| *known == key).filter(|_| plain) {
            found.push((key, value.to_owned()));
        }
    }
    found
}

/// A setting's value as the config spells it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn evaluation(steps: u64, evaluations: &BTreeMap<u64, Evaluation>) -> String {
    let best =
        evaluations.iter().max_by(|one, other| one.1.accuracy.total_cmp(&other.1.accuracy)).map(|(step, _)| *step);
    let shown = [evaluations.keys().next().copied(), best, evaluations.keys().next_back().copied()];
    let shown: std::collections::BTreeSet<u64> = shown.into_iter().flatten().collect();
    if shown.is_empty() {
        return "None was made so far.\n".to_owned();
    }
    let mut table = "| weights | accuracy on held-out questions | answers judged |\n| --- | --- | --- |\n".to_owned();
    for step in shown {
        let Some(Evaluation { accuracy, answers }) = evaluations.get(&step) else { continue };
        let weights = match step {
            0 => "before training".to_owned(),
            _ if step == steps => format!("after {step} steps (these)"),
            _ => format!("after {step} steps"),
        };
        let _ = writeln!(table, "| {weights} | {accuracy:.3} | {answers} |");
    }
    table
}

fn data(config: &Config, questions: &Questions<'_>) -> String {
    let mut text = format!("{} questions to train on, {} held out", questions.train, questions.held_out);
    let _ = writeln!(text, "; answers judged by the verifier {}.\n", code(&config.verifier.name));
    for (what, report) in [("", Some(questions.report)), (" (held out)", questions.eval_report)] {
        let Some(report) = report else { continue };
        for file in report.files.iter().take(MOST_FILES) {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(text, "* {}{what}: {} rows", code(&name), file.rows);
        }
        if let Some(more) = report.files.len().checked_sub(MOST_FILES).filter(|more| *more > 0) {
            let _ = writeln!(text, "* {more} more files{what}");
        }
        if let Some(task) = &report.task {
            let _ = writeln!(text, "* {}", code(task));
        }
    }
    text
}

/// The sections of the config that say what is learned, as TOML.
fn settings(config: &Config) -> String {
    #[derive(Serialize)]
    struct Learned<'a> {
        objective: &'a counterpoint_learner::ObjectiveConfig,
        learner: &'a counterpoint_learner::LearnerConfig,
        feed: &'a counterpoint_replay::FeedConfig,
        #[serde(skip_serializing_if = "Option::is_none")]
        lora: Option<&'a counterpoint_policy::LoraConfig>,
    }
    let lora = config.lora.enabled().then_some(&config.lora);
    let learned = Learned { objective: &config.objective, learner: &config.learner, feed: &config.feed, lora };
    let generator = &config.generator;
    format!(
        "```toml\n{}```\n\nSampled at temperature {}, at most {} new tokens.\n",
        // Cannot fail: numbers and words only.
        toml::to_string(&learned).unwrap_or_default(),
        generator.temperature,
        generator.max_new_tokens,
    )
}

/// A text in double quotes, as YAML reads it: as JSON writes it, and what YAML does not take as it is escaped too.
fn yaml_text(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(char));
            }
            _ => quoted.push(char),
        }
    }
    quoted + "\""
}

/// A text as code on one line of Markdown, in a table too.
fn code(text: &str) -> String {
    let plain = |char: char| if char.is_control() || char == '|' { ' ' } else { char };
    format!("`{}`", text.replace('`', "'").chars().map(plain).collect::<String>().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        let config = Config::default();
        let report = Report { task: Some("arithmetic".to_owned()), ..Report::default() };
        let questions = Questions { train: 4000, held_out: 200, report: &report, eval_report: None };
        Card::new(&config, &questions)
    }

    fn rendered(card: &Card, evaluations: &[(u64, f64)]) -> String {
        let of = |(step, accuracy): &(u64, f64)| (*step, Evaluation { accuracy: *accuracy, answers: 64 });
        let evaluations = evaluations.iter().map(of).collect();
        card.render(&Progress { steps: 30, tokens_generated: 900, tokens_trained: 400, evaluations: &evaluations })
    }

    #[test]
    fn a_card_says_what_was_trained_on_what_and_how_it_did() {
        let card = Card { base_model: "owner/tiny".into(), licence: vec![("license", "mit".into())], ..card() };
        let text = rendered(&card, &[(0, 0.25), (10, 0.5), (20, 0.75), (30, 0.625)]);
        let front = "---\nbase_model: \"owner/tiny\"\nlicense: \"mit\"\nlibrary_name: transformers\n\
                     pipeline_tag: text-generation\ntags:\n- counterpoint\n- nft\n- reinforcement-learning\n---\n\n# `owner/tiny` after 30 steps\n";
        assert!(text.starts_with(front), "{text}");
        let has = |part: &str| assert!(text.contains(part), "{part} in {text}");
        has(
            "| before training | 0.250 | 64 |\n| after 20 steps | 0.750 | 64 |\n| after 30 steps (these) | 0.625 | 64 |\n",
        );
        assert!(rendered(&card, &[]).contains("None was made so far."));
        let adapter = rendered(&Card { adapter: true, ..card }, &[]);
        assert!(
            adapter.contains("library_name: peft\n") && adapter.contains("PeftModel.from_pretrained(base, \"PATH\")")
        );
        assert!(!text.contains("after 10 steps"), "first, best and last are enough");
        has("30 optimiser steps, 900 answer tokens sampled, 400 of them trained");
        has("4000 questions to train on, 200 held out; answers judged by the verifier");
        has("* `arithmetic`\n");
        has("[objective]\nname = \"nft\"\n");
        has("[learner]\n");
        has("vllm serve PATH");
    }

    #[test]
    fn a_name_cannot_break_out_of_the_front_matter_or_of_a_table() {
        let hostile = "a\"\\\n---\nlicense: evil\u{7f}\u{2028}`|";
        assert_eq!(yaml_text(hostile), r#""a\"\\\u000a---\u000alicense: evil\u007f\u2028`|""#);
        assert_eq!(yaml_text("模型 🦀"), "\"模型 🦀\"");
        assert_eq!(code(hostile), "`a\"\\ --- license: evil \u{2028}'`");
        let text = rendered(&Card { base_model: hostile.into(), ..card() }, &[]);
        assert_eq!(text.lines().filter(|line| *line == "---").count(), 2, "{text}");
        assert!(!text.lines().any(|line| line.starts_with("license")), "{text}");
    }

    #[test]
    fn a_model_has_the_name_and_the_licence_of_its_source() {
        let name = |path: &str| model_name(Path::new(path));
        assert_eq!(name("/home/me/.cache/hub/models--Qwen--Qwen2.5-Math-7B/snapshots/0123"), "Qwen/Qwen2.5-Math-7B");
        assert_eq!(name("/models/SmolLM2-135M"), "SmolLM2-135M");
        assert_eq!(name("/"), "model");
        let read = |text: &str| licence(text);
        let front = "---\nlanguage: en\nlicense: 'other'\nlicense_name: qwen  \nlicense_link: \"https://a.b/L\"\ntags:\n- license: x\n---\nlicense: no\n";
        let expected = [("license", "other"), ("license_name", "qwen"), ("license_link", "https://a.b/L")]
            .map(|(k, v)| (k, v.to_owned()));
        assert_eq!(read(front), expected);
        for none in [
            "",
            "license: mit",
            "---\nlicense: [mit]\n---\n",
            "---\nlicense:\n- mit\n---\n",
            "# A\n---\nlicense: mit\n---\n",
        ] {
            assert_eq!(read(none), [], "{none}");
        }
    }
}
