//! Forward and backward through the layers on a CPU, in float32, without libtorch: what the learner trains with where it can.
//!
//! A small model's step is thousands of tensor operations, whose cost per call and whose trips to memory take longer than the
//! arithmetic; and libtorch's products do not use the full width of every processor's vectors. So embedding, layers and final
//! norm are written out here, forward and, by hand, backward. The output projection and the loss stay with libtorch.
//!
//! What comes out for a token is what the sampler's kernels compute for it, to the bit: the products, norms and attention
//! add in the same order. Sums over tokens run in the tokens' order, whatever the number of threads.

mod attend;
mod backward;
mod layer;
mod places;
mod product;
mod rowwise;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use self::layer::{Pass, Room, Worker};
use self::places::{Buffer, Kept, KeptRows, Places, Scratch, Sizes, place};
use super::gemm::{PANEL, Rows};
use super::level::Level;
use super::team::{Barrier, Team};
use crate::{ModelConfig, PolicyError, Transformer, Weights};

/// T tokens of rows `[prompt | answer 1 | answer 2 ...]`, one row behind another.
#[derive(Clone, Copy, Debug)]
pub struct PackedRows<'a> {
    /// (T)
    pub tokens: &'a [i64],
    /// (T): counted from the start of the prompt in each answer.
    pub positions: &'a [i64],
    /// (T): 0 for the prompt, 1.. for the answers of a row.
    pub segments: &'a [i64],
    /// The lengths of the rows.
    pub rows: &'a [usize],
    /// (M): the tokens whose hidden states are wanted; any may come several times.
    pub picks: &'a [i64],
}

/// What forward keeps for backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: there is no backward.
    Nothing,
    /// What each layer reads. Backward computes the rest again.
    Inputs,
    /// All.
    All,
}

/// A row within the tokens of a pass.
#[derive(Debug)]
pub(in crate::kernels::training) struct RowSpan {
    start: usize,
    /// The prompt, then each answer, counted from the row's start.
    segments: Vec<Range<usize>>,
}

/// Passes of one model. Keeps the memory and the helping threads between passes.
#[derive(Debug)]
pub struct TrainingPasses {
    config: ModelConfig,
    sizes: Sizes,
    level: Level,
    /// Cosines, signed sines, and the same with the other sign, (positions, D).
    rotations: [Vec<f32>; 3],
    team: Team,
    barrier: Barrier,
    rooms: Vec<Mutex<Room>>,
    inputs: Vec<Buffer>,
    kept: Vec<Kept>,
    scratch: Scratch,
    spans: Vec<RowSpan>,
}

impl TrainingPasses {
    /// For a model with these rotations. `threads`: how many work, at least one.
    pub fn new(transformer: &Transformer, threads: usize) -> Result<Self, PolicyError> {
        let table = |table: &Tensor| Ok::<_, PolicyError>(Vec::<f32>::try_from(table.f_reshape([-1])?)?);
        let [cos, sin] = transformer.rotations();
        let (cos, sin) = (table(cos)?, table(sin)?);
        let back = sin.iter().map(|x| -x).collect();
        let team =
            Team::new(threads).map_err(|e| PolicyError::Tensor(format!("cannot start the kernels' threads: {e}")))?;
        Ok(Self {
            config: transformer.config().clone(),
            sizes: Sizes::of(transformer.config()),
            level: Level::best(),
            rotations: [cos, sin, back],
            barrier: Barrier::new(team.threads()),
            rooms: (0..team.threads()).map(|_| Mutex::default()).collect(),
            team,
            inputs: Vec::new(),
            kept: Vec::new(),
            scratch: Scratch::default(),
            spans: Vec::new(),
        })
    }

    /// (M, hidden): what the output projection reads at the picked tokens.
    pub fn forward(&mut self, weights: &Weights, work: &PackedRows<'_>, keep: Keep) -> Result<Tensor, PolicyError> {
        self.spans = self.check(weights, work)?;
        let normed = Tensor::f_empty([work.picks.len() as i64, self.config.hidden_size], (Kind::Float, Device::Cpu))?;
        let to = &Shared(Rows { start: place(&normed)?, stride: self.sizes.hidden });
        // SAFETY: the pass's buffers have room, and the tensor is of this size.
        self.run(weights, work, keep, |worker| unsafe { worker.forward(*to.get()) })?;
        Ok(normed)
    }

    /// Adds the gradients of all parameters but the output projection to `gradients`, which are laid out like the weights, given
    /// that by what [`Self::forward`] gave, `by_normed`: (M, hidden). To be called after it, once, with the same `work` and `keep`.
    pub fn backward(
        &mut self,
        weights: &Weights,
        work: &PackedRows<'_>,
        keep: Keep,
        by_normed: &Tensor,
        gradients: &Weights,
    ) -> Result<(), PolicyError> {
        let wanted = [work.picks.len() as i64, self.config.hidden_size];
        self.spans = self.check(weights, work)?;
        if keep == Keep::Nothing || by_normed.size() != wanted || gradients.layers.len() != self.config.layers {
            return Err(PolicyError::Tensor(format!(
                "no backward by {:?} of a forward that keeps {keep:?}",
                by_normed.size()
            )));
        }
        let by_normed = by_normed.f_contiguous()?;
        let from = Rows { start: place(&by_normed)?, stride: self.sizes.hidden };
        let both = &Shared((from, Places::of(gradients)?));
        let again = keep == Keep::Inputs;
        // SAFETY: the pass's buffers have room, and the gradient is of this size.
        self.run(weights, work, keep, |worker| unsafe { worker.backward(both.get().0, &both.get().1, again) })
    }

    /// Lets every thread do its part of a pass.
    fn run(
        &mut self,
        weights: &Weights,
        work: &PackedRows<'_>,
        keep: Keep,
        job: impl Fn(&mut Worker<'_>) + Sync,
    ) -> Result<(), PolicyError> {
        let places = Places::of(weights)?;
        let (layers, tokens, sizes) = (self.config.layers, work.tokens.len(), self.sizes);
        // Without backward two are enough: what a layer reads and what it gives.
        self.inputs.resize_with(layers + 1, Buffer::default);
        let kept = if keep == Keep::All { layers } else { 1 };
        self.kept.resize_with(self.kept.len().max(kept), Kept::default);
        let distinct = if keep == Keep::Nothing { 2 } else { layers + 1 };
        let inputs: Vec<Rows<*mut f32>> = (0..=layers)
            .map(|layer| {
                let buffer = &mut self.inputs[layer % distinct];
                buffer.reserve(tokens, sizes.hidden);
                buffer.rows()
            })
            .collect();
        let kept: Vec<KeptRows> =
            self.kept.iter_mut().take(kept).map(|kept| kept.reserve(tokens, &sizes, self.config.qk_norm)).collect();
        let scratch = self.scratch.reserve(tokens, work.picks.len(), &sizes, keep != Keep::Nothing);
        let positions = work.positions.iter().max().map_or(0, |last| *last as usize + 1);
        for room in &mut self.rooms {
            let room = room.get_mut().unwrap_or_else(PoisonError::into_inner);
            room.reserve(&sizes, positions);
        }
        // Forward has one attention per layer, backward one or two.
        let taken: Vec<AtomicUsize> = (0..2 * layers).map(|_| AtomicUsize::new(0)).collect();
        let pass = Pass {
            config: &self.config,
            sizes,
            level: self.level,
            weights: &places,
            rotations: self.rotations.each_ref().map(Vec::as_slice),
            work,
            spans: &self.spans,
            inputs: &inputs,
            kept: &kept,
            scratch,
            threads: self.team.threads(),
            barrier: &self.barrier,
            taken: &taken,
        };
        let rooms = &self.rooms;
        let (pass, job) = (&pass, &job);
        self.team.run(&|thread| {
            let _guard = pass.barrier.guard();
            // Each room has one thread, so the lock is free.
            let mut room = rooms[thread].lock().unwrap_or_else(PoisonError::into_inner);
            job(&mut Worker { pass, thread, room: &mut room, attentions: 0 });
        });
        Ok(())
    }

    /// Whether all that a pass reads is there. Returns where its rows lie.
    fn check(&self, weights: &Weights, work: &PackedRows<'_>) -> Result<Vec<RowSpan>, PolicyError> {
        let PackedRows { tokens, positions, segments, rows, picks } = *work;
        let below = |values: &[i64], end: i64| values.iter().all(|value| (0..end).contains(value));
        let tables = (self.rotations[0].len() / self.sizes.width) as i64;
        let sound = positions.len() == tokens.len()
            && segments.len() == tokens.len()
            && rows.iter().sum::<usize>() == tokens.len()
            && !rows.contains(&0)
            && weights.embedding.size2()? == (self.config.vocab_size, self.config.hidden_size)
            && below(tokens, self.config.vocab_size)
            && below(positions, tables)
            && below(picks, tokens.len() as i64);
        if !sound || weights.layers.len() != self.config.layers {
            return Err(PolicyError::Tensor(format!("rows of {rows:?} are no pass of {} tokens", tokens.len())));
        }
        let mut start = 0;
        let spans = rows.iter().map(|length| {
            let own = &segments[start..start + length];
            let mut segments = Vec::new();
            let mut begin = 0;
            while begin < own.len() {
                let end = begin + own[begin..].iter().take_while(|segment| **segment == own[begin]).count();
                segments.push(begin..end);
                begin = end;
            }
            start += length;
            RowSpan { start: start - length, segments }
        });
        let spans: Vec<RowSpan> = spans.collect();
        let places = |span: &RowSpan| {
            let prompt = span.segments[0].len();
            let of = |(number, segment): (usize, &Range<usize>)| {
                let before = if number == 0 { 0 } else { prompt };
                segment.clone().zip(before..).all(|(token, place)| positions[span.start + token] == place as i64)
            };
            segments[span.start] == 0 && span.segments.iter().enumerate().all(of)
        };
        match spans.iter().all(places) {
            true => Ok(spans),
            false => Err(PolicyError::Tensor("a row is not a prompt and answers that go on from it".to_owned())),
        }
    }
}

/// Places outside the pass's buffers, for all threads.
struct Shared<T>(T);

// SAFETY: threads write to disjoint parts of what it points to.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn get(&self) -> &T {
        &self.0
    }
}

impl Room {
    fn reserve(&mut self, sizes: &Sizes, positions: usize) {
        let grow = |room: &mut Vec<f32>, count: usize| {
            if room.len() < count {
                room.resize(count, 0.0);
            }
        };
        grow(&mut self.panel, PANEL * sizes.widest().max(layer::TOKENS));
        grow(&mut self.head, attend::room(sizes.width, positions));
    }
}
