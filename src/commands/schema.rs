//! `counterpoint schema`: the JSON Schema of the config, for editors and checkers.

use std::io::Write;

use crate::config;
use crate::error::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&config::json_schema()).map_err(Failure::failed)?;
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        other => other.map_err(|e| Failure::Failed(format!("stdout: {e}"))),
    }
}
