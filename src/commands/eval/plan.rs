//! What `counterpoint eval` is asked to do, from a config, from options, or from a config with options that win.

use std::path::PathBuf;

use counterpoint_generator::{EvalConfig, GeneratorConfig};
use counterpoint_policy::ChatOptions;
use counterpoint_verifier::{Registry, VerifierConfig};

use crate::cli::{EvalArgs, EvalSampling};
use crate::commands::verify;
use crate::config::{self, DataConfig};
use crate::error::Failure;

/// What is evaluated, and how.
pub(super) struct Plan {
    pub(super) model: PathBuf,
    pub(super) chat: ChatOptions,
    pub(super) device: String,
    pub(super) data: DataConfig,
    pub(super) eval: EvalConfig,
    pub(super) generator: GeneratorConfig,
    pub(super) verifier: VerifierConfig,
    pub(super) seed: u64,
}

impl Plan {
    pub(super) fn new(args: &EvalArgs, registry: &Registry) -> Result<Self, Failure> {
        let mut plan = match &args.config {
            Some(path) => {
                let config = config::load(path, &args.overrides, registry).map_err(Failure::usage)?;
                Self {
                    chat: config.model.chat_options(),
                    model: config.model.path,
                    device: config.run.device,
                    data: config.data,
                    eval: config.eval,
                    generator: config.generator,
                    verifier: config.verifier,
                    seed: config.run.seed,
                }
            }
            None => Self {
                // clap has seen to it that both are there.
                model: args.model.clone().unwrap_or_default(),
                chat: args.chat.options()?,
                data: DataConfig { eval: args.data.clone().map(Into::into), ..DataConfig::default() },
                device: args.device.clone().unwrap_or_else(|| "auto".to_owned()),
                eval: EvalConfig::default(),
                generator: GeneratorConfig::default(),
                verifier: match &args.verifier {
                    Some(name) => verify::section(name, None, registry)?,
                    None => VerifierConfig::default(),
                },
                seed: 0,
            },
        };
        plan.apply(&args.sampling);
        let mut errors = Vec::new();
        plan.eval.validate(&mut errors);
        plan.generator.validate(&mut errors);
        // They name keys of [eval] and [generator]; the options have the same names.
        if errors.is_empty() { Ok(plan) } else { Err(Failure::Usage(errors.join("\n"))) }
    }

    fn apply(&mut self, sampling: &EvalSampling) {
        fn set<T: Clone>(place: &mut T, option: &Option<T>) {
            if let Some(value) = option {
                place.clone_from(value);
            }
        }
        let eval = &mut self.eval;
        set(&mut eval.samples, &sampling.samples);
        set(&mut eval.temperature, &sampling.temperature);
        set(&mut eval.top_k, &sampling.top_k);
        set(&mut eval.top_p, &sampling.top_p);
        set(&mut eval.min_p, &sampling.min_p);
        set(&mut eval.repetition_penalty, &sampling.repetition_penalty);
        eval.max_new_tokens = sampling.max_new_tokens.or(eval.max_new_tokens);
        eval.limit = sampling.limit.or(eval.limit);
        if !sampling.stop.is_empty() {
            eval.stop = Some(sampling.stop.clone());
        }
        set(&mut self.generator.max_prompt_tokens, &sampling.max_prompt_tokens);
        set(&mut self.generator.slots, &sampling.slots);
        set(&mut self.seed, &sampling.seed);
    }
}
