//! Stub neighbours of the replay actor, and a stage that holds them together.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use counterpoint_replay::{Cut, FeedConfig, ReplayActor, ReplayArgs, ReplayConfig, ReplayMsg};
use counterpoint_rollout::contract::{GeneratorEvent, LearnerEvent, LearnerMsg, ReplayEvent, StepReport};
use counterpoint_rollout::{
    Completion, DropReason, FinishReason, GeneratorId, GeneratorMsg, Group, GroupId, Lease, Lost, PolicyVersion,
    Prompt, PromptContent, Reply, Verdict, VerifierMsg, VersionSpan,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};
use tokio::sync::{mpsc, oneshot};

/// How long the verifier has for one group.
pub const VERIFY_DEADLINE: Duration = Duration::from_secs(60);

/// How a stub behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Works,
    /// Starts groups, answers cancellations, generates nothing.
    NeverGenerates,
    /// Answers nothing at all.
    Hangs,
    /// Panics on its first message.
    DiesAtOnce,
}

/// An actor made of one function over its messages.
struct Stub<M>(std::marker::PhantomData<fn(M)>);

type Behaviour<M> = Box<dyn FnMut(M) + Send>;

impl<M: Send + 'static> Actor for Stub<M> {
    type Msg = M;
    type State = Behaviour<M>;
    type Arguments = Behaviour<M>;

    async fn pre_start(&self, _: ActorRef<M>, behaviour: Behaviour<M>) -> Result<Behaviour<M>, ActorProcessingErr> {
        Ok(behaviour)
    }

    async fn handle(&self, _: ActorRef<M>, message: M, behaviour: &mut Behaviour<M>) -> Result<(), ActorProcessingErr> {
        behaviour(message);
        Ok(())
    }
}

async fn stub<M>(behaviour: impl FnMut(M) + Send + 'static) -> DerivedActorRef<M>
where
    M: Send + 'static,
{
    let (actor, _) = Actor::spawn(None, Stub(std::marker::PhantomData), Box::new(behaviour)).await.unwrap();
    actor.get_derived()
}

/// A panic without the noise of one.
fn die_if(manner: Manner) {
    if manner == Manner::DiesAtOnce {
        std::panic::resume_unwind(Box::new("as it should"));
    }
}

/// A reply and where its answer comes out.
pub fn reply<T: Send + 'static>() -> (Reply<T>, oneshot::Receiver<Result<T, Lost>>) {
    let (tx, rx) = oneshot::channel();
    (Reply::new(move |answer| drop(tx.send(answer))), rx)
}

pub struct Stage {
    replay: ActorRef<ReplayMsg>,
    events: mpsc::UnboundedReceiver<ReplayEvent>,
    batches: Arc<Mutex<Vec<Vec<GroupId>>>>,
    generators: Arc<Mutex<Vec<Arc<Mutex<Sampler>>>>>,
    /// The weights with which generators come up.
    pub loaded: PolicyVersion,
}

impl Stage {
    pub async fn new(feed: FeedConfig, replay: ReplayConfig, max_steps: u64, resume: Option<Cut>) -> Self {
        let (tx, events) = mpsc::unbounded_channel();
        let observer = stub(move |event: ReplayEvent| drop(tx.send(event))).await;
        let prompt = |i: usize| Prompt {
            id: format!("p{i}"),
            content: PromptContent::Text(String::new()),
            answer: String::new(),
            source: String::new(),
            info: Default::default(),
        };
        let prompts: Vec<_> = (0..10).map(|i| Arc::new(prompt(i))).collect();
        let args = ReplayArgs {
            feed,
            replay,
            verify_deadline: VERIFY_DEADLINE,
            seed: 7,
            max_steps,
            prompts: Arc::new(prompts),
            resume,
            observer,
        };
        let (replay, _) = Actor::spawn(None, ReplayActor, args).await.unwrap();
        Self { replay, events, batches: Arc::default(), generators: Arc::default(), loaded: PolicyVersion(0) }
    }

    pub fn tell(&self, message: ReplayMsg) {
        self.replay.send_message(message).unwrap();
    }

    pub async fn ask<T: Send + 'static>(&self, message: impl FnOnce(Reply<T>) -> ReplayMsg) -> Result<T, Lost> {
        let (reply, answer) = reply();
        self.tell(message(reply));
        answer.await.unwrap()
    }

    /// The first event that is no judged group.
    pub async fn end(&mut self) -> ReplayEvent {
        loop {
            match self.events.recv().await.unwrap() {
                ReplayEvent::Scored(_) => {}
                event => return event,
            }
        }
    }

    pub fn batches(&self) -> Vec<Vec<GroupId>> {
        self.batches.lock().unwrap().clone()
    }

    pub async fn generator(&mut self, number: u32, manner: Manner) {
        let id = GeneratorId(number);
        let to = self.replay.get_derived();
        let sampler = Arc::new(Mutex::new(Sampler { id, manner, loaded: self.loaded, waiting: Vec::new(), to }));
        self.generators.lock().unwrap().push(Arc::clone(&sampler));
        let mailbox = stub(move |message| {
            die_if(manner);
            sampler.lock().unwrap().handle(message);
        })
        .await;
        self.tell(ReplayMsg::GeneratorUp { id, mailbox, window: 6, version: self.loaded });
    }

    pub async fn verifier(&self, manner: Manner) {
        let mailbox = stub(move |message| {
            die_if(manner);
            if let VerifierMsg::Verify(request) = message {
                request.reply.send(vec![Verdict::Correct, Verdict::Incorrect]);
            }
        })
        .await;
        self.tell(ReplayMsg::VerifierUp { mailbox });
    }

    /// Trains at once and publishes every step to all generators.
    pub async fn learner(&self) {
        let to: DerivedActorRef<LearnerEvent> = self.replay.get_derived();
        let (batches, generators) = (Arc::clone(&self.batches), Arc::clone(&self.generators));
        let mailbox = stub(move |LearnerMsg::Train(batch)| {
            let version = PolicyVersion(batch.version.0 + 1);
            let groups: Vec<GroupId> = batch.groups.iter().map(|scored| scored.group.id()).collect();
            batches.lock().unwrap().push(groups.clone());
            to.send_message(LearnerEvent { version, groups, report: Arc::new(StepReport::default()) }).unwrap();
            for sampler in generators.lock().unwrap().iter() {
                sampler.lock().unwrap().load(version);
            }
        })
        .await;
        self.tell(ReplayMsg::LearnerUp { mailbox, credits: 1 });
    }
}

/// What a stub generator does.
struct Sampler {
    id: GeneratorId,
    manner: Manner,
    loaded: PolicyVersion,
    /// Leases that need newer weights.
    waiting: Vec<Lease>,
    to: DerivedActorRef<GeneratorEvent>,
}

impl Sampler {
    fn handle(&mut self, message: GeneratorMsg) {
        match (message, self.manner) {
            (_, Manner::Hangs | Manner::DiesAtOnce) => {}
            (GeneratorMsg::Lease(leases), _) => {
                self.waiting.extend(leases);
                self.sample();
            }
            (GeneratorMsg::Cancel(groups), _) => {
                for group in groups {
                    self.waiting.retain(|lease| lease.group != group);
                    self.tell(GeneratorEvent::Dropped { group, reason: DropReason::Cancelled });
                }
            }
            (GeneratorMsg::Freeze(_) | GeneratorMsg::Thaw, _) => {}
        }
    }

    fn load(&mut self, version: PolicyVersion) {
        if self.manner == Manner::Works {
            self.loaded = version;
            self.tell(GeneratorEvent::Loaded { generator: self.id, version });
            self.sample();
        }
    }

    fn sample(&mut self) {
        let (able, waiting) = self.waiting.drain(..).partition(|lease: &Lease| lease.min_version <= self.loaded);
        self.waiting = waiting;
        for lease in able {
            self.tell(GeneratorEvent::Started { group: lease.group, version: self.loaded });
            if self.manner == Manner::Works {
                self.tell(GeneratorEvent::Generated(Arc::new(self.answer(lease))));
            }
        }
    }

    fn answer(&self, lease: Lease) -> Group {
        let completion = Completion {
            tokens: vec![1],
            logprobs: vec![-0.5],
            versions: vec![VersionSpan { version: self.loaded, tokens: 1 }],
            finish: FinishReason::Stop,
            text: String::new(),
        };
        let completions = vec![completion; lease.answers as usize];
        Group { lease, prompt_tokens: vec![0], completions, start_version: self.loaded, generator: self.id }
    }

    fn tell(&self, event: GeneratorEvent) {
        self.to.send_message(event).unwrap();
    }
}
