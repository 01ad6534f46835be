use counterpoint_rollout::{PromptSet, convertible};

use super::*;

/// What the replay actor starts with.
#[derive(Debug)]
pub struct ReplayArgs {
    /// Section `[feed]`.
    pub feed: FeedConfig,
    /// Section `[replay]`.
    pub replay: ReplayConfig,
    /// `verifier.deadline_seconds`: how long the verifier has for one group.
    pub verify_deadline: Duration,
    /// `run.seed`: the order of the prompts.
    pub seed: u64,
    /// Optimiser steps of the run.
    pub max_steps: u64,
    /// The data; ids are unique.
    pub prompts: Arc<dyn PromptSet>,
    /// The checkpoint to go on from.
    pub resume: Option<Cut>,
    /// Who hears of judged groups, of the end and of failures.
    pub observer: DerivedActorRef<ReplayEvent>,
}

/// What the replay actor understands.
#[derive(Debug)]
pub enum ReplayMsg {
    /// A generator is up, or up again after a restart: it holds nothing.
    GeneratorUp {
        /// Its number, the same after a restart.
        id: GeneratorId,
        /// Where its leases go.
        mailbox: DerivedActorRef<GeneratorMsg>,
        /// How many groups it may hold at once (η = 0 ignores it: a wave is sent whole).
        window: usize,
        /// The weights that it has: the newest published ones, and after a resume at least those of the checkpoint (or leases
        /// of the cut wait until it reports that it has loaded them).
        version: PolicyVersion,
    },
    /// A generator is gone; its groups are lost.
    GeneratorDown(GeneratorId),
    /// A verifier is up, or up again: all groups without verdicts are sent to it.
    VerifierUp {
        /// Where requests go.
        mailbox: DerivedActorRef<VerifierMsg>,
    },
    /// A learner is up, or up again: batches that it has not trained are sent to it again.
    LearnerUp {
        /// Where batches go.
        mailbox: DerivedActorRef<LearnerMsg>,
        /// How many batches it takes at once, the one in training included: 1 or 2.
        credits: usize,
    },
    /// A generator reports.
    Generator(GeneratorEvent),
    /// The learner reports.
    Learner(LearnerEvent),
    /// A verifier answered, or its answer is lost.
    Verified {
        /// Which group.
        group: GroupId,
        /// Which request for it.
        ticket: u64,
        /// One verdict per completion, in order.
        result: Result<Vec<Verdict>, Lost>,
    },
    /// Start issuing: all actors are up.
    Begin,
    /// An evaluation pause: no lease and no batch goes out, deadlines do not run.
    Hold,
    /// The pause is over.
    Release,
    /// The replay part of a checkpoint, as of now.
    Cut(Reply<Cut>),
    /// The account's totals.
    Totals(Reply<LedgerTotals>),
    /// The state for people and pages.
    Status(Reply<ReplayStatus>),
    /// The timer for the next deadline fired.
    DeadlineTick,
}

convertible! { ReplayMsg { Generator(GeneratorEvent), Learner(LearnerEvent) } }
