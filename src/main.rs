//! The `counterpoint` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    counterpoint::App::new().main()
}
