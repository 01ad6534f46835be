//! The pause before another attempt. Pure: chance is passed in.

use std::time::Duration;

/// The pause after the failed attempt number `attempt` (from 0): `first`, doubled from attempt to attempt, up to `longest`.
/// `chance`, within [0, 1], takes away up to half of it, so that those that failed together do not come back together.
pub(crate) fn doubling(first: Duration, longest: Duration, attempt: u32, chance: f64) -> Duration {
    let doubled = 2_u32.checked_pow(attempt).and_then(|factor| first.checked_mul(factor));
    doubled.map_or(longest, |pause| pause.min(longest)).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}
