//! The examples of configs/VERIFIERS.md and of the options' own documentation are verifiers that can be built.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use counterpoint_verifier::{Registry, VerifierConfig};

/// The ```toml blocks of a text, each with the number of its first line.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
            None if line.trim() == "```toml" => open = Some((number + 2, String::new())),
            None => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

/// The documentation in a source file, each line in its place.
fn documentation(source: &str) -> String {
    let doc = |line: &str| {
        let line = line.trim_start();
        let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).unwrap_or_default();
        text.strip_prefix(' ').unwrap_or(text).to_owned() + "\n"
    };
    source.lines().map(doc).collect()
}

/// The section `[verifier]` of a block, if it has one.
fn section(block: &str) -> Result<Option<VerifierConfig>, String> {
    let mut table: toml::Table = toml::from_str(block).map_err(|error| error.to_string())?;
    let Some(section) = table.remove("verifier") else { return Ok(None) };
    section.try_into().map(Some).map_err(|error: toml::de::Error| error.to_string())
}

/// What is wrong with the blocks of a text, and how many have a section `[verifier]`.
fn examine(name: &str, text: &str, problems: &mut Vec<String>) -> usize {
    let mut sections = 0;
    for (line, block) in blocks(text) {
        let mut errors = Vec::new();
        match section(&block) {
            Ok(None) => continue,
            Ok(Some(config)) => {
                config.validate(&mut errors);
                Registry::default().validate(&config, &mut errors);
            }
            Err(error) => errors.push(error),
        }
        sections += 1;
        problems.extend(errors.into_iter().map(|error| format!("{name}:{line}: {error}")));
    }
    sections
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/VERIFIERS.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_example_of_the_page_builds() {
    let mut problems = Vec::new();
    let sections = examine("VERIFIERS.md", &page(), &mut problems);
    assert_eq!(problems, Vec::<String>::new());
    assert!(sections >= 6, "only {sections} examples were found");
}

#[test]
fn the_section_of_a_kind_has_an_example_of_it() {
    let registry = Registry::default();
    let page = page();
    let mut seen = Vec::new();
    // A heading that is one word of code is a kind's.
    for section in page.split("\n##").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap();
        let Some(kind) = heading.trim_start_matches('#').trim().strip_prefix('`').and_then(|h| h.strip_suffix('`'))
        else {
            continue;
        };
        assert!(registry.kinds().any(|known| known == kind), "`{kind}` is no kind");
        let shown = blocks(text).iter().any(|(_, block)| {
            let config = self::section(block).unwrap().unwrap_or_default();
            config.name == kind || config.define.values().any(|definition| definition.kind == kind)
        });
        assert!(shown, "no example of `{kind}` in its section");
        seen.push(kind.to_owned());
    }
    for kind in ["all", "any", "weighted", "first", "by_source", "shadow"] {
        assert!(seen.iter().any(|seen| seen == kind), "no section on `{kind}`");
    }
}

#[test]
fn every_example_in_the_documentation_of_the_code_builds() {
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut problems, mut sections) = (Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = documentation(&std::fs::read_to_string(&path).unwrap());
                sections += examine(&path.display().to_string(), &text, &mut problems);
            }
        }
    }
    assert_eq!(problems, Vec::<String>::new());
    assert!(sections >= 8, "only {sections} examples were found");
}

#[test]
fn an_example_that_does_not_build_is_found_with_its_line() {
    let page =
        "text\n\n```toml\n[other]\n```\n```toml\n[verifier]\nname = \"it\"\n[verifier.define.it]\nkind = \"al\"\n```\n";
    let mut problems = Vec::new();
    assert_eq!(examine("page", page, &mut problems), 1);
    assert_eq!(problems, ["page:7: verifier.define.it.kind: unknown kind of verifier `al`; did you mean `all`?"]);
}
