//! How often something may happen: log lines of a child, and its restarts. Pure: the time comes in from outside.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::pause::doubling;

/// Lets so many events through per second, and counts the others.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: u32,
    second_began: Option<Instant>,
    passed: u32,
    held_back: u64,
}

impl RateLimit {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, second_began: None, passed: 0, held_back: 0 }
    }

    /// Whether an event may pass; then also how many were held back since one last did.
    pub(super) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.second_began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            (self.second_began, self.passed) = (Some(now), 0);
        }
        if self.passed >= self.per_second {
            self.held_back += 1;
            return None;
        }
        self.passed += 1;
        Some(self.held_back())
    }

    /// How many were held back and not yet told of.
    pub(super) fn held_back(&mut self) -> u64 {
        std::mem::take(&mut self.held_back)
    }
}

/// How long to wait before a restart: longer with each failure in a row, and not the same for all.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    seed: u64,
}

impl Backoff {
    pub(super) const FIRST: Duration = Duration::from_millis(100);
    pub(super) const LONGEST: Duration = Duration::from_secs(2);

    /// Slots with different seeds wait for different times.
    pub(super) fn new(seed: u64) -> Self {
        Self { failures: 0, seed }
    }

    /// The wait after one more failure: between half and all of 0.1 s, 0.2 s, 0.4 s and so on, up to 2 s.
    pub(super) fn next(&mut self) -> Duration {
        let attempt = self.failures;
        self.failures = self.failures.saturating_add(1);
        let noise = mix(self.seed.wrapping_mul(0x1_0000).wrapping_add(u64::from(self.failures)));
        let chance = (noise >> 11) as f64 / (1_u64 << 53) as f64;
        doubling(Self::FIRST, Self::LONGEST, attempt, chance)
    }

    /// It works again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Scatters the bits of a number (the finaliser of MurmurHash3).
fn mix(mut number: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        number = (number ^ (number >> 33)).wrapping_mul(factor);
    }
    number ^ (number >> 33)
}

/// Counts restarts within a window of time.
#[derive(Debug)]
pub(super) struct Restarts {
    most: usize,
    window: Duration,
    /// When the last ones were, oldest first; at most `most` of them.
    times: VecDeque<Instant>,
}

impl Restarts {
    pub(super) fn new(most: usize, window: Duration) -> Self {
        Self { most, window, times: VecDeque::new() }
    }

    /// Whether one more restart is allowed; if so, it counts.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        while self.times.front().is_some_and(|&first| now.saturating_duration_since(first) >= self.window) {
            self.times.pop_front();
        }
        if self.times.len() >= self.most {
            return false;
        }
        self.times.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0_u64..700, 0..200)
    }

    /// The instants after `begin`, with these many milliseconds between them.
    fn instants(begin: Instant, steps: &[u64]) -> Vec<Instant> {
        let mut now = begin;
        steps
            .iter()
            .map(|&step| {
                now += Duration::from_millis(step);
                now
            })
            .collect()
    }

    proptest! {
        #[test]
        fn no_second_that_a_limit_counts_lets_more_through_and_every_event_is_told_of(
            steps in times(), per_second in 1_u32..5,
        ) {
            let mut limit = RateLimit::new(per_second);
            let (mut told, mut passed) = (0, Vec::new());
            for now in instants(Instant::now(), &steps) {
                if let Some(held_back) = limit.pass(now) {
                    told += held_back + 1;
                    passed.push(now);
                }
            }
            prop_assert_eq!(told + limit.held_back(), steps.len() as u64);
            // A window of one second overlaps at most two of the limit's seconds.
            for window in passed.windows(2 * per_second as usize + 1) {
                prop_assert!(*window.last().unwrap() - window[0] >= Duration::from_secs(1));
            }
        }

        #[test]
        fn waits_grow_to_a_bound_differ_between_slots_and_start_again_after_success(seed in any::<u64>()) {
            let (mut one, mut other) = (Backoff::new(seed), Backoff::new(seed ^ 1));
            let (waits, others): (Vec<_>, Vec<_>) = (0..40).map(|_| (one.next(), other.next())).unzip();
            for (failure, wait) in waits.iter().enumerate() {
                let full = Backoff::FIRST.saturating_mul(1 << failure.min(20)).min(Backoff::LONGEST);
                prop_assert!(*wait >= full / 2 && *wait <= full, "{wait:?} after {failure}");
            }
            prop_assert_ne!(waits, others);
            one.reset();
            prop_assert!(one.next() <= Backoff::FIRST);
        }

        #[test]
        fn no_window_has_more_restarts_than_allowed_and_none_is_refused_without_need(steps in times(), most in 0_usize..6) {
            let window = Duration::from_secs(1);
            let mut restarts = Restarts::new(most, window);
            let mut allowed: Vec<Instant> = Vec::new();
            for now in instants(Instant::now(), &steps) {
                let recent = allowed.iter().filter(|&&time| now - time < window).count();
                prop_assert_eq!(restarts.allow(now), recent < most);
                if recent < most {
                    allowed.push(now);
                }
            }
        }
    }
}
