//! Relations between settings of different sections; each section checks its own values.
//!
//! [`flow`] finds what cannot flow: settings each of which is possible, with which a run would wait for ever or teach nothing.
//! Only these may be forced (`run --force`): such a run ends as stalled, and says what it waits for.

use counterpoint_learner::WeightDecayGroups;

use super::Config;

/// (η + 1)·B, the groups that admission lets be in flight; queues of this length are allocated.
const MAX_GROUPS_IN_FLIGHT: u64 = 1_000_000;

/// Pushes one message per relation that does not hold.
pub(super) fn validate(config: &Config, errors: &mut Vec<String>) {
    let staleness = u64::from(config.replay.max_staleness);
    let in_flight = u64::from(config.feed.prompts_per_step).saturating_mul(staleness + 1);
    if in_flight > MAX_GROUPS_IN_FLIGHT {
        errors.push(format!(
            "feed.prompts_per_step: {} with replay.max_staleness = {staleness} lets {in_flight} groups be in flight; at most \
             {MAX_GROUPS_IN_FLIGHT} are supported: lower one of the two",
            config.feed.prompts_per_step
        ));
    }
    if config.lora.enabled() && !config.learner.frozen.is_empty() {
        errors.push(
            "learner.frozen: with an adapter (lora.rank) the whole model is frozen; leave it out and choose \
             lora.target_modules"
                .to_owned(),
        );
    }
    if config.lora.enabled() && config.learner.weight_decay_groups != WeightDecayGroups::default() {
        errors.push(
            "learner.weight_decay_groups: an adapter (lora.rank) has neither embeddings nor norms; leave it out and set \
             learner.weight_decay"
                .to_owned(),
        );
    }
    if config.run.target_accuracy.is_some() && !config.data.holds_out() {
        errors.push(
            "run.target_accuracy: needs evaluations: set data.eval to a JSONL file of held-out questions".to_owned(),
        );
    }
}

/// Pushes one message, with the numbers and the key to change, per reason why no step would ever be trained.
pub(super) fn flow(config: &Config, errors: &mut Vec<String>) {
    let batch = u64::from(config.feed.prompts_per_step);
    let (every, staleness) = (config.weight_sync.every, u64::from(config.replay.max_staleness));
    // Admission lets out η + 1 batches per loaded version (positions up to (version + η + 1)·B). With n > η + 1 the learner
    // has trained all of them before it publishes again: it would wait for groups that wait for a publication that waits
    // for the learner.
    if every > staleness + 1 {
        errors.push(format!(
            "weight_sync.every: {every} with replay.max_staleness = {staleness} cannot flow: one publication admits {} steps' \
             worth of groups, and the next comes after {every}; lower it to {} or raise replay.max_staleness to {}",
            staleness + 1,
            staleness + 1,
            every - 1,
        ));
    }
    if let Some(limit) = config.replay.max_in_flight.filter(|&limit| limit < batch) {
        errors.push(format!(
            "replay.max_in_flight: {limit} with feed.prompts_per_step = {batch} cannot flow: a step needs {batch} mixed groups, and \
             no more than {limit} would ever be there; raise it to at least {batch}, or leave it out"
        ));
    }
    if config.feed.answers_per_prompt == 1 {
        errors.push(format!(
            "feed.answers_per_prompt: 1 cannot teach: objective.name = \"{}\" learns from groups whose scores differ, and those of \
             one answer never do; raise it to at least 2",
            config.objective.name
        ));
    }
}
