//! The actors alone: leases, groups, verdicts and batches through the real replay actor and the real verifier pool, between a
//! generator and a learner that do no work. What is left is what a completion costs outside of the model.
//!
//! Started by `make bench-actors`; `cargo bench` alone does nothing. Arguments: completions, then rounds. Prints
//! completions/s of every round, the memory before and after it, and how long groups took.

mod common;

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::status_kib;
use counterpoint_replay::{FeedConfig, ReplayActor, ReplayArgs, ReplayConfig, ReplayMsg};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::contract::{GeneratorEvent, LearnerEvent, LearnerMsg, ReplayEvent, StepReport};
use counterpoint_rollout::{
    Completion, FinishReason, GeneratorId, GeneratorMsg, Group, Lease, PolicyVersion, Prompt, PromptContent,
    ScoredGroup, Verdict, VerifierMsg, VersionSpan, convertible,
};
use counterpoint_verifier::{
    Home, Mode, PoolArgs, Question, Registry, Verifier, VerifierConfig, VerifierPool, async_trait,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};
use serde_json::Map;
use tokio::sync::mpsc;

/// B, K, η and the tokens of an answer.
const GROUPS: u32 = 32;
const ANSWERS: u32 = 8;
const STALENESS: u32 = 4;
const TOKENS: u32 = 16;
/// Completions of one optimiser step.
const STEP: u64 = (GROUPS * ANSWERS) as u64;
/// For a verdict, for an actor to stop, and for a round beyond what its completions take at `SLOWEST` per second.
const DEADLINE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 20_000;
/// What the learner says when it has trained everything.
const DONE: &str = "done";

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Follows every so-many-th group.
const FOLLOWED: u64 = 997;

/// Seconds that followed groups took, by what they had behind them then. A group is known by its prompt: no prompt is in
/// flight twice, since there are many more than leases.
#[derive(Default)]
struct Paces {
    running: HashMap<String, Stopwatch>,
    to_verifier: Vec<f64>,
    to_learner: Vec<f64>,
}

#[derive(Clone, Default)]
struct Followed(Arc<Mutex<Paces>>);

impl Followed {
    fn with<T>(&self, work: impl FnOnce(&mut Paces) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn generated(&self, lease: &Lease) {
        if lease.group.0.is_multiple_of(FOLLOWED) {
            self.with(|paces| paces.running.insert(lease.prompt.id.clone(), Stopwatch::start()));
        }
    }

    fn at_verifier(&self, prompt: &str) {
        self.with(|paces| {
            if let Some(watch) = paces.running.get(prompt) {
                paces.to_verifier.push(watch.elapsed().as_secs_f64());
            }
        });
    }

    fn at_learner(&self, groups: &[Arc<ScoredGroup>]) {
        self.with(|paces| {
            for lease in groups.iter().map(|group| &group.group.lease) {
                if let Some(watch) = paces.running.remove(&lease.prompt.id) {
                    paces.to_learner.push(watch.elapsed().as_secs_f64());
                }
            }
        });
    }
}

/// `exact`, and when it was asked.
struct Timed {
    judge: Arc<dyn Verifier>,
    followed: Followed,
}

#[async_trait]
impl Verifier for Timed {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        self.followed.at_verifier(&question.prompt.id);
        self.judge.verify(question).await
    }

    fn mode(&self) -> Mode {
        self.judge.mode()
    }
}

/// Answers every lease at once, half of the answers right.
struct Generator;

enum GeneratorIn {
    Ask(GeneratorMsg),
    /// The learner made these weights.
    Load(PolicyVersion),
}
convertible! { GeneratorIn { Ask(GeneratorMsg) } }

struct Generating {
    to: DerivedActorRef<GeneratorEvent>,
    followed: Followed,
    version: PolicyVersion,
    /// Leases whose weights are not there yet.
    early: VecDeque<Lease>,
}

impl Actor for Generator {
    type Msg = GeneratorIn;
    type State = Generating;
    type Arguments = Generating;

    async fn pre_start(&self, _: ActorRef<GeneratorIn>, state: Generating) -> Result<Generating, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<GeneratorIn>,
        message: GeneratorIn,
        state: &mut Generating,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GeneratorIn::Ask(GeneratorMsg::Lease(leases)) => state.early.extend(leases),
            GeneratorIn::Ask(_) => return Err("this run cancels and freezes nothing".into()),
            GeneratorIn::Load(version) => {
                state.version = version;
                state.to.send_message(GeneratorEvent::Loaded { generator: GeneratorId(0), version })?;
            }
        }
        while state.early.front().is_some_and(|lease| lease.min_version <= state.version) {
            let Some(lease) = state.early.pop_front() else { break };
            let (group, version) = (lease.group, state.version);
            state.to.send_message(GeneratorEvent::Started { group, version })?;
            state.followed.generated(&lease);
            state.to.send_message(GeneratorEvent::Generated(Arc::new(answered(lease, version))))?;
        }
        Ok(())
    }
}

fn answered(lease: Lease, version: PolicyVersion) -> Group {
    let completion = |number: u32| Completion {
        tokens: (0..TOKENS).collect(),
        logprobs: vec![-0.5; TOKENS as usize],
        versions: vec![VersionSpan { version, tokens: TOKENS }],
        finish: FinishReason::Stop,
        text: if number.is_multiple_of(2) { lease.prompt.answer.clone() } else { "wrong".to_owned() },
    };
    let completions = (0..lease.answers).map(completion).collect();
    Group { completions, prompt_tokens: vec![1; 16], start_version: version, generator: GeneratorId(0), lease }
}

/// Trains every batch at once.
struct Learner;

struct Learning {
    replay: DerivedActorRef<LearnerEvent>,
    generator: ActorRef<GeneratorIn>,
    followed: Followed,
    /// Steps that are left.
    steps: u64,
    end: mpsc::UnboundedSender<String>,
}

impl Actor for Learner {
    type Msg = LearnerMsg;
    type State = Learning;
    type Arguments = Learning;

    async fn pre_start(&self, _: ActorRef<LearnerMsg>, state: Learning) -> Result<Learning, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<LearnerMsg>,
        LearnerMsg::Train(batch): LearnerMsg,
        state: &mut Learning,
    ) -> Result<(), ActorProcessingErr> {
        state.followed.at_learner(&batch.groups);
        let version = PolicyVersion(batch.version.0 + 1);
        let groups = batch.groups.iter().map(|group| group.group.id()).collect();
        state.replay.send_message(LearnerEvent { version, groups, report: Arc::new(StepReport::default()) })?;
        state.generator.cast(GeneratorIn::Load(version))?;
        state.steps -= 1;
        if state.steps == 0 {
            state.end.send(DONE.to_owned())?;
        }
        Ok(())
    }
}

/// Hears what the conductor would, and tells of what should not happen.
struct Observer;

impl Actor for Observer {
    type Msg = ReplayEvent;
    type State = mpsc::UnboundedSender<String>;
    type Arguments = mpsc::UnboundedSender<String>;

    async fn pre_start(
        &self,
        _: ActorRef<ReplayEvent>,
        end: mpsc::UnboundedSender<String>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(end)
    }

    async fn handle(
        &self,
        _: ActorRef<ReplayEvent>,
        event: ReplayEvent,
        end: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if !matches!(event, ReplayEvent::Scored(_) | ReplayEvent::Exhausted) {
            end.send(format!("{event:?}"))?;
        }
        Ok(())
    }
}

/// The seconds that so many optimiser steps take.
async fn round(steps: u64, followed: &Followed) -> Outcome<f64> {
    let (end, mut ended) = mpsc::unbounded_channel();
    let (observer, _) = Actor::spawn(None, Observer, end.clone()).await?;
    let prompts: Vec<Arc<Prompt>> = (0..10_000).map(question).collect();
    let args = ReplayArgs {
        feed: FeedConfig { prompts_per_step: GROUPS, answers_per_prompt: ANSWERS, ..FeedConfig::default() },
        replay: ReplayConfig { max_staleness: STALENESS, ..ReplayConfig::default() },
        verify_deadline: DEADLINE,
        seed: 1,
        max_steps: steps,
        prompts: Arc::new(prompts),
        resume: None,
        observer: observer.get_derived(),
    };
    let (replay, _) = Actor::spawn(None, ReplayActor, args).await?;
    let followed = followed.clone();
    let generating = Generating {
        to: replay.get_derived(),
        followed: followed.clone(),
        version: PolicyVersion(0),
        early: VecDeque::new(),
    };
    let (generator, _) = Actor::spawn(None, Generator, generating).await?;
    let learning =
        Learning { replay: replay.get_derived(), generator: generator.clone(), followed: followed.clone(), steps, end };
    let (learner, _) = Actor::spawn(None, Learner, learning).await?;
    let config = VerifierConfig::default();
    let verifier = Arc::new(Timed { judge: Registry::default().build(&config)?, followed });
    let pool = PoolArgs { name: config.name.clone(), verifier, home: Home::default(), config };
    let (pool, _) = VerifierPool::start(pool, None).await?;

    replay.cast(ReplayMsg::VerifierUp { mailbox: pool.get_derived::<VerifierMsg>() })?;
    replay.cast(ReplayMsg::LearnerUp { mailbox: learner.get_derived(), credits: 2 })?;
    let window = (GROUPS * (STALENESS + 1)) as usize;
    let (id, version) = (GeneratorId(0), PolicyVersion(0));
    replay.cast(ReplayMsg::GeneratorUp { id, mailbox: generator.get_derived(), window, version })?;
    let watch = Stopwatch::start();
    replay.cast(ReplayMsg::Begin)?;
    let deadline = DEADLINE + Duration::from_secs(steps * STEP / SLOWEST);
    match tokio::time::timeout(deadline, ended.recv()).await {
        Ok(Some(end)) if end == DONE => {}
        Ok(end) => return Err(format!("ended early: {end:?}").into()),
        Err(_) => return Err(format!("not done after {} s", deadline.as_secs()).into()),
    }
    let seconds = watch.elapsed().as_secs_f64();
    for actor in [learner.get_cell(), generator.get_cell(), pool.get_cell(), replay.get_cell(), observer.get_cell()] {
        actor.stop_and_wait(None, Some(DEADLINE)).await?;
    }
    Ok(seconds)
}

fn question(number: u32) -> Arc<Prompt> {
    Arc::new(Prompt {
        id: number.to_string(),
        content: PromptContent::Text(format!("What is {number} + 1?")),
        answer: (number + 1).to_string(),
        source: "actors".to_owned(),
        info: Map::new(),
    })
}

fn resident_mib() -> Outcome<f64> {
    Ok(status_kib("VmRSS")? as f64 / 1024.0)
}

fn show(what: &str, seconds: &mut [f64]) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds.get((seconds.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN) * 1e3;
    println!("{what}: median {:.2} ms, p99 {:.2} ms ({} groups)", at(0.5), at(0.99), seconds.len());
}

fn main() -> Outcome<()> {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let &[completions, rounds] = numbers.as_slice() else {
        eprintln!("bench actors: nothing to do: run it by `make bench-actors`");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut rates, followed) = (Vec::new(), Followed::default());
    for number in 1..=rounds {
        let before = resident_mib()?;
        let steps = completions.div_ceil(STEP);
        let (trained, seconds) = (steps * STEP, runtime.block_on(round(steps, &followed))?);
        rates.push(trained as f64 / seconds);
        println!(
            "round {number}: {trained} completions in {seconds:.2} s, {:.0} per second; {before:.0} MiB before, {:.0} after",
            trained as f64 / seconds,
            resident_mib()?
        );
    }
    rates.sort_by(f64::total_cmp);
    if let (Some(low), Some(high), Some(median)) = (rates.first(), rates.last(), rates.get(rates.len() / 2)) {
        println!("completions per second: median {median:.0}, lowest {low:.0}, highest {high:.0}");
    }
    followed.with(|paces| {
        show("from the generator, through replay, to the verifier", &mut paces.to_verifier);
        show("from the generator to the learner, waits for full batches included", &mut paces.to_learner);
    });
    Ok(())
}
