//! Packing, against its definition: every answer token is a target exactly once, predicted from exactly what stood before it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;

use common::{batch, completion, group};
use counterpoint_learner::pack::{Limits, MicroBatch, pack};
use counterpoint_rollout::{Batch, Verdict};
use proptest::prelude::*;

fn limits(micro_batch_tokens: usize) -> Limits {
    Limits { micro_batch_tokens, positions: 1000, vocabulary: 1000 }
}

fn void() -> Verdict {
    Verdict::Void(counterpoint_rollout::VoidReason::Timeout)
}

/// What the model sees at a place: the tokens that `PackedAttention::segmented` lets it see, with their positions.
fn context(micro: &MicroBatch, place: usize) -> Vec<(i64, i64)> {
    let ends = micro.rows.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    let start = ends.take_while(|end| *end <= place).last().unwrap_or(0);
    let own = micro.segments[place];
    (start..=place)
        .filter(|i| micro.segments[*i] == 0 || micro.segments[*i] == own)
        .map(|i| (micro.tokens[i], micro.positions[i]))
        .collect()
}

/// Checks one batch; returns the lengths of the micro-batches' rows.
fn check(batch: &Batch, budget: usize) -> Vec<Vec<usize>> {
    let packed = pack(batch, &limits(budget)).unwrap();
    let all: Vec<_> = batch.groups.iter().flat_map(|g| g.judged().map(move |(c, _)| (g, c))).collect();
    assert_eq!(packed.answers.len(), all.len());
    let mut trained: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    for micro in &packed.micro_batches {
        let rows = micro.rows.clone();
        assert_eq!(micro.tokens.len(), rows.iter().sum::<usize>(), "no padding");
        assert!(micro.tokens.len() <= budget || rows.len() == 1, "rows of {rows:?}");
        for (i, place) in micro.picks.iter().enumerate() {
            let number = micro.answers[micro.answer[i] as usize];
            let (scored, completion) = all[number];
            let done = trained.entry(number).or_default();
            // What is trained next in this answer, and what must have been seen for it: prompt and answer so far.
            let before: Vec<(i64, i64)> = scored
                .group
                .prompt_tokens
                .iter()
                .chain(&completion.tokens[..done.len()])
                .zip(0..)
                .map(|(token, position)| (i64::from(*token), position))
                .collect();
            assert_eq!(context(micro, *place as usize), before);
            assert_eq!(micro.targets[i], i64::from(completion.tokens[done.len()]));
            assert_eq!(micro.logp_old[i], completion.logprobs[done.len()]);
            let same = scored.group.completions.iter().flat_map(|c| &c.versions).all(|s| s.version == batch.version);
            assert_eq!(micro.fresh[i] == 1.0, same);
            done.push(micro.targets[i]);
        }
    }
    assert_eq!(trained.values().map(|t| t.len() as u64).sum::<u64>(), packed.tokens);
    for (number, (scored, completion)) in all.iter().enumerate() {
        assert_eq!(trained[&number].len(), completion.tokens.len(), "every token of answer {number} exactly once");
        let facts = &packed.answers[number];
        assert_eq!(facts.tokens, completion.tokens.len() as u64);
        assert!((facts.rate - f64::from(scored.rate().unwrap())).abs() < 1e-6);
    }
    packed.micro_batches.iter().map(|m| m.rows.clone()).collect()
}

proptest! {
    #[test]
    fn every_answer_token_is_a_target_once_in_its_right_context(
        groups in prop::collection::vec(
            (1usize..6, prop::collection::vec((1usize..9, 0u8..3, 0u64..3), 1..6)), 1..7),
        budget in 1usize..60,
    ) {
        let mut token = 0;
        let groups = groups.into_iter().enumerate().map(|(id, (prompt, answers))| {
            let mut fresh_tokens = |n: usize| (0..n).map(|_| { token += 1; token % 1000 }).collect::<Vec<u32>>();
            let prompt = fresh_tokens(prompt);
            let mut answers: Vec<_> = answers.into_iter()
                .map(|(n, verdict, version)| {
                    let verdict = [Verdict::Correct, Verdict::Incorrect, void()][usize::from(verdict)].clone();
                    (completion(&fresh_tokens(n), version), verdict)
                })
                .collect();
            // A group without any judged answer is never batched.
            answers[0].1 = Verdict::Correct;
            group(id as u64, prompt, answers)
        }).collect();
        check(&batch(2, groups), budget);
    }
}

#[test]
fn rows_come_longest_first_and_share_a_micro_batch_while_they_fit() {
    let answers =
        |n: usize| vec![(completion(&vec![1; n], 0), Verdict::Correct), (completion(&[2], 0), Verdict::Incorrect)];
    // rows of 2 + (n - 1): 4, 3, 7
    let groups =
        vec![group(0, vec![5, 6], answers(3)), group(1, vec![5, 6], answers(2)), group(2, vec![5, 6], answers(6))];
    assert_eq!(check(&batch(0, groups.clone()), 14), [vec![7, 4, 3]]);
    assert_eq!(check(&batch(0, groups.clone()), 13), [vec![7, 4], vec![3]]);
    assert_eq!(check(&batch(0, groups), 8), [vec![7], vec![4, 3]]);
}

#[test]
fn a_group_longer_than_a_micro_batch_is_cut_between_answers() {
    let answers = (0..4).map(|_| (completion(&[1, 2, 3, 4], 0), Verdict::Correct)).collect();
    assert_eq!(check(&batch(0, vec![group(0, vec![7], answers)]), 7), [vec![7], vec![7]]);
}

#[test]
fn what_cannot_be_trained_is_refused_by_group() {
    let right = || (completion(&[1, 2], 0), Verdict::Correct);
    let error = |prompt: Vec<u32>, answer| {
        pack(&batch(0, vec![group(9, prompt, vec![answer])]), &limits(100)).unwrap_err().to_string()
    };
    assert_eq!(
        error(vec![], right()),
        "g9 cannot be trained: its prompt has no tokens; at least one must precede an answer"
    );
    assert_eq!(error(vec![1000], right()), "g9 cannot be trained: token 1000 is not in the vocabulary of 1000");
    assert_eq!(
        error(vec![1; 1000], right()),
        "g9 cannot be trained: answer 0 ends at position 1001, the model has 1000"
    );
    assert_eq!(
        error(vec![1], (completion(&[1], 0), void())),
        "g9 cannot be trained: all its verdicts are void; only judged answers are trained"
    );
    assert_eq!(
        pack(&batch(3, vec![]), &limits(100)).unwrap_err().to_string(),
        "the batch for v3 has no groups; a step needs at least one"
    );
}
