//! The parser takes any text: it returns a meaning or an error, within its budget and without a panic, and again the same.
#![no_main]

use counterpoint_verifier::math::{Budget, DEEPEST, Expr, LONGEST_TEXT, ParseError, Style, parse, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let whole = Budget::default().left();
    for style in [Style::Formula, Style::Prose] {
        for alternative in [false, true] {
            let mut budget = Budget::default();
            let first = read(text, style, alternative, &mut budget);
            let spent = whole - budget.left();
            assert_eq!(first, read(text, style, alternative, &mut Budget::default()), "a second reading differs");
            match &first {
                Ok(reading) => {
                    assert!(depth(&reading.expr) <= DEEPEST, "deeper than allowed");
                    // What `explain` shows.
                    let _ = reading.expr.to_string();
                    // The budget only ever stops a reading: just enough (a last step may stay over) gives the same, less
                    // gives none.
                    let enough = read(text, style, alternative, &mut Budget::of(spent + 1));
                    assert_eq!(first, enough, "enough, but different");
                    if let Some(short) = spent.checked_sub(1) {
                        let short = read(text, style, alternative, &mut Budget::of(short));
                        assert_eq!(short, Err(ParseError::Budget), "fewer steps than it takes");
                    }
                }
                Err(ParseError::Budget) => {}
                Err(ParseError::Syntax { at, found }) => {
                    assert!(text.len() <= LONGEST_TEXT, "longer than allowed");
                    assert!(!found.is_empty() && *at <= 4 * text.len(), "the error stands outside the text");
                }
            }
        }
    }
    let usual = read(text, Style::of(text), false, &mut Budget::default()).map(|reading| reading.expr);
    assert_eq!(usual, parse(text, &mut Budget::default()), "`parse` is `read` in the text's own style");
});

fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    expr.for_each_part(&mut |part| deepest = deepest.max(depth(part)));
    deepest + 1
}
