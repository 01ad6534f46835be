//! How a group becomes rows.

use counterpoint_rollout::{Completion, GroupId, PolicyVersion, ScoredGroup};

use super::Limits;

/// A row before its tokens are written out.
pub(super) struct Row<'a> {
    pub(super) group: GroupId,
    pub(super) prompt: &'a [u32],
    /// The answers with their numbers within the batch.
    pub(super) answers: Vec<(usize, &'a Completion)>,
    pub(super) fresh: bool,
    pub(super) length: usize,
}

/// The rows of one group; `first` is the number of its first answer within the batch.
pub(super) fn rows_of<'a>(
    scored: &'a ScoredGroup,
    first: usize,
    version: PolicyVersion,
    limits: &Limits,
) -> Vec<Row<'a>> {
    let group = &scored.group;
    let fresh = group.completions.iter().flat_map(|c| &c.versions).all(|span| span.version == version);
    let prompt = group.prompt_tokens.as_slice();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (number, (completion, _)) in scored.judged().enumerate() {
        let inputs = completion.tokens.len() - 1;
        let answer = (first + number, completion);
        match rows.last_mut() {
            Some(row) if row.length + inputs <= limits.micro_batch_tokens => {
                row.answers.push(answer);
                row.length += inputs;
            }
            _ => rows.push(Row {
                group: group.id(),
                prompt,
                answers: vec![answer],
                fresh,
                length: prompt.len() + inputs,
            }),
        }
    }
    rows
}
