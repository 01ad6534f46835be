//! Questions with known answers, from files or made on the spot.
#![doc = ""]

pub mod config;
mod error;
mod formats;
mod question;
pub mod schema;
mod source;
pub mod tasks;

pub use config::{AnswerFrom, DataConfig, OnError};
pub use error::DataError;
pub use formats::{Format, MOST_LINE, Place, Row, Rows, name_of_place};
pub use question::{kind, prompt_content, scalar};
pub use schema::{Mapping, after_hashes, last_box};
pub use source::Files;
