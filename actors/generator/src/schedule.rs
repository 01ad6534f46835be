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
    /// Sequences that gave their slots up, for lack of memory or for new weights, the oldest first.
    suspended: VecDeque<Sequence>,
    /// Sequences that got a slot so far.
    admitted: u64,
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
    /// How many got a slot before it.
    order: u64,
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

/// A group that may get slots now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Head<'a> {
    pub(crate) group: GroupId,
    pub(crate) prompt: &'a [u32],
    /// How many.
    pub(crate) answers: usize,
}

/// A suspended sequence that got a slot again.
#[derive(Debug, PartialEq)]
pub(crate) struct Resumed {
    pub(crate) slot: usize,
    pub(crate) group: GroupId,
    /// How many of the tokens are the prompt's.
    pub(crate) prompt: usize,
    /// What its cache must have: all tokens but the newest, which the next step feeds.
    pub(crate) tokens: Vec<u32>,
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
        let (max_time, now, suspended, admitted) = (None, Duration::ZERO, VecDeque::new(), 0);
        Self {
            capacity,
            max_new_tokens,
            max_time,
            now,
            eos_tokens,
            stop,
            detokenize,
            waiting,
            slots,
            suspended,
            admitted,
            groups,
        }
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
        self.suspended.retain(|sequence| sequence.group != group);
        for slot in &mut self.slots {
            slot.take_if(|sequence| sequence.group == group);
        }
        true
    }

    /// Forgets all groups.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.suspended.clear();
        self.groups.clear();
        self.slots.iter_mut().for_each(|slot| *slot = None);
    }

    /// Sequences that have begun: in slots, or suspended.
    pub(crate) fn running(&self) -> usize {
        self.slots.iter().flatten().count() + self.suspended.len()
    }

    /// Takes the slot from the sequence that got one last, unless it is the only one; returns the slot.
    pub(crate) fn suspend_youngest(&mut self) -> Option<usize> {
        let in_slots = || self.slots.iter().enumerate().filter_map(|(slot, s)| Some((s.as_ref()?.order, slot)));
        let (_, slot) = in_slots().max().filter(|_| in_slots().count() > 1)?;
        let sequence = self.slots[slot].take()?;
        // Those that are suspended already are younger, or were before this one was resumed.
        let place = self.suspended.partition_point(|other| other.order < sequence.order);
        self.suspended.insert(place, sequence);
        Some(slot)
    }

    /// Takes the slots from all sequences.
    pub(crate) fn suspend_all(&mut self) {
        self.suspended.extend(self.slots.drain(..).flatten());
        self.suspended.make_contiguous().sort_by_key(|sequence| sequence.order);
    }

    /// How many tokens of the oldest suspended sequence a cache must have before it goes on.
    pub(crate) fn suspended_tokens(&self) -> Option<usize> {
        let sequence = self.suspended.front()?;
        Some(self.prompt(sequence.group).len() + sequence.drawn - 1)
    }

    /// Gives a slot to the oldest suspended sequence.
    pub(crate) fn resume(&mut self) -> Option<Resumed> {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let sequence = self.suspended.pop_front()?;
        let (group, prompt) = (sequence.group, self.prompt(sequence.group).len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(sequence);
        let mut tokens: Vec<u32> = self.seen(slot).collect();
        tokens.pop();
        Some(Resumed { slot, group, prompt, tokens })
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

    /// Slots whose sequence has ended.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().enumerate().filter(|(_, sequence)| sequence.is_none()).map(|(slot, _)| slot)
    }

    /// The groups that [`Self::admit`] would give slots to now, in order.
    pub(crate) fn heads(&self, loaded: PolicyVersion) -> Vec<Head<'_>> {
        let mut free = self.capacity - self.running();
        let startable = self.waiting.iter().take_while(|waiting| waiting.min_version <= loaded);
        let head = |waiting: &Waiting| {
            let answers = free.min(waiting.noise.len() - waiting.next);
            free -= answers;
            let group = waiting.group;
            (answers > 0).then(|| Head { group, prompt: self.prompt(group), answers })
        };
        startable.map_while(head).collect()
    }

    /// Whether a group is neither finished nor cancelled.
    pub(crate) fn holds(&self, group: GroupId) -> bool {
        self.groups.contains_key(&group)
    }

    /// Gives free slots to at most so many waiting samples of at most so many groups: gaps first, in ascending order, then
    /// new slots behind the last.
    pub(crate) fn admit(&mut self, loaded: PolicyVersion, groups: usize, samples: usize) -> Vec<Admission> {
        let gaps: Vec<usize> = self.gaps().collect();
        let free = gaps.into_iter().chain(self.slots.len()..self.capacity);
        let mut free = free.take(samples.min(self.capacity - self.running())).peekable();
        let mut admissions = Vec::new();
        while admissions.len() < groups
            && free.peek().is_some()
            && let Some(head) = self.waiting.front_mut().filter(|head| head.min_version <= loaded)
        {
            let (group, first) = (head.group, head.next == 0);
            let slots: Vec<usize> = free.by_ref().take(head.noise.len() - head.next).collect();
            for &slot in &slots {
                let (sample, noise) = (head.next, head.noise[head.next]);
                let (order, begun, watch) = (self.admitted, self.now, Watch::default());
                let sequence = Sequence { group, sample, noise, order, begun, drawn: 0, newest: 0, watch };
                self.admitted += 1;
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
