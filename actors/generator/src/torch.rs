//! The model by libtorch: any device, any number format, adapters beside the weights.

use std::sync::Arc;

use counterpoint_policy::{Attend, Kind, Snapshot, Tensor, Transformer};
use counterpoint_rollout::{GroupId, PolicyVersion};

use crate::backend::{Draw, PREFILL_TOKENS};
use crate::kv::{KvStore, Prefix};
use crate::schedule::{Admission, Head, Resumed};
use crate::{Drawn, GeneratorError};

pub(crate) struct TorchBackend {
    transformer: Transformer,
    snapshot: Arc<Snapshot>,
    store: KvStore,
    /// Prompts that wait for slots, in the order of their groups.
    prompts: Vec<Prompts>,
}

/// Prompts that were run in one pass.
struct Prompts {
    groups: Vec<GroupId>,
    prefix: Prefix,
    /// (prompts, vocabulary): of the first answer token.
    logits: Tensor,
}

impl TorchBackend {
    pub(crate) fn new(snapshot: &Arc<Snapshot>, slots: usize, positions: i64) -> Result<Self, GeneratorError> {
        let config = snapshot.config();
        let (device, kind) = (snapshot.flat().device(), snapshot.flat().kind());
        let transformer = Transformer::new(config, positions, device)?;
        let store = KvStore::new(config, slots, positions, kind, device)?;
        Ok(Self { transformer, snapshot: Arc::clone(snapshot), store, prompts: Vec::new() })
    }

    pub(crate) fn load(&mut self, snapshot: &Arc<Snapshot>) {
        self.snapshot = Arc::clone(snapshot);
        self.prompts.clear();
    }

    pub(crate) fn compact(&mut self, moves: &[(usize, usize)], active: usize) -> Result<(), GeneratorError> {
        Ok(self.store.compact(moves, active)?)
    }

    pub(crate) fn decode(&mut self, newest: &[u32], draw: &Draw) -> Result<Vec<Drawn>, GeneratorError> {
        let Self { transformer, snapshot, store, .. } = self;
        let newest: Vec<i64> = newest.iter().copied().map(i64::from).collect();
        let tokens = to_device(&newest, snapshot)?.f_view([-1, 1])?;
        let weights = snapshot.weights();
        let hidden = store.decode(|positions, attend| transformer.hidden(weights, &tokens, positions, attend))?;
        // (n, 1, hidden) -> (n, hidden)
        let logits = transformer.logits(weights, &hidden.f_squeeze_dim(1)?)?;
        draw.of_logits(&logits)
    }

    /// Whole prompts only: a pass is as long as its longest, whatever `most` says.
    pub(crate) fn prefill(&mut self, heads: &[Head<'_>], most: usize) -> Result<usize, GeneratorError> {
        let mut ready = heads.iter().take_while(|head| self.holds(head.group)).count();
        let mut left = most;
        while ready < heads.len() && left > 0 {
            let lengths = heads[ready..].iter().map(|head| head.prompt.len());
            let count = sequences_of_one_pass(lengths, left.min(PREFILL_TOKENS));
            let pass = &heads[ready..ready + count];
            self.run(pass)?;
            left = left.saturating_sub(pass.iter().map(|head| head.prompt.len()).sum());
            ready += count;
        }
        Ok(ready)
    }

    fn holds(&self, group: GroupId) -> bool {
        self.prompts.iter().any(|prompts| prompts.groups.contains(&group))
    }

    /// Runs the prompts in one padded pass.
    fn run(&mut self, heads: &[Head<'_>]) -> Result<(), GeneratorError> {
        let prompts: Vec<&[u32]> = heads.iter().map(|head| head.prompt).collect();
        let (hidden, prefix) = self.pass(&prompts)?;
        let columns = hidden.size()[1];
        let last: Vec<i64> = (0i64..).zip(&prompts).map(|(row, p)| row * columns + p.len() as i64 - 1).collect();
        // (B, S, hidden) -> (B, hidden): the last token of each prompt
        let hidden = hidden.f_flatten(0, 1)?.f_index_select(0, &to_device(&last, &self.snapshot)?)?;
        let logits = self.transformer.logits(self.snapshot.weights(), &hidden)?;
        self.prompts.push(Prompts { groups: heads.iter().map(|head| head.group).collect(), prefix, logits });
        Ok(())
    }

    /// Runs sequences in one padded pass: the residual stream (B, S, hidden), and their cache.
    fn pass(&self, sequences: &[&[u32]]) -> Result<(Tensor, Prefix), GeneratorError> {
        let (rows, columns) = (sequences.len(), sequences.iter().map(|tokens| tokens.len()).max().unwrap_or(0));
        let mut padded = vec![0i64; rows * columns];
        for (row, tokens) in padded.chunks_mut(columns).zip(sequences) {
            row.iter_mut().zip(*tokens).for_each(|(place, &token)| *place = i64::from(token));
        }
        let lengths: Vec<i64> = sequences.iter().map(|tokens| tokens.len() as i64).collect();
        let (rows, columns) = (rows as i64, columns as i64);
        let (version, weights) = (self.snapshot.version(), self.snapshot.weights());
        let tokens = to_device(&padded, &self.snapshot)?.f_view([rows, columns])?;
        let positions = Tensor::f_arange(columns, (Kind::Int64, tokens.device()))?.f_expand([rows, columns], false)?;
        let forward = |attend: &mut dyn Attend| self.transformer.hidden(weights, &tokens, &positions, attend);
        Ok(self.store.prefill(lengths, version, forward)?)
    }

    /// In padded passes, a prompt once for each of its answers: the pass of a batch costs little more for its rows.
    pub(crate) fn rebuild(&mut self, resumed: &[Resumed]) -> Result<(), GeneratorError> {
        let mut left = resumed;
        while !left.is_empty() {
            let lengths = left.iter().map(|sequence| sequence.tokens.len());
            let (pass, rest) = left.split_at(sequences_of_one_pass(lengths, PREFILL_TOKENS));
            let (_, cache) = self.pass(&pass.iter().map(|sequence| &sequence.tokens[..]).collect::<Vec<_>>())?;
            let places: Vec<(usize, usize)> = pass.iter().enumerate().map(|(row, s)| (row, s.slot)).collect();
            self.store.attach(&cache, self.snapshot.version(), &places)?;
            left = rest;
        }
        Ok(())
    }

    pub(crate) fn attach(
        &mut self,
        admissions: &[Admission],
        keep: Option<GroupId>,
        loaded: PolicyVersion,
        draw: &Draw,
    ) -> Result<Vec<Drawn>, GeneratorError> {
        let mut logits = Vec::new();
        for prompts in &self.prompts {
            let row_of = |group: GroupId| prompts.groups.iter().position(|g| *g == group);
            let place = |admission: &Admission| {
                let row = row_of(admission.group)?;
                Some(admission.slots.iter().map(move |&slot| (row, slot)).collect::<Vec<_>>())
            };
            let places: Vec<(usize, usize)> = admissions.iter().filter_map(place).flatten().collect();
            if places.is_empty() {
                continue;
            }
            self.store.attach(&prompts.prefix, loaded, &places)?;
            let rows: Vec<i64> = places.iter().map(|&(row, _)| row as i64).collect();
            logits.push(prompts.logits.f_index_select(0, &to_device(&rows, &self.snapshot)?)?);
        }
        let kept = self.prompts.iter().find_map(|prompts| {
            let row = prompts.groups.iter().position(|group| Some(*group) == keep)?;
            Some((prompts, row))
        });
        let kept = kept.map(|(prompts, row)| prompts.row(row)).transpose()?;
        self.prompts = kept.into_iter().collect();
        draw.of_logits(&Tensor::f_cat(&logits, 0)?)
    }

    pub(crate) fn retain(&mut self, wanted: impl Fn(GroupId) -> bool) {
        self.prompts.retain(|prompts| prompts.groups.iter().any(|group| wanted(*group)));
    }
}

impl Prompts {
    /// A copy of one, for siblings that get a slot later.
    fn row(&self, row: usize) -> Result<Self, GeneratorError> {
        let logits = self.logits.f_narrow(0, row as i64, 1)?.f_contiguous()?;
        Ok(Self { groups: vec![self.groups[row]], prefix: self.prefix.row(row)?, logits })
    }
}

/// How many sequences of these lengths, at least one, fit into a padded pass of so many tokens.
fn sequences_of_one_pass(lengths: impl Iterator<Item = usize>, tokens: usize) -> usize {
    let mut longest = 0;
    let fits = |&(index, length): &(usize, usize)| {
        longest = length.max(longest);
        (index + 1) * longest <= tokens
    };
    lengths.enumerate().take_while(fits).count().max(1)
}

fn to_device(values: &[i64], snapshot: &Snapshot) -> Result<Tensor, GeneratorError> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(snapshot.flat().device())?)
}
