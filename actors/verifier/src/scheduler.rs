//! The verifier actors by name: the built-in pool, and whole replacements of it that a program registers.
//!
//! A replacement speaks the verifier contract, [`VerifierMsg`], and nothing else is asked of it: one verdict per completion,
//! in order, by the request's deadline; `Cancel` and `Drain` as documented there. It starts with the same [`PoolArgs`] as the
//! pool, the verifier that `verifier.name` names among them, and may use or ignore that. The runtime supervises it like the
//! pool: if it dies, it is started again and asked again.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use counterpoint_rollout::VerifierMsg;
use ractor::{Actor, ActorCell, DerivedActorRef, SpawnErr};

use crate::{PoolArgs, VerifierPool};

/// The name of the built-in pool.
pub(crate) const POOL: &str = "pool";

/// A running verifier actor.
#[derive(Clone)]
pub struct VerifierActor {
    /// The actor, for whoever supervises it.
    pub cell: ActorCell,
    /// Where requests go.
    pub mailbox: DerivedActorRef<VerifierMsg>,
}

impl fmt::Debug for VerifierActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierActor").field("actor", &self.cell.get_id()).finish_non_exhaustive()
    }
}

type Started = Pin<Box<dyn Future<Output = Result<VerifierActor, SpawnErr>> + Send>>;

/// Starts verifier actors of one kind; a supervisor keeps it to start another one after a failure.
#[derive(Clone)]
pub struct StartVerifier(Arc<dyn Fn(PoolArgs, ActorCell) -> Started + Send + Sync>);

impl StartVerifier {
    fn of<A>(make: impl Fn() -> A + Send + Sync + 'static) -> Self
    where
        A: Actor<Arguments = PoolArgs>,
        A::Msg: From<VerifierMsg>,
        VerifierMsg: TryFrom<A::Msg>,
    {
        Self(Arc::new(move |args, supervisor| {
            let actor = make();
            Box::pin(async move {
                let (actor, _ended) = Actor::spawn_linked(None, actor, args, supervisor).await?;
                Ok(VerifierActor { cell: actor.get_cell(), mailbox: actor.get_derived() })
            })
        }))
    }

    /// Starts one, linked to its supervisor.
    ///
    /// # Errors
    /// The actor's own, from its start; or if the supervisor is shutting down.
    pub async fn start(&self, args: PoolArgs, supervisor: ActorCell) -> Result<VerifierActor, SpawnErr> {
        (self.0)(args, supervisor).await
    }
}

impl fmt::Debug for StartVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StartVerifier")
    }
}

/// Every actor that `verifier.actor` can name.
pub(crate) struct Schedulers(BTreeMap<String, StartVerifier>);

impl Default for Schedulers {
    fn default() -> Self {
        Self(BTreeMap::from([(POOL.to_owned(), StartVerifier::of(|| VerifierPool))]))
    }
}

impl Schedulers {
    /// Adds an actor; `false` if the name is in use.
    pub(crate) fn add<A>(&mut self, name: String, make: impl Fn() -> A + Send + Sync + 'static) -> bool
    where
        A: Actor<Arguments = PoolArgs>,
        A::Msg: From<VerifierMsg>,
        VerifierMsg: TryFrom<A::Msg>,
    {
        let free = !self.0.contains_key(&name);
        if free {
            self.0.insert(name, StartVerifier::of(make));
        }
        free
    }

    pub(crate) fn get(&self, name: &str) -> Option<&StartVerifier> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
