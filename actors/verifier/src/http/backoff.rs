//! How long to wait before a call is tried again. Pure: chance and time are passed in.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, UNIX_EPOCH};

use crate::pause::doubling;

/// The longest pause of the back-off itself; a server may ask for a longer one.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses that double from attempt to attempt, up to ten seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration) -> Self {
        Self { first }
    }

    /// The pause after the failed attempt number `attempt` (from 0). `chance`, within [0, 1), takes away up to half of it, so
    /// that clients that failed together do not come back together.
    pub(super) fn pause(&self, attempt: u32, chance: f64) -> Duration {
        doubling(self.first, LONGEST, attempt, chance)
    }
}

/// A number within [0, 1), another one each time.
pub(super) fn chance() -> f64 {
    // The keys of a new `RandomState` differ each time, which is random enough to spread clients out.
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// The pause that a header `Retry-After` asks for: seconds, or a date, which has passed or lies ahead of `unix_seconds`.
pub(super) fn retry_after(header: &str, unix_seconds: f64) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(header.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::try_from_secs_f64(date.as_secs_f64() - unix_seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_and_chance_takes_away_up_to_half() {
        let backoff = Backoff::new(Duration::from_millis(200));
        let pauses = [0, 1, 2, 5, 6, 40, u32::MAX].map(|attempt| backoff.pause(attempt, 0.0).as_millis());
        assert_eq!(pauses, [200, 400, 800, 6400, 10_000, 10_000, 10_000]);
        assert_eq!(backoff.pause(0, 0.5), Duration::from_millis(150));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after("120", 0.0), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(" 0 ", 0.0), Some(Duration::ZERO));
        assert_eq!(retry_after(&u64::MAX.to_string(), 0.0), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(retry_after(date, 784_111_770.0), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(date, 999_111_770.0), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "1.5", "18446744073709551616"] {
            assert_eq!(retry_after(nonsense, 0.0), None, "{nonsense}");
        }
    }

    #[test]
    fn chance_differs_each_time_and_keeps_to_its_range() {
        let draws: Vec<f64> = (0..1000).map(|_| chance()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
        assert!(draws.windows(2).all(|pair| pair[0] != pair[1]));
    }

    proptest! {
        #[test]
        fn a_pause_is_within_half_of_its_full_length(attempt in 0u32..100, chance in 0.0..1.0, first in 1u64..20_000) {
            let backoff = Backoff::new(Duration::from_millis(first));
            let (pause, full) = (backoff.pause(attempt, chance), backoff.pause(attempt, 0.0));
            prop_assert!(pause <= full && full <= LONGEST && pause >= full.mul_f64(0.5));
            prop_assert!(full <= backoff.pause(attempt + 1, 0.0));
        }
    }
}
