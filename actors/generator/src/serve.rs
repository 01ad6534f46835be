//! What a generator's engine thread does: commands between decode steps, events up, time measured.

use std::collections::HashMap;

use counterpoint_policy::{LoadWeights, Loaded, Tokenizer, device};
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::contract::GeneratorEvent;
use counterpoint_rollout::{DropReason, GeneratorId, Group, GroupId, Lease, Purpose, Reply, telemetry};
use crossbeam::channel::{Receiver, TryRecvError};

use crate::probe::Probe;
use crate::{Engine, Event, GeneratorError, Noise, Request, Sampled};

/// Looked at between two decode steps.
#[derive(Debug)]
pub(crate) enum Control {
    Load(LoadWeights),
    Cancel(Vec<GroupId>),
    Freeze(Reply<()>),
    Thaw,
}

pub(crate) struct Server<R> {
    pub(crate) id: GeneratorId,
    /// As metrics name it.
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) engine: Engine,
    /// Takes what happened, without blocking.
    pub(crate) report: R,
    /// Of every group in the engine.
    pub(crate) leases: HashMap<GroupId, Lease>,
    pub(crate) frozen: bool,
    /// Of loads whose weights are not in use yet.
    pub(crate) loads: Vec<Reply<Loaded>>,
    pub(crate) probe: Option<Probe>,
}

impl<R: Fn(Vec<GeneratorEvent>)> Server<R> {
    /// Runs until both channels are closed.
    pub(crate) fn run(
        mut self,
        threads: usize,
        work: &Receiver<Vec<Lease>>,
        control: &Receiver<Control>,
    ) -> Result<(), GeneratorError> {
        device::set_threads(threads);
        telemetry::policy_version(&self.name, self.engine.version());
        let mut watch = Stopwatch::start();
        loop {
            // Weights first: leases that were sent after them may need them.
            loop {
                match control.try_recv() {
                    Ok(command) => self.obey(command)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            for leases in work.try_iter() {
                self.accept(leases);
            }
            if self.frozen || self.engine.is_idle() {
                telemetry::actor_state(&self.name, "busy", watch.lap());
                let state = if self.frozen { "frozen" } else { "idle" };
                crossbeam::select! {
                    recv(control) -> command => match command {
                        Ok(command) => self.obey(command)?,
                        Err(_) => return Ok(()),
                    },
                    recv(work) -> leases => match leases {
                        Ok(leases) => self.accept(leases),
                        Err(_) => return Ok(()),
                    },
                }
                telemetry::actor_state(&self.name, state, watch.lap());
            } else {
                let events = self.engine.step()?;
                self.publish(events);
                self.answer_loads();
                telemetry::actor_state(&self.name, "busy", watch.lap());
            }
        }
    }

    fn obey(&mut self, command: Control) -> Result<(), GeneratorError> {
        match command {
            Control::Load(LoadWeights { snapshot, reply }) => {
                match self.frozen {
                    // No step will come that could take them later, and no sequence waits for one.
                    true => self.engine.load(snapshot)?,
                    false => self.engine.begin_load(snapshot)?,
                }
                self.loads.push(reply);
                self.answer_loads();
            }
            Control::Cancel(groups) => self.engine.cancel(&groups),
            Control::Freeze(reply) => {
                self.frozen = true;
                reply.send(());
            }
            Control::Thaw => self.frozen = false,
        }
        Ok(())
    }

    /// Hands leases to the engine. A prompt that cannot be encoded is dropped like one that does not fit: it never will be.
    fn accept(&mut self, leases: Vec<Lease>) {
        for lease in leases {
            let Lease { group, epoch, attempt, answers, min_version, .. } = lease;
            let noise = Noise { seed: self.seed, purpose: Purpose::Train, epoch, attempt };
            let submitted = Request::new(group, &lease.prompt, answers, noise, &self.tokenizer)
                .map_err(GeneratorError::from)
                .and_then(|request| self.engine.submit(Request { min_version, ..request }));
            match submitted {
                Ok(()) => drop(self.leases.insert(group, lease)),
                Err(error) => {
                    tracing::error!(%group, prompt = lease.prompt.id, %error, "a prompt cannot be sampled");
                    (self.report)(vec![GeneratorEvent::Dropped { group, reason: DropReason::TooLong }]);
                }
            }
        }
    }

    fn publish(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        telemetry::progress(&self.name);
        let events = events.into_iter().filter_map(|event| self.translate(event)).collect();
        (self.report)(events);
    }

    /// `None` for a group without a lease, which cannot be: the engine holds only what [`Self::accept`] gave it.
    fn translate(&mut self, event: Event) -> Option<GeneratorEvent> {
        Some(match event {
            Event::Started { group, version } => GeneratorEvent::Started { group, version },
            Event::Dropped { group, reason } => {
                self.leases.remove(&group);
                GeneratorEvent::Dropped { group, reason }
            }
            Event::Finished(sampled) => {
                if let Some(probe) = &mut self.probe {
                    probe.finished(&self.engine, &sampled);
                }
                let Sampled { group, prompt_tokens, completions, start_version } = sampled;
                let lease = self.leases.remove(&group)?;
                let group = Group { lease, prompt_tokens, completions, start_version, generator: self.id };
                GeneratorEvent::Generated(group.into())
            }
        })
    }

    /// Answers the loads whose weights, or newer ones, are in place.
    fn answer_loads(&mut self) {
        if self.loads.is_empty() || self.engine.swapping() {
            return;
        }
        let version = self.engine.version();
        telemetry::policy_version(&self.name, version);
        (self.report)(vec![GeneratorEvent::Loaded { generator: self.id, version }]);
        let pause = self.engine.take_pause();
        telemetry::weights_swapped(pause);
        for reply in self.loads.drain(..) {
            reply.send(Loaded { version, pause });
        }
    }
}
