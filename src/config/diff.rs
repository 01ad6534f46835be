//! What may change between a run and its resumption.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Config;
use super::document::join;

/// Keys (or sections, with a final dot) that do not change what is learned from here on. `run.dir` is only where the run
/// lies, which a move changes.
const FREE: &[&str] = &[
    "run.dir",
    "run.max_steps",
    "run.target_accuracy",
    "run.stall_seconds",
    "generator.probe_every",
    "weight_sync.directory",
    "weight_sync.keep",
    "telemetry.",
    "eval.",
    "checkpoint.",
];

/// One message per setting that differs from the recorded ones and must not; none if the run may be resumed.
pub fn refuse_changes(recorded: &Config, wanted: &Config) -> Vec<String> {
    let (recorded, wanted) = (leaves(recorded), leaves(wanted));
    let keys: std::collections::BTreeSet<&String> = recorded.keys().chain(wanted.keys()).collect();
    let free = |key: &str| FREE.iter().any(|f| if f.ends_with('.') { key.starts_with(f) } else { key == *f });
    let shown = |value: Option<&String>| value.map_or("not set".to_owned(), Clone::clone);
    keys.into_iter()
        .filter(|key| !free(key) && recorded.get(*key) != wanted.get(*key))
        .map(|key| {
            let (was, is) = (shown(recorded.get(key)), shown(wanted.get(key)));
            format!("{key}: the run in this directory was started with {was}, now it is {is}; set it back, choose another run.dir, or start over with --fresh")
        })
        .collect()
}

/// Every value by its dotted key, as TOML text.
fn leaves(config: &Config) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    if let Ok(table) = Table::try_from(config) {
        collect("", &table, &mut out);
    }
    out
}

fn collect(prefix: &str, table: &Table, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = join(prefix, key);
        match value {
            Value::Table(inner) => collect(&path, inner, out),
            other => {
                out.insert(path, other.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_change_learning_may_change() {
        let recorded = Config::default();
        let mut wanted = recorded.clone();
        wanted.run.max_steps += 1;
        wanted.run.target_accuracy = Some(0.5);
        wanted.telemetry.port = 0;
        wanted.checkpoint.keep += 1;
        wanted.weight_sync.directory = Some("weights".into());
        wanted.generator.probe_every = 0;
        assert!(refuse_changes(&recorded, &wanted).is_empty());
        wanted.run.seed = 9;
        wanted.data.id_column = Some("id".into());
        let refused = refuse_changes(&recorded, &wanted);
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(
            refused[0]
                .starts_with("data.id_column: the run in this directory was started with not set, now it is \"id\"")
        );
        assert!(refused[1].starts_with("run.seed: the run in this directory was started with 0, now it is 9"));
    }
}
