//! The OS thread that an engine lives on.
//!
//! Work comes through a bounded channel that is only ever tried, control through one of its own. The control channel needs
//! no bound: each command either carries a reply that its sender waits for, or names groups that hold leases. The thread
//! ends when both senders are gone, or when its body returns or panics, which it tells whoever started it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use counterpoint_rollout::panic_text;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use tokio::sync::oneshot;

use crate::GeneratorError;

/// The handle that an actor holds; dropping it ends the thread after its present step.
pub(crate) struct EngineThread<W, C> {
    pub(crate) work: Sender<W>,
    pub(crate) control: Sender<C>,
    name: String,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl<W: Send + 'static, C: Send + 'static> EngineThread<W, C> {
    /// Starts `body` on a thread of this name; `on_end` is called on it when the body is over.
    pub(crate) fn spawn(
        name: &str,
        capacity: usize,
        body: impl FnOnce(Receiver<W>, Receiver<C>) -> Result<(), GeneratorError> + Send + 'static,
        on_end: impl FnOnce(Result<(), GeneratorError>) + Send + 'static,
    ) -> Result<Self, GeneratorError> {
        let (work, work_received) = bounded(capacity.max(1));
        let (control, control_received) = unbounded();
        let (end, ended) = oneshot::channel();
        let run = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| body(work_received, control_received)));
            on_end(outcome.unwrap_or_else(|panic| Err(GeneratorError::Panicked(panic_text(&*panic).to_owned()))));
            // The actor may be gone by now, and then nobody waits.
            let _ = end.send(());
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(GeneratorError::Thread)?;
        Ok(Self { work, control, name: name.to_owned(), ended, thread })
    }

    /// Ends the thread and waits for it; after `deadline` it is left to itself, which the log says.
    pub(crate) async fn join(self, deadline: Duration) {
        let Self { work, control, name, ended, thread } = self;
        drop((work, control));
        if tokio::time::timeout(deadline, ended).await.is_err() {
            tracing::warn!(thread = name, ?deadline, "still in its last decode step, left to end by itself");
        } else if thread.join().is_err() {
            tracing::error!(thread = name, "panicked while it reported its end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_and_joined() {
        let (told, heard) = oneshot::channel();
        let thread = EngineThread::<(), ()>::spawn(
            "doomed",
            1,
            |_, _| panic!("the model is on fire"),
            move |end| told.send(end.unwrap_err().to_string()).unwrap(),
        )
        .unwrap();
        assert_eq!(heard.await.unwrap(), "the engine's thread panicked: the model is on fire");
        thread.join(Duration::from_secs(60)).await;
    }

    #[tokio::test]
    async fn joining_ends_a_thread_that_waits_for_work() {
        let (told, heard) = oneshot::channel();
        let body = |work: Receiver<()>, _control: Receiver<()>| {
            assert!(work.recv().is_err());
            Ok(())
        };
        let thread = EngineThread::spawn("waiting", 1, body, move |end| told.send(end.is_ok()).unwrap()).unwrap();
        thread.join(Duration::from_secs(60)).await;
        assert!(heard.await.unwrap());
    }
}
