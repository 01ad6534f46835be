//! Threads that work on one pass together: the caller and as many helpers as its share allows.
//!
//! Helpers sleep between passes; who waits for the others within a pass looks a few microseconds and then sleeps too, so a
//! busy machine loses time but is not kept busier. A panic of a helper becomes one of the caller.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// See the module.
#[derive(Debug)]
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    start: Condvar,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the jobs.
    round: u64,
    job: Option<Work>,
    running: usize,
    panic: Option<String>,
    over: bool,
}

/// A job of unknown lifetime: [`Team::run`] does not return before every helper is done with it.
#[derive(Clone, Copy)]
struct Work(*const (dyn Fn(usize) + Sync));

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

// SAFETY: what it points to may be called by several threads, and outlives its use.
unsafe impl Send for Work {}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing that can panic runs under the lock.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Team {
    /// A team of `threads`, the caller included.
    pub(super) fn new(threads: usize) -> std::io::Result<Self> {
        let shared =
            Arc::new(Shared { state: Mutex::new(State::default()), start: Condvar::new(), done: Condvar::new() });
        let mut team = Self { shared, helpers: Vec::new() };
        for number in 1..threads.max(1) {
            let shared = Arc::clone(&team.shared);
            let thread = std::thread::Builder::new().name(format!("kernels {number}"));
            team.helpers.push(thread.spawn(move || help(&shared, number))?);
        }
        Ok(team)
    }

    /// How many threads work, the caller included.
    pub(super) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `job` with every number below [`Self::threads`], each on a thread of its own, and waits for all.
    pub(super) fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.helpers.is_empty() {
            return job(0);
        }
        {
            // SAFETY: only the lifetime changes; below, every helper is waited for before this function ends, by a panic too.
            let job: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(job) };
            let mut state = lock(&self.shared.state);
            state.round += 1;
            (state.job, state.running) = (Some(Work(job)), self.helpers.len());
            self.shared.start.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut state = lock(&self.shared.state);
        while state.running > 0 {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.job = None;
        let panic = state.panic.take();
        drop(state);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if let Some(panic) = panic {
            std::panic::panic_any(format!("a helper of the kernels panicked: {panic}"));
        }
    }
}

fn help(shared: &Shared, number: usize) {
    let mut seen = 0;
    loop {
        let mut state = lock(&shared.state);
        while state.round == seen && !state.over {
            state = shared.start.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.over {
            return;
        }
        seen = state.round;
        let job = state.job;
        drop(state);
        let Some(Work(job)) = job else { continue };
        // SAFETY: `run` waits until `running` is 0, which this thread counts down below.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(number) }));
        let mut state = lock(&shared.state);
        if let Err(panic) = outcome {
            state.panic = Some(counterpoint_rollout::panic_text(&*panic).to_owned());
        }
        state.running -= 1;
        if state.running == 0 {
            shared.done.notify_one();
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        lock(&self.shared.state).over = true;
        self.shared.start.notify_all();
        for helper in self.helpers.drain(..) {
            // A panic was the job's and has been reported.
            let _ = helper.join();
        }
    }
}

/// Where the threads of a job wait for each other, as often as they like.
#[derive(Debug)]
pub(super) struct Barrier {
    threads: usize,
    /// Who has come to the present meeting.
    come: AtomicUsize,
    meeting: AtomicUsize,
    /// Somebody panicked and will never come.
    broken: AtomicBool,
    asleep: Mutex<()>,
    wake: Condvar,
}

/// Looks at the others before one sleeps: a few microseconds.
const LOOKS: usize = 200;

impl Barrier {
    pub(super) fn new(threads: usize) -> Self {
        let (come, meeting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let broken = AtomicBool::new(false);
        Self { threads, come, meeting, broken, asleep: Mutex::new(()), wake: Condvar::new() }
    }

    /// Ends the waiting of all others, by a panic, if the caller's scope ends by one.
    pub(super) fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    fn arrived(&self, meeting: usize) -> bool {
        assert!(!self.broken.load(Ordering::Acquire), "another thread of the team panicked");
        self.meeting.load(Ordering::Acquire) != meeting
    }

    /// Waits for the others. What each wrote before is seen by all after.
    pub(super) fn wait(&self) {
        let meeting = self.meeting.load(Ordering::Acquire);
        if self.come.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.come.store(0, Ordering::Relaxed);
            let sleepers = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.meeting.store(meeting.wrapping_add(1), Ordering::Release);
            drop(sleepers);
            self.wake.notify_all();
            return;
        }
        for _ in 0..LOOKS {
            if self.arrived(meeting) {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleepers = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.arrived(meeting) {
            sleepers = self.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// See [`Barrier::guard`].
pub(super) struct Guard<'a>(&'a Barrier);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _sleepers = self.0.asleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.broken.store(true, Ordering::Release);
            self.0.wake.notify_all();
        }
    }
}
