/// Why the replay actor cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Values of `[feed]` or `[replay]` that cannot work; one message each, starting with the key.
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
    /// There is nothing to ask.
    #[error("the data holds no prompt: at least one is needed")]
    NoPrompts,
    /// A prompt cannot be read again.
    #[error("{0}")]
    Data(String),
    /// More prompts than a cursor can name.
    #[error("the data holds {0} prompts: at most 4294967295 can be addressed")]
    TooManyPrompts(usize),
    /// Two prompts would share their sampling noise and their account.
    #[error("the prompt id {id:?} stands at rows {first} and {second} of the data: ids must be unique")]
    DuplicatePrompt {
        /// The id.
        id: String,
        /// Row of its first occurrence, from 0.
        first: usize,
        /// Row of its second occurrence.
        second: usize,
    },
    /// The checkpoint was made with something else that must not change.
    #[error("the checkpoint was made with {what} = {saved}, this run has {given}: restore it, or start a fresh run")]
    Changed {
        /// What differs: a configuration key, or the data.
        what: &'static str,
        /// Its value in the checkpoint.
        saved: String,
        /// Its value now.
        given: String,
    },
    /// The checkpoint contradicts itself.
    #[error("the replay part of the checkpoint is damaged: {0}")]
    Damaged(String),
}
