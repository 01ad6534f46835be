//! The report of an evaluation as the user reads it.

use std::collections::BTreeMap;
use std::path::Path;

use counterpoint_generator::{Estimate, EvalFigures, PromptScores};
use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::samples::Answered;

pub(super) fn shown(plan: &Plan, answered: &[Answered], seconds: f64) -> Value {
    let k = plan.eval.samples;
    let mut out = Map::new();
    let path = |p: &Path| Value::from(p.display().to_string());
    out.insert("model".to_owned(), path(&plan.model));
    let data = plan.data.eval.as_ref().map_or_else(|| plan.data.train_name(), ToString::to_string);
    out.insert("data".to_owned(), Value::String(data));
    out.insert("samples".to_owned(), json!(k));
    figures(&mut out, k, answered.iter().map(|a| &a.scores));
    if k > 1 {
        let by_verifier = answered.iter().all(|a| a.extracted);
        out.insert("majority_of".to_owned(), json!(if by_verifier { "answers" } else { "texts" }));
    }
    let mut sources: BTreeMap<&str, Vec<&PromptScores>> = BTreeMap::new();
    for prompt in answered {
        sources.entry(&prompt.source).or_default().push(&prompt.scores);
    }
    if sources.len() > 1 {
        let of = |(source, scores): (&str, Vec<&PromptScores>)| {
            let mut out = Map::new();
            figures(&mut out, k, scores);
            (source.to_owned(), Value::Object(out))
        };
        out.insert("sources".to_owned(), Value::Object(sources.into_iter().map(of).collect()));
    }
    out.insert("seconds".to_owned(), json!(seconds));
    Value::Object(out)
}

fn figures<'a>(out: &mut Map<String, Value>, k: u32, scores: impl IntoIterator<Item = &'a PromptScores>) {
    let figures = EvalFigures::of(k, scores);
    let mut estimates: Vec<(String, &Estimate)> =
        figures.pass_at_k.iter().map(|(j, estimate)| (format!("pass@{j}"), estimate)).collect();
    estimates.push((format!("mean@{k}"), &figures.mean));
    if k > 1 {
        estimates.push((format!("majority@{k}"), &figures.majority));
    }
    out.insert("prompts".to_owned(), json!(figures.prompts));
    for (name, estimate) in &estimates {
        out.insert(name.clone(), json!(estimate.value));
    }
    let all = |value: fn(&Estimate) -> Value| {
        Value::Object(estimates.iter().map(|(name, estimate)| (name.clone(), value(estimate))).collect())
    };
    out.insert("standard_error".to_owned(), all(|e| json!(e.standard_error)));
    out.insert("interval_95".to_owned(), all(|e| json!(e.interval)));
    out.insert("void_share".to_owned(), json!(figures.void_share));
    out.insert("truncated_share".to_owned(), json!(figures.truncated_share));
    out.insert("mean_tokens".to_owned(), json!(figures.mean_tokens));
}
