//! What waits for a process, and which process takes it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use counterpoint_rollout::{Verdict, VoidReason};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::Question;

/// A question on its way to a process and back.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) question: Question,
    /// After this nobody waits for the verdicts.
    pub(super) due: Instant,
    /// It was asked before, of a process that was killed for the sake of another question.
    pub(super) again: bool,
    /// To whoever waits in `verify`; its loss means that nobody does any more.
    pub(super) reply: oneshot::Sender<Vec<Verdict>>,
}

impl Job {
    pub(super) fn answer(self, verdicts: Vec<Verdict>) {
        // Nobody may wait any more.
        let _ = self.reply.send(verdicts);
    }

    pub(super) fn void(self, reason: VoidReason) {
        let verdicts = vec![Verdict::Void(reason); self.question.responses.len()];
        self.answer(verdicts);
    }

    /// Whether somebody waits for it and there is time left.
    pub(super) fn wanted(&self, now: Instant) -> bool {
        self.due > now && !self.reply.is_closed()
    }
}

/// The jobs that wait, shared by the slots. Each job has a question of its own behind it that waits, and the pool that asks
/// questions bounds those; so there is no bound here.
#[derive(Debug)]
pub(super) struct Jobs {
    state: Mutex<State>,
    signal: watch::Sender<Signal>,
}

/// What slots listen to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signal {
    /// Grows whenever there may be something to take.
    changes: u64,
    /// No more jobs are taken or given out.
    pub(super) closed: bool,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Job>,
    /// Per slot, how many jobs it has; `None` while it has no process.
    loads: Vec<Option<usize>>,
    closed: bool,
}

impl Jobs {
    pub(super) fn new(slots: usize) -> Self {
        let state = State { waiting: VecDeque::new(), loads: vec![None; slots], closed: false };
        Self { state: Mutex::new(state), signal: watch::Sender::new(Signal::default()) }
    }

    pub(super) fn signals(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    /// Lets a job wait, after the others; hands it back if the jobs are closed.
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        self.add(job, VecDeque::push_back)
    }

    /// Lets a job wait, before the others: it waited already.
    pub(super) fn push_again(&self, job: Job) -> Result<(), Job> {
        self.add(Job { again: true, ..job }, VecDeque::push_front)
    }

    fn add(&self, job: Job, add: fn(&mut VecDeque<Job>, Job)) -> Result<(), Job> {
        let mut state = self.state();
        if state.closed {
            return Err(job);
        }
        add(&mut state.waiting, job);
        drop(state);
        self.changed();
        Ok(())
    }

    /// The next job for a slot that has `load` of them; none if another slot has fewer and can have it.
    pub(super) fn take(&self, slot: usize, load: usize, now: Instant) -> Option<Job> {
        let mut state = self.state();
        state.loads[slot] = Some(load);
        if state.closed || state.loads.iter().flatten().any(|&other| other < load) {
            return None;
        }
        let job = loop {
            let job = state.waiting.pop_front()?;
            if job.wanted(now) {
                break job;
            }
            // Whoever waits for it may not have noticed yet that its time is up.
            job.void(VoidReason::Timeout);
        };
        state.loads[slot] = Some(load + 1);
        let more = !state.waiting.is_empty();
        drop(state);
        if more {
            // Those who left it to this slot may be the ones with fewer now.
            self.changed();
        }
        Some(job)
    }

    /// A slot has no process any more.
    pub(super) fn leave(&self, slot: usize) {
        self.state().loads[slot] = None;
        self.changed();
    }

    /// Ends it all: what waits and what comes is void, and the slots stop.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|job| job.void(VoidReason::Unavailable));
        self.signal.send_modify(|signal| signal.closed = true);
    }

    fn changed(&self) {
        self.signal.send_modify(|signal| signal.changes += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(answer: &str, seconds: u64) -> (Job, oneshot::Receiver<Vec<Verdict>>) {
        let (reply, verdicts) = oneshot::channel();
        let due = Instant::now() + Duration::from_secs(seconds);
        (Job { question: Question::pair("r", answer), due, again: false, reply }, verdicts)
    }

    fn taken(jobs: &Jobs, slot: usize, load: usize) -> Option<String> {
        jobs.take(slot, load, Instant::now()).map(|job| job.question.answer().to_owned())
    }

    #[test]
    fn jobs_go_out_in_order_to_the_slot_with_the_fewest_and_skip_what_nobody_waits_for() {
        let jobs = Jobs::new(2);
        let (first, _first) = job("first", 9);
        let (dropped, answer) = job("dropped", 9);
        drop(answer);
        let (late, mut late_answer) = job("late", 0);
        let (second, _second) = job("second", 9);
        for job in [first, dropped, late, second] {
            jobs.push(job).unwrap();
        }
        let (again, _again) = job("again", 9);
        jobs.push_again(again).unwrap();
        assert_eq!(taken(&jobs, 1, 0).as_deref(), Some("again"));
        assert_eq!(taken(&jobs, 0, 0).as_deref(), Some("first"));
        assert_eq!(taken(&jobs, 0, 0), Some("second".into()));
        assert_eq!(late_answer.try_recv(), Ok(vec![Verdict::Void(VoidReason::Timeout)]));
        assert_eq!(taken(&jobs, 0, 0), None);
        let (third, _third) = job("third", 9);
        jobs.push(third).unwrap();
        // Slot 1 has one, slot 0 none.
        assert_eq!(taken(&jobs, 0, 0).as_deref(), Some("third"));
        let (fourth, _fourth) = job("fourth", 9);
        jobs.push(fourth).unwrap();
        assert_eq!(taken(&jobs, 0, 2), None);
        jobs.leave(1);
        assert_eq!(taken(&jobs, 0, 2).as_deref(), Some("fourth"));
    }

    #[test]
    fn a_slot_that_left_a_job_to_another_is_woken_when_it_is_its_turn() {
        let jobs = Jobs::new(2);
        let mut signals = jobs.signals();
        assert_eq!((taken(&jobs, 0, 1), taken(&jobs, 1, 0)), (None, None));
        let receivers: Vec<_> = (0..3)
            .map(|n| {
                let (job, r) = job(&n.to_string(), 9);
                jobs.push(job).unwrap();
                r
            })
            .collect();
        signals.mark_unchanged();
        assert_eq!(taken(&jobs, 0, 1), None);
        assert!(!signals.has_changed().unwrap());
        assert_eq!(taken(&jobs, 1, 0).as_deref(), Some("0"));
        assert!(signals.has_changed().unwrap());
        drop(receivers);
    }

    #[test]
    fn once_closed_everything_is_void() {
        let jobs = Jobs::new(1);
        let (waits, mut answer) = job("waits", 9);
        jobs.push(waits).unwrap();
        jobs.close();
        assert_eq!(answer.try_recv(), Ok(vec![Verdict::Void(VoidReason::Unavailable)]));
        assert!(jobs.push(job("comes", 9).0).is_err());
        assert!(jobs.signals().borrow().closed);
        assert_eq!(taken(&jobs, 0, 0), None);
    }
}
