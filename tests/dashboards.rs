//! Dashboards and alert rules name metrics that exist, and the dashboard shows every metric.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::path::Path;

use counterpoint_rollout::telemetry::{Kind, METRICS};

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(name)).unwrap()
}

/// Every `counterpoint_...` in a text.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|w| w.starts_with("counterpoint_")).map(str::to_owned).collect()
}

/// The names under which a family's series are queried.
fn series() -> BTreeSet<String> {
    let of = |m: &counterpoint_rollout::telemetry::Metric| match m.kind {
        Kind::Histogram(_) => {
            ["_bucket", "_sum", "_count"].iter().map(|s| format!("{}{s}", m.name)).collect::<Vec<_>>()
        }
        _ => vec![m.name.to_owned()],
    };
    METRICS.iter().flat_map(of).collect()
}

/// Every query of the dashboard.
fn expressions(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            out.extend(fields.get("expr").and_then(|e| e.as_str()).map(str::to_owned));
            fields.values().for_each(|v| expressions(v, out));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|v| expressions(v, out)),
        _ => {}
    }
}

#[test]
fn every_metric_that_the_dashboard_asks_for_exists_and_every_metric_is_shown() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("counterpoint.json")).unwrap();
    let mut queries = Vec::new();
    expressions(&dashboard, &mut queries);
    assert!(queries.len() > 40);
    let asked = names(&queries.join("\n"));
    let series = series();
    let unknown: Vec<_> = asked.difference(&series).collect();
    assert!(unknown.is_empty(), "no such metric: {unknown:?}");
    let shown = |name: &str| {
        asked
            .iter()
            .any(|a| a == name || a.strip_prefix(name).is_some_and(|s| ["_bucket", "_sum", "_count"].contains(&s)))
    };
    let hidden: Vec<_> = METRICS.iter().map(|m| m.name).filter(|name| !shown(name)).collect();
    assert!(hidden.is_empty(), "on no panel: {hidden:?}");
}

#[test]
fn every_metric_that_an_alert_asks_for_exists() {
    let asked = names(&read("alerts.yml"));
    assert!(asked.len() >= 6);
    let series = series();
    let unknown: Vec<_> = asked.difference(&series).collect();
    assert!(unknown.is_empty(), "no such metric: {unknown:?}");
}
