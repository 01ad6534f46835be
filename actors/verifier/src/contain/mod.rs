//! Contained children: processes that cannot outlive, block or drain the program that started them.
//!
//! **This is containment, not a sandbox.** It holds against accidents: programs that hang, fork, daemonise, flood or eat
//! memory. A child still sees the file system and the kernel as its user does. Code that may be hostile belongs into
//! SandboxFusion, nsjail or gVisor.
//!
//! A child runs in a session and process group of its own, with `no_new_privs`, without our open files, with limits as
//! configured ([`Limits`]), without core dumps, first in line when the kernel runs out of memory, and dies with us
//! (`PR_SET_PDEATHSIG`; its own descendants do not, if we are killed with `SIGKILL`). It can be given a clean environment, a
//! private directory, another user, and no network (in new user and network namespaces, where the kernel lets an
//! unprivileged process make them: [`can_drop_network`]).
//!
//! **Ending one** ends everything that descends from it, also what left its group and session (`setsid`, double fork): each
//! child adopts the orphans among its descendants (`PR_SET_CHILD_SUBREAPER`), and this program those of a child that died.
//! So all of them are found by walking from parent to child; they are killed in rounds until none is left, and those that
//! came to us are reaped, each by its number. Limit: a process that forks and ends for ever, each time in a new session, can
//! outrun the search; it is reported when two seconds were not enough.

mod limits;
mod os;
mod scratch;
mod spawner;
mod table;
mod tree;

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::time::timeout;

pub use limits::Limits;
pub(crate) use scratch::{Scratch, random};
pub use table::MARKER;

/// How long the kernel may take to hand over the status of a child that was killed.
const REAP_DEADLINE: Duration = Duration::from_secs(1);

/// What to start, and how.
#[derive(Debug, Default)]
pub(crate) struct Spec {
    /// The program and its arguments. No shell is involved.
    pub(crate) command: Vec<String>,
    /// Whether the child has only the variables of `environment`, or ours and those.
    pub(crate) clear_environment: bool,
    pub(crate) environment: Vec<(String, String)>,
    /// The working directory; ours if there is none, and that of `scratch` if there is one.
    pub(crate) directory: Option<PathBuf>,
    /// A private directory, which is removed after the child's end.
    pub(crate) scratch: Option<Scratch>,
    pub(crate) limits: Limits,
    /// The number of another user, whose group has the same number. Takes root.
    pub(crate) user: Option<u32>,
    pub(crate) no_network: bool,
}

/// A running child with everything that descends from it. Dropping it ends it in the background.
#[derive(Debug)]
pub(crate) struct Contained {
    /// `None` once it has ended.
    inner: Option<Inner>,
    runtime: Handle,
}

/// Our ends of a child's standard streams.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

#[derive(Debug)]
struct Inner {
    child: Child,
    id: libc::pid_t,
    /// How the child ended; then its number may belong to another process.
    status: Option<ExitStatus>,
    scratch: Option<Scratch>,
}

impl Contained {
    /// Starts a child with pipes as its standard streams.
    ///
    /// # Errors
    /// If the program cannot be started as asked.
    pub(crate) async fn start(spec: Spec) -> io::Result<(Self, Pipes)> {
        let command = command(&spec, false)?;
        let mut contained = spawner::start(command, spec.scratch).await?;
        match contained.pipes() {
            Some(pipes) => Ok((contained, pipes)),
            None => Err(io::Error::other("a child without pipes")),
        }
    }

    fn new(child: Child, id: libc::pid_t, scratch: Option<Scratch>, runtime: Handle) -> Self {
        Self { inner: Some(Inner { child, id, status: None, scratch }), runtime }
    }

    fn pipes(&mut self) -> Option<Pipes> {
        let child = &mut self.inner.as_mut()?.child;
        Some(Pipes { stdin: child.stdin.take()?, stdout: child.stdout.take()?, stderr: child.stderr.take()? })
    }

    /// Waits until the child itself has ended; its descendants may live on. Can be dropped and called again.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match &mut self.inner {
            Some(inner) => inner.ended().await,
            None => Err(io::Error::other("the child is gone")),
        }
    }

    /// How long the child was ready to run and had no processor, if it still runs and the kernel says.
    pub(crate) fn waited_for_processor(&self) -> Option<Duration> {
        table::waited_for_processor(self.inner.as_ref()?.root()?)
    }

    /// Ends the child and everything that descends from it, leaves no zombie, and removes its private directory. Returns
    /// within seconds. If this is dropped half-way, the rest happens in the background.
    pub(crate) async fn end(mut self) {
        if let Some(inner) = &mut self.inner {
            inner.end().await;
        }
        if let Some(Inner { scratch: Some(scratch), .. }) = self.inner.take() {
            // Errors are logged by the scratch itself.
            let _ = tokio::task::spawn_blocking(move || drop(scratch)).await;
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        if let Some(mut inner) = self.inner.take() {
            tree::kill_at_once(inner.root());
            // If the runtime is gone, this drops `inner` at once, and with it the child and its directory.
            self.runtime.spawn(async move { inner.end().await });
        }
    }
}

impl Inner {
    fn root(&self) -> Option<libc::pid_t> {
        self.status.is_none().then_some(self.id)
    }

    async fn ended(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = self.child.wait().await?;
        // It is reaped: its number is free.
        table::started().remove(&self.id);
        self.status = Some(status);
        Ok(status)
    }

    async fn end(&mut self) {
        let survivors = tree::end(self.root()).await;
        if !survivors.is_empty() {
            let processes: Vec<_> = survivors.iter().map(|process| process.id).collect();
            tracing::error!(?processes, "processes that a child left behind cannot be killed");
        }
        if timeout(REAP_DEADLINE, self.ended()).await.is_err() {
            tracing::error!(process = self.id, "a child that was killed does not end");
        }
    }
}

/// Whether a child (of another user, if one is given) can be kept from the network; if not, why.
pub(crate) async fn can_drop_network(user: Option<u32>) -> Result<(), String> {
    let spec = Spec { command: vec!["/".into()], user, no_network: true, ..Spec::default() };
    let outcome = async { spawner::start(command(&spec, true)?, None).await }.await;
    match outcome {
        Err(error) if error.raw_os_error() == Some(os::PROBED) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("the probe did not stop".into()),
    }
}

/// Whether this program runs as root.
pub(crate) fn is_root() -> bool {
    os::user() == 0
}

fn command(spec: &Spec, probe: bool) -> io::Result<Command> {
    static CHILDREN: AtomicU64 = AtomicU64::new(0);
    let (program, arguments) = spec.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    if spec.clear_environment {
        command.env_clear();
    }
    let number = CHILDREN.fetch_add(1, Ordering::Relaxed);
    command.envs(spec.environment.iter().map(|(name, value)| (name, value)));
    command.env(MARKER, format!("{}.{number}", table::own_id()));
    if let Some(directory) = spec.scratch.as_ref().map(Scratch::path).or(spec.directory.as_deref()) {
        command.current_dir(directory);
    }
    if let Some(user) = spec.user {
        command.uid(user).gid(user);
    }
    let (user, group) = (spec.user.unwrap_or_else(os::user), spec.user.unwrap_or_else(os::group));
    let map = |id: u32| format!("{id} {id} 1\n").into_bytes();
    let isolation = spec.no_network.then(|| os::Isolation { users: map(user), groups: map(group) });
    let limits = spec.limits.resources();
    os::before_exec(&mut command, os::BeforeExec { parent: table::own_id(), limits, isolation, probe });
    Ok(command)
}
