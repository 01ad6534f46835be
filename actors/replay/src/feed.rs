//! The stream of prompts over all epochs.
//!
//! Every epoch draws each prompt once, in an order that is a function of (seed, epoch) only. A prompt whose group came to
//! nothing goes back to the front, before anything new, with its attempt raised; those that wait there are drawn in the order
//! of the stream, whatever order they came back in, so that the order of arrival never shows. A prompt that came back too
//! often counts as used and is listed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use counterpoint_rollout::{DropReason, NoiseKey, Prompt, PromptSet, Purpose};
use serde::{Deserialize, Serialize};

use crate::{FeedConfig, ReplayError};

/// How many abandoned prompts are listed by name; beyond it they are only counted, so that memory stays flat.
const LISTED: usize = 1000;

/// One prompt drawn from the stream. Ordered as the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Draw {
    /// The pass over the data, from 0.
    pub epoch: u32,
    /// The place within the order of that epoch, from 0.
    pub place: u32,
    /// The prompt's row in the data, from 0.
    pub row: u32,
    /// How often this draw came back before.
    pub attempt: u32,
}

/// A prompt that came back too often and counts as used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// Which prompt.
    pub prompt: String,
    /// In which epoch.
    pub epoch: u32,
    /// Why its last group came to nothing.
    pub reason: DropReason,
}

/// Where the stream stands; restores a [`Feed`] over the same data, seed and configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedCursor {
    /// The current epoch.
    pub epoch: u32,
    /// Prompts of the current epoch drawn so far.
    pub place: u32,
    /// Draws that came back and wait in front, in the order of the stream.
    pub returned: Vec<Draw>,
    /// The first of the prompts that were given up.
    pub abandoned: Vec<Abandoned>,
    /// How many were given up.
    pub abandoned_total: u64,
}

/// The stream itself.
#[derive(Debug)]
pub struct Feed {
    prompts: Box<dyn PromptSet>,
    seed: u64,
    shuffle: bool,
    epochs: Option<u32>,
    max_attempts: u32,
    /// Rows in the order of `epoch`.
    order: Vec<u32>,
    epoch: u32,
    place: u32,
    returned: BTreeSet<Draw>,
    abandoned: Vec<Abandoned>,
    abandoned_total: u64,
}

impl Feed {
    /// A feed at its very beginning.
    pub fn new(config: &FeedConfig, seed: u64, prompts: impl PromptSet + 'static) -> Result<Self, ReplayError> {
        if prompts.is_empty() {
            return Err(ReplayError::NoPrompts);
        }
        if u32::try_from(prompts.len()).is_err() {
            return Err(ReplayError::TooManyPrompts(prompts.len()));
        }
        if !prompts.ids_are_unique() {
            different_ids(&prompts)?;
        }
        let order = order(prompts.len() as u32, seed, 0, config.shuffle);
        Ok(Self {
            prompts: Box::new(prompts),
            seed,
            shuffle: config.shuffle,
            epochs: config.epochs,
            max_attempts: config.max_attempts,
            order,
            epoch: 0,
            place: 0,
            returned: BTreeSet::new(),
            abandoned: Vec::new(),
            abandoned_total: 0,
        })
    }

    /// Moves to a saved place. The data must be those of the cursor (a [`crate::Cut`] checks that by their fingerprint).
    pub fn restore(&mut self, cursor: &FeedCursor) -> Result<(), ReplayError> {
        let rows = self.prompts.len();
        if cursor.place as usize > rows {
            let what = format!("the feed stands at prompt {} of an epoch of {rows}", cursor.place);
            return Err(ReplayError::Damaged(what));
        }
        if let Some(draw) = cursor.returned.iter().find(|d| d.row as usize >= rows) {
            return Err(ReplayError::Damaged(format!("a returned prompt has row {} of {rows}", draw.row)));
        }
        self.order = order(rows as u32, self.seed, cursor.epoch, self.shuffle);
        self.epoch = cursor.epoch;
        self.place = cursor.place;
        self.returned = cursor.returned.iter().copied().collect();
        self.abandoned = cursor.abandoned.clone();
        self.abandoned_total = cursor.abandoned_total;
        Ok(())
    }

    /// The place to save.
    pub fn cursor(&self) -> FeedCursor {
        FeedCursor {
            epoch: self.epoch,
            place: self.place,
            returned: self.returned.iter().copied().collect(),
            abandoned: self.abandoned.clone(),
            abandoned_total: self.abandoned_total,
        }
    }

    /// The next prompt, or `None` while nothing is left to draw: what is in flight may still come back.
    pub fn draw(&mut self) -> Option<Draw> {
        if let Some(draw) = self.returned.pop_first() {
            return Some(draw);
        }
        if self.at_end() {
            return None;
        }
        if self.place as usize == self.order.len() {
            self.epoch = self.epoch.checked_add(1)?;
            self.place = 0;
            self.order = order(self.prompts.len() as u32, self.seed, self.epoch, self.shuffle);
        }
        let draw = Draw { epoch: self.epoch, place: self.place, row: self.order[self.place as usize], attempt: 0 };
        self.place += 1;
        Some(draw)
    }

    /// Puts a draw back to the front, or gives it up if it came back too often. Returns whether it will be drawn again.
    pub fn give_back(&mut self, draw: Draw, reason: DropReason) -> bool {
        if draw.attempt < self.max_attempts {
            self.returned.insert(Draw { attempt: draw.attempt + 1, ..draw });
            return true;
        }
        // One that cannot be read (the run ends of that elsewhere) is listed by its row.
        let prompt = self.prompt(draw.row).map_or_else(|_| format!("row {}", draw.row), |prompt| prompt.id.clone());
        tracing::warn!(
            prompt,
            epoch = draw.epoch,
            reason = reason.label(),
            "a prompt came to nothing {} times and counts as used in this epoch",
            draw.attempt + 1
        );
        self.abandoned_total += 1;
        if self.abandoned.len() < LISTED {
            self.abandoned.push(Abandoned { prompt, epoch: draw.epoch, reason });
        }
        false
    }

    /// Whether nothing is left to draw (until something comes back).
    pub fn at_end(&self) -> bool {
        self.returned.is_empty()
            && self.place as usize == self.order.len()
            && self.epochs.is_some_and(|epochs| self.epoch.saturating_add(1) >= epochs)
    }

    /// The prompt in a row of the data.
    ///
    /// # Errors
    /// There is no such row, or it cannot be read again from disk.
    pub fn prompt(&self, row: u32) -> Result<Arc<Prompt>, String> {
        self.prompts.get(row as usize)
    }

    /// The current epoch, from 0.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How many prompts were given up.
    pub fn abandoned_total(&self) -> u64 {
        self.abandoned_total
    }
}

fn different_ids(prompts: &impl PromptSet) -> Result<(), ReplayError> {
    let mut rows = HashMap::with_capacity(prompts.len());
    for second in 0..prompts.len() {
        let id = prompts.get(second).map_err(ReplayError::Data)?.id.clone();
        if let Some(first) = rows.insert(id.clone(), second) {
            return Err(ReplayError::DuplicatePrompt { id, first, second });
        }
    }
    Ok(())
}

/// The order of one epoch: a Fisher-Yates shuffle whose random numbers are a function of (seed, epoch) only.
fn order(rows: u32, seed: u64, epoch: u32, shuffle: bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows).collect();
    if shuffle {
        let noise = NoiseKey::new(seed, Purpose::Shuffle, epoch, "", 0, 0);
        for last in (1..order.len()).rev() {
            // A number in 0..=last by the high word of the product; its bias is below 2⁻³².
            let pick = (u128::from(noise.bits(last as u64)) * (last as u128 + 1)) >> 64;
            order.swap(last, pick as usize);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use counterpoint_rollout::PromptContent;
    use proptest::prelude::*;

    use super::*;

    fn prompts(n: usize) -> Vec<Arc<Prompt>> {
        let content = PromptContent::Text(String::new());
        let prompt = |i| Prompt {
            id: format!("p{i}"),
            content: content.clone(),
            answer: String::new(),
            source: String::new(),
            info: Default::default(),
        };
        (0..n).map(|i| Arc::new(prompt(i))).collect()
    }

    fn feed(n: usize, epochs: Option<u32>, max_attempts: u32) -> Feed {
        Feed::new(&FeedConfig { epochs, max_attempts, ..FeedConfig::default() }, 7, prompts(n)).unwrap()
    }

    #[test]
    fn an_epoch_draws_every_prompt_once_and_epochs_differ() {
        let mut feed = feed(50, Some(2), 3);
        let rows: Vec<u32> = std::iter::from_fn(|| feed.draw()).map(|d| d.row).collect();
        assert_eq!(rows.len(), 100);
        for epoch in rows.chunks(50) {
            assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 50);
        }
        assert_ne!(rows[..50], rows[50..]);
        assert!(feed.at_end());
    }

    #[test]
    fn without_shuffle_the_order_is_that_of_the_data() {
        let config = FeedConfig { shuffle: false, epochs: Some(1), ..FeedConfig::default() };
        let mut feed = Feed::new(&config, 7, prompts(5)).unwrap();
        let rows: Vec<u32> = std::iter::from_fn(|| feed.draw()).map(|d| d.row).collect();
        assert_eq!(rows, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_prompt_comes_back_at_most_max_attempts_times_and_is_then_listed() {
        let mut feed = feed(1, Some(1), 2);
        for attempt in 0..=2 {
            let draw = feed.draw().unwrap();
            assert_eq!(draw.attempt, attempt);
            assert_eq!(feed.give_back(draw, DropReason::Lost), attempt < 2);
        }
        assert!(feed.at_end());
        assert_eq!(feed.cursor().abandoned, [Abandoned { prompt: "p0".into(), epoch: 0, reason: DropReason::Lost }]);
    }

    #[test]
    fn returned_prompts_are_drawn_first_and_in_the_order_of_the_stream() {
        let mut feed = feed(10, None, 3);
        let first: Vec<Draw> = (0..3).filter_map(|_| feed.draw()).collect();
        for i in [2, 0, 1] {
            feed.give_back(first[i], DropReason::Lost);
        }
        let places: Vec<u32> = (0..4).filter_map(|_| feed.draw()).map(|d| d.place).collect();
        assert_eq!(places, [0, 1, 2, 3]);
    }

    #[test]
    fn two_prompts_of_one_name_are_refused() {
        let mut twice = prompts(3);
        twice.push(Arc::clone(&twice[1]));
        let error = Feed::new(&FeedConfig::default(), 7, twice).unwrap_err();
        assert_eq!(error.to_string(), "the prompt id \"p1\" stands at rows 1 and 3 of the data: ids must be unique");
    }

    proptest! {
        #[test]
        fn a_restored_feed_goes_on_as_if_nothing_had_happened(n in 1usize..20, drawn in 0usize..60, back in 0usize..5) {
            let mut original = feed(n, Some(4), 3);
            let draws: Vec<Draw> = (0..drawn).filter_map(|_| original.draw()).collect();
            for draw in draws.iter().rev().take(back) {
                original.give_back(*draw, DropReason::Lost);
            }
            let json = serde_json::to_string(&original.cursor()).unwrap();
            let mut restored = feed(n, Some(4), 3);
            restored.restore(&serde_json::from_str(&json).unwrap()).unwrap();
            loop {
                let (a, b) = (original.draw(), restored.draw());
                prop_assert_eq!(a, b);
                if a.is_none() { break; }
            }
        }
    }
}
