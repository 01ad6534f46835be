//! The training clock: stops during evaluations, goes on over a resume.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds of training, without set-up and without evaluations in `pause` mode.
#[derive(Debug)]
pub(crate) struct TrainingClock {
    counted: Duration,
    running_since: Option<Instant>,
}

impl TrainingClock {
    /// A stopped clock that shows what an earlier part of the run had counted.
    pub(crate) fn stopped_at(counted: Duration) -> Self {
        Self { counted, running_since: None }
    }

    /// Runs, if it stood.
    pub(crate) fn start(&mut self) {
        self.running_since.get_or_insert_with(Instant::now);
    }

    /// Stands, if it ran.
    pub(crate) fn stop(&mut self) {
        if let Some(since) = self.running_since.take() {
            self.counted += since.elapsed();
        }
    }

    /// Whether it runs.
    pub(crate) fn running(&self) -> bool {
        self.running_since.is_some()
    }

    /// What it shows.
    pub(crate) fn read(&self) -> Duration {
        self.counted + self.running_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_counts_only_while_it_runs() {
        let second = Duration::from_secs(1);
        let mut clock = TrainingClock::stopped_at(10 * second);
        tokio::time::advance(second).await;
        clock.start();
        tokio::time::advance(2 * second).await;
        clock.start(); // a second start changes nothing
        tokio::time::advance(second).await;
        clock.stop();
        tokio::time::advance(second).await;
        assert_eq!(clock.read(), 13 * second);
    }
}
