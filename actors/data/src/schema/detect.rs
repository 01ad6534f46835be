//! Finds the mapping of a file by the columns of its first rows, where the config does not name them.
//!
//! A file whose columns fit no schema, or two of them, is refused with its columns named: a wrong guess would train on the wrong
//! thing without a word.

use serde_json::{Map, Value};

use super::column::names;
use super::{Answer, Column, Mapping, Schema, Take, after_hashes, last_box};
use crate::config::DataConfig;

type Row = Map<String, Value>;

/// The mapping of a file with these first rows.
///
/// # Errors
/// No schema, or more than one, fits; the columns are named.
pub fn detect(sample: &[Row], config: &DataConfig) -> Result<Mapping, String> {
    let (schema, prompt) = prompt(sample, config)?;
    let (schema, answer) = answer(sample, config, schema, &prompt)?;
    Ok(Mapping {
        schema,
        prompt,
        answer,
        id: config.id_column.as_ref().map(Column::from),
        source: Column::from(&config.source_column),
    })
}

fn has(sample: &[Row], name: &str) -> bool {
    let column = Column::from(name);
    sample.iter().any(|row| column.find(row).is_some())
}

const GROUND_TRUTH: &str = "reward_model.ground_truth";

fn prompt(sample: &[Row], config: &DataConfig) -> Result<(Schema, Column), String> {
    if let Some(name) = &config.prompt_column {
        let schema = match name.as_str() {
            // Its last message is treated as in the schema.
            "messages" => Schema::Messages,
            _ => Schema::Config,
        };
        return Ok((schema, name.into()));
    }
    if has(sample, "prompt") && has(sample, GROUND_TRUTH) {
        return Ok((Schema::Verl, "prompt".into()));
    }
    let known =
        [("prompt", Schema::PromptAnswer), ("question", Schema::QuestionAnswer), ("problem", Schema::ProblemSolution)];
    let found: Vec<_> = known.into_iter().filter(|(name, _)| has(sample, name)).collect();
    match found.as_slice() {
        [(name, schema)] => Ok((*schema, (*name).into())),
        // Where there is a better question, a chat beside it (as in NuminaMath) holds the same with its solution.
        [] if has(sample, "messages") => Ok((Schema::Messages, "messages".into())),
        [] => Err(no_mapping("no column is known to be the question", "prompt_column", sample)),
        several => {
            let list = several.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" and ");
            Err(no_mapping(&format!("{list} may each be the question"), "prompt_column", sample))
        }
    }
}

fn answer(sample: &[Row], config: &DataConfig, schema: Schema, prompt: &Column) -> Result<(Schema, Answer), String> {
    let column = match &config.answer_column {
        Some(name) => Some(name.as_str()),
        None if schema == Schema::Verl => Some(GROUND_TRUTH),
        None => answer_column(sample)?,
    };
    let wanted = config.answer_from.take();
    if let Some(name) = column {
        let column = Column::from(name);
        let take = match wanted {
            Some(take) => take,
            None => take_of_column(sample, schema, name, &column)?,
        };
        let schema = match schema {
            // A question of the config's with an answer that is known, or the other way round.
            Schema::Messages => Schema::Messages,
            _ if config.prompt_column.is_some() || config.answer_column.is_some() => Schema::Config,
            schema => schema,
        };
        return Ok((schema, Answer::Column(column, take)));
    }
    let chats = || sample.iter().filter_map(|row| prompt.find(row)?.as_array());
    let answered = |chat: &[Value]| chat.last().is_some_and(|m| m["role"] == "assistant");
    if schema == Schema::Messages && chats().any(|chat| answered(chat)) {
        let texts: Vec<&str> = chats().filter_map(|chat| chat.last()?["content"].as_str()).collect();
        let take = wanted.map_or_else(|| take_of_texts(&texts, "the last message"), Ok)?;
        return Ok((schema, Answer::LastMessage(take)));
    }
    if chats().next().is_some() && sample.iter().all(|row| prompt.find(row).is_none_or(Value::is_array)) {
        return Ok((Schema::PromptOnly, Answer::Nowhere));
    }
    Err(no_mapping("no column is known to be the answer", "answer_column", sample))
}

/// The column of answers beside a known question.
fn answer_column(sample: &[Row]) -> Result<Option<&'static str>, String> {
    let found: Vec<_> = ["answer", "ground_truth", GROUND_TRUTH].into_iter().filter(|name| has(sample, name)).collect();
    match found.as_slice() {
        // A solution beside an answer is how one gets there.
        [] if has(sample, "solution") => Ok(Some("solution")),
        [] => Ok(None),
        [name] => Ok(Some(name)),
        several => {
            let list = several.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" and ");
            Err(no_mapping(&format!("{list} may each be the answer"), "answer_column", sample))
        }
    }
}

fn take_of_column(sample: &[Row], schema: Schema, name: &str, column: &Column) -> Result<Take, String> {
    let texts: Vec<&str> = sample.iter().filter_map(|row| column.find(row)?.as_str()).collect();
    let what = format!("column {name:?}");
    match (schema, name) {
        (Schema::ProblemSolution, "solution") => Ok(Take::Boxed),
        (_, "solution") => take_of_texts(&texts, &what),
        (Schema::QuestionAnswer, "answer") => {
            let hashes = texts.iter().filter(|text| text.contains("####")).count();
            all_or_none(hashes, texts.len(), "####", &what).map(|all| if all { Take::Hashes } else { Take::Whole })
        }
        _ => Ok(Take::Whole),
    }
}

fn take_of_texts(texts: &[&str], what: &str) -> Result<Take, String> {
    let hashes = texts.iter().filter(|text| after_hashes(text).is_some()).count();
    if all_or_none(hashes, texts.len(), "####", what)? {
        return Ok(Take::Hashes);
    }
    let boxes = texts.iter().filter(|text| last_box(text).is_some()).count();
    all_or_none(boxes, texts.len(), "\\boxed", what).map(|all| if all { Take::Boxed } else { Take::Whole })
}

fn all_or_none(with: usize, of: usize, mark: &str, what: &str) -> Result<bool, String> {
    match with {
        0 => Ok(false),
        _ if with == of => Ok(true),
        _ => Err(format!(
            "{what}: {with} of the first {of} rows have {mark}; say what the answer is with data.answer_from \
             (\"whole\", \"hashes\" or \"boxed\")"
        )),
    }
}

fn no_mapping(problem: &str, key: &str, sample: &[Row]) -> String {
    let mut columns: Vec<&String> = Vec::new();
    for name in sample.iter().flat_map(Map::keys) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let list = names(columns.into_iter());
    let list = if list.is_empty() { "none" } else { &list };
    format!("{problem}; the columns are {list}; name the right one with data.{key}")
}
