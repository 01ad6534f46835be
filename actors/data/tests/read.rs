//! Files of any format become questions, or their bad rows are named.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use counterpoint_data::{AnswerFrom, Data, DataConfig, Files, OnError, Questions, load, load_held_out, read_files};
use counterpoint_rollout::{ChatMessage, Prompt, PromptContent, PromptSet};
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::json;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn all(questions: &Questions) -> Vec<Arc<Prompt>> {
    (0..questions.len()).map(|row| questions.get(row).unwrap()).collect()
}

fn read(path: impl Into<Files>, edit: impl FnOnce(&mut DataConfig)) -> Result<(Vec<Arc<Prompt>>, Vec<String>), String> {
    let mut config = DataConfig::default();
    edit(&mut config);
    let (questions, report) = read_files(&path.into(), &config, None).map_err(|e| e.to_string())?;
    Ok((all(&questions), report.lines()))
}

/// Reads a file of these bytes; its directory's name is left out of messages.
fn parse(bytes: &[u8], edit: impl FnOnce(&mut DataConfig)) -> Result<Vec<Arc<Prompt>>, String> {
    let dir = Dir::new();
    let path = dir.file("a.jsonl", bytes);
    let place = format!("{}/", dir.0.path().display());
    read(path, edit).map(|(prompts, _)| prompts).map_err(|e| e.replace(&place, "dir/"))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lines(n: usize) -> String {
    (0..n).map(|i| format!("{{\"prompt\":\"{i} + 1\",\"answer\":{},\"n\":{i}}}\n", i + 1)).collect()
}

#[test]
fn texts_numbers_marks_and_line_ends_of_any_kind_are_read() {
    let file = b"\xef\xbb\xbf{\"prompt\":\"1+1=\",\"answer\":2}\r\n\r\n{\"prompt\":\"x\",\"answer\":\"18.0\"}";
    for memory in [256, 0] {
        let prompts = parse(file, |c| c.memory_mib = memory).unwrap();
        assert_eq!(prompts.len(), 2);
        assert_eq!((prompts[0].id.as_str(), prompts[0].answer.as_str()), ("a.jsonl:1", "2"));
        assert_eq!((prompts[1].id.as_str(), prompts[1].answer.as_str()), ("a.jsonl:3", "18.0"));
        assert_eq!(prompts[0].source, "a.jsonl");
    }
}

#[test]
fn other_columns_are_kept_for_the_verifier_and_data_source_names_the_source() {
    let file = br#"{"prompt":"q","answer":"a","id":7,"data_source":"gsm8k","level":{"grade":3}}"#;
    let prompts = parse(file, |c| c.id_column = Some("id".into())).unwrap();
    assert_eq!((prompts[0].source.as_str(), prompts[0].id.as_str()), ("gsm8k", "7"));
    let info = serde_json::to_value(&prompts[0].info).unwrap();
    assert_eq!(info, json!({"data_source": "gsm8k", "level": {"grade": 3}}));
}

#[test]
fn a_system_prompt_or_as_chat_makes_a_chat() {
    let file = br#"{"prompt":"q","answer":"a"}
{"prompt":[{"role":"user","content":"q"}],"answer":"a"}"#;
    let message = |role: &str, content: &str| ChatMessage::new(role, content);
    let prompts = parse(file, |c| c.system_prompt = Some("s".into())).unwrap();
    let expected = PromptContent::Chat(vec![message("system", "s"), message("user", "q")]);
    assert_eq!([&prompts[0].content, &prompts[1].content], [&expected, &expected]);
    let prompts = parse(file, |c| c.as_chat = true).unwrap();
    assert_eq!(prompts[0].content, PromptContent::Chat(vec![message("user", "q")]));
    let own = br#"{"prompt":[{"role":"system","content":"t"}],"answer":"a"}"#;
    assert!(parse(own, |c| c.system_prompt = Some("s".into())).unwrap_err().contains("drop one of them"));
}

#[test]
fn every_bad_line_is_named_with_what_is_wrong() {
    let file =
        b"{\"prompt\":\"q\"}\n{\n[1]\n{\"prompt\":\"q\",\"answer\":true}\n{\"prompt\":\"\",\"answer\":1}\n\xff\n\
        {\"prompt\":\"q\",\"answer\":12345678901234567890123}\n";
    let error = parse(file, |_| ()).unwrap_err();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 7, "{error}");
    assert_eq!(lines[0], "dir/a.jsonl:1: no column \"answer\" (data.answer_column); the line has \"prompt\"");
    assert!(
        lines[1].starts_with("dir/a.jsonl:2: not valid JSON: EOF while parsing an object at column 1"),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], "dir/a.jsonl:3: expected a JSON object, got an array");
    assert_eq!(lines[3], "dir/a.jsonl:4: column \"answer\": expected a text or a number, got true or false");
    assert_eq!(lines[4], "dir/a.jsonl:5: column \"prompt\": is empty");
    assert_eq!(lines[5], "dir/a.jsonl:6: not valid UTF-8 at byte 1 of the line; convert the file to UTF-8");
    assert!(lines[6].contains("write it in quotes"));
    assert_eq!(parse("[\n".repeat(99).as_bytes(), |_| ()).unwrap_err().lines().count(), 10);
}

#[test]
fn bad_rows_are_skipped_and_counted_where_the_config_says_so() {
    let dir = Dir::new();
    let path = dir.file("a.jsonl", b"{\n{\"prompt\":\"q\",\"answer\":1}\n{\"prompt\":\"r\"}\n");
    let (prompts, report) = read(path, |c| c.on_error = OnError::Skip).unwrap();
    assert_eq!(prompts.len(), 1);
    assert!(report[1].starts_with("2 rows are skipped, as data.on_error says; the first: "), "{report:?}");
    assert!(report[1].contains("a.jsonl:1: not valid JSON"));
    let nothing = parse(b"{\n{\n", |c| c.on_error = OnError::Skip).unwrap_err();
    assert!(nothing.contains("holds no question") && nothing.contains("2 rows are skipped"), "{nothing}");
}

#[test]
fn two_equal_ids_are_refused_with_both_lines_and_skipped_if_wanted() {
    let file = br#"{"prompt":"q","answer":"a","n":7}
{"prompt":"r","answer":"a","n":"7"}"#;
    let error = parse(file, |c| c.id_column = Some("n".into())).unwrap_err();
    assert_eq!(error, "dir/a.jsonl:2: id \"7\" stands in line 1 already; ids must be unique");
    let skipped = parse(file, |c| (c.id_column, c.on_error) = (Some("n".into()), OnError::Skip)).unwrap();
    assert_eq!(skipped.len(), 1);
    let dir = Dir::new();
    let (a, b) = (dir.file("a.jsonl", lines(2)), dir.file("b.jsonl", lines(1)));
    let error = read(Files::Several(vec![a, b]), |c| c.id_column = Some("n".into())).unwrap_err();
    assert!(error.contains("b.jsonl:1: id \"0\" stands in ") && error.contains("a.jsonl:1 already"), "{error}");
}

#[test]
fn an_empty_file_is_no_data() {
    assert!(parse(b"\n\r\n", |_| ()).unwrap_err().starts_with("dir/a.jsonl: holds no question"));
    assert!(parse(b"", |_| ()).unwrap_err().starts_with("dir/a.jsonl: holds no question"));
}

#[test]
fn files_of_one_name_have_ids_that_differ() {
    let dir = Dir::new();
    dir.file("x/a.jsonl", lines(1));
    dir.file("y/a.jsonl", lines(1));
    let (prompts, report) = read(dir.0.path().join("*/*.jsonl"), |_| ()).unwrap();
    assert!(prompts[0].id.ends_with("x/a.jsonl:1") && prompts[1].id.ends_with("y/a.jsonl:1"), "{prompts:?}");
    assert_eq!(report.len(), 2);
}

#[test]
fn every_format_gives_the_same_questions_in_memory_and_from_disk() {
    let dir = Dir::new();
    let text = lines(300);
    let plain = dir.file("a.jsonl", &text);
    let gzip = dir.file("b.jsonl.gz", gzip(text.as_bytes()));
    let zstd = dir.file("c.jsonl.zst", zstd::encode_all(text.as_bytes(), 1).unwrap());
    let key = |p: &Arc<Prompt>| (p.content.clone(), p.answer.clone(), p.info.clone());
    let expected: Vec<_> = read(plain.clone(), |_| ()).unwrap().0.iter().map(key).collect();
    for path in [&plain, &gzip, &zstd] {
        let held = read(path.clone(), |_| ()).unwrap().0;
        let from_disk = read(path.clone(), |c| c.memory_mib = 0).unwrap().0;
        assert_eq!(held, from_disk, "{path:?}");
        assert_eq!(held.iter().map(key).collect::<Vec<_>>(), expected);
    }
    let three = Files::Several(vec![fixture("verl.parquet"), plain, zstd]);
    let edit = |c: &mut DataConfig| (c.memory_mib, c.max_prompt_tokens) = (0, None);
    assert_eq!(read(three.clone(), edit).unwrap().0, read(three, |_| ()).unwrap().0);
}

#[test]
fn a_larger_set_is_not_held_and_a_changed_file_is_noticed() {
    let dir = Dir::new();
    let path = dir.file("a.jsonl", lines(10));
    let config = DataConfig { memory_mib: 0, ..DataConfig::default() };
    let (questions, _) = read_files(&path.clone().into(), &config, None).unwrap();
    assert!(!questions.are_held());
    std::fs::write(&path, "{}\n".repeat(10)).unwrap();
    let error = questions.get(5).unwrap_err();
    assert!(error.contains("a.jsonl:6: ") && error.contains("the file has changed since it was opened"), "{error}");
    assert!(questions.get(10).is_err());
}

#[test]
fn compressed_files_that_are_cut_off_or_damaged_are_refused_in_one_line() {
    let dir = Dir::new();
    let text = lines(500);
    let whole = gzip(text.as_bytes());
    let cut = dir.file("a.jsonl.gz", &whole[..whole.len() / 2]);
    let error = read(cut, |_| ()).unwrap_err();
    assert!(error.contains("the compressed file is cut off, behind line "), "{error}");
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let error = read(dir.file("a.jsonl.zst", &zstd[..zstd.len() / 2]), |_| ()).unwrap_err();
    assert!(error.contains("the compressed file is "), "{error}");
    let error = read(dir.file("b.jsonl.gz", text), |_| ()).unwrap_err();
    assert!(error.contains("does not begin as a gzip file does"), "{error}");
}

#[test]
fn a_huge_line_is_named_and_the_rest_is_read() {
    let mut file = b"{\"prompt\":\"".to_vec();
    file.resize(17 << 20, b'x');
    file.extend(b"\",\"answer\":1}\n{\"prompt\":\"q\",\"answer\":2}\n");
    let error = parse(&file, |_| ()).unwrap_err();
    assert!(
        error.starts_with("dir/a.jsonl:1: the line has 178258") && error.ends_with("at most 16777216 are read"),
        "{error}"
    );
    let dir = Dir::new();
    let (prompts, _) = read(dir.file("a.jsonl.gz", gzip(&file)), |c| c.on_error = OnError::Skip).unwrap();
    assert_eq!((prompts.len(), prompts[0].answer.as_str()), (1, "2"));
}

#[test]
fn a_share_is_held_out_by_seed_and_equal_questions_are_on_one_side() {
    let dir = Dir::new();
    let path = dir.file("a.jsonl", lines(1000).repeat(2));
    let split = |seed, memory_mib| {
        let config = DataConfig {
            train: path.clone().into(),
            eval_share: Some(0.1),
            split_seed: seed,
            memory_mib,
            ..DataConfig::default()
        };
        let Data { train, held_out, .. } = load(&config, None).unwrap();
        let only = load_held_out(&config, None).unwrap().unwrap().0;
        let held_out = all(&held_out.unwrap());
        assert_eq!(all(&only), held_out);
        (all(&train), held_out)
    };
    let (train, held_out) = split(1, 256);
    assert_eq!(train.len() + held_out.len(), 2000);
    assert!((140..260).contains(&held_out.len()), "{}", held_out.len());
    assert!(held_out.iter().all(|h| train.iter().all(|t| t.content != h.content)));
    assert_eq!(split(1, 0), (train.clone(), held_out));
    assert_ne!(split(2, 256).0, train);
}

#[test]
fn longer_questions_than_the_limit_are_left_out_and_counted() {
    let dir = Dir::new();
    let path = dir.file("a.jsonl", lines(12));
    let config = DataConfig { max_prompt_tokens: Some(5), ..DataConfig::default() };
    let count = |content: &PromptContent| Ok(content.display().len() as u64);
    let (questions, report) = read_files(&path.clone().into(), &config, Some(&count)).unwrap();
    assert_eq!((questions.len(), report.too_long), (10, 2));
    assert!(report.lines()[1].contains("2 questions are left out"));
    let (_, report) = read_files(&path.into(), &config, None).unwrap();
    assert!(report.lines()[1].contains("once the tokenizer is there"));
}

#[test]
fn a_task_is_data_too() {
    let config: DataConfig =
        toml::from_str("task = \"reverse\"\nas_chat = true\ntask_options = { count = 5, held_out = 2 }").unwrap();
    let data = load(&config, None).unwrap();
    assert_eq!((data.train.len(), data.held_out.as_ref().unwrap().len()), (5, 2));
    assert!(matches!(data.train.get(0).unwrap().content, PromptContent::Chat(_)));
    assert!(data.report.lines()[0].contains("the verifier for it is \"exact\""));
}

/// The line that `check` prints for a file with these rows, or the error.
fn mapping(rows: &str, edit: impl FnOnce(&mut DataConfig)) -> String {
    let dir = Dir::new();
    let place = format!("{}/", dir.0.path().display());
    match read(dir.file("a.jsonl", rows), edit) {
        Ok((prompts, report)) => {
            let mapping = report[0].split_once("rows): ").unwrap().1.split_once(", id = ").unwrap().0;
            format!("{mapping} -> {} => {}", prompts[0].content.display(), prompts[0].answer)
        }
        Err(error) => error.replace(&place, ""),
    }
}

#[test]
fn schemas_are_recognised_by_their_columns() {
    for (rows, expected) in [
        (
            r##"{"question":"2+2?","answer":"Add.\n#### 4"}"##,
            "question/answer: prompt = \"question\", answer = \"answer\" after the last #### -> 2+2? => 4",
        ),
        (
            r#"{"question":"2+2?","answer":"4"}"#,
            "question/answer: prompt = \"question\", answer = \"answer\" -> 2+2? => 4",
        ),
        (
            r#"{"problem":"p","solution":"so \\boxed{7}"}"#,
            "problem/solution: prompt = \"problem\", answer = \"solution\" in the last \\boxed -> p => 7",
        ),
        (
            r#"{"problem":"p","solution":"so 7","answer":"7","messages":[]}"#,
            "problem/solution: prompt = \"problem\", answer = \"answer\" -> p => 7",
        ),
        (
            r#"{"messages":[{"role":"user","content":"p"},{"role":"assistant","content":"\\boxed{1}"}]}"#,
            "messages: prompt = \"messages\", answer = the last message in the last \\boxed -> user: p => 1",
        ),
        (
            r#"{"messages":[{"role":"user","content":"p"}],"answer":3}"#,
            "messages: prompt = \"messages\", answer = \"answer\" -> user: p => 3",
        ),
        (
            r#"{"messages":[{"role":"user","content":"p"},{"role":"assistant","content":"long"}],"answer":3}"#,
            "messages: prompt = \"messages\", answer = \"answer\" -> user: p => 3",
        ),
        (
            r#"{"prompt":[{"role":"user","content":"p"}],"reward_model":{"ground_truth":"5","style":"rule"}}"#,
            "verl: prompt = \"prompt\", answer = \"reward_model.ground_truth\" -> user: p => 5",
        ),
        (
            r#"{"prompt":[{"role":"user","content":"p"}]}"#,
            "prompt-only chat: prompt = \"prompt\", answer = none (the verifier must not need one) -> user: p => ",
        ),
        (
            r#"{"prompt":[{"role":"user","content":"p"}],"ground_truth":9}"#,
            "prompt/answer: prompt = \"prompt\", answer = \"ground_truth\" -> user: p => 9",
        ),
        (
            r#"{"prompt":"p","solution":"\\boxed{1}"}"#,
            "prompt/answer: prompt = \"prompt\", answer = \"solution\" in the last \\boxed -> p => 1",
        ),
    ] {
        assert_eq!(mapping(rows, |_| ()), expected, "{rows}");
    }
}

#[test]
fn an_ambiguous_or_unknown_schema_is_refused_with_the_columns() {
    for (rows, expected) in [
        (
            r#"{"text":"p","label":1}"#,
            "a.jsonl: no column is known to be the question; the columns are \"text\", \"label\"; name the right one with data.prompt_column",
        ),
        (
            r#"{"prompt":"p","question":"q","answer":1}"#,
            "a.jsonl: \"prompt\" and \"question\" may each be the question; the columns are \"prompt\", \"question\", \"answer\"; name the right one with data.prompt_column",
        ),
        (
            r#"{"prompt":"p","ground_truth":2,"answer":1}"#,
            "a.jsonl: \"answer\" and \"ground_truth\" may each be the answer; the columns are \"prompt\", \"ground_truth\", \"answer\"; name the right one with data.answer_column",
        ),
        (
            r#"{"prompt":"p","label":1}"#,
            "a.jsonl: no column is known to be the answer; the columns are \"prompt\", \"label\"; name the right one with data.answer_column",
        ),
    ] {
        assert_eq!(
            mapping(rows, |_| ())
                .replace("\"answer\", \"prompt\", \"question\"", "\"prompt\", \"question\", \"answer\"")
                .replace("\"answer\", \"ground_truth\", \"prompt\"", "\"prompt\", \"ground_truth\", \"answer\"")
                .replace("\"label\", \"prompt\"", "\"prompt\", \"label\"")
                .replace("\"label\", \"text\"", "\"text\", \"label\""),
            expected,
            "{rows}"
        );
    }
    let mixed = "{\"question\":\"a\",\"answer\":\"#### 1\"}\n{\"question\":\"b\",\"answer\":\"2\"}\n";
    assert!(
        mapping(mixed, |_| ())
            .contains("1 of the first 2 rows have ####; say what the answer is with data.answer_from")
    );
    assert!(mapping(mixed, |c| c.answer_from = AnswerFrom::Whole).ends_with("a => #### 1"));
    assert!(
        mapping(mixed, |c| c.answer_from = AnswerFrom::Hashes)
            .contains("a.jsonl:2: column \"answer\": has no answer behind a last ####")
    );
}

#[test]
fn columns_that_the_config_names_may_be_nested_and_leave_their_neighbours_as_info() {
    let dir = Dir::new();
    let path = dir.file("a.jsonl", r#"{"in":{"text":"p","lang":"en"},"out":{"truth":4},"meta":{"src":"s"}}"#);
    let (prompts, _) = read(path, |c| {
        (c.prompt_column, c.answer_column) = (Some("in.text".into()), Some("out.truth".into()));
        c.source_column = "meta.src".into();
    })
    .unwrap();
    let prompt = &prompts[0];
    assert_eq!((prompt.content.display().as_str(), prompt.answer.as_str(), prompt.source.as_str()), ("p", "4", "s"));
    assert_eq!(serde_json::to_value(&prompt.info).unwrap(), json!({"in": {"lang": "en"}, "meta": {"src": "s"}}));
}

#[test]
fn parquet_of_every_schema_is_recognised_and_its_bad_rows_are_named() {
    let first = |name: &str| {
        let (prompts, report) = read(fixture(name), |_| ()).unwrap();
        (prompts[0].answer.clone(), report[0].split_once("rows): ").unwrap().1.split(':').next().unwrap().to_owned())
    };
    assert_eq!(first("verl.parquet"), ("0".to_owned(), "verl".to_owned()));
    assert_eq!(first("gsm8k.parquet"), ("1".to_owned(), "question/answer".to_owned()));
    assert_eq!(first("trl.parquet"), ("0".to_owned(), "prompt/answer".to_owned()));
    assert_eq!(first("types.parquet"), (r"\frac{1}{2}".to_owned(), "problem/solution".to_owned()));
    let (prompts, _) = read(fixture("verl.parquet"), |_| ()).unwrap();
    assert_eq!((prompts[1].source.as_str(), prompts[1].id.as_str()), ("sums", "verl.parquet:2"));
    assert_eq!(prompts[1].info["reward_model"], json!({"style": "rule"}));
    let error = read(fixture("types.parquet"), |c| c.answer_column = Some("i8".into())).unwrap_err();
    assert!(error.contains("types.parquet: row 2: no column \"i8\" (data.answer_column)"), "{error}");
}

proptest! {
    #[test]
    fn flipped_bits_of_compressed_files_give_questions_or_an_error(
        zstd in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..4),
    ) {
        let dir = Dir::new();
        let text = lines(40);
        let mut bytes = if zstd { zstd::encode_all(text.as_bytes(), 1).unwrap() } else { gzip(text.as_bytes()) };
        for (at, bit) in flips {
            let at = 4 + at.index(bytes.len() - 4);
            bytes[at] ^= 1 << bit;
        }
        if let Err(error) = read(dir.file("a.jsonl", bytes), |_| ()) {
            prop_assert!(error.contains("a.jsonl"), "{}", error);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, |_| ());
        let _ = parse(&bytes, |c| c.on_error = OnError::Skip);
    }
}

#[test]
fn a_prompt_may_be_token_ids() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ids.jsonl");
    let read = |row: &str, config: &DataConfig| {
        std::fs::write(&path, row).unwrap();
        let questions = read_files(&path.as_path().into(), config, None).map_err(|e| e.to_string())?.0;
        Ok::<_, String>(questions.first(1).unwrap()[0].content.clone())
    };
    let config = DataConfig::default();
    let tokens = PromptContent::Tokens(vec![3, 12, 0]);
    assert_eq!(read(r#"{"prompt": [3, 12, 0], "answer": "x"}"#, &config), Ok(tokens.clone()));
    let as_chat = DataConfig { as_chat: true, ..DataConfig::default() };
    assert_eq!(read(r#"{"prompt": [3, 12, 0], "answer": "x"}"#, &as_chat), Ok(tokens));
    for (row, problem) in [
        (r#"{"prompt": [3, -1], "answer": "x"}"#, "item 2 of the token ids is -1; expected a whole number from 0 on"),
        (r#"{"prompt": [3, 4294967296], "answer": "x"}"#, "item 2 of the token ids is 4294967296"),
        (r#"{"prompt": [1.5], "answer": "x"}"#, "item 1 of the token ids is 1.5"),
        (r#"{"prompt": [3, "a"], "answer": "x"}"#, "item 2 of the token ids is \"a\""),
    ] {
        let error = read(row, &config).unwrap_err();
        assert!(error.contains(problem) && error.lines().count() == 1, "{error}");
    }
    let system = DataConfig { system_prompt: Some("s".into()), ..DataConfig::default() };
    let error = read(r#"{"prompt": [3], "answer": "x"}"#, &system).unwrap_err();
    assert!(error.contains("is token ids, to which no system prompt can be added"), "{error}");
}
