//! `counterpoint run`: trains.

use counterpoint_verifier::Registry;

use crate::cli::RunArgs;
use crate::error::Failure;
use crate::runtime::Start;
use crate::{config, console, runtime};

pub(crate) fn run(args: &RunArgs, registry: &Registry) -> Result<(), Failure> {
    let (path, overrides) = (&args.config.config, &args.config.overrides);
    let (config, forced) = match args.force {
        true => config::load_forced(path, overrides, registry),
        false => config::load(path, overrides, registry).map(|config| (config, Vec::new())),
    }
    .map_err(Failure::usage)?;
    let console = console::init();
    for problem in forced {
        tracing::warn!("forced: {problem}");
    }
    runtime::run(config, registry, Start { fresh: args.fresh, force: args.force }, console)
}
