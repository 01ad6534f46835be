//! Fenced blocks of Markdown: where models put programs and data. Pure.

/// A fenced block of Markdown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    /// The first word after the fence, in lower case; may be empty.
    language: String,
    /// The lines between the fences.
    lines: Vec<&'a str>,
}

/// The last block in one of these languages; if no block names one of them and `""` is among them, the last block that names
/// none.
///
/// A fence is a line of three or more backticks or tildes, indented or not; the block ends with a line of at least as many,
/// or with the text.
pub(crate) fn last_block(text: &str, languages: &[String]) -> Option<String> {
    let wanted = |block: &Block| languages.iter().any(|language| language.eq_ignore_ascii_case(&block.language));
    let (named, nameless): (Vec<_>, Vec<_>) =
        blocks(text).into_iter().filter(wanted).partition(|b| !b.language.is_empty());
    let block = named.into_iter().next_back().or_else(|| nameless.into_iter().next_back())?;
    Some(block.text())
}

impl Block<'_> {
    /// What stands between the fences, each line with its end.
    pub(crate) fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }
}

/// The blocks of a text, the last one also if it is not closed.
pub(crate) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(fence) = Fence::opening(line) else { continue };
        let body = lines.by_ref().take_while(|line| !fence.is_closed_by(line)).map(|line| fence.unindent(line));
        blocks.push(Block { lines: body.collect(), language: fence.language });
    }
    blocks
}

struct Fence {
    mark: char,
    length: usize,
    indent: usize,
    language: String,
}

impl Fence {
    fn opening(line: &str) -> Option<Self> {
        let trimmed = line.trim_start();
        let mark = trimmed.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        let length = trimmed.chars().take_while(|&c| c == mark).count();
        let info = &trimmed[length..];
        // Backticks after the fence make it code within a line.
        if length < 3 || (mark == '`' && info.contains('`')) {
            return None;
        }
        // `python`, `Python title="x"`, `{python}`, `{.python .numberLines}`.
        let mut words = info.split(|c: char| c.is_whitespace() || "{}.,:".contains(c));
        let language = words.find(|word| !word.is_empty()).unwrap_or_default().to_lowercase();
        Some(Self { mark, length, indent: line.len() - trimmed.len(), language })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let line = line.trim();
        line.len() >= self.length && line.chars().all(|c| c == self.mark)
    }

    /// Takes off the fence's own indentation, as far as the line has it.
    fn unindent<'a>(&self, line: &'a str) -> &'a str {
        let space = line.len() - line.trim_start().len();
        let mut cut = space.min(self.indent);
        while !line.is_char_boundary(cut) {
            cut -= 1;
        }
        &line[cut..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn languages() -> Vec<String> {
        ["python", "py", ""].map(str::to_owned).into()
    }

    fn last(text: &str) -> Option<String> {
        last_block(text, &languages())
    }

    #[test]
    fn the_last_block_in_the_language_wins() {
        let text = "First try:\n```python\nx = 1\n```\nBetter:\n```Python title=\"a\"\nx = 2\n\ny = 3\n```\nThen run\n\
                    ```sh\npython x.py\n```\nwhich prints\n```\n2\n```\n";
        assert_eq!(last(text).as_deref(), Some("x = 2\n\ny = 3\n"));
    }

    #[test]
    fn a_block_without_a_language_counts_if_no_other_does() {
        assert_eq!(last("```\na\n```\n```\nb\n```\n").as_deref(), Some("b\n"));
        assert_eq!(last("```js\na\n```\n"), None);
        assert_eq!(last_block("```\na\n```\n", &["python".to_owned()]), None);
        assert_eq!(last("no code, only `x` and ```y``` in a line"), None);
    }

    #[test]
    fn fences_may_be_longer_indented_tildes_or_never_closed() {
        assert_eq!(last("````py\n```\nx\n```\n````\nend").as_deref(), Some("```\nx\n```\n"));
        assert_eq!(
            last("1. so:\n   ```python\n   if x:\n       y\n z\n   ```\n").as_deref(),
            Some("if x:\n    y\nz\n")
        );
        assert_eq!(last("~~~ {.python}\nx = '```'\n~~~").as_deref(), Some("x = '```'\n"));
        assert_eq!(last("```python\r\nx\r\n```\r\n").as_deref(), Some("x\n"));
        assert_eq!(last("```python\nx = 1").as_deref(), Some("x = 1\n"));
        assert_eq!(last("```python").as_deref(), Some("\n"));
    }

    proptest! {
        #[test]
        fn what_stands_between_fences_comes_back(
            before in "[a-z \n]{0,20}", code in "[a-z=() \n]{0,40}[a-z]", after in "[a-z \n]{0,20}",
        ) {
            let text = format!("{before}\n```python\n{code}\n```\n{after}");
            prop_assert_eq!(last(&text), Some(format!("{code}\n")));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[`~\\s\u{2003}a{}]{0,60}|\\PC{0,60}") {
            let _ = last(&text);
        }
    }
}
