use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The course of the learning rate after the warm-up; names as in transformers' `TrainingArguments`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedulerType {
    /// Stays at its peak.
    Constant,
    /// Half a cosine from its peak to zero at the last step.
    Cosine,
}

/// The learning rate of each optimiser step.
///
/// Steps count from 1. During the warm-up step s takes s / `warmup` of the peak (transformers starts one step lower, at zero,
/// and so wastes its first step). A cosine with `total` steps reaches zero one step behind the last.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The learning rate at its highest.
    pub peak: f64,
    /// What follows the warm-up.
    pub kind: LrSchedulerType,
    /// Steps until the peak.
    pub warmup: u64,
    /// Steps in all; a cosine without an end stays constant.
    pub total: Option<u64>,
}

impl Schedule {
    /// The learning rate of optimiser step `step`, counted from 1.
    pub fn at(&self, step: u64) -> f64 {
        if step <= self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        match (self.kind, self.total) {
            (LrSchedulerType::Cosine, Some(total)) => {
                let behind = (step - self.warmup - 1) as f64;
                let progress = (behind / total.saturating_sub(self.warmup).max(1) as f64).min(1.0);
                self.peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
            _ => self.peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kind: LrSchedulerType, warmup: u64, total: Option<u64>, steps: u64) -> Vec<f64> {
        let schedule = Schedule { peak: 1.0, kind, warmup, total };
        (1..=steps).map(|s| (schedule.at(s) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn the_warm_up_is_linear_and_its_first_step_moves() {
        assert_eq!(rates(LrSchedulerType::Constant, 4, None, 6), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(rates(LrSchedulerType::Constant, 0, None, 2), [1.0, 1.0]);
    }

    #[test]
    fn a_cosine_falls_to_zero_behind_its_last_step_and_stays_there() {
        assert_eq!(rates(LrSchedulerType::Cosine, 2, Some(6), 8), [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0, 0.0]);
        assert_eq!(rates(LrSchedulerType::Cosine, 3, Some(2), 5), [0.333333, 0.666667, 1.0, 1.0, 0.0]);
    }
}
