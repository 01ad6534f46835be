use std::sync::Arc;

use counterpoint_rollout::Purpose;
use proptest::prelude::*;

use super::*;

const EOS: u32 = 1;

fn schedule(capacity: usize) -> Schedule {
    Schedule::new(capacity, 4, vec![EOS], StopStrings::default(), Arc::new(|tokens| format!("{tokens:?}")))
}

fn request(group: u64, answers: u32, min_version: u64) -> Request {
    let noise = (0..answers).map(|s| NoiseKey::new(0, Purpose::Train, 0, &group.to_string(), 0, s)).collect();
    Request { group: GroupId(group), prompt: vec![7, 8], noise, min_version: PolicyVersion(min_version) }
}

fn drawn(token: u32) -> Drawn {
    Drawn { token, logprob: -0.5 }
}

/// Draws for every slot; `token(slot)` says what.
fn draw_all(schedule: &mut Schedule, version: u64, token: impl Fn(usize) -> u32) -> Vec<Sampled> {
    let (_, active) = schedule.compact();
    (0..active).filter_map(|slot| schedule.record(slot, drawn(token(slot)), PolicyVersion(version))).collect()
}

#[test]
fn a_group_with_more_answers_than_slots_is_admitted_in_part() {
    let mut schedule = schedule(3);
    schedule.submit(request(5, 4, 0)).unwrap();
    let first = schedule.admit(PolicyVersion(0), usize::MAX, usize::MAX);
    assert_eq!(first, [Admission { group: GroupId(5), first: true, slots: vec![0, 1, 2] }]);
    assert_eq!(schedule.admitted_in_part(), Some(GroupId(5)));
    assert!(schedule.record(1, drawn(EOS), PolicyVersion(0)).is_none());
    let second = schedule.admit(PolicyVersion(2), usize::MAX, usize::MAX);
    assert_eq!(second, [Admission { group: GroupId(5), first: false, slots: vec![1] }]);
    assert_eq!(schedule.admitted_in_part(), None);
    let done = draw_all(&mut schedule, 2, |_| EOS);
    assert_eq!(done[0].start_version, PolicyVersion(0), "the version of the first token of all");
    assert_eq!(done[0].completions.len(), 4);
}

#[test]
fn a_request_that_waits_for_newer_weights_is_not_overtaken() {
    let mut schedule = schedule(8);
    schedule.submit(request(0, 2, 1)).unwrap();
    schedule.submit(request(1, 2, 0)).unwrap();
    assert!(schedule.admit(PolicyVersion(0), usize::MAX, usize::MAX).is_empty());
    let groups: Vec<GroupId> =
        schedule.admit(PolicyVersion(1), usize::MAX, usize::MAX).iter().map(|a| a.group).collect();
    assert_eq!(groups, [GroupId(0), GroupId(1)]);
}

#[test]
fn an_answer_ends_with_an_end_token_or_at_the_limit() {
    let mut schedule = schedule(2);
    schedule.submit(request(0, 2, 0)).unwrap();
    schedule.admit(PolicyVersion(0), usize::MAX, usize::MAX);
    let mut done = Vec::new();
    for token in [5, EOS, 6, 6, 6] {
        done.extend(draw_all(&mut schedule, 0, |slot| if slot == 0 { token } else { 9 }));
    }
    let [stop, length] = &done[0].completions[..] else { panic!("{done:?}") };
    assert_eq!((stop.finish, &stop.tokens[..], &stop.text[..]), (FinishReason::Stop, &[5, EOS][..], "[5, 1]"));
    assert_eq!((length.finish, length.tokens.len()), (FinishReason::Length, 4));
}

#[test]
fn an_answer_ends_with_a_stop_string_which_its_text_lacks_and_its_tokens_keep() {
    let stop = StopStrings::new(&["6, 7".to_owned()]);
    let mut schedule = Schedule::new(2, 4, vec![EOS], stop, Arc::new(|tokens| format!("{tokens:?}")));
    schedule.submit(request(0, 2, 0)).unwrap();
    schedule.admit(PolicyVersion(0), usize::MAX, usize::MAX);
    let mut done = Vec::new();
    for tokens in [[5, 5], [6, 9], [7, 6], [7, 7]] {
        done.extend(draw_all(&mut schedule, 0, |slot| tokens[slot]));
    }
    let [early, last] = &done[0].completions[..] else { panic!("{done:?}") };
    assert_eq!((early.finish, &early.tokens[..], &early.text[..]), (FinishReason::Stop, &[5, 6, 7][..], "[5, "));
    assert_eq!(early.logprobs.len(), 3);
    // At the limit and at a stop string at once: complete, and so not truncated.
    assert_eq!((last.finish, last.tokens.len(), &last.text[..]), (FinishReason::Stop, 4, "[5, 9, "));
}

#[test]
fn an_answer_ends_with_the_first_token_after_its_time_and_one_that_began_later_goes_on() {
    let mut schedule = schedule(1).with_max_time(Some(Duration::from_secs(3)));
    schedule.submit(request(0, 2, 0)).unwrap();
    schedule.admit(PolicyVersion(0), usize::MAX, usize::MAX);
    schedule.pass(Duration::from_secs(2));
    assert!(draw_all(&mut schedule, 0, |_| 5).is_empty());
    schedule.pass(Duration::from_secs(1));
    assert!(draw_all(&mut schedule, 0, |_| 6).is_empty(), "the other answer is not sampled yet");
    schedule.admit(PolicyVersion(0), usize::MAX, usize::MAX);
    schedule.pass(Duration::from_secs(2));
    let done: Vec<Sampled> = [7, 8, EOS].iter().flat_map(|&token| draw_all(&mut schedule, 0, |_| token)).collect();
    let [late, in_time] = &done[0].completions[..] else { panic!("{done:?}") };
    assert_eq!((late.finish, &late.tokens[..]), (FinishReason::Length, &[5, 6][..]));
    assert_eq!((in_time.finish, &in_time.tokens[..]), (FinishReason::Stop, &[7, 8, EOS][..]));
}

#[test]
fn nonsense_is_refused_by_name() {
    let mut schedule = schedule(2);
    schedule.submit(request(0, 1, 0)).unwrap();
    for (request, part) in [
        (request(0, 1, 0), "already"),
        (request(1, 0, 0), "no answers"),
        (Request { prompt: Vec::new(), ..request(2, 1, 0) }, "no tokens"),
    ] {
        let error = schedule.submit(request).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[derive(Clone, Debug)]
enum Action {
    Submit { answers: u32, min_version: u64 },
    Cancel(u64),
    Step { tokens: u64 },
    Load,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (1u32..6, 0u64..3).prop_map(|(answers, min_version)| Action::Submit { answers, min_version }),
        (0u64..12).prop_map(Action::Cancel),
        any::<u64>().prop_map(|tokens| Action::Step { tokens }),
        Just(Action::Load),
    ]
}

proptest! {
    /// Every submitted group finishes or is cancelled, exactly once; groups start in the order of submission; no two
    /// sequences share a slot; after `compact` the slots in use are a prefix.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(capacity in 1usize..7, actions in prop::collection::vec(action(), 1..60)) {
        let mut schedule = schedule(capacity);
        let (mut issued, mut version, mut started) = (0, 0, Vec::new());
        let mut ended = std::collections::BTreeMap::new();
        // Enough steps at the end for everything to finish.
        let rest = std::iter::repeat_n(Action::Load, 3).chain(std::iter::repeat_n(Action::Step { tokens: 0 }, 400));
        for action in actions.into_iter().chain(rest) {
            match action {
                Action::Submit { answers, min_version } => {
                    schedule.submit(request(issued, answers, min_version)).unwrap();
                    issued += 1;
                }
                Action::Cancel(group) => {
                    if schedule.cancel(GroupId(group)) {
                        prop_assert_eq!(ended.insert(group, "cancelled"), None);
                    }
                }
                Action::Load => version += 1,
                Action::Step { tokens } => {
                    let (moves, active) = schedule.compact();
                    prop_assert!(moves.iter().all(|&(from, to)| to < active && active <= from));
                    prop_assert_eq!(schedule.running(), active);
                    prop_assert_eq!(schedule.slots.len(), active);
                    for slot in 0..active {
                        let token = if tokens >> (slot % 64) & 1 == 1 { EOS } else { 9 };
                        if let Some(done) = schedule.record(slot, drawn(token), PolicyVersion(version)) {
                            prop_assert_eq!(ended.insert(done.group.0, "finished"), None);
                        }
                    }
                    for admission in schedule.admit(PolicyVersion(version), usize::MAX, usize::MAX) {
                        if admission.first {
                            started.push(admission.group);
                        }
                    }
                    prop_assert!(schedule.running() <= capacity);
                    prop_assert!(schedule.running() == capacity || !schedule.admissible(PolicyVersion(version)));
                }
            }
        }
        prop_assert!(started.is_sorted());
        prop_assert_eq!(ended.len() as u64, issued);
        prop_assert_eq!((schedule.groups(), schedule.running()), (0, 0));
    }
}
