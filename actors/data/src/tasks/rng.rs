//! Random numbers that are a function of a seed and a name, on every machine and in every release.

use counterpoint_rollout::{NoiseKey, Purpose};

/// A stream of random numbers.
#[derive(Debug)]
pub(super) struct Rng {
    key: NoiseKey,
    drawn: u64,
}

impl Rng {
    pub(super) fn new(seed: u64, name: &str) -> Self {
        Self { key: NoiseKey::new(seed, Purpose::Shuffle, 0, name, 0, 0), drawn: 0 }
    }

    /// A number in `0..n`, by the high word of the product; its bias is below n/2⁶⁴.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        let bits = self.key.bits(self.drawn);
        self.drawn += 1;
        ((u128::from(bits) * u128::from(n)) >> 64) as u64
    }

    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// One of several; the slice must not be empty.
    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A number with so many digits, each number of digits as likely as another; 0 has one digit.
    pub(super) fn number(&mut self, (least, most): (u32, u32)) -> u64 {
        match self.between(u64::from(least), u64::from(most)) as u32 {
            1 => self.below(10),
            digits => self.between(10_u64.pow(digits - 1), 10_u64.pow(digits) - 1),
        }
    }
}
