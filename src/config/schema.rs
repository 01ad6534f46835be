//! Checks TOML values against the JSON Schema of the config, so that every unknown key and every wrong type is reported at
//! once, with its line and with what would be right; serde would stop at the first.
//!
//! Only what schemars writes for this program's structs is understood: objects, arrays, scalars, `$ref`, nullable values and
//! unions. What a union leaves open is left to serde.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::Value;

use super::document::{Document, join};
use super::hints;

/// The schema with its definitions.
pub(super) struct Schema {
    root: Json,
}

impl Schema {
    pub(super) fn new(root: Json) -> Self {
        Self { root }
    }

    /// Whether the key must be a text (or be absent).
    pub(super) fn is_text(&self, key: &str) -> bool {
        let mut schema = Some(&self.root);
        for segment in key.split('.') {
            schema = schema.and_then(|s| self.child(s, segment));
        }
        schema.is_some_and(|s| self.kinds(s).iter().all(|k| *k == "string") && !self.kinds(s).is_empty())
    }

    /// One message per unknown key and per value of the wrong type.
    pub(super) fn check(&self, document: &Document) -> Vec<String> {
        let mut errors = Vec::new();
        self.check_table("", document.table(), &self.root, &mut errors);
        document.located(errors)
    }

    fn check_table(&self, path: &str, table: &toml::Table, schema: &Json, errors: &mut Vec<(String, String)>) {
        let known = self.properties(schema);
        for (key, value) in table {
            let path = join(path, key);
            match self.child(schema, key) {
                Some(child) => self.check_value(&path, value, child, errors),
                None if self.closed(schema) => errors.push((path.clone(), self.unknown(&path, key, &known))),
                None => {}
            }
        }
    }

    fn check_value(&self, path: &str, value: &Value, schema: &Json, errors: &mut Vec<(String, String)>) {
        let kinds = self.kinds(schema);
        let fits = match value {
            Value::Integer(_) => kinds.contains(&"integer") || kinds.contains(&"number"),
            Value::Float(_) => kinds.contains(&"number"),
            Value::String(_) | Value::Datetime(_) => kinds.contains(&"string") && value.is_str(),
            Value::Boolean(_) => kinds.contains(&"boolean"),
            Value::Array(_) => kinds.contains(&"array"),
            Value::Table(_) => kinds.contains(&"object"),
        };
        let mut refuse = |expected: String| {
            errors.push((path.to_owned(), format!("{path}: expected {expected}, got {}", shown(value))));
        };
        if !kinds.is_empty() && !fits {
            return refuse(kinds.iter().map(|k| spoken(k)).collect::<Vec<_>>().join(" or "));
        }
        match value {
            Value::Table(table) => self.check_table(path, table, schema, errors),
            Value::Array(items) => {
                if let Some(item_schema) = self.resolve(schema).get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.check_value(&format!("{path}[{index}]"), item, item_schema, errors);
                    }
                }
            }
            Value::String(text) => {
                let choices = self.choices(schema);
                if !choices.is_empty() && !choices.contains(&text.as_str()) {
                    refuse(choices.iter().map(|c| format!("{c:?}")).collect::<Vec<_>>().join(" or "));
                }
            }
            Value::Integer(number) => {
                let limit = |key| self.alternatives(schema).into_iter().find_map(|s| s.get(key)?.as_i64());
                if *number < 0 && limit("minimum") == Some(0) {
                    refuse("a whole number that is not negative".to_owned());
                } else if let Some(most) = limit("maximum").filter(|most| number > most) {
                    refuse(format!("a whole number up to {most}"));
                }
            }
            _ => {}
        }
    }

    fn unknown(&self, path: &str, key: &str, known: &BTreeMap<String, &Json>) -> String {
        let section = path.rsplit_once('.').map_or("", |(section, _)| section);
        let help = hints::explanation(section, key).map(str::to_owned).unwrap_or_else(|| {
            let elsewhere = || self.keys().into_iter().find(|k| k.rsplit('.').next() == Some(key));
            match (hints::nearest(key, known.keys().map(String::as_str)), elsewhere()) {
                (_, Some(other)) => format!("did you mean {other:?}?"),
                (Some(near), _) => format!("did you mean {:?}?", join(section, near)),
                (None, None) => {
                    format!("known here: {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
                }
            }
        });
        format!("unknown key {path:?}: {help}")
    }

    /// Every key of two levels, dotted.
    fn keys(&self) -> Vec<String> {
        let sections = self.properties(&self.root).into_iter();
        sections.flat_map(|(s, schema)| self.properties(schema).into_keys().map(move |k| join(&s, &k))).collect()
    }

    /// Follows `$ref`.
    pub(super) fn resolve<'s>(&'s self, schema: &'s Json) -> &'s Json {
        let mut schema = schema;
        while let Some(name) = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
            match self.root.get("$defs").and_then(|defs| defs.get(name)) {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    /// The alternatives of a union, the null of an optional value left out; otherwise the schema itself.
    fn alternatives<'s>(&'s self, schema: &'s Json) -> Vec<&'s Json> {
        let schema = self.resolve(schema);
        let union = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(*key)?.as_array());
        let mut all = vec![schema];
        all.extend(union.into_iter().flatten().flat_map(|s| self.alternatives(s)));
        all
    }

    /// The keys of an object, those of all alternatives together.
    pub(super) fn properties<'s>(&'s self, schema: &'s Json) -> BTreeMap<String, &'s Json> {
        let alternatives = self.alternatives(schema).into_iter();
        let objects = alternatives.filter_map(|s| s.get("properties")?.as_object());
        objects.flatten().map(|(key, child)| (key.clone(), child)).collect()
    }

    fn child<'s>(&'s self, schema: &'s Json, key: &str) -> Option<&'s Json> {
        let free = || {
            self.alternatives(schema).into_iter().find_map(|s| s.get("additionalProperties").filter(|a| a.is_object()))
        };
        self.properties(schema).remove(key).or_else(free)
    }

    fn closed(&self, schema: &Json) -> bool {
        self.alternatives(schema).iter().any(|s| s.get("additionalProperties") == Some(&Json::Bool(false)))
    }

    /// JSON types that a value may have, without null; empty where the schema does not say.
    pub(super) fn kinds<'s>(&'s self, schema: &'s Json) -> Vec<&'s str> {
        let mut kinds = Vec::new();
        for alternative in self.alternatives(schema) {
            let types = match alternative.get("type") {
                Some(Json::String(one)) => vec![one.as_str()],
                Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
                _ => Vec::new(),
            };
            for kind in types {
                if kind != "null" && !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
        }
        kinds
    }

    /// The texts to choose from; empty where any will do.
    pub(super) fn choices<'s>(&'s self, schema: &'s Json) -> Vec<&'s str> {
        let mut choices = Vec::new();
        for alternative in self.alternatives(schema) {
            choices.extend(alternative.get("const").and_then(Json::as_str));
            choices.extend(
                alternative.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str),
            );
        }
        choices
    }
}

fn spoken(kind: &str) -> &str {
    match kind {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a text in quotes",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a section",
        other => other,
    }
}

/// A value as the user wrote it, for a message of one line.
fn shown(value: &Value) -> String {
    match value {
        Value::Table(_) => "a section".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
