//! What the programs here share.
#![allow(dead_code, reason = "each program uses a part of this")]

pub(crate) mod work;

use std::error::Error;

/// A line of /proc/self/status that is an amount of memory (`VmRSS`, `VmHWM`), in KiB.
pub(crate) fn status_kib(key: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let line = line.ok_or_else(|| format!("no {key} in /proc/self/status"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
