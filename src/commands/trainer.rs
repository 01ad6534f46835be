//! A learner for the commands that train without a run.

use std::sync::Arc;

use counterpoint_learner::{Learner, LearnerSetup, ObjectiveConfig};
use counterpoint_policy::{Adapted, Kind, checkpoint, device};
use counterpoint_rollout::PolicyVersion;

use crate::config::Config;
use crate::error::Failure;
use crate::lora::adapted;

/// The config's model and optimiser with an objective; `temperature` is that of the answers' sampler.
pub(super) fn learner(config: &Config, objective: ObjectiveConfig, temperature: f64) -> Result<Learner, Failure> {
    let device = device::choose(&config.run.device).map_err(Failure::usage)?;
    let (model, flat) = checkpoint::load(&config.model.path, Kind::Float, device).map_err(Failure::usage)?;
    let model = Arc::new(model);
    let lora = adapted(config, &model, || Ok(flat.shallow_clone()))?;
    let reference = match objective.kl_coef != 0.0 {
        true if lora.is_some() => Some(flat.shallow_clone()),
        true => Some(flat.f_detach_copy().map_err(Failure::failed)?),
        false => None,
    };
    let flat = lora.as_ref().map_or(Ok(flat), Adapted::initial).map_err(Failure::failed)?;
    let setup = LearnerSetup {
        model,
        flat,
        lora,
        version: PolicyVersion(0),
        optimizer: None,
        config: config.learner.clone(),
        objective,
        temperature,
        total_steps: Some(config.run.max_steps),
        reference,
    };
    Learner::new(setup).map_err(Failure::failed)
}
