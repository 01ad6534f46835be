//! The evaluator actor: samples the held-out prompts with a given snapshot, on an engine of its own, and has the answers
//! judged by the same verifier that judges training.
//!
//! One evaluation at a time, others wait in order. Each has a deadline, after which its requester is told what was missing.
//! All evaluations of a run share their noise, so they differ by the weights alone. Answers whose verdicts are lost with a
//! verifier are kept and judged by the next one; those lost twice count as void.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_policy::streams::{self, Urgency};
use counterpoint_policy::{Snapshot, Tokenizer, device};
use counterpoint_rollout::{
    GeneratorId, Group, GroupId, Lease, PolicyVersion, Prompt, Purpose, Reply, Verdict, VerifierMsg, VerifyRequest,
    telemetry,
};
use crossbeam::channel::{Receiver, TryRecvError};
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::request::detokenizer;
use crate::thread::EngineThread;
use crate::{
    Engine, EngineOptions, EvalConfig, EvalReport, EvalTally, GeneratorConfig, GeneratorError, Noise, Outcome, Request,
    sample_all,
};

/// Group numbers of evaluations start here, so that no verifier takes them for groups of the training run.
pub const FIRST_EVAL_GROUP: u64 = 1 << 63;

/// How long a stopping actor waits for the engine's present decode step.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct EvaluatorActor;

/// What an evaluator is told.
#[derive(Debug)]
pub enum EvaluatorMsg {
    /// By the conductor: evaluate these weights.
    Evaluate(Evaluate),
    /// By the supervisor: the verifier died, and this one took its place. What the old one owed is lost.
    VerifierUp(DerivedActorRef<VerifierMsg>),
    /// By its engine: these answers are there.
    Sampled(u64, Box<Group>),
    /// By its engine: this prompt was not sampled.
    Unanswered(u64, GroupId),
    /// By the verifier; `None` if it was lost.
    Judged(Asked, Option<Vec<Verdict>>),
    /// By the timer: the evaluation has taken too long.
    Expired(u64),
    /// By its engine: it is over.
    Ended(Result<(), GeneratorError>),
}

/// A question to the verifier.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which evaluation.
    run: u64,
    group: Arc<Group>,
    /// Which verifier, counted from 0: its successor may be up before the news of what it lost is here.
    verifier: u64,
    /// Whether an earlier verifier was lost with this question.
    again: bool,
}

/// A request for one evaluation.
#[derive(Debug)]
pub struct Evaluate {
    /// The weights to evaluate.
    pub snapshot: Arc<Snapshot>,
    /// Optimiser steps done.
    pub step: u64,
    /// The report, or why there is none.
    pub reply: Reply<Result<EvalReport, String>>,
}

/// What an evaluator is started with.
#[derive(Debug)]
pub struct EvaluatorStart {
    /// The held-out prompts; `config.limit` is applied here.
    pub prompts: Vec<Arc<Prompt>>,
    /// Of the model.
    pub tokenizer: Tokenizer,
    /// Valid settings.
    pub config: EvalConfig,
    /// Where slots and token limits come from.
    pub generator: GeneratorConfig,
    /// The run's seed.
    pub seed: u64,
    /// CPU threads of its tensor operations.
    pub threads: usize,
    /// Who judges.
    pub verifier: DerivedActorRef<VerifierMsg>,
    /// How long the verifier has for one group.
    pub verify_deadline: Duration,
}

/// The actor's state.
pub struct EvaluatorState {
    /// Taken when the actor stops.
    engine: Option<EngineThread<Job, Abort>>,
    verifier: DerivedActorRef<VerifierMsg>,
    /// How many verifiers there were before this one.
    replaced: u64,
    verify_deadline: Duration,
    timeout: Duration,
    samples: u32,
    prompts: u64,
    waiting: VecDeque<Evaluate>,
    running: Option<Running>,
    /// Tells messages about an evaluation that was given up from those about the present one.
    runs: u64,
}

struct Running {
    request: Evaluate,
    tally: EvalTally,
    sampled: u64,
    /// Groups that wait for the next verifier.
    lost: Vec<Arc<Group>>,
    started: Instant,
    timer: JoinHandle<Result<(), ractor::MessagingErr<EvaluatorMsg>>>,
}

/// What the engine is asked: to sample all prompts with these weights.
struct Job {
    run: u64,
    snapshot: Arc<Snapshot>,
}

/// Gives the job of this run up, if it is the present one.
struct Abort(u64);

impl Actor for EvaluatorActor {
    type Msg = EvaluatorMsg;
    type State = EvaluatorState;
    type Arguments = EvaluatorStart;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        mut start: EvaluatorStart,
    ) -> Result<Self::State, ActorProcessingErr> {
        start.prompts.truncate(start.config.limit.unwrap_or(usize::MAX));
        let (verifier, verify_deadline) = (start.verifier.clone(), start.verify_deadline);
        let timeout = Duration::from_secs_f64(start.config.timeout_seconds);
        let (samples, prompts) = (start.config.samples, start.prompts.len() as u64);
        let engine = Some(start_engine(&myself, start)?);
        let (waiting, running, runs, replaced) = (VecDeque::new(), None, 0, 0);
        Ok(EvaluatorState {
            engine,
            verifier,
            replaced,
            verify_deadline,
            timeout,
            samples,
            prompts,
            waiting,
            running,
            runs,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EvaluatorMsg::Evaluate(request) => state.evaluate(request, &myself),
            EvaluatorMsg::VerifierUp(verifier) => state.verifier_up(verifier, &myself),
            EvaluatorMsg::Sampled(run, group) => state.sampled(run, *group, &myself),
            EvaluatorMsg::Unanswered(run, group) => state.unanswered(run, group, &myself),
            EvaluatorMsg::Judged(asked, verdicts) => state.judged(asked, verdicts.as_deref(), &myself),
            EvaluatorMsg::Expired(run) => state.expired(run, &myself),
            EvaluatorMsg::Ended(outcome) => outcome?,
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        if let Some(engine) = state.engine.take() {
            engine.join(STOP_DEADLINE).await;
        }
        Ok(())
    }
}

impl EvaluatorState {
    fn evaluate(&mut self, request: Evaluate, myself: &ActorRef<EvaluatorMsg>) {
        self.waiting.push_back(request);
        self.start_next(myself);
    }

    fn start_next(&mut self, myself: &ActorRef<EvaluatorMsg>) {
        if self.running.is_some() {
            return;
        }
        let (Some(request), Some(engine)) = (self.waiting.pop_front(), &self.engine) else { return };
        self.runs += 1;
        let run = self.runs;
        // There is room unless several jobs in a row expired within one decode step; this one then expires too. If the
        // engine is gone, so is this actor in a moment, and the request's reply with it.
        let _ = engine.work.try_send(Job { run, snapshot: Arc::clone(&request.snapshot) });
        let timer = myself.send_after(self.timeout, move || EvaluatorMsg::Expired(run));
        let tally = EvalTally::new(self.samples);
        self.running = Some(Running { request, tally, sampled: 0, lost: Vec::new(), started: Instant::now(), timer });
        self.finish_if_complete(myself);
    }

    /// The present evaluation, if the message is about it.
    fn present(&mut self, run: u64) -> Option<&mut Running> {
        let runs = self.runs;
        self.running.as_mut().filter(|_| run == runs)
    }

    fn sampled(&mut self, run: u64, group: Group, myself: &ActorRef<EvaluatorMsg>) {
        let Some(running) = self.present(run) else { return };
        running.sampled += 1;
        self.ask(Arc::new(group), false, myself);
    }

    /// Asks the present verifier about a group of the present evaluation.
    fn ask(&self, group: Arc<Group>, again: bool, myself: &ActorRef<EvaluatorMsg>) {
        let asked = Asked { run: self.runs, group: Arc::clone(&group), verifier: self.replaced, again };
        let judged = myself.clone();
        let reply = Reply::new(move |verdicts: Result<Vec<Verdict>, _>| {
            // Nobody to tell if this actor has stopped.
            let _ = judged.cast(EvaluatorMsg::Judged(asked, verdicts.ok()));
        });
        let request = VerifyRequest { group, deadline: self.verify_deadline, reply };
        // If the verifier is gone, the request is dropped, and its reply reports that.
        let _ = self.verifier.send_message(VerifierMsg::Verify(request));
    }

    fn verifier_up(&mut self, verifier: DerivedActorRef<VerifierMsg>, myself: &ActorRef<EvaluatorMsg>) {
        self.verifier = verifier;
        self.replaced += 1;
        let lost = self.running.as_mut().map_or_else(Vec::new, |running| std::mem::take(&mut running.lost));
        for group in lost {
            self.ask(group, true, myself);
        }
    }

    fn unanswered(&mut self, run: u64, group: GroupId, myself: &ActorRef<EvaluatorMsg>) {
        let Some(running) = self.present(run) else { return };
        tracing::warn!(
            prompt = group.0 - FIRST_EVAL_GROUP,
            "an evaluation prompt cannot be sampled, its answers count as void"
        );
        running.sampled += 1;
        running.tally.add_unanswered();
        self.finish_if_complete(myself);
    }

    fn judged(&mut self, asked: Asked, verdicts: Option<&[Verdict]>, myself: &ActorRef<EvaluatorMsg>) {
        let Asked { run, group, verifier, again } = asked;
        let replaced = self.replaced;
        let Some(running) = self.present(run) else { return };
        if verdicts.is_some() || again {
            running.tally.add(&group.completions, verdicts);
            self.finish_if_complete(myself);
        } else if verifier == replaced {
            running.lost.push(group);
        } else {
            self.ask(group, true, myself);
        }
    }

    fn finish_if_complete(&mut self, myself: &ActorRef<EvaluatorMsg>) {
        let Some(running) = self.running.take_if(|running| running.tally.prompts() == self.prompts) else { return };
        let Running { request, tally, started, timer, .. } = running;
        timer.abort();
        let report = tally.report(request.step, request.snapshot.version(), started.elapsed().as_secs_f64());
        telemetry::evaluated(report.accuracy);
        telemetry::progress("evaluator");
        request.reply.send(Ok(report));
        self.start_next(myself);
    }

    fn expired(&mut self, run: u64, myself: &ActorRef<EvaluatorMsg>) {
        if self.present(run).is_none() {
            return;
        }
        let Some(Running { request, tally, sampled, .. }) = self.running.take() else { return };
        if let Some(engine) = &self.engine {
            // An engine that is gone has nothing to abort.
            let _ = engine.control.send(Abort(run));
        }
        let (prompts, judged) = (self.prompts, tally.prompts());
        let problem = format!(
            "the evaluation at step {} took longer than {:?}: of {prompts} prompts, {sampled} were sampled and {judged} judged",
            request.step, self.timeout
        );
        tracing::error!("{problem}");
        request.reply.send(Err(problem));
        self.start_next(myself);
    }
}

fn start_engine(
    myself: &ActorRef<EvaluatorMsg>,
    start: EvaluatorStart,
) -> Result<EngineThread<Job, Abort>, GeneratorError> {
    let (events, end) = (myself.clone(), myself.clone());
    let body = move |work: Receiver<Job>, control: Receiver<Abort>| {
        device::set_threads(start.threads);
        let options = start.config.engine_options(&start.generator, &start.tokenizer);
        let mut engine = None;
        // The channel closes when the actor stops.
        for job in &work {
            run_job(&start, &options, &mut engine, &job, &control, &events)?;
        }
        Ok(())
    };
    EngineThread::spawn("evaluator", 2, body, move |outcome| drop(end.cast(EvaluatorMsg::Ended(outcome))))
}

/// Samples all prompts. The engine is made by the first job, so that a run without evaluations has no cache for them.
fn run_job(
    start: &EvaluatorStart,
    options: &EngineOptions,
    engine: &mut Option<Engine>,
    job: &Job,
    control: &Receiver<Abort>,
    actor: &ActorRef<EvaluatorMsg>,
) -> Result<(), GeneratorError> {
    let engine = match engine {
        Some(engine) => {
            engine.load(Arc::clone(&job.snapshot))?;
            engine
        }
        none => {
            streams::enter(job.snapshot.flat().device(), Urgency::Normal)?;
            none.insert(Engine::new(Arc::clone(&job.snapshot), options.clone(), detokenizer(&start.tokenizer))?)
        }
    };
    let tell = |message| drop(actor.cast(message));
    let requests = (FIRST_EVAL_GROUP..).zip(&start.prompts).filter_map(|(number, prompt)| {
        let noise = Noise { seed: start.seed, purpose: Purpose::Eval, epoch: 0, attempt: 0 };
        let request = Request::new(GroupId(number), prompt, start.config.samples, noise, &start.tokenizer);
        request.inspect_err(|_| tell(EvaluatorMsg::Unanswered(job.run, GroupId(number)))).ok()
    });
    let mut sampling = sample_all(engine, requests);
    loop {
        match control.try_recv() {
            Ok(Abort(run)) if run == job.run => return Ok(()),
            Err(TryRecvError::Disconnected) => return Ok(()),
            // An abort of an earlier run came when its sampling was over.
            Ok(Abort(_)) | Err(TryRecvError::Empty) => {}
        }
        while let Some(outcome) = sampling.ready() {
            tell(match outcome {
                Outcome::Answered(sampled) => EvaluatorMsg::Sampled(job.run, Box::new(group_of(start, sampled))),
                Outcome::Dropped { group, .. } => EvaluatorMsg::Unanswered(job.run, group),
            });
        }
        if !sampling.step()? {
            return Ok(());
        }
    }
}

/// A group for the verifier; its lease is made up, since no admission issued it.
fn group_of(start: &EvaluatorStart, sampled: crate::Sampled) -> Group {
    let position = sampled.group.0 - FIRST_EVAL_GROUP;
    let lease = Lease {
        group: sampled.group,
        prompt: Arc::clone(&start.prompts[position as usize]),
        epoch: 0,
        attempt: 0,
        answers: start.config.samples,
        position,
        min_version: PolicyVersion::default(),
        deadline: Duration::from_secs_f64(start.config.timeout_seconds),
    };
    let crate::Sampled { prompt_tokens, completions, start_version, .. } = sampled;
    // No generator of the run made it.
    Group { lease, prompt_tokens, completions, start_version, generator: GeneratorId(u32::MAX) }
}
