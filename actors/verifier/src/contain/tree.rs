//! Ends a child with everything that descends from it, and leaves no zombie.

use std::collections::BTreeSet;
use std::time::Duration;

use libc::pid_t;
use tokio::time::{Instant, sleep, timeout_at};

use super::os;
use super::table::{self, Process};

/// How long a tree may take to die. It takes milliseconds, unless a process is stuck in the kernel (a dead network disk).
const DEADLINE: Duration = Duration::from_secs(2);

/// Where the kernel cannot tell us that a process has ended (before 5.3), we look again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Ends the tree below `root` (`None` if the child itself is reaped) and the orphans that came to us, in rounds, since who
/// is being killed may still start another. Returns what survived the deadline.
pub(super) async fn end(root: Option<pid_t>) -> Vec<Process> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let doomed = table::doomed(root);
        if doomed.is_empty() || Instant::now() >= deadline {
            return doomed;
        }
        for dying in kill(&doomed) {
            // Past the deadline the next round gives up.
            let _ = timeout_at(deadline, ended(dying)).await;
        }
        tokio::task::yield_now().await;
    }
}

/// One round: signals everything and waits for nothing.
pub(super) fn kill_at_once(root: Option<pid_t>) {
    kill(&table::doomed(root));
}

/// Kills what lives and reaps what has ended and is ours. Returns what is now dying.
fn kill(doomed: &[Process]) -> Vec<pid_t> {
    // A group is killed as one, also while its members start more. No group of another session can be among these.
    let groups: BTreeSet<pid_t> = doomed.iter().map(|process| process.group).filter(|&group| group > 1).collect();
    groups.into_iter().for_each(|group| os::kill(-group));
    let mut dying = Vec::new();
    for process in doomed {
        let reaped = process.zombie && process.parent == table::own_id() && os::reap(process.id);
        if !reaped {
            os::kill(process.id);
            dying.push(process.id);
        }
    }
    dying
}

/// Waits until a process has ended; whether it is reaped is another matter.
async fn ended(process: pid_t) {
    if os::ended(process).await.is_err() {
        sleep(LOOK_AGAIN).await;
    }
}
