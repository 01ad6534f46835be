//! A verifier actor of one's own, in place of the built-in pool: it gathers groups for a moment and judges them together, as
//! one would for a reward model that is fast only on large batches.
//! `cargo run --release --example batching_actor -- run configs/quickstart.toml verifier.actor=batching run.dir=runs/batching`
use std::process::ExitCode;
use std::time::Duration;

use counterpoint::verifier::ractor::{Actor, ActorProcessingErr, ActorRef};
use counterpoint::verifier::{Judge, PoolArgs, Reply, VerifierMsg, VerifyRequest, convertible};
use counterpoint::{App, Verdict};

/// Groups in one batch at most.
const BATCH: usize = 16;
/// How long the first group of a batch waits for others.
const GATHER: Duration = Duration::from_millis(5);

/// What comes in: the contract, and the end of the time to gather.
enum Message {
    Contract(VerifierMsg),
    Gathered,
}

convertible! { Message { Contract(VerifierMsg) } }

struct Batching;

struct State {
    judge: Judge,
    waiting: Vec<VerifyRequest>,
    drains: Vec<Reply<()>>,
}

impl Actor for Batching {
    type Msg = Message;
    type State = State;
    type Arguments = PoolArgs;

    async fn pre_start(&self, _: ActorRef<Message>, args: PoolArgs) -> Result<State, ActorProcessingErr> {
        let judge = Judge::new(args.name, args.verifier, args.config.truncated);
        judge.start(&args.home).await?;
        Ok(State { judge, waiting: Vec::new(), drains: Vec::new() })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Contract(VerifierMsg::Verify(request)) => {
                if state.waiting.is_empty() {
                    me.send_after(GATHER, || Message::Gathered);
                }
                state.waiting.push(request);
                if state.waiting.len() >= BATCH {
                    state.judge_all().await;
                }
            }
            // A dropped request answers `Lost`, which is what whoever cancels expects.
            Message::Contract(VerifierMsg::Cancel(groups)) => state.waiting.retain(|r| !groups.contains(&r.group.id())),
            Message::Contract(VerifierMsg::Drain(reply)) => state.drains.push(reply),
            Message::Gathered => state.judge_all().await,
        }
        if state.waiting.is_empty() {
            state.drains.drain(..).for_each(|reply| reply.send(()));
        }
        Ok(())
    }
}

impl State {
    /// The exact verifier answers at once; with a slow one, spawn this and let it send its verdicts.
    async fn judge_all(&mut self) {
        for request in self.waiting.drain(..) {
            let verdicts: Vec<Verdict> = self.judge.group(&request.group, request.deadline).await.verdicts;
            request.reply.send(verdicts);
        }
    }
}

fn main() -> ExitCode {
    App::new().verifier_actor("batching", || Batching).main()
}
