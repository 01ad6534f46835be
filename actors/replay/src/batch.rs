//! The closing rule: when the B oldest ready groups may become a batch although others still run.
//!
//! Let v be the number of batches closed so far, which is the version at which the next one is trained, and let the floor
//! of a group be the version of its first token, or the oldest it can still get: for a group that is leased and not started,
//! the larger of its `min_version` and the last version its generator said it had loaded, because a generator that lags may
//! start it with just those weights. Batch v takes the B ready groups with the oldest start version, ties by group number. It
//! is closed only if afterwards, for every j, the groups in flight and in no batch whose floor is at most j number at most
//! (j + η − v)·B (and none, where that is negative).
//!
//! **No group gets staler than η.** A group with floor j is in time in the batches up to j + η; after batch v these are j + η − v
//! batches of B groups. The rule says that at every j all that must go into them fit, which for equal-sized jobs with
//! deadlines is sufficient (Hall's theorem; taking the oldest first is optimal).
//!
//! **It can always be met again.** Write U for all unbatched groups in flight, U(j) for those with floor at most j, and say that
//! (I) holds if U(j) ≤ (j + η + 1 − v)·B for every j with U(j) > 0. The rule leaves (I) behind for v + 1. Admission keeps it:
//! the next lease has position N = v·B + U and floor at least `min_version` = ⌊N/B⌋ − η, so for every j that it counts for,
//! ⌊N/B⌋ − η ≤ j, hence U + 1 ≤ (j + η + 1 − v)·B, and U(j) after its issue is at most U + 1. (Summed over all batches:
//! issued and undropped groups with floor at most j never exceed (j + η + 1)·B, of which v·B are trained or batched.) Floors only rise
//! and drops only shrink U. So once every running group has become ready or was dropped, the batch of the B oldest leaves
//! max(0, U(j) − B) ≤ (j + η − v)·B, and the rule holds: under `wait` nothing is dropped for age, and nothing waits for anything
//! but groups that run. And if fewer than B groups are left then, N < (v + 1)·B, so the next lease needs no weights newer than
//! v − η, which a publish interval of at most η + 1 steps provides.

use counterpoint_rollout::PolicyVersion;

use crate::buffer::Counts;

/// The rule, with its two numbers.
#[derive(Clone, Copy, Debug)]
pub struct ClosingRule {
    /// B, groups per batch.
    pub batch: u64,
    /// η, in optimiser steps.
    pub max_staleness: u64,
}

/// Why a batch cannot be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The lowest j at which the rule fails.
    pub version: PolicyVersion,
    /// How many groups with a floor of at most j are too many.
    pub excess: u64,
}

impl ClosingRule {
    /// Whether batch `closed` may take its `take` oldest ready groups, given all unbatched groups in flight by floor, oldest
    /// first. The limit grows with j and the count only at the floors themselves, so these are the only j to look at.
    pub fn blocked(
        &self,
        closed: u64,
        take: u64,
        counts: impl Iterator<Item = (PolicyVersion, Counts)>,
    ) -> Option<Blocked> {
        let mut to_take = take;
        let mut left = 0;
        for (version, counts) in counts {
            let taken = counts.ready.min(to_take);
            to_take -= taken;
            left += counts.ready - taken + counts.running;
            let limit = (version.0 + self.max_staleness).saturating_sub(closed).saturating_mul(self.batch);
            if left > limit {
                return Some(Blocked { version, excess: left - limit });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked(closed: u64, counts: &[(u64, u64, u64)]) -> Option<(u64, u64)> {
        let rule = ClosingRule { batch: 2, max_staleness: 2 };
        let counts = counts.iter().map(|&(v, ready, running)| (PolicyVersion(v), Counts { ready, running }));
        rule.blocked(closed, 2, counts).map(|b| (b.version.0, b.excess))
    }

    #[test]
    fn a_group_at_its_last_batch_blocks_and_one_with_room_left_does_not() {
        // Batch 2 is the last that a group of v0 may be in (η = 2).
        assert_eq!(blocked(2, &[(0, 0, 1), (1, 2, 0)]), Some((0, 1)));
        assert_eq!(blocked(1, &[(0, 0, 1), (1, 2, 0)]), None);
    }

    #[test]
    fn groups_of_later_versions_are_counted_with_the_older_ones() {
        // After batch 2 only batch 3 is left to v1: two groups fit, the third does not.
        assert_eq!(blocked(2, &[(1, 2, 2), (2, 0, 4)]), Some((2, 2)));
        assert_eq!(blocked(2, &[(1, 2, 2), (2, 0, 2)]), None);
        assert_eq!(blocked(2, &[(1, 2, 3)]), Some((1, 1)));
    }

    #[test]
    fn ready_groups_that_the_batch_takes_do_not_count() {
        assert_eq!(blocked(2, &[(0, 2, 0)]), None);
        assert_eq!(blocked(2, &[(0, 3, 0)]), Some((0, 1)));
    }
}
