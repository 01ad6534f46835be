//! Reads values out of the Prometheus exposition: the summary and the checkpoints take their counters from the very text that
//! users scrape, so the two cannot disagree.

use std::collections::BTreeMap;

use counterpoint_replay::LedgerTotals;
use counterpoint_rollout::telemetry;
use serde::{Deserialize, Serialize};

/// One counter's value at a checkpoint, as the `metrics` facade counts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    name: String,
    labels: Vec<(String, String)>,
    value: u64,
}

/// Every counter of the exposition.
pub(crate) fn counters(exposition: &str) -> Vec<Counter> {
    let is_counter =
        |name: &str| telemetry::METRICS.iter().any(|m| m.name == name && m.kind == telemetry::Kind::Counter);
    samples(exposition)
        .filter(|s| is_counter(s.name))
        .map(|s| {
            let scale = if telemetry::MICROSECOND_COUNTERS.contains(&s.name) { 1e6 } else { 1.0 };
            Counter { name: s.name.to_owned(), labels: s.labels(), value: (s.value * scale).round() as u64 }
        })
        .collect()
}

/// Puts counters back after a resume, except the ledger's: see [`restore_ledger`].
pub(crate) fn restore(counters: &[Counter]) {
    for counter in counters.iter().filter(|counter| !counter.name.starts_with("counterpoint_groups_")) {
        telemetry::restore_counter(&counter.name, &counter.labels, counter.value);
    }
}

/// Sets the groups' counters to what the ledger of a checkpoint says: between its cut and the reading of the counters, groups
/// may have gone on.
pub(crate) fn restore_ledger(totals: &LedgerTotals) {
    telemetry::restore_counter("counterpoint_groups_issued_total", &[], totals.issued);
    let groups = |outcome: &str, reason: &str, count| {
        let labels = [("outcome".to_owned(), outcome.to_owned()), ("reason".to_owned(), reason.to_owned())];
        telemetry::restore_counter("counterpoint_groups_total", &labels, count);
    };
    groups("trained", "", totals.trained);
    for (reason, count) in &totals.dropped {
        groups("dropped", reason.label(), *count);
    }
}

/// The sum of a metric over all label sets that contain `labels`.
pub(crate) fn total(exposition: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    samples(exposition)
        .filter(|s| s.name == name)
        .filter(|s| {
            let has = s.labels();
            labels.iter().all(|(k, v)| has.iter().any(|(hk, hv)| hk == k && hv == v))
        })
        .fold(0.0, |sum, s| sum + s.value)
}

/// The values of a metric by one of its labels, summed over the others.
pub(crate) fn by_label(exposition: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for sample in samples(exposition).filter(|s| s.name == name) {
        if let Some((_, value)) = sample.labels().into_iter().find(|(key, _)| key == label) {
            *sums.entry(value).or_default() += sample.value as u64;
        }
    }
    sums
}

/// The sum over all label sets in which one label starts with, and another equals, a value.
pub(crate) fn total_by_prefix(exposition: &str, name: &str, prefix: (&str, &str), label: (&str, &str)) -> f64 {
    samples(exposition)
        .filter(|s| s.name == name)
        .filter(|s| {
            let has = s.labels();
            has.iter().any(|(k, v)| k == prefix.0 && v.starts_with(prefix.1))
                && has.iter().any(|(k, v)| k == label.0 && v == label.1)
        })
        .fold(0.0, |sum, s| sum + s.value)
}

struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl Sample<'_> {
    fn labels(&self) -> Vec<(String, String)> {
        let mut labels = Vec::new();
        let mut rest = self.labels;
        while let Some((key, after)) = rest.split_once("=\"") {
            let mut value = String::new();
            let mut chars = after.char_indices();
            let mut end = after.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => match chars.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, escaped)) => value.push(escaped),
                        None => break,
                    },
                    c => value.push(c),
                }
            }
            labels.push((key.trim_start_matches(',').to_owned(), value));
            rest = &after[end..];
        }
        labels
    }
}

fn samples(exposition: &str) -> impl Iterator<Item = Sample<'_>> {
    exposition.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Sample { name, labels, value: value.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP counterpoint_groups_total Groups.\n# TYPE counterpoint_groups_total counter\n\
        counterpoint_groups_total{outcome=\"dropped\",reason=\"unmixed\"} 3\n\
        counterpoint_groups_total{outcome=\"trained\",reason=\"\"} 4\n\
        counterpoint_actor_state_seconds_total{actor=\"a\\\"b\",state=\"busy\"} 1.5\n\
        counterpoint_loss{part=\"total\"} -0.25\n";

    #[test]
    fn counters_survive_the_way_through_the_exposition() {
        let read = counters(TEXT);
        assert_eq!(read.len(), 3, "a gauge is no counter");
        assert_eq!(read[2].labels, [("actor".to_owned(), "a\"b".to_owned()), ("state".to_owned(), "busy".to_owned())]);
        assert_eq!(read[2].value, 1_500_000, "microseconds, as the facade counts");
    }

    #[test]
    fn a_total_sums_over_the_labels_not_asked_for() {
        assert_eq!(total(TEXT, "counterpoint_groups_total", &[]), 7.0);
        assert_eq!(total(TEXT, "counterpoint_groups_total", &[("outcome", "trained")]), 4.0);
        assert_eq!(total(TEXT, "counterpoint_loss", &[]), -0.25);
    }
}
