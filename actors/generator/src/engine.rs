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

use counterpoint_policy::{Snapshot, Tensor, Transformer};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::{DropReason, GroupId, PolicyVersion};

use crate::kv::{KvStore, Prefix};
use crate::schedule::{Admission, Schedule};
use crate::stop::StopStrings;
use crate::{Detokenize, EngineOptions, Event, GeneratorError, OnSwap, Request, sample};

/// Prompt tokens, padding included, of one prefill pass: bounds the memory of its activations. A longer prompt has a pass of
/// its own.
const PREFILL_TOKENS: usize = 8192;

/// See the module.
pub struct Engine {
    options: EngineOptions,
    transformer: Transformer,
    snapshot: Arc<Snapshot>,
    /// Weights that wait for running sequences to finish ([`OnSwap::Drain`]).
    pending: Option<Arc<Snapshot>>,
    store: KvStore,
    schedule: Schedule,
    /// The prompt of the group whose answers have slots in part, for those that have none yet.
    kept: Option<Kept>,
    /// Reported by the next step.
    events: Vec<Event>,
    tokens: u64,
}

struct Kept {
    group: GroupId,
    prefix: Prefix,
    /// (1, vocabulary): of the first answer token.
    logits: Tensor,
}

impl Engine {
    /// An engine that samples with `snapshot`, on its device and in its number format.
    pub fn new(
        snapshot: Arc<Snapshot>,
        options: EngineOptions,
        detokenize: Detokenize,
    ) -> Result<Self, GeneratorError> {
        options.check()?;
        let config = snapshot.config();
        let (device, kind) = (snapshot.flat().device(), snapshot.flat().kind());
        let positions = ((options.max_prompt_tokens + options.max_new_tokens) as i64).min(config.max_positions);
        let transformer = Transformer::new(config, positions, device)?;
        let store = KvStore::new(config, options.slots, positions, kind, device)?;
        let stop = StopStrings::new(&options.stop);
        let schedule =
            Schedule::new(options.slots, options.max_new_tokens, options.eos_tokens.clone(), stop, detokenize)
                .with_max_time(options.max_time);
        Ok(Self {
            options,
            transformer,
            snapshot,
            pending: None,
            store,
            schedule,
            kept: None,
            events: Vec::new(),
            tokens: 0,
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
        self.kept = self.kept.take().filter(|kept| self.schedule.admitted_in_part() == Some(kept.group));
    }

    /// Gives everything up and reports none of it: whoever asked is gone.
    pub fn abandon(&mut self) {
        self.schedule.clear();
        self.kept = None;
        self.events.clear();
    }

    /// Takes new weights: at once with [`OnSwap::Keep`], else when the running sequences have finished, and newer weights
    /// replace those that still wait. [`Self::version`] tells what is loaded.
    pub fn load(&mut self, snapshot: Arc<Snapshot>) -> Result<(), GeneratorError> {
        if snapshot.config() != self.snapshot.config() {
            return Err(GeneratorError::OtherModel { version: snapshot.version() });
        }
        let (device, kind) = (self.snapshot.flat().device(), self.snapshot.flat().kind());
        let fits = snapshot.flat().device() == device && snapshot.flat().kind() == kind;
        self.pending = Some(if fits { snapshot } else { Arc::new(snapshot.to(device, kind)?) });
        self.swap_if_due();
        Ok(())
    }

    fn swap_if_due(&mut self) {
        if self.options.on_swap == OnSwap::Keep || self.schedule.running() == 0 {
            self.snapshot = self.pending.take().unwrap_or_else(|| Arc::clone(&self.snapshot));
        }
    }

    /// The loaded weights.
    pub fn version(&self) -> PolicyVersion {
        self.snapshot.version()
    }

    /// How it samples.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Whether new weights wait for running sequences to finish ([`OnSwap::Drain`]).
    pub fn swapping(&self) -> bool {
        self.pending.is_some()
    }

    /// Groups submitted that are neither finished nor dropped.
    pub fn groups(&self) -> usize {
        self.schedule.groups()
    }

    /// Tokens sampled since the engine exists.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Whether a step would do nothing: no sequence runs, and none may start with the loaded weights.
    pub fn is_idle(&self) -> bool {
        self.events.is_empty()
            && self.pending.is_none()
            && self.schedule.running() == 0
            && !self.schedule.admissible(self.version())
    }

    /// One decode step: see the module.
    pub fn step(&mut self) -> Result<Vec<Event>, GeneratorError> {
        let _inference = tch::no_grad_guard();
        let watch = self.options.max_time.map(|_| Stopwatch::start());
        self.swap_if_due();
        self.decode()?;
        if self.pending.is_none() {
            self.admit()?;
        }
        if let Some(watch) = watch {
            self.schedule.pass(watch.elapsed());
        }
        Ok(std::mem::take(&mut self.events))
    }

    fn decode(&mut self) -> Result<(), GeneratorError> {
        let (moves, active) = self.schedule.compact();
        self.store.compact(&moves, active)?;
        if active == 0 {
            return Ok(());
        }
        let Self { transformer, snapshot, store, schedule, .. } = self;
        let tokens = to_device(&schedule.newest(), snapshot)?.f_view([-1, 1])?;
        let weights = snapshot.weights();
        let hidden = store.decode(|positions, attend| transformer.hidden(weights, &tokens, positions, attend))?;
        // (n, 1, hidden) -> (n, hidden)
        let logits = transformer.logits(weights, &hidden.f_squeeze_dim(1)?)?;
        self.draw(&logits, &(0..active).collect::<Vec<_>>())
    }

    fn admit(&mut self) -> Result<(), GeneratorError> {
        let admissions = self.schedule.admit(self.version());
        if admissions.is_empty() {
            return Ok(());
        }
        let mut logits = Vec::new();
        let mut rest = &admissions[..];
        // Only the first admission can be of a group that was admitted in part before.
        if let Some(kept) =
            self.kept.as_ref().filter(|k| k.group == rest[0].group && k.prefix.version() == self.snapshot.version())
        {
            let places: Vec<(usize, usize)> = rest[0].slots.iter().map(|&slot| (0, slot)).collect();
            self.store.attach(&kept.prefix, self.snapshot.version(), &places)?;
            logits.push(kept.logits.f_expand([places.len() as i64, -1], false)?);
            rest = &rest[1..];
        }
        while !rest.is_empty() {
            let (pass, behind) = rest.split_at(self.prompts_of_one_pass(rest));
            logits.push(self.prefill(pass)?);
            rest = behind;
        }
        let in_part = self.schedule.admitted_in_part();
        self.kept = self.kept.take().filter(|kept| in_part == Some(kept.group));
        let version = self.version();
        let first = admissions.iter().filter(|a| a.first);
        self.events.extend(first.map(|a| Event::Started { group: a.group, version }));
        let slots: Vec<usize> = admissions.iter().flat_map(|a| a.slots.iter().copied()).collect();
        self.draw(&Tensor::f_cat(&logits, 0)?, &slots)
    }

    /// How many of these prompts, at least one, fit into a padded pass.
    fn prompts_of_one_pass(&self, admissions: &[Admission]) -> usize {
        let mut longest = 0;
        let fits = |(index, admission): &(usize, &Admission)| {
            longest = self.schedule.prompt(admission.group).len().max(longest);
            (index + 1) * longest <= PREFILL_TOKENS
        };
        admissions.iter().enumerate().take_while(fits).count().max(1)
    }

    /// Runs the prompts in one padded pass and copies their cache to the slots of their answers. Returns the logits of the
    /// first answer token, one row per slot in order.
    fn prefill(&mut self, admissions: &[Admission]) -> Result<Tensor, GeneratorError> {
        let prompts: Vec<&[u32]> = admissions.iter().map(|a| self.schedule.prompt(a.group)).collect();
        let (rows, columns) = (prompts.len(), prompts.iter().map(|p| p.len()).max().unwrap_or(0));
        let mut padded = vec![0i64; rows * columns];
        for (row, prompt) in padded.chunks_mut(columns).zip(&prompts) {
            row.iter_mut().zip(*prompt).for_each(|(place, &token)| *place = i64::from(token));
        }
        let lengths: Vec<i64> = prompts.iter().map(|p| p.len() as i64).collect();
        let last: Vec<i64> = (0i64..).zip(&lengths).map(|(row, length)| row * columns as i64 + length - 1).collect();

        let (rows, columns) = (rows as i64, columns as i64);
        let (version, weights) = (self.snapshot.version(), self.snapshot.weights());
        let tokens = to_device(&padded, &self.snapshot)?.f_view([rows, columns])?;
        let positions =
            Tensor::f_arange(columns, (tch::Kind::Int64, tokens.device()))?.f_expand([rows, columns], false)?;
        let forward = |attend: &mut dyn counterpoint_policy::Attend| {
            self.transformer.hidden(weights, &tokens, &positions, attend)
        };
        let (hidden, prefix) = self.store.prefill(lengths, version, forward)?;
        // (B, S, hidden) -> (B, hidden): the last token of each prompt
        let hidden = hidden.f_flatten(0, 1)?.f_index_select(0, &to_device(&last, &self.snapshot)?)?;
        let logits = self.transformer.logits(weights, &hidden)?;

        let place = |(row, admission): (usize, &Admission)| {
            admission.slots.iter().map(move |&slot| (row, slot)).collect::<Vec<_>>()
        };
        let places: Vec<(usize, usize)> = admissions.iter().enumerate().flat_map(place).collect();
        self.store.attach(&prefix, version, &places)?;
        if let Some(row) = admissions.iter().position(|a| self.schedule.admitted_in_part() == Some(a.group)) {
            let logits = logits.f_narrow(0, row as i64, 1)?.f_contiguous()?;
            self.kept = Some(Kept { group: admissions[row].group, prefix: prefix.row(row)?, logits });
        }
        let rows: Vec<i64> = places.iter().map(|&(row, _)| row as i64).collect();
        Ok(logits.f_index_select(0, &to_device(&rows, &self.snapshot)?)?)
    }

    /// The tokens of each slot's prompt and answer, (slots, longest); a shorter row repeats its first.
    fn seen(&self, slots: &[usize]) -> Result<Tensor, GeneratorError> {
        let rows: Vec<Vec<i64>> = slots.iter().map(|&slot| self.schedule.seen(slot).map(i64::from).collect()).collect();
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut padded = Vec::with_capacity(rows.len() * longest);
        for row in &rows {
            padded.extend(row);
            padded.resize(padded.len() + longest - row.len(), row.first().copied().unwrap_or(0));
        }
        Ok(to_device(&padded, &self.snapshot)?.f_view([rows.len() as i64, longest as i64])?)
    }

    /// Draws the next token of `slots`, whose logits are the rows, and ends what is complete.
    fn draw(&mut self, logits: &Tensor, slots: &[usize]) -> Result<(), GeneratorError> {
        let version = self.version();
        let uniforms: Vec<f32> = slots.iter().map(|&slot| self.schedule.uniform(slot)).collect();
        let (filters, temperature) = (&self.options.filters, self.options.temperature);
        let drawn = if filters.none() {
            sample::draw(logits, &uniforms, temperature)?
        } else {
            let seen = if filters.penalises() { Some(self.seen(slots)?) } else { None };
            let shaped = filters.apply(logits, temperature, seen.as_ref())?;
            // The temperature is in it.
            sample::draw(&shaped, &uniforms, if temperature == 0.0 { 0.0 } else { 1.0 })?
        };
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

fn to_device(values: &[i64], snapshot: &Snapshot) -> Result<Tensor, GeneratorError> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(snapshot.flat().device())?)
}
