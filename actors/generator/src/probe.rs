//! The probe: how far the sampler's recorded log-probs are from those of libtorch's pass over whole sequences, where no trained
//! token can say it. (The learner's passes are libtorch's or by kernels that add as the sampler's do.) With staleness the learner has left a token's version by the time that it
//! trains it; but the generator still holds the weights. So now and then a finished group, all tokens of which are of the
//! loaded weights, is scored again with these, on a thread of its own, one answer at a time.
//!
//! Limits: a group that runs across a swap is no probe, so that these are rather the shorter answers where swaps are frequent.
//! While a probe is at work its weights stay in memory. One that fails is logged and ends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use counterpoint_policy::{PolicyError, Snapshot, device, sequence_logprobs};
use counterpoint_rollout::{GeneratorId, PolicyVersion, telemetry};
use crossbeam::channel::{Receiver, Sender, bounded};

use crate::{Engine, GeneratorError, Sampled};

/// See the module. Dropping it ends the thread after the answer in progress.
#[derive(Debug)]
pub(crate) struct Probe {
    every: u64,
    /// Groups finished since the last one that was taken.
    finished: u64,
    /// `None` when it ends.
    work: Option<Sender<Job>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    snapshot: Arc<Snapshot>,
    temperature: f64,
    sampled: Sampled,
}

/// |recorded - scored again| over the tokens of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Differences {
    sum: f64,
    max: f64,
    tokens: u64,
}

impl Probe {
    /// The probe of a generator; none for `every` = 0.
    pub(crate) fn start(id: GeneratorId, every: u64) -> Result<Option<Self>, GeneratorError> {
        if every == 0 {
            return Ok(None);
        }
        let (work, jobs) = bounded(1);
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let body = move || score_all(&jobs, &end);
        let thread = std::thread::Builder::new().name(format!("probe-{}", id.0)).spawn(body);
        let thread = Some(thread.map_err(GeneratorError::Thread)?);
        Ok(Some(Self { every, finished: 0, work: Some(work), ending, thread }))
    }

    /// Takes the group if one is due and this one is fit. Never waits: where the last one is still at work, a later one is taken.
    pub(crate) fn finished(&mut self, engine: &Engine, sampled: &Sampled) {
        self.finished += 1;
        let Some(work) = self.work.as_ref().filter(|work| !work.is_full()) else { return };
        if self.finished < self.every || !all_of(sampled, engine.version()) {
            return;
        }
        let (snapshot, temperature) = (Arc::clone(engine.snapshot()), engine.options().temperature);
        if work.try_send(Job { snapshot, temperature, sampled: sampled.clone() }).is_ok() {
            self.finished = 0;
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.work = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the probe's thread panicked");
        }
    }
}

/// Whether all tokens are of one version.
fn all_of(sampled: &Sampled, version: PolicyVersion) -> bool {
    sampled.completions.iter().flat_map(|answer| &answer.versions).all(|span| span.version == version)
}

fn score_all(jobs: &Receiver<Job>, ending: &AtomicBool) {
    device::set_threads(1);
    for job in jobs {
        let (group, version) = (job.sampled.group, job.snapshot.version());
        match compare(&job, ending) {
            Ok(Some(Differences { sum, max, tokens })) => {
                let mean = sum / tokens as f64;
                telemetry::mismatch_probed(mean, max, tokens);
                tracing::debug!(%group, %version, mean, max, tokens, "probe of sampler and learner");
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("the probe of {group}, sampled with {version}, failed: {error}"),
        }
    }
}

/// `None` if there is nothing to compare, or the end came before it was done.
fn compare(job: &Job, ending: &AtomicBool) -> Result<Option<Differences>, PolicyError> {
    let Job { snapshot, temperature, sampled } = job;
    let prompt = &sampled.prompt_tokens;
    snapshot.arrive()?;
    let mut found = Differences::default();
    for answer in &sampled.completions {
        if ending.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let ids = [&prompt[..], &answer.tokens].concat();
        let again = sequence_logprobs(snapshot.config(), snapshot.weights(), &ids, prompt.len(), *temperature)?;
        for (recorded, again) in answer.logprobs.iter().zip(again) {
            let difference = (f64::from(*recorded) - f64::from(again)).abs();
            found.sum += difference;
            found.max = found.max.max(difference);
            found.tokens += 1;
        }
    }
    Ok((found.tokens > 0).then_some(found))
}

#[cfg(test)]
mod tests {
    use counterpoint_policy::{Device, Kind, Layout, ModelConfig, Tensor};
    use counterpoint_rollout::{GroupId, NoiseKey, Purpose};

    use super::*;
    use crate::{EngineOptions, Event, Filters, OnSwap, Request};

    fn snapshot(version: u64) -> Arc<Snapshot> {
        let json = serde_json::json!({"model_type": "llama", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32, "rms_norm_eps": 1e-6});
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
        let config = ModelConfig::from_dir(dir.path()).unwrap();
        let flat = (Tensor::arange(Layout::new(&config).numel(), (Kind::Float, Device::Cpu)) + version as f64).sin();
        Arc::new(Snapshot::new(Arc::new(config), PolicyVersion(version), flat).unwrap())
    }

    fn engine() -> Engine {
        let options = EngineOptions {
            slots: 4,
            max_prompt_tokens: 8,
            max_new_tokens: 6,
            max_time: None,
            prefill_chunk: 8,
            kv_bytes: None,
            kernels: true,
            kernel_weights: counterpoint_policy::kernels::WeightFormat::Float32,
            temperature: 0.7,
            filters: Filters::default(),
            on_swap: OnSwap::Keep,
            eos_tokens: Vec::new(),
            stop: Vec::new(),
        };
        Engine::new(snapshot(3), options, Arc::new(|_| String::new())).unwrap()
    }

    /// A group of two answers; with new weights after some steps.
    fn sample(engine: &mut Engine, group: u64, swap_after: Option<usize>) -> Sampled {
        let noise = (0..2).map(|s| NoiseKey::new(0, Purpose::Train, 0, &group.to_string(), 0, s)).collect();
        let request = Request { group: GroupId(group), prompt: vec![1, 2, 3], noise, min_version: PolicyVersion(0) };
        engine.submit(request).unwrap();
        for step in 0.. {
            if swap_after == Some(step) {
                engine.load(snapshot(engine.version().0 + 1)).unwrap();
            }
            let finished = engine.step().unwrap().into_iter().find_map(|event| match event {
                Event::Finished(sampled) => Some(sampled),
                _ => None,
            });
            if let Some(sampled) = finished {
                return sampled;
            }
        }
        unreachable!("an answer has an end")
    }

    /// A probe without a thread: what it takes stays in the channel.
    fn unattended(every: u64) -> (Probe, Receiver<Job>) {
        let (work, jobs) = bounded(1);
        (Probe { every, finished: 0, work: Some(work), ending: Arc::default(), thread: None }, jobs)
    }

    #[test]
    fn the_difference_is_float32_s_and_a_wrong_log_prob_is_seen() {
        let mut engine = engine();
        let sampled = sample(&mut engine, 0, None);
        let mut job = Job { snapshot: Arc::clone(engine.snapshot()), temperature: 0.7, sampled };
        let found = compare(&job, &AtomicBool::new(false)).unwrap().unwrap();
        assert!(found.tokens == 12 && found.max < 1e-5, "{found:?}");
        job.sampled.completions[1].logprobs[4] += 0.25;
        let found = compare(&job, &AtomicBool::new(false)).unwrap().unwrap();
        assert!((found.max - 0.25).abs() < 1e-5 && (found.sum - 0.25).abs() < 1e-4, "{found:?}");
        assert_eq!(compare(&job, &AtomicBool::new(true)).unwrap(), None, "the end does not wait for it");
    }

    #[test]
    fn the_first_fit_group_after_the_interval_is_taken_and_none_while_one_waits() {
        let mut engine = engine();
        let (mut probe, jobs) = unattended(2);
        let mut finish = |group, swap_after| {
            let sampled = sample(&mut engine, group, swap_after);
            probe.finished(&engine, &sampled);
        };
        finish(0, None);
        assert!(jobs.is_empty(), "not yet due");
        finish(1, Some(3));
        assert!(jobs.is_empty(), "of two versions");
        finish(2, None);
        finish(3, None);
        finish(4, None);
        let job = jobs.try_recv().unwrap();
        assert_eq!((job.sampled.group, job.snapshot.version()), (GroupId(2), PolicyVersion(4)));
        finish(5, None);
        assert_eq!(
            jobs.try_recv().unwrap().sampled.group,
            GroupId(5),
            "due since group 4, when the other one was waiting"
        );
        // All of one version, but not of the loaded one.
        let sampled = sample(&mut engine, 6, None);
        engine.load(snapshot(9)).unwrap();
        (0..3).for_each(|_| probe.finished(&engine, &sampled));
        assert!(jobs.is_empty());
    }

    #[test]
    fn a_generator_s_probe_ends_with_it_and_zero_is_none() {
        assert!(Probe::start(GeneratorId(0), 0).unwrap().is_none());
        let mut engine = engine();
        let sampled = sample(&mut engine, 0, None);
        let holders = Arc::strong_count(engine.snapshot());
        let mut probe = Probe::start(GeneratorId(0), 1).unwrap().unwrap();
        probe.finished(&engine, &sampled);
        drop(probe);
        assert_eq!(Arc::strong_count(engine.snapshot()), holders, "its weights are not held any longer");
    }
}
