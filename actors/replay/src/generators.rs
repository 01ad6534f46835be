//! The generators: what each has loaded, and how many groups it holds.

use std::collections::{BTreeMap, BTreeSet};

use counterpoint_rollout::{GeneratorId, GroupId, PolicyVersion};

/// One generator. A cancelled group holds its place until the generator has answered, because until then its engine may
/// still have it: so no more than `window` groups ever reach an engine at once.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Groups that it may hold.
    pub(crate) window: usize,
    /// The last weights that it said it had.
    pub(crate) loaded: PolicyVersion,
    /// Not started.
    pub(crate) leased: BTreeSet<GroupId>,
    /// Started and not generated.
    pub(crate) generating: BTreeSet<GroupId>,
    /// Cancelled and not answered.
    pub(crate) cancelled: BTreeSet<GroupId>,
}

impl Slot {
    pub(crate) fn held(&self) -> usize {
        self.leased.len() + self.generating.len() + self.cancelled.len()
    }

    fn free(&self) -> usize {
        self.window.saturating_sub(self.held())
    }
}

/// All generators that are up. They are few: a scan over them is no scan over groups.
#[derive(Debug, Default)]
pub(crate) struct Generators(BTreeMap<GeneratorId, Slot>);

impl Generators {
    pub(crate) fn up(&mut self, id: GeneratorId, window: usize, loaded: PolicyVersion) {
        let slot =
            Slot { window, loaded, leased: BTreeSet::new(), generating: BTreeSet::new(), cancelled: BTreeSet::new() };
        self.0.insert(id, slot);
    }

    pub(crate) fn down(&mut self, id: GeneratorId) -> Option<Slot> {
        self.0.remove(&id)
    }

    pub(crate) fn get_mut(&mut self, id: GeneratorId) -> Option<&mut Slot> {
        self.0.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (GeneratorId, &Slot)> {
        self.0.iter().map(|(&id, slot)| (id, slot))
    }

    pub(crate) fn ids(&self) -> Vec<GeneratorId> {
        self.0.keys().copied().collect()
    }

    /// The generator with the most free places that has loaded `min_version`, the lowest number on ties.
    pub(crate) fn pick(&self, min_version: PolicyVersion) -> Option<GeneratorId> {
        let able = self.0.iter().filter(|(_, slot)| slot.loaded >= min_version && slot.free() > 0);
        able.max_by_key(|(id, slot)| (slot.free(), std::cmp::Reverse(**id))).map(|(&id, _)| id)
    }

    /// The group's last word came from its generator after it had been cancelled; returns whether it was awaited.
    pub(crate) fn answered(&mut self, group: GroupId) -> bool {
        self.0.values_mut().any(|slot| slot.cancelled.remove(&group))
    }

    /// Whether any generator still owes the answer to a cancellation.
    pub(crate) fn cancelling(&self) -> bool {
        self.0.values().any(|slot| !slot.cancelled.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freest_generator_with_the_weights_is_picked_and_ties_go_to_the_lowest_number() {
        let mut generators = Generators::default();
        for (id, window, loaded) in [(0, 2, 5), (1, 4, 3), (2, 2, 5)] {
            generators.up(GeneratorId(id), window, PolicyVersion(loaded));
        }
        assert_eq!(generators.pick(PolicyVersion(3)), Some(GeneratorId(1)));
        assert_eq!(generators.pick(PolicyVersion(4)), Some(GeneratorId(0)));
        assert_eq!(generators.pick(PolicyVersion(6)), None);
    }

    #[test]
    fn a_cancelled_group_holds_its_place_until_it_is_answered() {
        let mut generators = Generators::default();
        generators.up(GeneratorId(0), 1, PolicyVersion(0));
        if let Some(slot) = generators.get_mut(GeneratorId(0)) {
            slot.cancelled.insert(GroupId(7));
        }
        assert_eq!(generators.pick(PolicyVersion(0)), None);
        assert!(generators.answered(GroupId(7)) && !generators.answered(GroupId(7)));
        assert_eq!(generators.pick(PolicyVersion(0)), Some(GeneratorId(0)));
    }
}
