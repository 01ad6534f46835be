//! The replay part of a checkpoint: everything that must survive between two runs.
//!
//! A cut pairs with the learner's state after `completed` steps. Batches that the learner has and has not trained become ready
//! groups again; groups without verdicts are listed by their leases and issued again first, in the order of their numbers, with
//! the same number, attempt, epoch, position and `min_version`, and so with the same noise; that they had started is forgotten.
//! At η = 0 a cut taken with the completion of a step therefore resumes bit for bit, since the wave in flight is issued whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use counterpoint_rollout::{GroupId, GroupState, Lease, PolicyVersion, PromptSet, ScoredGroup};
use serde::{Deserialize, Serialize};

use crate::core::{CoreConfig, Flight, ReplayCore, Stage};
use crate::feed::{Draw, FeedCursor};
use crate::ledger::{Account, Ledger, LedgerTotals};
use crate::recent::Outcome;
use crate::{OnVoid, ReplayError, admission::Admission};

/// The layout of [`Cut`]; raised when an older program could not read it.
const FORMAT: u32 = 1;

/// See the module. Serialises as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Layout of this file.
    pub format: u32,
    /// What must be the same in the run that resumes.
    pub key: CutKey,
    /// Optimiser steps done.
    pub completed: PolicyVersion,
    /// The account; `in_flight` counts the two lists below.
    pub totals: LedgerTotals,
    /// The number of the next group.
    pub next_group: GroupId,
    /// Where the feed stands.
    pub feed: FeedCursor,
    /// Groups without verdicts, by number.
    pub in_flight: Vec<InFlight>,
    /// Mixed groups, untrained, in the order in which batches take them.
    pub ready: Vec<Arc<ScoredGroup>>,
    /// How the last finished groups ended, oldest first.
    pub recent: Vec<Outcome>,
}

/// A group that must be issued again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// As it was issued.
    pub lease: Lease,
    /// Its place in the feed.
    pub draw: Draw,
}

/// What the account, the feed's order and the closing rule depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutKey {
    /// `run.seed`.
    pub seed: u64,
    /// `feed.shuffle`.
    pub shuffle: bool,
    /// `feed.prompts_per_step`.
    pub prompts_per_step: u32,
    /// `feed.answers_per_prompt`.
    pub answers_per_prompt: u32,
    /// `replay.max_staleness`.
    pub max_staleness: u32,
    /// BLAKE3 of ids, questions and truths of all prompts, in order.
    pub data: String,
}

impl CutKey {
    pub(crate) fn new(config: &CoreConfig, prompts: &impl PromptSet) -> Result<Self, ReplayError> {
        Ok(Self {
            seed: config.seed,
            shuffle: config.feed.shuffle,
            prompts_per_step: config.feed.prompts_per_step,
            answers_per_prompt: config.feed.answers_per_prompt,
            max_staleness: config.replay.max_staleness,
            data: fingerprint(prompts)?,
        })
    }

    /// Names the first thing that differs from what this run has.
    fn check(&self, given: &Self) -> Result<(), ReplayError> {
        let pairs = [
            ("run.seed", self.seed.to_string(), given.seed.to_string()),
            ("feed.shuffle", self.shuffle.to_string(), given.shuffle.to_string()),
            ("feed.prompts_per_step", self.prompts_per_step.to_string(), given.prompts_per_step.to_string()),
            ("feed.answers_per_prompt", self.answers_per_prompt.to_string(), given.answers_per_prompt.to_string()),
            ("replay.max_staleness", self.max_staleness.to_string(), given.max_staleness.to_string()),
            ("the data (by fingerprint)", self.data.clone(), given.data.clone()),
        ];
        match pairs.into_iter().find(|(_, saved, given)| saved != given) {
            Some((what, saved, given)) => Err(ReplayError::Changed { what, saved, given }),
            None => Ok(()),
        }
    }
}

impl ReplayCore {
    /// Everything that must survive, at this moment.
    pub fn cut(&self) -> Cut {
        let mut ready: Vec<Arc<ScoredGroup>> =
            self.hands.iter().flat_map(|batch| batch.groups.iter().cloned()).collect();
        ready.extend(self.buffer.ready().cloned());
        ready.sort_by_key(|scored| (scored.group.start_version, scored.group.id()));
        Cut {
            format: FORMAT,
            key: self.key.clone(),
            completed: self.completed,
            totals: self.totals(),
            next_group: GroupId(self.next_group),
            feed: self.feed.cursor(),
            in_flight: self.flights.values().map(|f| InFlight { lease: f.lease.clone(), draw: f.draw }).collect(),
            ready,
            recent: self.recent.save(),
        }
    }

    /// A core that goes on from a cut. Nothing is issued before [`ReplayCore::begin`].
    pub fn resume(config: CoreConfig, prompts: impl PromptSet + 'static, cut: &Cut) -> Result<Self, ReplayError> {
        let mut core = Self::new(config, prompts)?;
        check(cut, &core)?;
        core.feed.restore(&cut.feed)?;
        core.ledger = Ledger::restore(&cut.totals);
        core.recent = Self::window(&core.config, &cut.recent);
        core.next_group = cut.next_group.0;
        core.completed = cut.completed;
        core.closed = cut.completed.0;
        for scored in &cut.ready {
            let lease = &scored.group.lease;
            let start = Some(scored.group.start_version);
            core.ledger
                .restore_group(lease.group, Account { state: GroupState::Ready, position: lease.position, start });
            core.buffer.store(Arc::clone(scored));
        }
        for saved in &cut.in_flight {
            core.restore_flight(saved)?;
        }
        Ok(core)
    }

    fn restore_flight(&mut self, saved: &InFlight) -> Result<(), ReplayError> {
        let (group, draw) = (saved.lease.group, saved.draw);
        let prompt = self.feed.prompt(draw.row).ok().filter(|prompt| prompt.id == saved.lease.prompt.id);
        let Some(prompt) = prompt else {
            let what = format!("{group} asks prompt {:?} at row {}, where it is not", saved.lease.prompt.id, draw.row);
            return Err(ReplayError::Damaged(what));
        };
        let deadline = self.config.replay.lease_deadline();
        let lease = Lease { prompt, deadline, ..saved.lease.clone() };
        let account = Account { state: GroupState::Leased, position: lease.position, start: None };
        self.ledger.restore_group(group, account);
        self.buffer.enter(lease.min_version, group);
        self.pending.insert(group);
        self.flights.insert(group, Flight { floor: lease.min_version, lease, draw, stage: Stage::Pending });
        Ok(())
    }
}

/// Refuses a cut of something else, or one that contradicts itself.
fn check(cut: &Cut, core: &ReplayCore) -> Result<(), ReplayError> {
    if cut.format != FORMAT {
        let (saved, given) = (cut.format.to_string(), FORMAT.to_string());
        return Err(ReplayError::Changed { what: "the checkpoint's format", saved, given });
    }
    cut.key.check(&core.key)?;
    let damaged = |what: String| Err(ReplayError::Damaged(what));
    let listed = (cut.in_flight.len() + cut.ready.len()) as u64;
    if !cut.totals.balance() || cut.totals.in_flight != listed {
        return damaged(format!("the account does not balance: {:?} with {listed} groups listed", cut.totals));
    }
    let Admission { batch, .. } = core.admission;
    if cut.totals.trained > cut.completed.0.saturating_mul(batch) || listed > core.admission.capacity() {
        return damaged(format!(
            "{} groups trained and {listed} in flight cannot be after {} steps of {batch} groups",
            cut.totals.trained, cut.completed.0
        ));
    }
    let mut seen = BTreeSet::new();
    let leases = cut.in_flight.iter().map(|f| &f.lease).chain(cut.ready.iter().map(|scored| &scored.group.lease));
    for lease in leases {
        if lease.group >= cut.next_group || !seen.insert(lease.group) {
            return damaged(format!("{} is listed twice, or was never issued", lease.group));
        }
        if lease.min_version > cut.completed {
            return damaged(format!("{} needs {}, but {} is the last", lease.group, lease.min_version, cut.completed));
        }
    }
    let answers = core.config.feed.answers_per_prompt as usize;
    let rests = core.config.replay.on_void == OnVoid::RateRest;
    let whole = |s: &ScoredGroup| {
        let sizes = (s.group.completions.len(), s.verdicts.len());
        sizes == (answers, answers) && s.mixed() && (rests || !s.any_void())
    };
    match cut.ready.iter().find(|scored| !whole(scored)) {
        Some(scored) => damaged(format!("{} is ready without {answers} judged, mixed answers", scored.group.id())),
        None => Ok(()),
    }
}

/// Each part with its length, so that no two different lists of prompts give the same bytes.
fn fingerprint(prompts: &impl PromptSet) -> Result<String, ReplayError> {
    let mut hasher = blake3::Hasher::new();
    for row in 0..prompts.len() {
        let prompt = prompts.get(row).map_err(ReplayError::Data)?;
        // A map of plain JSON has a text; its keys are in order.
        let info = serde_json::to_string(&prompt.info).unwrap_or_default();
        for part in [&prompt.id, &prompt.content.display(), &prompt.answer, &info] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use counterpoint_rollout::{GeneratorId, Prompt, PromptContent};

    use super::*;
    use crate::{FeedConfig, ReplayConfig};

    fn config() -> CoreConfig {
        let feed = FeedConfig { prompts_per_step: 2, answers_per_prompt: 2, ..FeedConfig::default() };
        CoreConfig {
            feed,
            replay: ReplayConfig::default(),
            verify_deadline: Duration::from_secs(60),
            seed: 7,
            max_steps: 3,
        }
    }

    fn prompts(answer: &str) -> Vec<Arc<Prompt>> {
        let content = PromptContent::Text(String::new());
        let prompt = |i| Prompt {
            id: format!("p{i}"),
            content: content.clone(),
            answer: answer.into(),
            source: String::new(),
            info: Default::default(),
        };
        (0..4).map(|i| Arc::new(prompt(i))).collect()
    }

    /// Six groups in flight.
    fn cut() -> Cut {
        let mut core = ReplayCore::new(config(), prompts("1")).unwrap();
        let out = &mut Vec::new();
        core.generator_up(Duration::ZERO, GeneratorId(0), 8, PolicyVersion(0), out);
        core.begin(Duration::ZERO, out);
        core.cut()
    }

    fn refusal(config: CoreConfig, prompts: Vec<Arc<Prompt>>, cut: &Cut) -> String {
        ReplayCore::resume(config, prompts, cut).unwrap_err().to_string()
    }

    #[test]
    fn what_must_not_change_is_named() {
        let mut other = config();
        other.feed.prompts_per_step = 4;
        assert_eq!(
            refusal(other, prompts("1"), &cut()),
            "the checkpoint was made with feed.prompts_per_step = 2, this run has 4: restore it, or start a fresh run"
        );
        assert!(refusal(config(), prompts("2"), &cut()).contains("the data (by fingerprint)"));
        let longer = CoreConfig { max_steps: 9, ..config() };
        assert!(ReplayCore::resume(longer, prompts("1"), &cut()).is_ok());
    }

    #[test]
    fn a_cut_that_contradicts_itself_is_refused() {
        type Damage = fn(&mut Cut);
        let damages: [(Damage, &str); 5] = [
            (|cut| cut.totals.trained = 1, "the account does not balance"),
            (|cut| drop(cut.in_flight.pop()), "with 5 groups listed"),
            (|cut| cut.in_flight[0].lease.group = GroupId(1), "g1 is listed twice"),
            (|cut| cut.in_flight[2].draw.row = 9, "where it is not"),
            (|cut| cut.feed.place = 5, "an epoch of 4"),
        ];
        for (damage, expected) in damages {
            let mut cut = cut();
            damage(&mut cut);
            let refusal = refusal(config(), prompts("1"), &cut);
            assert!(refusal.contains(expected), "{refusal}");
        }
    }
}
