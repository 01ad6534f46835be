//! The adapter that `[lora]` asks for.

use std::path::Path;
use std::sync::Arc;

use counterpoint_policy::{Adapted, ModelConfig, Tensor, checkpoint};

use crate::config::Config;
use crate::error::Failure;

/// A run trains a whole model, or an adapter of one; not an adapter of an adapter.
pub(crate) fn refuse_adapter(dir: &Path) -> Result<(), Failure> {
    if !checkpoint::is_adapter(dir) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "model.path: {} is a LoRA adapter; fold it into its base first: counterpoint merge --base DIR --adapter DIR --out DIR",
        dir.display()
    )))
}

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
