//! What the tests of the pool are made of: groups, scripted verifiers, and a pool with someone who waits for its replies.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{
    Completion, FinishReason, GeneratorId, Group, GroupId, Lease, Lost, PolicyVersion, Prompt, PromptContent, Reply,
    VerifierMsg, VerifyRequest,
};
use counterpoint_verifier::{
    Home, Mode, PoolArgs, PoolMsg, Question, Verdict, Verifier, VerifierConfig, VerifierPool, async_trait,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A group of finished answers whose prompt's id is the group's number.
pub(crate) fn group(id: u64, answers: usize) -> Arc<Group> {
    finished(id, &vec![FinishReason::Stop; answers])
}

/// A group with one answer per reason.
pub(crate) fn finished(id: u64, reasons: &[FinishReason]) -> Arc<Group> {
    let content = PromptContent::Text("2 + 2 = ".into());
    let prompt = Arc::new(Prompt {
        id: id.to_string(),
        content,
        answer: "4".into(),
        source: "test".into(),
        info: Default::default(),
    });
    let lease = Lease {
        group: GroupId(id),
        prompt,
        epoch: 0,
        attempt: 0,
        answers: reasons.len() as u32,
        position: id,
        min_version: PolicyVersion(0),
        deadline: Duration::from_secs(600),
    };
    let completion = |&finish| Completion {
        tokens: Vec::new(),
        logprobs: Vec::new(),
        versions: Vec::new(),
        finish,
        text: "4".into(),
    };
    let completions = reasons.iter().map(completion).collect();
    let (start_version, generator) = (PolicyVersion(0), GeneratorId(0));
    Arc::new(Group { lease, prompt_tokens: Vec::new(), completions, start_version, generator })
}

/// A verifier that does what a function says.
struct Script<F>(Mode, F);

#[async_trait]
impl<F, Verdicts> Verifier for Script<F>
where
    F: Fn(Question) -> Verdicts + Send + Sync + 'static,
    Verdicts: Future<Output = Vec<Verdict>> + Send,
{
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        (self.1)(question.clone()).await
    }

    fn mode(&self) -> Mode {
        self.0
    }
}

pub(crate) fn script<F, Verdicts>(mode: Mode, verify: F) -> Arc<dyn Verifier>
where
    F: Fn(Question) -> Verdicts + Send + Sync + 'static,
    Verdicts: Future<Output = Vec<Verdict>> + Send,
{
    Arc::new(Script(mode, verify))
}

/// A verifier that takes its time and finds everything right.
pub(crate) fn takes(time: Duration) -> Arc<dyn Verifier> {
    script(Mode::Async, move |question| async move {
        tokio::time::sleep(time).await;
        right(&question)
    })
}

pub(crate) fn right(question: &Question) -> Vec<Verdict> {
    question.each(|_| true)
}

/// A running pool.
pub(crate) struct Pool {
    actor: ActorRef<PoolMsg>,
    ended: JoinHandle<()>,
}

/// The answer to come.
pub(crate) type Answer<T> = oneshot::Receiver<Result<T, Lost>>;

impl Pool {
    pub(crate) async fn start(verifier: Arc<dyn Verifier>, config: VerifierConfig) -> Self {
        let args = PoolArgs { name: "test".into(), verifier, home: Home::default(), config };
        let (actor, ended) = VerifierPool::start(args, None).await.unwrap();
        Self { actor, ended }
    }

    /// Also gives the error with which the pool will have failed.
    pub(crate) async fn start_supervised(
        verifier: Arc<dyn Verifier>,
        config: VerifierConfig,
    ) -> (Self, oneshot::Receiver<String>) {
        let (failed, failure) = oneshot::channel();
        let (supervisor, _) = Actor::spawn(None, Supervisor, Some(failed)).await.unwrap();
        let args = PoolArgs { name: "test".into(), verifier, home: Home::default(), config };
        let (actor, ended) = VerifierPool::start(args, Some(supervisor.get_cell())).await.unwrap();
        (Self { actor, ended }, failure)
    }

    pub(crate) fn send(&self, message: VerifierMsg) {
        // A pool that is gone drops the message, and its reply says so.
        let _ = self.actor.get_derived::<VerifierMsg>().send_message(message);
    }

    pub(crate) fn verify(&self, group: Arc<Group>, deadline: Duration) -> Answer<Vec<Verdict>> {
        let (reply, answer) = reply();
        self.send(VerifierMsg::Verify(VerifyRequest { group, deadline, reply }));
        answer
    }

    pub(crate) fn drain(&self) -> Answer<()> {
        let (reply, answer) = reply();
        self.send(VerifierMsg::Drain(reply));
        answer
    }

    pub(crate) async fn stop(&self) {
        self.actor.stop(None);
        self.actor.wait(None).await.unwrap();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

fn reply<T: Send + 'static>() -> (Reply<T>, Answer<T>) {
    let (sender, answer) = oneshot::channel();
    // A test that no longer listens does not care.
    (Reply::new(move |result| drop(sender.send(result))), answer)
}

/// Passes on the error of the first actor that fails, and keeps the state of one that stops, as a supervisor may.
struct Supervisor;

impl Actor for Supervisor {
    type Msg = ();
    type State = (Option<oneshot::Sender<String>>, Vec<SupervisionEvent>);
    type Arguments = Option<oneshot::Sender<String>>;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        failed: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok((failed, Vec::new()))
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        (failed, kept): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = &event
            && let Some(failed) = failed.take()
        {
            let _ = failed.send(error.to_string());
        }
        kept.push(event);
        Ok(())
    }
}
