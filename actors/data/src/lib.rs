//! Questions with known answers, from files or made on the spot.

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
pub use formats::{Format, MOST_LINE, Place, Row, Rows, name_of_place};
pub use question::{kind, prompt_content, scalar};
pub use questions::Questions;
pub use read::{CountTokens, Data, FileReport, Report, load, load_held_out, read_files};
pub use schema::{Mapping, after_hashes, last_box};
pub use source::Files;
