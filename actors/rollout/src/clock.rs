//! The one place that reads the operating system's clocks. Actors use tokio's clock, which a test can pause; an engine's own
//! thread neither holds nor sees that clock, so it measures durations with [`Stopwatch`] and reports those, never instants.

use std::time::Duration;

/// Measures how long something took, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts measuring.
    #[allow(clippy::disallowed_methods, reason = "this is the module that may")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Time since the start, and starts again.
    pub fn lap(&mut self) -> Duration {
        let elapsed = self.elapsed();
        self.0 += elapsed;
        elapsed
    }
}

/// Seconds since the Unix epoch, for timestamps that people read; never for a decision.
#[allow(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn unix_seconds() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
