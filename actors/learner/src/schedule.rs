use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The course of the learning rate after the warm-up; names as in transformers' `TrainingArguments`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedulerType {
    /// Stays at its peak.
    #[default]
    Constant,
    /// Falls on a line from its peak to the floor.
    Linear,
    /// Falls on half a cosine from its peak to the floor.
    Cosine,
    /// Stays at its peak, and falls to the floor over the last share of the steps.
    #[serde(alias = "wsd")]
    WarmupStableDecay,
}

/// How the last part of [`LrSchedulerType::WarmupStableDecay`] falls; names as in transformers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecayType {
    /// On a line.
    #[default]
    #[serde(rename = "linear")]
    Linear,
    /// On half a cosine.
    #[serde(rename = "cosine")]
    Cosine,
    /// As 1 − √progress (Hägele et al., arXiv 2405.18392).
    #[serde(rename = "1-sqrt")]
    OneMinusSqrt,
}

impl DecayType {
    /// From 1 at `progress` 0 to 0 at 1.
    fn shape(self, progress: f64) -> f64 {
        match self {
            Self::Linear => 1.0 - progress,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Self::OneMinusSqrt => 1.0 - progress.sqrt(),
        }
    }
}

/// The learning rate of each optimiser step.
///
/// Steps count from 1. During the warm-up step s takes s / `warmup` of the peak (transformers starts one step lower, at zero,
/// and so wastes its first step). What falls does so from the first step behind the warm-up (or behind the stable part),
/// which is still at the peak, and reaches its floor one step behind the last of `total`, as in transformers:
///
/// ```text
/// lr(s) = peak (floor + (1 − floor) shape(p)),   p = (s − first) / steps of the decay
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// The learning rate at its highest.
    pub peak: f64,
    /// What follows the warm-up.
    pub kind: LrSchedulerType,
    /// Steps until the peak.
    pub warmup: u64,
    /// Steps in all; without an end nothing falls.
    pub total: Option<u64>,
    /// The learning rate at the end, as a share of the peak.
    pub floor: f64,
    /// The share of all steps over which a [`LrSchedulerType::WarmupStableDecay`] falls, at the end.
    pub decay_share: f64,
    /// How it falls.
    pub decay: DecayType,
}

impl Schedule {
    /// The learning rate of optimiser step `step`, counted from 1.
    pub fn at(&self, step: u64) -> f64 {
        if step <= self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let Some(total) = self.total else { return self.peak };
        let behind_warmup = total.saturating_sub(self.warmup);
        let (steps, decay) = match self.kind {
            LrSchedulerType::Constant => return self.peak,
            LrSchedulerType::Linear => (behind_warmup, DecayType::Linear),
            LrSchedulerType::Cosine => (behind_warmup, DecayType::Cosine),
            LrSchedulerType::WarmupStableDecay => {
                (((total as f64 * self.decay_share).round() as u64).min(behind_warmup), self.decay)
            }
        };
        let first = self.warmup.max(total.saturating_sub(steps)) + 1;
        if step < first {
            return self.peak;
        }
        let progress = ((step - first) as f64 / steps.max(1) as f64).min(1.0);
        self.peak * (self.floor + (1.0 - self.floor) * decay.shape(progress))
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use proptest::prelude::*;

    use super::*;

    const KINDS: [LrSchedulerType; 4] = [
        LrSchedulerType::Constant,
        LrSchedulerType::Linear,
        LrSchedulerType::Cosine,
        LrSchedulerType::WarmupStableDecay,
    ];

    fn rates(schedule: &Schedule, steps: u64) -> Vec<f64> {
        (1..=steps).map(|s| (schedule.at(s) * 1e6).round() / 1e6).collect()
    }

    fn schedule(kind: LrSchedulerType, warmup: u64, total: Option<u64>) -> Schedule {
        Schedule { peak: 1.0, kind, warmup, total, ..Schedule::default() }
    }

    #[test]
    fn the_warm_up_is_linear_and_its_first_step_moves_whatever_follows() {
        assert_eq!(rates(&schedule(LrSchedulerType::Constant, 0, None), 2), [1.0, 1.0]);
        for kind in KINDS {
            let schedule = Schedule { floor: 0.5, decay_share: 0.1, ..schedule(kind, 4, Some(100)) };
            assert_eq!(rates(&schedule, 4), [0.25, 0.5, 0.75, 1.0], "{kind:?}");
        }
        assert_eq!(rates(&schedule(LrSchedulerType::Constant, 4, None), 6), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_cosine_falls_to_zero_behind_its_last_step_and_stays_there() {
        let cosine = |warmup, total| schedule(LrSchedulerType::Cosine, warmup, Some(total));
        assert_eq!(rates(&cosine(2, 6), 8), [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0, 0.0]);
        assert_eq!(rates(&cosine(3, 2), 5), [0.333333, 0.666667, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_line_falls_by_equal_steps_to_its_floor() {
        let linear = Schedule { floor: 0.2, ..schedule(LrSchedulerType::Linear, 2, Some(6)) };
        assert_eq!(rates(&linear, 8), [0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]);
    }

    #[test]
    fn a_stable_part_ends_where_the_last_share_of_all_steps_begins() {
        let wsd = |decay, decay_share| Schedule {
            decay,
            decay_share,
            ..schedule(LrSchedulerType::WarmupStableDecay, 2, Some(10))
        };
        let stable = [0.5, 1.0, 1.0, 1.0, 1.0, 1.0];
        let of = |decay| rates(&wsd(decay, 0.4), 11);
        assert_eq!(of(DecayType::Linear), [&stable[..], &[1.0, 0.75, 0.5, 0.25, 0.0]].concat());
        assert_eq!(of(DecayType::Cosine), [&stable[..], &[1.0, 0.853553, 0.5, 0.146447, 0.0]].concat());
        assert_eq!(of(DecayType::OneMinusSqrt), [&stable[..], &[1.0, 0.5, 0.292893, 0.133975, 0.0]].concat());
        // A share that would begin within the warm-up begins behind it; none falls behind the last step only.
        assert_eq!(rates(&wsd(DecayType::Linear, 1.0), 4), [0.5, 1.0, 1.0, 0.875]);
        assert_eq!(rates(&wsd(DecayType::Linear, 0.0), 10)[2..], [1.0; 8]);
    }

    proptest! {
        #[test]
        fn every_schedule_is_its_closed_form(
            peak in 1e-7f64..1.0, warmup in 0u64..50, tail in 1u64..200, floor in 0.0f64..1.0, share in 0.0f64..1.0,
            step in 1u64..300,
        ) {
            let total = warmup + tail;
            for kind in KINDS {
                for decay in [DecayType::Linear, DecayType::Cosine, DecayType::OneMinusSqrt] {
                    let schedule = Schedule { peak, kind, warmup, total: Some(total), floor, decay_share: share, decay };
                    let p = ((step as f64 - 1.0 - warmup as f64) / tail as f64).clamp(0.0, 1.0);
                    let falling = (total as f64 * share).round().min(tail as f64);
                    let q = ((step as f64 - 1.0 - (total as f64 - falling)) / falling.max(1.0)).clamp(0.0, 1.0);
                    let shape = match (kind, decay) {
                        _ if step <= warmup => {
                            prop_assert!((schedule.at(step) - peak * step as f64 / warmup as f64).abs() < 1e-12);
                            continue;
                        }
                        (LrSchedulerType::Constant, _) => 1.0,
                        (LrSchedulerType::Linear, _) => 1.0 - p,
                        (LrSchedulerType::Cosine, _) => (1.0 + (PI * p).cos()) / 2.0,
                        (_, DecayType::Linear) => 1.0 - q,
                        (_, DecayType::Cosine) => (1.0 + (PI * q).cos()) / 2.0,
                        (_, DecayType::OneMinusSqrt) => 1.0 - q.sqrt(),
                    };
                    let falls = if kind == LrSchedulerType::Constant { 1.0 } else { floor + (1.0 - floor) * shape };
                    prop_assert!((schedule.at(step) - peak * falls).abs() < 1e-12, "{schedule:?} at {step}");
                }
            }
        }
    }
}
