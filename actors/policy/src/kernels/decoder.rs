use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};

use tch::{Device, Tensor};

use super::aligned::{Aligned, stride};
use super::blocks::{BLOCK, Blocks};
use super::level::Level;
use super::number::WeightFormat;
use super::pass::{Pass, Split, Work};
use super::pick::{Picked, pick};
use super::team::{Barrier, Team};
use super::weights::PackedWeights;
use crate::{ModelConfig, PolicyError, Snapshot, Transformer};

/// Rows that are taken through all layers together. More are taken in turn, which changes nothing but the memory in use.
const TOGETHER: usize = 512;

/// One token of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// What stands at the position.
    pub token: u32,
    /// Tokens before it. Their keys and values are in the blocks, or their rows are before this one in the pass.
    pub position: usize,
    /// The sequence's blocks, up to the position's, which must be the sequence's own. The same slice for all its rows.
    pub blocks: &'a [u32],
}

/// Runs rows through a model. Keeps the packed weights, the buffers and the helping threads between passes.
#[derive(Debug)]
pub struct Decoder {
    config: Arc<ModelConfig>,
    level: Level,
    format: WeightFormat,
    weights: PackedWeights,
    /// Memory of the weights before, for the next ones.
    spare: Option<PackedWeights>,
    packing: Option<JoinHandle<Result<PackedWeights, PolicyError>>>,
    /// (positions, D).
    cos: Vec<f32>,
    sin: Vec<f32>,
    positions: usize,
    team: Team,
    barrier: Barrier,
    work: Work,
    memory: Vec<*mut f32>,
    /// One row of whole lines for each wanted row of the last pass.
    logits: Aligned,
    wanted: usize,
}

// SAFETY: `memory` is only written and read within a call, all else is Send.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Packs a snapshot that [`PackedWeights::fits`], its matrices in `format`. `positions`: the longest sequence; `threads`: how
    /// many work, at least one.
    pub fn new(
        snapshot: &Arc<Snapshot>,
        format: WeightFormat,
        positions: i64,
        threads: usize,
    ) -> Result<Self, PolicyError> {
        let config = Arc::clone(snapshot.config());
        let transformer = Transformer::new(&config, positions, Device::Cpu)?;
        let [cos, sin] = transformer
            .rotations()
            .map(|table: &Tensor| Ok::<_, PolicyError>(Vec::<f32>::try_from(table.f_reshape([-1])?)?));
        let team = team(threads)?;
        let weights = PackedWeights::new(snapshot, format, &team)?;
        Ok(Self {
            level: Level::best(),
            format,
            weights,
            spare: None,
            packing: None,
            cos: cos?,
            sin: sin?,
            positions: positions as usize,
            barrier: Barrier::new(team.threads()),
            work: Work::default(),
            team,
            memory: Vec::new(),
            logits: Aligned::default(),
            wanted: 0,
            config,
        })
    }

    /// Takes other weights of the same model, into the memory of the present ones.
    pub fn load(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), PolicyError> {
        self.check_model(snapshot)?;
        self.weights.load(snapshot, &self.team)
    }

    /// Packs other weights of the same model on a thread of its own, while the present ones stay in use, until [`Self::swap`].
    /// Weights that are being packed already are given up first.
    pub fn begin_load(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), PolicyError> {
        self.check_model(snapshot)?;
        if let Some(given_up) = self.packed(true)? {
            self.spare = Some(given_up.retire());
        }
        let (snapshot, format, spare) = (Arc::clone(snapshot), self.format, self.spare.take());
        let pack = move || {
            let alone = team(1)?;
            let Some(mut packed) = spare else { return PackedWeights::new(&snapshot, format, &alone) };
            packed.load(&snapshot, &alone)?;
            Ok(packed)
        };
        let thread = thread::Builder::new().name("packing".to_owned()).spawn(pack);
        let thread =
            thread.map_err(|e| PolicyError::Tensor(format!("cannot start a thread that packs weights: {e}")))?;
        self.packing = Some(thread);
        Ok(())
    }

    /// Takes the weights of [`Self::begin_load`] into use if they are packed, or waits until they are. Says whether it did.
    pub fn swap(&mut self, wait: bool) -> Result<bool, PolicyError> {
        let Some(packed) = self.packed(wait)? else { return Ok(false) };
        self.spare = Some(std::mem::replace(&mut self.weights, packed).retire());
        Ok(true)
    }

    fn packed(&mut self, wait: bool) -> Result<Option<PackedWeights>, PolicyError> {
        match self.packing.take_if(|packing| wait || packing.is_finished()).map(JoinHandle::join) {
            None => Ok(None),
            Some(Ok(packed)) => packed.map(Some),
            Some(Err(_)) => Err(PolicyError::Tensor("the thread that packs weights panicked".to_owned())),
        }
    }

    fn check_model(&self, snapshot: &Snapshot) -> Result<(), PolicyError> {
        match snapshot.config() == &self.config {
            true => Ok(()),
            false => Err(PolicyError::Tensor("weights of another model".to_owned())),
        }
    }

    /// Works with so many threads from now on.
    pub fn set_threads(&mut self, threads: usize) -> Result<(), PolicyError> {
        if threads.max(1) != self.team.threads() {
            self.team = team(threads)?;
            self.barrier = Barrier::new(self.team.threads());
        }
        Ok(())
    }

    /// Uses other instructions than the best; of those in [`Level::available`].
    pub fn set_level(&mut self, level: Level) {
        if Level::available().contains(&level) {
            self.level = level;
        }
    }

    /// Runs `rows`, a sequence's in order, and appends their keys and values to their blocks. [`Self::logits`] are then those
    /// of the rows that `wanted` numbers, in ascending order.
    pub fn run(&mut self, rows: &[Row<'_>], wanted: &[usize], blocks: &mut Blocks) -> Result<(), PolicyError> {
        blocks.pointers(&mut self.memory);
        self.check(rows, wanted)?;
        let stride = self.logits_stride();
        self.wanted = wanted.len();
        if self.logits.len() < wanted.len() * stride {
            self.logits = Aligned::zeros(wanted.len() * stride);
        }
        let longest = rows.iter().map(|row| row.position + 1).max().unwrap_or(0).next_multiple_of(BLOCK);
        let together = rows.len().min(TOGETHER);
        self.work.reserve(&self.config, together, longest, self.team.threads());
        let mut first_wanted = 0;
        for (number, tile) in rows.chunks(TOGETHER).enumerate() {
            let start = number * TOGETHER;
            let count = wanted[first_wanted..].iter().take_while(|&&row| row < start + tile.len()).count();
            let of_tile: Vec<usize> = wanted[first_wanted..][..count].iter().map(|row| row - start).collect();
            let logits = self.logits[first_wanted * stride..].as_mut_ptr();
            let pass = Pass {
                config: &self.config,
                level: self.level,
                weights: &self.weights,
                embedding: self.weights.embedding()?,
                rotations: [&self.cos, &self.sin],
                shape: blocks.shape,
                memory: &self.memory,
                rows: tile,
                wanted: &of_tile,
                // One row per sequence: then no row reads what another thread appends.
                together: tile.windows(2).any(|pair| std::ptr::eq(pair[0].blocks, pair[1].blocks)),
                split: Split::choose(tile.len(), self.team.threads()),
                threads: self.team.threads(),
                turn: AtomicUsize::new(0),
                barrier: &self.barrier,
                buffers: self.work.buffers(),
                logits: (logits, stride),
            };
            self.team.run(&|thread| {
                let _guard = pass.barrier.guard();
                // SAFETY: every thread of the team runs it once, with a number of its own, and `check` was passed.
                unsafe { pass.work(thread) }
            });
            first_wanted += count;
        }
        Ok(())
    }

    /// The matrix products of a pass of so many rows, of whatever stands in the buffers, and nothing else: what a decode step is
    /// measured against.
    pub fn products(&mut self, rows: usize) -> Result<(), PolicyError> {
        let blocks = Blocks::new(&self.config, 0);
        let rows = vec![Row { token: 0, position: 0, blocks: &[] }; rows];
        let stride = self.logits_stride();
        self.work.reserve(&self.config, rows.len(), BLOCK, self.team.threads());
        if self.logits.len() < rows.len() * stride {
            self.logits = Aligned::zeros(rows.len() * stride);
        }
        let wanted: Vec<usize> = (0..rows.len()).collect();
        let pass = Pass {
            config: &self.config,
            level: self.level,
            weights: &self.weights,
            embedding: &[],
            rotations: [&self.cos, &self.sin],
            shape: blocks.shape,
            memory: &[],
            rows: &rows,
            wanted: &wanted,
            together: false,
            split: Split::choose(rows.len(), self.team.threads()),
            threads: self.team.threads(),
            turn: AtomicUsize::new(0),
            barrier: &self.barrier,
            buffers: self.work.buffers(),
            logits: (self.logits.as_mut_ptr(), stride),
        };
        self.team.run(&|thread| {
            let _guard = pass.barrier.guard();
            // SAFETY: every thread of the team runs it once, with a number of its own; the buffers have the rows.
            unsafe { pass.products(thread) }
        });
        Ok(())
    }

    fn check(&self, rows: &[Row<'_>], wanted: &[usize]) -> Result<(), PolicyError> {
        let problem = |text: String| Err(PolicyError::Tensor(format!("the kernels' pass: {text}")));
        for row in rows {
            if i64::from(row.token) >= self.config.vocab_size {
                return problem(format!("token {} of a vocabulary of {}", row.token, self.config.vocab_size));
            }
            if row.position >= self.positions || row.position / BLOCK >= row.blocks.len() {
                let (position, blocks) = (row.position, row.blocks.len());
                return problem(format!("position {position} of {}, in {blocks} blocks", self.positions));
            }
            if let Some(block) = row.blocks.iter().find(|&&block| block as usize >= self.memory.len()) {
                return problem(format!("block {block} does not exist"));
            }
        }
        if wanted.windows(2).any(|pair| pair[0] >= pair[1]) || wanted.last().is_some_and(|&last| last >= rows.len()) {
            return problem(format!("wanted rows {wanted:?} of {}", rows.len()));
        }
        Ok(())
    }

    /// From one row of logits to the next.
    fn logits_stride(&self) -> usize {
        stride(self.config.vocab_size as usize)
    }

    /// Logits of the wanted rows of the last pass, each with -inf behind the vocabulary up to whole lines.
    pub fn logits(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        let stride = self.logits_stride();
        self.logits[..self.wanted * stride].chunks_exact(stride)
    }

    /// Entries of a row of logits that are tokens.
    pub fn vocabulary(&self) -> usize {
        self.config.vocab_size as usize
    }

    /// Draws a token from each row of logits, as [`Self::logits`] gives them, with its uniform number in [0, 1).
    pub fn pick(&self, rows: &[&[f32]], uniforms: &[f32], temperature: f64) -> Vec<Picked> {
        /// Logits below which waking the helpers takes longer than the work.
        const ALONE: usize = 1 << 15;
        let count = rows.len().min(uniforms.len());
        let mut picked = vec![Picked::default(); count];
        let threads = if count * self.vocabulary() < ALONE { 1 } else { self.team.threads() };
        let shares: Vec<std::sync::Mutex<&mut [Picked]>> =
            picked.chunks_mut(count.div_ceil(threads).max(1)).map(Into::into).collect();
        let size = count.div_ceil(threads).max(1);
        let level = self.level;
        let job = |thread: usize| {
            let Some(share) = shares.get(thread) else { return };
            // Each share has one thread.
            let mut share = share.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut sums = Vec::new();
            for (within, picked) in share.iter_mut().enumerate() {
                let row = thread * size + within;
                // SAFETY: the level is available.
                *picked = unsafe { pick(level, rows[row], uniforms[row], temperature as f32, &mut sums) };
            }
        };
        if threads == 1 {
            job(0)
        } else {
            self.team.run(&job)
        }
        drop(shares);
        picked
    }
}

fn team(threads: usize) -> Result<Team, PolicyError> {
    Team::new(threads).map_err(|error| PolicyError::Tensor(format!("cannot start the kernels' threads: {error}")))
}
