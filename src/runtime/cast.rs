//! What each actor of a run starts with, out of the settings and of what was read.

use std::sync::Arc;
use std::time::Duration;

use counterpoint_generator::{EvaluatorStart, GeneratorStart};
use counterpoint_learner::{CheckpointStore, EngineSettings, LearnerArgs, LearnerSetup};
use counterpoint_policy::{Kind, Snapshot, Tensor, Tokenizer, checkpoint};
use counterpoint_replay::ReplayArgs;
use counterpoint_rollout::{PolicyVersion, Prompt, PromptSet};
use counterpoint_verifier::{Home, PoolArgs, StartVerifier, Verifier};
use counterpoint_weight_sync::Transport;

use super::prepare::Resumed;
use super::stage::{Cast, MakeEvaluator, MakeGenerator, MakeLearner, MakeReplay};
use super::threads::{self, Shares};
use crate::config::Config;
use crate::error::Failure;

/// Time for an engine to end.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What was read for a run, besides the weights.
pub(super) struct Parts {
    pub(super) prompts: Arc<dyn PromptSet>,
    pub(super) held_out: Option<Vec<Arc<Prompt>>>,
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) start_verifier: StartVerifier,
    pub(super) tokenizer: Tokenizer,
    pub(super) store: CheckpointStore,
    /// The way of published weights to other processes.
    pub(super) weight_directory: Option<Box<dyn Transport>>,
}

pub(super) fn cast(config: &Config, resumed: Resumed, parts: Parts) -> Result<Cast, Failure> {
    let config = Arc::new(config.clone());
    let Parts { prompts, held_out, verifier, start_verifier, tokenizer, store, weight_directory } = parts;
    let version = resumed.version();
    let shares = threads::share(&config);
    tracing::info!("CPU threads: {} for the learner, {} for each generator", shares.learner, shares.generator);
    let reference = reference(&config, &resumed)?;
    let kind = config.learner.compute_kind_on(resumed.flat.device());
    let snapshot = Arc::new(snapshot(&resumed, kind)?);
    let setup = LearnerSetup {
        model: resumed.model,
        flat: resumed.flat,
        lora: resumed.lora,
        version,
        optimizer: resumed.optimizer,
        config: config.learner.clone(),
        objective: config.objective.clone(),
        temperature: config.generator.temperature,
        total_steps: Some(config.run.max_steps),
        reference,
    };
    Ok(Cast {
        replay: replay(&config, prompts, resumed.cut),
        learner: learner(&config, setup, store, shares),
        sync_deadline: Duration::from_secs_f64(config.weight_sync.deadline_seconds),
        weight_directory,
        verifier: PoolArgs {
            name: config.verifier.name.clone(),
            verifier,
            home: Home { directory: Some(config.run.dir.clone()) },
            config: config.verifier.clone(),
        },
        start_verifier,
        generators: config.generator.count,
        generator: generator(&config, snapshot, tokenizer.clone(), shares),
        window: window(&config),
        version,
        learner_credits: config.learner.prefetch + 1,
        evaluator: held_out.map(|prompts| evaluator(&config, prompts, tokenizer, shares)),
        // One evaluation may wait for another that runs beside the training; the evaluator's own deadline comes first.
        eval_deadline: Duration::from_secs_f64(2.0 * config.eval.timeout_seconds) + STOP_DEADLINE,
        patience: Duration::from_secs_f64(config.run.stall_seconds.max(300.0)),
    })
}

/// The weights that generators start with, in the learner's number format: a copy, since the learner changes its own in place.
fn snapshot(resumed: &Resumed, kind: Kind) -> Result<Snapshot, Failure> {
    let version = resumed.version();
    if let Some(adapted) = &resumed.lora {
        return adapted.snapshot(&resumed.flat, version, kind).map_err(Failure::failed);
    }
    let copy = match kind == resumed.flat.kind() {
        true => resumed.flat.f_detach_copy(),
        false => resumed.flat.f_to_kind(kind),
    };
    Snapshot::new(Arc::clone(&resumed.model), version, copy.map_err(Failure::failed)?).map_err(Failure::failed)
}

/// The weights that the run began with, whatever it goes on from, where the objective keeps near to them.
fn reference(config: &Config, resumed: &Resumed) -> Result<Option<Tensor>, Failure> {
    if config.objective.kl_coef == 0.0 {
        return Ok(None);
    }
    if let Some(adapted) = &resumed.lora {
        return Ok(Some(adapted.base().shallow_clone()));
    }
    if resumed.version() == PolicyVersion(0) {
        return Ok(Some(resumed.flat.f_detach_copy().map_err(Failure::failed)?));
    }
    let (_, flat) = checkpoint::load(&config.model.path, Kind::Float, resumed.flat.device()).map_err(Failure::usage)?;
    Ok(Some(flat))
}

fn replay(config: &Arc<Config>, prompts: Arc<dyn PromptSet>, resume: Option<counterpoint_replay::Cut>) -> MakeReplay {
    let config = Arc::clone(config);
    Box::new(move |observer| ReplayArgs {
        feed: config.feed.clone(),
        replay: config.replay.clone(),
        verify_deadline: config.verifier.deadline(),
        seed: config.run.seed,
        max_steps: config.run.max_steps,
        prompts,
        resume,
        observer,
    })
}

fn learner(config: &Config, setup: LearnerSetup, checkpoints: CheckpointStore, shares: Shares) -> MakeLearner {
    let engine = EngineSettings {
        threads: Some(shares.learner),
        publish_every: config.weight_sync.every,
        snapshot_kind: config.learner.compute_kind_on(setup.flat.device()),
        checkpoints,
        inspect: Some(config.run.dir.clone()),
    };
    Box::new(move |links| LearnerArgs {
        setup,
        engine,
        replay: links.replay,
        publish: links.publish,
        conductor: links.conductor,
        stop_deadline: STOP_DEADLINE,
    })
}

fn generator(config: &Arc<Config>, snapshot: Arc<Snapshot>, tokenizer: Tokenizer, shares: Shares) -> MakeGenerator {
    let config = Arc::clone(config);
    // Every group that admission lets be in flight may be on its way to one generator.
    let in_flight = u64::from(config.feed.prompts_per_step) * (u64::from(config.replay.max_staleness) + 1);
    let queue_capacity = usize::try_from(in_flight).unwrap_or(usize::MAX);
    let mut settings = config.generator.clone();
    if config.replay.max_staleness == 0 {
        // Every trained token is measured, and a synchronous run has no business beside it.
        settings.probe_every = 0;
    }
    Box::new(move |id, replay| GeneratorStart {
        id,
        snapshot: Arc::clone(&snapshot),
        tokenizer: tokenizer.clone(),
        config: settings.clone(),
        seed: config.run.seed,
        threads: shares.generator,
        queue_capacity,
        replay,
    })
}

fn evaluator(config: &Arc<Config>, prompts: Vec<Arc<Prompt>>, tokenizer: Tokenizer, shares: Shares) -> MakeEvaluator {
    let config = Arc::clone(config);
    Box::new(move |verifier| EvaluatorStart {
        prompts,
        tokenizer,
        config: config.eval.clone(),
        generator: config.generator.clone(),
        seed: config.run.seed,
        threads: shares.evaluator,
        verifier,
        verify_deadline: config.verifier.deadline(),
    })
}

/// Groups that a generator holds at once: enough to fill its slots, and one more that waits.
fn window(config: &Config) -> usize {
    config.generator.slots.div_ceil(config.feed.answers_per_prompt as usize) + 1
}
