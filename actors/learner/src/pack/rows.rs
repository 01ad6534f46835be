//! How a group becomes rows, and rows tiles.

use counterpoint_rollout::{Completion, GroupId, PolicyVersion, ScoredGroup};

use super::Limits;

/// Rows of fewer tokens than this, padding included, are one tile however unlike they are: a pass costs more in calls than in
/// arithmetic then.
const SMALL_TILE: usize = 2048;

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
    let lengths: Vec<usize> = scored.judged().map(|(completion, _)| completion.tokens.len() - 1).collect();
    let most = answers_per_row(prompt.len(), &lengths, limits.pair_cost);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (number, (completion, _)) in scored.judged().enumerate() {
        let inputs = lengths[number];
        let answer = (first + number, completion);
        match rows.last_mut() {
            Some(row) if row.length + inputs <= limits.micro_batch_tokens && row.answers.len() < most => {
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

/// How many answers make the cheapest rows. In one row every token is compared with every other, those of other answers
/// included, which are then masked; in several, the prompt is computed several times. A row of n tokens costs
/// n + `pair_cost` n².
fn answers_per_row(prompt: usize, answers: &[usize], pair_cost: f64) -> usize {
    let cost = |most: usize| -> f64 {
        let of_row = |answers: &[usize]| {
            let tokens = (prompt + answers.iter().sum::<usize>()) as f64;
            tokens + pair_cost * tokens * tokens
        };
        answers.chunks(most).map(of_row).sum()
    };
    // From the largest down, so that of equal costs the fewest rows win.
    (1..=answers.len()).rev().min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(1)
}

/// Divides rows, longest first, into tiles: neighbours share one while a quarter of it at most is padding.
pub(super) fn tiles(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut tiles: Vec<Vec<usize>> = Vec::new();
    let mut real = 0;
    for &length in lengths {
        if let Some(tile) = tiles.last_mut() {
            // The first row is the longest.
            let padded = (tile.len() + 1) * tile[0];
            if padded <= SMALL_TILE || 3 * padded <= 4 * (real + length) {
                tile.push(length);
                real += length;
                continue;
            }
        }
        tiles.push(vec![length]);
        real = length;
    }
    tiles
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tiles_keep_the_order_and_waste_little(lengths in prop::collection::vec(1usize..5000, 1..30)) {
            let mut lengths = lengths;
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            let tiles = tiles(&lengths);
            prop_assert_eq!(tiles.concat(), lengths);
            for tile in tiles {
                let padded = tile.len() * tile[0];
                prop_assert!(padded <= SMALL_TILE || 3 * padded <= 4 * tile.iter().sum::<usize>(), "{:?}", tile);
            }
        }

        #[test]
        fn no_other_number_of_answers_per_row_is_cheaper(
            prompt in 1usize..3000,
            answers in prop::collection::vec(0usize..3000, 1..9),
            pair_cost in 0f64..1e-3,
        ) {
            let chosen = answers_per_row(prompt, &answers, pair_cost);
            let cost = |most: usize| -> f64 {
                answers.chunks(most).map(|row| (prompt + row.iter().sum::<usize>()) as f64).map(|n| n + pair_cost * n * n).sum()
            };
            for other in 1..=answers.len() {
                prop_assert!(cost(chosen) <= cost(other) * (1.0 + 1e-12), "{chosen} costs more than {other}");
            }
        }
    }

    #[test]
    fn short_answers_share_their_prompt_and_long_ones_do_not() {
        // Of a model of 7 billion parameters, a pair costs 4e-5 tokens.
        assert_eq!(answers_per_row(500, &[300; 8], 4e-5), 8);
        assert_eq!(answers_per_row(100, &[8000; 8], 4e-5), 1);
    }
}
