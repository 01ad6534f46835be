//! Many questions at once: connections, the circuit breaker, the deadline of the judge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use counterpoint_verifier::{HttpOptions, Judge, TruncatedPolicy, Verdict};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::server::{Act, Server};
use crate::*;

const PAUSE: Duration = Duration::from_millis(30);

/// What a verifier says to so many questions asked at once.
async fn ask_at_once(verifier: &Arc<HttpVerifier>, questions: usize, deadline: Duration) -> Vec<Verdict> {
    let mut asked = JoinSet::new();
    for _ in 0..questions {
        let verifier = Arc::clone(verifier);
        asked.spawn(async move { ask(&verifier, deadline).await.remove(0) });
    }
    asked.join_all().await
}

#[tokio::test]
async fn never_more_requests_are_under_way_than_connections_are_allowed_and_these_are_used_again() {
    let server = Server::start(|_, request| Act::After(PAUSE, Box::new(Act::all_right(request)))).await;
    let verifier = verifier(HttpOptions { connections: 2, ..options(server.url()) });
    assert_eq!(ask_at_once(&verifier, 6, LONG).await, vec![Verdict::Correct; 6]);
    assert_eq!((server.seen(), server.peak()), (6, 2));
    // Which of two idle connections is taken is the pool's affair, but six requests need no six.
    assert!(server.connections() < 6, "{}", server.connections());
}

#[tokio::test]
async fn waiting_for_a_connection_counts_towards_the_deadline() {
    let server = Server::start(|_, _| Act::Hang).await;
    let verifier = verifier(HttpOptions { connections: 1, ..options(server.url()) });
    let begin = Instant::now();
    assert_eq!(ask_at_once(&verifier, 3, Duration::from_millis(200)).await, vec![TIMEOUT; 3]);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_until_a_probe_finds_it_well() {
    let well = Arc::new(AtomicBool::new(false));
    let of_server = Arc::clone(&well);
    let server = Server::start(move |_, request| match of_server.load(Ordering::SeqCst) {
        true => Act::all_right(request),
        false => Act::status("500 Internal Server Error"),
    });
    let server = server.await;
    let options = HttpOptions { retries: 1, breaker_failures: 2, breaker_pause_seconds: 0.3, ..options(server.url()) };
    let verifier = verifier(options);
    let failed = void("HTTP 500 Internal Server Error");
    let first = async || ask(&verifier, LONG).await.remove(0);
    assert_eq!((first().await, first().await), (failed.clone(), failed.clone()));
    let opened = Instant::now();
    let at_once = first().await;
    // On a machine so slow that the pause is over already, this was the probe.
    if opened.elapsed() < Duration::from_millis(200) {
        assert_eq!((at_once, server.seen()), (UNAVAILABLE, 4));
    }
    sleep(Duration::from_millis(350)).await;
    let seen = server.seen();
    assert_eq!(ask(&verifier, LONG).await.remove(0), failed);
    assert_eq!(server.seen(), seen + 2, "the probe has its retry");
    well.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(350)).await;
    for _ in 0..3 {
        assert_eq!(first().await, Verdict::Correct);
    }
}

#[tokio::test]
async fn a_hanging_server_opens_the_breaker_and_wrong_requests_do_not() {
    let hangs = Server::start(|_, _| Act::Hang).await;
    let patient = |server: &Server| HttpOptions {
        deadline_seconds: Some(0.1),
        breaker_failures: 1,
        breaker_pause_seconds: 1000.0,
        ..options(server.url())
    };
    let asks = verifier(patient(&hangs));
    assert_eq!(ask(&asks, LONG).await[0], TIMEOUT);
    assert_eq!(ask(&asks, LONG).await[0], UNAVAILABLE);
    assert_eq!(hangs.seen(), 1);
    for (act, verdict) in
        [(Act::status("404 Not Found"), void("HTTP 404 Not Found")), (Act::Good("{".into()), PROTOCOL)]
    {
        let server = Server::start(move |_, _| act.clone()).await;
        let asks = verifier(HttpOptions { deadline_seconds: None, ..patient(&server) });
        for _ in 0..3 {
            assert_eq!(ask(&asks, LONG).await[0], verdict);
        }
        assert_eq!(server.seen(), 3);
    }
}

#[tokio::test]
async fn questions_that_came_late_do_not_speak_against_the_server() {
    let server = Server::start(|_, request| Act::After(PAUSE, Box::new(Act::all_right(request)))).await;
    let verifier = verifier(HttpOptions { breaker_failures: 1, ..options(server.url()) });
    for _ in 0..3 {
        assert_eq!(ask(&verifier, Duration::from_millis(10)).await[0], TIMEOUT);
    }
    assert_eq!(ask(&verifier, LONG).await[0], Verdict::Correct);
}

#[tokio::test]
async fn a_probe_that_is_given_up_does_not_keep_the_breaker_open() {
    let server = Server::start(|n, request| match n {
        0 => Act::status("500 Internal Server Error"),
        1 => Act::Hang,
        _ => Act::all_right(request),
    });
    let server = server.await;
    let options =
        HttpOptions { retries: 0, breaker_failures: 1, breaker_pause_seconds: 0.001, ..options(server.url()) };
    let verifier = verifier(options);
    assert_eq!(ask(&verifier, LONG).await[0], void("HTTP 500 Internal Server Error"));
    sleep(Duration::from_millis(20)).await;
    let probes = Arc::clone(&verifier);
    let probe = tokio::spawn(async move { ask(&probes, LONG).await });
    while server.seen() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&verifier, LONG).await[0], UNAVAILABLE);
    probe.abort();
    tokio::time::timeout(SOON, server.left()).await.unwrap();
    assert_eq!(ask(&verifier, LONG).await[0], Verdict::Correct);
}

#[tokio::test]
async fn under_a_judge_a_server_that_hangs_costs_the_deadline_and_nothing_is_left_behind() {
    let server = Server::start(|_, _| Act::Hang).await;
    let judge = Judge::new("graders", verifier(options(server.url())), TruncatedPolicy::Judge);
    let judged = judge.question(question(), Duration::from_millis(500)).await;
    assert_eq!(judged.verdicts, [TIMEOUT, TIMEOUT]);
    // None, since the verifier gives up shortly before; on a busy machine it may have been cut off first.
    if let Some(mut unfinished) = judged.unfinished {
        tokio::time::timeout(SOON, unfinished.ended()).await.unwrap();
    }
    tokio::time::timeout(SOON, server.left()).await.unwrap();
}
