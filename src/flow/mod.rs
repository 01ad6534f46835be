//! Whether a run flows, how fast, and whether it fits: the arithmetic behind `check` and the first words of `run`.
//!
//! What cannot flow at all is refused by the config itself ([`Config::stalls`]); here are the warnings, the memory estimate and
//! the forecast of rates.

pub(crate) mod forecast;
pub(crate) mod memory;

use crate::config::Config;

/// What is possible and probably not meant, one line each, of a config whose training data have `questions`.
pub(crate) fn warnings(config: &Config, questions: usize) -> Vec<String> {
    let mut out = Vec::new();
    let batch = config.feed.prompts_per_step as usize;
    if questions < batch {
        out.push(format!(
            "an epoch has {questions} questions, fewer than feed.prompts_per_step = {batch}: a step trains questions several \
             times, or less than a batch where the last epoch ends; lower feed.prompts_per_step or give more data"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_shorter_than_a_batch_is_warned_of() {
        let config = Config::default();
        assert!(warnings(&config, 31)[0].contains("feed.prompts_per_step = 32"));
        assert_eq!(warnings(&config, 32), Vec::<String>::new());
    }
}
