//! Questions with known answers, from files or made on the spot.
//!
//! **Contract.** [`load`] reads what `[data]` ([`DataConfig`]) names: files by name, folder or glob (`source`), in a format told
//! by their bytes (`formats`), through a [`Mapping`] of columns that is recognised or configured ([`schema`]), less what is too
//! long or broken, split by seed (`split`); or it makes a task's questions ([`tasks`]). A row has the same id, and the same
//! place in the order, on every reading.
//!
//! **Limits.** A line may have 16 MiB. A set over `data.memory_mib` is not held: plain JSONL is read again by offset, other
//! formats from an anonymous temporary file. Files are not trusted: sizes that they claim are checked before memory is taken.

pub mod config;
mod error;
mod formats;
mod question;
mod questions;
mod read;
pub mod schema;
mod source;
mod split;
pub mod tasks;

pub use config::{AnswerFrom, DataConfig, OnError};
pub use error::DataError;
pub use formats::{Format, MOST_LINE, Place, Row, Rows, in_line, name_of_place};
pub use question::{kind, prompt_content, scalar};
pub use questions::Questions;
pub use read::{CountTokens, Data, FileReport, Report, load, load_held_out, read_files};
pub use schema::{Mapping, after_hashes, last_box};
pub use source::Files;
