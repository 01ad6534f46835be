use std::collections::VecDeque;

/// Whose turn it is: one step at a time, in the order of arrival, and after each step a pause until the conductor has looked
/// at it (it may take a snapshot for an evaluation or a checkpoint at exactly that version).
#[derive(Debug)]
pub(crate) struct Turns<T> {
    waiting: VecDeque<T>,
    phase: Phase,
    /// No further step begins.
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next step may begin.
    Free,
    /// The engine works on a step.
    Stepping,
    /// A step is done and the conductor has not said to go on.
    Held,
}

impl<T> Turns<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: VecDeque::new(), phase: Phase::Free, closed: false }
    }

    /// How much work waits.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Work arrived; returns what to start now.
    pub(crate) fn arrived(&mut self, work: T) -> Option<T> {
        self.waiting.push_back(work);
        self.next()
    }

    /// The step is done.
    pub(crate) fn stepped(&mut self) {
        debug_assert_eq!(self.phase, Phase::Stepping);
        self.phase = Phase::Held;
    }

    /// The conductor lets the next step begin; returns what to start now. Without a step that waits for it, nothing changes.
    pub(crate) fn proceed(&mut self) -> Option<T> {
        if self.phase == Phase::Held {
            self.phase = Phase::Free;
        }
        self.next()
    }

    /// Lets no further step begin; returns whether the engine stands still.
    pub(crate) fn close(&mut self) -> bool {
        self.closed = true;
        self.phase != Phase::Stepping
    }

    fn next(&mut self) -> Option<T> {
        if self.closed || self.phase != Phase::Free {
            return None;
        }
        let work = self.waiting.pop_front()?;
        self.phase = Phase::Stepping;
        Some(work)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Arrived,
        Stepped,
        Proceed,
    }

    #[test]
    fn once_closed_the_step_in_progress_is_the_last() {
        let mut turns = Turns::new();
        assert_eq!(turns.arrived(1), Some(1));
        assert!(!turns.close(), "a step is being worked on");
        turns.stepped();
        assert!(turns.close());
        assert_eq!((turns.proceed(), turns.arrived(2)), (None, None));
        assert_eq!(turns.waiting(), 1);
    }

    proptest! {
        #[test]
        fn work_starts_in_order_one_at_a_time_and_only_after_permission(
            events in prop::collection::vec(
                prop_oneof![Just(Event::Arrived), Just(Event::Stepped), Just(Event::Proceed)], 0..60)
        ) {
            let mut turns = Turns::new();
            let (mut sent, mut started, mut finished, mut permitted) = (0u32, 0u32, 0u32, 0u32);
            for event in events {
                let begun = match event {
                    Event::Arrived => {
                        sent += 1;
                        turns.arrived(sent)
                    }
                    Event::Stepped => {
                        if started > finished {
                            turns.stepped();
                            finished += 1;
                        }
                        None
                    }
                    Event::Proceed => {
                        permitted = finished;
                        turns.proceed()
                    }
                };
                if let Some(work) = begun {
                    started += 1;
                    prop_assert_eq!(work, started, "in the order of arrival");
                }
                prop_assert!(started <= finished + 1, "one at a time");
                prop_assert!(started <= permitted + 1, "a step begins only when the one before it was looked at");
                prop_assert_eq!(turns.waiting() as u32, sent - started);
                let may = started == finished && permitted == finished;
                prop_assert!(!(may && turns.waiting() > 0), "nothing waits that may begin");
            }
        }
    }
}
