//! Everything that can be wrong with a run is found here, before an actor starts: the directory and its lock, the port, the
//! data, the verifier, the model, the checkpoint to go on from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use counterpoint_learner::{CheckpointStore, LoadedCheckpoint, checkpoint};
use counterpoint_policy::{Adapted, Device, Kind, ModelConfig, Tensor, Tokenizer, device};
use counterpoint_replay::Cut;
use counterpoint_rollout::{PolicyVersion, PromptSet, telemetry};
use counterpoint_verifier::Registry;
use counterpoint_weight_sync::{Transport, WeightDirectory, Writer};
use serde::de::DeserializeOwned;

use super::Start;
use super::books::{Books, Carried};
use super::card::{self, Card, Evaluation};
use super::cast::{Parts, cast};
use super::counters::{self, Counter};
use super::stage::Cast;
use crate::config::Config;
use crate::data;
use crate::error::Failure;
use crate::flow::{
    self,
    memory::{self, Fit},
};
use crate::http::{self, Bound, Exporter, Server};
use crate::lora::{adapted, refuse_adapter};
use crate::rundir::{EvalLine, Lengths, RunDir, RunDirError, RunStatus, fingerprint};
use crate::status::{Status, StatusBoard};

/// A run that can start.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    pub(crate) cast: Cast,
    pub(crate) books: Books,
    pub(crate) server: Option<Server>,
    pub(crate) exporter: Exporter,
    /// Steps trained before.
    pub(crate) version: PolicyVersion,
}

/// `None`: the run in this directory has what it was started for, and that was said. Must be called within a tokio runtime.
pub(crate) fn prepare(config: Config, registry: &Registry, start: Start) -> Result<Option<Prepared>, Failure> {
    let verifier = registry.build(&config.verifier).map_err(Failure::usage)?;
    let start_verifier = registry.actor(&config.verifier).map_err(Failure::usage)?;
    let bound = config.telemetry.enabled.then(|| http::bind(&config.telemetry)).transpose().map_err(Failure::usage)?;
    refuse_adapter(&config.model.path)?;
    fits(&config, start.force)?;
    let data = data::load(&config.data, &config.model.path, &config.model.chat_options()).map_err(Failure::usage)?;
    for line in data.report.lines().into_iter().chain(data.eval_report.iter().flat_map(data::Report::lines)) {
        tracing::info!("data: {line}");
    }
    for warning in flow::warnings(&config, data.train.len()) {
        tracing::warn!("{warning}");
    }
    // The evaluator holds its questions; of a larger set it asks the first `eval.limit`.
    let limit = config.eval.limit.unwrap_or(usize::MAX);
    let held_out = data.held_out.map(|questions| questions.first(limit)).transpose().map_err(Failure::usage)?;
    let questions = card::Questions {
        train: data.train.len(),
        held_out: held_out.as_ref().map_or(0, Vec::len),
        report: &data.report,
        eval_report: data.eval_report.as_ref(),
    };
    let card = Card::new(&config, &questions);
    let prompts = Arc::new(data.train);
    let inputs = fingerprint(&config).map_err(of_directory)?;
    let dir = RunDir::open(&config, &inputs, start.fresh).map_err(of_directory)?;
    if finished(&config, &dir) {
        println!(
            "the run in {} has finished; --fresh starts over, a larger run.max_steps goes on",
            config.run.dir.display()
        );
        return Ok(None);
    }
    let weight_directory = weight_directory(&config)?;
    // From here on the directory must not look like a finished run's, whatever happens.
    dir.begin().map_err(of_directory)?;
    let exporter = Exporter::install().map_err(Failure::Failed)?;
    let board = StatusBoard::new(Status {
        run_dir: config.run.dir.display().to_string(),
        max_steps: config.run.max_steps,
        target_accuracy: config.run.target_accuracy,
        ..Status::default()
    });
    let server = bound.map(|bound| serve(bound, &dir, &exporter, &board)).transpose()?;
    let materials = match materials(&config, &dir) {
        Ok(materials) => materials,
        Err(failure) => {
            Books::new(dir, board, exporter, Carried::default(), 0).close(&Err(failure.to_string()));
            return Err(failure);
        }
    };
    let Materials { tokenizer, store, mut resumed } = materials;
    let mut dir = dir;
    resumed.recall(&dir.evaluations().map_err(of_directory)?);
    dir.truncate_to(&resumed.lengths).map_err(of_directory)?;
    counters::restore(&resumed.counters);
    let version = resumed.version();
    if let Some(cut) = &resumed.cut {
        counters::restore_ledger(&cut.totals);
        telemetry::resumed();
        tracing::info!("resumed from step {}, {} groups are issued again", version.0, cut.in_flight.len());
    }
    let mut books =
        Books::new(dir, board, exporter.clone(), resumed.carried.clone(), config.telemetry.samples_per_step);
    books.resume_at(version.0);
    books.card = Some(card);
    let parts = Parts { prompts, held_out, verifier, start_verifier, tokenizer, store, weight_directory };
    let cast = cast(&config, resumed, parts)?;
    Ok(Some(Prepared { config, cast, books, server, exporter, version }))
}

/// Where published weights go for other processes, behind a thread that writes them.
fn weight_directory(config: &Config) -> Result<Option<Box<dyn Transport>>, Failure> {
    let Some(root) = &config.weight_sync.directory else { return Ok(None) };
    let problem = |what: String| Failure::Usage(format!("weight_sync.directory: {what}"));
    let mut directory = WeightDirectory::open(root, &config.model.path, config.weight_sync.keep)
        .map_err(|e| problem(format!("cannot be written to: {e}")))?;
    let writer = Writer::start(move |snapshot| directory.publish(snapshot));
    Ok(Some(Box::new(
        writer.map_err(|e| Failure::Failed(format!("cannot start the thread that writes weights: {e}")))?,
    )))
}

/// What is read from the model's directory and the run's checkpoints.
struct Materials {
    tokenizer: Tokenizer,
    store: CheckpointStore,
    resumed: Resumed,
}

fn materials(config: &Config, dir: &RunDir) -> Result<Materials, Failure> {
    let device = device::choose(&config.run.device).map_err(Failure::usage)?;
    for name in &config.generator.devices {
        device::choose(name).map_err(|e| Failure::Usage(format!("generator.devices: {e}")))?;
    }
    let store =
        CheckpointStore::open(&dir.checkpoints(), &config.model.path, &config.checkpoint).map_err(Failure::failed)?;
    let loaded = checkpoint::load_latest(&dir.checkpoints(), device).map_err(Failure::failed)?;
    let tokenizer =
        Tokenizer::with_options(&config.model.path, &config.model.chat_options()).map_err(Failure::usage)?;
    Ok(Materials { tokenizer, store, resumed: Resumed::from(loaded, config, device)? })
}

/// A directory that is no model, or one too large for this machine, gets its clear line before anything is created.
fn fits(config: &Config, force: bool) -> Result<(), Failure> {
    match memory::judge(config)? {
        Fit::Fits => {}
        Fit::Close(warning) => tracing::warn!("{warning}"),
        Fit::Exceeds(refusal) if force => tracing::warn!("forced: {refusal}"),
        Fit::Exceeds(refusal) => return Err(Failure::Usage(refusal)),
    }
    Ok(())
}

fn of_directory(error: RunDirError) -> Failure {
    if error.is_usage() { Failure::usage(error) } else { Failure::failed(error) }
}

fn finished(config: &Config, dir: &RunDir) -> bool {
    dir.previous().is_some_and(|summary| {
        let reached =
            matches!((summary.accuracy_end, config.run.target_accuracy), (Some(end), Some(target)) if end >= target);
        summary.status == RunStatus::Done && (summary.steps >= config.run.max_steps || reached || summary.data_used_up)
    })
}

fn serve(bound: Bound, dir: &RunDir, exporter: &Exporter, board: &StatusBoard) -> Result<Server, Failure> {
    dir.address(bound.address()).map_err(of_directory)?;
    let server = bound.serve(exporter.clone(), board.clone()).map_err(Failure::failed)?;
    tracing::info!("status page and metrics at http://{}", server.address());
    Ok(server)
}

/// What the run starts from: the model, or a checkpoint with all that goes on.
pub(super) struct Resumed {
    pub(super) model: Arc<ModelConfig>,
    /// What is trained: the model's parameters, or the adapter's.
    pub(super) flat: Tensor,
    /// The frozen model, if an adapter is trained.
    pub(super) lora: Option<Adapted>,
    pub(super) optimizer: Option<counterpoint_learner::OptimizerState>,
    checkpoint: Option<PolicyVersion>,
    pub(super) cut: Option<Cut>,
    carried: Carried,
    counters: Vec<Counter>,
    lengths: Lengths,
}

impl Resumed {
    fn from(loaded: Option<LoadedCheckpoint>, config: &Config, device: Device) -> Result<Self, Failure> {
        let Some(loaded) = loaded else {
            let (model, flat) = load_model(config, device)?;
            let lora = adapted(config, &model, || Ok(flat.shallow_clone()))?;
            let flat = lora.as_ref().map_or(Ok(flat), Adapted::initial).map_err(Failure::failed)?;
            return Ok(Self {
                model,
                flat,
                lora,
                optimizer: None,
                checkpoint: None,
                cut: None,
                carried: Carried::default(),
                counters: Vec::new(),
                lengths: Lengths::default(),
            });
        };
        let LoadedCheckpoint { path, model, flat, lora: saved, optimizer, version, extras } = loaded;
        let model = Arc::new(model);
        let lora = adapted(config, &model, || Ok(load_model(config, device)?.1))?;
        if saved.is_some() != lora.is_some() {
            let (has, asks) = if saved.is_some() { ("an adapter", "none") } else { ("no adapter", "one") };
            let path = path.display();
            return Err(Failure::Failed(format!(
                "{path}: the checkpoint has {has}, the settings ask for {asks} (lora.rank)"
            )));
        }
        let cut: Cut = extra(&extras, "replay.json", &path)?;
        if cut.completed != version {
            let (path, of) = (path.display(), cut.completed);
            return Err(Failure::Failed(format!(
                "{path}: the weights are {version}, the ledger is of {of}; remove it to go on from the one before"
            )));
        }
        Ok(Self {
            model,
            flat,
            lora,
            optimizer: Some(optimizer),
            checkpoint: Some(version),
            cut: Some(cut),
            carried: extra(&extras, "books.json", &path)?,
            counters: extra(&extras, "counters.json", &path)?,
            lengths: extra(&extras, "lengths.json", &path)?,
        })
    }

    /// Takes up evaluations of versions up to this one that ended after its checkpoint was written: the lines are about to
    /// go, but the best checkpoint may be one of theirs.
    fn recall(&mut self, lines: &[EvalLine]) {
        let version = self.version().0;
        for line in lines.iter().filter(|line| line.policy_version <= version) {
            let answers = line.details.get("answers").and_then(serde_json::Value::as_u64).unwrap_or_default();
            let found = Evaluation { accuracy: line.accuracy, answers };
            self.carried.evaluations.entry(line.policy_version).or_insert(found);
        }
    }

    pub(super) fn version(&self) -> PolicyVersion {
        self.checkpoint.unwrap_or_default()
    }
}

fn load_model(config: &Config, device: Device) -> Result<(Arc<ModelConfig>, Tensor), Failure> {
    let loaded = counterpoint_policy::checkpoint::load(&config.model.path, Kind::Float, device);
    loaded.map(|(model, flat)| (Arc::new(model), flat)).map_err(Failure::usage)
}

fn extra<T: DeserializeOwned>(extras: &BTreeMap<String, Vec<u8>>, name: &str, checkpoint: &Path) -> Result<T, Failure> {
    let place = || format!("{}/state/{name}", checkpoint.display());
    let bytes = extras.get(name).ok_or_else(|| Failure::Failed(format!("{}: missing", place())))?;
    serde_json::from_slice(bytes).map_err(|e| Failure::Failed(format!("{}: {e}", place())))
}
