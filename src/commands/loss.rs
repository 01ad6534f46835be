//! `counterpoint loss`: the objectives that training uses, on cases from JSONL, in float64: {"loss", "grad"} per line.

use counterpoint_learner::evaluate_case;

use super::jsonl::{Input, Output};
use crate::cli::InputArgs;
use crate::error::Failure;

pub(crate) fn run(args: &InputArgs) -> Result<(), Failure> {
    let mut input = Input::open(Some(&args.input))?;
    let mut output = Output::stdout();
    while let Some(line) = input.line()? {
        let result = evaluate_case(&line).map_err(|e| input.malformed(e))?;
        output.write(&result)?;
    }
    output.flush()
}
