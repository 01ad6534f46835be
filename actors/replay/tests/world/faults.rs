//! What can go wrong in a world: actors that die, answers that are lost, deadlines that pass, kill -9.

use std::time::Duration;

use counterpoint_replay::Cut;
use counterpoint_replay::core::ReplayCore;
use counterpoint_rollout::{DropReason, GeneratorId, Lost, PolicyVersion, Verdict};

use super::{Generator, World};

impl World {
    /// One fault, of any kind.
    pub(super) fn fault(&mut self) {
        match self.throw(8) {
            0 => self.restart_generator(),
            1 => self.prompt_too_long(),
            2 => self.deadline_passes(),
            3 => self.verifier_dies(),
            4 => self.one_answer_is_lost(),
            5 => self.saved = Some((serde_json::to_string(&self.core.cut()).unwrap(), self.oracle.clone())),
            6 => self.resume(),
            _ => {
                self.held = true;
                self.core.hold(self.now);
            }
        }
    }

    fn restart_generator(&mut self) {
        let g = self.throw(self.generators.len());
        let id = GeneratorId(g as u32);
        let (window, loaded) = (self.spec.windows[g], self.published());
        self.generators[g] = Generator { loaded, ..Generator::default() };
        if self.throw(2) == 0 {
            self.event(|core, now, out| core.generator_down(now, id, out));
        }
        self.event(|core, now, out| core.generator_up(now, id, window, PolicyVersion(loaded), out));
    }

    fn prompt_too_long(&mut self) {
        let g = self.throw(self.generators.len());
        if let Some(lease) = self.generators[g].leased.pop() {
            self.oracle.used(&lease);
            self.event(|core, now, out| core.dropped(now, lease.group, DropReason::TooLong, out));
        }
    }

    fn deadline_passes(&mut self) {
        for g in 0..self.generators.len() {
            while !self.generators[g].cancelled.is_empty() {
                self.answer_cancel(g);
            }
        }
        if let Some(due) = self.core.next_deadline() {
            self.now = self.now.max(due);
            self.event(|core, now, out| core.tick(now, out));
        }
    }

    /// The replies that died with it reach the core before, between or after the new one is up.
    fn verifier_dies(&mut self) {
        let mut lost = std::mem::take(&mut self.requests);
        let late = lost.split_off(self.throw(lost.len() + 1));
        for (group, ticket) in lost {
            self.event(|core, now, out| core.verified(now, group.id(), ticket, Err(Lost), out));
        }
        // What was sent meanwhile comes back unsent.
        for (group, ticket) in std::mem::take(&mut self.requests) {
            self.core.unsent(group.id(), ticket);
        }
        self.event(|core, now, out| core.verifier_up(now, out));
        for (group, ticket) in late {
            self.event(|core, now, out| core.verified(now, group.id(), ticket, Err(Lost), out));
        }
    }

    fn one_answer_is_lost(&mut self) {
        if let Some((group, ticket)) = self.requests.pop() {
            let answer = if self.throw(2) == 0 { Err(Lost) } else { Ok(vec![Verdict::Correct]) };
            self.event(|core, now, out| core.verified(now, group.id(), ticket, answer, out));
        }
    }

    /// kill -9, and on from the last cut if there is one, else from one of this moment.
    fn resume(&mut self) {
        let now = (serde_json::to_string(&self.core.cut()).unwrap(), self.oracle.clone());
        let (json, oracle) = self.saved.clone().unwrap_or(now);
        let cut: Cut = serde_json::from_str(&json).unwrap();
        self.core = ReplayCore::resume(self.spec.config(), self.spec.data(), &cut).unwrap();
        assert_eq!(serde_json::to_string(&self.core.cut()).unwrap(), json, "a resumed core cuts what it was made from");
        self.oracle = oracle;
        self.steps = cut.completed.0;
        self.oracle.rewind(self.steps);
        self.now = Duration::ZERO;
        self.held = false;
        self.end = None;
        self.generators.clear();
        self.requests.clear();
        self.learner.clear();
        self.unheard.clear();
        self.resumed_at = self.steps;
        self.everybody_up(self.steps);
    }
}
