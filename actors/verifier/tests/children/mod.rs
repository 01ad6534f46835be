//! For tests with real child processes: an interpreter, and who is left in the process table.
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(dead_code, reason = "not every test file needs everything")]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long the kernel may take to show that a process is gone.
const SETTLED: Duration = Duration::from_secs(3);

/// The interpreter itself: a `python3` on the path may be a script that looks for it, slowly.
pub(crate) fn python() -> String {
    static PYTHON: OnceLock<String> = OnceLock::new();
    let ask = || {
        let mut command = std::process::Command::new("python3");
        let output = command.args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    PYTHON.get_or_init(ask).clone()
}

/// A file of this repository.
pub(crate) fn file(path: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(path).canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// A text that no other test has, to be put on command lines and into environments.
pub(crate) fn mark() -> String {
    static MARKS: AtomicUsize = AtomicUsize::new(0);
    format!("mark-{}-{}-", std::process::id(), MARKS.fetch_add(1, Ordering::Relaxed))
}

/// The processes that have the mark on their command line or in their environment.
pub(crate) fn marked(mark: &str) -> Vec<String> {
    let has = |path: &str| {
        let text = fs::read(path).unwrap_or_default();
        text.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ids = ids.filter(|id| id.parse::<u32>().is_ok());
    ids.filter(|id| has(&format!("/proc/{id}/cmdline")) || has(&format!("/proc/{id}/environ"))).collect()
}

/// Our children that have ended and were not reaped.
fn zombies() -> Vec<String> {
    let parent = format!(") Z {} ", std::process::id());
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let stat = |id: &String| fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    ids.filter(|id| id.parse::<u32>().is_ok() && stat(id).contains(&parent)).collect()
}

/// Nothing with the mark is left, and no zombie.
pub(crate) async fn nothing_is_left_of(mark: &str) {
    let deadline = Instant::now() + SETTLED;
    loop {
        // Other tests of this process have children too, which may be zombies for a moment.
        let left = (marked(mark), zombies());
        if left == (Vec::new(), Vec::new()) {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: processes {:?}, zombies {:?}", left.0, left.1);
        sleep(Duration::from_millis(20)).await;
    }
}

/// The memory of this process, in bytes.
pub(crate) fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
