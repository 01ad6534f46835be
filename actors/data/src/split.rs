//! Which side of the split a question is on.

use counterpoint_rollout::{NoiseKey, Prompt, Purpose};

/// Whether a question is held out: a function of the seed and its text only, so that equal questions are on one side, and a
/// question stays on its side when others come or go.
pub(crate) fn is_held_out(prompt: &Prompt, seed: u64, share: f64) -> bool {
    let text = prompt.content.display();
    let bits = NoiseKey::new(seed, Purpose::Shuffle, 0, text.trim(), 0, 0).bits(0);
    // The upper 53 bits are exact in a double.
    ((bits >> 11) as f64) / ((1_u64 << 53) as f64) < share
}
