//! A run: prepared, assembled, conducted, closed.

mod ask;
mod books;
mod card;
mod cast;
mod clock;
mod conductor;
mod counters;
mod prepare;
mod signals;
mod stage;
mod supervisor;
pub(crate) mod threads;

use std::time::Duration;

use counterpoint_verifier::Registry;

use self::conductor::{Conductor, Ending};
use self::prepare::Prepared;
use self::stage::Stage;
use crate::config::Config;
use crate::console::Console;
use crate::error::Failure;
use crate::status::Phase;

/// How a run is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// What an earlier run left in the directory is removed.
    pub fresh: bool,
    /// A model that does not fit into memory is tried all the same.
    pub force: bool,
}

/// Runs `config` to its end, or to a signal.
pub fn run(config: Config, registry: &Registry, start: Start, console: Console) -> Result<(), Failure> {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("actors")
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("the actors' threads did not start: {e}")))?;
    let outcome = tokio.block_on(async {
        match prepare::prepare(config, registry, start)? {
            Some(prepared) => conduct(prepared, console).await,
            None => Ok(()),
        }
    });
    // A user's verifier may hang on a thread that cannot be ended; it must not keep the program.
    tokio.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn conduct(prepared: Prepared, console: Console) -> Result<(), Failure> {
    let Prepared { config, cast, mut books, server, exporter, version } = prepared;
    let upkeep = tokio::spawn(exporter.keep_up());
    let (stage, events) = match Stage::set(cast).await {
        Ok(set) => set,
        Err(error) => {
            books.close(&Err(error.clone()));
            return Err(Failure::Failed(error));
        }
    };
    let signals = signals::listen(stage.interrupts()).map_err(|e| Failure::Failed(format!("signals: {e}")))?;
    if let Some(server) = &server {
        server.set_ready(true);
    }
    books.board().update(|status| status.phase = Phase::Training);
    let dir = config.run.dir.clone();
    let mut conductor = Conductor::new(config, stage, events, books, console, version);
    let ended = conductor.conduct().await;
    signals.abort();
    if let Some(server) = &server {
        server.set_ready(false);
    }
    let summary = conductor.close(&ended).await;
    upkeep.abort();
    if let Some(server) = server {
        server.stop().await;
    }
    match ended {
        Ok(ending) => {
            println!("{}", summary.in_words(&dir));
            if ending == Ending::Interrupted { Err(Failure::Interrupted) } else { Ok(()) }
        }
        Err(error) => Err(Failure::Failed(error)),
    }
}
