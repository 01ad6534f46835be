//! A run: prepared, assembled, conducted, closed.

mod ask;
mod books;
mod clock;
mod conductor;
mod counters;
mod prepare;
mod stage;
mod supervisor;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use counterpoint_verifier::Registry;

use self::conductor::{Conductor, Ending};
use self::prepare::Prepared;
use self::stage::Stage;
use self::supervisor::Event;
use crate::config::Config;
use crate::error::Failure;
use crate::status::Phase;

/// How often the figures on the status page and the terminal are refreshed.
const REFRESH: Duration = Duration::from_millis(500);

/// Runs `config` to its end, or to a signal. With `fresh`, what an earlier run left in the directory is removed.
pub fn run(config: Config, registry: &Registry, fresh: bool) -> Result<(), Failure> {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("actors")
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("the actors' threads did not start: {e}")))?;
    let outcome = tokio.block_on(async {
        match prepare::prepare(config, registry, fresh)? {
            Some(prepared) => conduct(prepared).await,
            None => Ok(()),
        }
    });
    // A user's verifier may hang on a thread that cannot be ended; it must not keep the program.
    tokio.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn conduct(prepared: Prepared) -> Result<(), Failure> {
    let Prepared { config, cast, books, server, console, exporter, version, checkpointed } = prepared;
    let upkeep = tokio::spawn(exporter.keep_up());
    let (stage, heard) = Stage::set(cast).await.map_err(Failure::Failed)?;
    let board = books.board().clone();
    let (interrupts, heard) = merge_signals(heard)?;
    if let Some(server) = &server {
        server.set_ready(true);
    }
    board.update(|status| status.phase = Phase::Training);
    let mut conductor = Conductor::new(config, stage, heard, books, version, checkpointed, console);
    let ended = conductor.conduct().await;
    let summary = conductor.close(&ended).await;
    drop(interrupts);
    upkeep.abort();
    if let Some(server) = server {
        server.stop().await;
    }
    match ended {
        Ok(Ending::Done) => {
            println!("{summary}");
            Ok(())
        }
        Ok(Ending::Interrupted) => {
            println!("{summary}");
            Err(Failure::Interrupted)
        }
        Err(error) => Err(Failure::Failed(error)),
    }
}
