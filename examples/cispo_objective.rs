//! An objective of one's own: CISPO (MiniMax-M1, arXiv 2506.13585). The importance ratio is clipped and carries no gradient, so
//! that every token keeps its gradient, however far the policy has moved:
//!
//! ```text
//! l = −min(R, 1 + high) A log π_θ        A = c − r̂,  mean over the tokens of the batch
//! ```
//! `cargo run --release --example cispo_objective -- run configs/quickstart.toml objective.name=cispo run.dir=runs/cispo`
use std::process::ExitCode;

use counterpoint::App;
use counterpoint::objective::{Answer, LearnerError, Loss, Map, Objective, Plan, Tokens, Value};

#[derive(Debug)]
struct Cispo {
    high: f64,
}

/// Of one batch: every answer, and the share of one token in the mean.
struct Batch {
    high: f64,
    answers: Vec<Answer>,
    share: f64,
}

impl Objective for Cispo {
    fn plan(&self, answers: &[Answer]) -> Box<dyn Plan> {
        let tokens: u64 = answers.iter().map(|answer| answer.tokens).sum();
        Box::new(Batch { high: self.high, answers: answers.to_vec(), share: 1.0 / tokens.max(1) as f64 })
    }
}

impl Plan for Batch {
    fn loss(&self, tokens: &Tokens<'_>) -> Result<Loss, LearnerError> {
        let [advantage, score, share] = tokens.of_answers(|number| {
            let Answer { score, rate, .. } = self.answers[number];
            [score - rate, score, self.share]
        })?;
        let ratio = tokens.logp_new.f_detach()?.f_sub(tokens.logp_old)?.f_exp()?.f_clamp_max(1.0 + self.high)?;
        let loss = ratio.f_mul(&advantage)?.f_mul(tokens.logp_new)?.f_neg()?;
        Loss::of_tokens(&loss, &share, &score)
    }
}

fn cispo(options: &Map<String, Value>) -> Result<Box<dyn Objective>, String> {
    match options.get("high").map_or(Some(0.28), Value::as_f64) {
        Some(high) if high >= 0.0 => Ok(Box::new(Cispo { high })),
        _ => Err("high: expected a number >= 0".to_owned()),
    }
}

fn main() -> ExitCode {
    App::new().objective("cispo", cispo).main()
}
