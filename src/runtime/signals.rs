//! SIGINT and SIGTERM, as events of the run.

use ractor::ActorRef;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::supervisor::Event;

/// The first SIGINT or SIGTERM interrupts the run in good order; the second ends the program at once, which is safe: a
/// checkpoint is complete or absent.
pub(crate) fn listen(conductor: ActorRef<Event>) -> std::io::Result<JoinHandle<()>> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(tokio::spawn(async move {
        for count in 1.. {
            tokio::select! { _ = int.recv() => (), _ = term.recv() => () }
            if count > 1 || conductor.cast(Event::Interrupted).is_err() {
                eprintln!("counterpoint: stopped at once; the last complete checkpoint is good");
                std::process::exit(1);
            }
        }
    }))
}
