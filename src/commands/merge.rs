//! `counterpoint merge`: a model directory from a base and a LoRA adapter.

use std::io::Write;

use counterpoint_policy::{Kind, PolicyError, checkpoint};

use crate::cli::{Dtype, MergeArgs};
use crate::error::Failure;

pub(crate) fn run(args: &MergeArgs) -> Result<(), Failure> {
    let kind = match args.dtype {
        Dtype::Auto => None,
        Dtype::Float32 => Some(Kind::Float),
        Dtype::Bfloat16 => Some(Kind::BFloat16),
        Dtype::Float16 => Some(Kind::Half),
    };
    let merged = checkpoint::merge(&args.base, &args.adapter, &args.out, kind).map_err(|error| match error {
        // A full disk is no mistake of the user's.
        PolicyError::Io { .. } if args.base.exists() && args.adapter.exists() => Failure::failed(error),
        other => Failure::usage(other),
    })?;
    let out = args.out.display();
    let written =
        writeln!(std::io::stdout(), "wrote {out}: {} tensors, {} of them adapted", merged.tensors, merged.adapted);
    match written {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        other => other.map_err(|e| Failure::Failed(format!("stdout: {e}"))),
    }
}
