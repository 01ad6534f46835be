//! What README.md quotes from files stands there still.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::root;

/// A fence under the line `<!-- from FILE -->`: the file's name and the lines of the fence.
fn quotes(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(file) = line.strip_prefix("<!-- from ").and_then(|rest| rest.strip_suffix(" -->")) else { continue };
        let fence = lines.next().unwrap_or_default();
        assert!(fence.starts_with("```"), "{file}: a fence must follow, not {fence:?}");
        let body: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        found.push((file.to_owned(), body.join("\n")));
    }
    found
}

#[test]
fn every_quote_is_a_part_of_its_file() {
    let page = std::fs::read_to_string(root().join("README.md")).unwrap();
    let quotes = quotes(&page);
    assert!(quotes.len() >= 3, "the ways to write a verifier are quoted, found {}", quotes.len());
    for (file, quote) in quotes {
        let text = std::fs::read_to_string(root().join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(text.contains(&quote), "README quotes {file}, but it does not say:\n{quote}");
    }
}
