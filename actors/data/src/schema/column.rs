//! A column by name, or by a path into nested ones.

use std::fmt;

use serde_json::{Map, Value};

/// Names a column, or a part of one: `reward_model.ground_truth` is the field `ground_truth` of the column `reward_model`, and
/// `messages.0.content` goes through the first item of a list. A column whose own name has the dots comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column(String);

impl From<&str> for Column {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<&String> for Column {
    fn from(name: &String) -> Self {
        Self(name.clone())
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Column {
    /// What a row has there; null counts as nothing.
    pub fn find<'r>(&self, row: &'r Map<String, Value>) -> Option<&'r Value> {
        if let Some(value) = row.get(&self.0) {
            return Some(value).filter(|v| !v.is_null());
        }
        let mut steps = self.0.split('.');
        let mut value = row.get(steps.next()?)?;
        for step in steps {
            value = match value {
                Value::Object(fields) => fields.get(step)?,
                Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value).filter(|v| !v.is_null())
    }

    /// The same, or the columns that there are; `key` is the setting that names this one.
    pub(super) fn required<'r>(&self, row: &'r Map<String, Value>, key: &str) -> Result<&'r Value, String> {
        self.find(row).ok_or_else(|| {
            let names = names(row.keys());
            format!("no column {self} (data.{key}); the line has {}", if names.is_empty() { "none" } else { &names })
        })
    }

    /// Takes it out of a row; a struct that is left empty goes with it.
    pub(super) fn remove(&self, row: &mut Map<String, Value>) {
        if row.remove(&self.0).is_some() {
            return;
        }
        let Some((first, rest)) = self.0.split_once('.') else { return };
        if let Some(Value::Object(fields)) = row.get_mut(first) {
            Self(rest.to_owned()).remove(fields);
            if fields.is_empty() {
                row.remove(first);
            }
        }
    }
}

/// Names in quotes, with commas.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|k| format!("{k:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn paths_go_through_structs_and_lists_and_a_column_of_that_very_name_comes_first() {
        let row = row(json!({"a": {"b": [{"c": 1}, null]}, "x.y": 2, "x": {"y": 3}}));
        let find = |name: &str| Column::from(name).find(&row).cloned();
        assert_eq!(find("a.b.0.c"), Some(json!(1)));
        assert_eq!(find("x.y"), Some(json!(2)));
        for nothing in ["a.b.1", "a.b.2", "a.b.c", "a.c", "b", "", ".", "a.b.0.c.d"] {
            assert_eq!(find(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_removed_leaves_its_neighbours() {
        let mut row = row(json!({"r": {"style": "rule", "truth": 1}, "e": {"t": {"u": 2}}}));
        Column::from("r.truth").remove(&mut row);
        Column::from("e.t.u").remove(&mut row);
        assert_eq!(Value::Object(row), json!({"r": {"style": "rule"}}));
    }
}
