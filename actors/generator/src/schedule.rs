//! Which sequence runs in which slot, in plain data: no tensor, no clock.
//!
//! Requests are served first in, first out. The head of the queue may be admitted in part, when it has more answers than
//! there are free slots; a head that waits for newer weights holds back all behind it, so the order in which groups start
//! is the order in which they were submitted, whatever the weights do. Everything here is a function of what was submitted,
//! cancelled and drawn: time has no say, so two runs that draw the same tokens lay out their batches alike. The one exception is
//! asked for: with a time limit, which [`Schedule::pass`] is told of, an answer ends early.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use counterpoint_rollout::{
    Completion, FinishReason, GroupId, NoiseKey, PolicyVersion, check_invariant, invariant::Invariant,
};

use crate::stop::{StopStrings, Watch};
use crate::{Detokenize, Drawn, GeneratorError, Request, Sampled};

/// See the module.
pub(crate) struct Schedule {
    capacity: usize,
    max_new_tokens: usize,
    max_time: Option<Duration>,
    /// Time that has passed in steps.
    now: Duration,
    eos_tokens: Vec<u32>,
    stop: StopStrings,
    detokenize: Detokenize,
    waiting: VecDeque<Waiting>,
    /// None where a sequence ended and no other has taken its place yet.
    slots: Vec<Option<Sequence>>,
    /// Every group that is submitted and neither finished nor cancelled.
    groups: HashMap<GroupId, Progress>,
}

struct Waiting {
    group: GroupId,
    noise: Vec<NoiseKey>,
    min_version: PolicyVersion,
    /// The first sample that has no slot yet.
    next: usize,
}

struct Sequence {
    group: GroupId,
    sample: usize,
    noise: NoiseKey,
    /// The time when it got its slot.
    begun: Duration,
    /// Tokens drawn so far.
    drawn: usize,
    /// The newest of them: what the next decode step is fed.
    newest: u32,
    /// Looked at where there are stop strings.
    watch: Watch,
}

struct Progress {
    prompt: Vec<u32>,
    start_version: PolicyVersion,
    completions: Vec<Completion>,
    unfinished: usize,
}

/// Samples of one group that got slots.
#[derive(Debug, PartialEq)]
pub(crate) struct Admission {
    pub(crate) group: GroupId,
    /// Whether no sample of the group had a slot before.
    pub(crate) first: bool,
    /// One per sample, in order.
    pub(crate) slots: Vec<usize>,
}

impl Schedule {
    pub(crate) fn new(
        capacity: usize,
        max_new_tokens: usize,
        eos_tokens: Vec<u32>,
        stop: StopStrings,
        detokenize: Detokenize,
    ) -> Self {
        let (waiting, slots, groups) = (VecDeque::new(), Vec::with_capacity(capacity), HashMap::new());
        let (max_time, now) = (None, Duration::ZERO);
        Self { capacity, max_new_tokens, max_time, now, eos_tokens, stop, detokenize, waiting, slots, groups }
    }

    /// Answers end with the first token that they get after so much time.
    pub(crate) fn with_max_time(self, max_time: Option<Duration>) -> Self {
        Self { max_time, ..self }
    }

    /// So much time has passed.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
    }

    /// Appends a request to the queue.
    pub(crate) fn submit(&mut self, request: Request) -> Result<(), GeneratorError> {
        let Request { group, prompt, noise, min_version } = request;
        let refuse = |problem| Err(GeneratorError::Request { group, problem });
        if prompt.is_empty() {
            return refuse("its prompt has no tokens");
        }
        if noise.is_empty() {
            return refuse("it asks for no answers");
        }
        if self.groups.contains_key(&group) {
            return refuse("it is being sampled already");
        }
        let empty = Completion {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            versions: Vec::new(),
            finish: FinishReason::Length,
            text: String::new(),
        };
        let completions = vec![empty; noise.len()];
        let progress =
            Progress { prompt, start_version: PolicyVersion::default(), unfinished: noise.len(), completions };
        self.groups.insert(group, progress);
        self.waiting.push_back(Waiting { group, noise, min_version, next: 0 });
        Ok(())
    }

    /// Forgets a group; false if it is not there.
    pub(crate) fn cancel(&mut self, group: GroupId) -> bool {
        if self.groups.remove(&group).is_none() {
            return false;
        }
        self.waiting.retain(|w| w.group != group);
        for slot in &mut self.slots {
            slot.take_if(|sequence| sequence.group == group);
        }
        true
    }

    /// Forgets all groups.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.groups.clear();
        self.slots.iter_mut().for_each(|slot| *slot = None);
    }

    /// Sequences in slots.
    pub(crate) fn running(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Groups that are neither finished nor cancelled.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Whether [`Self::admit`] would start something, given a free slot.
    pub(crate) fn admissible(&self, loaded: PolicyVersion) -> bool {
        self.waiting.front().is_some_and(|head| head.min_version <= loaded)
    }

    /// The group whose samples have slots in part.
    pub(crate) fn admitted_in_part(&self) -> Option<GroupId> {
        self.waiting.front().filter(|head| head.next > 0).map(|head| head.group)
    }

    /// A group's prompt; empty if it is not there.
    pub(crate) fn prompt(&self, group: GroupId) -> &[u32] {
        self.groups.get(&group).map_or(&[], |progress| &progress.prompt)
    }

    /// Closes the gaps: returns the moves `(from, to)` and the number of slots in use, which are then `0..n`.
    pub(crate) fn compact(&mut self) -> (Vec<(usize, usize)>, usize) {
        let mut moves = Vec::new();
        let mut gap = 0;
        loop {
            self.slots.truncate(self.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
            while self.slots.get(gap).is_some_and(Option::is_some) {
                gap += 1;
            }
            if gap >= self.slots.len() {
                return (moves, self.slots.len());
            }
            self.slots[gap] = self.slots.pop().flatten();
            moves.push((self.slots.len(), gap));
        }
    }

    /// The groups that [`Self::admit`] would give slots to now, in order.
    pub(crate) fn heads(&self, loaded: PolicyVersion) -> Vec<GroupId> {
        let mut free = self.capacity - self.running();
        let startable = self.waiting.iter().take_while(|waiting| waiting.min_version <= loaded);
        let fits = |waiting: &&Waiting| {
            let some = free > 0;
            free = free.saturating_sub(waiting.noise.len() - waiting.next);
            some
        };
        startable.take_while(fits).map(|waiting| waiting.group).collect()
    }

    /// Whether a group is neither finished nor cancelled.
    pub(crate) fn holds(&self, group: GroupId) -> bool {
        self.groups.contains_key(&group)
    }

    /// Gives free slots to waiting samples of at most so many groups: gaps first, in ascending order, then new slots behind
    /// the last.
    pub(crate) fn admit(&mut self, loaded: PolicyVersion, groups: usize) -> Vec<Admission> {
        let gaps: Vec<usize> = (0..self.slots.len()).filter(|&slot| self.slots[slot].is_none()).collect();
        let mut free = gaps.into_iter().chain(self.slots.len()..self.capacity).peekable();
        let mut admissions = Vec::new();
        while admissions.len() < groups
            && free.peek().is_some()
            && let Some(head) = self.waiting.front_mut().filter(|head| head.min_version <= loaded)
        {
            let (group, first) = (head.group, head.next == 0);
            let slots: Vec<usize> = free.by_ref().take(head.noise.len() - head.next).collect();
            for &slot in &slots {
                let (sample, noise) = (head.next, head.noise[head.next]);
                let (begun, watch) = (self.now, Watch::default());
                let sequence = Sequence { group, sample, noise, begun, drawn: 0, newest: 0, watch };
                if slot == self.slots.len() {
                    self.slots.push(Some(sequence));
                } else {
                    self.slots[slot] = Some(sequence);
                }
                head.next += 1;
            }
            if head.next == head.noise.len() {
                self.waiting.pop_front();
            }
            if let Some(progress) = self.groups.get_mut(&group).filter(|_| first) {
                progress.start_version = loaded;
            }
            admissions.push(Admission { group, first, slots });
        }
        admissions
    }

    /// The newest token of every slot; all slots must be in use.
    pub(crate) fn newest(&self) -> Vec<u32> {
        self.slots.iter().flatten().map(|sequence| sequence.newest).collect()
    }

    /// The noise of a slot's next token. An empty slot has none, and draws at 0.
    pub(crate) fn uniform(&self, slot: usize) -> f32 {
        self.slots[slot].as_ref().map_or(0.0, |sequence| sequence.noise.uniform(sequence.drawn as u64))
    }

    /// The tokens of a slot's prompt and of its answer so far.
    pub(crate) fn seen(&self, slot: usize) -> impl Iterator<Item = u32> {
        let sequence = self.slots[slot].as_ref();
        let progress = sequence.and_then(|sequence| Some((sequence.sample, self.groups.get(&sequence.group)?)));
        progress.into_iter().flat_map(|(sample, p)| p.prompt.iter().chain(&p.completions[sample].tokens)).copied()
    }

    /// Records a slot's next token. Ends the sequence if it is complete, and returns the group if that was its last.
    pub(crate) fn record(&mut self, slot: usize, drawn: Drawn, version: PolicyVersion) -> Option<Sampled> {
        let sequence = self.slots[slot].as_mut()?;
        let progress = self.groups.get_mut(&sequence.group)?;
        let completion = &mut progress.completions[sequence.sample];
        completion.push(drawn.token, drawn.logprob, version);
        sequence.newest = drawn.token;
        sequence.drawn += 1;
        let stopped = self.eos_tokens.contains(&drawn.token);
        let cut = if self.stop.is_empty() {
            None
        } else {
            self.stop.cut(&mut sequence.watch, &completion.tokens, &self.detokenize)
        };
        let stopped = stopped || cut.is_some();
        let late = self.max_time.is_some_and(|limit| self.now.saturating_sub(sequence.begun) >= limit);
        if !stopped && !late && sequence.drawn < self.max_new_tokens {
            return None;
        }
        completion.finish = if stopped { FinishReason::Stop } else { FinishReason::Length };
        completion.text = cut.unwrap_or_else(|| (self.detokenize)(&completion.tokens));
        let recorded: u32 = completion.versions.iter().map(|span| span.tokens).sum();
        check_invariant!(
            Invariant::CompletionShape,
            completion.tokens.len() == completion.logprobs.len() && completion.tokens.len() == recorded as usize,
            "{} has an answer of {} tokens, {} log-probs and {recorded} versions",
            sequence.group,
            completion.tokens.len(),
            completion.logprobs.len()
        );
        progress.unfinished -= 1;
        let (group, done) = (sequence.group, progress.unfinished == 0);
        self.slots[slot] = None;
        if !done {
            return None;
        }
        let Progress { prompt, start_version, completions, .. } = self.groups.remove(&group)?;
        Some(Sampled { group, prompt_tokens: prompt, completions, start_version })
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
