//! The thread that starts children.
//!
//! The kernel kills a child when the *thread* that started it ends (`PR_SET_PDEATHSIG`), and tokio's threads come and go. So
//! one thread starts them all and lives as long as the program. It also keeps a fork, which takes long in a program with
//! much memory, away from the async workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{OnceLock, mpsc};
use std::{io, thread};

use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Contained, Scratch, os, table};

/// Something to be started, and who waits for it. Whoever sends one waits, so the channel holds no more than there are
/// slots for children.
struct Order {
    command: Command,
    scratch: Option<Scratch>,
    /// Whose reactor watches the child.
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Contained>>,
}

/// Starts a command. Must be called on a tokio runtime.
pub(super) async fn start(command: Command, scratch: Option<Scratch>) -> io::Result<Contained> {
    let (reply, started) = oneshot::channel();
    let order = Order { command, scratch, runtime: Handle::current(), reply };
    let gone = || io::Error::other("the thread that starts children is gone");
    orders()?.send(order).map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

fn orders() -> io::Result<mpsc::Sender<Order>> {
    static ORDERS: OnceLock<Result<mpsc::Sender<Order>, String>> = OnceLock::new();
    let begin = || {
        let (sender, receiver) = mpsc::channel();
        os::adopt_orphans().map_err(|error| format!("cannot become the parent of orphans: {error}"))?;
        let named = thread::Builder::new().name("children".into());
        let spawned = named.spawn(move || receiver.into_iter().for_each(fill));
        spawned.map_err(|error| format!("cannot start the thread that starts children: {error}"))?;
        Ok(sender)
    };
    ORDERS.get_or_init(begin).clone().map_err(io::Error::other)
}

fn fill(order: Order) {
    let Order { mut command, scratch, runtime, reply } = order;
    let spawn = || {
        let _reactor = runtime.enter();
        let mut started = table::started();
        let child = command.spawn()?;
        let id = child.id().and_then(|id| libc::pid_t::try_from(id).ok()).ok_or(io::ErrorKind::InvalidData)?;
        started.insert(id);
        Ok((child, id))
    };
    // A runtime that is shutting down may panic, which must not end this thread: its children would go with it.
    let spawned =
        catch_unwind(AssertUnwindSafe(spawn)).unwrap_or_else(|_| Err(io::Error::other("tokio is shutting down")));
    // If whoever wanted it is gone, it is dropped, which ends it.
    let _ = reply.send(spawned.map(|(child, id)| Contained::new(child, id, scratch, runtime)));
}
