//! Progress on a terminal, plain log lines elsewhere; both on stderr, so that stdout stays free for results.
//!
//! Log lines and the progress line share one [`MultiProgress`]: a log line pushes the progress line down instead of
//! tearing it. Text of a model never reaches a terminal with its control characters ([`printable`]).

use std::io::{IsTerminal, Write};
use std::time::Duration;

use counterpoint_rollout::clock::Stopwatch;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::status::Status;

/// Time between two log lines of progress where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Sets logging up and gives the console; call once. `RUST_LOG` chooses what is logged, `info` if it is not set.
pub fn init() -> Console {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let lines = MultiProgress::with_draw_target(target);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(terminal)
        .with_writer(AboveProgress(lines.clone()));
    // An embedding program may have set logging up; then its choice stands.
    let _ = subscriber.try_init();
    Console { lines, bar: None, terminal, logged: None }
}

/// Shows how a run gets on.
#[derive(Debug)]
pub struct Console {
    lines: MultiProgress,
    bar: Option<ProgressBar>,
    terminal: bool,
    /// When progress was last logged, where there is no terminal.
    logged: Option<Stopwatch>,
}

impl Console {
    /// Shows the newest status: the progress line, or a log line every ten seconds and when an evaluation came in.
    pub fn show(&mut self, status: &Status, evaluated: bool) {
        if self.terminal {
            let bar = self.bar.get_or_insert_with(|| self.lines.add(new_bar()));
            bar.set_length(status.max_steps);
            bar.set_position(status.step);
            bar.set_message(summary_line(status));
        } else if evaluated || self.logged.is_none_or(|since| since.elapsed() >= LOG_EVERY) {
            self.logged = Some(Stopwatch::start());
            tracing::info!("step {}/{} {}", status.step, status.max_steps, summary_line(status));
        }
    }

    /// Takes the progress line away; what was logged stays.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Counts what a command has done, with the time left, on stderr where that is a terminal and nowhere else.
pub(crate) struct Counter(ProgressBar);

impl Counter {
    /// `done` of `total` were done before.
    pub(crate) fn new(total: usize, done: usize, what: &'static str) -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} | {elapsed} | {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total as u64), target).with_style(style).with_message(what);
        bar.set_position(done as u64);
        // What an earlier process did says nothing of this one's speed.
        bar.reset_eta();
        Self(bar)
    }

    /// One more is done.
    pub(crate) fn add_one(&self) {
        self.0.inc(1);
    }

    /// A line on stderr, above the count.
    pub(crate) fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("counterpoint: {}", printable(line)));
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style)
}

/// What matters of a status, on one line.
pub fn summary_line(status: &Status) -> String {
    let mut parts = vec![status.phase.label().to_owned()];
    let mut push = |part: Option<String>| parts.extend(part);
    push(status.pass_rate.map(|rate| format!("pass {:.1}%", 100.0 * rate)));
    push(status.eval_accuracy.map(|accuracy| {
        let target = status.target_accuracy.map(|t| format!(" of {:.1}%", 100.0 * t)).unwrap_or_default();
        format!("eval {:.1}%{target}", 100.0 * accuracy)
    }));
    push(status.staleness.map(|steps| format!("stale {steps}")));
    push(Some(format!(
        "tokens/s {:.0} sampled {:.0} trained",
        status.tokens_per_second_generated + 0.0,
        status.tokens_per_second_trained + 0.0
    )));
    // An empty sum of floats is -0.0; plus 0.0 it is 0.0, and never "-0%".
    let (learner, generator) = (100.0 * status.learner_idle_share + 0.0, 100.0 * status.generator_idle_share + 0.0);
    push(Some(format!("idle learner {learner:.0}% generator {generator:.0}%")));
    push(status.seconds_left().map(|seconds| format!("{} left", short_time(seconds))));
    printable(&parts.join(" | "))
}

/// Seconds as people say them: "41s", "3m20s", "2h05m".
fn short_time(seconds: f64) -> String {
    // `as` saturates: a hopeless estimate becomes a large number.
    match seconds.round() as u64 {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m{:02}s", s / 60, s % 60),
        s => format!("{}h{:02}m", s / 3600, s / 60 % 60),
    }
}

/// Text without control characters (escape sequences that would steer a terminal included) and without the marks that
/// reorder text; tabs and line ends become spaces.
pub fn printable(text: &str) -> String {
    let reorders = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let kept = text.chars().filter(|c| matches!(c, '\t' | '\n') || !(c.is_control() || reorders(*c)));
    kept.map(|c| if matches!(c, '\t' | '\n') { ' ' } else { c }).collect()
}

/// Writes log lines above the progress line.
struct AboveProgress(MultiProgress);

impl<'a> MakeWriter<'a> for AboveProgress {
    type Writer = LogWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LogWriter(&self.0)
    }
}

/// One log event: tracing writes it in one call.
struct LogWriter<'a>(&'a MultiProgress);

impl Write for LogWriter<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().lock().write(line))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\rc\u{9b}31md\u{202e}e\tf\ng"), "a[2Jbc31mde f g");
    }

    #[test]
    fn the_line_says_what_is_known() {
        let mut status = Status { step: 10, max_steps: 30, seconds_training: 100.0, ..Status::default() };
        assert_eq!(
            summary_line(&status),
            "starting | tokens/s 0 sampled 0 trained | idle learner 0% generator 0% | 3m20s left"
        );
        status.pass_rate = Some(0.5);
        status.eval_accuracy = Some(0.25);
        status.target_accuracy = Some(0.625);
        status.staleness = Some(2);
        assert!(summary_line(&status).starts_with("starting | pass 50.0% | eval 25.0% of 62.5% | stale 2 |"));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(
            [short_time(41.4), short_time(3600.0 * 2.0 + 300.0), short_time(f64::INFINITY)][..2],
            ["41s", "2h05m"]
        );
    }
}
