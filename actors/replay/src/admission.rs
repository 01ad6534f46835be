//! Admission: which lease may be issued, and which weights it needs.
//!
//! N, the position of the next lease, is the number of groups issued and not dropped, so a drop frees a position. The lease at
//! position N carries `min_version = max(0, ⌊N/B⌋ − η)`, and N never exceeds `max_steps·B`. It is issued only
//!
//! * while `min_version` is at most the learner's completed steps, which bounds everything in flight by (η + 1)·B, and
//! * (η > 0) to a generator that has loaded `min_version` already.
//!
//! The second condition keeps the run alive. Take B = 1, η = 1 and weights published every second step. Groups 0 and 1
//! start at v0, group 0 is trained, and a lease at position 2 with `min_version` 1 goes to a generator that has v0 and will
//! have v2 next. Group 1 turns out unmixed; its replacement again gets position 2 and `min_version` 1. Now nothing can
//! start before v2, and v2 needs a second batch: a deadlock. Were position 2 left unissued until v1 or later is loaded, the
//! replacement would get position 1 and start at once. Since a lease that its generator cannot start is of no use to it,
//! nothing is lost by waiting. At η = 0 every step publishes, all positions of a step need that step's weights, and the
//! generator may hold a wave until it has loaded them.

use counterpoint_rollout::PolicyVersion;

/// The rule, with its three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// B, mixed groups per optimiser step.
    pub batch: u64,
    /// η, in optimiser steps.
    pub max_staleness: u64,
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
}

impl Admission {
    /// N, from the batches closed so far and the groups in flight that are in none of them.
    pub fn position(&self, closed: u64, unbatched: u64) -> u64 {
        closed.saturating_mul(self.batch).saturating_add(unbatched)
    }

    /// The oldest weights with which the group at this position may start.
    pub fn min_version(&self, position: u64) -> PolicyVersion {
        PolicyVersion((position / self.batch).saturating_sub(self.max_staleness))
    }

    /// Whether the lease at this position may be issued after `completed` optimiser steps.
    pub fn admits(&self, position: u64, completed: PolicyVersion) -> bool {
        !self.all_issued(position) && self.min_version(position) <= completed
    }

    /// Whether the groups of the whole run are issued.
    pub fn all_issued(&self, position: u64) -> bool {
        position >= self.max_steps.saturating_mul(self.batch)
    }

    /// (η + 1)·B: no more groups than these are ever in flight.
    pub fn capacity(&self) -> u64 {
        self.max_staleness.saturating_add(1).saturating_mul(self.batch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn min_version_follows_the_position_in_whole_batches() {
        let admission = Admission { batch: 4, max_staleness: 2, max_steps: 5 };
        let versions: Vec<u64> = (0..20).step_by(2).map(|n| admission.min_version(n).0).collect();
        assert_eq!(versions, [0, 0, 0, 0, 0, 0, 1, 1, 2, 2]);
        assert!(admission.admits(19, PolicyVersion(2)));
        assert!(!admission.admits(19, PolicyVersion(1)));
        assert!(!admission.admits(20, PolicyVersion(9)));
    }

    proptest! {
        #[test]
        fn a_1_at_most_capacity_groups_are_in_flight(batch in 1u64..50, max_staleness in 0u64..20, completed in 0u64..100) {
            let admission = Admission { batch, max_staleness, max_steps: u64::MAX };
            let trained = completed * batch;
            let last = (trained..).take_while(|&n| admission.admits(n, PolicyVersion(completed))).last();
            prop_assert_eq!(last.map(|n| n + 1 - trained), Some(admission.capacity()));
        }
    }
}
