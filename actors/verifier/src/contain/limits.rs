use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits that the kernel keeps for a child process; what is not set is not limited. Each holds for every process of the
/// child by itself, except for `processes`.
///
/// ```toml
/// limits = { memory_mib = 4096, processes = 64 }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Seconds of processor time over the whole life of a process, all its threads together; then it is killed
    /// (`SIGXCPU`, and a second later `SIGKILL`). Default: none.
    pub cpu_seconds: Option<u64>,
    /// Mebibytes of address space, which is more than the memory in use; asking for more fails. Default: none.
    pub memory_mib: Option<u64>,
    /// Mebibytes of one file that it writes; a longer one is cut and the process killed (`SIGXFSZ`). Default: none.
    pub file_mib: Option<u64>,
    /// Open files and sockets of one process. Default: none.
    pub open_files: Option<u64>,
    /// Processes and threads of the child's user, those outside the child included unless the child has a user namespace
    /// of its own. Has no effect on root. Default: none.
    pub processes: Option<u64>,
}

const MIB: u64 = 1 << 20;

impl Limits {
    /// The kernel's name, the soft and the hard limit of each; and never a core dump.
    pub(super) fn resources(&self) -> Vec<(u32, u64, u64)> {
        let bytes = |mib: Option<u64>| mib.map(|mib| mib.saturating_mul(MIB));
        let same = |limit: u64| (limit, limit);
        let all = [
            // The soft limit sends the signal that tells why.
            (libc::RLIMIT_CPU, self.cpu_seconds.map(|seconds| (seconds, seconds.saturating_add(1)))),
            (libc::RLIMIT_AS, bytes(self.memory_mib).map(same)),
            (libc::RLIMIT_FSIZE, bytes(self.file_mib).map(same)),
            (libc::RLIMIT_NOFILE, self.open_files.map(same)),
            (libc::RLIMIT_NPROC, self.processes.map(same)),
            (libc::RLIMIT_CORE, Some((0, 0))),
        ];
        all.into_iter().filter_map(|(name, limit)| limit.map(|(soft, hard)| (name, soft, hard))).collect()
    }
}
