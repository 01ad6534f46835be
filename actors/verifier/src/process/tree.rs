//! Ends a child with everything that it started.
//!
//! A child runs in a process group of its own and carries a mark in its environment, which its own children inherit. Those
//! that leave the group (`setsid`, a daemon's double fork) are found by the mark, wherever the kernel has put them; this
//! process adopts orphans (it is a subreaper), so that it may reap them and no zombie is left. A process that clears its
//! environment *and* leaves the group *and* loses its parent escapes: this is containment of accidents, not a sandbox.

use std::fs;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// The variable that marks a child and its descendants.
const MARK: &str = "COUNTERPOINT_VERIFIER_MARK";
/// How long the end of a tree is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at what is left. The kernel tells nobody of the end of somebody else's child.
const LOOK: Duration = Duration::from_millis(5);

/// A child and the mark of its tree. Dropping it ends the tree, in the background.
#[derive(Debug)]
pub(crate) struct Tree {
    child: Option<Child>,
    mark: String,
}

impl Tree {
    /// Starts a command as the root of a tree.
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        static ADOPT: Once = Once::new();
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        ADOPT.call_once(|| {
            if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
                tracing::warn!("orphans of verifiers cannot be adopted and may stay: {error}");
            }
        });
        let mark = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let child = command.env(MARK, &mark).process_group(0).kill_on_drop(true).spawn()?;
        Ok(Self { child: Some(child), mark })
    }

    /// The root; there until the tree is ended.
    pub(crate) fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Kills and reaps the whole tree; says how many processes besides the root were left, at most once each.
    pub(crate) async fn end(mut self) -> usize {
        match self.child.take() {
            Some(child) => end(child, &self.mark).await,
            None => 0,
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        let mark = std::mem::take(&mut self.mark);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { end(child, &mark).await })),
            // The program ends: what can be done at once.
            Err(_) => {
                kill_group(&child);
                marked(&mark).into_iter().for_each(kill);
            }
        }
    }
}

async fn end(mut child: Child, mark: &str) -> usize {
    kill_group(&child);
    let deadline = Instant::now() + PATIENCE;
    let mut seen = std::collections::BTreeSet::new();
    // The root is reaped by tokio, which owns it.
    if timeout(PATIENCE, child.kill()).await.is_err() {
        tracing::warn!("a verifier's process {:?} does not end", child.id());
    }
    loop {
        let left = marked(mark);
        for pid in left.iter().copied() {
            seen.insert(pid.as_raw_nonzero());
            kill(pid);
        }
        // Orphans are this process's children now; a zombie has no environment, so each is asked for by number.
        seen.iter().filter_map(|pid| Pid::from_raw(pid.get())).for_each(reap);
        if left.is_empty() {
            return seen.len();
        }
        if Instant::now() >= deadline {
            tracing::warn!("{} processes that a verifier left behind do not end", left.len());
            return seen.len();
        }
        sleep(LOOK).await;
    }
}

fn kill_group(child: &Child) {
    if let Some(group) = child.id().and_then(|id| Pid::from_raw(id as i32)) {
        // It may have ended already.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

fn kill(pid: Pid) {
    // It may have ended meanwhile; its number is not used again within a few milliseconds.
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

fn reap(pid: Pid) {
    // Not ours (its parent lives) or not dead yet: then there is nothing to reap.
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
}

/// Every living process that carries the mark.
fn marked(mark: &str) -> Vec<Pid> {
    let wanted = format!("{MARK}={mark}");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let carries = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes()))
    };
    pids.filter(carries).filter_map(Pid::from_raw).collect()
}
