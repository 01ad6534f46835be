//! How fast the kind `math` judges: verdicts per second, and the time of one verdict, over the case files and hostile texts.
//!
//! `cargo bench -p counterpoint-verifier --bench latency [-- ROUNDS]`; one thread, no actor. Prints one JSON object per group of
//! cases, times in microseconds.

#[path = "../tests/suite/hostile.rs"]
mod hostile;
#[path = "../tests/suite/mod.rs"]
mod suite;

use std::sync::Arc;

use counterpoint_verifier::{Question, Registry, Verdict, Verifier, VerifierConfig};
use serde_json::json;
use tokio::time::Instant;

fn main() {
    // cargo itself passes `--bench`.
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20);
    let config = VerifierConfig { name: "math".into(), ..VerifierConfig::default() };
    let math = Registry::default().build(&config).expect("math is built in");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let plain = |case: &suite::Case| case.kind == "math" && case.options.is_empty() && case.verifier.is_none();
    let cases = suite::cases().into_iter().filter(plain);
    let cases: Vec<_> = cases.map(|case| (case.id.clone(), case.question())).collect();
    runtime.block_on(measure("cases", &math, &cases, rounds));
    let named = hostile::texts().into_iter();
    let cases: Vec<_> = named.map(|(name, response, answer)| (name.into(), Question::pair(response, answer))).collect();
    runtime.block_on(measure("hostile", &math, &cases, rounds));
}

/// Judges every case so many times and prints the distribution.
async fn measure(group: &str, math: &Arc<dyn Verifier>, cases: &[(String, Question)], rounds: usize) {
    let mut times = Vec::with_capacity(cases.len() * rounds);
    let mut void = 0;
    let begin = Instant::now();
    for _ in 0..rounds {
        for (id, question) in cases {
            let start = Instant::now();
            let verdicts = math.verify(question).await;
            times.push((start.elapsed().as_secs_f64() * 1e6, id));
            void += usize::from(matches!(verdicts[..], [Verdict::Void(_)]));
        }
    }
    let total = begin.elapsed().as_secs_f64();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |share: f64| round(times[((times.len() - 1) as f64 * share) as usize].0);
    let slowest = &times[times.len() - 1];
    println!(
        "{}",
        json!({
            "group": group, "cases": cases.len(), "rounds": rounds, "void": void / rounds,
            "verdicts_per_second": round(times.len() as f64 / total),
            "p50_us": at(0.5), "p99_us": at(0.99), "p99.9_us": at(0.999), "max_us": round(slowest.0), "slowest": slowest.1,
        })
    );
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
