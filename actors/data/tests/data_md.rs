//! The examples of configs/DATA.md: rows are recognised as it says, and configs are valid.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use counterpoint_data::{DataConfig, load};

/// The fences of the page with the language after their opening.
fn fences() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/DATA.md");
    let text = std::fs::read_to_string(page).unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        found.push((language.to_owned(), body.join("\n")));
    }
    found
}

#[test]
fn every_example_row_is_recognised_as_the_page_says() {
    let fences = fences();
    let mut examples = 0;
    for pair in fences.windows(2) {
        let [(language, rows), (next, expected)] = pair else { continue };
        if language != "jsonl" {
            continue;
        }
        assert_eq!(next, "text", "what check prints must follow {rows}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rows.jsonl");
        std::fs::write(&file, format!("{rows}\n")).unwrap();
        let data = load(&DataConfig::of_file(&file), None).unwrap();
        assert_eq!(data.report.files[0].mapping.as_ref().unwrap().to_string(), *expected);
        examples += 1;
    }
    assert_eq!(examples, 6);
}

#[test]
fn every_example_config_is_valid() {
    let configs: Vec<String> =
        fences().into_iter().filter(|(language, _)| language == "toml").map(|(_, t)| t).collect();
    assert!(configs.len() >= 3);
    for text in configs {
        let table: toml::Table = toml::from_str(&text).unwrap();
        let config: DataConfig = table["data"].clone().try_into().unwrap();
        let mut errors = Vec::new();
        config.validate(&mut errors);
        assert_eq!(errors, Vec::<String>::new(), "{text}");
    }
}
