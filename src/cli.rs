//! The command line: what can be asked for. What each command does stands in `commands`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use counterpoint_policy::ChatOptions;
use counterpoint_verifier::Registry;

use crate::commands;
use crate::error::Failure;

/// Trains language models on their own verified answers, by Negative-aware Fine-Tuning.
///
/// Exit codes: 0 done, 1 failed, 2 bad usage or config, 130 interrupted after a clean drain and a checkpoint.
#[derive(Debug, Parser)]
#[command(name = "counterpoint", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train; resumes by itself from the run directory.
    Run(RunArgs),
    /// Train on given answers (supervised): the warm-up of a base model. Writes a model directory.
    Sft(SftArgs),
    /// Validate a config, print it resolved, estimate memory and flow, and forecast rates.
    Check(CheckArgs),
    /// Measure pass@1, pass@k, mean@k and majority@k of a model on questions with known answers, with their uncertainty.
    Eval(EvalArgs),
    /// Sample answers: JSONL prompts in, JSONL completions with log-probs out.
    Generate(GenerateArgs),
    /// Judge answers: JSONL {"response", "answer"} in, {"verdict"} out, one line per line, in order.
    Verify(VerifyArgs),
    /// Score texts: JSONL {"ids"} or {"prompt", "completion"} in, {"logprobs"} out.
    Score(ScoreArgs),
    /// Evaluate the training objectives: JSONL cases in, {"loss", "grad"} out, in float64.
    Loss(InputArgs),
    /// Make a Hugging Face model directory of a GGUF file (llama, qwen2, qwen3), with its tokenizer and chat template.
    Convert(ConvertArgs),
    /// Fold a LoRA adapter (PEFT's format) into its base: a Hugging Face model directory of both.
    Merge(MergeArgs),
    /// Print the JSON Schema of the config.
    Schema,
}

/// A config file and what is changed in it.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Config file (TOML).
    pub(crate) config: PathBuf,
    /// Settings that win over the file's: dotted keys, as run.seed=1.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Start over: first remove what an earlier run wrote in the run directory, and nothing else.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Start a run that cannot flow or fit all the same. One that cannot flow ends as stalled (run.stall_seconds) or with
    /// nothing to learn. Without questions or with impossible values nothing can be forced.
    #[arg(long)]
    pub(crate) force: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Sample, judge and train with the config's model and data for some seconds, keep nothing of it, and forecast rates,
    /// waits and the time to run.max_steps from what was measured.
    #[arg(long)]
    pub(crate) calibrate: bool,
    /// Seconds to calibrate.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, requires = "calibrate")]
    pub(crate) seconds: f64,
    /// Judge memory by a machine with so many GiB instead of this one.
    #[arg(long, value_name = "GIB")]
    pub(crate) memory_gib: Option<f64>,
    #[command(flatten)]
    pub(crate) rates: RateArgs,
}

/// Rates to forecast from; each wins over what --calibrate measures. Without it, the first two are needed.
#[derive(Debug, Default, PartialEq, Args)]
pub(crate) struct RateArgs {
    /// Tokens per second that all generators sample together.
    #[arg(long, value_name = "N")]
    pub(crate) sampled_per_second: Option<f64>,
    /// Answer tokens per second that the learner trains.
    #[arg(long, value_name = "N")]
    pub(crate) trained_per_second: Option<f64>,
    /// Answers per second that the verifier judges [default: without limit].
    #[arg(long, value_name = "N")]
    pub(crate) verdicts_per_second: Option<f64>,
    /// Seconds until a group is judged [default: 0].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) verdict_seconds: Option<f64>,
    /// Mean tokens of an answer [default: generator.max_new_tokens].
    #[arg(long, value_name = "N")]
    pub(crate) answer_tokens: Option<f64>,
    /// Share of the groups whose answers are neither all right nor all wrong [default: 1].
    #[arg(long, value_name = "SHARE")]
    pub(crate) mixed: Option<f64>,
}

/// `sft`.
#[derive(Debug, Args)]
pub(crate) struct SftArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Directory to make; `DIR/latest` is the trained model.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Column of the answer's text in the data; by default the truth that a verifier would compare with.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) response_column: Option<String>,
}

/// Where lines come from.
#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    /// JSONL file to read; "-" is standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) input: PathBuf,
}

/// Which model, and where it runs.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Hugging Face model directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// "auto", "cpu", "cuda" or "cuda:INDEX".
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    #[command(flatten)]
    pub(crate) chat: ChatArgs,
}

/// How chats become text: the settings of the config's [model].
#[derive(Debug, Default, Args)]
pub(crate) struct ChatArgs {
    /// Put as a system message before every chat that begins with none; not before texts and token ids.
    #[arg(long, value_name = "TEXT", requires = "model")]
    pub(crate) system_prompt: Option<String>,
    /// File with a chat template, instead of the model's own.
    #[arg(long, value_name = "FILE", requires = "model")]
    pub(crate) chat_template: Option<PathBuf>,
    /// Variable of the chat template, with a value in JSON, as enable_thinking=false; may be given several times.
    #[arg(long, value_name = "NAME=JSON", requires = "model")]
    pub(crate) template_variable: Vec<String>,
    /// The day that a template's strftime_now gives, as 2024-07-26; by default today.
    #[arg(long, value_name = "DAY", requires = "model")]
    pub(crate) template_date: Option<String>,
}

impl ChatArgs {
    /// The options that they stand for.
    pub(crate) fn options(&self) -> Result<ChatOptions, Failure> {
        let variable = |given: &String| {
            let (name, value) = given.split_once('=')?;
            Some((name.to_owned(), serde_json::from_str(value).ok()?))
        };
        let read = |given| {
            let problem = || format!("--template-variable: expected NAME=JSON, as date=\"today\", got {given:?}");
            variable(given).ok_or_else(|| Failure::Usage(problem()))
        };
        Ok(ChatOptions {
            system_prompt: self.system_prompt.clone(),
            template: self.chat_template.clone(),
            variables: self.template_variable.iter().map(read).collect::<Result<_, _>>()?,
            date: self.template_date.clone(),
        })
    }
}

/// `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Kind of verifier, or a config file (*.toml) whose [verifier] section says everything.
    #[arg(long, value_name = "NAME|CONFIG", required_unless_present = "self_test")]
    pub(crate) verifier: Option<String>,
    /// Examines a verifier instead of judging lines: known cases (yours, from --input with {"response", "answer",
    /// "expected": true|false} per line), several at once, hostile texts, slow reads; says what it did wrong.
    #[arg(long, value_name = "NAME|CONFIG", conflicts_with_all = ["verifier", "explain", "workers"])]
    pub(crate) self_test: Option<String>,
    /// Seconds for one line; by default the config's, or 30.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) deadline: Option<f64>,
    /// Adds to each verdict how it came about, for kinds that can tell.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Lines judged at the same time; by default one per core.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    #[command(flatten)]
    pub(crate) input: InputArgs,
}

/// `score`.
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) input: InputArgs,
}

/// `convert`.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// GGUF file.
    pub(crate) file: PathBuf,
    /// Directory to make; it must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Number format of the weights written; "auto" is float32 below a billion parameters and bfloat16 from there on.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) dtype: Dtype,
}

/// `merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Hugging Face model directory that the adapter was trained on.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: PathBuf,
    /// Directory of the adapter (adapter_config.json, adapter_model.safetensors): a checkpoint of a run with [lora], or one
    /// that PEFT saved.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: PathBuf,
    /// Directory to make; it must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Number format of the weights written; "auto" leaves each tensor in the base's.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) dtype: Dtype,
}

/// Number formats that `convert` and `merge` write.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Dtype {
    Auto,
    Float32,
    Bfloat16,
    Float16,
}

/// How `generate` samples.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Answers per prompt.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) samples: u32,
    /// Logits are divided by this; 0 takes the likeliest token.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) temperature: f64,
    /// Only so many of the likeliest tokens may be drawn; 0: all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) top_k: u32,
    /// Only the likeliest tokens whose probabilities add up to this may be drawn; 1: all.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Only tokens at least this share as likely as the likeliest may be drawn; 0: all.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) min_p: f64,
    /// Divides the positive and multiplies the negative logits of tokens that the prompt or the answer has already. It comes
    /// first, then temperature, top-k, top-p and min-p; log-probs are of what all of them leave.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub(crate) repetition_penalty: f64,
    /// Text that ends an answer, which is cut before it (its tokens stay); may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// An answer that reaches this many tokens is cut off.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_new_tokens: usize,
    /// A longer prompt is an error.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) max_prompt_tokens: usize,
    /// Seed of the sampling noise; an answer depends on it, on the prompt's id and on the sample's number only.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Sequences sampled at the same time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) slots: usize,
}

/// `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Write each prompt's completions as soon as they are there, instead of in the order of the input.
    #[arg(long)]
    pub(crate) as_finished: bool,
    #[command(flatten)]
    pub(crate) input: InputArgs,
}

/// `eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Config file (TOML): its model, data.eval, verifier and [eval].
    #[arg(required_unless_present = "model", conflicts_with = "model")]
    pub(crate) config: Option<PathBuf>,
    /// Settings that win over the file's: dotted keys, as eval.samples=4.
    #[arg(value_name = "KEY=VALUE", requires = "config")]
    pub(crate) overrides: Vec<String>,
    /// Hugging Face model directory, instead of the config's.
    #[arg(long, value_name = "DIR", requires = "data")]
    pub(crate) model: Option<PathBuf>,
    /// JSONL file of questions {"prompt", "answer"}.
    #[arg(long, value_name = "FILE", requires = "model")]
    pub(crate) data: Option<PathBuf>,
    /// Kind of verifier, or a config file (*.toml) whose [verifier] section says everything [default: exact].
    #[arg(long, value_name = "NAME|CONFIG", requires = "model")]
    pub(crate) verifier: Option<String>,
    /// "auto", "cpu", "cuda" or "cuda:INDEX" [default: auto].
    #[arg(long, requires = "model")]
    pub(crate) device: Option<String>,
    #[command(flatten)]
    pub(crate) chat: ChatArgs,
    #[command(flatten)]
    pub(crate) sampling: EvalSampling,
    /// Write every judged answer to this file, one JSON line each: prompt id, source, sample, text, answer, verdict, score,
    /// tokens, log-probability, and why it ended.
    #[arg(long, value_name = "FILE")]
    pub(crate) samples_out: Option<PathBuf>,
    /// Go on with the file of --samples-out: what is answered there is not asked again. Model, questions and settings must
    /// be those it was begun with. Without a file there it is begun.
    #[arg(long, requires = "samples_out")]
    pub(crate) resume: bool,
}

/// How `eval` samples; each option wins over the config's setting. Without a config, the defaults are those given.
#[derive(Debug, Default, Args)]
pub(crate) struct EvalSampling {
    /// Answers per question [default: 8].
    #[arg(long, value_name = "K")]
    pub(crate) samples: Option<u32>,
    /// Logits are divided by this; 0 takes the likeliest token [default: 1].
    #[arg(long)]
    pub(crate) temperature: Option<f64>,
    /// Only so many of the likeliest tokens may be drawn; 0: all [default: 0].
    #[arg(long, value_name = "N")]
    pub(crate) top_k: Option<u32>,
    /// Only the likeliest tokens whose probabilities add up to this may be drawn; 1: all [default: 1].
    #[arg(long, value_name = "SHARE")]
    pub(crate) top_p: Option<f64>,
    /// Only tokens at least this share as likely as the likeliest may be drawn; 0: all [default: 0].
    #[arg(long, value_name = "SHARE")]
    pub(crate) min_p: Option<f64>,
    /// Makes tokens that the prompt or the answer has already less likely, where above 1 [default: 1].
    #[arg(long, value_name = "FACTOR")]
    pub(crate) repetition_penalty: Option<f64>,
    /// Text that ends an answer, which is cut before it; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// An answer that reaches this many tokens is cut off [default: 128].
    #[arg(long, value_name = "N")]
    pub(crate) max_new_tokens: Option<usize>,
    /// A longer prompt is not asked and counts as wrong [default: 512].
    #[arg(long, value_name = "N")]
    pub(crate) max_prompt_tokens: Option<usize>,
    /// Only the first so many questions.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Seed of the sampling noise; an answer depends on it, on the question's id and on the sample's number only
    /// [default: 0].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Sequences sampled at the same time [default: 256].
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<usize>,
}

/// Parses the command line, does what it says, and gives the exit code. Errors go to stderr, each on a line of its own.
/// A program with verifiers of its own registers them and calls this: it then has all commands, with its verifiers.
///
/// `arguments`: without the program's name.
pub fn main(registry: &Registry, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // clap itself exits with 2 on bad usage and with 0 on --help and --version.
    let Cli { command } = Cli::parse_from(std::iter::once("counterpoint".into()).chain(arguments));
    match dispatch(command, registry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command, registry: &Registry) -> Result<(), Failure> {
    match command {
        Command::Run(args) => commands::run::run(&args, registry),
        Command::Sft(args) => commands::sft::run(&args, registry),
        Command::Check(args) => commands::check::run(&args, registry),
        Command::Eval(args) => commands::eval::run(&args, registry),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Verify(args) => commands::verify::run(&args, registry),
        Command::Score(args) => commands::score::run(&args),
        Command::Loss(args) => commands::loss::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Merge(args) => commands::merge::run(&args),
        Command::Schema => commands::schema::run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn variables_of_templates_are_json() {
        let options = |given: &[&str]| {
            let template_variable = given.iter().map(|&one| one.to_owned()).collect();
            ChatArgs { template_variable, ..ChatArgs::default() }.options()
        };
        let read = options(&["enable_thinking=false", "date=\"a=b\""]).unwrap().variables;
        assert_eq!(serde_json::Value::from(read), serde_json::json!({"enable_thinking": false, "date": "a=b"}));
        for wrong in ["enable_thinking", "date=today"] {
            let Err(Failure::Usage(problem)) = options(&[wrong]) else { panic!("{wrong} was accepted") };
            assert!(problem.contains("expected NAME=JSON"), "{problem}");
        }
    }

    #[test]
    fn eval_takes_a_config_or_a_model_with_data() {
        let accepts = |args: &[&str]| Cli::try_parse_from(["counterpoint", "eval"].iter().chain(args)).is_ok();
        assert!(accepts(&["a.toml", "eval.samples=2"]));
        assert!(accepts(&["--model", "m", "--data", "d.jsonl", "--samples", "4"]));
        assert!(accepts(&["a.toml", "--samples", "4", "--stop", "a", "--stop", "b", "--samples-out", "s", "--resume"]));
        assert!(!accepts(&["a.toml", "--resume"]));
        assert!(!accepts(&["--model", "m"]));
        assert!(!accepts(&["a.toml", "--model", "m", "--data", "d"]));
        assert!(!accepts(&[]));
    }
}
