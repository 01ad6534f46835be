//! One pass of some rows through all layers, as each thread of the team sees it.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::aligned::{Aligned, stride};
use super::attend::{Reach, append, attend};
use super::blocks::{BLOCK, BlockShape};
use super::decoder::Row;
use super::gemm::{Job, Matrix, Rows, multiply};
use super::level::Level;
use super::rowwise::{gated, rms_norm, rotate};
use super::team::Barrier;
use super::weights::{PackedLayer, PackedWeights};
use crate::ModelConfig;

/// How threads share the products. Everything else is always shared by rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// Each takes rows through all layers: nobody waits for anybody, and each reads all weights. Where no row needs what
    /// another one computes, a thread that is done takes more, so that one whose core is busy otherwise holds up little.
    Rows,
    /// Each computes some columns of all rows: weights are read once, and all wait for each other seven times a layer.
    Columns,
}

impl Split {
    /// By rows where every thread has enough of them to be busy with a panel while the next one is fetched.
    pub(super) fn choose(rows: usize, threads: usize) -> Self {
        if rows >= 16 * threads { Self::Rows } else { Self::Columns }
    }
}

/// Rows that a thread takes at a time: enough to make use of a panel, few enough to be shared evenly.
const TAKEN: usize = 32;

/// The memory of a pass.
#[derive(Debug, Default)]
pub(super) struct Work {
    rows: usize,
    scores_each: usize,
    strides: [usize; 5],
    parts: [Aligned; 5],
    scores: Aligned,
}

impl Work {
    /// Makes room for so many rows, of sequences of so many positions.
    pub(super) fn reserve(&mut self, config: &ModelConfig, rows: usize, positions: usize, threads: usize) {
        let (hidden, inner) = (config.hidden_size as usize, config.intermediate_size as usize);
        let (heads, kv_heads, width) = (config.heads as usize, config.kv_heads as usize, config.head_dim as usize);
        if rows > self.rows {
            // The gated activation takes whole lines, the last of which may begin inside the row and end behind it.
            let widths = [hidden, hidden, (heads + 2 * kv_heads) * width, heads * width, 2 * inner + 16];
            self.strides = widths.map(stride);
            self.parts = self.strides.map(|stride| Aligned::zeros(rows * stride));
            self.rows = rows;
        }
        // Four heads at a time; a line more keeps threads apart.
        let scores = 4 * positions;
        if scores > self.scores_each || self.scores.len() < threads * self.scores_each {
            self.scores_each = self.scores_each.max(2 * scores);
            self.scores = Aligned::zeros(threads * self.scores_each);
        }
    }

    pub(super) fn buffers(&mut self) -> Buffers {
        let mut parts = self.parts.iter_mut().zip(self.strides);
        let mut next = || {
            // There are five of them, as many as are asked for below.
            let (part, stride) = parts.next().map_or((std::ptr::null_mut(), 0), |(p, s)| (p.as_mut_ptr(), s));
            Rows { start: part, stride }
        };
        let (x, normed, qkv, mixed, gate_up) = (next(), next(), next(), next(), next());
        Buffers { x, normed, qkv, mixed, gate_up, scores: self.scores.as_mut_ptr(), scores_each: self.scores_each }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Buffers {
    /// The residual stream.
    x: Rows<*mut f32>,
    normed: Rows<*mut f32>,
    qkv: Rows<*mut f32>,
    mixed: Rows<*mut f32>,
    gate_up: Rows<*mut f32>,
    scores: *mut f32,
    /// Of each thread.
    scores_each: usize,
}

impl Rows<*mut f32> {
    #[inline(always)]
    pub(super) unsafe fn row(self, row: usize) -> *mut f32 {
        // SAFETY: the caller's: the buffer has the row.
        unsafe { self.start.add(row * self.stride) }
    }

    fn read(self) -> Rows<*const f32> {
        Rows { start: self.start.cast_const(), stride: self.stride }
    }
}

/// What all threads of a pass know.
pub(super) struct Pass<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) level: Level,
    pub(super) weights: &'a PackedWeights,
    pub(super) embedding: &'a [f32],
    /// Cosines and signed sines, (positions, D).
    pub(super) rotations: [&'a [f32]; 2],
    pub(super) shape: BlockShape,
    pub(super) memory: &'a [*mut f32],
    pub(super) rows: &'a [Row<'a>],
    pub(super) wanted: &'a [usize],
    /// Whether some rows are of one sequence.
    pub(super) together: bool,
    pub(super) split: Split,
    pub(super) threads: usize,
    /// The first row that nobody has taken.
    pub(super) turn: AtomicUsize,
    pub(super) barrier: &'a Barrier,
    pub(super) buffers: Buffers,
    pub(super) logits: (*mut f32, usize),
}

// SAFETY: threads write to disjoint places of the buffers and blocks: their own rows, or their own columns of all rows, with
// a barrier wherever one reads what another wrote. Everything else is only read.
unsafe impl Sync for Pass<'_> {}

/// `count` things in equal parts: that of one thread.
pub(super) fn share(count: usize, thread: usize, threads: usize) -> Range<usize> {
    thread * count / threads..(thread + 1) * count / threads
}

impl Pass<'_> {
    /// Does the thread's part.
    ///
    /// # Safety
    /// Each of the threads calls it once, the buffers have room for the rows, the rows' blocks exist and reach to their
    /// positions, and the level is available.
    pub(super) unsafe fn work(&self, thread: usize) {
        let count = self.rows.len();
        if self.split == Split::Rows && !self.together && self.wanted.len() == count {
            let group = self.group();
            // SAFETY: the caller's; every row is taken once.
            self.taken(group, |own| unsafe { self.run(thread, own) });
        } else {
            // SAFETY: the caller's.
            unsafe { self.run(thread, share(count, thread, self.threads)) };
        }
    }

    /// Rows that are taken at a time.
    fn group(&self) -> usize {
        self.rows.len().div_ceil(self.threads).clamp(1, TAKEN)
    }

    /// Calls `job` with rows that nobody else has taken, until there are none.
    fn taken(&self, group: usize, job: impl Fn(Range<usize>)) {
        loop {
            let first = self.turn.fetch_add(group, Ordering::Relaxed);
            if first >= self.rows.len() {
                return;
            }
            job(first..(first + group).min(self.rows.len()));
        }
    }

    /// Takes rows through all layers, together with the other threads if columns are shared.
    unsafe fn run(&self, thread: usize, own: Range<usize>) {
        // SAFETY: the caller's; each step writes the rows or columns that are this thread's.
        unsafe {
            self.embed(own.clone());
            for (number, layer) in self.weights.layers.iter().enumerate() {
                self.layer(number, layer, thread, own.clone());
            }
            self.head(thread, own);
        }
    }

    /// The products of [`Self::work`] alone.
    ///
    /// # Safety
    /// As there, but for the blocks.
    pub(super) unsafe fn products(&self, thread: usize) {
        let Buffers { x, normed, qkv, mixed, gate_up, .. } = self.buffers;
        let (start, stride) = self.logits;
        // SAFETY: the caller's.
        let run = |own: Range<usize>| unsafe {
            for layer in &self.weights.layers {
                self.product(&layer.qkv, normed, qkv, thread, &own, false);
                self.meet();
                self.product(&layer.output, mixed, x, thread, &own, false);
                self.meet();
                self.product(&layer.gate_up, normed, gate_up, thread, &own, false);
                self.meet();
                self.product(&layer.down, gate_up, x, thread, &own, false);
                self.meet();
            }
            self.product(&self.weights.head, normed, Rows { start, stride }, thread, &own, false);
        };
        match self.split {
            Split::Rows => self.taken(self.group(), run),
            Split::Columns => run(0..self.rows.len()),
        }
    }

    /// Waits until the others have come so far, where that matters.
    fn meet(&self) {
        if self.split == Split::Columns && self.threads > 1 {
            self.barrier.wait();
        }
    }

    unsafe fn embed(&self, own: Range<usize>) {
        let hidden = self.config.hidden_size as usize;
        for row in own {
            let token = self.rows[row].token as usize;
            let embedding = &self.embedding[token * hidden..][..hidden];
            // SAFETY: the row has so much room and is ours.
            unsafe { std::ptr::copy_nonoverlapping(embedding.as_ptr(), self.buffers.x.row(row), hidden) };
        }
    }

    unsafe fn layer(&self, number: usize, layer: &PackedLayer, thread: usize, own: Range<usize>) {
        let Buffers { x, normed, qkv, mixed, gate_up, .. } = self.buffers;
        // SAFETY: the caller's.
        unsafe {
            self.norm(&layer.input_norm, own.clone(), |row| x.row(row));
            self.meet();
            self.product(&layer.qkv, normed, qkv, thread, &own, false);
            self.meet();
            if self.together {
                self.append(number, layer, own.clone());
                if self.threads > 1 {
                    self.barrier.wait();
                }
                self.attend(number, thread, own.clone());
            } else {
                // Row by row: what attention fetches for the next row is also where that one appends.
                for row in own.clone() {
                    self.append(number, layer, row..row + 1);
                    self.attend(number, thread, row..row + 1);
                }
            }
            self.meet();
            self.product(&layer.output, mixed, x, thread, &own, true);
            self.meet();
            self.norm(&layer.post_norm, own.clone(), |row| x.row(row));
            self.meet();
            self.product(&layer.gate_up, normed, gate_up, thread, &own, false);
            self.meet();
            for row in own.clone() {
                gated(self.level, gate_up.row(row), self.config.intermediate_size as usize);
            }
            self.meet();
            self.product(&layer.down, gate_up, x, thread, &own, true);
            self.meet();
        }
    }

    /// Norms the rows that `of` finds into rows of `normed`.
    unsafe fn norm(&self, weight: &[f32], rows: Range<usize>, of: impl Fn(usize) -> *mut f32) {
        let (width, epsilon) = (self.config.hidden_size as usize, self.config.rms_norm_eps as f32);
        for row in rows {
            // SAFETY: the caller's.
            unsafe {
                rms_norm(self.level, of(row), weight.as_ptr(), self.buffers.normed.row(row), width, epsilon);
            }
        }
    }

    /// A product of `own` rows, or, where columns are shared, of some columns of all rows.
    unsafe fn product(
        &self,
        matrix: &Matrix,
        x: Rows<*mut f32>,
        y: Rows<*mut f32>,
        thread: usize,
        own: &Range<usize>,
        add: bool,
    ) {
        let (rows, panels) = match self.split {
            Split::Rows => (own.clone(), 0..matrix.panels()),
            Split::Columns => (0..self.rows.len(), share(matrix.panels(), thread, self.threads)),
        };
        let job = Job { matrix, x: x.read(), y, rows, panels, add };
        // SAFETY: the caller's.
        unsafe { multiply(self.level, &job) };
    }

    fn reach(&self, layer: usize, head: usize, row: usize) -> Reach<'_> {
        let Row { position, blocks, .. } = self.rows[row];
        let first = self.config.window(layer).map_or(0, |window| (position + 1).saturating_sub(window as usize));
        let next = self.rows.get(row + 1).map_or(blocks, |next| next.blocks);
        Reach { shape: self.shape, memory: self.memory, blocks, next, layer, head, first, end: position + 1 }
    }

    /// Norms and rotates queries and keys, and puts keys and values into the blocks.
    unsafe fn append(&self, number: usize, layer: &PackedLayer, own: Range<usize>) {
        let (heads, kv_heads) = (self.config.heads as usize, self.config.kv_heads as usize);
        let width = self.shape.width;
        let epsilon = self.config.rms_norm_eps as f32;
        for row in own {
            let position = self.rows[row].position;
            let [cos, sin] = self.rotations.map(|table| &table[position * width..][..width]);
            // SAFETY: the caller's: the row is ours, with heads + 2 · kv_heads heads in it.
            unsafe {
                let qkv = self.buffers.qkv.row(row);
                for head in 0..heads + kv_heads {
                    let x = qkv.add(head * width);
                    if let Some([query, key]) = &layer.qk_norm {
                        let weight = if head < heads { query } else { key };
                        rms_norm(self.level, x, weight.as_ptr(), x, width, epsilon);
                    }
                    rotate(self.level, x, cos, sin);
                }
                for head in 0..kv_heads {
                    let (key, value) = (qkv.add((heads + head) * width), qkv.add((heads + kv_heads + head) * width));
                    append(self.level, &self.reach(number, head, row), position, key, value);
                }
            }
        }
    }

    unsafe fn attend(&self, number: usize, thread: usize, own: Range<usize>) {
        let (heads, kv_heads) = (self.config.heads as usize, self.config.kv_heads as usize);
        let (width, group) = (self.shape.width, heads / kv_heads);
        let scale = (1.0 / (width as f64).sqrt()) as f32;
        // SAFETY: the caller's: the rows are ours, and so is this part of the scores.
        unsafe {
            let scores = self.buffers.scores.add(thread * self.buffers.scores_each);
            for row in own {
                let (query, mixed) = (self.buffers.qkv.row(row), self.buffers.mixed.row(row));
                for head in 0..kv_heads {
                    let start = head * group * width;
                    let reach = self.reach(number, head, row);
                    attend(self.level, &reach, group, query.add(start), scale, scores, mixed.add(start));
                }
            }
        }
    }

    /// The logits of the wanted rows.
    unsafe fn head(&self, thread: usize, own: Range<usize>) {
        let all = self.wanted.len() == self.rows.len();
        if !all && self.threads > 1 && self.split == Split::Rows {
            // Wanted rows are shared anew.
            self.barrier.wait();
        }
        let own = if all { own } else { share(self.wanted.len(), thread, self.threads) };
        let vocabulary = self.config.vocab_size as usize;
        let (start, stride) = self.logits;
        let head = &self.weights.head;
        let (rows, panels) = match self.split {
            Split::Rows => (own.clone(), 0..head.panels()),
            Split::Columns => (0..self.wanted.len(), share(head.panels(), thread, self.threads)),
        };
        // SAFETY: the caller's. Row `i` of `normed` is written by whom wanted row `i` belongs to, who is the one that reads
        // it, or all wait for it.
        unsafe {
            self.norm(&self.weights.norm, own.clone(), |row| self.buffers.x.row(self.wanted[row]));
            self.meet();
            let (x, y) = (self.buffers.normed.read(), Rows { start, stride });
            multiply(self.level, &Job { matrix: head, x, y, rows, panels, add: false });
            self.meet();
            for row in own {
                std::slice::from_raw_parts_mut(start.add(row * stride), stride)[vocabulary..].fill(f32::NEG_INFINITY);
            }
        }
    }
}

const _: () = assert!(BLOCK == super::aligned::LINE, "a block's keys of one dimension are one vector");
