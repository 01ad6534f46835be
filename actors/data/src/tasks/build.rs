//! The questions of a task, training and held out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use counterpoint_rollout::{Prompt, PromptContent};

use super::make::{Instance, instance};
use super::rng::Rng;
use super::{Task, TaskOptions};

/// Draws without anything new after which there is taken to be nothing new: per question that is there, and at least.
const PATIENCE: u64 = 20;
const LEAST_PATIENCE: u64 = 2000;

/// What a task made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// Training questions.
    pub train: Vec<Arc<Prompt>>,
    /// Held-out questions.
    pub held_out: Vec<Arc<Prompt>>,
    /// Questions asked for that do not exist: so many different ones there are not.
    pub short: u64,
}

/// Makes the questions of a task: the same for the same options, and none on both sides.
///
/// The options must be valid. Questions are drawn until there are enough, or nothing new comes; each kind of question belongs to
/// the side that a number drawn for it says, in proportion to `held_out` and `count`.
pub fn make(task: Task, options: &TaskOptions) -> Made {
    let mut rng = Rng::new(options.seed, task.name());
    let mut sides = Rng::new(options.seed, &format!("{task} sides"));
    let (mut seen, mut side_of) = (HashSet::new(), HashMap::new());
    let mut made = Made::default();
    let template = options.template.as_deref().unwrap_or(task.template());
    let wanted = options.count.saturating_add(options.held_out);
    let mut fruitless = 0;
    loop {
        let (train, held_out) = (made.train.len() as u64, made.held_out.len() as u64);
        if train >= options.count && held_out >= options.held_out
            || fruitless > LEAST_PATIENCE.max(PATIENCE * seen.len() as u64)
        {
            made.short = wanted.saturating_sub(train + held_out);
            return made;
        }
        fruitless += 1;
        let Some(instance) = instance(task, options, &mut rng) else { continue };
        let text = text(template, &instance);
        if seen.contains(&text) {
            continue;
        }
        let side = *side_of.entry(instance.key.clone()).or_insert_with(|| sides.below(wanted) < options.held_out);
        let (list, most) = if side { (&mut made.held_out, options.held_out) } else { (&mut made.train, options.count) };
        if (list.len() as u64) < most {
            seen.insert(text.clone());
            fruitless = 0;
            let name = if side { "eval" } else { "train" };
            let id = format!("{task}:{name}:{}", list.len() + 1);
            list.push(Arc::new(prompt(task, id, text, instance)));
        }
    }
}

fn prompt(task: Task, id: String, text: String, instance: Instance) -> Prompt {
    Prompt {
        id,
        content: PromptContent::Text(text),
        answer: instance.answer,
        source: task.name().to_owned(),
        info: instance.info,
    }
}

fn text(template: &str, instance: &Instance) -> String {
    instance
        .places
        .iter()
        .fold(template.to_owned(), |text, (place, value)| text.replace(&format!("{{{place}}}"), value))
}
