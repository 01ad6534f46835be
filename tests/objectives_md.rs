//! configs/OBJECTIVES.md: every objective has its section, equation and example, and every example is accepted.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use counterpoint::config;
use counterpoint_learner::ObjectiveConfig;
use counterpoint_learner::objective::ObjectiveName;
use counterpoint_verifier::Registry;

const PAGE: &str = include_str!("../configs/OBJECTIVES.md");

/// The contents of the fenced blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let open = format!("```{language}\n");
    text.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn parse(example: &str) -> config::Config {
    let text = format!("{example}\n[model]\npath = \"m\"\n[data]\ntrain = \"t.jsonl\"\n");
    config::parse("OBJECTIVES.md", &text, &[], &Registry::default()).unwrap_or_else(|e| panic!("{e}\n{example}"))
}

#[test]
fn every_objective_has_a_section_with_its_equation_and_an_example_that_is_accepted() {
    for name in ObjectiveName::BUILT_IN {
        let heading = format!("\n## `{name}`\n");
        let section = PAGE.split(&heading).nth(1).unwrap_or_else(|| panic!("{name} has no section"));
        let section = section.split("\n## ").next().unwrap();
        assert!(!blocks(section, "text").is_empty(), "{name} has no equation");
        let examples = blocks(section, "toml");
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            assert_eq!(parse(example).objective.name, name, "{example}");
        }
    }
}

#[test]
fn every_example_is_accepted_and_every_key_of_the_section_is_explained() {
    let examples = blocks(PAGE, "toml");
    assert!(examples.len() > ObjectiveName::BUILT_IN.len());
    for example in examples {
        parse(example);
    }
    let keys = serde_json::to_value(schemars::schema_for!(ObjectiveConfig)).unwrap();
    for key in keys["properties"].as_object().unwrap().keys() {
        assert!(PAGE.contains(key.as_str()), "objective.{key} is on no line of OBJECTIVES.md");
    }
}
