//! What a server can do wrong with one request: verdict, reason, number of requests and time.

use std::time::Duration;

use counterpoint_verifier::{HttpOptions, Verdict};
use serde_json::json;

use crate::server::{Act, Server};
use crate::*;

const SHORT: Duration = Duration::from_millis(200);

/// What becomes of a question when a server does this to every request: the verdict, the requests it saw, the time.
async fn every_time(deadline: Duration, act: Act) -> (Verdict, usize, Duration) {
    let server = Server::start(move |_, _| act.clone()).await;
    let (verdict, took) = both(options(server.url()), deadline).await;
    (verdict, server.seen(), took)
}

/// The same if it does so twice and is well after that.
async fn twice(act: Act) -> (Verdict, usize) {
    let server = Server::start(move |n, request| if n < 2 { act.clone() } else { Act::all_right(request) }).await;
    let (verdict, _) = both(options(server.url()), LONG).await;
    (verdict, server.seen())
}

#[tokio::test]
async fn a_server_that_never_answers_or_drips_costs_the_deadline_and_no_more() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    for act in [
        Act::Hang,
        // Each read is quick and there is always another: only a deadline over all of them ends this.
        Act::Drip(head, Duration::from_millis(20)),
        Act::Drip(b"HTTP/1.1 200 OK\r\nx-y: z\r\n", Duration::from_millis(20)),
    ] {
        let (verdict, seen, took) = every_time(SHORT, act.clone()).await;
        assert_eq!((verdict, seen), (TIMEOUT, 1), "{act:?}");
        assert!(took >= SHORT / 2, "{took:?}");
    }
}

#[tokio::test]
async fn the_own_deadline_holds_where_it_is_shorter_than_the_questions() {
    let server = Server::start(|_, _| Act::Hang).await;
    let options = HttpOptions { deadline_seconds: Some(0.15), ..options(server.url()) };
    let (verdict, took) = both(options, LONG).await;
    assert_eq!((verdict, server.seen()), (TIMEOUT, 1));
    assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn a_client_that_is_given_up_hangs_up() {
    let server = Server::start(|_, _| Act::Hang).await;
    let verifier = verifier(options(server.url()));
    let asked = tokio::spawn(async move { ask(&verifier, LONG).await });
    while server.seen() == 0 {
        tokio::task::yield_now().await;
    }
    asked.abort();
    tokio::time::timeout(SOON, server.left()).await.unwrap();
}

#[tokio::test]
async fn overload_and_broken_connections_are_tried_again() {
    for act in [
        Act::status("500 Internal Server Error"),
        Act::status("503 Service Unavailable"),
        Act::with("429 Too Many Requests", "retry-after: 0"),
        Act::Reset,
        Act::Raw(Vec::new()),
        Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"items\"".to_vec()),
        Act::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ite".to_vec()),
    ] {
        assert_eq!(twice(act.clone()).await, (Verdict::Correct, 3), "{act:?}");
    }
}

#[tokio::test]
async fn what_fails_every_time_is_tried_four_times_and_void_for_its_reason() {
    for (act, verdict) in [
        (Act::status("500 Internal Server Error"), void("HTTP 500 Internal Server Error")),
        (Act::status("429 Too Many Requests"), void("HTTP 429 Too Many Requests")),
        (Act::Reset, CRASH),
        (Act::Raw(Vec::new()), CRASH),
        (Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()), CRASH),
    ] {
        let (got, seen, took) = every_time(LONG, act.clone()).await;
        assert_eq!((got, seen), (verdict, 4), "{act:?}");
        assert!(took < SOON, "{took:?}");
    }
}

#[tokio::test]
async fn without_retries_there_is_one_request() {
    let server = Server::start(|_, _| Act::status("503 Service Unavailable")).await;
    let (verdict, _) = both(HttpOptions { retries: 0, ..options(server.url()) }, LONG).await;
    assert_eq!((verdict, server.seen()), (void("HTTP 503 Service Unavailable"), 1));
}

#[tokio::test]
async fn retry_after_is_honoured_within_the_deadline() {
    let server = Server::start(|n, request| match n {
        0 => Act::with("429 Too Many Requests", "retry-after: 1"),
        _ => Act::all_right(request),
    });
    let server = server.await;
    let (verdict, took) = both(options(server.url()), LONG).await;
    assert_eq!((verdict, server.seen()), (Verdict::Correct, 2));
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_retry_that_could_only_be_late_is_not_waited_for() {
    for header in
        ["retry-after: 3600", "retry-after: 18446744073709551615", "retry-after: Fri, 31 Dec 9999 23:59:59 GMT"]
    {
        let (verdict, seen, took) = every_time(LONG, Act::with("503 Service Unavailable", header)).await;
        assert_eq!((verdict, seen), (void("HTTP 503 Service Unavailable"), 1), "{header}");
        assert!(took < SOON, "{took:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let gone = Server::start(|_, _| Act::Hang).await.url();
    // The listener is closed by the time that its task has ended; until then connections meet a server without a reader.
    let mut verdict = CRASH;
    for _ in 0..100 {
        (verdict, _) = both(HttpOptions { retries: 1, ..options(&gone) }, Duration::from_secs(1)).await;
        if verdict == UNAVAILABLE {
            break;
        }
    }
    assert_eq!(verdict, UNAVAILABLE);
}

#[tokio::test]
async fn other_statuses_are_final() {
    for line in
        ["400 Bad Request", "401 Unauthorized", "404 Not Found", "408 Request Timeout", "422 Unprocessable Entity"]
    {
        let (verdict, seen, _) = every_time(LONG, Act::Status(line, String::new(), "{\"detail\": 1}".into())).await;
        assert_eq!((verdict, seen), (void(&format!("HTTP {line}")), 1));
    }
}

#[tokio::test]
async fn an_error_page_that_never_ends_does_not_hide_its_status() {
    let page = b"HTTP/1.1 404 Not Found\r\ncontent-length: 9999\r\n\r\n";
    let (verdict, seen, took) = every_time(LONG, Act::Drip(page, Duration::from_millis(1))).await;
    assert_eq!((verdict, seen), (void("HTTP 404 Not Found"), 1));
    assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn a_redirect_to_another_server_is_not_followed() {
    let other = Server::start(|_, request| Act::all_right(request)).await;
    let location = format!("location: {}?secret=1", other.url());
    for line in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let (verdict, seen, _) = every_time(LONG, Act::with(line, &location)).await;
        let why = format!("HTTP {line}: a redirect to {}?***, another server, is not followed", other.url());
        assert_eq!((verdict, seen), (void(&why), 1));
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn a_redirect_on_the_same_server_is_followed_with_the_whole_request() {
    let server = Server::start(|_, request| match request.path() {
        "/judge" => Act::with("307 Temporary Redirect", "location: /judge/"),
        "/judge/" => Act::with("308 Permanent Redirect", "location: v2?x=1"),
        _ => Act::all_right(request),
    });
    let server = server.await;
    assert_eq!(both(options(server.url()), LONG).await.0, Verdict::Correct);
    let requests = server.requests();
    assert_eq!(
        requests.iter().map(|request| request.path()).collect::<Vec<_>>(),
        ["/judge", "/judge/", "/judge/v2?x=1"]
    );
    assert!(requests.iter().all(|request| request.head.starts_with("POST ") && request.body == requests[0].body));
}

#[tokio::test]
async fn redirects_that_lose_the_post_and_circles_are_refused() {
    for line in ["301 Moved Permanently", "302 Found", "303 See Other"] {
        let (verdict, seen, _) = every_time(LONG, Act::with(line, "location: /other")).await;
        assert!(
            matches!(&verdict, Verdict::Void(reason) if reason.to_string().contains("GET of the POST")),
            "{verdict:?}"
        );
        assert_eq!(seen, 1);
    }
    let (verdict, seen, _) = every_time(LONG, Act::with("307 Temporary Redirect", "location: /judge")).await;
    assert_eq!((verdict, seen), (void("HTTP 307 Temporary Redirect: the last of 5 redirects in a row"), 6));
    let (verdict, seen, _) = every_time(LONG, Act::status("304 Not Modified")).await;
    assert_eq!((verdict, seen), (void("HTTP 304 Not Modified: a redirect to nowhere"), 1));
}

#[tokio::test]
async fn a_reply_that_is_too_long_is_not_read_to_its_end() {
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    for act in [Act::Flood, Act::Raw(announced), Act::Good(" ".repeat(70_000))] {
        let server = Server::start(move |_, _| act.clone()).await;
        let options = HttpOptions { max_reply_bytes: 65_536, ..options(server.url()) };
        let (verdict, took) = both(options, LONG).await;
        assert_eq!((verdict, server.seen()), (OUTPUT_LIMIT, 1));
        assert!(took < SOON, "{took:?}");
    }
}

#[tokio::test]
async fn a_reply_of_just_the_greatest_length_is_read() {
    let reply = json!({"items": [{"id": "p7/0", "score": 1}, {"id": "p7/1", "score": 1}]}).to_string();
    let length = reply.len();
    let server = Server::start(move |_, _| Act::Good(reply.clone())).await;
    for (max_reply_bytes, verdict) in [(length, Verdict::Correct), (length - 1, OUTPUT_LIMIT)] {
        let options = HttpOptions { max_reply_bytes, ..options(server.url()) };
        assert_eq!(both(options, LONG).await.0, verdict);
    }
}

#[tokio::test]
async fn a_reply_that_is_no_verdict_is_void_and_asked_for_once() {
    let item = |id: &str| format!("{{\"id\": \"{id}\", \"verdict\": \"correct\"}}");
    let items = |items: &[String]| format!("{{\"items\": [{}]}}", items.join(","));
    let good = |body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Act::Raw([head.as_bytes(), body].concat())
    };
    for act in [
        good(items(&[item("p7/0"), item("p7/2")]).as_bytes()),
        good(items(&[item("p7/0"), item("p7/0")]).as_bytes()),
        good(items(&[item("p7/0")]).as_bytes()),
        good(items(&[item("p7/0"), item("p7/1"), item("p7/2")]).as_bytes()),
        good(b"{\"items\": [{\"id\": \"p7/0\", \"score\": NaN}, {\"id\": \"p7/1\", \"score\": NaN}]}"),
        good(b"{\"items\": [{\"id\": \"p7/0\", \"score\": 2}, {\"id\": \"p7/1\", \"score\": -1}]}"),
        good(
            b"{\"items\": [{\"id\": \"p7/0\", \"reason\": \"\xff\", \"score\": 1}, {\"id\": \"p7/1\", \"score\": 1}]}",
        ),
        good(b"{\"items\": ["),
        good(b"<html>It works!</html>"),
        good(b"[]"),
        good(b""),
        Act::status("204 No Content"),
        Act::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ] {
        let (verdict, seen, took) = every_time(LONG, act.clone()).await;
        assert_eq!((verdict, seen), (PROTOCOL, 1), "{act:?}");
        assert!(took < SOON, "{took:?}");
    }
}
