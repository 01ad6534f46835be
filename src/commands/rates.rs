//! The rates that `check` was given, and what it says of rates.

use super::check::line;
use crate::cli::RateArgs;
use crate::config::Config;
use crate::error::Failure;
use crate::flow::forecast::{Forecast, Rates, Side, spoken_seconds};

/// What each actor can do, what a step takes, and who waits.
pub(super) fn say(config: &Config, rates: &Rates, out: &mut String) {
    let forecast = Forecast::of(config, rates);
    let said = spoken_seconds;
    let Rates { sampled, trained, verdicts, verdict_seconds, publish_seconds, answer_tokens, mixed } = *rates;
    line(
        out,
        format_args!(
            "rates: generators: {sampled:.0} sampled tokens/s; a step's groups take {} ({answer_tokens:.1} tokens per answer, \
             {:.0} % of the groups mixed)",
            said(forecast.sampling),
            100.0 * mixed
        ),
    );
    let judged = match verdicts.is_finite() {
        true => format!("{verdicts:.0} verdicts/s; a step's groups take {}", said(forecast.judging)),
        false => "as many verdicts as are asked for".to_owned(),
    };
    line(out, format_args!("rates: verifier: {judged}; a group waits {} for its verdicts", said(verdict_seconds)));
    line(out, format_args!("rates: learner: {trained:.0} trained tokens/s; a step takes {}", said(forecast.training)));
    line(
        out,
        format_args!(
            "rates: weights: a publication takes {}, every {} steps",
            said(publish_seconds),
            config.weight_sync.every
        ),
    );
    let share = |seconds: f64| 100.0 * seconds / forecast.step;
    let (learner, generators) = (forecast.learner_waits(), forecast.generators_wait());
    line(
        out,
        format_args!(
            "forecast: {} per step; the learner waits {} of it ({:.0} %), the generators {} ({:.0} %): {}",
            said(forecast.step),
            said(learner),
            share(learner),
            said(generators),
            share(generators),
            match forecast.waiting() {
                Side::Learner => "the learner will wait for answers",
                Side::Generators => "the generators will wait for the learner, or keep it just busy",
                Side::Both => "the two sides will wait for each other (replay.max_staleness, weight_sync.every)",
            }
        ),
    );
    line(
        out,
        format_args!(
            "forecast: {} steps take about {}, evaluations and checkpoints not counted",
            config.run.max_steps,
            said(forecast.whole)
        ),
    );
}

/// The rates given on the command line.
pub(super) struct Given<'a>(&'a RateArgs);

impl<'a> Given<'a> {
    pub(super) fn new(args: &'a RateArgs) -> Result<Self, Failure> {
        let RateArgs {
            sampled_per_second,
            trained_per_second,
            verdicts_per_second,
            verdict_seconds,
            answer_tokens,
            mixed,
        } = args;
        let above_0 = [
            ("--sampled-per-second", sampled_per_second),
            ("--trained-per-second", trained_per_second),
            ("--verdicts-per-second", verdicts_per_second),
            ("--answer-tokens", answer_tokens),
            ("--mixed", mixed),
        ];
        for (name, value) in above_0 {
            if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
                return Err(Failure::Usage(format!("{name}: must be above 0, got {value}")));
            }
        }
        if let Some(share) = mixed.filter(|share| *share > 1.0) {
            return Err(Failure::Usage(format!("--mixed: is a share of 1, got {share}")));
        }
        if let Some(seconds) = verdict_seconds.filter(|seconds| !(*seconds >= 0.0 && seconds.is_finite())) {
            return Err(Failure::Usage(format!("--verdict-seconds: must be at least 0, got {seconds}")));
        }
        Ok(Self(args))
    }

    /// These, and the others as measured.
    pub(super) fn over(&self, measured: Rates) -> Rates {
        let Self(given) = self;
        Rates {
            sampled: given.sampled_per_second.unwrap_or(measured.sampled),
            trained: given.trained_per_second.unwrap_or(measured.trained),
            verdicts: given.verdicts_per_second.unwrap_or(measured.verdicts),
            verdict_seconds: given.verdict_seconds.unwrap_or(measured.verdict_seconds),
            publish_seconds: measured.publish_seconds,
            answer_tokens: given.answer_tokens.unwrap_or(measured.answer_tokens),
            mixed: given.mixed.unwrap_or(measured.mixed),
        }
    }

    /// These alone; `None` if none is given.
    pub(super) fn alone(&self, config: &Config) -> Result<Option<Rates>, Failure> {
        let Self(given) = self;
        match (given.sampled_per_second, given.trained_per_second) {
            (Some(sampled), Some(trained)) => Ok(Some(self.over(Rates {
                sampled,
                trained,
                verdicts: f64::INFINITY,
                verdict_seconds: 0.0,
                publish_seconds: 0.0,
                answer_tokens: config.generator.max_new_tokens as f64,
                mixed: 1.0,
            }))),
            _ if **given == RateArgs::default() => Ok(None),
            _ => Err(Failure::Usage(
                "a forecast needs --sampled-per-second and --trained-per-second, or --calibrate".to_owned(),
            )),
        }
    }
}
