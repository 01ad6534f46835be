//! Who is judged and who waits: a first-in-first-out queue before a fixed number of slots. Pure: no channel, no clock.

use std::collections::{BTreeMap, VecDeque};

/// Names one request to the pool; a group that is verified again gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Requests of type `T`, each either waiting or in one of the slots.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    slots: usize,
    next: u64,
    waiting: VecDeque<(Ticket, T)>,
    running: BTreeMap<Ticket, T>,
}

impl<T> Queue<T> {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots, next: 0, waiting: VecDeque::new(), running: BTreeMap::new() }
    }

    /// Lets a request wait, after those that wait already. It is made by `request` from its ticket.
    pub(crate) fn push(&mut self, request: impl FnOnce(Ticket) -> T) {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.push_back((ticket, request(ticket)));
    }

    /// Moves the request that waited longest into a free slot, if there are both.
    pub(crate) fn start(&mut self) -> Option<(Ticket, &mut T)> {
        if self.running.len() >= self.slots {
            return None;
        }
        let (ticket, request) = self.waiting.pop_front()?;
        Some((ticket, self.running.entry(ticket).or_insert(request)))
    }

    /// Takes a running request out of its slot.
    pub(crate) fn finish(&mut self, ticket: Ticket) -> Option<T> {
        self.running.remove(&ticket)
    }

    /// Takes a request out if it still waits.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> Option<T> {
        let index = self.waiting.binary_search_by_key(&ticket, |(waiting, _)| *waiting).ok()?;
        self.waiting.remove(index).map(|(_, request)| request)
    }

    /// Drops the waiting requests for which `unwanted` holds, and says how many those were.
    pub(crate) fn cancel(&mut self, unwanted: impl Fn(&T) -> bool) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|(_, request)| !unwanted(request));
        before - self.waiting.len()
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.running.clear();
    }

    /// Whether a request pushed now has to wait.
    pub(crate) fn full(&self) -> bool {
        self.running.len() + self.waiting.len() >= self.slots
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Action {
        Push,
        Start,
        Finish(usize),
        Withdraw(usize),
        Cancel(u64),
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let action = prop_oneof![
            4 => Just(Action::Push),
            4 => Just(Action::Start),
            3 => (0usize..64).prop_map(Action::Finish),
            1 => (0usize..64).prop_map(Action::Withdraw),
            1 => (2u64..5).prop_map(Action::Cancel),
        ];
        proptest::collection::vec(action, 0..200)
    }

    proptest! {
        // Every request pushed is, at every moment, in exactly one place: waiting, running, or gone through one exit.
        #[test]
        fn requests_start_in_order_fill_no_more_than_the_slots_and_none_is_lost(slots in 1usize..5, actions in actions()) {
            let mut queue = Queue::new(slots);
            let mut tickets = Vec::new();
            let (mut waiting, mut running) = (BTreeSet::new(), BTreeSet::new());
            for action in actions {
                match action {
                    Action::Push => {
                        prop_assert_eq!(queue.full(), waiting.len() + running.len() >= slots);
                        queue.push(|ticket| {
                            tickets.push(ticket);
                            ticket
                        });
                        waiting.insert(tickets[tickets.len() - 1]);
                    }
                    Action::Start => {
                        let started = queue.start().map(|(ticket, request)| (ticket, *request));
                        let expected = if running.len() < slots { waiting.pop_first() } else { None };
                        prop_assert_eq!(started, expected.map(|ticket| (ticket, ticket)));
                        running.extend(expected);
                    }
                    Action::Finish(index) if index < tickets.len() => {
                        let ticket = tickets[index];
                        prop_assert_eq!(queue.finish(ticket), running.take(&ticket));
                    }
                    Action::Withdraw(index) if index < tickets.len() => {
                        let ticket = tickets[index];
                        prop_assert_eq!(queue.withdraw(ticket), waiting.take(&ticket));
                    }
                    Action::Cancel(divisor) => {
                        let before = waiting.len();
                        waiting.retain(|ticket| ticket.0 % divisor != 0);
                        prop_assert_eq!(queue.cancel(|ticket| ticket.0 % divisor == 0), before - waiting.len());
                    }
                    Action::Finish(_) | Action::Withdraw(_) => {}
                }
                prop_assert!(queue.running() <= slots);
                prop_assert_eq!((queue.waiting(), queue.running()), (waiting.len(), running.len()));
            }
        }
    }
}
