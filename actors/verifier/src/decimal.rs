//! A number in a configuration, taken as the decimal that was written: 0.1 is one tenth, not the nearest binary fraction.

use std::fmt;

use dashu::rational::Relaxed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::VerifierError;

/// A number, or a number in quotes: `0.01`, `"0.01"`, `"1e-6"`, `"1/3"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Decimal {
    /// As a number.
    Number(f64),
    /// As a text.
    Text(String),
}

/// Characters of the longest number in a configuration, and digits of the largest exponent: bounds on what is computed.
const LONGEST: usize = 400;

impl Default for Decimal {
    fn default() -> Self {
        Self::Number(0.0)
    }
}

impl From<f64> for Decimal {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "`{text}`"),
        }
    }
}

impl Decimal {
    /// The number itself, if it is one and not negative.
    ///
    /// # Errors
    /// With the name of the option.
    pub(crate) fn at_least_zero(&self, option: &str) -> Result<Relaxed, VerifierError> {
        let exact = match self {
            // The shortest text that is read as this float: what the user wrote.
            Self::Number(number) => exact(&format!("{number:e}")),
            Self::Text(text) => exact(text.trim()),
        };
        exact.filter(|exact| *exact >= Relaxed::ZERO).ok_or_else(|| {
            VerifierError::BadOption(format!(
                "{option}: must be a number of at least 0, like 0.01 or \"1e-6\", got {self}"
            ))
        })
    }
}

/// `12`, `1.5`, `1e-6` or `1/3` as a fraction.
pub(crate) fn exact(text: &str) -> Option<Relaxed> {
    let exponent = text.split(['e', 'E']).nth(1).unwrap_or("0");
    let small = exponent.parse::<i32>().is_ok_and(|exponent| exponent.unsigned_abs() <= 400);
    if text.len() > LONGEST || !small || !text.chars().all(|c| c.is_ascii_digit() || "+-./eE".contains(c)) {
        return None;
    }
    match text.split_once('/') {
        // A fraction over zero is none.
        Some((_, below)) if below.bytes().all(|b| b == b'0') => None,
        Some(_) => text.parse().ok(),
        None => Relaxed::from_str_decimal(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: serde_json::Value) -> Result<String, String> {
        let decimal: Decimal = serde_json::from_value(value).unwrap();
        match decimal.at_least_zero("weight") {
            Ok(exact) => Ok(exact.canonicalize().to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_number_means_the_decimal_that_was_written() {
        for (value, exact) in [
            (serde_json::json!(0.1), "1/10"),
            (serde_json::json!(1e-6), "1/1000000"),
            (serde_json::json!(3), "3"),
            (serde_json::json!("0.25"), "1/4"),
            (serde_json::json!("1/3"), "1/3"),
            (serde_json::json!(" 2E2 "), "200"),
        ] {
            assert_eq!(read(value.clone()).as_deref(), Ok(exact), "{value}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["-1", "abc", "", "1/0", "1/", "nan", "inf", "1e999999999", "e", "1e", "--1", "0.(3)", "1_0"] {
            let error = read(serde_json::json!(text)).unwrap_err();
            let expected = "weight: must be a number of at least 0, like 0.01 or \"1e-6\", got ";
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert!(read(serde_json::json!(-0.5)).unwrap_err().ends_with("got -0.5"));
        assert!(Decimal::Number(f64::NAN).at_least_zero("x").is_err());
        assert!(Decimal::Number(f64::INFINITY).at_least_zero("x").is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[-+0-9./eE]{0,12}") {
            let _ = exact(&text);
        }
    }
}
