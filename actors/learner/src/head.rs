//! The output projection and its log-softmax, a few rows at a time, with a gradient written out by hand.
//!
//! What a loss needs of the logits is one log-probability per trained token (and an entropy). Left to autograd, a batch of M
//! tokens keeps several (M, vocabulary) tensors until the backward pass: 16 000 tokens of a vocabulary of 150 000 are 10 GB
//! each. Here the rows go through the projection in chunks of bounded size, forward and, once the gradient by each
//! log-probability is known, backward; only a chunk is ever in memory. With p = softmax(z / T) of a row, target y, the row's
//! entropy H = −Σ p log p, and the gradients g by log p_y and h by H:
//!
//! ```text
//! ∂/∂z = ( g (e_y − p) − h p (log p + H) ) / T
//! ```
//!
//! The price is that chunks are projected twice, except for the last, whose log-probabilities are kept: backward begins there.

use counterpoint_policy::{Kind, Tensor};

use crate::LearnerError;

/// Elements of a chunk of log-probabilities: 128 MiB in float32, some hundred rows of a large vocabulary. Large enough for a
/// matrix product at full speed, small enough to stay out of the way.
pub const HEAD_CHUNK: u64 = 1 << 25;

/// One micro-batch on its way through the head.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// (M, hidden): behind the final norm. No gradient is recorded.
    hidden: Tensor,
    /// (vocabulary, hidden).
    weight: &'a Tensor,
    /// (M) int64.
    targets: &'a Tensor,
    temperature: f64,
    /// Rows of a chunk.
    rows: i64,
    /// (n, vocabulary): the log-probabilities of the last chunk, until backward uses them up.
    kept: Option<Tensor>,
}

/// What the forward pass finds, per row.
#[derive(Debug)]
pub(crate) struct HeadOutput {
    /// (M): log-probabilities of the targets, float32 (float64 for float64 weights).
    pub(crate) logp: Tensor,
    /// (M): entropies in nats.
    pub(crate) entropy: Tensor,
}

impl<'a> Head<'a> {
    /// `hidden`: (M, hidden), `weight`: (vocabulary, hidden), `targets`: (M) int64.
    pub(crate) fn new(
        hidden: &Tensor,
        weight: &'a Tensor,
        targets: &'a Tensor,
        temperature: f64,
    ) -> Result<Self, LearnerError> {
        Self::in_chunks(hidden, weight, targets, temperature, HEAD_CHUNK as i64)
    }

    fn in_chunks(
        hidden: &Tensor,
        weight: &'a Tensor,
        targets: &'a Tensor,
        temperature: f64,
        chunk: i64,
    ) -> Result<Self, LearnerError> {
        let rows = (chunk / weight.size2()?.0).max(1);
        Ok(Self { hidden: hidden.f_detach()?, weight, targets, temperature, rows, kept: None })
    }

    /// Log-probabilities of the targets and entropies, without a gradient.
    pub(crate) fn forward(&mut self) -> Result<HeadOutput, LearnerError> {
        tch::no_grad(|| {
            let (mut logp, mut entropy) = (Vec::new(), Vec::new());
            let total = self.hidden.size2()?.0;
            for start in (0..total).step_by(self.rows as usize) {
                let count = self.rows.min(total - start);
                self.kept = None; // before the next takes as much
                let of_rows = self.log_softmax(start, count)?;
                let targets = self.targets.f_narrow(0, start, count)?.f_unsqueeze(1)?;
                logp.push(of_rows.f_gather(1, &targets, false)?.f_squeeze_dim(1)?);
                entropy.push(negative_entropy(&of_rows, &of_rows.f_exp()?)?.f_neg()?);
                self.kept = Some(of_rows);
            }
            Ok(HeadOutput { logp: Tensor::f_cat(&logp, 0)?, entropy: Tensor::f_cat(&entropy, 0)? })
        })
    }

    /// The gradient by `hidden`, (M, hidden), given those by the log-probabilities, `by_logp`: (M), and by the entropies,
    /// `by_entropy`: (M), if the loss has any. The gradient by the weights is added to `by_weight`, if that is wanted.
    pub(crate) fn backward(
        mut self,
        by_logp: &Tensor,
        by_entropy: Option<&Tensor>,
        mut by_weight: Option<&mut Tensor>,
    ) -> Result<Tensor, LearnerError> {
        tch::no_grad(|| {
            let mut by_hidden = Vec::new();
            let total = self.hidden.size2()?.0;
            let starts: Vec<i64> = (0..total).step_by(self.rows as usize).collect();
            for start in starts.into_iter().rev() {
                let count = self.rows.min(total - start);
                let logp = match self.kept.take() {
                    Some(kept) => kept,
                    None => self.log_softmax(start, count)?,
                };
                let part = |x: &Tensor| x.f_narrow(0, start, count)?.f_unsqueeze(1);
                let by_logits =
                    self.by_logits(logp, &part(self.targets)?, &part(by_logp)?, by_entropy.map(part).transpose()?)?;
                by_hidden.push(by_logits.f_matmul(self.weight)?);
                if let Some(sum) = by_weight.as_deref_mut() {
                    let (by_logits, hidden) = (by_logits.f_transpose(0, 1)?, self.hidden.f_narrow(0, start, count)?);
                    let _ = match sum.kind() == hidden.kind() {
                        true => sum.f_addmm_(&by_logits, &hidden)?,
                        // Summed in the wider format.
                        false => sum.f_add_(&by_logits.f_matmul(&hidden)?)?,
                    };
                }
            }
            by_hidden.reverse();
            Ok(Tensor::f_cat(&by_hidden, 0)?)
        })
    }

    /// (count, vocabulary): log-probabilities of the rows from `start` on.
    fn log_softmax(&self, start: i64, count: i64) -> Result<Tensor, LearnerError> {
        let logits = self.hidden.f_narrow(0, start, count)?.f_linear(self.weight, None::<Tensor>)?;
        let wide = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let scaled = if self.temperature == 1.0 { logits } else { logits.f_div_scalar(self.temperature)? };
        Ok(scaled.f_log_softmax(-1, wide)?)
    }

    /// The formula above, for some rows; `logp`: (n, vocabulary) is used up, the others are (n, 1).
    fn by_logits(
        &self,
        mut logp: Tensor,
        targets: &Tensor,
        by_logp: &Tensor,
        by_entropy: Option<Tensor>,
    ) -> Result<Tensor, LearnerError> {
        let by_target = by_logp.f_to_kind(logp.kind())?;
        let mut by_logits = match by_entropy {
            None => {
                let mut p = logp.f_exp_()?;
                let _ = p.f_mul_(&by_target.f_neg()?)?;
                p
            }
            Some(by_entropy) => {
                let p = logp.f_exp()?;
                // −(g + h (log p + H)) p
                let entropy = negative_entropy(&logp, &p)?.f_neg()?.f_unsqueeze(1)?;
                let inner = logp.f_add_(&entropy)?.f_mul_(&by_entropy)?.f_add_(&by_target)?;
                p.f_mul(&inner)?.f_neg()?
            }
        };
        let _ = by_logits.f_scatter_add_(1, targets, &by_target)?;
        if self.temperature != 1.0 {
            let _ = by_logits.f_div_scalar_(self.temperature)?;
        }
        Ok(by_logits.f_to_kind(self.weight.kind())?)
    }
}

/// Σ p log p of each row, (n). A probability of zero has log −∞, and 0 · −∞ is NaN where the limit is 0.
fn negative_entropy(logp: &Tensor, p: &Tensor) -> Result<Tensor, LearnerError> {
    let terms = p.f_mul(logp)?;
    Ok(terms.f_nan_to_num(0.0, None, None)?.f_sum_dim_intlist(-1i64, false, None::<Kind>)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use counterpoint_policy::Device;

    const ROWS: i64 = 11;
    const VOCABULARY: i64 = 23;

    struct Case {
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        by_logp: Tensor,
        by_entropy: Tensor,
    }

    fn case(kind: Kind) -> Case {
        tch::manual_seed(3);
        let random = |size: &[i64]| Tensor::randn(size, (Kind::Double, Device::Cpu)).to_kind(kind);
        Case {
            hidden: random(&[ROWS, 7]),
            weight: random(&[VOCABULARY, 7]),
            targets: Tensor::randint(VOCABULARY, [ROWS], (Kind::Int64, Device::Cpu)),
            by_logp: random(&[ROWS]),
            by_entropy: random(&[ROWS]),
        }
    }

    /// By autograd: log-probs, entropies, gradient by the hidden states and by the weights.
    fn by_autograd(case: &Case, temperature: f64, with_entropy: bool) -> [Tensor; 4] {
        let hidden = case.hidden.copy().set_requires_grad(true);
        let weight = case.weight.copy().set_requires_grad(true);
        let logp = (hidden.linear(&weight, None::<Tensor>) / temperature).log_softmax(-1, None);
        let entropy = -(logp.exp() * &logp).sum_dim_intlist(-1i64, false, None);
        let of_targets = logp.gather(1, &case.targets.unsqueeze(1), false).squeeze_dim(1);
        let mut total = (&of_targets * &case.by_logp).sum(None);
        if with_entropy {
            total += (&entropy * &case.by_entropy).sum(None);
        }
        total.backward();
        [of_targets.detach(), entropy.detach(), hidden.grad(), weight.grad()]
    }

    fn by_hand(case: &Case, temperature: f64, with_entropy: bool, chunk: i64) -> [Tensor; 4] {
        let mut head = Head::in_chunks(&case.hidden, &case.weight, &case.targets, temperature, chunk).unwrap();
        let HeadOutput { logp, entropy } = head.forward().unwrap();
        let mut by_weight = case.weight.zeros_like();
        let by_entropy = with_entropy.then_some(&case.by_entropy);
        let by_hidden = head.backward(&case.by_logp, by_entropy, Some(&mut by_weight)).unwrap();
        [logp, entropy, by_hidden, by_weight]
    }

    #[test]
    fn values_and_gradients_are_those_of_autograd_whatever_the_chunks() {
        let case = case(Kind::Double);
        for temperature in [1.0, 0.6] {
            for with_entropy in [false, true] {
                let expected = by_autograd(&case, temperature, with_entropy);
                // One row at a time, chunks that do not divide the rows, one chunk.
                for chunk in [1, 4 * VOCABULARY, ROWS * VOCABULARY, 1 << 20] {
                    let got = by_hand(&case, temperature, with_entropy, chunk);
                    for (got, expected) in got.iter().zip(&expected) {
                        let off = (got - expected).abs().max().double_value(&[]);
                        assert!(off < 1e-12, "chunk {chunk}, temperature {temperature}, {with_entropy}: {off}");
                    }
                }
            }
        }
    }

    #[test]
    fn log_probs_are_bit_for_bit_those_of_the_sampler() {
        let case = case(Kind::Float);
        let logits = case.hidden.linear(&case.weight, None::<Tensor>);
        let sampled = counterpoint_policy::token_logprobs(&logits, &case.targets, 1.0).unwrap();
        assert_eq!(by_hand(&case, 1.0, false, 1 << 20)[0], sampled);
    }

    #[test]
    fn a_token_without_probability_leaves_gradient_and_entropy_finite() {
        let hidden = Tensor::from_slice(&[1f32, 0.0]).view([1, 2]);
        let weight = Tensor::from_slice(&[0f32, 0.0, 0.0, 1.0, -1e30, 0.0]).view([3, 2]);
        let (targets, one) = (Tensor::from_slice(&[0i64]), Tensor::from_slice(&[1f32]));
        let mut head = Head::new(&hidden, &weight, &targets, 1.0).unwrap();
        let entropy = head.forward().unwrap().entropy.double_value(&[0]);
        assert!((entropy - 2f64.ln()).abs() < 1e-6, "{entropy}");
        let by_hidden = head.backward(&one, Some(&one), None).unwrap();
        assert!(bool::try_from(by_hidden.isfinite().all()).unwrap(), "{by_hidden:?}");
    }
}
