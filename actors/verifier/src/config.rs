use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Section `[verifier]`: who judges the answers, how many groups at once, and for how long.
///
/// ```toml
/// [verifier]
/// name = "loose"
///
/// [verifier.define.loose]
/// kind = "exact"
/// case = "insensitive"
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifierConfig {
    /// Who judges: a built-in kind, a kind that a plug-in registered, or the `<id>` of a `[verifier.define.<id>]`. A kind
    /// named here directly has its default options. Default: `exact`.
    pub name: String,
    /// Which actor schedules the judging: `pool`, the built-in one, or one that a program registered. Default: `pool`.
    pub actor: String,
    /// How many groups are judged at once; the others wait in order of arrival. Default: 4.
    pub workers: usize,
    /// Seconds from a group's arrival at the verifier to its verdicts, its wait for a worker included; what is late is void
    /// (`timeout`). At most a day. Default: 30.
    pub deadline_seconds: f64,
    /// What becomes of answers that the token limit cut off. Default: `incorrect`.
    pub truncated: TruncatedPolicy,
    /// How many judgements may run on after their deadline (threads that hang, and cannot be killed) before the verifier
    /// counts as broken and fails. Default: 16.
    pub max_abandoned: usize,
    /// Verifiers with options: `[verifier.define.<id>]` has a `kind` and that kind's options. Default: none.
    pub define: BTreeMap<String, Definition>,
}

/// What becomes of answers that the token limit cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TruncatedPolicy {
    /// They are wrong, without asking the verifier (NFT, arXiv 2505.18116).
    #[default]
    Incorrect,
    /// The verifier judges them like any other.
    Judge,
    /// They are void, and with them their group.
    Void,
}

/// A verifier with its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Definition {
    /// A built-in kind or one that a plug-in registered.
    pub kind: String,
    /// The options of that kind.
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

/// The longest deadline: a bound that keeps sums of instants far from overflow.
pub(crate) const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for VerifierConfig {
    fn default() -> Self {
        Self {
            name: "exact".into(),
            actor: "pool".into(),
            workers: 4,
            deadline_seconds: 30.0,
            truncated: TruncatedPolicy::Incorrect,
            max_abandoned: 16,
            define: BTreeMap::new(),
        }
    }
}

impl VerifierConfig {
    /// Pushes one message per value out of range. Names and options are checked by
    /// [`Registry::validate`](crate::Registry::validate), which knows the kinds.
    pub fn validate(&self, errors: &mut Vec<String>) {
        if self.workers == 0 {
            errors.push("verifier.workers: must be at least 1, got 0".into());
        }
        let longest = LONGEST_DEADLINE.as_secs_f64();
        if !(self.deadline_seconds > 0.0 && self.deadline_seconds <= longest) {
            let got = self.deadline_seconds;
            errors.push(format!("verifier.deadline_seconds: must be > 0 and at most {longest}, got {got}"));
        }
    }

    /// `deadline_seconds` as a duration; a value that [`validate`](Self::validate) refuses becomes the longest deadline.
    pub fn deadline(&self) -> Duration {
        Duration::try_from_secs_f64(self.deadline_seconds).map_or(LONGEST_DEADLINE, |d| d.min(LONGEST_DEADLINE))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_defaults_are_valid_and_an_empty_section_is_the_defaults() {
        let mut errors = Vec::new();
        VerifierConfig::default().validate(&mut errors);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(serde_json::from_value::<VerifierConfig>(json!({})).unwrap(), VerifierConfig::default());
    }

    #[test]
    fn every_value_out_of_range_is_reported_at_once() {
        for (seconds, shown) in [(0.0, "0"), (-1.0, "-1"), (f64::NAN, "NaN"), (1e9, "1000000000")] {
            let config = VerifierConfig { workers: 0, deadline_seconds: seconds, ..Default::default() };
            let mut errors = Vec::new();
            config.validate(&mut errors);
            let late = format!("verifier.deadline_seconds: must be > 0 and at most 86400, got {shown}");
            assert_eq!(errors, ["verifier.workers: must be at least 1, got 0".to_owned(), late]);
            assert!(config.deadline() <= LONGEST_DEADLINE);
        }
    }

    #[test]
    fn a_definition_keeps_the_options_of_its_kind_and_needs_a_kind() {
        let section = json!({"name": "loose", "define": {"loose": {"kind": "exact", "case": "insensitive"}}});
        let config: VerifierConfig = serde_json::from_value(section).unwrap();
        assert_eq!(config.define["loose"].kind, "exact");
        assert_eq!(config.define["loose"].options["case"], "insensitive");
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!(serde_json::from_value::<VerifierConfig>(again).unwrap(), config);
        let error = serde_json::from_value::<VerifierConfig>(json!({"define": {"loose": {}}})).unwrap_err();
        assert!(error.to_string().contains("missing field `kind`"), "{error}");
    }
}
