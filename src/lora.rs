//! The adapter that `[lora]` asks for.

use std::sync::Arc;

use counterpoint_policy::{Adapted, ModelConfig, Tensor};

use crate::config::Config;
use crate::error::Failure;

/// The frozen model with room for the adapter, if the settings ask for one. `base`: the model's parameters, called for only
/// then.
pub(crate) fn adapted(
    config: &Config,
    model: &Arc<ModelConfig>,
    base: impl FnOnce() -> Result<Tensor, Failure>,
) -> Result<Option<Adapted>, Failure> {
    if !config.lora.enabled() {
        return Ok(None);
    }
    let adapted = Adapted::new(Arc::clone(model), base()?, config.lora.clone(), config.run.seed);
    let adapted = adapted.map_err(Failure::usage)?;
    let (trained, all) = (adapted.layout().numel(), model.parameters());
    tracing::info!("LoRA: {trained} parameters are trained, {all} are frozen");
    Ok(Some(adapted))
}
