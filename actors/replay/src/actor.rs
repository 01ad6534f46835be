//! The replay actor owns every group from its lease to its end, and every wait for one. All decisions are [`ReplayCore`]'s; this
//! shell gives it the time, carries its actions out, and keeps one timer for the next deadline.

use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::contract::{GeneratorEvent, LearnerEvent, LearnerMsg, ReplayEvent};
use counterpoint_rollout::{
    GeneratorId, GeneratorMsg, Group, GroupId, Lost, PolicyVersion, Reply, Verdict, VerifierMsg, VerifyRequest,
    telemetry,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::core::{Action, CoreConfig, ReplayCore};
use crate::{Cut, FeedConfig, LedgerTotals, ReplayConfig, ReplayStatus};

mod messages;
pub use messages::{ReplayArgs, ReplayMsg};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayActor;

/// What the shell keeps for the core.
#[derive(Debug)]
pub struct ReplayState {
    core: ReplayCore,
    /// The core's time is what has passed since.
    began: Instant,
    generators: Vec<(GeneratorId, DerivedActorRef<GeneratorMsg>)>,
    /// `None` before the first one is up.
    verifier: Option<DerivedActorRef<VerifierMsg>>,
    learner: Option<DerivedActorRef<LearnerMsg>>,
    observer: DerivedActorRef<ReplayEvent>,
    /// The timer and when it fires; one that fires early is harmless, so it is replaced only by an earlier one.
    timer: Option<(Duration, AbortHandle)>,
}

impl Actor for ReplayActor {
    type Msg = ReplayMsg;
    type State = ReplayState;
    type Arguments = ReplayArgs;

    async fn pre_start(&self, _: ActorRef<ReplayMsg>, args: ReplayArgs) -> Result<ReplayState, ActorProcessingErr> {
        let ReplayArgs { feed, replay, verify_deadline, seed, max_steps, prompts, resume, observer } = args;
        let config = CoreConfig { feed, replay, verify_deadline, seed, max_steps };
        let core = match resume {
            Some(cut) => ReplayCore::resume(config, prompts, &cut)?,
            None => ReplayCore::new(config, prompts)?,
        };
        Ok(ReplayState {
            core,
            began: Instant::now(),
            generators: Vec::new(),
            verifier: None,
            learner: None,
            observer,
            timer: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ReplayMsg>,
        message: ReplayMsg,
        state: &mut ReplayState,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.began.elapsed();
        let core = &mut state.core;
        let out = &mut Vec::new();
        match message {
            ReplayMsg::GeneratorUp { id, mailbox, window, version } => {
                state.generators.retain(|(other, _)| *other != id);
                state.generators.push((id, mailbox));
                core.generator_up(now, id, window, version, out);
            }
            ReplayMsg::GeneratorDown(id) => {
                state.generators.retain(|(other, _)| *other != id);
                core.generator_down(now, id, out);
            }
            ReplayMsg::VerifierUp { mailbox } => {
                state.verifier = Some(mailbox);
                core.verifier_up(now, out);
            }
            ReplayMsg::LearnerUp { mailbox, credits } => {
                state.learner = Some(mailbox);
                core.learner_up(now, credits, out);
            }
            ReplayMsg::Generator(GeneratorEvent::Started { group, version }) => core.started(now, group, version, out),
            ReplayMsg::Generator(GeneratorEvent::Generated(group)) => core.generated(now, group, out),
            ReplayMsg::Generator(GeneratorEvent::Dropped { group, reason }) => core.dropped(now, group, reason, out),
            ReplayMsg::Generator(GeneratorEvent::Loaded { generator, version }) => {
                core.loaded(now, generator, version, out);
            }
            ReplayMsg::Learner(LearnerEvent { version, groups, .. }) => {
                core.trained(now, version, &groups, out);
            }
            ReplayMsg::Verified { group, ticket, result } => core.verified(now, group, ticket, result, out),
            ReplayMsg::Begin => core.begin(now, out),
            ReplayMsg::Hold => core.hold(now),
            ReplayMsg::Release => core.release(now, out),
            ReplayMsg::Cut(reply) => reply.send(core.cut()),
            ReplayMsg::Totals(reply) => reply.send(core.totals()),
            ReplayMsg::Status(reply) => reply.send(core.status(now)),
            ReplayMsg::DeadlineTick => {
                state.timer = None;
                core.tick(now, out);
            }
        }
        state.carry_out(&myself, now, out);
        state.arm_timer(&myself, now);
        state.core.record_gauges();
        telemetry::progress("replay");
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<ReplayMsg>, state: &mut ReplayState) -> Result<(), ActorProcessingErr> {
        if let Some((_, timer)) = state.timer.take() {
            timer.abort();
        }
        Ok(())
    }
}

impl ReplayState {
    /// Carries actions out; what a dead receiver calls forth is carried out too.
    fn carry_out(&mut self, myself: &ActorRef<ReplayMsg>, now: Duration, actions: &mut Vec<Action>) {
        while !actions.is_empty() {
            let mut next = Vec::new();
            for action in actions.drain(..) {
                self.act(myself, now, action, &mut next);
            }
            *actions = next;
        }
    }

    fn act(&mut self, myself: &ActorRef<ReplayMsg>, now: Duration, action: Action, next: &mut Vec<Action>) {
        match action {
            Action::Lease { generator, leases } => {
                self.send_to_generator(now, generator, GeneratorMsg::Lease(leases), next);
            }
            Action::Cancel { generator, groups } => {
                self.send_to_generator(now, generator, GeneratorMsg::Cancel(groups), next);
            }
            Action::Verify { group, ticket, deadline } => self.verify(myself, group, ticket, deadline),
            Action::CancelVerify(groups) => {
                if let Some(verifier) = &self.verifier
                    && verifier.send_message(VerifierMsg::Cancel(groups)).is_err()
                {
                    tracing::debug!("there is no verifier that could cancel anything");
                }
            }
            Action::Train(batch) => {
                let version = batch.version;
                let sent = self.learner.as_ref().is_some_and(|l| l.send_message(LearnerMsg::Train(batch)).is_ok());
                if !sent {
                    tracing::warn!("the batch for {version} waits for a learner: the last one is gone");
                }
            }
            Action::Report(event) => {
                if self.observer.send_message(event).is_err() {
                    tracing::debug!("nobody observes the replay actor any more");
                }
            }
        }
    }

    /// A generator that takes no messages is down, whether or not its supervisor has noticed.
    fn send_to_generator(&mut self, now: Duration, id: GeneratorId, message: GeneratorMsg, next: &mut Vec<Action>) {
        let mailbox = self.generators.iter().find(|(other, _)| *other == id).map(|(_, mailbox)| mailbox);
        if mailbox.is_none_or(|mailbox| mailbox.send_message(message).is_err()) {
            self.generators.retain(|(other, _)| *other != id);
            self.core.generator_down(now, id, next);
        }
    }

    fn verify(&mut self, myself: &ActorRef<ReplayMsg>, group: Arc<Group>, ticket: u64, deadline: Duration) {
        let (id, to) = (group.id(), myself.clone());
        let reply = Reply::new(move |result| {
            if to.send_message(ReplayMsg::Verified { group: id, ticket, result }).is_err() {
                tracing::debug!("verdicts of {id} came after the replay actor had stopped");
            }
        });
        let request = VerifierMsg::Verify(VerifyRequest { group, deadline, reply });
        let unsent = self.verifier.as_ref().map(|verifier| verifier.send_message(request).err());
        if !matches!(unsent, Some(None)) {
            // The request, dropped here, answers `Lost`, which its void ticket lets the core ignore.
            self.core.unsent(id, ticket);
        }
    }

    fn arm_timer(&mut self, myself: &ActorRef<ReplayMsg>, now: Duration) {
        let Some(due) = self.core.next_deadline() else { return };
        if self.timer.as_ref().is_some_and(|&(armed, _)| armed <= due) {
            return;
        }
        if let Some((_, later)) = self.timer.take() {
            later.abort();
        }
        let timer = myself.send_after(due.saturating_sub(now), || ReplayMsg::DeadlineTick);
        self.timer = Some((due, timer.abort_handle()));
    }
}
