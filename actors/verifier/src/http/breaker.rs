//! A circuit breaker: after several calls in a row have failed, asks the server nothing for a while, then lets one call try.
//!
//! A state machine without a clock: the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// The breaker of one server.
#[derive(Debug)]
pub(super) struct Breaker {
    /// How many failures in a row open it; zero: it never opens.
    limit: u32,
    /// How long it stays open.
    pause: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calls go through; so many have failed in a row.
    Closed { failures: u32 },
    /// No call goes through before this instant; the first one after it is the probe.
    Open { until: Instant },
    /// The probe is under way; all other calls are refused.
    HalfOpen,
}

/// The right to make one call; its end must be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Pass {
    /// One of many.
    Plain,
    /// The only one, on which it depends whether the breaker closes.
    Probe,
}

impl Breaker {
    pub(super) fn new(limit: u32, pause: Duration) -> Self {
        Self { limit, pause, state: State::Closed { failures: 0 } }
    }

    /// Whether a call would be refused now.
    pub(super) fn refuses(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until } => now < until,
            State::HalfOpen => true,
        }
    }

    /// Asks to make a call.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Pass> {
        match self.state {
            _ if self.refuses(now) => None,
            State::Closed { .. } => Some(Pass::Plain),
            State::Open { .. } | State::HalfOpen => {
                self.state = State::HalfOpen;
                Some(Pass::Probe)
            }
        }
    }

    /// The server answered. True if this closed the breaker.
    pub(super) fn succeeded(&mut self, pass: Pass) -> bool {
        match (pass, self.state) {
            (Pass::Probe, _) => self.state = State::Closed { failures: 0 },
            (Pass::Plain, State::Closed { .. }) => self.state = State::Closed { failures: 0 },
            // Begun before the breaker opened: only the probe decides.
            (Pass::Plain, _) => {}
        }
        pass == Pass::Probe
    }

    /// The server did not answer. True if this opened the breaker.
    pub(super) fn failed(&mut self, pass: Pass, now: Instant) -> bool {
        let opens = match (pass, self.state) {
            (Pass::Probe, _) => true,
            (Pass::Plain, State::Closed { failures }) => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                self.limit > 0 && failures >= self.limit
            }
            (Pass::Plain, _) => false,
        };
        if opens {
            self.state = State::Open { until: now + self.pause };
        }
        opens
    }

    /// The call was given up before it said anything of the server. After a probe the next call is the probe.
    pub(super) fn withdrawn(&mut self, pass: Pass, now: Instant) {
        if pass == Pass::Probe {
            self.state = State::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A breaker that one failure has opened at `now`.
    fn open(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(1, PAUSE);
        let pass = breaker.admit(now).unwrap();
        assert!(breaker.failed(pass, now));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_success_between_them_starts_the_count_again() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, PAUSE);
        for opened in [false, false] {
            let pass = breaker.admit(now).unwrap();
            assert_eq!(breaker.failed(pass, now), opened);
        }
        let pass = breaker.admit(now).unwrap();
        assert!(!breaker.succeeded(pass));
        for opened in [false, false, true] {
            let pass = breaker.admit(now).unwrap();
            assert_eq!(breaker.failed(pass, now), opened);
        }
        assert_eq!(breaker.admit(now), None);
        assert_eq!(breaker.admit(now + second(9)), None);
    }

    #[test]
    fn after_the_pause_one_probe_goes_through_and_decides() {
        let now = Instant::now();
        let mut breaker = open(now);
        let later = now + PAUSE;
        assert_eq!(breaker.admit(later), Some(Pass::Probe));
        assert_eq!(breaker.admit(later), None);
        assert!(breaker.failed(Pass::Probe, later));
        assert_eq!(breaker.admit(later + second(9)), None);
        assert_eq!(breaker.admit(later + PAUSE), Some(Pass::Probe));
        assert!(breaker.succeeded(Pass::Probe));
        assert_eq!(breaker.admit(later + PAUSE), Some(Pass::Plain));
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_the_next_call_to_be_the_probe() {
        let now = Instant::now();
        let mut breaker = open(now);
        let pass = breaker.admit(now + PAUSE).unwrap();
        breaker.withdrawn(pass, now + PAUSE);
        assert_eq!(breaker.admit(now + PAUSE), Some(Pass::Probe));
    }

    #[test]
    fn the_end_of_a_call_from_before_the_opening_changes_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(1, PAUSE);
        let (early, another, fails) = (breaker.admit(now), breaker.admit(now), breaker.admit(now));
        assert!(breaker.failed(fails.unwrap(), now));
        assert!(!breaker.succeeded(early.unwrap()));
        assert!(!breaker.failed(another.unwrap(), now + second(9)));
        assert_eq!(breaker.admit(now + second(9)), None);
        assert_eq!(breaker.admit(now + PAUSE), Some(Pass::Probe));
    }

    #[test]
    fn a_limit_of_zero_never_opens() {
        let now = Instant::now();
        let mut breaker = Breaker::new(0, PAUSE);
        for _ in 0..100 {
            let pass = breaker.admit(now).unwrap();
            assert!(!breaker.failed(pass, now));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Admit,
        Succeed(usize),
        Fail(usize),
        Withdraw(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0u64..8).prop_map(Step::Wait),
            4 => Just(Step::Admit),
            2 => (0usize..8).prop_map(Step::Succeed),
            4 => (0usize..8).prop_map(Step::Fail),
            1 => (0usize..8).prop_map(Step::Withdraw),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        // Whatever happens in whatever order: never two probes at once, nothing goes through within a pause, and a breaker
        // without a probe under way lets a call through at the latest when the pause is over.
        #[test]
        fn it_never_floods_a_server_that_is_down_and_never_stays_open_for_ever(limit in 1u32..5, steps in steps()) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(limit, PAUSE);
            let mut under_way: Vec<Pass> = Vec::new();
            let mut opened_at: Option<Instant> = None;
            for step in steps {
                let take = |under_way: &mut Vec<Pass>, index: usize| {
                    (!under_way.is_empty()).then(|| under_way.remove(index % under_way.len()))
                };
                match step {
                    Step::Wait(seconds) => now += second(seconds),
                    Step::Admit => {
                        let refused = breaker.refuses(now);
                        let pass = breaker.admit(now);
                        prop_assert_eq!(pass.is_none(), refused);
                        if pass.is_some() && let Some(opened) = opened_at {
                            prop_assert!(now >= opened + PAUSE);
                            prop_assert_eq!(pass, Some(Pass::Probe));
                        }
                        under_way.extend(pass);
                    }
                    Step::Succeed(index) => {
                        if let Some(pass) = take(&mut under_way, index) && breaker.succeeded(pass) {
                            opened_at = None;
                        }
                    }
                    Step::Fail(index) => {
                        if let Some(pass) = take(&mut under_way, index) && breaker.failed(pass, now) {
                            opened_at = Some(now);
                        }
                    }
                    Step::Withdraw(index) => {
                        if let Some(pass) = take(&mut under_way, index) {
                            breaker.withdrawn(pass, now);
                        }
                    }
                }
                let probes = under_way.iter().filter(|&&pass| pass == Pass::Probe).count();
                prop_assert!(probes <= 1);
                if probes == 0 {
                    prop_assert!(!breaker.refuses(now + PAUSE));
                }
            }
        }
    }
}
