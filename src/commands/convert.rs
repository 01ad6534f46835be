//! `counterpoint convert`: a Hugging Face directory from a GGUF file.

use std::io::Write;

use counterpoint_policy::PolicyError;
use counterpoint_policy::gguf::{self, WeightFormat};

use crate::cli::{ConvertArgs, Dtype};
use crate::console::printable;
use crate::error::Failure;

pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let format = match args.dtype {
        Dtype::Auto => None,
        Dtype::Float32 => Some(WeightFormat::Float32),
        Dtype::Bfloat16 => Some(WeightFormat::Bfloat16),
        Dtype::Float16 => Some(WeightFormat::Float16),
    };
    let converted = gguf::convert(&args.file, &args.out, format).map_err(|error| match error {
        // A full disk is no mistake of the user's.
        PolicyError::Io { .. } if args.file.exists() => Failure::failed(error),
        other => Failure::usage(other),
    })?;
    for note in &converted.notes {
        eprintln!("counterpoint: note: {}", printable(note));
    }
    let written = writeln!(
        std::io::stdout(),
        "wrote {}: {}, {:.1} million parameters in {}, {} tokens of which {:?} end an answer, {} chat template",
        args.out.display(),
        converted.architecture,
        converted.parameters as f64 / 1e6,
        converted.format.name(),
        converted.tokens,
        converted.eos_tokens,
        if converted.chat_template { "with a" } else { "without a" },
    );
    match written {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        other => other.map_err(|e| Failure::Failed(format!("stdout: {e}"))),
    }
}
