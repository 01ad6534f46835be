//! The sampling engine: a plain library that actors, `eval` and `generate` drive by calling [`Engine::step`].
//!
//! A step swaps the weights if new ones are due, decodes one token for every running sequence, then gives the slots that
//! fell free to waiting ones, prefills their prompts and draws their first token. So a slot is never empty for a whole step
//! while something may start. All work is a function of tokens and of the order of calls, and of time only where answers have
//! a time limit ([`EngineOptions::max_time`]): it counts the time spent in steps, so that a frozen engine's answers do not age.
//!
//! Limits: one temperature per engine; one thread (an engine is `Send`, not shared); requests are served in the order of
//! their submission, and one that waits for newer weights holds back those behind it.

use std::sync::Arc;
use std::time::Duration;

use counterpoint_policy::Snapshot;
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::{DropReason, GroupId, PolicyVersion};

use crate::backend::{Backend, Draw};
use crate::schedule::{Head, Schedule};
use crate::stop::StopStrings;
use crate::{Detokenize, Drawn, EngineOptions, Event, GeneratorError, OnSwap, Request};

/// See the module.
pub struct Engine {
    options: EngineOptions,
    snapshot: Arc<Snapshot>,
    pending: Option<Pending>,
    /// Whether sequences wait for their cache of the new weights ([`OnSwap::Recompute`]).
    recomputing: bool,
    /// Time that running sequences stood still for new weights, since somebody asked.
    pause: Duration,
    backend: Backend,
    schedule: Schedule,
    /// Reported by the next step.
    events: Vec<Event>,
    tokens: u64,
    suspensions: u64,
}

/// Weights that wait to be taken.
struct Pending {
    snapshot: Arc<Snapshot>,
    ready: Ready,
}

/// How far suspended sequences have come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Resumption {
    /// None is left.
    Complete,
    /// The rest has its turn in the next step.
    NextStep,
    /// The rest waits for memory.
    LacksRoom,
}

/// How waiting weights are made ready for use.
enum Ready {
    /// When they are taken, in the place of the present ones.
    InPlace,
    /// From the start, beside the present ones.
    Beside,
}

impl Engine {
    /// An engine that samples with `snapshot`, on its device and in its number format.
    pub fn new(
        snapshot: Arc<Snapshot>,
        options: EngineOptions,
        detokenize: Detokenize,
    ) -> Result<Self, GeneratorError> {
        options.check()?;
        snapshot.arrive()?;
        let backend = Backend::new(&snapshot, &options)?;
        let stop = StopStrings::new(&options.stop);
        let schedule =
            Schedule::new(options.slots, options.max_new_tokens, options.eos_tokens.clone(), stop, detokenize)
                .with_max_time(options.max_time);
        Ok(Self {
            options,
            snapshot,
            pending: None,
            recomputing: false,
            pause: Duration::ZERO,
            backend,
            schedule,
            events: Vec::new(),
            tokens: 0,
            suspensions: 0,
        })
    }

    /// Appends a group to the queue. A prompt that does not fit is dropped, which the next step reports.
    pub fn submit(&mut self, request: Request) -> Result<(), GeneratorError> {
        let (group, length) = (request.group, request.prompt.len());
        let context = self.snapshot.config().max_positions as usize;
        if length > self.options.max_prompt_tokens || length + self.options.max_new_tokens > context {
            self.events.push(Event::Dropped { group, reason: DropReason::TooLong });
            return Ok(());
        }
        self.schedule.submit(request)
    }

    /// Gives groups up. The next step reports those that had not finished.
    pub fn cancel(&mut self, groups: &[GroupId]) {
        for &group in groups {
            if self.schedule.cancel(group) {
                self.events.push(Event::Dropped { group, reason: DropReason::Cancelled });
            }
        }
        self.backend.retain(|group| self.schedule.holds(group));
    }

    /// Gives everything up and reports none of it: whoever asked is gone.
    pub fn abandon(&mut self) {
        self.schedule.clear();
        self.backend.retain(|_| false);
        self.events.clear();
    }

    /// Takes new weights: at once, or with [`OnSwap::Drain`] when the running sequences have finished, and newer weights
    /// replace those that still wait. [`Self::version`] tells what is loaded.
    pub fn load(&mut self, snapshot: Arc<Snapshot>) -> Result<(), GeneratorError> {
        let watch = Stopwatch::start();
        let snapshot = self.fitting(snapshot)?;
        self.pending = Some(Pending { snapshot, ready: Ready::InPlace });
        self.swap_if_due()?;
        self.pause += watch.elapsed();
        Ok(())
    }

    /// Like [`Self::load`], but running sequences go on with the present weights until the new ones are ready for use. Where
    /// nothing could go on they are loaded at once, so that a synchronous run repeats to the bit.
    pub fn begin_load(&mut self, snapshot: Arc<Snapshot>) -> Result<(), GeneratorError> {
        if !self.needs_present_weights() {
            return self.load(snapshot);
        }
        let watch = Stopwatch::start();
        let snapshot = self.fitting(snapshot)?;
        self.backend.begin_load(&snapshot)?;
        self.pending = Some(Pending { snapshot, ready: Ready::Beside });
        self.pause += watch.elapsed();
        Ok(())
    }

    fn fitting(&self, snapshot: Arc<Snapshot>) -> Result<Arc<Snapshot>, GeneratorError> {
        if snapshot.config() != self.snapshot.config() {
            return Err(GeneratorError::OtherModel { version: snapshot.version() });
        }
        Ok(snapshot.arrived(self.snapshot.flat().device(), self.snapshot.flat().kind())?)
    }

    fn swap_if_due(&mut self) -> Result<(), GeneratorError> {
        let draining = self.options.on_swap == OnSwap::Drain;
        let wait = draining || !self.needs_present_weights();
        let Some(Pending { snapshot, ready }) = &self.pending else { return Ok(()) };
        if draining && self.schedule.running() > 0 {
            return Ok(());
        }
        let swapped = match ready {
            Ready::InPlace => self.backend.load(snapshot).map(|()| true)?,
            Ready::Beside => self.backend.swap(snapshot, wait)?,
        };
        if swapped && let Some(pending) = self.pending.take() {
            self.snapshot = pending.snapshot;
            if self.options.on_swap == OnSwap::Recompute {
                self.schedule.suspend_all();
                self.compact()?;
                self.recomputing = self.schedule.running() > 0;
            }
        }
        Ok(())
    }

    /// Whether anything could go on with the loaded weights.
    fn needs_present_weights(&self) -> bool {
        self.schedule.running() > 0 || self.schedule.admissible(self.version())
    }

    /// How long running sequences stood still for new weights since this was last asked.
    pub fn take_pause(&mut self) -> Duration {
        std::mem::take(&mut self.pause)
    }

    /// The loaded weights.
    pub fn version(&self) -> PolicyVersion {
        self.snapshot.version()
    }

    /// The loaded weights themselves, where the model runs.
    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// How it samples.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Whether new weights wait: to be ready, or for running sequences to finish ([`OnSwap::Drain`]); or sequences for their
    /// cache of these weights ([`OnSwap::Recompute`]).
    pub fn swapping(&self) -> bool {
        self.pending.is_some() || self.recomputing
    }

    /// Groups submitted that are neither finished nor dropped.
    pub fn groups(&self) -> usize {
        self.schedule.groups()
    }

    /// Tokens sampled since the engine exists.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// How often a sequence was suspended for lack of memory since the engine exists.
    pub fn suspensions(&self) -> u64 {
        self.suspensions
    }

    /// Whether a step would do nothing: no sequence runs, and none may start with the loaded weights.
    pub fn is_idle(&self) -> bool {
        self.events.is_empty() && !self.swapping() && !self.needs_present_weights()
    }

    /// One decode step: see the module.
    pub fn step(&mut self) -> Result<Vec<Event>, GeneratorError> {
        let _inference = tch::no_grad_guard();
        let watch = self.options.max_time.map(|_| Stopwatch::start());
        let mut chunk = self.options.prefill_chunk;
        if self.swapping() {
            let watch = Stopwatch::start();
            self.swap_if_due()?;
            // Before the decoding, so that something goes on however often new weights come.
            self.recomputing = self.recomputing && self.resume(&mut chunk)? == Resumption::NextStep;
            self.pause += watch.elapsed();
        }
        self.decode()?;
        if self.pending.is_none() || self.options.on_swap != OnSwap::Drain {
            self.admit(chunk)?;
        }
        if let Some(watch) = watch {
            self.schedule.pass(watch.elapsed());
        }
        Ok(std::mem::take(&mut self.events))
    }

    fn decode(&mut self) -> Result<(), GeneratorError> {
        let mut active = self.compact()?;
        while self.backend.lacks_room() {
            // One sequence always has room: the options were checked.
            let Some(slot) = self.schedule.suspend_youngest() else { break };
            self.backend.release(slot);
            self.suspensions += 1;
            active = self.compact()?;
        }
        if active == 0 {
            return Ok(());
        }
        let slots: Vec<usize> = (0..active).collect();
        let drawn = self.backend.decode(&self.schedule.newest(), &self.how_to_draw(&slots))?;
        self.record(&slots, drawn)
    }

    /// Closes the gaps of ended sequences; returns how many slots are in use.
    fn compact(&mut self) -> Result<usize, GeneratorError> {
        let (moves, active) = self.schedule.compact();
        self.backend.compact(&moves, active)?;
        Ok(active)
    }

    /// Lets suspended sequences go on, the oldest first, for which their cache is computed again: of at most `chunk` tokens,
    /// what is left of the step's, or of one sequence that is longer than a whole step's.
    fn resume(&mut self, chunk: &mut usize) -> Result<Resumption, GeneratorError> {
        let (mut resumed, mut lengths) = (Vec::new(), Vec::new());
        let outcome = loop {
            let Some(tokens) = self.schedule.suspended_tokens() else { break Resumption::Complete };
            if tokens > *chunk && *chunk < self.options.prefill_chunk {
                break Resumption::NextStep;
            }
            lengths.push(tokens);
            if !self.backend.may_rebuild(&lengths) {
                break Resumption::LacksRoom;
            }
            *chunk = chunk.saturating_sub(tokens);
            resumed.extend(self.schedule.resume());
        };
        self.backend.rebuild(&resumed)?;
        Ok(outcome)
    }

    fn admit(&mut self, mut chunk: usize) -> Result<(), GeneratorError> {
        let version = self.version();
        // The slots stay where they are, but not the memory of sequences that have ended.
        self.schedule.gaps().for_each(|slot| self.backend.release(slot));
        if self.resume(&mut chunk)? != Resumption::Complete || chunk == 0 {
            return Ok(());
        }
        let heads: Vec<Head<'_>> = self.schedule.heads(version);
        if heads.is_empty() {
            return Ok(());
        }
        // With nobody to be stalled there is nothing to be gained by chunks.
        let most = if self.schedule.running() == 0 { usize::MAX } else { chunk };
        let ready = self.backend.prefill(&heads, most)?;
        let admissions = self.schedule.admit(version, ready, self.backend.room_for_answers());
        if admissions.is_empty() {
            return Ok(());
        }
        let first = admissions.iter().filter(|a| a.first);
        self.events.extend(first.map(|a| Event::Started { group: a.group, version }));
        let slots: Vec<usize> = admissions.iter().flat_map(|a| a.slots.iter().copied()).collect();
        let draw = self.how_to_draw(&slots);
        let drawn = self.backend.attach(&admissions, self.schedule.admitted_in_part(), version, &draw)?;
        self.record(&slots, drawn)
    }

    fn how_to_draw(&self, slots: &[usize]) -> Draw {
        let EngineOptions { temperature, filters, .. } = self.options;
        let seen = |&slot: &usize| self.schedule.seen(slot).map(i64::from).collect();
        Draw {
            uniforms: slots.iter().map(|&slot| self.schedule.uniform(slot)).collect(),
            temperature,
            filters,
            seen: filters.penalises().then(|| slots.iter().map(seen).collect()),
        }
    }

    /// Takes the next token of each slot, and ends what is complete.
    fn record(&mut self, slots: &[usize], drawn: Vec<Drawn>) -> Result<(), GeneratorError> {
        let version = self.version();
        if drawn.iter().any(|d| !d.logprob.is_finite()) {
            return Err(GeneratorError::NotFinite { version });
        }
        self.tokens += drawn.len() as u64;
        for (&slot, drawn) in slots.iter().zip(drawn) {
            self.events.extend(self.schedule.record(slot, drawn, version).map(Event::Finished));
        }
        Ok(())
    }
}
