//! The pool and the judge on a paused clock. Virtual time moves on by itself when every task waits; while a blocking verifier
//! runs it does not, so the tests of those move it by hand.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod world;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use counterpoint_rollout::{FinishReason, GroupId, Lost, VerifierMsg};
use counterpoint_verifier::{Judge, Mode, Registry, TruncatedPolicy, Verdict, Verifier, VerifierConfig, VoidReason};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, advance, sleep, timeout};
use world::*;

const TIMEOUT: Verdict = Verdict::Void(VoidReason::Timeout);
const LONG: Duration = Duration::from_secs(1000);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn groups_are_judged_in_order_and_never_more_at_once_than_there_are_workers() {
    let started = Arc::new(Mutex::new(Vec::new()));
    let (log, begin) = (Arc::clone(&started), Instant::now());
    let verifier = script(Mode::Async, move |question| {
        log.lock().unwrap().push((question.prompt.id.clone(), begin.elapsed().as_secs()));
        async move {
            sleep(seconds(1)).await;
            right(&question)
        }
    });
    let pool = Pool::start(verifier, VerifierConfig { workers: 2, ..Default::default() }).await;
    let replies: Vec<_> = (0..5).map(|id| pool.verify(group(id, 3), LONG)).collect();
    for reply in replies {
        assert_eq!(reply.await.unwrap(), Ok(vec![Verdict::Correct; 3]));
    }
    let expected = [("0", 0), ("1", 0), ("2", 1), ("3", 1), ("4", 2)].map(|(id, at)| (id.to_owned(), at));
    assert_eq!(*started.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_verifier_that_awaits_for_ever_costs_a_void_group_and_its_slot_is_back_at_the_deadline() {
    let (dropped, mut drops) = unbounded_channel();
    let verifier = script(Mode::Async, move |question| {
        let signal = SignalOnDrop(dropped.clone());
        async move {
            if question.prompt.id == "0" {
                let _with_this_future = signal;
                std::future::pending::<()>().await;
            }
            right(&question)
        }
    });
    let config = VerifierConfig { workers: 1, max_abandoned: 0, ..Default::default() };
    let (pool, begin) = (Pool::start(verifier, config).await, Instant::now());
    let (hangs, next) = (pool.verify(group(0, 2), seconds(5)), pool.verify(group(1, 2), seconds(6)));
    assert_eq!(hangs.await.unwrap(), Ok(vec![TIMEOUT; 2]));
    assert_eq!(next.await.unwrap(), Ok(vec![Verdict::Correct; 2]));
    drops.recv().await.unwrap();
    assert_eq!(begin.elapsed(), seconds(5));
    // What was dropped on time is not abandoned: with `max_abandoned = 0` the pool would have failed.
    sleep(seconds(10)).await;
    assert_eq!(pool.verify(group(2, 1), seconds(5)).await.unwrap(), Ok(vec![Verdict::Correct]));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_from_receipt_and_passes_also_while_waiting() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let verifier = script(Mode::Async, move |question| {
        log.lock().unwrap().push(question.prompt.id.clone());
        async move {
            sleep(seconds(10)).await;
            right(&question)
        }
    });
    let pool = Pool::start(verifier, VerifierConfig { workers: 1, ..Default::default() }).await;
    let begin = Instant::now();
    let slow = pool.verify(group(0, 1), seconds(30));
    let never_asked = pool.verify(group(1, 1), seconds(3));
    let cut_short = pool.verify(group(2, 1), seconds(15));
    assert_eq!(never_asked.await.unwrap(), Ok(vec![TIMEOUT]));
    assert_eq!(begin.elapsed(), seconds(3));
    assert_eq!(slow.await.unwrap(), Ok(vec![Verdict::Correct]));
    assert_eq!(cut_short.await.unwrap(), Ok(vec![TIMEOUT]));
    assert_eq!(begin.elapsed(), seconds(15));
    assert_eq!(pool.verify(group(3, 1), Duration::ZERO).await.unwrap(), Ok(vec![TIMEOUT]));
    assert_eq!(*asked.lock().unwrap(), ["0", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_an_answer_that_is_no_verdict_are_void_and_the_next_group_is_judged() {
    for mode in [Mode::Async, Mode::Blocking] {
        let verifier = script(mode, |question| async move {
            match question.prompt.id.as_str() {
                "0" => std::panic::resume_unwind(Box::new("the verifier dies")),
                "1" => vec![Verdict::Correct; 2],
                "2" => vec![Verdict::Correct; 4],
                "3" => vec![Verdict::Soft(f32::NAN), Verdict::Soft(0.5), Verdict::Soft(1.5)],
                "4" => vec![Verdict::Soft(1.0), Verdict::Soft(0.0), Verdict::Void(VoidReason::Budget)],
                _ => right(&question),
            }
        });
        let pool = Pool::start(verifier, VerifierConfig { workers: 1, ..Default::default() }).await;
        let replies: Vec<_> = (0..6).map(|id| pool.verify(group(id, 3), LONG)).collect();
        let (crash, protocol) = (Verdict::Void(VoidReason::Crash), Verdict::Void(VoidReason::Protocol));
        let expected = [
            vec![crash; 3],
            vec![protocol.clone(); 3],
            vec![protocol.clone(); 3],
            vec![protocol.clone(), Verdict::Soft(0.5), protocol],
            vec![Verdict::Correct, Verdict::Incorrect, Verdict::Void(VoidReason::Budget)],
            vec![Verdict::Correct; 3],
        ];
        for (reply, expected) in replies.into_iter().zip(expected) {
            assert_eq!(reply.await.unwrap(), Ok(expected), "{mode:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocking_verifier_that_hangs_loses_its_slot_and_is_forgiven_when_it_returns() {
    let (mut hang, release) = hangs_on_even_ids();
    let config = VerifierConfig { workers: 1, max_abandoned: 1, ..Default::default() };
    let pool = Pool::start(hang.verifier(), config).await;
    for (id, release) in [(0, release.clone()), (2, release)] {
        let late = pool.verify(group(id, 2), seconds(30));
        let next = pool.verify(group(id + 1, 2), seconds(31));
        hang.begun().await;
        advance(seconds(30)).await;
        assert_eq!(late.await.unwrap(), Ok(vec![TIMEOUT; 2]));
        assert_eq!(next.await.unwrap(), Ok(vec![Verdict::Correct; 2]));
        // Past the grace the thread is abandoned; once it has ended, the clock moves on by itself.
        advance(seconds(5)).await;
        settled().await;
        release.send(()).unwrap();
        sleep(seconds(1)).await;
    }
    assert_eq!(pool.verify(group(5, 1), seconds(5)).await.unwrap(), Ok(vec![Verdict::Correct]));
}

#[tokio::test(start_paused = true)]
async fn with_too_many_abandoned_threads_the_pool_fails_and_says_why() {
    let (mut hang, release) = hangs_on_even_ids();
    let config = VerifierConfig { workers: 2, max_abandoned: 1, ..Default::default() };
    let (pool, failure) = Pool::start_supervised(hang.verifier(), config).await;
    let late = [0, 2].map(|id| pool.verify(group(id, 1), seconds(30)));
    hang.begun().await;
    hang.begun().await;
    advance(seconds(30)).await;
    for reply in late {
        assert_eq!(reply.await.unwrap(), Ok(vec![TIMEOUT]));
    }
    let open = pool.verify(group(4, 1), seconds(30));
    hang.begun().await;
    advance(seconds(1)).await;
    assert_eq!(
        failure.await.unwrap(),
        "verifier `test` blocks or loops for ever: 2 judgements have not ended long after their deadline, at most 1 may \
         (verifier.max_abandoned); they are of the groups g0, g2"
    );
    assert_eq!(open.await.unwrap(), Err(Lost));
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn truncated_answers_follow_the_policy_and_only_judge_shows_them() {
    let cases = [
        (TruncatedPolicy::Incorrect, Verdict::Incorrect, 1),
        (TruncatedPolicy::Void, Verdict::Void(VoidReason::Truncated), 1),
        (TruncatedPolicy::Judge, Verdict::Correct, 2),
    ];
    for (truncated, expected, shown) in cases {
        let (seen, mut responses) = unbounded_channel();
        let verifier = script(Mode::Async, move |question| {
            seen.send(question.responses.len()).unwrap();
            async move { right(&question) }
        });
        let judge = Judge::new("test", verifier, truncated);
        let group = finished(7, &[FinishReason::Length, FinishReason::Stop]);
        assert_eq!(judge.group(&group, LONG).await.verdicts, [expected.clone(), Verdict::Correct]);
        assert_eq!(responses.recv().await, Some(shown));
        let all = finished(8, &[FinishReason::Length]);
        assert_eq!(judge.group(&all, LONG).await.verdicts, [expected]);
        assert_eq!(responses.try_recv().is_ok(), truncated == TruncatedPolicy::Judge);
        // Time that ran out says nothing against a verdict that needs no verifier.
        let late = judge.group(&group, Duration::ZERO).await.verdicts;
        assert_eq!(late[1], TIMEOUT);
        assert_eq!(late[0] == TIMEOUT, truncated == TruncatedPolicy::Judge);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pair_is_judged_without_an_actor() {
    let exact = Registry::default().build(&VerifierConfig::default()).unwrap();
    let judge = Judge::new("exact", exact, TruncatedPolicy::Incorrect);
    assert_eq!(judge.pair(" 4\n", "4", LONG).await, Verdict::Correct);
    assert_eq!(judge.pair("5", "4", LONG).await, Verdict::Incorrect);
    assert_eq!(judge.pair("4", "4", Duration::ZERO).await, TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn cancel_drops_what_waits_and_lets_what_is_judged_finish() {
    let pool = Pool::start(takes(seconds(1)), VerifierConfig { workers: 1, ..Default::default() }).await;
    let [judged, cancelled, kept] = [0, 1, 2].map(|id| pool.verify(group(id, 1), LONG));
    pool.send(VerifierMsg::Cancel(vec![GroupId(0), GroupId(1), GroupId(9)]));
    assert_eq!(cancelled.await.unwrap(), Err(Lost));
    assert_eq!(judged.await.unwrap(), Ok(vec![Verdict::Correct]));
    assert_eq!(kept.await.unwrap(), Ok(vec![Verdict::Correct]));
}

#[tokio::test(start_paused = true)]
async fn drain_answers_when_nothing_waits_or_is_judged() {
    let pool = Pool::start(takes(seconds(1)), VerifierConfig { workers: 2, ..Default::default() }).await;
    let begin = Instant::now();
    assert_eq!(pool.drain().await.unwrap(), Ok(()));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let mut replies: Vec<_> = (0..5).map(|id| pool.verify(group(id, 1), LONG)).collect();
    let (one, other) = (pool.drain(), pool.drain());
    assert_eq!((one.await.unwrap(), other.await.unwrap()), (Ok(()), Ok(())));
    assert_eq!(begin.elapsed(), seconds(3));
    assert!(replies.iter_mut().all(|reply| reply.try_recv().unwrap().is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_stops_answers_lost_to_everyone_and_drops_verifiers_that_await() {
    let (begun, mut begins) = unbounded_channel();
    let (dropped, mut drops) = unbounded_channel();
    let verifier = script(Mode::Async, move |question| {
        let (begun, signal) = (begun.clone(), SignalOnDrop(dropped.clone()));
        async move {
            let _with_this_future = signal;
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
            right(&question)
        }
    });
    let (pool, _failure) = Pool::start_supervised(verifier, VerifierConfig { workers: 1, ..Default::default() }).await;
    let judged = pool.verify(group(0, 1), LONG);
    let waiting = pool.verify(group(1, 1), LONG);
    let drain = pool.drain();
    begins.recv().await.unwrap();
    let all_lost = async {
        pool.stop().await;
        assert_eq!(judged.await.unwrap(), Err(Lost));
        assert_eq!(waiting.await.unwrap(), Err(Lost));
        assert_eq!(drain.await.unwrap(), Err(Lost));
        assert_eq!(pool.verify(group(2, 1), LONG).await.unwrap(), Err(Lost));
        drops.recv().await.unwrap();
    };
    timeout(seconds(1), all_lost).await.unwrap();
}

/// Lets every other task run until it waits. While a thread hangs the clock stands, so no timer can do that; these tests have
/// one worker, a yield goes once around all tasks that can run, and the longest chain of wakes (timer, watcher, pool) is short.
async fn settled() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

struct SignalOnDrop(UnboundedSender<()>);

impl Drop for SignalOnDrop {
    fn drop(&mut self) {
        // At the end of a test nobody listens.
        let _ = self.0.send(());
    }
}

/// A blocking verifier that hangs on groups with an even number until it is released, or for good.
struct Hang {
    verifier: Arc<dyn Verifier>,
    begun: UnboundedReceiver<()>,
}

impl Hang {
    fn verifier(&self) -> Arc<dyn Verifier> {
        Arc::clone(&self.verifier)
    }

    /// Waits until one more thread hangs.
    async fn begun(&mut self) {
        self.begun.recv().await.unwrap();
    }
}

/// Each message releases one thread; dropping the sender releases all, so that a failed test ends too.
fn hangs_on_even_ids() -> (Hang, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let (begin, begun) = unbounded_channel();
    let released = Mutex::new(released);
    let verifier = script(Mode::Blocking, move |question| {
        if question.prompt.id.parse::<u64>().unwrap() % 2 == 0 {
            begin.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
        }
        async move { right(&question) }
    });
    (Hang { verifier, begun }, release)
}
