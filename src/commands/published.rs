//! Weights that a run published to `weight_sync.directory`, as a model to open.

use std::path::{Path, PathBuf};

use counterpoint_weight_sync::{is_published, verify};

use crate::error::Failure;

/// The model directory to read: any other as it is; of published weights the one that a link names now, since the run may move
/// the link, once its files are what was published.
pub(super) fn checked(dir: &Path) -> Result<PathBuf, Failure> {
    if !is_published(dir) {
        return Ok(dir.to_owned());
    }
    let dir = dir.canonicalize().map_err(|e| Failure::Usage(format!("{}: {e}", dir.display())))?;
    let version = verify(&dir).map_err(Failure::usage)?;
    tracing::info!("{}: weights {version}, as they were published", dir.display());
    Ok(dir)
}
