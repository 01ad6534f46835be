//! How the last 10·B finished groups ended: whether anything can be learned, and whether the verifier still works.

use std::collections::VecDeque;

use counterpoint_rollout::{DropReason, ScoredGroup};
use serde::{Deserialize, Serialize};

use crate::OnVoid;

/// How a group finished, as far as the health of the run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its scores differ.
    Mixed,
    /// All answers right.
    AllRight,
    /// All answers wrong.
    AllWrong,
    /// All answers equally partly right.
    AllEqual,
    /// Verdicts stayed void, and with them the group.
    Void,
    /// Verdicts stayed void, and the rest of the answers is mixed (`replay.on_void = "rate_rest"`).
    MixedRest,
    /// It ended before it was judged.
    Unjudged,
}

impl Outcome {
    /// How many there are; [`Outcome::Unjudged`] is the last.
    const COUNT: usize = Self::Unjudged as usize + 1;

    /// Of a group that was judged.
    pub(crate) fn judged(scored: &ScoredGroup, on_void: OnVoid) -> Self {
        match scored.rate() {
            _ if scored.any_void() => match on_void {
                OnVoid::RateRest if scored.mixed() => Self::MixedRest,
                OnVoid::RateRest | OnVoid::Drop => Self::Void,
            },
            // A group without answers cannot be: K is at least 1.
            None => Self::Void,
            Some(_) if scored.mixed() => Self::Mixed,
            Some(rate) if rate >= 1.0 => Self::AllRight,
            Some(rate) if rate <= 0.0 => Self::AllWrong,
            Some(_) => Self::AllEqual,
        }
    }

    /// The state in which a judged group goes on; `None` if it is ready.
    pub(crate) fn drop_reason(self) -> Option<DropReason> {
        match self {
            Self::Mixed | Self::MixedRest => None,
            Self::Void => Some(DropReason::Void),
            _ => Some(DropReason::Unmixed),
        }
    }
}

/// What is wrong with the run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Alarm {
    /// Judged groups, none mixed.
    Unlearnable { all_right: f64, all_wrong: f64 },
    /// Anything else, in words.
    Failed(String),
}

/// The window over the last finished groups.
#[derive(Debug)]
pub(crate) struct Recent {
    outcomes: VecDeque<Outcome>,
    capacity: usize,
    max_void_share: f64,
    counts: [usize; Outcome::COUNT],
}

impl Recent {
    /// A window over `capacity` groups that goes on from `saved` ones.
    pub(crate) fn new(capacity: usize, max_void_share: f64, saved: &[Outcome]) -> Self {
        let outcomes = VecDeque::new();
        let mut recent = Self { outcomes, capacity: capacity.max(1), max_void_share, counts: [0; Outcome::COUNT] };
        for &outcome in saved {
            recent.record(outcome);
        }
        recent
    }

    /// Adds a finished group and says what is wrong now, if anything.
    pub(crate) fn push(&mut self, outcome: Outcome) -> Option<Alarm> {
        self.record(outcome);
        let window = self.capacity as f64;
        let void = self.count(Outcome::Void) + self.count(Outcome::MixedRest);
        // Against the full window from the start: a share of few groups says little.
        if void as f64 > self.max_void_share * window {
            return Some(Alarm::Failed(format!(
                "{void} of the last {} finished groups had void verdicts, more than replay.max_void_share = {} of {window} \
                 allows: the verifier does not work",
                self.outcomes.len(),
                self.max_void_share
            )));
        }
        if self.outcomes.len() < self.capacity || self.count(Outcome::Mixed) + self.count(Outcome::MixedRest) > 0 {
            return None;
        }
        let [right, wrong, equal] =
            [Outcome::AllRight, Outcome::AllWrong, Outcome::AllEqual].map(|outcome| self.count(outcome));
        if 2 * (right + wrong + equal) >= self.capacity {
            return Some(Alarm::Unlearnable { all_right: right as f64 / window, all_wrong: wrong as f64 / window });
        }
        Some(Alarm::Failed(format!(
            "none of the last {window} finished groups taught anything: {} ended before they were judged (lost, cancelled or \
             too long), {void} had void verdicts, {right} were all right, {wrong} all wrong",
            self.count(Outcome::Unjudged)
        )))
    }

    /// The window, oldest first.
    pub(crate) fn save(&self) -> Vec<Outcome> {
        self.outcomes.iter().copied().collect()
    }

    fn record(&mut self, outcome: Outcome) {
        if self.outcomes.len() == self.capacity
            && let Some(oldest) = self.outcomes.pop_front()
        {
            self.counts[oldest as usize] -= 1;
        }
        self.outcomes.push_back(outcome);
        self.counts[outcome as usize] += 1;
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.counts[outcome as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push_all(recent: &mut Recent, outcomes: &[Outcome]) -> Option<Alarm> {
        outcomes.iter().filter_map(|&outcome| recent.push(outcome)).last()
    }

    #[test]
    fn a_window_without_a_mixed_group_is_unlearnable_and_one_mixed_group_saves_it() {
        use Outcome::{AllRight, AllWrong, Mixed};
        let mut recent = Recent::new(4, 0.5, &[Mixed]);
        assert_eq!(push_all(&mut recent, &[AllRight, AllWrong, AllWrong]), None);
        assert_eq!(recent.push(AllWrong), Some(Alarm::Unlearnable { all_right: 0.25, all_wrong: 0.75 }));
        assert_eq!(push_all(&mut recent, &[Mixed, AllRight, AllRight, AllRight]), None);
    }

    #[test]
    fn a_void_share_above_the_limit_fails_before_the_window_is_full_and_1_disables_it() {
        use Outcome::{Mixed, Void};
        let mut recent = Recent::new(4, 0.5, &[]);
        assert_eq!(push_all(&mut recent, &[Void, Void]), None);
        let Some(Alarm::Failed(reason)) = recent.push(Void) else { panic!("must fail") };
        assert!(reason.starts_with("3 of the last 3 finished groups had void verdicts"), "{reason}");
        let mut recent = Recent::new(4, 1.0, &[Mixed]);
        assert_eq!(push_all(&mut recent, &[Void, Void, Void]), None);
    }

    #[test]
    fn groups_of_which_a_rest_is_mixed_teach_and_count_as_void_all_the_same() {
        use Outcome::{AllRight, MixedRest};
        let mut recent = Recent::new(4, 0.5, &[]);
        assert_eq!(push_all(&mut recent, &[MixedRest, AllRight, AllRight, AllRight]), None);
        assert_eq!(recent.push(MixedRest), None);
        let Some(Alarm::Failed(reason)) = push_all(&mut recent, &[MixedRest; 3]) else { panic!("must fail") };
        assert!(reason.contains("had void verdicts"), "{reason}");
    }

    #[test]
    fn groups_that_are_never_judged_fail_the_run_too() {
        let mut recent = Recent::new(3, 0.5, &[]);
        let Some(Alarm::Failed(reason)) = push_all(&mut recent, &[Outcome::Unjudged; 3]) else { panic!("must fail") };
        assert!(reason.contains("3 ended before they were judged"), "{reason}");
    }
}
