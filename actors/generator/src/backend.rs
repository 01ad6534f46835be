//! What runs the model for an engine: kernels of our own on a CPU in float32, else libtorch. Both keep the cache of the
//! sequences in slots; which slot is whose is the schedule's affair.

use std::sync::Arc;

use counterpoint_policy::{Snapshot, Tensor, kernels::PackedWeights};
use counterpoint_rollout::{GroupId, PolicyVersion};

use crate::cpu::CpuBackend;
use crate::schedule::{Admission, Head, Resumed};
use crate::torch::TorchBackend;
use crate::{Drawn, EngineOptions, Filters, GeneratorError, sample};

/// Prompt tokens, padding included, of one prefill pass: bounds the memory of its activations. A longer prompt has a pass of
/// its own.
pub(crate) const PREFILL_TOKENS: usize = 8192;

pub(crate) enum Backend {
    Cpu(Box<CpuBackend>),
    Torch(Box<TorchBackend>),
}

/// How the next tokens of some sequences are drawn.
pub(crate) struct Draw {
    /// One per sequence.
    pub(crate) uniforms: Vec<f32>,
    pub(crate) temperature: f64,
    pub(crate) filters: Filters,
    /// Where a filter asks: the tokens of each sequence so far.
    pub(crate) seen: Option<Vec<Vec<i64>>>,
}

impl Draw {
    /// From logits, (sequences, vocabulary).
    pub(crate) fn of_logits(&self, logits: &Tensor) -> Result<Vec<Drawn>, GeneratorError> {
        if self.filters.none() {
            return sample::draw(logits, &self.uniforms, self.temperature);
        }
        let seen = self.seen.as_ref().map(|rows| padded(rows, logits)).transpose()?;
        let shaped = self.filters.apply(logits, self.temperature, seen.as_ref())?;
        // The temperature is in it.
        sample::draw(&shaped, &self.uniforms, if self.temperature == 0.0 { 0.0 } else { 1.0 })
    }
}

/// (rows, longest); a shorter row repeats its first token.
fn padded(rows: &[Vec<i64>], beside: &Tensor) -> Result<Tensor, GeneratorError> {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut padded = Vec::with_capacity(rows.len() * longest);
    for row in rows {
        padded.extend(row);
        padded.resize(padded.len() + longest - row.len(), row.first().copied().unwrap_or(0));
    }
    let tensor = Tensor::f_from_slice(&padded)?.f_to_device(beside.device())?;
    Ok(tensor.f_view([rows.len() as i64, longest as i64])?)
}

impl Backend {
    /// The kernels where they can run the model, unless `options` say otherwise.
    pub(crate) fn new(snapshot: &Arc<Snapshot>, options: &EngineOptions) -> Result<Self, GeneratorError> {
        let longest = (options.max_prompt_tokens + options.max_new_tokens) as i64;
        let positions = longest.min(snapshot.config().max_positions);
        if options.kernels && PackedWeights::fits(snapshot) {
            return Ok(Self::Cpu(CpuBackend::new(snapshot, positions, options)?.into()));
        }
        Ok(Self::Torch(TorchBackend::new(snapshot, options.slots, positions)?.into()))
    }

    /// Takes other weights. Prompts that wait for slots must be run again; running sequences keep what they have.
    pub(crate) fn load(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), GeneratorError> {
        match self {
            Self::Cpu(cpu) => cpu.load(snapshot),
            Self::Torch(torch) => {
                torch.load(snapshot);
                Ok(())
            }
        }
    }

    /// Gets other weights ready beside the present ones, where that takes time. [`Self::swap`] takes them.
    pub(crate) fn begin_load(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), GeneratorError> {
        match self {
            Self::Cpu(cpu) => cpu.begin_load(snapshot),
            Self::Torch(_) => Ok(()),
        }
    }

    /// Takes the weights of [`Self::begin_load`] as [`Self::load`] does, if they are ready or `wait`; says whether it did.
    pub(crate) fn swap(&mut self, snapshot: &Arc<Snapshot>, wait: bool) -> Result<bool, GeneratorError> {
        match self {
            Self::Cpu(cpu) => cpu.swap(snapshot.version(), wait),
            Self::Torch(torch) => {
                torch.load(snapshot);
                Ok(true)
            }
        }
    }

    /// Moves sequences `(from, to)`, then forgets all slots from `active` on.
    pub(crate) fn compact(&mut self, moves: &[(usize, usize)], active: usize) -> Result<(), GeneratorError> {
        match self {
            Self::Cpu(cpu) => {
                cpu.compact(moves, active);
                Ok(())
            }
            Self::Torch(torch) => torch.compact(moves, active),
        }
    }

    /// Feeds each sequence its newest token, one per slot, and draws the next.
    pub(crate) fn decode(&mut self, newest: &[u32], draw: &Draw) -> Result<Vec<Drawn>, GeneratorError> {
        match self {
            Self::Cpu(cpu) => cpu.decode(newest, draw),
            Self::Torch(torch) => torch.decode(newest, draw),
        }
    }

    /// Runs prompts, in order and about `most` tokens of them, but makes some progress. Returns how many of the first heads
    /// are ready to be attached.
    pub(crate) fn prefill(&mut self, heads: &[Head<'_>], most: usize) -> Result<usize, GeneratorError> {
        match self {
            Self::Cpu(cpu) => cpu.prefill(heads, most),
            Self::Torch(torch) => torch.prefill(heads, most),
        }
    }

    /// Gives prompts that are ready to the slots of their answers, and draws each answer's first token. Forgets the prompts,
    /// except that of `keep`, whose other answers have no slots yet.
    pub(crate) fn attach(
        &mut self,
        admissions: &[Admission],
        keep: Option<GroupId>,
        loaded: PolicyVersion,
        draw: &Draw,
    ) -> Result<Vec<Drawn>, GeneratorError> {
        match self {
            Self::Cpu(cpu) => cpu.attach(admissions, keep, loaded, draw),
            Self::Torch(torch) => torch.attach(admissions, keep, loaded, draw),
        }
    }

    /// Whether the next decode step would run out of memory, even without prompts that wait for slots; those are forgotten
    /// one by one before that is said.
    pub(crate) fn lacks_room(&mut self) -> bool {
        match self {
            Self::Cpu(cpu) => cpu.lacks_room(),
            // Every slot has its memory.
            Self::Torch(_) => false,
        }
    }

    /// How many answers may be attached now.
    pub(crate) fn room_for_answers(&self) -> usize {
        match self {
            Self::Cpu(cpu) => cpu.room_for_answers(),
            Self::Torch(_) => usize::MAX,
        }
    }

    /// Gives up a slot's memory.
    pub(crate) fn release(&mut self, slot: usize) {
        if let Self::Cpu(cpu) = self {
            cpu.release(slot);
        }
    }

    /// Whether there is room for the caches of sequences of so many tokens, beside what runs already.
    pub(crate) fn may_rebuild(&mut self, lengths: &[usize]) -> bool {
        match self {
            Self::Cpu(cpu) => cpu.may_rebuild(lengths),
            Self::Torch(_) => true,
        }
    }

    /// Computes the caches of slots from their tokens, with the loaded weights.
    pub(crate) fn rebuild(&mut self, resumed: &[Resumed]) -> Result<(), GeneratorError> {
        match self {
            Self::Cpu(cpu) => resumed.iter().try_for_each(|sequence| cpu.rebuild(sequence)),
            Self::Torch(torch) => torch.rebuild(resumed),
        }
    }

    /// Forgets the prompts of groups that `wanted` does not want.
    pub(crate) fn retain(&mut self, wanted: impl Fn(GroupId) -> bool) {
        match self {
            Self::Cpu(cpu) => cpu.retain(wanted),
            Self::Torch(torch) => torch.retain(wanted),
        }
    }
}
