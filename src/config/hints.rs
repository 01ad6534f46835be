//! What to say of a key that does not exist: names that other trainers use, what is refused on purpose, and the nearest
//! known name.

const TRAINING_SAMPLES_WITH_TEMPERATURE_ONLY: &str = "training samples with temperature only, since the loss needs the \
    probability of every token under the distribution it was drawn from; `counterpoint generate` has its own sampling options";

/// (name, what to do instead), names in lower case. From TRL's GRPOConfig, verl's and OpenRLHF's settings.
const ELSEWHERE: &[(&str, &str)] = &[
    ("beta", "use objective.kl_coef for a KL penalty, objective.beta for dpo"),
    ("kl_coef", "use objective.kl_coef"),
    ("kl_loss_coef", "use objective.kl_coef"),
    ("entropy_coeff", "use objective.entropy_coef"),
    ("lr_min_ratio", "use learner.min_lr_ratio"),
    // These two are taken under [feed]; elsewhere they are told their place.
    ("group_size", "use feed.answers_per_prompt"),
    ("num_generations", "use feed.answers_per_prompt"),
    ("n_samples_per_prompt", "use feed.answers_per_prompt"),
    ("rollout_n", "use feed.answers_per_prompt"),
    ("lr", "use learner.learning_rate"),
    ("num_train_epochs", "use feed.epochs"),
    ("gradient_clipping", "use learner.max_grad_norm"),
    ("clip_grad", "use learner.max_grad_norm"),
    ("eta", "use replay.max_staleness (optimiser steps)"),
    ("train_batch_size", "use feed.prompts_per_step (mixed groups per optimiser step)"),
    ("batch_size", "use feed.prompts_per_step (mixed groups per optimiser step)"),
    ("rollout_batch_size", "use feed.prompts_per_step (mixed groups per optimiser step)"),
    ("per_device_train_batch_size", "use learner.micro_batch_tokens: micro-batches are cut by tokens"),
    ("micro_batch_size", "use learner.micro_batch_tokens: micro-batches are cut by tokens"),
    ("ppo_micro_batch_size_per_gpu", "use learner.micro_batch_tokens: micro-batches are cut by tokens"),
    (
        "gradient_accumulation_steps",
        "leave it out: micro-batches follow from learner.micro_batch_tokens and do not change the result",
    ),
    ("max_completion_length", "use generator.max_new_tokens"),
    ("max_response_length", "use generator.max_new_tokens"),
    ("max_tokens", "use generator.max_new_tokens"),
    ("max_length", "use generator.max_new_tokens"),
    ("model_name_or_path", "use model.path"),
    ("output_dir", "use run.dir"),
    ("max_train_steps", "use run.max_steps"),
    ("total_training_steps", "use run.max_steps"),
    ("sync_interval", "use weight_sync.every (optimiser steps between two publications)"),
    ("staleness_threshold", "use replay.max_staleness (optimiser steps)"),
    ("max_head_offpolicyness", "use replay.max_staleness (optimiser steps)"),
    ("stop_strings", "use generator.stop"),
    ("stop_sequences", "use generator.stop"),
    ("reward_funcs", "use verifier.name"),
    ("reward_model", "use verifier.name"),
    (
        "report_to",
        "leave it out: metrics are in Prometheus form under [telemetry] and in metrics.jsonl of the run directory",
    ),
    (
        "logging_dir",
        "leave it out: metrics are in Prometheus form under [telemetry] and in metrics.jsonl of the run directory",
    ),
    ("bf16", "use learner.compute_dtype"),
    ("fp16", "use model.dtype"),
    ("torch_dtype", "use model.dtype"),
];

/// An explanation for a well-known name that is no key here.
pub(super) fn explanation(section: &str, key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    let sampling =
        ["top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty"];
    if sampling.contains(&key.as_str()) && section != "eval" {
        return Some(TRAINING_SAMPLES_WITH_TEMPERATURE_ONLY);
    }
    ELSEWHERE.iter().find(|(name, _)| *name == key).map(|(_, help)| *help)
}

/// The most similar known name, if one is similar enough to be what was meant.
pub(super) fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let scored = known.map(|name| (strsim::normalized_damerau_levenshtein(&key, name), name));
    scored.filter(|(score, _)| *score >= 0.5).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}
