//! Reads the options of a verifier's table, with errors that name the option and the nearest known one.

use serde::de::value::Error as Stop;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::Value;

use crate::VerifierError;

/// Reads a table of options into a struct.
///
/// # Errors
/// [`VerifierError::UnknownOption`] for a key that the struct has no field for (also without `deny_unknown_fields`),
/// [`VerifierError::BadOption`] for a value of the wrong type or a missing one.
pub fn parse_options<T: DeserializeOwned>(options: Value) -> Result<T, VerifierError> {
    if let (Some(known), Value::Object(table)) = (field_names::<T>(), &options)
        && let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str()))
    {
        let known = known.iter().map(|&name| name.to_owned()).collect();
        return Err(VerifierError::UnknownOption { option: unknown.clone(), known });
    }
    serde_path_to_error::deserialize(options).map_err(|error| VerifierError::BadOption(error.to_string()))
}

/// The names of the fields that `T` can be read from; `None` if `T` is no plain struct.
fn field_names<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut names = None;
    // serde hands a struct's field names to the deserialiser before it asks for any value; this one then stops.
    let _stopped = T::deserialize(FieldNames(&mut names)).err();
    names
}

struct FieldNames<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Stop;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Stop> {
        *self.0 = Some(fields);
        Err(Stop::custom("only the names were wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Stop> {
        Err(Stop::custom("no struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Options {
        url: String,
        #[serde(default)]
        retries: u32,
    }

    fn error(options: Value) -> String {
        parse_options::<Options>(options).unwrap_err().to_string()
    }

    #[test]
    fn options_are_read_and_errors_name_the_option() {
        let read: Options = parse_options(json!({"url": "u"})).unwrap();
        assert_eq!(read, Options { url: "u".into(), retries: 0 });
        assert_eq!(error(json!({"url": "u", "retrys": 1})), "unknown option `retrys`; did you mean `retries`?");
        assert_eq!(error(json!({"url": "u", "x": 1})), "unknown option `x`; known: `url`, `retries`");
        assert_eq!(
            error(json!({"url": "u", "retries": "many"})),
            "retries: invalid type: string \"many\", expected u32"
        );
        assert_eq!(error(json!({"retries": 1})), "missing field `url`");
    }

    #[test]
    fn a_kind_without_options_refuses_any() {
        #[derive(Debug, Deserialize)]
        struct Nothing {}
        assert!(parse_options::<Nothing>(json!({})).is_ok());
        let error = parse_options::<Nothing>(json!({"a": 1})).unwrap_err();
        assert_eq!(error.to_string(), "unknown option `a`; there are none");
    }
}
