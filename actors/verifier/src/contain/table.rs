//! Who descends from a child, read from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use libc::pid_t;

/// The variable in the environment of each child, and so of its descendants: who started it. For people who look for what is
/// left of a run, and to tell our orphans from other processes.
pub const MARKER: &str = "COUNTERPOINT_CHILD";

/// One process, as `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: pid_t,
    pub(super) parent: pid_t,
    pub(super) group: pid_t,
    pub(super) session: pid_t,
    /// It has ended, and its parent has not yet asked how.
    pub(super) zombie: bool,
}

/// The children that this module's parent started and has not reaped. Whoever starts one holds the lock from before the
/// fork until the child is in the set, so that nobody takes it for an orphan.
static STARTED: Mutex<BTreeSet<pid_t>> = Mutex::new(BTreeSet::new());

pub(super) fn started() -> MutexGuard<'static, BTreeSet<pid_t>> {
    // The set is whole at every moment, whatever happened to a thread that held the lock.
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything to end with a child: the child itself, its descendants, and the orphans that came to us. `root` is `None` if
/// the child is gone and reaped; a child that has ended is not in the answer, since its owner reaps it.
///
/// Each child adopts the orphans among its own descendants as long as it lives, so an orphan of ours is what a dead child
/// left behind, no matter which.
pub(super) fn doomed(root: Option<pid_t>) -> Vec<Process> {
    let mut found: Vec<Process> = root.into_iter().filter_map(read).collect();
    found.extend(orphans());
    let mut seen: BTreeSet<pid_t> = found.iter().map(|process| process.id).collect();
    let mut next = 0;
    while next < found.len() {
        for child in children(found[next].id) {
            if seen.insert(child) {
                found.extend(read(child));
            }
        }
        next += 1;
    }
    found.retain(|process| !(process.zombie && Some(process.id) == root));
    found
}

fn orphans() -> Vec<Process> {
    let (me, Some(own_session)) = (own_id(), read(own_id()).map(|me| me.session)) else { return Vec::new() };
    // First the list, then the lock: a child on the list that is just being started is in the set once we have the lock.
    let mut children = children(me);
    let started = started();
    children.retain(|child| !started.contains(child));
    drop(started);
    let ours = |process: &Process| process.parent == me && process.session != own_session && contained(process.id);
    children.into_iter().filter_map(read).filter(ours).collect()
}

/// Whether a process bears the signs of a child of this module or its descendant. It can rid itself of the marker, never of
/// `no_new_privs`; a child of other parts of this program that has a session of its own has neither.
fn contained(process: pid_t) -> bool {
    static OWN: OnceLock<bool> = OnceLock::new();
    let unprivileged = |process| match fs::read_to_string(format!("/proc/{process}/status")) {
        Ok(status) => status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|v| v.trim() == "1")),
        Err(_) => false,
    };
    // Where we have no privileges to lose ourselves, that sign says nothing, and the session must do.
    *OWN.get_or_init(|| unprivileged(own_id())) || unprivileged(process) || marked(process)
}

fn marked(process: pid_t) -> bool {
    let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    let prefix = format!("{MARKER}={}.", own_id());
    environment.split(|&byte| byte == 0).any(|variable| variable.starts_with(prefix.as_bytes()))
}

pub(super) fn own_id() -> pid_t {
    // Linux's process numbers have 22 bits.
    std::process::id() as pid_t
}

fn read(process: pid_t) -> Option<Process> {
    parse(&fs::read(format!("/proc/{process}/stat")).ok()?)
}

/// `id (name) state parent group session ...`, where the name may hold anything, also spaces and brackets.
fn parse(stat: &[u8]) -> Option<Process> {
    let (open, close) = (stat.iter().position(|&b| b == b'(')?, stat.iter().rposition(|&b| b == b')')?);
    let id = std::str::from_utf8(&stat[..open]).ok()?.trim().parse().ok()?;
    let mut rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = rest.next()?;
    let mut number = || rest.next()?.parse().ok();
    Some(Process { id, parent: number()?, group: number()?, session: number()?, zombie: matches!(state, "Z" | "X") })
}

/// The children of a process: from the kernel's lists, one per thread, where it keeps them (`CONFIG_PROC_CHILDREN`), else
/// from a look at every process.
fn children(parent: pid_t) -> Vec<pid_t> {
    match listed_children(parent) {
        Ok(children) => children,
        Err(_) => all().into_iter().filter(|process| process.parent == parent).map(|process| process.id).collect(),
    }
}

/// An error means that the kernel has no such lists; a process that is gone has no children.
fn listed_children(parent: pid_t) -> io::Result<Vec<pid_t>> {
    let mut children = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return Ok(children) };
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(list.split_ascii_whitespace().filter_map(|id| id.parse::<pid_t>().ok())),
            Err(error) if thread.path().exists() && error.kind() == io::ErrorKind::NotFound => return Err(error),
            // The thread has ended; its children are on another's list.
            Err(_) => {}
        }
    }
    Ok(children)
}

/// How long a process (its first thread) was ready to run and had no processor, if the kernel says.
pub(super) fn waited_for_processor(process: pid_t) -> Option<Duration> {
    let statistics = fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
    statistics.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// Every process that can be seen.
pub(super) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_bytes_that_are_no_text_does_not_confuse() {
        let stat = b"77 (a) Z 1 (\xff) S 12 34 56 0 -1 rest";
        let process = Process { id: 77, parent: 12, group: 34, session: 56, zombie: false };
        assert_eq!(parse(stat), Some(process));
        assert_eq!(parse(b"77 (x) Z 12 34 56"), Some(Process { zombie: true, ..process }));
        for broken in [&b""[..], b"77", b"77 (x", b"77 (x)", b"77 (x) S 12 34", b") 1 ("] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn the_lists_of_children_and_a_look_at_every_process_agree() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id() as pid_t;
        let seen: Vec<_> = all().into_iter().filter(|process| process.id == id).collect();
        assert_eq!(seen, [read(id).unwrap()]);
        assert_eq!(seen[0].parent, own_id());
        assert!(children(own_id()).contains(&id));
        // A child of other parts of the program is none of our business.
        assert!(doomed(None).iter().all(|process| process.id != id));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(own_id()).contains(&id));
    }
}
