//! What reshapes a distribution before a token is drawn: repetition penalty, temperature, top-k, top-p and min-p.
//!
//! Definitions and order are those of transformers (`generation/logits_process.py`: `RepetitionPenaltyLogitsProcessor`,
//! `TemperatureLogitsWarper`, `TopKLogitsWarper`, `TopPLogitsWarper`, `MinPLogitsWarper`; the order of
//! `GenerationMixin._get_logits_processor`), each with at least one token kept; `tests/golden/filters.json` holds what
//! transformers makes of some logits. Every filter works on the whole batch with tensor operations. What is drawn and
//! reported afterwards is of the filtered distribution, renormalised.
//!
//! For `eval` and `generate` alone: training samples with temperature only, since the loss needs the probability of every
//! token under the distribution that it was drawn from.

use tch::{Kind, Tensor};

use crate::GeneratorError;

/// How a distribution is reshaped, beside the temperature. The default changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filters {
    /// Logits of tokens that stand in the prompt or in the answer so far are divided by this where they are positive and
    /// multiplied where they are negative (CTRL, arXiv 1909.05858); above 0, 1 changes nothing.
    pub repetition_penalty: f64,
    /// Only so many of the likeliest tokens stay, and those as likely as the last of them; 0 keeps all.
    pub top_k: u32,
    /// Only the smallest set of likeliest tokens whose probabilities add up to at least this stays (nucleus sampling,
    /// arXiv 1904.09751); in (0, 1], 1 keeps all.
    pub top_p: f64,
    /// Only tokens at least this share as likely as the likeliest stay (arXiv 2407.01082); in [0, 1], 0 keeps all.
    pub min_p: f64,
}

impl Default for Filters {
    fn default() -> Self {
        Self { repetition_penalty: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl Filters {
    /// Whether they change nothing.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the tokens of prompt and answer matter.
    pub(crate) fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    /// What is wrong with them: the setting's name and the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            let penalty = self.repetition_penalty;
            problems.push(("repetition_penalty", format!("must be > 0 (1 changes nothing), got {penalty}")));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            problems.push(("top_p", format!("must be > 0 and at most 1 (which keeps all), got {}", self.top_p)));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            problems.push(("min_p", format!("must be in [0, 1] (0 keeps all), got {}", self.min_p)));
        }
        problems
    }

    /// The scaled logits (n, vocabulary) in float32 with minus infinity for what must not be drawn. `seen` (n, any), int64:
    /// the tokens of prompt and answer of each row, in any order and number; only looked at for the repetition penalty.
    ///
    /// At temperature 0 only the penalty is applied, as transformers does without `do_sample`: no other filter changes which
    /// token is the likeliest.
    pub fn apply(&self, logits: &Tensor, temperature: f64, seen: Option<&Tensor>) -> Result<Tensor, GeneratorError> {
        let mut scores = logits.f_to_kind(Kind::Float)?;
        if let Some(seen) = seen.filter(|_| self.penalises()) {
            scores = penalised(&scores, seen, self.repetition_penalty)?;
        }
        if temperature == 0.0 {
            return Ok(scores);
        }
        if temperature != 1.0 {
            scores = scores.f_div_scalar(temperature)?;
        }
        if self.top_k > 0 {
            scores = top_k(&scores, self.top_k)?;
        }
        if self.top_p < 1.0 {
            scores = top_p(&scores, self.top_p)?;
        }
        if self.min_p > 0.0 {
            scores = min_p(&scores, self.min_p)?;
        }
        Ok(scores)
    }
}

fn penalised(scores: &Tensor, seen: &Tensor, penalty: f64) -> Result<Tensor, GeneratorError> {
    let old = scores.f_gather(1, seen, false)?;
    let new = old.f_mul_scalar(penalty)?.f_where_self(&old.f_lt(0.0)?, &old.f_div_scalar(penalty)?)?;
    // A token that is there twice gets the same value twice.
    Ok(scores.f_scatter(1, seen, &new)?)
}

fn top_k(scores: &Tensor, k: u32) -> Result<Tensor, GeneratorError> {
    let k = i64::from(k).min(scores.size2()?.1);
    let least = scores.f_topk(k, -1, true, true)?.0.f_narrow(1, k - 1, 1)?;
    Ok(scores.f_masked_fill(&scores.f_lt_tensor(&least)?, f64::NEG_INFINITY)?)
}

fn top_p(scores: &Tensor, p: f64) -> Result<Tensor, GeneratorError> {
    let (sorted, order) = scores.f_sort(-1, false)?;
    let removed = sorted.f_softmax(-1, Kind::Float)?.f_cumsum(-1, None)?.f_le(1.0 - p)?;
    let _ = removed.f_narrow(1, scores.size2()?.1 - 1, 1)?.f_fill_(0)?;
    let removed = removed.f_scatter(1, &order, &removed)?;
    Ok(scores.f_masked_fill(&removed, f64::NEG_INFINITY)?)
}

fn min_p(scores: &Tensor, p: f64) -> Result<Tensor, GeneratorError> {
    let probabilities = scores.f_softmax(-1, Kind::Float)?;
    let least = probabilities.f_amax([-1].as_slice(), true)?.f_mul_scalar(p)?;
    Ok(scores.f_masked_fill(&probabilities.f_lt_tensor(&least)?, f64::NEG_INFINITY)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::draw;

    /// A case of the golden file: what transformers' processors make of `logits`; null is minus infinity.
    #[derive(Deserialize)]
    struct Case {
        name: String,
        temperature: f64,
        repetition_penalty: f64,
        top_k: u32,
        top_p: f64,
        min_p: f64,
        logits: Vec<Vec<f32>>,
        seen: Vec<Vec<i64>>,
        scores: Vec<Vec<Option<f32>>>,
    }

    fn tensor(rows: &[Vec<f32>]) -> Tensor {
        Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1])
    }

    #[test]
    fn every_filter_is_that_of_transformers() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/golden/filters.json")).unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let Case { name, temperature, repetition_penalty, top_k, top_p, min_p, logits, seen, scores } = case;
            let filters = Filters { repetition_penalty, top_k, top_p, min_p };
            let seen = Tensor::from_slice(&seen.concat()).view([seen.len() as i64, -1]);
            let ours = filters.apply(&tensor(&logits), temperature, Some(&seen)).unwrap();
            let ours = Vec::<f32>::try_from(ours.view([-1])).unwrap();
            for (ours, theirs) in ours.into_iter().zip(scores.into_iter().flatten()) {
                match theirs {
                    None => assert_eq!(ours, f32::NEG_INFINITY, "{name}"),
                    Some(theirs) => assert!((ours - theirs).abs() <= 1e-6 * theirs.abs(), "{name}: {ours} {theirs}"),
                }
            }
        }
    }

    #[test]
    fn without_filters_the_logits_are_only_scaled() {
        let logits = tensor(&[vec![1.0, -2.0, 0.5]]);
        assert!(Filters::default().none() && !Filters { top_k: 1, ..Filters::default() }.none());
        assert_eq!(Filters::default().apply(&logits, 1.0, None).unwrap(), logits);
        assert_eq!(Filters::default().apply(&logits, 0.5, None).unwrap(), &logits / 0.5);
    }

    #[test]
    fn greedy_decoding_heeds_the_penalty_and_no_other_filter() {
        let filters = Filters { repetition_penalty: 3.0, top_k: 1, top_p: 0.1, min_p: 0.9 };
        let shaped =
            filters.apply(&tensor(&[vec![1.0, 2.0, -1.0]]), 0.0, Some(&Tensor::from_slice(&[1i64]).view([1, 1])));
        let shaped = Vec::<f32>::try_from(shaped.unwrap().view([-1])).unwrap();
        assert_eq!(shaped, [1.0, 2.0 / 3.0, -1.0]);
    }

    #[test]
    fn what_cannot_work_is_named() {
        let nonsense = Filters { repetition_penalty: 0.0, top_k: 0, top_p: f64::NAN, min_p: 1.5 };
        let names: Vec<&str> = nonsense.problems().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["repetition_penalty", "top_p", "min_p"]);
        assert!(Filters::default().problems().is_empty());
    }

    proptest! {
        /// Whatever the filters, some token is left, and what is drawn is one that they keep, with its renormalised log-prob.
        #[test]
        fn a_filtered_token_is_never_drawn(
            logits in prop::collection::vec(-8f32..8.0, 1..40),
            uniform in prop_oneof![Just(0.0f32), Just(1.0 - 1.0 / (1u32 << 23) as f32), 0f32..0.999],
            top_k in 0u32..12, top_p in 0.01f64..=1.0, min_p in 0f64..=1.0, penalty in 0.5f64..2.0,
        ) {
            let filters = Filters { repetition_penalty: penalty, top_k, top_p, min_p };
            let seen = Tensor::from_slice(&[0i64, 0]).view([1, 2]);
            let shaped = filters.apply(&tensor(&[logits]), 0.8, Some(&seen)).unwrap();
            let drawn = draw(&shaped, &[uniform], 1.0).unwrap()[0];
            let kept = Vec::<f32>::try_from(shaped.view([-1])).unwrap();
            prop_assert!(kept[drawn.token as usize].is_finite());
            let total: f64 = kept.iter().map(|&s| f64::from(s).exp()).sum();
            prop_assert!((f64::from(drawn.logprob) - (f64::from(kept[drawn.token as usize]) - total.ln())).abs() < 1e-4);
        }
    }
}
