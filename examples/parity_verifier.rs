//! A verifier of one's own: an answer is right if it has the parity of the truth. Trains like the built-in ones:
//! `cargo run --release --example parity_verifier -- run configs/quickstart.toml verifier.name=parity run.dir=runs/parity`
use std::process::ExitCode;
use std::sync::Arc;

use counterpoint::verifier::{Question, Verifier, async_trait};
use counterpoint::{App, Verdict};

struct Parity;

#[async_trait]
impl Verifier for Parity {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let even = |number: &str| number.trim().parse::<i64>().map(|n| n % 2 == 0).ok();
        question.each(|response| even(response).is_some() && even(response) == even(question.answer()))
    }
}

fn main() -> ExitCode {
    App::new().verifier("parity", |_options| Ok(Arc::new(Parity))).main()
}
