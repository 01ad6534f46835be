//! The supervisor: every actor of a run is linked to it, and it tells the conductor, who decides, what it hears.
//!
//! The conductor is one async function that reads top to bottom; an actor cannot be that, because it must not wait inside
//! `handle`. So this actor only turns messages and deaths into [`Event`]s. The channel between them is unbounded, and
//! bounded by leases all the same: each group is scored a bounded number of times, and the learner waits for the conductor
//! after each step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use counterpoint_generator::EvalReport;
use counterpoint_rollout::contract::{LearnerEvent, ReplayEvent};
use counterpoint_rollout::{GeneratorId, convertible};
use counterpoint_weight_sync::SyncFailed;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc;

/// Which actor of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// A generator and its engine.
    Generator(GeneratorId),
    /// The pool of verifiers.
    Verifier,
    /// Feed, ledger and buffer.
    Replay,
    /// The learner and its engine.
    Learner,
    /// Weight synchronisation.
    WeightSync,
    /// The evaluator and its engine.
    Evaluator,
}

impl Role {
    /// Whether a dead one is replaced. The others hold what cannot be had again, and their death ends the run.
    pub(crate) fn is_restarted(self) -> bool {
        matches!(self, Self::Generator(_) | Self::Verifier)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generator(id) => write!(f, "generator-{}", id.0),
            Self::Verifier => f.write_str("verifier"),
            Self::Replay => f.write_str("replay"),
            Self::Learner => f.write_str("learner"),
            Self::WeightSync => f.write_str("weight-sync"),
            Self::Evaluator => f.write_str("evaluator"),
        }
    }
}

/// What the conductor hears.
#[derive(Debug)]
pub(crate) enum Event {
    /// An optimiser step is done; the learner waits.
    Stepped(LearnerEvent),
    /// From the replay actor.
    Replay(ReplayEvent),
    /// A generator did not take new weights.
    SyncFailed(SyncFailed),
    /// An actor panicked or gave up.
    ActorFailed {
        /// Which.
        role: Role,
        /// Its last words.
        error: String,
    },
    /// An evaluation that ran beside the training is done.
    Evaluated(Result<EvalReport, String>),
    /// SIGINT or SIGTERM.
    Interrupted,
}

convertible! { Event { Stepped(LearnerEvent), Replay(ReplayEvent), SyncFailed(SyncFailed) } }

/// Who is who among the linked actors. Filled by the one who spawns, read by the supervisor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roles(Arc<Mutex<Register>>);

#[derive(Debug, Default)]
struct Register {
    roles: HashMap<ActorId, Role>,
    /// Actors that died before their role was known: an engine can fail while its actor is still being spawned.
    early: HashMap<ActorId, String>,
}

impl Roles {
    /// Notes the role of an actor; `Err` with its last words if it is dead already.
    pub(crate) fn assign(&self, actor: &ActorCell, role: Role) -> Result<(), String> {
        let mut register = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match register.early.remove(&actor.get_id()) {
            Some(error) => Err(error),
            None => {
                register.roles.insert(actor.get_id(), role);
                Ok(())
            }
        }
    }

    /// The role of an actor that died; if it has none yet, [`Self::assign`] will say what happened.
    fn died(&self, actor: &ActorCell, error: &str) -> Option<Role> {
        let mut register = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let role = register.roles.get(&actor.get_id()).copied();
        if role.is_none() {
            register.early.insert(actor.get_id(), error.to_owned());
        }
        role
    }
}

/// See the module's first line.
#[derive(Debug)]
pub(crate) struct Supervisor;

/// State and start arguments.
#[derive(Debug)]
pub(crate) struct SupervisorState {
    /// The conductor.
    pub(crate) events: mpsc::UnboundedSender<Event>,
    /// Who is who.
    pub(crate) roles: Roles,
}

impl Actor for Supervisor {
    type Msg = Event;
    type State = SupervisorState;
    type Arguments = SupervisorState;

    async fn pre_start(
        &self,
        _: ActorRef<Event>,
        state: SupervisorState,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<Event>,
        event: Event,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        state.tell(event);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Event>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(actor, error) = event {
            let error = error.to_string();
            if let Some(role) = state.roles.died(&actor, &error) {
                state.tell(Event::ActorFailed { role, error });
            }
        }
        Ok(())
    }
}

impl SupervisorState {
    fn tell(&self, event: Event) {
        // The conductor drops its end when the run is over; what is said afterwards interests nobody.
        let _ = self.events.send(event);
    }
}
