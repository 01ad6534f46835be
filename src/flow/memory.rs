//! What memory a run needs, from its config and the model's config.json alone, and whether this machine has it.
//!
//! With P parameters, of which T are trained (all, those outside `learner.frozen`, or an adapter's), a run holds for certain, in
//! float32, the learner's weights (4·P bytes), gradients (4·T) and AdamW's two moments (8·T); and in the c bytes of
//! `learner.compute_dtype` the weights last published (c·P), those that the learner computes with, if c is not 4 (c·P), and
//! with `objective.kl_coef` those of the reference (c·P). With an adapter (`[lora]`) its own values come on top, and the frozen
//! model is the reference. What else there is depends on the answers: a second published copy while weights are swapped (c·P), a
//! third while one is written to `weight_sync.directory`,
//! the packed weights of engines that run the kernels (4·P each, 8·P in generators that take new ones while they run, for η > 0),
//! the KV caches, at most slots · longest sequence · 2 · layers · kv_heads · head_dim · c, and the activations and logits of a
//! micro-batch, which are counted from the shapes that backward keeps (with `learner.activation_checkpointing` of one layer, and
//! what each reads) and are right to some ten percent. The memory of libtorch itself, of the data and of the allocator's slack
//! is in none of it. So what is certain and does not fit is refused, and the sum within a tenth of what is free is warned of.

use std::path::Path;

use counterpoint_learner::HEAD_CHUNK;
use counterpoint_policy::kernels::WeightFormat;
use counterpoint_policy::{Device, Layout, LoraLayout, ModelConfig, Parameters, Publish, device};

use crate::config::Config;
use crate::error::Failure;

/// Share of the free memory above which a run is warned.
const CLOSE: f64 = 0.9;

/// What holds memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// In words.
    pub(crate) what: &'static str,
    /// At most.
    pub(crate) bytes: u64,
    /// Of these, what every run holds from its first step to its end.
    pub(crate) certain: u64,
}

/// The estimate, in the order of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) parts: Vec<Part>,
    /// Why the caches are too small for the longest answer, if they are.
    starved: Option<String>,
}

/// Main memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// All of it, or what the control group allows.
    pub(crate) total: u64,
    /// What new processes can have of it now.
    pub(crate) free: u64,
}

impl Memory {
    /// The estimate for a model of this shape.
    pub(crate) fn of(config: &Config, model: &ModelConfig) -> Self {
        // In training, and in passes.
        let (wide, bytes) = (config.model.dtype.bytes(), compute_bytes(config));
        let numel = size(model.parameters());
        let (weights, copy) = (numel.saturating_mul(wide), numel.saturating_mul(bytes));
        let generators = u64::from(config.generator.count);
        let context = (config.generator.max_prompt_tokens + config.generator.max_new_tokens) as u64;
        let cached = context.min(size(model.max_positions));
        let cache_per_token = size(model.kv_bytes_per_token(1)).saturating_mul(bytes);
        let evaluators = u64::from(config.data.holds_out());
        let slots = (config.generator.slots as u64).saturating_mul(generators + evaluators);
        let certain = |what, bytes| Part { what, bytes, certain: bytes };
        let possible = |what, bytes| Part { what, bytes, certain: 0 };
        // The kernels run float32 on a CPU, an adapter folded in; each engine has its own.
        let kernels = config.generator.kernels && bytes == 4 && !(config.lora.publish == Publish::Separate);
        // A generator that takes weights while it runs packs them beside those in use.
        let buffers = 1 + u64::from(config.replay.max_staleness > 0);
        let panel = match config.generator.kernel_weights {
            WeightFormat::Float32 => weights,
            WeightFormat::Bfloat16 => weights / 2,
        };
        let panels = panel.saturating_mul(buffers * generators).saturating_add(weights.saturating_mul(evaluators));
        let panels = if kernels { panels } else { 0 };
        let caches = slots.saturating_mul(cached).saturating_mul(cache_per_token);
        let allowed =
            config.generator.kv_memory_mb.filter(|_| kernels).map_or(u64::MAX, |mib| mib.saturating_mul(1 << 20));
        let caches_allowed = allowed.saturating_mul(generators + evaluators);
        let mut parts = Vec::new();
        let adapter = adapter(config, model);
        // Beside an adapter the frozen model is the reference.
        if config.objective.kl_coef > 0.0 && adapter.is_none() {
            parts.push(certain("weights of the reference (objective.kl_coef)", copy));
        }
        parts.push(certain("weights of the learner", weights));
        if bytes != wide {
            parts.push(certain("weights that it computes with (learner.compute_dtype)", copy));
        }
        parts.extend(adapter.map(|adapter| certain("adapter", adapter.saturating_mul(wide))));
        let separate = adapter.filter(|_| config.lora.publish == Publish::Separate);
        let published = separate.map_or(copy, |adapter| adapter.saturating_mul(bytes));
        let written = if config.weight_sync.directory.is_some() { published } else { 0 };
        let layout = Layout::new(model);
        let trained = adapter.unwrap_or_else(|| size(Parameters::count_trained(&layout, &config.learner.frozen)));
        let trained = trained.saturating_mul(wide);
        // Summed apart from what the embedding gets as such.
        let tied = layout.head().filter(|_| adapter.is_none() && model.tied).map_or(0, |head| size(head.numel()));
        parts.extend([
            certain("gradients", trained),
            certain("optimiser (AdamW, two moments)", trained.saturating_mul(2)),
            possible("gradient of a tied output projection", tied.saturating_mul(wide)),
            // Generators of one process share an immutable snapshot; a second one exists while a swap is under way.
            certain("published weights in use", published),
            possible("published weights arriving", published),
            possible("published weights on their way to weight_sync.directory", written),
            possible("weights in panels for the kernels", panels),
            possible("KV caches with every slot full", caches.min(caches_allowed)),
            possible("activations of one micro-batch", activations(config, model).saturating_mul(bytes)),
            possible("logits of one chunk and what is made of them", logits(config, model).saturating_mul(3 * wide)),
        ]);
        Self { parts, starved: config.generator.lacks_kv_memory(model) }
    }

    /// All parts together.
    pub(crate) fn total(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// What is certain of it.
    pub(crate) fn certain(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.certain))
    }

    /// Whether this machine has it.
    pub(crate) fn fit(&self, machine: Machine) -> Fit {
        if let Some(why) = &self.starved {
            return Fit::Exceeds(why.clone());
        }
        let (certain, total) = (self.certain(), self.total());
        if certain > machine.total {
            return Fit::Exceeds(format!(
                "model.path: does not fit: weights, gradients, optimiser and published weights alone take {}, the machine has {}; \
                 choose a smaller model or a larger machine",
                spoken(certain),
                spoken(machine.total)
            ));
        }
        if total as f64 > CLOSE * machine.free as f64 {
            return Fit::Close(format!(
                "memory: up to {} are needed and {} are free; lower learner.micro_batch_tokens, generator.slots or \
                 generator.max_new_tokens if it does not fit",
                spoken(total),
                spoken(machine.free)
            ));
        }
        Fit::Fits
    }
}

impl Machine {
    /// This one, if the kernel says.
    pub(crate) fn here() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let group = group_limit().unwrap_or(u64::MAX);
        Some(Self { total: field(&text, "MemTotal")?.min(group), free: field(&text, "MemAvailable")?.min(group) })
    }

    /// One with so many GiB, all of them free.
    pub(crate) fn of_gib(gib: f64) -> Self {
        // Saturates, as casts of floats do.
        let bytes = (gib * f64::from(1 << 30)) as u64;
        Self { total: bytes, free: bytes }
    }

    /// The machine whose main memory bounds this run: none where the model is on a GPU, whose memory is not known here.
    pub(crate) fn of_run(config: &Config) -> Option<Self> {
        match device::choose(&config.run.device) {
            Ok(Device::Cpu) => Self::here(),
            _ => None,
        }
    }
}

/// Whether a run fits into a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// With room to spare, as far as is known.
    Fits,
    /// Within a tenth of what is free, or above it.
    Close(String),
    /// It cannot: why, and what to change.
    Exceeds(String),
}

/// Whether the config's model can be trained on this machine; the model's directory must be there.
pub(crate) fn judge(config: &Config) -> Result<Fit, Failure> {
    let model = ModelConfig::from_dir(&config.model.path).map_err(|e| Failure::usage(e).context("model.path"))?;
    Ok(Machine::of_run(config).map_or(Fit::Fits, |machine| Memory::of(config, &model).fit(machine)))
}

/// A line of /proc/meminfo, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}

/// The memory limit of this process's control group (version 2), if it has one.
fn group_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(own).join("memory.max")).ok()?;
    limit.trim().parse().ok() // "max" is none
}

/// Elements of the adapter, if one is trained. One that cannot be is refused when the run begins.
fn adapter(config: &Config, model: &ModelConfig) -> Option<u64> {
    let layout = config.lora.enabled().then(|| LoraLayout::new(model, &config.lora).ok())?;
    layout.map(|layout| size(layout.numel()))
}

/// Elements that backward keeps: per token and layer two norm inputs and outputs, q, k, v, the attention's output, all four laid
/// out for attention (where each answer has the keys of its prompt before its own), the MLP's gate, up, activated gate and
/// product, two residual sums. Where layers are computed again, of one layer, and what each reads.
fn activations(config: &Config, model: &ModelConfig) -> u64 {
    let (hidden, inner, layers) = (size(model.hidden_size), size(model.intermediate_size), model.layers as u64);
    let (heads, kv_heads, width) = (size(model.heads), size(model.kv_heads), size(model.head_dim));
    let prompts = u64::from(config.feed.answers_per_prompt).saturating_mul(config.generator.max_prompt_tokens as u64);
    let copied_keys = prompts.div_ceil(longest_row(config).max(1));
    let attention = width * (4 * heads + 2 * kv_heads * (2 + copied_keys));
    let of_layer = 6 * hidden + attention + 4 * inner;
    let per_token = match config.learner.activation_checkpointing {
        true => of_layer + (layers + 1) * hidden,
        false => layers * of_layer,
    };
    micro_batch(config).saturating_mul(per_token)
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
    config.learner.micro_batch_tokens_on(device_of(config)) as u64
}

/// Bytes of a number in a pass.
fn compute_bytes(config: &Config) -> u64 {
    config.learner.compute_kind_on(device_of(config)).elt_size_in_bytes() as u64
}

/// The run's device; one that is not here is a GPU.
fn device_of(config: &Config) -> Device {
    device::choose(&config.run.device).unwrap_or(Device::Cuda(0))
}

/// A group's answers behind their prompt, as far as a micro-batch holds them.
fn longest_row(config: &Config) -> u64 {
    let answers = u64::from(config.feed.answers_per_prompt).saturating_mul(config.generator.max_new_tokens as u64);
    answers.saturating_add(config.generator.max_prompt_tokens as u64).min(micro_batch_limit(config))
}

/// A size of a model's shape, which [`ModelConfig`] has checked to be positive.
fn size(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Bytes as people say them.
pub(crate) fn spoken(bytes: u64) -> String {
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
    use counterpoint_learner::ComputeDtype;

    use super::*;

    /// 4 layers, 64 wide: some hundred thousand parameters.
    fn small() -> ModelConfig {
        ModelConfig::from_dir(Path::new("configs/arith")).unwrap()
    }

    #[test]
    fn what_is_certain_is_five_times_the_weights_and_a_sixth_with_a_reference() {
        let (mut config, model) = (Config::default(), small());
        let weights = 4 * model.parameters() as u64;
        assert_eq!(Memory::of(&config, &model).certain(), 5 * weights);
        config.objective.kl_coef = 0.1;
        let memory = Memory::of(&config, &model);
        assert_eq!(memory.certain(), 6 * weights);
        assert!(memory.total() > memory.certain());
    }

    #[test]
    fn settings_that_save_memory_are_counted() {
        let model = small();
        let of = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            Memory::of(&config, &model)
        };
        let part = |memory: &Memory, what: &str| -> u64 {
            memory.parts.iter().filter(|part| part.what.contains(what)).map(|part| part.bytes).sum()
        };
        let plain = of(|_| ());
        let weights = 4 * model.parameters() as u64;
        let again = of(|config| config.learner.activation_checkpointing = true);
        let (kept, kept_again) = (part(&plain, "activations"), part(&again, "activations"));
        assert!(2 * kept_again < kept, "{kept_again} of {kept}");
        let frozen = of(|config| config.learner.frozen = vec!["layers".to_owned()]);
        assert!(part(&frozen, "gradients") < part(&plain, "gradients") / 4, "{frozen:?}");
        assert_eq!(part(&frozen, "optimiser"), 2 * part(&frozen, "gradients"));
        assert_eq!(part(&frozen, "weights of the learner"), weights);
        let narrow = of(|config| config.learner.compute_dtype = ComputeDtype::Bfloat16);
        // Weights, gradients and two moments in four bytes, a copy to compute with and a published one in two.
        assert_eq!(narrow.certain(), 5 * weights);
        assert_eq!(part(&narrow, "weights that it computes with"), weights / 2);
        assert_eq!(part(&narrow, "published weights in use"), weights / 2);
        assert_eq!(2 * part(&narrow, "activations"), kept);
    }

    #[test]
    fn what_surely_exceeds_is_refused_and_what_comes_near_is_warned_of() {
        let memory = Memory::of(&Config::default(), &small());
        let machine = |total, free| Machine { total, free };
        let (certain, total) = (memory.certain(), memory.total());
        assert!(
            matches!(memory.fit(machine(certain - 1, total)), Fit::Exceeds(why) if why.contains("the machine has"))
        );
        assert!(matches!(memory.fit(machine(u64::MAX, total)), Fit::Close(why) if why.contains("generator.slots")));
        assert_eq!(memory.fit(machine(certain, total * 10 / 8)), Fit::Fits);
    }

    #[test]
    fn caches_below_one_longest_answer_are_refused_with_the_number_that_would_do() {
        let (mut config, model) = (Config::default(), small());
        config.generator.kv_memory_mb = Some(1);
        let plenty = Machine { total: u64::MAX, free: u64::MAX };
        let Fit::Exceeds(why) = Memory::of(&config, &model).fit(plenty) else { panic!("1 MiB is enough?") };
        let needed: u64 = why.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap();
        assert!(why.starts_with("generator.kv_memory_mb: 1 is too little"), "{why}");
        config.generator.kv_memory_mb = Some(needed);
        assert_eq!(Memory::of(&config, &model).fit(plenty), Fit::Fits);
    }

    #[test]
    fn the_kernels_figures_are_read_in_bytes() {
        let text = "MemTotal:       16000 kB\nMemAvailable:    8000 kB\n";
        assert_eq!((field(text, "MemTotal"), field(text, "MemAvailable")), (Some(16_384_000), Some(8_192_000)));
        assert_eq!(field(text, "MemFree"), None);
    }

    #[test]
    fn bytes_are_spoken_in_binary_units() {
        assert_eq!([spoken(5), spoken(1536), spoken(3 << 30)], ["5 B", "1.5 KiB", "3.0 GiB"]);
    }
}
