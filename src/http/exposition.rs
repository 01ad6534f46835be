//! The metrics in Prometheus' text format.

use std::time::Duration;

use counterpoint_rollout::telemetry::{self, Kind};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// How often [`Exporter::keep_up`] works off recorded histogram samples; they use memory until then.
const UPKEEP: Duration = Duration::from_secs(5);

/// Renders what the recorder holds.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// Installs the process's recorder and describes every metric. Fails if there is a recorder already.
    pub fn install() -> Result<Self, String> {
        let recorder = recorder()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|e| format!("metrics: {e}"))?;
        telemetry::describe();
        Ok(Self(handle))
    }

    /// The exposition. Counters that the facade holds in microseconds are given in seconds, as their names say.
    pub fn render(&self) -> String {
        in_base_units(&self.0.render())
    }

    /// Bounds the recorder's memory; runs until the task is dropped or aborted.
    pub async fn keep_up(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// A recorder with the buckets of [`telemetry::METRICS`].
fn recorder() -> Result<PrometheusRecorder, String> {
    let mut builder = PrometheusBuilder::new();
    for metric in telemetry::METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                .map_err(|e| format!("metric {}: {e}", metric.name))?;
        }
    }
    Ok(builder.build_recorder())
}

fn in_base_units(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        match line.rsplit_once(' ') {
            Some((series, value)) if telemetry::MICROSECOND_COUNTERS.contains(&name) => {
                let microseconds: f64 = value.parse().unwrap_or(f64::NAN);
                out.push_str(&format!("{series} {}", microseconds / 1e6));
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use counterpoint_rollout::contract::StepReport;
    use counterpoint_rollout::{DropReason, PolicyVersion, Verdict, VoidReason};

    use super::*;

    /// An exporter with its own recorder, and what `record` recorded in it.
    pub(in crate::http) fn exporter_with(record: impl FnOnce()) -> Exporter {
        let recorder = recorder().unwrap();
        let exporter = Exporter(recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            telemetry::describe();
            record();
        });
        exporter
    }

    fn record_something_of_each_kind() {
        telemetry::group_issued();
        telemetry::group_dropped(DropReason::Unmixed);
        telemetry::groups_in_state("ready", 3);
        telemetry::verified(
            "exact\n\"quoted\" \\",
            &[Verdict::Correct, Verdict::Void(VoidReason::Timeout)],
            Duration::from_millis(3),
        );
        telemetry::actor_state("learner", "busy", Duration::from_millis(1500));
        telemetry::mailbox_depth("replay_generator", 2);
        telemetry::mailbox_wait("replay_generator", Duration::from_millis(3));
        telemetry::buffer(3, 9);
        telemetry::policy_version("learner", PolicyVersion(7));
        telemetry::weights_synced("complete", 100, Duration::from_millis(3));
        telemetry::weights_swapped(Duration::from_millis(1));
        telemetry::step_done(&StepReport { mismatch_tokens: 3, ..StepReport::default() });
        telemetry::judged_since_last_step(0.5, 0.0);
        telemetry::evaluated(0.5);
        telemetry::progress("learner");
        telemetry::restarted("learner");
        telemetry::resumed();
        telemetry::checkpointed("complete", Duration::from_secs(1));
        telemetry::invariant_broken("L-1");
        telemetry::process(1 << 30, Duration::from_secs(3));
    }

    /// What `promtool check metrics` complains about, for the names this program uses.
    fn lint(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut help = BTreeSet::new();
        let mut kinds = BTreeMap::new();
        for line in text.lines().filter(|l| !l.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                help.insert(rest.split(' ').next().unwrap());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                if kinds.insert(name, kind).is_some() {
                    problems.push(format!("{name}: two families of one name"));
                }
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|s| name.strip_suffix(s))
                    .filter(|f| kinds.get(f) == Some(&"histogram"));
                if !kinds.contains_key(family.unwrap_or(name)) {
                    problems.push(format!("{name}: a sample without a TYPE before it"));
                }
                if line.rsplit_once(' ').is_none_or(|(_, value)| value.parse::<f64>().is_err()) {
                    problems.push(format!("{line}: no number"));
                }
            }
        }
        for (name, kind) in &kinds {
            if !help.contains(name) {
                problems.push(format!("{name}: no help text"));
            }
            if name.ends_with("_total") != (*kind == "counter") {
                problems.push(format!("{name}: _total and the type counter go together"));
            }
            if ["_bucket", "_sum", "_count", "_gauge", "_counter", "_histogram"].iter().any(|s| name.ends_with(s)) {
                problems.push(format!("{name}: a suffix that Prometheus gives itself"));
            }
            let units =
                ["milliseconds", "microseconds", "minutes", "hours", "megabytes", "kilobytes", "percent", "ms", "mb"];
            if name.split('_').any(|word| units.contains(&word)) {
                problems.push(format!("{name}: not in base units"));
            }
        }
        problems
    }

    #[test]
    fn the_exposition_passes_the_rules_of_prometheus() {
        let text = exporter_with(record_something_of_each_kind).render();
        assert_eq!(lint(&text), Vec::<String>::new(), "{text}");
        assert!(text.lines().filter(|l| l.starts_with("# TYPE")).count() > 35, "{text}");
    }

    #[test]
    fn the_lint_sees_what_it_looks_for() {
        let bad = "# TYPE a_ms gauge\na_ms 1\n# HELP b x\n# TYPE b counter\nb 1\nc 1\n";
        assert_eq!(lint(bad).len(), 4, "{:?}", lint(bad));
    }

    #[test]
    fn counters_kept_in_microseconds_are_given_in_seconds() {
        let text = exporter_with(record_something_of_each_kind).render();
        assert!(
            text.contains("counterpoint_actor_state_seconds_total{actor=\"learner\",state=\"busy\"} 1.5\n"),
            "{text}"
        );
        assert!(text.contains("counterpoint_run_seconds_total 3\n"), "{text}");
    }

    #[test]
    fn histograms_have_the_buckets_of_the_table() {
        let text = exporter_with(record_something_of_each_kind).render();
        assert!(text.contains("counterpoint_weight_sync_pause_seconds_bucket{le=\"0.0003\"} 0\n"), "{text}");
        assert!(text.contains("counterpoint_weight_sync_pause_seconds_bucket{le=\"0.001\"} 1\n"), "{text}");
        assert!(!text.contains("quantile="), "{text}");
    }
}
