//! The verifier actor: lets a fixed number of groups be judged at once, and answers each request by its deadline.
//!
//! Requests that find no free slot wait here in order of arrival. That queue has no bound of its own: every request is for a
//! group, every group has a lease, and admission bounds the leases. A request's deadline counts from its receipt, its wait
//! included. `Cancel` drops requests that wait; those being judged are answered, by their deadline at the latest. `Drain`
//! answers when no request waits or is judged. When the actor stops or fails, open requests are answered
//! [`Lost`](counterpoint_rollout::Lost) and verifiers that await are dropped.
//!
//! A judgement that runs on after its deadline has lost its slot to the next group. If it still runs [`GRACE`] later, its
//! thread counts as abandoned, which is logged with the group; with more than `verifier.max_abandoned` of them the actor
//! fails, since each may burn a core for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{Group, GroupId, Reply, Verdict, VerifierMsg, VerifyRequest, convertible, telemetry};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::LONGEST_DEADLINE;
use crate::judge::Unfinished;
use crate::queue::Queue;
use crate::{Home, Judge, Judged, Ticket, Verifier, VerifierConfig, VerifierError};

/// How long after its deadline a judgement may end before its thread counts as abandoned: one that was about to end, or
/// that awaits and so can be dropped, ends well within.
const GRACE: Duration = Duration::from_secs(1);

/// The actor's name in metrics.
const ACTOR: &str = "verifier";

/// The edge before this actor in metrics.
const EDGE: &str = "replay_verifier";

/// What the pool understands: the contract, and what it tells itself.
#[derive(Debug)]
pub enum PoolMsg {
    /// From outside.
    Contract(VerifierMsg),
    /// A request's deadline passed while it waited.
    Expired(Ticket),
    /// A judgement is there, or its deadline has passed.
    Judged(Ticket, Judged),
    /// A judgement still runs long after its deadline.
    Abandoned(Ticket, GroupId),
    /// An abandoned judgement has ended after all.
    Returned(Ticket),
}

convertible! { PoolMsg { Contract(VerifierMsg) } }

/// What a pool is made from; a supervisor keeps a copy to start it again.
#[derive(Clone)]
pub struct PoolArgs {
    /// The verifier's name in logs and metrics: `verifier.name`.
    pub name: String,
    /// Who judges.
    pub verifier: Arc<dyn Verifier>,
    /// What the verifier may need to know of the program around it.
    pub home: Home,
    /// The slots, the rule for truncated answers, the bound on abandoned threads.
    pub config: VerifierConfig,
}

/// The verifier actor; see the module's text.
#[derive(Debug)]
pub struct VerifierPool;

impl VerifierPool {
    /// Starts a pool, linked to a supervisor if there is one. Others talk to it through
    /// `pool.get_derived::<VerifierMsg>()`.
    ///
    /// # Errors
    /// If the supervisor is shutting down.
    pub async fn start(
        args: PoolArgs,
        supervisor: Option<ActorCell>,
    ) -> Result<(ActorRef<PoolMsg>, JoinHandle<()>), SpawnErr> {
        match supervisor {
            Some(supervisor) => Self::spawn_linked(None, Self, args, supervisor).await,
            None => Self::spawn(None, Self, args).await,
        }
    }
}

/// The pool's state.
pub struct PoolState {
    judge: Arc<Judge>,
    queue: Queue<Request>,
    /// Who waits for the queue to be empty.
    drains: Vec<Reply<()>>,
    /// Judgements that run on long after their deadline, with their groups.
    abandoned: BTreeMap<Ticket, GroupId>,
    max_abandoned: usize,
    /// Whether the last message left anything being judged, and when: for the busy and idle times.
    busy: bool,
    busy_since: Instant,
}

/// One group, from receipt to reply.
struct Request {
    group: Arc<Group>,
    reply: Reply<Vec<Verdict>>,
    received: Instant,
    started: Option<Instant>,
    deadline: Instant,
    /// The timer while it waits, the judgement while it is judged; ends with the request.
    task: Option<Task>,
}

/// A spawned task that is aborted when this is dropped.
struct Task(AbortHandle);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Actor for VerifierPool {
    type Msg = PoolMsg;
    type State = PoolState;
    type Arguments = PoolArgs;

    async fn pre_start(&self, _myself: ActorRef<PoolMsg>, args: PoolArgs) -> Result<PoolState, ActorProcessingErr> {
        let judge = Judge::new(args.name, args.verifier, args.config.truncated);
        judge.start(&args.home).await?;
        Ok(PoolState {
            judge: Arc::new(judge),
            queue: Queue::new(args.config.workers),
            drains: Vec::new(),
            abandoned: BTreeMap::new(),
            max_abandoned: args.config.max_abandoned,
            busy: false,
            busy_since: Instant::now(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<PoolMsg>,
        message: PoolMsg,
        state: &mut PoolState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PoolMsg::Contract(VerifierMsg::Verify(request)) => state.verify(&myself, request),
            PoolMsg::Contract(VerifierMsg::Cancel(groups)) => state.cancel(&groups),
            PoolMsg::Contract(VerifierMsg::Drain(reply)) => state.drains.push(reply),
            PoolMsg::Expired(ticket) => state.expired(ticket),
            PoolMsg::Judged(ticket, judged) => state.judged(&myself, ticket, judged),
            PoolMsg::Abandoned(ticket, group) => state.abandoned(ticket, group)?,
            PoolMsg::Returned(ticket) => state.returned(ticket),
        }
        state.go_on(&myself);
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<PoolMsg>, state: &mut PoolState) -> Result<(), ActorProcessingErr> {
        // A supervisor gets the state and may keep it; whoever waits for a reply must not wait for that.
        state.queue.clear();
        state.drains.clear();
        state.judge.stop().await;
        Ok(())
    }
}

impl PoolState {
    fn verify(&mut self, myself: &ActorRef<PoolMsg>, request: VerifyRequest) {
        let received = Instant::now();
        let deadline = received + request.deadline.min(LONGEST_DEADLINE);
        let waits = self.queue.full();
        self.queue.push(|ticket| Request {
            group: request.group,
            reply: request.reply,
            received,
            started: None,
            deadline,
            task: waits.then(|| expire(myself.clone(), ticket, deadline)),
        });
    }

    fn cancel(&mut self, groups: &[GroupId]) {
        let dropped = self.queue.cancel(|request| groups.contains(&request.group.id()));
        tracing::debug!(asked = groups.len(), dropped, "verification cancelled");
    }

    /// Does nothing if the request got its slot while the message was under way.
    fn expired(&mut self, ticket: Ticket) {
        if let Some(request) = self.queue.withdraw(ticket) {
            let group = request.group.id();
            tracing::warn!(verifier = self.judge.name(), %group, "deadline passed while waiting for a worker");
            let verdicts = self.judge.too_late(&request.group);
            self.answer(request, verdicts);
        }
    }

    fn judged(&mut self, myself: &ActorRef<PoolMsg>, ticket: Ticket, judged: Judged) {
        // Running requests leave the queue here and nowhere else, so it is there.
        let Some(request) = self.queue.finish(ticket) else { return };
        if let Some(unfinished) = judged.unfinished {
            let group = request.group.id();
            tracing::warn!(verifier = self.judge.name(), %group, "deadline passed while judging");
            watch(myself.clone(), ticket, group, unfinished);
        }
        self.answer(request, judged.verdicts);
        telemetry::progress(ACTOR);
    }

    fn abandoned(&mut self, ticket: Ticket, group: GroupId) -> Result<(), VerifierError> {
        self.abandoned.insert(ticket, group);
        let (name, threads, max) = (self.judge.name(), self.abandoned.len(), self.max_abandoned);
        tracing::warn!(verifier = name, %group, threads, max, "judgement does not end, its thread is abandoned");
        if threads > max {
            let groups = self.abandoned.values().copied().collect();
            return Err(VerifierError::Abandoned { name: name.to_owned(), max, groups });
        }
        Ok(())
    }

    fn returned(&mut self, ticket: Ticket) {
        if let Some(group) = self.abandoned.remove(&ticket) {
            let threads = self.abandoned.len();
            tracing::info!(verifier = self.judge.name(), %group, threads, "abandoned judgement has ended");
        }
    }

    /// After every message: fills free slots, answers whoever waits for the end of the work, and takes stock.
    fn go_on(&mut self, myself: &ActorRef<PoolMsg>) {
        let now = Instant::now();
        while let Some((ticket, request)) = self.queue.start() {
            telemetry::mailbox_wait(EDGE, now - request.received);
            let left = request.deadline.saturating_duration_since(now);
            request.started = Some(now);
            request.task = Some(judge(myself.clone(), ticket, &self.judge, &request.group, left));
        }
        let busy = self.queue.running() > 0;
        if !busy {
            self.drains.drain(..).for_each(|reply| reply.send(()));
        }
        telemetry::mailbox_depth(EDGE, self.queue.waiting());
        telemetry::actor_state(ACTOR, if self.busy { "busy" } else { "idle" }, now - self.busy_since);
        (self.busy, self.busy_since) = (busy, now);
    }

    fn answer(&self, request: Request, verdicts: Vec<Verdict>) {
        let took = request.started.map_or(Duration::ZERO, |started| started.elapsed());
        telemetry::verified(self.judge.name(), &verdicts, took);
        request.reply.send(verdicts);
    }
}

// The tasks below send to the actor that started them. If it is gone, so are its requests, and nobody waits for the message.

fn expire(pool: ActorRef<PoolMsg>, ticket: Ticket, deadline: Instant) -> Task {
    Task::spawn(async move {
        sleep_until(deadline).await;
        let _ = pool.send_message(PoolMsg::Expired(ticket));
    })
}

fn judge(pool: ActorRef<PoolMsg>, ticket: Ticket, judge: &Arc<Judge>, group: &Arc<Group>, left: Duration) -> Task {
    let (judge, group) = (Arc::clone(judge), Arc::clone(group));
    Task::spawn(async move {
        let judged = judge.group(&group, left).await;
        let _ = pool.send_message(PoolMsg::Judged(ticket, judged));
    })
}

/// Runs until the judgement ends, however late, and outlives the actor: it is what keeps count of an abandoned thread.
fn watch(pool: ActorRef<PoolMsg>, ticket: Ticket, group: GroupId, mut unfinished: Unfinished) {
    let grace = Instant::now() + GRACE;
    tokio::spawn(async move {
        if timeout_at(grace, unfinished.ended()).await.is_err() {
            let _ = pool.send_message(PoolMsg::Abandoned(ticket, group));
            unfinished.ended().await;
            let _ = pool.send_message(PoolMsg::Returned(ticket));
        }
    });
}
