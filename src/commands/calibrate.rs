//! `check --calibrate`: how fast each actor of a run would be here, found by doing for some seconds what it does.
//!
//! One after the other, each with the threads that it would have in the run: an engine samples the config's questions with the
//! config's model, the verifier judges the answers, a learner trains batches of them. Nothing of it is kept. What the sides cost
//! each other when they run at the same time (caches, memory bandwidth) is in none of the figures.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use counterpoint_generator::{Event, Request, Sampled};
use counterpoint_learner::Learner;
use counterpoint_policy::device;
use counterpoint_replay::feed::Feed;
use counterpoint_rollout::clock::Stopwatch;
use counterpoint_rollout::{Batch, GeneratorId, Group, GroupId, Lease, PolicyVersion, Prompt, ScoredGroup, Verdict};
use counterpoint_verifier::{Home, Judge, Registry};
use tokio::task::JoinSet;

use super::sampler::{Sampler, noise};
use super::{trainer, verify};
use crate::config::Config;
use crate::data::Questions;
use crate::error::Failure;
use crate::flow::forecast::Rates;
use crate::runtime::threads;

/// Shares of the time for sampling, judging and training. Sampling may take as long again for answers that have begun.
const SHARES: [f64; 3] = [0.4, 0.1, 0.4];

/// What was measured, and what there is to say about it.
pub(super) struct Calibration {
    pub(super) rates: Rates,
    pub(super) notes: Vec<String>,
}

/// Measures for about `seconds`, longer where a single group, judgement or step takes longer.
pub(super) fn calibrate(
    config: &Config,
    registry: &Registry,
    questions: Questions,
    seconds: f64,
) -> Result<Calibration, Failure> {
    let [sampling, judging, training] = SHARES.map(|share| share * seconds);
    let shares = threads::share(config);
    let judge = Arc::new(verify::build(&config.verifier, registry)?);
    device::set_threads(shares.generator);
    let sampled = sample(config, questions, sampling)?;
    let judged = judged(config, &judge, sampled.groups, judging)?;
    device::set_threads(shares.learner);
    let trained = train(config, &judged.groups, training)?;
    let mixed = judged.groups.iter().filter(|scored| scored.mixed()).count();
    let groups = judged.groups.len();
    let mut notes =
        vec![format!("{groups} groups sampled and judged, {mixed} of them mixed; {} steps trained", trained.steps)];
    if mixed == 0 {
        notes.push(format!(
            "none of {groups} groups was mixed: the forecast takes 1 in {}; a run without any fails after {}",
            2 * groups,
            10 * config.feed.prompts_per_step
        ));
    }
    let rates = Rates {
        sampled: sampled.tokens_per_second * f64::from(config.generator.count),
        trained: trained.tokens_per_second,
        verdicts: judged.verdicts_per_second,
        verdict_seconds: judged.seconds_per_group,
        publish_seconds: trained.publish_seconds,
        answer_tokens: sampled.answer_tokens,
        mixed: (mixed as f64).max(0.5) / groups as f64,
    };
    Ok(Calibration { rates, notes })
}

struct Sampling {
    groups: Vec<Arc<Group>>,
    tokens_per_second: f64,
    answer_tokens: f64,
}

/// Keeps an engine as full as a run would for `seconds`, then lets the begun groups end: short answers alone would end in time.
fn sample(config: &Config, questions: Questions, seconds: f64) -> Result<Sampling, Failure> {
    let mut sampler =
        Sampler::load(&config.model.path, &config.run.device, &config.model.chat_options(), |tokenizer| {
            config.generator.engine_options(tokenizer)
        })?;
    let mut feed = Feed::new(&config.feed, config.run.seed, questions).map_err(Failure::usage)?;
    let at_once = at_once(config);
    let mut asked: HashMap<GroupId, Arc<Prompt>> = HashMap::new();
    let (mut groups, mut issued, mut too_long, mut rate) = (Vec::new(), 0, 0u64, None);
    let watch = Stopwatch::start();
    loop {
        let passed = watch.elapsed().as_secs_f64();
        if passed >= seconds && rate.is_none() {
            rate = Some(sampler.engine.tokens() as f64 / passed);
        }
        if passed >= 2.0 * seconds && !groups.is_empty() || passed >= 6.0 * seconds {
            break;
        }
        // No more per round than may be there at once: a question that is too long takes no place.
        for _ in 0..at_once {
            if rate.is_some() || sampler.engine.groups() >= at_once {
                break;
            }
            let Some(draw) = feed.draw() else { break };
            let prompt = feed.prompt(draw.row).map_err(Failure::Failed)?;
            let group = GroupId(issued);
            let request = Request::new(
                group,
                &prompt,
                config.feed.answers_per_prompt,
                noise(config.run.seed),
                &sampler.tokenizer,
            );
            sampler.engine.submit(request.map_err(Failure::usage)?).map_err(Failure::failed)?;
            asked.insert(group, prompt);
            issued += 1;
        }
        if sampler.engine.is_idle() {
            break;
        }
        for event in sampler.engine.step().map_err(Failure::failed)? {
            match event {
                Event::Finished(sampled) => {
                    groups.extend(asked.remove(&sampled.group).map(|prompt| Arc::new(group_of(prompt, sampled))));
                }
                Event::Dropped { .. } => too_long += 1,
                Event::Started { .. } => {}
            }
        }
    }
    let passed = watch.elapsed().as_secs_f64();
    let tokens_per_second = rate.unwrap_or(sampler.engine.tokens() as f64 / passed);
    let answers: Vec<usize> =
        groups.iter().flat_map(|group| group.completions.iter().map(|c| c.tokens.len())).collect();
    if answers.is_empty() && too_long > 0 {
        return Err(Failure::Usage(format!(
            "data.train: all of {too_long} questions are too long for generator.max_prompt_tokens = {} and the model's context; \
             raise it, or give shorter ones",
            config.generator.max_prompt_tokens
        )));
    }
    if answers.is_empty() {
        return Err(Failure::Failed(format!(
            "no group of feed.answers_per_prompt = {} answers ended within {passed:.0} s, at {tokens_per_second:.0} tokens/s; \
             calibrate for longer (--seconds)",
            config.feed.answers_per_prompt
        )));
    }
    let answer_tokens = answers.iter().sum::<usize>() as f64 / answers.len() as f64;
    Ok(Sampling { groups, tokens_per_second, answer_tokens })
}

/// Groups that one generator holds at once in a run: enough for its slots, and no more than may be in flight.
fn at_once(config: &Config) -> usize {
    let batch = u64::from(config.feed.prompts_per_step);
    let admitted = batch.saturating_mul(u64::from(config.replay.max_staleness) + 1);
    let in_flight =
        admitted.min(config.replay.max_in_flight.unwrap_or(u64::MAX)).div_ceil(u64::from(config.generator.count));
    let filled = config.generator.slots.div_ceil(config.feed.answers_per_prompt as usize) + 1;
    filled.min(usize::try_from(in_flight).unwrap_or(usize::MAX)).max(1)
}

fn group_of(prompt: Arc<Prompt>, sampled: Sampled) -> Group {
    let Sampled { group, prompt_tokens, completions, start_version } = sampled;
    let lease = Lease {
        group,
        prompt,
        epoch: 0,
        attempt: 0,
        answers: u32::try_from(completions.len()).unwrap_or(u32::MAX),
        position: group.0,
        min_version: start_version,
        deadline: Duration::MAX,
    };
    Group { lease, prompt_tokens, completions, start_version, generator: GeneratorId(0) }
}

struct Judging {
    groups: Vec<ScoredGroup>,
    verdicts_per_second: f64,
    seconds_per_group: f64,
}

/// Judges with as many workers as the run has, at least as many groups as there are workers, for `seconds`.
fn judged(config: &Config, judge: &Arc<Judge>, groups: Vec<Arc<Group>>, seconds: f64) -> Result<Judging, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let judging = runtime.block_on(async {
        judge.start(&Home::default()).await.map_err(Failure::failed)?;
        let judging = judge_all(config, judge, groups, seconds).await;
        judge.stop().await;
        judging
    });
    // Merely dropping the runtime would wait for a hung verifier for ever.
    runtime.shutdown_timeout(verify::LEAVE);
    judging
}

async fn judge_all(
    config: &Config,
    judge: &Arc<Judge>,
    groups: Vec<Arc<Group>>,
    seconds: f64,
) -> Result<Judging, Failure> {
    let workers = config.verifier.workers.max(1);
    let (mut running, mut scored, mut spent, mut asked) = (JoinSet::new(), Vec::new(), 0.0, 0);
    let mut waiting = groups.into_iter();
    let watch = Stopwatch::start();
    loop {
        while running.len() < workers
            && (asked < workers || watch.elapsed().as_secs_f64() < seconds)
            && let Some(group) = waiting.next()
        {
            asked += 1;
            let (judge, deadline) = (Arc::clone(judge), config.verifier.deadline());
            running.spawn(async move {
                let watch = Stopwatch::start();
                let verdicts = judge.group(&group, deadline).await.verdicts;
                (ScoredGroup { group, verdicts }, watch.elapsed().as_secs_f64())
            });
        }
        let Some(joined) = running.join_next().await else { break };
        let (group, seconds) = joined.map_err(Failure::failed)?;
        scored.push(group);
        spent += seconds;
    }
    let answers: usize = scored.iter().map(|group| group.verdicts.len()).sum();
    let verdicts_per_second = answers as f64 / watch.elapsed().as_secs_f64().max(1e-9);
    let seconds_per_group = spent / scored.len().max(1) as f64;
    Ok(Judging { groups: scored, verdicts_per_second, seconds_per_group })
}

struct Training {
    steps: usize,
    tokens_per_second: f64,
    publish_seconds: f64,
}

/// Trains one batch over and over for `seconds`. The first step, which makes gradients and moments, counts only if it is alone.
fn train(config: &Config, groups: &[ScoredGroup], seconds: f64) -> Result<Training, Failure> {
    let mut learner = trainer::learner(config, config.objective.clone(), config.generator.temperature)?;
    let watch = Stopwatch::start();
    let (mut took, mut tokens) = (Vec::new(), 0.0);
    while took.len() < 2 || watch.elapsed().as_secs_f64() < seconds {
        let batch = batch(config, groups, learner.version());
        let report = learner.train_step(&batch).map_err(Failure::failed)?;
        took.push(report.seconds);
        tokens = report.tokens as f64;
        if watch.elapsed().as_secs_f64() > 2.0 * seconds {
            break;
        }
    }
    let publish_seconds = publish(&learner)?;
    let steps = took.len();
    let counted = if steps > 1 { &mut took[1..] } else { &mut took[..] };
    counted.sort_by(f64::total_cmp);
    let median = counted[counted.len() / 2];
    Ok(Training { steps, tokens_per_second: tokens / median.max(1e-9), publish_seconds })
}

/// A publication within the process is one copy of the weights.
fn publish(learner: &Learner) -> Result<f64, Failure> {
    let watch = Stopwatch::start();
    learner.snapshot(learner.compute_kind()).map_err(Failure::failed)?;
    Ok(watch.elapsed().as_secs_f64())
}

/// B groups, the mixed ones again and again; where there is none, of others with one answer called right.
fn batch(config: &Config, groups: &[ScoredGroup], version: PolicyVersion) -> Batch {
    let mixed: Vec<&ScoredGroup> = groups.iter().filter(|scored| scored.mixed()).collect();
    let made: Vec<ScoredGroup> = if mixed.is_empty() { groups.iter().map(one_right).collect() } else { Vec::new() };
    let chosen = mixed.into_iter().chain(&made).cycle();
    let renamed = |(number, scored): (u64, &ScoredGroup)| {
        let mut group = Group::clone(&scored.group);
        group.lease.group = GroupId(number);
        // A void verdict has no place in a batch.
        let verdicts = scored.verdicts.iter().map(|v| if v.score().is_some() { v.clone() } else { Verdict::Incorrect });
        Arc::new(ScoredGroup { verdicts: verdicts.collect(), group: Arc::new(group) })
    };
    Batch { version, groups: (0..u64::from(config.feed.prompts_per_step)).zip(chosen).map(renamed).collect() }
}

fn one_right(scored: &ScoredGroup) -> ScoredGroup {
    let mut verdicts = vec![Verdict::Incorrect; scored.verdicts.len()];
    verdicts.iter_mut().take(1).for_each(|verdict| *verdict = Verdict::Correct);
    ScoredGroup { group: Arc::clone(&scored.group), verdicts }
}
