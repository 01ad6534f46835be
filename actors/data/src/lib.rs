//! Questions with known answers, from files or made on the spot.
#![doc = ""]

mod error;
mod formats;
mod question;
mod source;

pub use error::DataError;
pub use formats::{Format, MOST_LINE, Place, Row, Rows, name_of_place};
pub use question::{kind, prompt_content, scalar};
pub use source::Files;
