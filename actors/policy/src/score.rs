//! Log-probabilities of given tokens: what `counterpoint score` prints, and what tests compare sampling with.
//!
//! Contract: one pass over one sequence per call, at temperature 1, under the weights of a model directory. The attention
//! needs no mask in memory and the logits are taken a few positions at a time, so memory grows with the length, not with its
//! square nor with length times vocabulary.
//!
//! Limits: no batches; sequences up to the model's `max_position_embeddings`.

use std::path::Path;

use counterpoint_rollout::PromptContent;
use tch::{Device, Kind, Tensor};

use crate::{
    CausalAttention, ChatOptions, ModelConfig, PolicyError, Tokenizer, Transformer, Weights, checkpoint, token_logprobs,
};

/// Positions whose logits are in memory at a time: 256 × 150 000 entries of float32 are 154 MB.
const LOGIT_ROWS: i64 = 256;

/// A model and its tokenizer, ready to score.
#[derive(Debug)]
pub struct Scorer {
    tokenizer: Tokenizer,
    config: ModelConfig,
    weights: Weights,
}

/// The tokens of a completion, each with its log-probability given all before it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredCompletion {
    /// Of the completion only.
    pub tokens: Vec<u32>,
    /// One per token, natural logarithm.
    pub logprobs: Vec<f32>,
}

impl Scorer {
    /// Loads the model of a directory, its weights in `kind`, onto `device`.
    pub fn new(dir: &Path, device: Device, kind: Kind) -> Result<Self, PolicyError> {
        Self::with_options(dir, &ChatOptions::default(), device, kind)
    }

    /// The same; chats become text as `chat` says.
    pub fn with_options(dir: &Path, chat: &ChatOptions, device: Device, kind: Kind) -> Result<Self, PolicyError> {
        let tokenizer = Tokenizer::with_options(dir, chat)?;
        let (config, flat) = checkpoint::load(dir, kind, device)?;
        let weights = Weights::view(&config, &crate::Layout::new(&config), &flat)?;
        Ok(Self { tokenizer, config, weights })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The log-probability of each token but the first, given those before it, in order: `ids.len() - 1` numbers, none for
    /// fewer than two tokens.
    pub fn score_ids(&self, ids: &[u32]) -> Result<Vec<f32>, PolicyError> {
        self.check(ids)?;
        if ids.len() < 2 {
            return Ok(Vec::new());
        }
        sequence_logprobs(&self.config, &self.weights, ids, 1, 1.0)
    }

    /// Scores the completion's tokens behind the prompt. The completion is encoded on its own, as a sampler would have
    /// produced it, without special tokens.
    pub fn score_completion(&self, prompt: &PromptContent, completion: &str) -> Result<ScoredCompletion, PolicyError> {
        let mut ids = self.tokenizer.encode_prompt(prompt)?;
        let tokens = self.tokenizer.encode_plain(completion)?;
        if ids.is_empty() && !tokens.is_empty() {
            return Err(PolicyError::Tokenizer(
                "the prompt has no token, so the first of the completion has no score".into(),
            ));
        }
        ids.extend_from_slice(&tokens);
        let mut logprobs = self.score_ids(&ids)?;
        // `ids.len() - 1` numbers, of which the completion's are the last.
        logprobs.drain(..logprobs.len() - tokens.len());
        Ok(ScoredCompletion { tokens, logprobs })
    }

    fn check(&self, ids: &[u32]) -> Result<(), PolicyError> {
        let config = &self.config;
        if ids.len() as i64 > config.max_positions {
            let (length, most) = (ids.len(), config.max_positions);
            return Err(PolicyError::Tokenizer(format!(
                "the sequence has {length} tokens, the model takes at most {most}"
            )));
        }
        match ids.iter().find(|&&id| i64::from(id) >= config.vocab_size) {
            None => Ok(()),
            Some(id) => {
                let entries = config.vocab_size;
                Err(PolicyError::Tokenizer(format!("token {id} is outside the model's vocabulary of {entries}")))
            }
        }
    }
}

/// The log-probability of each token from number `first` on (at least 1), given those before it: one causal pass of libtorch's,
/// logits divided by `temperature`. The tokens must be of the vocabulary and no more than the model has positions.
pub fn sequence_logprobs(
    config: &ModelConfig,
    weights: &Weights,
    ids: &[u32],
    first: usize,
    temperature: f64,
) -> Result<Vec<f32>, PolicyError> {
    tch::no_grad(|| {
        let device = weights.head().device();
        let (first, predicted) = (first.max(1) as i64 - 1, ids.len() as i64 - 1);
        let tokens =
            Tensor::f_from_slice(&ids.iter().copied().map(i64::from).collect::<Vec<_>>())?.f_to_device(device)?;
        // (S), (S) -> (1, S): the last token predicts nothing that is asked for
        let input = tokens.f_narrow(0, 0, predicted)?.f_unsqueeze(0)?;
        let positions = Tensor::f_arange(predicted, (Kind::Int64, device))?.f_unsqueeze(0)?;
        // Rotary tables for this length only: next to nothing beside the pass, where those for 2^17 positions are not.
        let transformer = Transformer::new(config, predicted, device)?;
        let hidden = transformer.hidden(weights, &input, &positions, &mut CausalAttention)?.f_squeeze_dim(0)?;
        let mut logprobs = Vec::with_capacity(ids.len());
        for start in (first..predicted).step_by(LOGIT_ROWS as usize) {
            let rows = LOGIT_ROWS.min(predicted - start);
            let logits = transformer.logits(weights, &hidden.f_narrow(0, start, rows)?)?;
            let of_rows = token_logprobs(&logits, &tokens.f_narrow(0, start + 1, rows)?, temperature)?;
            logprobs.extend(Vec::<f32>::try_from(of_rows.f_to_device(Device::Cpu)?)?);
        }
        Ok(logprobs)
    })
}
