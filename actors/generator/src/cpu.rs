//! The model by the kernels of [`counterpoint_policy::kernels`]: float32 on a CPU.
//!
//! A sequence is a table of blocks. The full blocks of a prompt are shared by its answers; the last, unfinished one is copied
//! for each, since each writes its own tokens there. Where memory is limited, new answers begin when there is room for them, and
//! if running ones outgrow it the youngest are suspended and computed again later. A prompt is run before its answers get slots, all at once or some
//! tokens a step: it makes no difference to what comes out (see the numerics of the kernels).

use std::sync::Arc;

use counterpoint_policy::Snapshot;
use counterpoint_policy::kernels::{BLOCK, Blocks, Decoder, Picked, Row};
use counterpoint_policy::{Kind, ModelConfig, Tensor};
use counterpoint_rollout::{GroupId, PolicyVersion};

use crate::backend::{Draw, PREFILL_TOKENS};
use crate::schedule::{Admission, Head, Resumed};
use crate::{Drawn, EngineOptions, GeneratorError};

pub(crate) struct CpuBackend {
    decoder: Decoder,
    version: PolicyVersion,
    blocks: Blocks,
    slots: Vec<Table>,
    /// Prompts that wait for slots or are not run to their end, in the order of their groups.
    prompts: Vec<Prompt>,
}

/// Where a sequence's keys and values are.
#[derive(Default)]
struct Table {
    blocks: Vec<u32>,
    /// Tokens whose keys and values are there.
    length: usize,
    /// The group whose prompt it begins with, and the weights of the prompt's keys and values.
    prompt_of: Option<(GroupId, PolicyVersion)>,
}

struct Prompt {
    group: GroupId,
    table: Table,
    /// Of the first answer token, once the prompt is run: a row as the decoder gives it.
    logits: Vec<f32>,
}

impl CpuBackend {
    pub(crate) fn new(
        snapshot: &Arc<Snapshot>,
        positions: i64,
        options: &EngineOptions,
    ) -> Result<Self, GeneratorError> {
        let limit = limit(snapshot.config(), options)?;
        Ok(Self {
            decoder: Decoder::new(snapshot, options.kernel_weights, positions, threads())?,
            version: snapshot.version(),
            blocks: Blocks::new(snapshot.config(), limit),
            slots: Vec::new(),
            prompts: Vec::new(),
        })
    }

    pub(crate) fn load(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), GeneratorError> {
        self.retain(|_| false);
        self.decoder.set_threads(threads())?;
        self.decoder.load(snapshot)?;
        self.version = snapshot.version();
        Ok(())
    }

    pub(crate) fn begin_load(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), GeneratorError> {
        Ok(self.decoder.begin_load(snapshot)?)
    }

    pub(crate) fn swap(&mut self, version: PolicyVersion, wait: bool) -> Result<bool, GeneratorError> {
        let swapped = self.decoder.swap(wait)?;
        if swapped {
            self.retain(|_| false);
            self.version = version;
        }
        Ok(swapped)
    }

    pub(crate) fn compact(&mut self, moves: &[(usize, usize)], active: usize) {
        for &(from, to) in moves {
            let moved = std::mem::take(&mut self.slots[from]);
            self.replace(to, moved);
        }
        for mut table in self.slots.drain(active.min(self.slots.len())..) {
            table.give_back(&mut self.blocks);
        }
    }

    fn replace(&mut self, slot: usize, table: Table) {
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, Table::default);
        }
        std::mem::replace(&mut self.slots[slot], table).give_back(&mut self.blocks);
    }

    pub(crate) fn decode(&mut self, newest: &[u32], draw: &Draw) -> Result<Vec<Drawn>, GeneratorError> {
        self.decoder.set_threads(threads())?;
        for table in &mut self.slots {
            table.reserve(table.length + 1, &mut self.blocks)?;
        }
        let rows: Vec<Row<'_>> = self.slots.iter().zip(newest).map(|(table, &token)| table.next(token)).collect();
        let wanted: Vec<usize> = (0..rows.len()).collect();
        self.decoder.run(&rows, &wanted, &mut self.blocks)?;
        self.slots.iter_mut().for_each(|table| table.length += 1);
        let logits: Vec<&[f32]> = self.decoder.logits().collect();
        self.draw(&logits, draw)
    }

    fn draw(&self, logits: &[&[f32]], draw: &Draw) -> Result<Vec<Drawn>, GeneratorError> {
        if draw.filters.none() {
            let picked = self.decoder.pick(logits, &draw.uniforms, draw.temperature);
            return Ok(picked.into_iter().map(|Picked { token, logprob }| Drawn { token, logprob }).collect());
        }
        let vocabulary = self.decoder.vocabulary();
        let flat: Vec<f32> = logits.iter().flat_map(|row| &row[..vocabulary]).copied().collect();
        let tensor = Tensor::f_from_slice(&flat)?.f_view([logits.len() as i64, vocabulary as i64])?;
        draw.of_logits(&tensor.f_to_kind(Kind::Float)?)
    }

    pub(crate) fn prefill(&mut self, heads: &[Head<'_>], most: usize) -> Result<usize, GeneratorError> {
        self.decoder.set_threads(threads())?;
        let heads = &heads[..self.heads_with_room(heads)];
        for Head { group, prompt, .. } in heads {
            if !self.prompts.iter().any(|known| known.group == *group) {
                let blocks = Vec::with_capacity(prompt.len().div_ceil(BLOCK));
                // Loading weights forgets the prompts, so that all of one are of these.
                let table = Table { blocks, length: 0, prompt_of: Some((*group, self.version)) };
                self.prompts.push(Prompt { group: *group, table, logits: Vec::new() });
            }
        }
        let mut left = most;
        loop {
            let run = self.run_prompts(heads, left.min(PREFILL_TOKENS))?;
            left -= run;
            if run == 0 || left == 0 {
                break;
            }
        }
        let ready = |head: &&Head<'_>| self.prompts.iter().any(|p| p.group == head.group && !p.logits.is_empty());
        Ok(heads.iter().take_while(ready).count())
    }

    /// How many heads there is memory for: their prompts, and for each answer the copy of an unfinished block and one to grow
    /// into. The first one counts if nothing else could go on.
    fn heads_with_room(&self, heads: &[Head<'_>]) -> usize {
        let mut free = self.blocks.available().saturating_sub(self.slots.len());
        let fits = |head: &&Head<'_>| {
            let there = self.prompts.iter().find(|p| p.group == head.group).map_or(0, |p| p.table.blocks.len());
            let wanted = head.prompt.len().div_ceil(BLOCK) - there + ANSWER_BLOCKS * head.answers;
            let fits = wanted <= free;
            free = free.saturating_sub(wanted);
            fits
        };
        let count = heads.iter().take_while(fits).count();
        count.max(usize::from(self.slots.iter().all(|table| table.length == 0)).min(heads.len()))
    }

    pub(crate) fn room_for_answers(&self) -> usize {
        let free = self.blocks.available().saturating_sub(self.slots.len()) / ANSWER_BLOCKS;
        free.max(usize::from(self.slots.iter().all(|table| table.length == 0)))
    }

    pub(crate) fn lacks_room(&mut self) -> bool {
        let full = |table: &&Table| table.length > 0 && table.length == table.blocks.len() * BLOCK;
        let wanted = self.slots.iter().filter(full).count();
        while self.blocks.available() < wanted {
            let Some(mut prompt) = self.prompts.pop() else { return true };
            prompt.table.give_back(&mut self.blocks);
        }
        false
    }

    pub(crate) fn release(&mut self, slot: usize) {
        if let Some(table) = self.slots.get_mut(slot) {
            table.give_back(&mut self.blocks);
        }
    }

    /// As if none of them could share a prompt.
    pub(crate) fn may_rebuild(&mut self, lengths: &[usize]) -> bool {
        let running = self.slots.iter().filter(|table| table.length > 0).count();
        // With a block more for each that runs none is suspended again at once.
        let wanted = lengths.iter().map(|tokens| tokens.div_ceil(BLOCK) + 1).sum::<usize>() + running;
        while self.blocks.available() < wanted {
            let Some(mut prompt) = self.prompts.pop() else { return running == 0 && lengths.len() == 1 };
            prompt.table.give_back(&mut self.blocks);
        }
        true
    }

    pub(crate) fn rebuild(&mut self, sequence: &Resumed) -> Result<(), GeneratorError> {
        let &Resumed { slot, group, prompt, ref tokens } = sequence;
        self.decoder.set_threads(threads())?;
        let prompt_of = Some((group, self.version));
        let mut table = Table { prompt_of, ..Table::default() };
        // A sibling's prompt is of the same tokens and weights, so its full blocks have the same bits.
        let full = prompt.min(tokens.len()) / BLOCK;
        if let Some(sibling) = self.slots.iter().find(|sibling| sibling.prompt_of == prompt_of) {
            table.blocks.extend_from_slice(&sibling.blocks[..full]);
            table.blocks.iter().for_each(|&block| self.blocks.share(block));
        }
        let shared = table.blocks.len() * BLOCK;
        table.reserve(tokens.len(), &mut self.blocks)?;
        let row = |position: usize| Row { token: tokens[position], position, blocks: &table.blocks };
        let rows: Vec<Row<'_>> = (shared..tokens.len()).map(row).collect();
        if !rows.is_empty() {
            self.decoder.run(&rows, &[], &mut self.blocks)?;
        }
        table.length = tokens.len();
        self.replace(slot, table);
        Ok(())
    }

    /// Runs the next `most` tokens of the prompts, or as many as there are; returns how many.
    fn run_prompts(&mut self, heads: &[Head<'_>], most: usize) -> Result<usize, GeneratorError> {
        let Self { decoder, blocks, prompts, .. } = self;
        let mut left = most;
        let mut parts = Vec::new();
        let mut waiting = prompts.iter_mut();
        for Head { group, prompt: tokens, .. } in heads {
            // Both are in the order of the queue.
            let Some(prompt) = waiting.find(|prompt| prompt.group == *group) else { continue };
            let count = (tokens.len() - prompt.table.length).min(left);
            if count > 0 {
                prompt.table.reserve(prompt.table.length + count, blocks)?;
                left -= count;
                parts.push((prompt, &tokens[..], count));
            }
        }
        let (mut rows, mut wanted) = (Vec::with_capacity(most - left), Vec::new());
        for (prompt, tokens, count) in &parts {
            let start = prompt.table.length;
            let row = |position: usize| Row { token: tokens[position], position, blocks: &prompt.table.blocks };
            rows.extend((start..start + count).map(row));
            if start + count == tokens.len() {
                wanted.push(rows.len() - 1);
            }
        }
        if rows.is_empty() {
            return Ok(0);
        }
        decoder.run(&rows, &wanted, blocks)?;
        let mut logits = decoder.logits();
        for (prompt, tokens, count) in parts {
            prompt.table.length += count;
            if prompt.table.length == tokens.len() {
                prompt.logits = logits.next().map(<[f32]>::to_vec).unwrap_or_default();
            }
        }
        Ok(most - left)
    }

    pub(crate) fn attach(
        &mut self,
        admissions: &[Admission],
        keep: Option<GroupId>,
        loaded: PolicyVersion,
        draw: &Draw,
    ) -> Result<Vec<Drawn>, GeneratorError> {
        // No data leads here: loading weights forgets the prompts.
        assert_eq!(self.version, loaded, "a sequence may only start on a cache of the loaded weights");
        let prompts = std::mem::take(&mut self.prompts);
        let find = |group: GroupId| prompts.iter().find(|prompt| prompt.group == group);
        let mut logits: Vec<&[f32]> = Vec::with_capacity(draw.uniforms.len());
        for admission in admissions {
            let Some(prompt) = find(admission.group) else { continue };
            for &slot in &admission.slots {
                let table = prompt.table.fork(&mut self.blocks)?;
                self.replace(slot, table);
                logits.push(&prompt.logits);
            }
        }
        let drawn = self.draw(&logits, draw);
        self.prompts = prompts;
        let done = |group| admissions.iter().any(|admission| admission.group == group) && keep != Some(group);
        self.retain(|group| !done(group));
        drawn
    }

    pub(crate) fn retain(&mut self, wanted: impl Fn(GroupId) -> bool) {
        let Self { prompts, blocks, .. } = self;
        prompts.retain_mut(|prompt| {
            let keep = wanted(prompt.group);
            if !keep {
                prompt.table.give_back(blocks);
            }
            keep
        });
    }
}

impl Table {
    /// The token behind what is there.
    fn next(&self, token: u32) -> Row<'_> {
        Row { token, position: self.length, blocks: &self.blocks }
    }

    /// Makes room for so many positions.
    fn reserve(&mut self, positions: usize, blocks: &mut Blocks) -> Result<(), GeneratorError> {
        while self.blocks.len() * BLOCK < positions {
            self.blocks.push(blocks.take().ok_or(GeneratorError::Cache)?);
        }
        Ok(())
    }

    /// The same sequence once more, to be continued on its own.
    fn fork(&self, blocks: &mut Blocks) -> Result<Self, GeneratorError> {
        let full = self.length / BLOCK;
        let mut fork = Self { blocks: self.blocks[..full].to_vec(), length: self.length, prompt_of: self.prompt_of };
        self.blocks[..full].iter().for_each(|&block| blocks.share(block));
        if full < self.blocks.len() {
            fork.blocks.push(blocks.copy(self.blocks[full]).ok_or(GeneratorError::Cache)?);
        }
        Ok(fork)
    }

    fn give_back(&mut self, blocks: &mut Blocks) {
        self.blocks.drain(..).for_each(|block| blocks.give_back(block));
        (self.length, self.prompt_of) = (0, None);
    }
}

/// Blocks that an answer takes when it begins: the copy of an unfinished one, and one to grow into.
const ANSWER_BLOCKS: usize = 2;

/// Blocks that fit into the memory given.
fn limit(config: &ModelConfig, options: &EngineOptions) -> Result<usize, GeneratorError> {
    let Some(bytes) = options.kv_bytes else { return Ok(usize::MAX) };
    let needed = least_cache(config, options.max_prompt_tokens, options.max_new_tokens);
    if bytes < needed {
        let problem = format!("{bytes} bytes are too few for the longest answer and its prompt, which take {needed}");
        return Err(GeneratorError::Options(format!("kv_memory_mb: {problem}")));
    }
    Ok(usize::try_from(bytes / Blocks::block_bytes(config)).unwrap_or(usize::MAX))
}

/// Bytes of keys and values without which the longest answer could not come to its end: its own, beside those of its prompt.
pub(crate) fn least_cache(config: &ModelConfig, prompt_tokens: usize, new_tokens: usize) -> u64 {
    let longest = (prompt_tokens + new_tokens).min(config.max_positions as usize);
    let blocks = longest.div_ceil(BLOCK) + prompt_tokens.min(longest).div_ceil(BLOCK) + ANSWER_BLOCKS;
    blocks as u64 * Blocks::block_bytes(config)
}

/// The share of the calling thread, which its actor set: see [`counterpoint_policy::device::set_threads`].
fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}
