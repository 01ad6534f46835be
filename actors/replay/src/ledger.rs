//! The account of every group: `issued = trained + dropped{reason} + in flight`, at every moment and across a resume.
//!
//! A group that ended leaves the account and lives on in a counter, so memory is bounded by what is in flight. The ledger
//! decides nothing; it refuses a step out of order (invariant L-2), so a second training of a group cannot be booked.

use std::collections::{BTreeMap, HashMap};

use counterpoint_rollout::invariant::Invariant;
use counterpoint_rollout::{DropReason, GroupId, GroupState, PolicyVersion, check_invariant, telemetry};
use serde::{Deserialize, Serialize};

/// The totals of a run, resumes included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerTotals {
    /// Groups for which a lease was issued.
    pub issued: u64,
    /// Groups that taught.
    pub trained: u64,
    /// Groups neither trained nor dropped.
    pub in_flight: u64,
    /// Groups that ended untrained.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl LedgerTotals {
    /// Whether issued = trained + dropped + in flight.
    pub fn balance(&self) -> bool {
        self.issued == self.trained + self.dropped.values().sum::<u64>() + self.in_flight
    }
}

/// What the ledger knows of one group in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Where the group is.
    pub state: GroupState,
    /// N when it was issued.
    pub position: u64,
    /// The weights of its first token, once that is sampled.
    pub start: Option<PolicyVersion>,
}

/// The states of a group in flight, in order, with their labels in metrics and reports.
pub const STATES: [(GroupState, &str); 5] = [
    (GroupState::Leased, "leased"),
    (GroupState::Generating, "generating"),
    (GroupState::Verifying, "verifying"),
    (GroupState::Ready, "ready"),
    (GroupState::Batched, "batched"),
];

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: HashMap<GroupId, Account>,
    in_state: [u64; STATES.len()],
    issued: u64,
    trained: u64,
    dropped: BTreeMap<DropReason, u64>,
}

impl Ledger {
    /// A ledger whose counters go on from saved totals; the groups in flight are entered with [`Ledger::restore_group`].
    pub fn restore(totals: &LedgerTotals) -> Self {
        let (issued, trained, dropped) = (totals.issued, totals.trained, totals.dropped.clone());
        Self { issued, trained, dropped, ..Self::default() }
    }

    /// Enters a group that the saved totals already count as issued.
    pub fn restore_group(&mut self, group: GroupId, account: Account) {
        self.open(group, account);
    }

    /// A lease was issued.
    pub fn issue(&mut self, group: GroupId, position: u64) {
        if self.open(group, Account { state: GroupState::Leased, position, start: None }) {
            self.issued += 1;
            telemetry::group_issued();
        }
    }

    /// The group's first token was sampled.
    pub fn start(&mut self, group: GroupId, version: PolicyVersion) {
        if self.advance(group, GroupState::Generating)
            && let Some(account) = self.accounts.get_mut(&group)
        {
            account.start = Some(version);
        }
    }

    /// The group goes on to the next state; returns whether that was in order.
    pub fn advance(&mut self, group: GroupId, to: GroupState) -> bool {
        let from = self.accounts.get(&group).map(|account| account.state);
        let (Some(from), Some(to_slot)) = (from.and_then(slot), slot(to)) else {
            return out_of_order(group, from, to);
        };
        if to_slot != from + 1 {
            return out_of_order(group, Some(STATES[from].0), to);
        }
        self.in_state[from] -= 1;
        self.in_state[to_slot] += 1;
        if let Some(account) = self.accounts.get_mut(&group) {
            account.state = to;
        }
        true
    }

    /// The step that trained the group is done.
    pub fn train(&mut self, group: GroupId) {
        let state = self.accounts.get(&group).map(|account| account.state);
        if state == Some(GroupState::Batched) {
            self.close(group);
            self.trained += 1;
        } else {
            out_of_order(group, state, GroupState::Trained);
        }
    }

    /// The group ended before it was ready.
    pub fn drop_group(&mut self, group: GroupId, reason: DropReason) {
        let state = self.accounts.get(&group).map(|account| account.state);
        let running = [GroupState::Leased, GroupState::Generating, GroupState::Verifying];
        if state.is_some_and(|state| running.contains(&state)) {
            self.close(group);
            *self.dropped.entry(reason).or_default() += 1;
            telemetry::group_dropped(reason);
        } else {
            out_of_order(group, state, GroupState::Dropped(reason));
        }
    }

    /// What is known of a group in flight.
    pub fn account(&self, group: GroupId) -> Option<&Account> {
        self.accounts.get(&group)
    }

    /// Groups in flight, by state, in the order of [`STATES`].
    pub fn in_states(&self) -> [u64; STATES.len()] {
        self.in_state
    }

    /// The totals.
    pub fn totals(&self) -> LedgerTotals {
        let in_flight = self.accounts.len() as u64;
        LedgerTotals { issued: self.issued, trained: self.trained, in_flight, dropped: self.dropped.clone() }
    }

    /// Invariant L-1: every issued group is trained, dropped or in flight, and in one state only.
    pub fn balance(&self) -> bool {
        let in_flight = self.accounts.len() as u64;
        self.issued == self.trained + self.dropped.values().sum::<u64>() + in_flight
            && self.in_state.iter().sum::<u64>() == in_flight
    }

    fn open(&mut self, group: GroupId, account: Account) -> bool {
        let (Some(slot), false) = (slot(account.state), self.accounts.contains_key(&group)) else {
            return out_of_order(group, self.accounts.get(&group).map(|a| a.state), account.state);
        };
        self.accounts.insert(group, account);
        self.in_state[slot] += 1;
        true
    }

    fn close(&mut self, group: GroupId) {
        if let Some(slot) = self.accounts.remove(&group).and_then(|account| slot(account.state)) {
            self.in_state[slot] -= 1;
        }
    }
}

fn slot(state: GroupState) -> Option<usize> {
    STATES.iter().position(|&(s, _)| s == state)
}

/// Reports invariant L-2; the step is not booked.
fn out_of_order(group: GroupId, from: Option<GroupState>, to: GroupState) -> bool {
    check_invariant!(Invariant::StateOrder, false, "{group} cannot go from {from:?} to {to:?}");
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One legal step, chosen by two numbers: of which group, and which of the steps its state allows.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Issue,
        Move(usize, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![Just(Step::Issue), (any::<usize>(), any::<bool>()).prop_map(|(g, d)| Step::Move(g, d))];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// The model is the plain list of all groups ever issued with their states.
        #[test]
        fn l_1_the_ledger_agrees_with_a_list_of_all_groups(steps in steps()) {
            use GroupState::{Batched, Dropped, Generating, Leased, Ready, Trained, Verifying};
            let mut model: Vec<GroupState> = Vec::new();
            let mut ledger = Ledger::default();
            for step in steps {
                match step {
                    Step::Issue => {
                        ledger.issue(GroupId(model.len() as u64), model.len() as u64);
                        model.push(Leased);
                    }
                    Step::Move(_, _) if model.is_empty() => {}
                    Step::Move(pick, drop) => {
                        let id = pick % model.len();
                        let group = GroupId(id as u64);
                        let next = match (model[id], drop) {
                            (Leased | Generating | Verifying, true) => Dropped(DropReason::ALL[pick % 7]),
                            (Leased, _) => Generating,
                            (Generating, _) => Verifying,
                            (Verifying, _) => Ready,
                            (Ready, _) => Batched,
                            (Batched, _) => Trained,
                            (ended @ (Trained | Dropped(_)), _) => ended,
                        };
                        if next == model[id] { continue; }
                        model[id] = next;
                        match next {
                            Dropped(reason) => ledger.drop_group(group, reason),
                            Trained => ledger.train(group),
                            Generating => ledger.start(group, PolicyVersion(3)),
                            other => prop_assert!(ledger.advance(group, other)),
                        }
                    }
                }
                let count = |state| model.iter().filter(|&&s| s == state).count() as u64;
                let totals = ledger.totals();
                prop_assert!(ledger.balance() && totals.balance());
                prop_assert_eq!(totals.issued, model.len() as u64);
                prop_assert_eq!(totals.trained, count(Trained));
                for reason in DropReason::ALL {
                    prop_assert_eq!(totals.dropped.get(&reason).copied().unwrap_or(0), count(Dropped(reason)));
                }
                for (slot, (state, _)) in STATES.into_iter().enumerate() {
                    prop_assert_eq!(ledger.in_states()[slot], count(state));
                }
            }
        }
    }

    #[test]
    fn totals_survive_json() {
        let mut ledger = Ledger::default();
        for id in 0..3 {
            ledger.issue(GroupId(id), id);
        }
        ledger.drop_group(GroupId(1), DropReason::TooLong);
        let totals = ledger.totals();
        let back: LedgerTotals = serde_json::from_str(&serde_json::to_string(&totals).unwrap()).unwrap();
        assert_eq!(back, totals);
    }
}
