//! Where in a response the answer stands, for kinds that compare texts: the option `extract`, with its `marker`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::VerifierError;
use crate::math::closing_brace;

/// The marker where none is configured: how GSM8K ends its solutions.
pub(crate) const MARKER: &str = "####";

/// Where in a response the answer stands. A response without such a place gives no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extract {
    /// The whole response is the answer.
    #[default]
    Whole,
    /// The content of the last `\boxed{...}`, nested braces included. If its brace is never closed there is no answer.
    Boxed,
    /// The last line that is not blank.
    LastLine,
    /// What follows the last `marker` on its line, or the next line that is not blank if nothing follows there. Upper and
    /// lower case of the marker do not differ.
    AfterMarker,
}

impl Extract {
    /// Refuses a marker that is nowhere.
    pub(crate) fn check(self, marker: &str) -> Result<(), VerifierError> {
        if self == Self::AfterMarker && marker.trim().is_empty() {
            return Err(VerifierError::BadOption("marker: must not be blank, as in \"Answer:\"".into()));
        }
        Ok(())
    }

    /// The answer that a response gives.
    pub(crate) fn find<'a>(self, text: &'a str, marker: &str) -> Option<&'a str> {
        match self {
            Self::Whole => Some(text),
            Self::Boxed => last_box(text),
            Self::LastLine => text.lines().rev().find(|line| !line.trim().is_empty()),
            Self::AfterMarker => after_marker(text, marker),
        }
    }

    /// The answer in a truth: data sets often keep a whole solution there, box or marker included. A truth without one is the
    /// answer itself.
    pub(crate) fn truth<'a>(self, truth: &'a str, marker: &str) -> &'a str {
        match self {
            Self::Whole | Self::LastLine => truth,
            Self::Boxed | Self::AfterMarker => self.find(truth, marker).unwrap_or(truth),
        }
    }
}

/// The content of the last box. An earlier one does not count if the last one was never closed.
pub(crate) fn last_box(text: &str) -> Option<&str> {
    let boxes = text.rmatch_indices('\\').filter_map(|(at, _)| Some((at, box_at(text, at)?)));
    let (_, content) = boxes.into_iter().find(|(at, _)| !is_escaped(text, *at))?;
    let length = closing_brace(&text[content..])?;
    Some(&text[content..content + length])
}

/// Whether the backslash here is itself what an odd number of backslashes escape.
fn is_escaped(text: &str, at: usize) -> bool {
    text[..at].bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// If a box begins at this backslash, where its content starts.
fn box_at(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let command = ["\\boxed", "\\fbox"].into_iter().find_map(|command| rest.strip_prefix(command))?;
    let content = command.trim_start_matches([' ', '\t']).strip_prefix('{')?;
    Some(text.len() - content.len())
}

fn after_marker<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    // Lowering ASCII letters moves no byte.
    let at = text.to_ascii_lowercase().rfind(&marker.to_ascii_lowercase())?;
    let rest = &text[at + marker.len()..];
    // `**Answer:** 4`: what closes the marker's emphasis is not the answer.
    let blank = |line: &str| line.trim_matches(|c: char| c.is_whitespace() || "*_:".contains(c)).is_empty();
    rest.lines().find(|line| !blank(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_box_wins_and_its_braces_may_nest() {
        for (text, content) in [
            (r"so \boxed{4}.", Some("4")),
            (r"\boxed{1} or \boxed{\frac{1}{2}}", Some(r"\frac{1}{2}")),
            (r"\boxed {4} \fbox{5}", Some("5")),
            (r"\boxed{\boxed{4}}", Some("4")),
            (r"} } \boxed{4} {", Some("4")),
            (r"\boxed{\{1, 2\}}", Some(r"\{1, 2\}")),
            (r"\boxed{\left\{ x \right.}", Some(r"\left\{ x \right.")),
            (r"\boxed{1} \boxed{2", None),
            (r"\boxed{1 \boxed{2}", Some("2")),
            (r"\boxedx{4} \boxed 4", None),
            (r"\\boxed{4}", None),
            (r"\boxed{}", Some("")),
            ("no box", None),
            ("\\", None),
        ] {
            assert_eq!(last_box(text), content, "{text}");
        }
    }

    #[test]
    fn a_marker_is_followed_by_its_answer_on_this_line_or_the_next() {
        for (text, answer) in [
            ("x = 4\n#### 4", Some(" 4")),
            ("Answer: 3\nanswer: 4\nthanks", Some(" 4")),
            ("**ANSWER:**\n\n  4\n5", Some("  4")),
            ("Answer:", None),
            ("the answer", None),
        ] {
            let marker = if text.contains('#') { MARKER } else { "Answer:" };
            assert_eq!(Extract::AfterMarker.find(text, marker), answer, "{text}");
        }
        assert_eq!(Extract::LastLine.find("a\n b \n \n", ""), Some(" b "));
        assert_eq!(Extract::LastLine.find(" \n", ""), None);
        assert_eq!(Extract::Whole.find("a\nb", ""), Some("a\nb"));
    }

    #[test]
    fn a_truth_may_be_a_whole_solution_or_the_answer_alone() {
        assert_eq!(Extract::AfterMarker.truth("2 + 2 = 4\n#### 4", MARKER), " 4");
        assert_eq!(Extract::AfterMarker.truth("4", MARKER), "4");
        assert_eq!(Extract::Boxed.truth(r"so \boxed{4}", MARKER), "4");
        assert_eq!(Extract::LastLine.truth("a\nb", MARKER), "a\nb");
    }

    #[test]
    fn a_blank_marker_is_refused() {
        let error = Extract::AfterMarker.check(" ").unwrap_err().to_string();
        assert_eq!(error, "marker: must not be blank, as in \"Answer:\"");
        assert!(Extract::Boxed.check("").is_ok());
    }

    #[test]
    fn a_megabyte_of_open_boxes_is_read_in_one_pass() {
        assert_eq!(last_box(&r"\boxed{".repeat(150_000)), None);
        assert_eq!(last_box(&"{".repeat(1_000_000)), None);
        let nested = format!("{}4{}", r"\boxed{".repeat(100_000), "}".repeat(100_000));
        assert_eq!(last_box(&nested), Some("4"));
    }

    proptest! {
        // A case takes long in a debug build.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_text_breaks_it(text in r"([a-z\\{}é\n#]|\\boxed\{|Answer:){0,40}") {
            for extract in [Extract::Whole, Extract::Boxed, Extract::LastLine, Extract::AfterMarker] {
                if let Some(found) = extract.find(&text, "Answer:") {
                    prop_assert!(text.contains(found));
                }
            }
        }
    }
}
