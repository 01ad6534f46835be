//! The work limits of one judgement. All are counts of steps and sizes, never of time, so a verdict is the same on any machine.

/// The limits are reached: the judgement is void, since neither right nor wrong was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverBudget;

/// What one judgement may still spend.
///
/// A step is about a microsecond's work or less: a token, a node visited, a term of a product, 64 bits of a big number
/// touched. [`Budget::default`] is the built-in limit, chosen so that the hardest judgement ends well within 50 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    steps: u64,
}

/// The longest text that is parsed as mathematics, in bytes. Longer answers are compared as texts only.
pub const LONGEST_TEXT: usize = 4096;

/// The deepest nesting of an expression: parsing and comparing recurse this far and no further.
pub const DEEPEST: usize = 64;

/// The largest integer, numerator or denominator that exact arithmetic makes, in bits.
pub const LARGEST_BITS: u64 = 16 * 1024;

/// The most terms of an expanded polynomial.
pub const MOST_TERMS: usize = 1024;

impl Default for Budget {
    fn default() -> Self {
        Self { steps: 20_000 }
    }
}

impl Budget {
    /// A budget of so many steps.
    pub fn of(steps: u64) -> Self {
        Self { steps }
    }

    /// Takes steps off; with too few left, none are.
    ///
    /// # Errors
    /// [`OverBudget`] if fewer are left.
    pub fn spend(&mut self, steps: u64) -> Result<(), OverBudget> {
        self.steps = self.steps.checked_sub(steps).ok_or(OverBudget)?;
        Ok(())
    }

    /// How many steps are left.
    pub fn left(&self) -> u64 {
        self.steps
    }
}
