//! How fast the kind `math` judges: verdicts per second, and the time of one verdict, over the case files and hostile texts.
//!
//! `cargo bench -p counterpoint-verifier --bench latency [-- ROUNDS [FOLDER]]`; one thread, no actor. Prints one JSON object per
//! group of cases, times in microseconds. `best` are the same figures from each case's fastest round, which leaves out what else
//! the machine did. FOLDER: a group of its own, one case per file (truth, line break, completion), as the fuzz target `judge`
//! has them.
#![allow(clippy::unwrap_used, reason = "a bench may")]

#[path = "../tests/suite/mod.rs"]
mod suite;

use std::path::PathBuf;
use std::sync::Arc;

use counterpoint_verifier::{Question, Registry, Verdict, Verifier, VerifierConfig};
use serde_json::{Value, json};
use suite::hostile;
use tokio::time::Instant;

fn main() {
    // cargo itself passes `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let rounds = arguments.next().map_or(20, |rounds| rounds.parse().expect("ROUNDS is a whole number"));
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
    if let Some(folder) = arguments.next() {
        runtime.block_on(measure("folder", &math, &files(&folder), rounds));
    }
}

/// How many of the slowest are named.
const SLOWEST: usize = 5;

/// The cases of a folder; what is no UTF-8 is left out.
fn files(folder: &str) -> Vec<(String, Question)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let case = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).ok()?;
        let (answer, response) = text.split_once('\n').unwrap_or((&text, &text));
        Some((path.display().to_string(), Question::pair(response, answer)))
    };
    entries.filter_map(|entry| case(entry.unwrap().path())).collect()
}

/// Judges every case so many times and prints the distribution.
async fn measure(group: &str, math: &Arc<dyn Verifier>, cases: &[(String, Question)], rounds: usize) {
    let mut times = vec![Vec::with_capacity(rounds); cases.len()];
    let mut void = 0;
    let begin = Instant::now();
    for _ in 0..rounds {
        for (case, (_, question)) in cases.iter().enumerate() {
            let start = Instant::now();
            let verdicts = math.verify(question).await;
            times[case].push(start.elapsed().as_secs_f64() * 1e6);
            void += usize::from(matches!(verdicts[..], [Verdict::Void(_)]));
        }
    }
    let total = begin.elapsed().as_secs_f64();
    let named = |times: &[f64], case: usize| times.iter().map(|time| (*time, case)).collect::<Vec<_>>();
    let all = times.iter().enumerate().flat_map(|(case, times)| named(times, case)).collect();
    let best = times.iter().map(|times| times.iter().copied().fold(f64::INFINITY, f64::min));
    let best = best.enumerate().map(|(case, time)| (time, case)).collect();
    let mut shown = distribution(all, cases);
    shown["group"] = json!(group);
    shown["cases"] = json!(cases.len());
    shown["rounds"] = json!(rounds);
    shown["void"] = json!(void / rounds);
    shown["verdicts_per_second"] = round((cases.len() * rounds) as f64 / total);
    shown["best"] = distribution(best, cases);
    println!("{shown}");
}

/// Of times with the index of their case.
fn distribution(mut times: Vec<(f64, usize)>, cases: &[(String, Question)]) -> Value {
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |share: f64| round(times[((times.len() - 1) as f64 * share) as usize].0);
    let (slowest, _) = times[times.len() - 1];
    let names = times.iter().rev().map(|(time, case)| json!([cases[*case].0, round(*time)]));
    let names: Vec<_> = names.take(SLOWEST).collect();
    json!({
        "p50_us": at(0.5), "p99_us": at(0.99), "p99.9_us": at(0.999), "max_us": round(slowest), "slowest": names,
    })
}

fn round(value: f64) -> Value {
    json!((value * 10.0).round() / 10.0)
}
