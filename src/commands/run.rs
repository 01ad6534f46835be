//! `counterpoint run`: trains.

use counterpoint_verifier::Registry;

use crate::cli::RunArgs;
use crate::error::Failure;
use crate::{config, console, runtime};

pub(crate) fn run(args: &RunArgs, registry: &Registry) -> Result<(), Failure> {
    let config = config::load(&args.config.config, &args.config.overrides, registry).map_err(Failure::usage)?;
    runtime::run(config, registry, args.fresh, console::init())
}
