//! What a step takes and who waits, from the rates of the actors.
//!
//! The model is a pipeline of batches. Batch i is sampled behind batch i - 1, once the weights of version i - η at least are loaded
//! and, with `replay.max_in_flight`, once there is room for it; then it is judged, behind the batch before it; then it is trained,
//! behind the batch before it. Every n-th step publishes, and the weights are loaded a publication later. This is the rule of
//! admission at the grain of batches: it knows neither the spread of lengths within a batch nor refills for unmixed groups (both
//! make η = 0 slower than said here), nor that the two sides share a machine's memory bandwidth.

use crate::config::Config;

/// Steps that are played through one by one; the others go on as the last of these.
const PLAYED: u64 = 20_000;

/// How fast each actor is when nobody lets it wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// Tokens per second of all generators together.
    pub(crate) sampled: f64,
    /// Tokens of answers that the learner trains per second.
    pub(crate) trained: f64,
    /// Answers per second that the verifier judges with all its workers.
    pub(crate) verdicts: f64,
    /// Seconds until one group is judged.
    pub(crate) verdict_seconds: f64,
    /// Seconds from the end of a step until its weights are loaded.
    pub(crate) publish_seconds: f64,
    /// Mean tokens of an answer.
    pub(crate) answer_tokens: f64,
    /// Share of the groups that are mixed.
    pub(crate) mixed: f64,
}

/// Seconds per step, by what takes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forecast {
    /// To sample the groups of a step, those that turn out unmixed included.
    pub(crate) sampling: f64,
    /// To judge them, the verifier being busy all the time.
    pub(crate) judging: f64,
    /// To train them.
    pub(crate) training: f64,
    /// From step to step, once the pipeline is full.
    pub(crate) step: f64,
    /// From the first lease to the last step.
    pub(crate) whole: f64,
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Learner,
    Generators,
    Both,
}

impl Forecast {
    /// Of a config that flows.
    pub(crate) fn of(config: &Config, rates: &Rates) -> Self {
        let answers = f64::from(config.feed.prompts_per_step) * f64::from(config.feed.answers_per_prompt);
        let sampled = answers / rates.mixed;
        let (sampling, judging) = (sampled * rates.answer_tokens / rates.sampled, sampled / rates.verdicts);
        let training = answers * rates.answer_tokens / rates.trained;
        let forecast = Self { sampling, judging, training, step: 0.0, whole: 0.0 };
        forecast.played(config, rates)
    }

    fn played(self, config: &Config, rates: &Rates) -> Self {
        let (eta, every) = (u64::from(config.replay.max_staleness), config.weight_sync.every.max(1));
        let room =
            config.replay.max_in_flight.map(|limit| (limit / u64::from(config.feed.prompts_per_step).max(1)).max(1));
        let steps = config.run.max_steps.clamp(1, PLAYED);
        // Ends of training, by step; the others only of the last step.
        let mut trained: Vec<f64> = Vec::new();
        let (mut sampled, mut judged) = (0.0f64, 0.0f64);
        let end_of = |trained: &[f64], step: Option<u64>| {
            step.and_then(|step| trained.get(usize::try_from(step).ok()?)).copied().unwrap_or(0.0)
        };
        for batch in 0..steps {
            // The first published version that is at least batch - η; its weights are those after so many steps.
            let version = batch.saturating_sub(eta).div_ceil(every) * every;
            let loaded =
                version.checked_sub(1).map_or(0.0, |last| end_of(&trained, Some(last)) + rates.publish_seconds);
            let place = end_of(&trained, room.and_then(|room| batch.checked_sub(room)));
            sampled = sampled.max(loaded).max(place) + self.sampling;
            judged = (sampled + rates.verdict_seconds).max(judged + self.judging);
            trained.push(judged.max(trained.last().copied().unwrap_or(0.0)) + self.training);
        }
        let last = trained.last().copied().unwrap_or(0.0);
        // Over whole periods of publication, so that none counts by halves.
        let period = ((steps / 2) / every * every).max(1).min(steps - 1);
        let step = match usize::try_from(steps - 1 - period).ok().and_then(|before| trained.get(before)) {
            Some(before) if period > 0 => (last - before) / period as f64,
            _ => last,
        };
        let whole = last + (config.run.max_steps - steps) as f64 * step;
        Self { step, whole, ..self }
    }

    /// Seconds per step that the learner has nothing to train.
    pub(crate) fn learner_waits(&self) -> f64 {
        (self.step - self.training).max(0.0)
    }

    /// Seconds per step that the generators may start nothing.
    pub(crate) fn generators_wait(&self) -> f64 {
        (self.step - self.sampling).max(0.0)
    }

    /// Who waits for whom: both, where they take turns; nobody is no case, since one side is always the slower.
    pub(crate) fn waiting(&self) -> Side {
        let waits = |seconds: f64| seconds > 0.05 * self.step;
        match (waits(self.learner_waits()), waits(self.generators_wait())) {
            (true, true) => Side::Both,
            (true, false) => Side::Learner,
            (false, _) => Side::Generators,
        }
    }
}

/// Seconds as people say them.
pub(crate) fn spoken_seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.2} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of 10 answers of 10 tokens: at these rates 2 s to sample, 1 s to train, no time else.
    const RATES: Rates = Rates {
        sampled: 50.0,
        trained: 100.0,
        verdicts: f64::INFINITY,
        verdict_seconds: 0.0,
        publish_seconds: 0.0,
        answer_tokens: 10.0,
        mixed: 1.0,
    };

    fn config(eta: u32, every: u64) -> Config {
        let mut config = Config::default();
        config.feed.prompts_per_step = 5;
        config.feed.answers_per_prompt = 2;
        config.replay.max_staleness = eta;
        config.weight_sync.every = every;
        config.run.max_steps = 1000;
        config
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn without_staleness_a_step_is_the_sum_and_both_sides_wait() {
        let rates = Rates { verdict_seconds: 0.5, publish_seconds: 0.25, ..RATES };
        let forecast = Forecast::of(&config(0, 1), &rates);
        assert!(near(forecast.step, 3.75), "{forecast:?}");
        assert_eq!(forecast.waiting(), Side::Both);
        assert!(near(forecast.whole, 1000.0 * 3.75 - 0.25), "{forecast:?}");
    }

    #[test]
    fn with_staleness_a_step_is_the_slower_side_and_the_other_waits() {
        let rates = Rates { verdict_seconds: 0.5, ..RATES };
        let forecast = Forecast::of(&config(2, 1), &rates);
        assert!(near(forecast.step, 2.0) && near(forecast.learner_waits(), 1.0), "{forecast:?}");
        assert_eq!(forecast.waiting(), Side::Learner);
        let quick = Forecast::of(&config(2, 1), &Rates { sampled: 200.0, ..rates });
        assert!(near(quick.step, 1.0) && near(quick.generators_wait(), 0.5), "{quick:?}");
        assert_eq!(quick.waiting(), Side::Generators);
    }

    #[test]
    fn rare_publications_make_the_generators_wait_for_weights() {
        // n = η + 1 = 3: three batches take 6 s to sample, the last is trained 1 s later, and only then weights come.
        let forecast = Forecast::of(&config(2, 3), &RATES);
        assert!(near(forecast.step, 7.0 / 3.0), "{forecast:?}");
    }

    #[test]
    fn a_limit_in_flight_makes_the_sides_take_turns() {
        let mut config = config(4, 1);
        config.replay.max_in_flight = Some(5);
        assert!(near(Forecast::of(&config, &RATES).step, 3.0));
    }

    #[test]
    fn a_slow_verifier_is_the_bound_and_unmixed_groups_cost_sampling() {
        let slow = Forecast::of(&config(2, 1), &Rates { verdicts: 2.0, ..RATES });
        assert!(near(slow.step, 5.0), "{slow:?}");
        let half = Forecast::of(&config(2, 1), &Rates { mixed: 0.5, ..RATES });
        assert!(near(half.step, 4.0), "{half:?}");
    }

    #[test]
    fn a_single_step_has_a_forecast_too() {
        let mut config = config(2, 1);
        config.run.max_steps = 1;
        let forecast = Forecast::of(&config, &RATES);
        assert!(near(forecast.step, 3.0) && near(forecast.whole, 3.0), "{forecast:?}");
    }

    #[test]
    fn seconds_are_spoken_in_the_unit_that_fits() {
        let said = [2e-5, 0.35, 12.0, 600.0, 9000.0, 200_000.0].map(spoken_seconds);
        assert_eq!(said, ["20 µs", "350.0 ms", "12.00 s", "10 min", "2.5 h", "2.3 days"]);
    }
}
