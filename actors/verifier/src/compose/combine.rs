//! The kinds `all`, `any` and `weighted`: every part is asked, and a rule makes one verdict of theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::part::Team;
use crate::{Home, Mode, Pace, Parts, Question, Verifier, VerifierError};

/// Options of the kind `all`: an answer is right if every part says so.
///
/// The score is the lowest of the parts'. One wrong part decides, whatever the others say; otherwise a void part makes the
/// verdict void, with the reason of the first such part.
///
/// ```toml
/// [verifier]
/// name = "both"
///
/// [verifier.define.both]
/// kind = "all"
/// of = ["dapo", "math"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AllOptions {
    /// The parts: kinds, or ids of `[verifier.define.<id>]`; each once. Required.
    pub of: Vec<String>,
}

/// Options of the kind `any`: an answer is right if one part says so.
///
/// The score is the highest of the parts'. One right part decides, whatever the others say; otherwise a void part makes the
/// verdict void, with the reason of the first such part.
///
/// ```toml
/// [verifier]
/// name = "either"
///
/// [verifier.define.either]
/// kind = "any"
/// of = ["exact", "math"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnyOptions {
    /// The parts: kinds, or ids of `[verifier.define.<id>]`; each once. Required.
    pub of: Vec<String>,
}

/// Options of the kind `weighted`: the weighted mean of the parts' scores.
///
/// A void part makes the verdict void, with the reason of the first such part in the order of their names.
///
/// ```toml
/// [verifier]
/// name = "mostly_math"
///
/// [verifier.define.mostly_math]
/// kind = "weighted"
/// weights = { math = 0.8, exact = 0.2 }
/// threshold = 0.8
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WeightedOptions {
    /// The parts (kinds, or ids of `[verifier.define.<id>]`), each with its weight, from 0.001 to 1000. Only their ratios matter: they
    /// are divided by their sum. Required.
    pub weights: BTreeMap<String, f64>,
    /// The mean from which on an answer is right, above 0 and at most 1; below it, it is wrong. Default: none, the mean
    /// itself is the score.
    pub threshold: Option<f64>,
}

/// The kinds `all`, `any` and `weighted`; see [`AllOptions`], [`AnyOptions`], [`WeightedOptions`].
pub struct Combined {
    team: Team,
    rule: Rule,
}

/// How the parts' verdicts of one response become one.
#[derive(Clone)]
enum Rule {
    All,
    Any,
    Weighted {
        /// One per part, in the team's order.
        weights: Arc<[f64]>,
        threshold: Option<f64>,
    },
}

impl Combined {
    /// The kind `all`.
    ///
    /// # Errors
    /// An empty list, a name that is there twice, and what is wrong with a part.
    pub fn all(options: &AllOptions, parts: &Parts<'_>) -> Result<Self, VerifierError> {
        Ok(Self { team: Team::named(&options.of, "of", parts)?, rule: Rule::All })
    }

    /// The kind `any`.
    ///
    /// # Errors
    /// An empty list, a name that is there twice, and what is wrong with a part.
    pub fn any(options: &AnyOptions, parts: &Parts<'_>) -> Result<Self, VerifierError> {
        Ok(Self { team: Team::named(&options.of, "of", parts)?, rule: Rule::Any })
    }

    /// The kind `weighted`.
    ///
    /// # Errors
    /// No weights, weights and thresholds out of range, and what is wrong with a part.
    pub fn weighted(options: &WeightedOptions, parts: &Parts<'_>) -> Result<Self, VerifierError> {
        let bad = |what: String| Err(VerifierError::BadOption(what));
        if options.weights.is_empty() {
            return bad("weights: names no part; give each its weight, as in { math = 0.8, exact = 0.2 }".into());
        }
        for (name, weight) in &options.weights {
            if !(LEAST_WEIGHT..=MOST_WEIGHT).contains(weight) {
                return bad(format!("weights.{name}: must be from {LEAST_WEIGHT} to {MOST_WEIGHT}, got {weight}"));
            }
        }
        if let Some(threshold) = options.threshold.filter(|threshold| !(*threshold > 0.0 && *threshold <= 1.0)) {
            return bad(format!("threshold: must be > 0 and at most 1, got {threshold}"));
        }
        let names: Vec<String> = options.weights.keys().cloned().collect();
        let rule =
            Rule::Weighted { weights: options.weights.values().copied().collect(), threshold: options.threshold };
        Ok(Self { team: Team::named(&names, "weights", parts)?, rule })
    }
}

/// The bounds of a weight: they keep the sum finite, and the mean of scores that differ from being rounded to 0 or 1.
const LEAST_WEIGHT: f64 = 0.001;
const MOST_WEIGHT: f64 = 1000.0;

/// What a threshold forgives a mean for having been computed in binary fractions: 0.1 + 0.7 is not quite 0.8.
const ROUNDING: f64 = 1e-9;

impl Rule {
    /// The verdict on one response, from those of the parts in order.
    fn verdict(&self, parts: &[&Verdict]) -> Verdict {
        let void = parts.iter().find(|part| matches!(part, Verdict::Void(_))).map(|&void| void.clone());
        let scores = || parts.iter().filter_map(|part| part.score());
        match self {
            Self::All => match scores().reduce(f32::min) {
                Some(0.0) => Verdict::Incorrect,
                lowest => void.unwrap_or_else(|| judged(lowest)),
            },
            Self::Any => match scores().reduce(f32::max) {
                Some(1.0) => Verdict::Correct,
                highest => void.unwrap_or_else(|| judged(highest)),
            },
            Self::Weighted { weights, threshold } => void.unwrap_or_else(|| {
                // Both sums in the same order, so that the mean of scores of 1 is 1 exactly.
                let sum: f64 = scores().zip(weights.iter()).map(|(score, weight)| f64::from(score) * weight).sum();
                let mean = sum / weights.iter().sum::<f64>();
                match threshold {
                    Some(threshold) => Verdict::from(mean + ROUNDING >= *threshold),
                    None => Verdict::from_score(mean as f32),
                }
            }),
        }
    }
}

/// A score as a verdict. There is one unless there was no verdict at all, which is none of a contract.
fn judged(score: Option<f32>) -> Verdict {
    score.map_or(Verdict::Void(VoidReason::Protocol), Verdict::from_score)
}

#[async_trait]
impl Verifier for Combined {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        let asked = self.team.ask(question).await;
        let of = |response: usize| asked.iter().filter_map(|part| part.get(response)).collect::<Vec<_>>();
        (0..question.responses.len()).map(|response| self.rule.verdict(&of(response))).collect()
    }

    async fn start(&self, home: &Home) -> Result<(), VerifierError> {
        self.team.start(home).await
    }

    async fn stop(&self) {
        self.team.stop().await;
    }

    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        Some(self.team.explain(question).await)
    }

    fn slowly(&self, pace: Pace) -> Option<Arc<dyn Verifier>> {
        Some(Arc::new(Self { team: self.team.slowly(pace)?, rule: self.rule.clone() }))
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RIGHT: Verdict = Verdict::Correct;
    const WRONG: Verdict = Verdict::Incorrect;
    const HALF: Verdict = Verdict::Soft(0.5);
    const LATE: Verdict = Verdict::Void(VoidReason::Timeout);
    const DEAD: Verdict = Verdict::Void(VoidReason::Crash);

    fn of(rule: &Rule, parts: &[Verdict]) -> Verdict {
        rule.verdict(&parts.iter().collect::<Vec<_>>())
    }

    fn weighing(weights: &[f64], threshold: Option<f64>) -> Rule {
        Rule::Weighted { weights: weights.into(), threshold }
    }

    #[test]
    fn all_and_any_hold_their_truth_table() {
        // Both parts, then what `all` and `any` make of them, in either order of the parts.
        let table = [
            (RIGHT, RIGHT, RIGHT, RIGHT),
            (RIGHT, WRONG, WRONG, RIGHT),
            (RIGHT, HALF, HALF, RIGHT),
            (RIGHT, LATE, LATE, RIGHT),
            (WRONG, WRONG, WRONG, WRONG),
            (WRONG, HALF, WRONG, HALF),
            (WRONG, LATE, WRONG, LATE),
            (HALF, HALF, HALF, HALF),
            (HALF, LATE, LATE, LATE),
            (LATE, LATE, LATE, LATE),
        ];
        for (a, b, all, any) in table {
            for parts in [[a.clone(), b.clone()], [b, a]] {
                assert_eq!(of(&Rule::All, &parts), all, "all of {parts:?}");
                assert_eq!(of(&Rule::Any, &parts), any, "any of {parts:?}");
            }
        }
    }

    #[test]
    fn the_first_void_part_gives_the_reason() {
        for rule in [Rule::All, Rule::Any, weighing(&[1.0, 1.0, 1.0], None)] {
            assert_eq!(of(&rule, &[HALF, DEAD, LATE]), DEAD);
            assert_eq!(of(&rule, &[LATE, HALF, DEAD]), LATE);
        }
    }

    #[test]
    fn weights_count_by_their_ratio_and_a_threshold_makes_right_and_wrong() {
        let soft = weighing(&[3.0, 1.0], None);
        assert_eq!(of(&soft, &[RIGHT, WRONG]), Verdict::Soft(0.75));
        assert_eq!(of(&soft, &[HALF, RIGHT]), Verdict::Soft(0.625));
        assert_eq!(of(&soft, &[RIGHT, LATE]), LATE);
        let hard = weighing(&[3.0, 1.0], Some(0.75));
        assert_eq!(of(&hard, &[RIGHT, WRONG]), RIGHT);
        assert_eq!(of(&hard, &[WRONG, RIGHT]), WRONG);
        assert_eq!(of(&hard, &[LATE, RIGHT]), LATE);
        // 0.1 + 0.7 is below 0.8 in binary fractions.
        assert_eq!(of(&weighing(&[0.1, 0.7, 0.2], Some(0.8)), &[RIGHT, RIGHT, WRONG]), RIGHT);
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        let soft = (1u8..16).prop_map(|sixteenths| Verdict::Soft(f32::from(sixteenths) / 16.0));
        prop_oneof![3 => Just(RIGHT), 3 => Just(WRONG), 3 => soft, 1 => Just(LATE), 1 => Just(DEAD)]
    }

    fn inverse(verdict: &Verdict) -> Verdict {
        verdict.score().map_or_else(|| verdict.clone(), |score| Verdict::from_score(1.0 - score))
    }

    proptest! {
        #[test]
        fn void_parts_never_decide_and_never_hide_a_decision(parts in prop::collection::vec(verdict(), 1..6)) {
            let is_void = parts.iter().any(|part| part.score().is_none());
            let all = of(&Rule::All, &parts);
            prop_assert_eq!(all == WRONG, parts.contains(&WRONG));
            prop_assert_eq!(all == RIGHT, parts.iter().all(|part| *part == RIGHT));
            prop_assert_eq!(all.score().is_none(), is_void && !parts.contains(&WRONG));
            let any = of(&Rule::Any, &parts);
            prop_assert_eq!(any == RIGHT, parts.contains(&RIGHT));
            prop_assert_eq!(any == WRONG, parts.iter().all(|part| *part == WRONG));
            prop_assert_eq!(any.score().is_none(), is_void && !parts.contains(&RIGHT));
        }

        #[test]
        fn any_is_all_of_the_opposites(parts in prop::collection::vec(verdict(), 1..6)) {
            let opposites: Vec<Verdict> = parts.iter().map(inverse).collect();
            prop_assert_eq!(of(&Rule::Any, &parts), inverse(&of(&Rule::All, &opposites)));
        }

        #[test]
        fn the_order_of_the_parts_changes_no_score(parts in prop::collection::vec(verdict(), 1..6)) {
            let reversed: Vec<Verdict> = parts.iter().rev().cloned().collect();
            for rule in [Rule::All, Rule::Any] {
                prop_assert_eq!(of(&rule, &parts).score(), of(&rule, &reversed).score());
            }
        }

        #[test]
        fn a_mean_lies_between_its_parts_and_ignores_the_scale_of_the_weights(
            parts in prop::collection::vec((verdict(), 0.001..1000.0), 1..6),
        ) {
            let (verdicts, weights): (Vec<Verdict>, Vec<f64>) = parts.into_iter().unzip();
            let mean = of(&weighing(&weights, None), &verdicts);
            let scores: Option<Vec<f32>> = verdicts.iter().map(Verdict::score).collect();
            prop_assert_eq!(mean.score().is_none(), scores.is_none());
            if let (Some(mean), Some(scores)) = (mean.score(), scores) {
                let lowest = scores.iter().copied().reduce(f32::min).unwrap();
                let highest = scores.iter().copied().reduce(f32::max).unwrap();
                prop_assert!(lowest - 1e-6 <= mean && mean <= highest + 1e-6, "{lowest} {mean} {highest}");
                // Scores of 0 and 1 alone are exact.
                prop_assert_eq!(mean == 1.0, lowest == 1.0);
                prop_assert_eq!(mean == 0.0, highest == 0.0);
                let tenfold: Vec<f64> = weights.iter().map(|weight| weight * 10.0).collect();
                let again = of(&weighing(&tenfold, None), &verdicts).score().unwrap();
                prop_assert!((again - mean).abs() < 1e-6);
            }
        }
    }
}
