//! What a run will need, from its config and the model's config.json alone.
//!
//! Weights, gradients, optimiser and caches are exact; activations are counted from the shapes that backward keeps and are
//! right to some ten percent. The memory of libtorch itself, of the data and of the allocator's slack comes on top.

use counterpoint_learner::HEAD_CHUNK;
use counterpoint_policy::{Device, LoraLayout, ModelConfig, Publish, device};

use crate::config::Config;

/// Bytes, by what holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// In the order of the report.
    pub(super) parts: Vec<(&'static str, u64)>,
}

impl Memory {
    /// The estimate for a model of this shape.
    pub(super) fn of(config: &Config, model: &ModelConfig) -> Self {
        let bytes = config.model.dtype.bytes();
        let weights = size(model.parameters()).saturating_mul(bytes);
        let generators = u64::from(config.generator.count);
        let context = (config.generator.max_prompt_tokens + config.generator.max_new_tokens) as u64;
        let cached = context.min(size(model.max_positions));
        let cache_per_token = size(model.kv_bytes_per_token(1)).saturating_mul(bytes);
        let evaluators = u64::from(config.data.holds_out());
        let slots = config.generator.slots as u64 * (generators + evaluators);
        let mut parts = Vec::new();
        // Beside an adapter the frozen model is the reference.
        let adapter = adapter(config, model).map(|numel| numel.saturating_mul(bytes));
        if config.objective.kl_coef > 0.0 && adapter.is_none() {
            parts.push(("weights of the reference (objective.kl_coef)", weights));
        }
        let trained = adapter.unwrap_or(weights);
        parts.push(("weights of the learner", weights));
        parts.extend(adapter.map(|adapter| ("adapter", adapter)));
        let separate = adapter.is_some() && config.lora.publish == Publish::Separate;
        let published = if separate { trained } else { weights };
        parts.extend([
            ("gradients", trained),
            ("optimiser (AdamW, two moments)", trained.saturating_mul(2)),
            // Generators of one process share an immutable snapshot; a second one exists while a swap is under way.
            ("published weights (one in use, one arriving)", published.saturating_mul(2)),
            ("KV caches with every slot full", slots.saturating_mul(cached).saturating_mul(cache_per_token)),
            ("activations of one micro-batch", activations(config, model).saturating_mul(bytes)),
            ("logits of one chunk and what is made of them", logits(config, model).saturating_mul(3 * bytes)),
        ]);
        Self { parts }
    }

    /// All parts together.
    pub(super) fn total(&self) -> u64 {
        self.parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// Elements of the adapter, if one is trained. One that cannot be is refused when the run begins.
fn adapter(config: &Config, model: &ModelConfig) -> Option<u64> {
    let layout = config.lora.enabled().then(|| LoraLayout::new(model, &config.lora).ok())?;
    layout.map(|layout| size(layout.numel()))
}

/// Elements that backward keeps: per token and layer two norm inputs and outputs, q, k, v, the attention's output, the MLP's
/// gate, up, activated gate and product, two residual sums; and the mask of one row.
fn activations(config: &Config, model: &ModelConfig) -> u64 {
    let (hidden, inner) = (size(model.hidden_size), size(model.intermediate_size));
    let attention = size(model.head_dim) * (2 * size(model.heads) + 2 * size(model.kv_heads));
    let per_token = model.layers as u64 * (6 * hidden + attention + 4 * inner);
    let row = longest_row(config);
    micro_batch(config).saturating_mul(per_token).saturating_add(row.saturating_mul(row))
}

/// Logits in memory at a time: those of the trained tokens, at most every token of a micro-batch, as far as a chunk holds them.
fn logits(config: &Config, model: &ModelConfig) -> u64 {
    micro_batch(config).saturating_mul(size(model.vocab_size)).min(HEAD_CHUNK.max(size(model.vocab_size)))
}

/// Tokens of the largest micro-batch: its limit, or the whole batch.
fn micro_batch(config: &Config) -> u64 {
    let batch = u64::from(config.feed.prompts_per_step).saturating_mul(longest_row(config));
    batch.min(micro_batch_limit(config))
}

/// As the learner will choose it; for a device that is not here, the larger.
fn micro_batch_limit(config: &Config) -> u64 {
    let device = device::choose(&config.run.device).unwrap_or(Device::Cuda(0));
    config.learner.micro_batch_tokens_on(device) as u64
}

/// A group's answers behind their prompt, as far as a micro-batch holds them.
fn longest_row(config: &Config) -> u64 {
    let answers = u64::from(config.feed.answers_per_prompt).saturating_mul(config.generator.max_new_tokens as u64);
    answers.saturating_add(config.generator.max_prompt_tokens as u64).min(micro_batch_limit(config))
}

/// How the run flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// (η + 1)·B: what admission allows.
    pub(super) groups_in_flight: u64,
    /// B·K.
    pub(super) answers_per_step: u64,
    /// B·K times the longest answer.
    pub(super) tokens_per_step: u64,
    /// Publications of weights in the whole run.
    pub(super) publications: u64,
}

impl Flow {
    /// Of a config.
    pub(super) fn of(config: &Config) -> Self {
        let (batch, answers) = (u64::from(config.feed.prompts_per_step), u64::from(config.feed.answers_per_prompt));
        let answers_per_step = batch * answers;
        Self {
            groups_in_flight: (u64::from(config.replay.max_staleness) + 1).saturating_mul(batch),
            answers_per_step,
            tokens_per_step: answers_per_step.saturating_mul(config.generator.max_new_tokens as u64),
            publications: config.run.max_steps / config.weight_sync.every.max(1),
        }
    }
}

/// A size of a model's shape, which [`ModelConfig`] has checked to be positive.
fn size(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Bytes as people say them.
pub(super) fn spoken(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_flows_as_the_paper_says() {
        let mut config = Config::default();
        config.feed.prompts_per_step = 32;
        config.feed.answers_per_prompt = 16;
        config.replay.max_staleness = 15;
        config.weight_sync.every = 16;
        config.run.max_steps = 160;
        let flow = Flow::of(&config);
        assert_eq!((flow.groups_in_flight, flow.answers_per_step, flow.publications), (512, 512, 10));
    }

    #[test]
    fn bytes_are_spoken_in_binary_units() {
        assert_eq!([spoken(5), spoken(1536), spoken(3 << 30)], ["5 B", "1.5 KiB", "3.0 GiB"]);
    }
}
