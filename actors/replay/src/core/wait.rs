//! What the run waits for, in words: the text of a stall, and a line of the status page.

use counterpoint_rollout::{GroupId, PolicyVersion};

use super::{ReplayCore, Stage, list};

impl ReplayCore {
    /// The one thing that must happen next, and what keeps it from happening, if the core knows. Scans what is in flight: for
    /// people, not for every event.
    pub(super) fn waits_for(&self) -> String {
        if !self.begun {
            return "the run to begin".to_owned();
        }
        if self.deadlines.is_held() {
            return "an evaluation, a checkpoint or the end to let it go on".to_owned();
        }
        if let Some(batch) = self.hands.front() {
            return format!("the learner to train {} groups on {}", batch.groups.len(), batch.version);
        }
        self.running().unwrap_or_else(|| self.no_lease())
    }

    /// What runs, if anything does.
    fn running(&self) -> Option<String> {
        let mut newest_needed = PolicyVersion(0);
        let (mut leased, mut generating, mut verifying) = (Vec::new(), Vec::new(), Vec::new());
        for (&group, flight) in &self.flights {
            match flight.stage {
                Stage::Pending => {}
                Stage::Leased { .. } => {
                    newest_needed = newest_needed.max(flight.lease.min_version);
                    leased.push(group);
                }
                Stage::Generating { .. } => generating.push(group),
                Stage::Verifying { .. } => verifying.push(group),
            }
        }
        let of = |what: &str, groups: &[GroupId]| format!("{what} of {} ({})", count(groups.len()), list(groups));
        if !verifying.is_empty() {
            return Some(of("the verdicts", &verifying));
        }
        if !generating.is_empty() {
            return Some(of("the answers", &generating));
        }
        if leased.is_empty() {
            return None;
        }
        let start = of("the start", &leased);
        let loaded = self.newest_loaded();
        Some(match loaded.filter(|&loaded| loaded < newest_needed) {
            Some(loaded) => format!(
                "{start}, which need weights {newest_needed}; the newest that a generator has are {loaded}, \
                                     and the learner has made {} (weight_sync.every, replay.max_staleness)",
                self.completed
            ),
            None => start,
        })
    }

    /// Nothing runs and the learner has nothing: why no lease goes out.
    fn no_lease(&self) -> String {
        let (ready, batch) = (self.buffer.ready_len(), self.admission.batch);
        let full = format!("a batch of {batch} groups, of which {ready} are ready");
        if !self.has_room() {
            let limit = self.config.replay.max_in_flight.unwrap_or_default();
            return format!("{full}; no more are sampled, since replay.max_in_flight = {limit} is reached");
        }
        let position = self.position();
        if self.feed.at_end() || self.admission.all_issued(position) {
            return format!("{full}; all prompts and steps of the run are given out");
        }
        let needed = self.admission.min_version(position);
        match self.newest_loaded() {
            None => format!("{full}; no generator is up"),
            Some(loaded) if loaded < needed => format!(
                "{full}; the next must start with weights {needed}, the newest that a generator has are {loaded}, and the \
                 learner has made {} (weight_sync.every, replay.max_staleness)",
                self.completed
            ),
            Some(_) => format!("{full}; every generator holds as many groups as it may"),
        }
    }

    fn newest_loaded(&self) -> Option<PolicyVersion> {
        self.generators.iter().map(|(_, slot)| slot.loaded).max()
    }
}

fn count(groups: usize) -> String {
    if groups == 1 { "1 group".to_owned() } else { format!("{groups} groups") }
}
