//! The search for the final answer, in any text: what it finds stands in the text, the later stages end, and a second search
//! finds the same.
#![no_main]

use counterpoint_verifier::math::{Candidate, Method, Search, conclusion};
use libfuzzer_sys::fuzz_target;

/// More candidates than any text may give: the sum of what each method gives at most, with room.
const MOST_CANDIDATES: usize = 200;

fuzz_target!(|text: &str| {
    let concluded = conclusion(text);
    assert!(stands_in(concluded, text), "the conclusion is not a part of the text");
    let all = search(concluded, &Method::ALL);
    assert_eq!(all, search(concluded, &Method::ALL), "a second search differs");
    assert!(all.len() <= MOST_CANDIDATES, "{} candidates", all.len());
    for candidate in &all {
        check(candidate, concluded);
    }
    for method in Method::ALL {
        let alone = search(concluded, &[method]);
        for candidate in &alone {
            assert_eq!(candidate.method, method, "another method than was asked for");
            check(candidate, concluded);
        }
        // A search by all methods never misses a box that a search for boxes finds.
        if method == Method::Boxed {
            let boxed: Vec<_> = all.iter().filter(|candidate| candidate.method == method).cloned().collect();
            assert_eq!(boxed, alone, "the box depends on the other methods");
        }
    }
    assert!(search(concluded, &[]).is_empty(), "found by no method");
});

fn search<'a>(text: &'a str, methods: &[Method]) -> Vec<Candidate<'a>> {
    let mut search = Search::new(text, methods);
    let mut found = Vec::new();
    for _ in 0..5 {
        let Some(stage) = search.stage() else { return found };
        found.extend(stage);
    }
    panic!("more stages than there are");
}

/// Nothing is made up: a candidate is a part of the text, or several boxes of it joined.
fn check(candidate: &Candidate<'_>, text: &str) {
    let found = &*candidate.text;
    if found.is_empty() || stands_in(found, text) {
        return;
    }
    assert_eq!(candidate.method, Method::Boxed, "{found:?} does not stand in the text");
    assert!(is_joined(found, text), "{found:?} is not made of boxes of the text");
}

/// Whether it is parts of the text with ` , ` between them. A part may have that in it too, so each of them may join or not.
fn is_joined(found: &str, text: &str) -> bool {
    let joints: Vec<usize> = found.match_indices(',').map(|(at, _)| at).collect();
    let joint = |at: usize| at > 0 && found[..at].ends_with(' ') && found[at + 1..].starts_with(' ');
    // Where a part may begin, given that all before it are parts of the text.
    let mut starts = vec![0];
    for at in joints.into_iter().filter(|at| joint(*at)) {
        if starts.iter().any(|start| found.get(*start..at - 1).is_some_and(|part| text.contains(part))) {
            starts.push(at + 2);
        }
    }
    starts.iter().any(|start| text.contains(&found[*start..]))
}

/// By address, for what is borrowed: the very bytes, not others like them.
fn stands_in(part: &str, text: &str) -> bool {
    let whole = text.as_bytes().as_ptr_range();
    let part = part.as_bytes().as_ptr_range();
    whole.start <= part.start && part.end <= whole.end
}
