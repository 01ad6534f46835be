//! The actors with real engines, on a tiny model with its tokenizer.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::snapshot;
use counterpoint_generator::{
    EvalConfig, EvalReport, Evaluate, EvaluatorActor, EvaluatorMsg, EvaluatorStart, GeneratorActor, GeneratorActorMsg,
    GeneratorConfig, GeneratorStart,
};
use counterpoint_policy::{LoadWeights, Loaded, ModelConfig, Tokenizer};
use counterpoint_rollout::contract::GeneratorEvent;
use counterpoint_rollout::{
    DropReason, GeneratorId, GeneratorMsg, Group, GroupId, Lease, Lost, PolicyVersion, Prompt, PromptContent, Reply,
    Verdict, VerifierMsg, VoidReason,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, DerivedActorRef};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/data/tiny-qwen2")
}

fn model() -> (Arc<ModelConfig>, Tokenizer) {
    let config = ModelConfig::from_dir(&model_dir()).unwrap();
    (Arc::new(config), Tokenizer::from_dir(&model_dir()).unwrap())
}

fn prompt(text: &str) -> Arc<Prompt> {
    let content = PromptContent::Text(text.to_owned());
    Arc::new(Prompt {
        id: text.to_owned(),
        content,
        answer: "7".to_owned(),
        source: "test".to_owned(),
        info: Default::default(),
    })
}

fn lease(group: u64, text: &str, answers: u32, min_version: u64) -> Lease {
    Lease {
        group: GroupId(group),
        prompt: prompt(text),
        epoch: 0,
        attempt: 0,
        answers,
        position: group,
        min_version: PolicyVersion(min_version),
        deadline: PATIENCE,
    }
}

/// Hands every message it gets to a channel.
struct Probe<M>(std::marker::PhantomData<fn(M)>);

impl<M: ractor::Message> Actor for Probe<M> {
    type Msg = M;
    type State = mpsc::UnboundedSender<M>;
    type Arguments = mpsc::UnboundedSender<M>;

    async fn pre_start(&self, _: ActorRef<M>, sender: Self::Arguments) -> Result<Self::State, ActorProcessingErr> {
        Ok(sender)
    }

    async fn handle(&self, _: ActorRef<M>, message: M, sender: &mut Self::State) -> Result<(), ActorProcessingErr> {
        // A test that has seen enough drops its end.
        let _ = sender.send(message);
        Ok(())
    }
}

async fn probe<M: ractor::Message + From<M>>() -> (DerivedActorRef<M>, mpsc::UnboundedReceiver<M>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (actor, _) = Actor::spawn(None, Probe(std::marker::PhantomData), sender).await.unwrap();
    (actor.get_derived(), receiver)
}

fn reply<T: Send + 'static>() -> (Reply<T>, oneshot::Receiver<Result<T, Lost>>) {
    let (sender, receiver) = oneshot::channel();
    (Reply::new(move |answer| drop(sender.send(answer))), receiver)
}

async fn answer<T>(receiver: oneshot::Receiver<Result<T, Lost>>) -> Result<T, Lost> {
    timeout(PATIENCE, receiver).await.expect("no answer came").unwrap()
}

struct Generator {
    actor: ActorRef<GeneratorActorMsg>,
    joined: JoinHandle<()>,
    events: mpsc::UnboundedReceiver<GeneratorEvent>,
    model: Arc<ModelConfig>,
}

async fn generator(config: GeneratorConfig) -> Generator {
    let (replay, events) = probe().await;
    let (model, tokenizer) = model();
    let start = GeneratorStart {
        id: GeneratorId(2),
        snapshot: snapshot(&model, 0),
        tokenizer,
        config,
        seed: 5,
        threads: 1,
        queue_capacity: 16,
        replay,
    };
    let (actor, joined) = Actor::spawn(None, GeneratorActor, start).await.unwrap();
    Generator { actor, joined, events, model }
}

impl Generator {
    fn tell(&self, message: impl Into<GeneratorActorMsg>) {
        self.actor.cast(message.into()).unwrap();
    }

    async fn event(&mut self) -> GeneratorEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("no event came").expect("the probe is gone")
    }

    async fn load(&self, version: u64) -> Result<Loaded, Lost> {
        let (reply, loaded) = reply();
        self.tell(LoadWeights { snapshot: snapshot(&self.model, version), reply });
        answer(loaded).await
    }

    async fn group(&mut self) -> Arc<Group> {
        loop {
            if let GeneratorEvent::Generated(group) = self.event().await {
                return group;
            }
        }
    }

    async fn stop(self) {
        self.actor.stop(None);
        timeout(PATIENCE, self.joined).await.expect("the generator does not stop").unwrap();
    }
}

fn short() -> GeneratorConfig {
    GeneratorConfig { max_new_tokens: 6, max_prompt_tokens: 16, slots: 8, ..GeneratorConfig::default() }
}

#[tokio::test]
async fn a_lease_becomes_a_group_with_text_and_the_generator_stops_when_told() {
    let mut generator = generator(short()).await;
    generator.tell(GeneratorMsg::Lease(vec![lease(3, "2+5=", 4, 0)]));
    let GeneratorEvent::Started { group, version } = generator.event().await else { panic!("not started") };
    assert_eq!((group, version), (GroupId(3), PolicyVersion(0)));
    let group = generator.group().await;
    assert_eq!((group.id(), group.generator, group.completions.len()), (GroupId(3), GeneratorId(2), 4));
    assert_eq!(group.prompt_tokens.len(), 4);
    let (_, tokenizer) = model();
    for completion in &group.completions {
        assert_eq!(completion.text, tokenizer.decode(&completion.tokens, true).unwrap());
        assert!(completion.logprobs.iter().all(|l| l.is_finite() && *l <= 0.0));
    }
    generator.stop().await;
}

#[tokio::test]
async fn the_same_wave_gives_the_same_groups_in_two_runs() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut generator = generator(short()).await;
        let wave: Vec<Lease> = (0..9).map(|i| lease(i, &format!("{i}+{i}="), 3, 0)).collect();
        generator.tell(GeneratorMsg::Lease(wave));
        let mut groups = Vec::new();
        for _ in 0..9 {
            groups.push(generator.group().await);
        }
        generator.stop().await;
        runs.push(groups);
    }
    assert_eq!(runs[0], runs[1], "order, tokens and log-probs, to the bit");
}

#[tokio::test]
async fn weights_are_swapped_reported_and_used_and_release_who_waits_for_them() {
    let mut generator = generator(short()).await;
    generator.tell(GeneratorMsg::Lease(vec![lease(0, "1+1=", 2, 3)]));
    let loaded = generator.load(3).await.unwrap();
    assert_eq!(loaded.version, PolicyVersion(3));
    let first = generator.event().await;
    assert!(
        matches!(first, GeneratorEvent::Loaded { generator: GeneratorId(2), version: PolicyVersion(3) }),
        "{first:?}"
    );
    let group = generator.group().await;
    assert_eq!(group.start_version, PolicyVersion(3));
    generator.stop().await;
}

#[tokio::test]
async fn a_frozen_generator_samples_nothing_but_takes_weights() {
    let mut generator = generator(short()).await;
    let (frozen, stands_still) = reply();
    generator.tell(GeneratorMsg::Freeze(frozen));
    answer(stands_still).await.unwrap();
    generator.tell(GeneratorMsg::Lease(vec![lease(0, "1+1=", 2, 0)]));
    assert_eq!(generator.load(1).await.unwrap().version, PolicyVersion(1));
    assert!(matches!(generator.event().await, GeneratorEvent::Loaded { .. }), "nothing started before");
    generator.tell(GeneratorMsg::Thaw);
    assert_eq!(generator.group().await.start_version, PolicyVersion(1));
    generator.stop().await;
}

#[tokio::test]
async fn cancelled_and_unfit_groups_are_reported_as_dropped() {
    let mut generator = generator(short()).await;
    let (frozen, stands_still) = reply();
    generator.tell(GeneratorMsg::Freeze(frozen));
    answer(stands_still).await.unwrap();
    generator.tell(GeneratorMsg::Lease(vec![
        lease(0, "1+1=", 2, 9),
        lease(1, "123456789+123456789=", 2, 0),
        lease(2, "", 2, 0),
    ]));
    generator.tell(GeneratorMsg::Thaw);
    let mut dropped = Vec::new();
    while dropped.len() < 3 {
        if dropped.len() == 2 {
            generator.tell(GeneratorMsg::Cancel(vec![GroupId(0), GroupId(1)]));
        }
        let GeneratorEvent::Dropped { group, reason } = generator.event().await else { panic!("only drops are due") };
        dropped.push((group.0, reason));
    }
    dropped.sort();
    assert_eq!(dropped, [(0, DropReason::Cancelled), (1, DropReason::TooLong), (2, DropReason::TooLong)]);
    generator.stop().await;
}

#[tokio::test]
async fn a_failing_engine_fails_the_actor_and_whoever_waits_hears_of_it() {
    let mut config = short();
    config.slots = 0;
    let generator = generator(config).await;
    assert_eq!(generator.load(1).await, Err(Lost), "the engine is gone, or goes with the request");
    timeout(PATIENCE, generator.joined).await.expect("the actor lives on without an engine").unwrap();
}

/// Judges an answer right if it has an even number of tokens, and has no verdict for one prompt.
fn judge(mut requests: mpsc::UnboundedReceiver<VerifierMsg>) {
    tokio::spawn(async move {
        while let Some(VerifierMsg::Verify(request)) = requests.recv().await {
            let void = request.group.lease.prompt.id == "4+4=";
            let even = |c: &counterpoint_rollout::Completion| c.tokens.len().is_multiple_of(2);
            let verdict = |c| match even(c) {
                _ if void => Verdict::Void(VoidReason::Timeout),
                true => Verdict::Correct,
                false => Verdict::Incorrect,
            };
            let verdicts = request.group.completions.iter().map(verdict).collect();
            request.reply.send(verdicts);
        }
    });
}

async fn evaluator(
    texts: &[&str],
    timeout_seconds: f64,
    verifier: DerivedActorRef<VerifierMsg>,
) -> ActorRef<EvaluatorMsg> {
    let start = EvaluatorStart {
        prompts: texts.iter().map(|text| prompt(text)).collect(),
        tokenizer: model().1,
        config: EvalConfig { samples: 4, timeout_seconds, ..EvalConfig::default() },
        generator: short(),
        seed: 5,
        threads: 1,
        verifier,
        verify_deadline: PATIENCE,
    };
    Actor::spawn(None, EvaluatorActor, start).await.unwrap().0
}

fn evaluate(
    evaluator: &ActorRef<EvaluatorMsg>,
    version: u64,
) -> oneshot::Receiver<Result<Result<EvalReport, String>, Lost>> {
    let (reply, report) = reply();
    let request = Evaluate { snapshot: snapshot(&model().0, version), step: version, reply };
    evaluator.cast(EvaluatorMsg::Evaluate(request)).unwrap();
    report
}

#[tokio::test]
async fn evaluations_count_what_is_void_or_unfit_as_wrong_and_repeat_themselves() {
    let (verifier, requests) = probe().await;
    judge(requests);
    let evaluator = evaluator(&["1+1=", "2+2=", "4+4=", "123456789+123456789=", "3+3="], 60.0, verifier).await;
    let pending = [evaluate(&evaluator, 0), evaluate(&evaluator, 1), evaluate(&evaluator, 0)];
    let mut reports = Vec::new();
    for report in pending {
        reports.push(answer(report).await.unwrap().unwrap());
    }
    let [first, second, third] = &reports[..] else { panic!("three were asked for") };
    assert_eq!((first.answers, first.void_share, first.pass_at_k.len()), (20, 0.4, 3));
    assert!(first.accuracy > 0.0 && first.accuracy <= 0.6, "{first:?}");
    assert!((first.pass_at_k[0].value - first.accuracy).abs() < 1e-9, "pass@1 is the accuracy of hard verdicts");
    assert_eq!(second.policy_version, PolicyVersion(1));
    assert_eq!((first.accuracy, first.mean_tokens), (third.accuracy, third.mean_tokens), "same weights, same noise");
    evaluator.stop(None);
}

#[tokio::test]
async fn an_evaluation_that_takes_too_long_is_answered_with_what_was_missing() {
    // This verifier keeps every request and never answers.
    let (verifier, _requests) = probe().await;
    let evaluator = evaluator(&["1+1="], 0.2, verifier).await;
    let problem = answer(evaluate(&evaluator, 0)).await.unwrap().unwrap_err();
    assert!(problem.contains("of 1 prompts") && problem.contains("0 judged"), "{problem}");
    evaluator.stop(None);
}

/// The next question. The engine samples in real time: the paused clock stands still meanwhile.
async fn question(requests: &mut mpsc::UnboundedReceiver<VerifierMsg>) -> counterpoint_rollout::VerifyRequest {
    let (asked, wait) = std::sync::mpsc::channel::<()>();
    let clock_stands = tokio::task::spawn_blocking(move || wait.recv().is_err());
    let Some(VerifierMsg::Verify(request)) = requests.recv().await else { panic!("the evaluator asks") };
    drop(asked);
    assert!(clock_stands.await.unwrap());
    request
}

fn all_right(request: counterpoint_rollout::VerifyRequest) {
    let verdicts = vec![Verdict::Correct; request.group.completions.len()];
    request.reply.send(verdicts);
}

#[tokio::test(start_paused = true)]
async fn what_a_verifier_loses_is_asked_again_once_the_next_one_is_up() {
    let (verifier, mut requests) = probe::<VerifierMsg>().await;
    let evaluator = evaluator(&["1+1=", "2+2="], 60.0, verifier).await;
    let report = evaluate(&evaluator, 0);
    let (early, late) = (question(&mut requests).await, question(&mut requests).await);
    let mut groups = [early.group.id(), late.group.id()];
    groups.sort();
    drop(early); // the news of one loss comes before the next verifier, that of the other after it
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (next, mut requests) = probe::<VerifierMsg>().await;
    evaluator.cast(EvaluatorMsg::VerifierUp(next)).unwrap();
    let first = question(&mut requests).await;
    drop(late);
    let second = question(&mut requests).await;
    let mut asked = [first.group.id(), second.group.id()];
    asked.sort();
    assert_eq!(asked, groups);
    all_right(first);
    all_right(second);
    let report = report.await.unwrap().unwrap().unwrap();
    assert_eq!((report.accuracy, report.void_share), (1.0, 0.0));
    assert!(requests.try_recv().is_err(), "each was asked once");
    evaluator.stop(None);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_two_verifiers_lose_counts_as_void() {
    let (verifier, mut requests) = probe::<VerifierMsg>().await;
    let evaluator = evaluator(&["1+1="], 60.0, verifier).await;
    let report = evaluate(&evaluator, 0);
    drop(question(&mut requests).await);
    let (next, mut requests) = probe::<VerifierMsg>().await;
    evaluator.cast(EvaluatorMsg::VerifierUp(next)).unwrap();
    drop(question(&mut requests).await);
    let report = report.await.unwrap().unwrap().unwrap();
    assert_eq!((report.accuracy, report.void_share), (0.0, 1.0));
    evaluator.stop(None);
}

#[tokio::test(start_paused = true)]
async fn without_a_next_verifier_the_evaluation_ends_with_its_timeout() {
    let (verifier, mut requests) = probe::<VerifierMsg>().await;
    let evaluator = evaluator(&["1+1="], 60.0, verifier).await;
    let report = evaluate(&evaluator, 0);
    drop(question(&mut requests).await);
    let problem = report.await.unwrap().unwrap().unwrap_err();
    assert!(problem.contains("1 were sampled and 0 judged"), "{problem}");
    evaluator.stop(None);
}
