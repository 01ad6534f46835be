//! A batch whose step was not finite, written down for a person.

use std::path::{Path, PathBuf};

use counterpoint_rollout::Batch;
use serde_json::{Value, json};
use tch::Kind;

use crate::{Learner, LearnerError};

/// Writes `not-finite-v<VERSION>.json` into `dir`: what was wrong, whether the weights themselves are finite, and the batch
/// with every token, log-prob, verdict and version. JSON has no NaN: a log-prob that is not finite is `null`, and its answer is
/// named under `answers_not_finite`.
pub(crate) fn save(
    dir: &Path,
    batch: &Batch,
    problem: &LearnerError,
    learner: &Learner,
) -> Result<PathBuf, LearnerError> {
    let path = dir.join(format!("not-finite-{}.json", batch.version));
    let text = serde_json::to_vec(&describe(batch, problem, learner)?)
        .map_err(|e| LearnerError::io(&path)(std::io::Error::other(e)))?;
    std::fs::write(&path, text).map_err(LearnerError::io(&path))?;
    Ok(path)
}

fn describe(batch: &Batch, problem: &LearnerError, learner: &Learner) -> Result<Value, LearnerError> {
    let weights_finite = tch::no_grad(|| learner.flat().f_sum(Kind::Double)?.f_double_value(&[]))?.is_finite();
    let answers = batch.groups.iter().flat_map(|scored| {
        scored.group.completions.iter().enumerate().map(|(sample, completion)| (scored.group.id(), sample, completion))
    });
    let not_finite: Vec<Value> = answers
        .filter(|(.., completion)| completion.logprobs.iter().any(|logprob| !logprob.is_finite()))
        .map(|(group, sample, _)| json!({"group": group, "sample": sample}))
        .collect();
    let groups: Vec<&_> = batch.groups.iter().map(AsRef::as_ref).collect();
    Ok(json!({
        "problem": problem.to_string(),
        "version": batch.version,
        "weights_finite": weights_finite,
        "answers_not_finite": not_finite,
        "groups": serde_json::to_value(groups).map_err(|e| LearnerError::Engine(format!("a batch is no JSON: {e}")))?,
    }))
}
