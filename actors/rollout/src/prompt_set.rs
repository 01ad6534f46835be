//! All questions of a data set, in memory or not.

use std::fmt;
use std::sync::Arc;

use crate::Prompt;

/// Questions by row. A set does not change while it is used: the same row is the same question each time.
pub trait PromptSet: fmt::Debug + Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// The question of a row below [`PromptSet::len`].
    ///
    /// # Errors
    /// It cannot be read (again), in one line.
    fn get(&self, row: usize) -> Result<Arc<Prompt>, String>;

    /// Whether it is known that no two have one id.
    fn ids_are_unique(&self) -> bool {
        false
    }

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PromptSet for Vec<Arc<Prompt>> {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, row: usize) -> Result<Arc<Prompt>, String> {
        self.as_slice().get(row).cloned().ok_or_else(|| format!("there is no row {row}"))
    }
}

impl PromptSet for Arc<dyn PromptSet> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, row: usize) -> Result<Arc<Prompt>, String> {
        (**self).get(row)
    }

    fn ids_are_unique(&self) -> bool {
        (**self).ids_are_unique()
    }
}
