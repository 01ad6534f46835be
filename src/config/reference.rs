//! The reference page of all settings, from the same schema that checks them.

use std::fmt::Write;

use serde_json::Value as Json;

use super::json_schema;
use super::schema::Schema;

const HEAD: &str = "\
# Settings

Written by `UPDATE=1 cargo test --release config_reference` from the structs that hold the settings; a test fails when it is
stale. `counterpoint schema` prints the same as JSON Schema. Relative paths are relative to the current directory. A value
can be set on the command line: `counterpoint run CONFIG run.seed=1`.
";

/// `configs/REFERENCE.md`: one table per section.
pub fn reference() -> String {
    let root = json_schema();
    let schema = Schema::new(root.clone());
    let mut page = HEAD.to_owned();
    // Sections in the order in which the struct has them, not in that of the alphabet.
    let defaults = super::Config::default().to_toml();
    let sections =
        defaults.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']')).filter(|s| !s.contains('.'));
    for section in sections {
        let Some(table) = schema.properties(&root).remove(section) else { continue };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## [{section}]\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
            meaning(table)
        );
        for (key, leaf) in schema.properties(table) {
            let default = default_of(&schema, table, &key, leaf);
            let _ = writeln!(page, "| `{key}` | {} | {default} | {} |", kind(&schema, leaf), meaning(leaf));
        }
    }
    page
}

/// The doc comment on one line; a pipe would end the cell.
fn meaning(schema: &Json) -> String {
    let text = schema.get("description").and_then(Json::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn kind(schema: &Schema, leaf: &Json) -> String {
    let choices = schema.choices(leaf);
    if !choices.is_empty() {
        return choices.iter().map(|c| format!("`\"{c}\"`")).collect::<Vec<_>>().join(", ");
    }
    let names = schema.kinds(leaf).into_iter().map(|kind| match kind {
        "integer" => "whole number",
        "string" => "text",
        "array" => "list",
        "object" => "table",
        other => other,
    });
    names.collect::<Vec<_>>().join(" or ")
}

/// A key's default: in its own schema, or in that of its section.
fn default_of(schema: &Schema, table: &Json, key: &str, leaf: &Json) -> String {
    let of_section = || schema.resolve(table).get("default").or_else(|| table.get("default"))?.get(key);
    match leaf.get("default").or_else(of_section) {
        None | Some(Json::Null) => "not set".to_owned(),
        Some(Json::String(text)) if text.is_empty() => "required".to_owned(),
        Some(Json::Object(map)) if map.is_empty() => "none".to_owned(),
        Some(value) => format!("`{}`", value.to_string().replace('|', "\\|")),
    }
}
