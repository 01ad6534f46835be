//! Deadlines of groups on a clock that an evaluation pause stops.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use counterpoint_rollout::GroupId;

/// At most one deadline per group. Internally all times are run time less the time held.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    queue: BTreeSet<(Duration, GroupId)>,
    due: HashMap<GroupId, Duration>,
    /// Length of all pauses that are over.
    held: Duration,
    /// Run time at which the present pause began.
    held_since: Option<Duration>,
}

impl Deadlines {
    /// Run time less the time held.
    pub(crate) fn active(&self, now: Duration) -> Duration {
        self.held_since.unwrap_or(now).saturating_sub(self.held)
    }

    /// Gives `group` the deadline `after` from `now`, in place of any it had.
    pub(crate) fn set(&mut self, now: Duration, after: Duration, group: GroupId) {
        self.clear(group);
        let due = self.active(now).saturating_add(after);
        self.queue.insert((due, group));
        self.due.insert(group, due);
    }

    /// Forgets the group's deadline.
    pub(crate) fn clear(&mut self, group: GroupId) {
        if let Some(due) = self.due.remove(&group) {
            self.queue.remove(&(due, group));
        }
    }

    /// Takes out the groups whose deadline has passed, the longest past first.
    pub(crate) fn expired(&mut self, now: Duration) -> Vec<GroupId> {
        let active = self.active(now);
        let mut expired = Vec::new();
        while let Some(&(due, group)) = self.queue.first() {
            if due > active {
                break;
            }
            self.clear(group);
            expired.push(group);
        }
        expired
    }

    /// Run time of the next deadline; `None` without one, or during a pause.
    pub(crate) fn next(&self) -> Option<Duration> {
        let &(due, _) = self.queue.first().filter(|_| self.held_since.is_none())?;
        Some(due.saturating_add(self.held))
    }

    /// Stops the clock.
    pub(crate) fn hold(&mut self, now: Duration) {
        self.held_since.get_or_insert(now);
    }

    /// Lets the clock go on.
    pub(crate) fn release(&mut self, now: Duration) {
        if let Some(since) = self.held_since.take() {
            self.held = self.held.saturating_add(now.saturating_sub(since));
        }
    }

    /// Whether the clock stands still.
    pub(crate) fn is_held(&self) -> bool {
        self.held_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn deadlines_do_not_run_during_a_pause() {
        let mut deadlines = Deadlines::default();
        deadlines.set(s(0), s(10), GroupId(1));
        deadlines.hold(s(4));
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadlines.expired(s(100)), []);
        deadlines.set(s(50), s(1), GroupId(2));
        deadlines.release(s(104));
        assert_eq!(deadlines.next(), Some(s(105)));
        assert_eq!(deadlines.expired(s(109)), [GroupId(2)]);
        assert_eq!(deadlines.expired(s(110)), [GroupId(1)]);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_new_deadline_replaces_the_old_one() {
        let mut deadlines = Deadlines::default();
        deadlines.set(s(0), s(10), GroupId(1));
        deadlines.set(s(5), s(10), GroupId(1));
        assert_eq!(deadlines.expired(s(14)), []);
        deadlines.clear(GroupId(1));
        assert_eq!(deadlines.expired(s(20)), []);
    }
}
