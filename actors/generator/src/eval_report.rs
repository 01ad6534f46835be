use counterpoint_rollout::{Completion, PolicyVersion, Verdict};
use serde::{Deserialize, Serialize};

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Optimiser steps done when it began.
    pub step: u64,
    /// The weights that answered.
    pub policy_version: PolicyVersion,
    /// Mean score over all answers; one without a verdict counts as wrong.
    pub accuracy: f64,
    /// Standard error of `accuracy` between prompts; none for fewer than two. Absent in files of older versions.
    #[serde(default)]
    pub standard_error: Option<f64>,
    /// Share of answers without a verdict, those to prompts that do not fit included.
    pub void_share: f64,
    /// Share of answers that the token limit cut off.
    pub truncated_share: f64,
    /// Mean length of an answer, tokens.
    pub mean_tokens: f64,
    /// How many answers: prompts times samples.
    pub answers: u64,
    /// Wall time, verdicts included.
    pub seconds: f64,
    /// pass@k for k = 1, 2, 4, ... and for all samples of a prompt: the chance that k answers hold a right one.
    pub pass_at_k: Vec<PassAtK>,
}

/// One value of pass@k.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassAtK {
    /// Answers drawn without putting back.
    pub k: u32,
    /// Mean over prompts.
    pub value: f64,
}

impl PassAtK {
    /// The values of k that are reported for so many samples: 1, 2, 4, ... and all.
    pub fn counts(samples: u32) -> Vec<u32> {
        let powers = std::iter::successors(Some(1u32), |k| k.checked_mul(2)).take_while(|&k| k <= samples);
        powers.chain((samples > 0 && !samples.is_power_of_two()).then_some(samples)).collect()
    }
}

/// Sums over the prompts of one evaluation. Order does not matter.
#[derive(Clone, Debug)]
pub struct EvalTally {
    samples: u32,
    prompts: u64,
    score: f64,
    /// Sum over prompts of the squared mean score.
    squares: f64,
    voids: u64,
    truncated: u64,
    tokens: u64,
    /// k, and the sum of pass@k over prompts.
    passes: Vec<(u32, f64)>,
}

impl EvalTally {
    /// For `samples` answers per prompt.
    pub fn new(samples: u32) -> Self {
        let passes = PassAtK::counts(samples).into_iter().map(|k| (k, 0.0)).collect();
        Self { samples, prompts: 0, score: 0.0, squares: 0.0, voids: 0, truncated: 0, tokens: 0, passes }
    }

    /// Adds a prompt's answers. `None`: there are no verdicts, or not one per answer.
    pub fn add(&mut self, completions: &[Completion], verdicts: Option<&[Verdict]>) {
        self.truncated += completions.iter().filter(|c| c.truncated()).count() as u64;
        self.tokens += completions.iter().map(|c| c.tokens.len() as u64).sum::<u64>();
        match verdicts.filter(|verdicts| verdicts.len() == completions.len()) {
            Some(verdicts) => self.add_verdicts(verdicts),
            None => self.add_unanswered(),
        }
    }

    /// Adds a prompt that could not be answered or judged.
    pub fn add_unanswered(&mut self) {
        self.prompts += 1;
        self.voids += u64::from(self.samples);
    }

    /// Prompts added.
    pub fn prompts(&self) -> u64 {
        self.prompts
    }

    fn add_verdicts(&mut self, verdicts: &[Verdict]) {
        self.prompts += 1;
        self.voids += verdicts.iter().filter(|v| v.score().is_none()).count() as u64;
        let score = verdicts.iter().filter_map(Verdict::score).map(f64::from).sum::<f64>();
        self.score += score;
        self.squares += (score / verdicts.len().max(1) as f64).powi(2);
        let right = verdicts.iter().filter(|v| **v == Verdict::Correct).count() as u32;
        for (k, sum) in &mut self.passes {
            *sum += pass_at_k(verdicts.len() as u32, right, *k);
        }
    }

    fn standard_error(&self, mean: f64) -> Option<f64> {
        let n = self.prompts as f64;
        // Rounding may take the difference below 0 where all prompts are alike.
        (self.prompts > 1).then(|| ((self.squares / n - mean * mean).max(0.0) / (n - 1.0)).sqrt())
    }

    /// The means.
    pub fn report(&self, step: u64, policy_version: PolicyVersion, seconds: f64) -> EvalReport {
        let answers = self.prompts * u64::from(self.samples);
        let share = |sum: f64| if answers == 0 { 0.0 } else { sum / answers as f64 };
        let pass = |&(k, sum): &(u32, f64)| PassAtK {
            k,
            value: if self.prompts == 0 { 0.0 } else { sum / self.prompts as f64 },
        };
        EvalReport {
            step,
            policy_version,
            accuracy: share(self.score),
            standard_error: self.standard_error(share(self.score)),
            void_share: share(self.voids as f64),
            truncated_share: share(self.truncated as f64),
            mean_tokens: share(self.tokens as f64),
            answers,
            seconds,
            pass_at_k: self.passes.iter().map(pass).collect(),
        }
    }
}

/// The chance that `k` of `samples` answers, drawn without putting back, hold one of the `right` ones:
/// 1 - C(samples - right, k) / C(samples, k) (Chen et al., arXiv 2107.03374, equation 1), as their stable product.
pub fn pass_at_k(samples: u32, right: u32, k: u32) -> f64 {
    if samples < right + k {
        return if right > 0 { 1.0 } else { 0.0 };
    }
    1.0 - (samples - right + 1..=samples).map(|i| 1.0 - f64::from(k) / f64::from(i)).product::<f64>()
}

#[cfg(test)]
mod tests {
    use counterpoint_rollout::{FinishReason, VoidReason};
    use proptest::prelude::*;

    use super::*;

    fn completions(lengths: &[u32], finish: FinishReason) -> Vec<Completion> {
        let completion = |&n: &u32| Completion {
            tokens: vec![0; n as usize],
            logprobs: vec![0.0; n as usize],
            versions: Vec::new(),
            finish,
            text: String::new(),
        };
        lengths.iter().map(completion).collect()
    }

    #[test]
    fn a_void_answer_counts_as_wrong_and_is_shown_apart() {
        let mut tally = EvalTally::new(2);
        let void = Verdict::Void(VoidReason::Timeout);
        tally.add(&completions(&[3, 5], FinishReason::Stop), Some(&[Verdict::Correct, void]));
        tally.add(&completions(&[4, 4], FinishReason::Length), Some(&[Verdict::Soft(0.5), Verdict::Incorrect]));
        tally.add(&completions(&[1, 1], FinishReason::Stop), Some(&[Verdict::Correct]));
        tally.add_unanswered();
        let report = tally.report(7, PolicyVersion(7), 1.5);
        assert_eq!((report.answers, report.accuracy, report.void_share), (8, 1.5 / 8.0, 5.0 / 8.0));
        assert_eq!((report.truncated_share, report.mean_tokens), (0.25, 18.0 / 8.0));
        let expected = [PassAtK { k: 1, value: 0.125 }, PassAtK { k: 2, value: 0.25 }];
        assert_eq!(report.pass_at_k, expected, "a soft score is no pass");
        let means = [0.5f64, 0.25, 0.0, 0.0];
        let variance = means.iter().map(|m| (m - 1.5 / 8.0).powi(2)).sum::<f64>() / 3.0;
        assert!((report.standard_error.unwrap() - (variance / 4.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn nothing_evaluated_is_zero_and_not_nan() {
        assert_eq!(EvalTally::new(1).report(0, PolicyVersion(0), 0.0).accuracy, 0.0);
    }

    proptest! {
        #[test]
        fn pass_at_k_is_the_ratio_of_binomials(samples in 1u32..20, right in 0u32..20, k in 1u32..20) {
            prop_assume!(right <= samples && k <= samples);
            let choose = |n: u32, k: u32| (0..k).map(|i| f64::from(n.saturating_sub(i)) / f64::from(k - i)).product::<f64>();
            let expected = 1.0 - choose(samples - right, k) / choose(samples, k);
            prop_assert!((pass_at_k(samples, right, k) - expected).abs() < 1e-9);
        }
    }
}
