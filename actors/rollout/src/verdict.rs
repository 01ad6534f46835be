use std::fmt;

use serde::{Deserialize, Serialize};

/// What a verifier says of one completion. A timeout or a crash is [`Verdict::Void`], never [`Verdict::Incorrect`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Right: score 1.
    Correct,
    /// Wrong: score 0.
    Incorrect,
    /// Partly right: a score within [0, 1].
    Soft(f32),
    /// No judgement was possible.
    Void(VoidReason),
}

/// Why there is no judgement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidReason {
    /// The verifier did not answer within its deadline.
    Timeout,
    /// The verifier panicked, exited or was lost.
    Crash,
    /// The verifier answered something that is no verdict (a wrong count, a score outside [0, 1]).
    Protocol,
    /// A deterministic work limit was exceeded.
    Budget,
    /// The verifier wrote more than it may.
    OutputLimit,
    /// The verifier is out of service: restarted too often, or its circuit breaker is open.
    Unavailable,
    /// The completion was cut off and the configuration says not to judge such.
    Truncated,
    /// The verifier said so itself, with its reason.
    Verifier(String),
}

impl VoidReason {
    /// The label under which metrics count it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Crash => "crash",
            Self::Protocol => "protocol",
            Self::Budget => "budget",
            Self::OutputLimit => "output_limit",
            Self::Unavailable => "unavailable",
            Self::Truncated => "truncated",
            Self::Verifier(_) => "verifier",
        }
    }
}

impl fmt::Display for VoidReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verifier(reason) => f.write_str(reason),
            other => f.write_str(other.label()),
        }
    }
}

impl Verdict {
    /// The score that training uses; `None` for a void verdict.
    pub fn score(&self) -> Option<f32> {
        match self {
            Self::Correct => Some(1.0),
            Self::Incorrect => Some(0.0),
            Self::Soft(score) => Some(*score),
            Self::Void(_) => None,
        }
    }

    /// A verdict from a score: 1 and 0 are right and wrong, what lies between is soft, anything else (NaN included) is a
    /// breach of the verifier contract.
    pub fn from_score(score: f32) -> Self {
        match score {
            1.0 => Self::Correct,
            0.0 => Self::Incorrect,
            s if (0.0..=1.0).contains(&s) => Self::Soft(s),
            _ => Self::Void(VoidReason::Protocol),
        }
    }

    /// `correct`, `incorrect`, `soft` or `void`: the label in files and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Incorrect => "incorrect",
            Self::Soft(_) => "soft",
            Self::Void(_) => "void",
        }
    }
}

impl From<bool> for Verdict {
    /// Right or wrong.
    fn from(right: bool) -> Self {
        if right { Self::Correct } else { Self::Incorrect }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_outside_the_unit_interval_is_void_and_never_incorrect() {
        for score in [f32::NAN, f32::INFINITY, -0.1, 1.1] {
            assert_eq!(Verdict::from_score(score), Verdict::Void(VoidReason::Protocol), "{score}");
        }
        assert_eq!(Verdict::from_score(1.0), Verdict::Correct);
        assert_eq!(Verdict::from_score(0.0), Verdict::Incorrect);
        assert_eq!(Verdict::from_score(0.25), Verdict::Soft(0.25));
    }
}
