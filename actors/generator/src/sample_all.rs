//! Sampling a list of requests to its end, results in the order of the list or as they finish: what `eval`, `generate` and
//! the evaluator do.

use std::collections::{HashMap, VecDeque};
use std::iter::Fuse;

use counterpoint_rollout::{DropReason, GroupId};

use crate::{Engine, Event, GeneratorError, Request, Sampled};

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// All answers are there.
    Answered(Sampled),
    /// It was not sampled.
    Dropped {
        /// Which group.
        group: GroupId,
        /// Why: its prompt does not fit.
        reason: DropReason,
    },
}

impl Outcome {
    /// Whose outcome it is.
    pub fn group(&self) -> GroupId {
        match self {
            Self::Answered(sampled) => sampled.group,
            Self::Dropped { group, .. } => *group,
        }
    }
}

/// Samples `requests` with an idle engine that nobody else feeds.
///
/// The iterator yields one outcome per request, in their order, each as soon as it and all before it are there; requests
/// are drawn from theirs when the engine has room. Results that wait for an earlier one are held in memory. Their
/// `min_version` must not be above the engine's. After an error the iterator ends; dropping it early abandons what runs.
pub fn sample_all<I: IntoIterator<Item = Request>>(engine: &mut Engine, requests: I) -> SampleAll<'_, I::IntoIter> {
    SampleAll {
        engine,
        requests: requests.into_iter().fuse(),
        order: VecDeque::new(),
        done: HashMap::new(),
        in_order: true,
        failed: false,
    }
}

/// See [`sample_all`].
pub struct SampleAll<'a, I: Iterator<Item = Request>> {
    engine: &'a mut Engine,
    requests: Fuse<I>,
    /// What is yielded next: submitted, and not yielded yet.
    order: VecDeque<GroupId>,
    done: HashMap<GroupId, Outcome>,
    /// False: `order` is that in which requests finished.
    in_order: bool,
    failed: bool,
}

impl<I: Iterator<Item = Request>> SampleAll<'_, I> {
    /// Yields outcomes as they come, instead of in the order of the requests. To be called before the first is taken.
    #[must_use]
    pub fn as_finished(mut self) -> Self {
        self.in_order = false;
        self
    }

    /// One decode step. False if there is nothing left to do.
    pub fn step(&mut self) -> Result<bool, GeneratorError> {
        // One more group than there are slots keeps all slots busy, since a group has at least one answer.
        while self.engine.groups() <= self.engine.options().slots
            && let Some(request) = self.requests.next()
        {
            if self.in_order {
                self.order.push_back(request.group);
            }
            self.engine.submit(request)?;
        }
        if self.engine.is_idle() {
            return Ok(false);
        }
        for event in self.engine.step()? {
            let outcome = match event {
                Event::Started { .. } => continue,
                Event::Finished(sampled) => Outcome::Answered(sampled),
                Event::Dropped { group, reason } => Outcome::Dropped { group, reason },
            };
            if !self.in_order {
                self.order.push_back(outcome.group());
            }
            self.done.insert(outcome.group(), outcome);
        }
        Ok(true)
    }

    /// The next outcome, if it is there.
    pub fn ready(&mut self) -> Option<Outcome> {
        let outcome = self.done.remove(self.order.front()?)?;
        self.order.pop_front();
        Some(outcome)
    }
}

impl<I: Iterator<Item = Request>> Iterator for SampleAll<'_, I> {
    type Item = Result<Outcome, GeneratorError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            if let Some(outcome) = self.ready() {
                return Some(Ok(outcome));
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl<I: Iterator<Item = Request>> Drop for SampleAll<'_, I> {
    fn drop(&mut self) {
        self.engine.abandon();
    }
}
