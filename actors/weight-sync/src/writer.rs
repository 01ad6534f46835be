//! The thread that writes published weights to a directory: it takes one delivery at a time and answers it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use counterpoint_policy::{Snapshot, device};
use counterpoint_rollout::panic_text;
use tokio::sync::oneshot;

use crate::transport::{Delivered, Delivery, Transport, TransportError};

/// A [`WeightDirectory`](crate::WeightDirectory), or anything else that takes its time to publish, behind a thread of its own.
/// Dropping it lets the thread end after what it was given.
#[derive(Debug)]
pub struct Writer {
    /// Room for the one delivery under way and, at the end of a run, the last one behind it.
    work: SyncSender<Delivery>,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(
        mut publish: impl FnMut(&Snapshot) -> Result<Delivered, TransportError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (work, deliveries) = sync_channel::<Delivery>(1);
        let (end, ended) = oneshot::channel();
        let body = move || {
            device::set_threads(1);
            for Delivery { snapshot, reply } in deliveries {
                let outcome = catch_unwind(AssertUnwindSafe(|| publish(&snapshot)));
                // Before the answer, so that who hears it finds the weights given up.
                drop(snapshot);
                reply.send(
                    outcome.unwrap_or_else(|panic| Err(TransportError::Panicked(panic_text(&*panic).to_owned()))),
                );
            }
            // Nobody may wait for it.
            let _ = end.send(());
        };
        let thread = std::thread::Builder::new().name("weights-writer".to_owned()).spawn(body)?;
        Ok(Self { work, ended, thread })
    }
}

impl Transport for Writer {
    fn deliver(&self, delivery: Delivery) -> bool {
        self.work.try_send(delivery).is_ok()
    }

    fn finish(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Self { work, ended, thread } = *self;
            drop(work);
            // Lost only with the thread, and then it has ended as well.
            let _ = ended.await;
            if thread.join().is_err() {
                tracing::error!("the thread that writes weights panicked at its end");
            }
        })
    }
}
