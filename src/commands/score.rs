//! `counterpoint score`: log-probabilities of given tokens or of a completion behind its prompt, at temperature 1.
//!
//! {"ids": [...]} gives one log-prob per token but the first; {"prompt", "completion"} one per token of the completion.

use counterpoint_policy::{Kind, Scorer, device};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jsonl::{Input, Output};
use super::published::checked;
use crate::cli::ScoreArgs;
use crate::data::prompt_content;
use crate::error::Failure;

#[derive(Deserialize)]
struct Line {
    ids: Option<Vec<u32>>,
    prompt: Option<Value>,
    completion: Option<String>,
}

#[derive(Serialize)]
struct Scores {
    logprobs: Vec<f32>,
}

pub(crate) fn run(args: &ScoreArgs) -> Result<(), Failure> {
    let device = device::choose(&args.model.device).map_err(Failure::usage)?;
    let chat = args.model.chat.options()?;
    let dir = checked(&args.model.model)?;
    let scorer = Scorer::with_options(&dir, &chat, device, Kind::Float).map_err(Failure::usage)?;
    let mut input = Input::open(Some(&args.input.input))?;
    let mut output = Output::stdout();
    while let Some(line) = input.json::<Line>()? {
        let logprobs = score(&scorer, line).map_err(|e| input.malformed(e))?;
        output.write(&Scores { logprobs })?;
    }
    output.flush()
}

fn score(scorer: &Scorer, line: Line) -> Result<Vec<f32>, String> {
    match line {
        Line { ids: Some(ids), prompt: None, completion: None } => scorer.score_ids(&ids).map_err(|e| e.to_string()),
        Line { ids: None, prompt: Some(prompt), completion: Some(completion) } => {
            let prompt = prompt_content(&prompt).map_err(|e| format!("prompt: {e}"))?;
            scorer.score_completion(&prompt, &completion).map(|scored| scored.logprobs).map_err(|e| e.to_string())
        }
        _ => Err("expected either \"ids\" or both \"prompt\" and \"completion\"".to_owned()),
    }
}
