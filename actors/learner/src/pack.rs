//! A batch as rows `[prompt | answer 1 | answer 2 ...]`, in micro-batches of bounded size, without padding.
//!
//! The answers of a group share one copy of their prompt. Each answer is a segment that sees the prompt and itself, at
//! positions that restart behind the prompt, so it is computed as if it stood there alone
//! ([`PackedAttention::segmented`](counterpoint_policy::PackedAttention::segmented) is the rule). The last token of an answer
//! predicts nothing that is trained and is left out. A group whose row would exceed a micro-batch is cut into several between
//! answers, each with the prompt ([`rows`]).
//!
//! Rows lie one behind another, longest first (memory that does not suffice shows at once), ties by group number, and are
//! filled into micro-batches by their tokens ([`SegmentAttention`](counterpoint_policy::SegmentAttention) goes on from there).
//! All of this is plain vectors and a function of the tokens alone, never of time.

mod rows;

use std::cmp::Reverse;

use counterpoint_policy::kernels::PackedRows;
use counterpoint_policy::{Device, SegmentAttention};
use counterpoint_rollout::invariant::Invariant;
use counterpoint_rollout::{Batch, ScoredGroup, check_invariant};
use tch::Tensor;

use self::rows::{Row, rows_of};
use crate::LearnerError;
use crate::objective::Answer;

/// What bounds a batch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens of a micro-batch; only a single answer may exceed it.
    pub micro_batch_tokens: usize,
    /// Positions the model was made for.
    pub positions: usize,
    /// Entries of the model's embedding.
    pub vocabulary: u32,
}

/// A whole batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// Every judged answer of the batch, group by group, in sample order.
    pub answers: Vec<Answer>,
    /// The rows; each answer is in one.
    pub micro_batches: Vec<MicroBatch>,
    /// Trained tokens.
    pub tokens: u64,
}

/// Rows that are computed together: T tokens, one row behind another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MicroBatch {
    /// The lengths of the rows: Σ = T.
    pub rows: Vec<usize>,
    /// (T): what the model reads.
    pub tokens: Vec<i64>,
    /// (T): counted from the start of the prompt in each answer.
    pub positions: Vec<i64>,
    /// (T): 0 for the prompt, 1.. for the answers of a row.
    pub segments: Vec<i64>,
    /// (M): per trained token, the place in (T) whose hidden state predicts it.
    pub picks: Vec<i64>,
    /// (M): the trained tokens.
    pub targets: Vec<i64>,
    /// (M): their log-probabilities under the policy that sampled them.
    pub logp_old: Vec<f32>,
    /// (M): which entry of `answers`.
    pub answer: Vec<i64>,
    /// The answers in these rows, as numbers within the batch.
    pub answers: Vec<usize>,
    /// (M): 1 where the weights of this step sampled the token's whole group, so that both log-probs should be equal.
    pub fresh: Vec<f32>,
}

/// What libtorch's layers read of a [`MicroBatch`], on a device.
#[derive(Debug)]
pub struct MicroInputs {
    /// (1, T) int64.
    pub tokens: Tensor,
    /// (1, T) int64.
    pub positions: Tensor,
    /// How the tokens see each other.
    pub attention: SegmentAttention,
    /// (M) int64.
    pub picks: Tensor,
}

/// What the loss reads of a [`MicroBatch`], on a device.
#[derive(Debug)]
pub struct MicroTensors {
    /// (M) int64.
    pub targets: Tensor,
    /// (M) float32.
    pub logp_old: Tensor,
    /// (M) int64.
    pub answer: Tensor,
    /// (M) float32, if any token is fresh.
    pub fresh: Option<Tensor>,
}

/// Packs a batch.
pub fn pack(batch: &Batch, limits: &Limits) -> Result<Packed, LearnerError> {
    if batch.groups.is_empty() {
        return Err(LearnerError::EmptyBatch(batch.version));
    }
    let mut answers = Vec::new();
    let mut rows = Vec::new();
    for (number, group) in batch.groups.iter().enumerate() {
        check(group, limits).map_err(|problem| LearnerError::Group { group: group.group.id(), problem })?;
        let first = answers.len();
        answers.extend(facts(number, group));
        rows.extend(rows_of(group, first, batch.version, limits));
    }
    // Stable: the parts of one group stay in order.
    rows.sort_by_key(|row| (Reverse(row.length), row.group));
    let tokens = answers.iter().map(|a| a.tokens).sum();
    let mut micro_batches = Vec::new();
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = |row: &&Row<'_>| {
            tokens += row.length;
            tokens <= limits.micro_batch_tokens
        };
        let fit = rest.iter().take_while(fits).count().max(1);
        micro_batches.push(MicroBatch::write(&rest[..fit]));
        rest = &rest[fit..];
    }
    Ok(Packed { answers, micro_batches, tokens })
}

/// What would make the model read or train nonsense.
fn check(scored: &ScoredGroup, limits: &Limits) -> Result<(), String> {
    let group = &scored.group;
    if group.prompt_tokens.is_empty() {
        return Err("its prompt has no tokens; at least one must precede an answer".to_owned());
    }
    if scored.verdicts.len() != group.completions.len() {
        return Err(format!("it has {} verdicts for {} answers", scored.verdicts.len(), group.completions.len()));
    }
    if scored.rate().is_none() {
        return Err("all its verdicts are void; only judged answers are trained".to_owned());
    }
    for (number, completion) in group.completions.iter().enumerate() {
        let tokens = completion.tokens.len();
        let spans = completion.versions.iter().map(|s| s.tokens as usize).sum::<usize>();
        let sound = tokens == completion.logprobs.len() && tokens == spans;
        check_invariant!(
            Invariant::CompletionShape,
            sound,
            "answer {number} of {}: {tokens} tokens, {} log-probs, {spans} versions",
            group.id(),
            completion.logprobs.len()
        );
        if !sound || tokens == 0 {
            return Err(format!(
                "answer {number} has {tokens} tokens, {} log-probs, {spans} versions; they must be equal and not 0",
                completion.logprobs.len()
            ));
        }
        if group.prompt_tokens.len() + tokens - 1 > limits.positions {
            return Err(format!(
                "answer {number} ends at position {}, the model has {}",
                group.prompt_tokens.len() + tokens - 1,
                limits.positions
            ));
        }
    }
    let tokens = group.prompt_tokens.iter().chain(group.completions.iter().flat_map(|c| &c.tokens));
    match tokens.max() {
        Some(token) if *token >= limits.vocabulary => {
            Err(format!("token {token} is not in the vocabulary of {}", limits.vocabulary))
        }
        _ => Ok(()),
    }
}

/// The answers of a group that were judged; void ones are not trained.
fn facts(number: usize, scored: &ScoredGroup) -> impl Iterator<Item = Answer> + '_ {
    let (sum, judged) = scored.judged().fold((0.0, 0.0), |(sum, n), (_, score)| (sum + f64::from(score), n + 1.0));
    let rate = sum / judged;
    scored.judged().map(move |(completion, score)| {
        let tokens = completion.tokens.len() as u64;
        Answer { group: number, score: f64::from(score), rate, tokens }
    })
}

impl MicroBatch {
    fn write(rows: &[Row<'_>]) -> Self {
        let mut out = Self { rows: rows.iter().map(|row| row.length).collect(), ..Self::default() };
        rows.iter().for_each(|row| out.write_row(row));
        out
    }

    fn write_row(&mut self, row: &Row<'_>) {
        self.write_inputs(row.prompt, 0, 0);
        let prompt_end = self.tokens.len() as i64 - 1;
        for (segment, (number, completion)) in row.answers.iter().enumerate() {
            let start = self.tokens.len() as i64;
            let inputs = completion.tokens.len() - 1;
            self.write_inputs(&completion.tokens[..inputs], row.prompt.len(), segment as i64 + 1);
            // The prompt's last token predicts the first of the answer, each token of the answer the next.
            self.picks.push(prompt_end);
            self.picks.extend(start..start + inputs as i64);
            self.targets.extend(completion.tokens.iter().map(|t| i64::from(*t)));
            self.logp_old.extend_from_slice(&completion.logprobs);
            let trained = self.targets.len();
            self.answer.resize(trained, self.answers.len() as i64);
            self.fresh.resize(trained, f32::from(u8::from(row.fresh)));
            self.answers.push(*number);
        }
    }

    fn write_inputs(&mut self, tokens: &[u32], position: usize, segment: i64) {
        self.tokens.extend(tokens.iter().map(|t| i64::from(*t)));
        self.positions.extend((position..position + tokens.len()).map(|p| p as i64));
        self.segments.resize(self.tokens.len(), segment);
    }

    /// What the kernels read.
    pub fn packed_rows(&self) -> PackedRows<'_> {
        let Self { tokens, positions, segments, rows, picks, .. } = self;
        PackedRows { tokens, positions, segments, rows, picks }
    }

    /// Copies what layers read to a device: one tensor per vector.
    pub fn to_inputs(&self, device: Device) -> Result<MicroInputs, LearnerError> {
        let flat = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        Ok(MicroInputs {
            tokens: flat(&self.tokens)?.f_unsqueeze(0)?,
            positions: flat(&self.positions)?.f_unsqueeze(0)?,
            attention: SegmentAttention::new(&self.segments, &self.rows, device)?,
            picks: flat(&self.picks)?,
        })
    }

    /// Copies what the loss reads to a device.
    pub fn to_tensors(&self, device: Device) -> Result<MicroTensors, LearnerError> {
        let flat = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        let real = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
        let any_fresh = self.fresh.iter().any(|f| *f != 0.0);
        Ok(MicroTensors {
            targets: flat(&self.targets)?,
            logp_old: real(&self.logp_old)?,
            answer: flat(&self.answer)?,
            fresh: if any_fresh { Some(real(&self.fresh)?) } else { None },
        })
    }
}
