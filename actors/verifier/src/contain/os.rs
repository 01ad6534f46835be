//! The only unsafe code of this crate: what happens between `fork` and `exec`, and the few system calls about processes that
//! the standard library does not offer.
//!
//! Between `fork` and `exec` the child is a copy of one thread of a program with many. Any lock may be held by a thread that
//! does not exist there, so [`BeforeExec::run`] calls system calls only, on values that were made before the fork: no
//! allocation, no lock, no formatting, no panic.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use libc::{c_int, c_uint, c_ulong, pid_t, rlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

/// The most file descriptors that are closed one by one, on a kernel before 5.11 that cannot do it at once.
const MOST_DESCRIPTORS: c_int = 1 << 16;

/// What a child does to itself before it becomes the program.
#[derive(Clone, Debug)]
pub(super) struct BeforeExec {
    /// Our own process: if it has died meanwhile, nobody would ever end the child.
    pub(super) parent: pid_t,
    /// Resource, soft limit, hard limit.
    pub(super) limits: Vec<(u32, u64, u64)>,
    /// Leave the network by way of new user and network namespaces.
    pub(super) isolation: Option<Isolation>,
    /// Fail with [`PROBED`] instead of becoming the program: all that is wanted is whether it would get that far.
    pub(super) probe: bool,
}

/// The user and group of the child in its new user namespace: the ones that it has outside, in the kernel's format.
#[derive(Clone, Debug)]
pub(super) struct Isolation {
    pub(super) users: Vec<u8>,
    pub(super) groups: Vec<u8>,
}

/// The error of a probe that went well.
pub(super) const PROBED: c_int = libc::ECANCELED;

/// Has a command run this between `fork` and `exec`.
pub(super) fn before_exec(command: &mut Command, before: BeforeExec) {
    // SAFETY: `run` keeps the rules of the module's text. Moving `before` into the closure happens here, before any fork.
    unsafe { command.pre_exec(move || before.run()) };
}

impl BeforeExec {
    fn run(&self) -> io::Result<()> {
        // A session of its own: no terminal, and a process group whose number is the child's.
        // SAFETY: plain system call without pointers.
        check(unsafe { libc::setsid() })?;
        close_on_exec();
        // A change of user makes /proc/self belong to root, where the next steps write. Its failure shows there.
        control(libc::PR_SET_DUMPABLE, 1).ok();
        // If memory runs out, the kernel shall take a child and not the trainer. Not allowed everywhere, and not vital.
        write(c"/proc/self/oom_score_adj", b"1000").ok();
        if let Some(isolation) = &self.isolation {
            isolation.enter()?;
        }
        for &(resource, soft, hard) in &self.limits {
            limit(resource, soft, hard)?;
        }
        control(libc::PR_SET_NO_NEW_PRIVS, 1)?;
        // It gets the orphans among its descendants, so that all of them can be found from it.
        control(libc::PR_SET_CHILD_SUBREAPER, 1)?;
        control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong)?;
        // SAFETY: plain system call without pointers.
        if unsafe { libc::getppid() } != self.parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if self.probe { Err(io::Error::from_raw_os_error(PROBED)) } else { Ok(()) }
    }
}

impl Isolation {
    fn enter(&self) -> io::Result<()> {
        // SAFETY: plain system call without pointers.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) })?;
        // Without it the kernel does not let an unprivileged process name its group.
        write(c"/proc/self/setgroups", b"deny")?;
        write(c"/proc/self/uid_map", &self.users)?;
        write(c"/proc/self/gid_map", &self.groups)
    }
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let mut now = rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid place for the answer. The type of `resource` differs between C libraries, hence `as _`.
    check(unsafe { libc::getrlimit(resource as _, &mut now) })?;
    let rlim_max = hard.min(now.rlim_max);
    let new = rlimit { rlim_cur: soft.min(rlim_max), rlim_max };
    // SAFETY: `new` is a valid value that the call only reads.
    check(unsafe { libc::setrlimit(resource as _, &new) })?;
    Ok(())
}

/// Marks every descriptor from 3 on to be closed by `exec`: libraries open some without that mark.
fn close_on_exec() {
    // SAFETY: plain system call without pointers; it closes nothing yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3 as c_uint, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed == 0 {
        return;
    }
    let mut files = rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `files` is a valid place for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut files) };
    let end = c_int::try_from(files.rlim_cur).unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    for descriptor in 3..end {
        // SAFETY: sets a flag; on a number that is no descriptor it fails without effect.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn write(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: `path` ends with NUL.
    let file = check(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })?;
    // SAFETY: the pointer and the length are those of `bytes`; `file` is open.
    let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
    let result = if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: `file` was opened above and is used no more.
    unsafe { libc::close(file) };
    result
}

fn control(option: c_int, value: c_ulong) -> io::Result<()> {
    const NONE: c_ulong = 0;
    // SAFETY: the options used here take plain numbers.
    check(unsafe { libc::prctl(option, value, NONE, NONE, NONE) })?;
    Ok(())
}

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

// === In our own process ===

/// Makes this process the parent of the orphans among its descendants.
pub(super) fn adopt_orphans() -> io::Result<()> {
    control(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Ends a process, or for a negative number every process of that group. One that is gone is no error.
pub(super) fn kill(process: pid_t) {
    debug_assert!(process != 0 && process != -1, "{process} would be many processes at once");
    // SAFETY: plain system call without pointers.
    unsafe { libc::kill(process, libc::SIGKILL) };
}

/// Takes the exit status of a child that has ended. `false` if it still runs.
pub(super) fn reap(child: pid_t) -> bool {
    debug_assert!(child > 0, "{child} would take the children of others");
    // SAFETY: a null pointer is allowed where the status is not wanted.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) != 0 }
}

/// Waits until a process has ended, reaped or not. An error means that the kernel cannot tell (before Linux 5.3).
pub(super) async fn ended(process: pid_t) -> io::Result<()> {
    const NO_FLAGS: c_uint = 0;
    // SAFETY: plain system call without pointers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, process, NO_FLAGS) };
    let descriptor = match check(c_int::try_from(descriptor).unwrap_or(-1)) {
        Ok(descriptor) => descriptor,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: an `OwnedFd` is the same open descriptor as long as it lives, and nothing but its drop closes it.
    let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?;
    // It is readable once the process has ended, also if that was long ago.
    descriptor.readable().await.map(drop)
}

/// The effective user of this process.
pub(super) fn user() -> u32 {
    // SAFETY: plain system call that cannot fail.
    unsafe { libc::geteuid() }
}

/// The effective group of this process.
pub(super) fn group() -> u32 {
    // SAFETY: plain system call that cannot fail.
    unsafe { libc::getegid() }
}
