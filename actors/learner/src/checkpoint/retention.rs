//! Which checkpoints stay: the newest few and the one with the best evaluation.
//!
//! The rule itself ([`best`], [`doomed`]) is a function of what lies there and what is known of it. On the disk, the link
//! `best` names the best one and `best.json` says how good it is:
//!
//! ```text
//! {"checkpoint": "step-000100", "accuracy": 0.75}
//! ```
//!
//! A save first gives the new checkpoint its name, then moves `latest`, then `best.json` and `best`, and removes old ones last,
//! so that a link never leads to what is being written or removed. Where a crash came between, the next save goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use counterpoint_rollout::PolicyVersion;
use serde::{Deserialize, Serialize};

use super::{TEMPORARY, complete, directory_name, json, version_of, write_synced};
use crate::LearnerError;

/// The link to the best checkpoint.
pub(super) const BEST: &str = "best";
/// What is known of it.
pub(super) const RECORD: &str = "best.json";

/// `best.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    checkpoint: String,
    accuracy: f64,
}

/// The complete checkpoint whose weights did best, and how well; of equals the newest, since it costs no room of its own as
/// long as it is new.
pub(super) fn best(
    complete: &BTreeSet<PolicyVersion>,
    evaluations: &BTreeMap<PolicyVersion, f64>,
) -> Option<(PolicyVersion, f64)> {
    let known = evaluations.iter().filter(|(version, accuracy)| complete.contains(version) && !accuracy.is_nan());
    known.map(|(version, accuracy)| (*version, *accuracy)).max_by(|one, other| one.1.total_cmp(&other.1))
}

/// The complete checkpoints that go: all but the `keep` newest (at least one) and those that are needed.
pub(super) fn doomed(
    complete: &BTreeSet<PolicyVersion>,
    keep: usize,
    needed: &BTreeSet<PolicyVersion>,
) -> Vec<PolicyVersion> {
    complete.iter().rev().skip(keep.max(1)).filter(|version| !needed.contains(version)).copied().collect()
}

/// Points `best` at the best of the complete checkpoints, as far as `evaluations` and the record say, and returns what the
/// link names.
pub(super) fn point_best(
    root: &Path,
    evaluations: &BTreeMap<PolicyVersion, f64>,
    point: impl FnOnce(&str, PolicyVersion) -> Result<(), LearnerError>,
) -> Result<Option<PolicyVersion>, LearnerError> {
    let complete: BTreeSet<PolicyVersion> = complete(root)?.into_keys().collect();
    // What an earlier part of the run recorded, unless this one knows better.
    let mut known: BTreeMap<PolicyVersion, f64> = record(root).into_iter().collect();
    known.extend(evaluations);
    let linked = linked(root).filter(|version| complete.contains(version));
    let Some((version, accuracy)) = best(&complete, &known) else { return Ok(linked) };
    write_record(root, &Record { checkpoint: directory_name(version), accuracy })?;
    if linked != Some(version) {
        point(BEST, version)?;
    }
    Ok(Some(version))
}

/// Forgets the best checkpoint if somebody has removed it: another of that number would be of other weights.
pub(super) fn forget_missing(root: &Path) -> Result<(), LearnerError> {
    let complete = complete(root)?;
    let missing = |version: Option<PolicyVersion>| version.is_none_or(|version| !complete.contains_key(&version));
    let (link, record_path) = (root.join(BEST), root.join(RECORD));
    if link.is_symlink() && missing(linked(root)) {
        fs::remove_file(&link).map_err(LearnerError::io(&link))?;
    }
    if record_path.exists() && missing(record(root).map(|(version, _)| version)) {
        fs::remove_file(&record_path).map_err(LearnerError::io(&record_path))?;
    }
    Ok(())
}

fn linked(root: &Path) -> Option<PolicyVersion> {
    version_of(fs::read_link(root.join(BEST)).ok()?.to_str()?)
}

/// What is recorded; a record that cannot be read is none, the next evaluation makes a new one.
fn record(root: &Path) -> Option<(PolicyVersion, f64)> {
    let Record { checkpoint, accuracy } = serde_json::from_slice(&fs::read(root.join(RECORD)).ok()?).ok()?;
    Some((version_of(&checkpoint)?, accuracy))
}

/// Written beside and renamed; the caller's next sync of `root` makes the name durable.
fn write_record(root: &Path, record: &Record) -> Result<(), LearnerError> {
    let path = root.join(RECORD);
    let beside: PathBuf = root.join(format!("{RECORD}{TEMPORARY}"));
    let text = json(&path, record)? + "\n";
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if beside.exists() {
        fs::remove_file(&beside).map_err(LearnerError::io(&beside))?;
    }
    write_synced(&beside, text.as_bytes())?;
    fs::rename(&beside, &path).map_err(LearnerError::io(&path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn versions(numbers: &[u64]) -> BTreeSet<PolicyVersion> {
        numbers.iter().copied().map(PolicyVersion).collect()
    }

    fn evaluations(known: &[(u64, f64)]) -> BTreeMap<PolicyVersion, f64> {
        known.iter().map(|(version, accuracy)| (PolicyVersion(*version), *accuracy)).collect()
    }

    #[test]
    fn the_best_is_the_newest_of_the_most_accurate_that_is_there() {
        let there = versions(&[10, 20, 30]);
        let best = |known: &[(u64, f64)]| best(&there, &evaluations(known)).map(|(version, _)| version.0);
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[(15, 0.9)]), None, "evaluated, but not saved");
        assert_eq!(best(&[(10, 0.5), (15, 0.9), (20, 0.4)]), Some(10));
        assert_eq!(best(&[(10, 0.5), (20, 0.5), (30, 0.4)]), Some(20));
        assert_eq!(best(&[(10, f64::NAN), (30, 0.0)]), Some(30));
    }

    proptest! {
        /// A whole run of saves, each of which may be cut off before it removes anything: what is there afterwards.
        #[test]
        fn the_newest_and_the_best_ever_saved_stay_and_nothing_else(
            keep in 0usize..4,
            saves in prop::collection::vec((1u64..4, prop::option::of(0u32..5), prop::bool::weighted(0.2)), 1..30),
        ) {
            let (mut there, mut known, mut version) = (BTreeSet::new(), BTreeMap::new(), PolicyVersion(0));
            let mut ever: Option<f64> = None;
            for (after, accuracy, cut_off) in saves {
                version = PolicyVersion(version.0 + after);
                there.insert(version);
                if let Some(accuracy) = accuracy.map(f64::from) {
                    known.insert(version, accuracy);
                    ever = Some(ever.map_or(accuracy, |so_far| so_far.max(accuracy)));
                }
                let best = best(&there, &known);
                prop_assert_eq!(best.map(|(_, accuracy)| accuracy), ever, "the best was lost");
                let needed: BTreeSet<_> = best.map(|(version, _)| version).into_iter().collect();
                let gone = doomed(&there, keep, &needed);
                if cut_off {
                    // None, or only some of them.
                    for version in gone.iter().take(gone.len() / 2) {
                        there.remove(version);
                    }
                    continue;
                }
                for version in &gone {
                    there.remove(version);
                }
                let newest: BTreeSet<_> = there.iter().rev().take(keep.max(1)).copied().collect();
                prop_assert!(newest.contains(&version), "the newest was removed");
                prop_assert_eq!(&there, &newest.union(&needed).copied().collect());
            }
        }
    }
}
