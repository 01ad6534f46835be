//! The shapes, over a real socket.

use std::time::Duration;

use counterpoint_verifier::{Dialect, HttpOptions, Pace, Registry, Scores, Verdict, Verifier, VerifierConfig};
use serde_json::json;
use tokio::time::Instant;

use crate::server::{Act, Server};
use crate::{LONG, ask, options, question, verifier};

#[tokio::test]
async fn a_question_is_one_request_and_its_verdicts_are_matched_by_id() {
    let server = Server::start(|_, _| {
        Act::json(json!({"items": [
            {"id": "p7/1", "verdict": "incorrect", "reason": "not 4"},
            {"id": "p7/0", "verdict": "correct", "score": 0.75},
        ]}))
    });
    let server = server.await;
    let verdicts = ask(&verifier(options(server.url())), LONG).await;
    assert_eq!(verdicts, [Verdict::Soft(0.75), Verdict::Incorrect]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].head.starts_with("POST /judge HTTP/1.1\r\n"), "{}", requests[0].head);
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    let item = |id: &str, response: &str| json!({"id": id, "prompt": "2 + 2 = ", "response": response, "answer": "4", "info": {"unit": "apples"}});
    assert_eq!(requests[0].json(), json!({"version": 1, "items": [item("p7/0", "4"), item("p7/1", "5")]}));
}

#[tokio::test]
async fn a_server_for_openrlhf_works_unchanged() {
    let reply = json!({"rewards": [1.0, -1.0], "scores": [1.0, -1.0], "extra_logs": {"dummy_scores": [1.0, -1.0]}});
    let server = Server::start(move |_, _| Act::json(reply.clone())).await;
    for dialect in [Dialect::Openrlhf, Dialect::OpenrlhfQuery] {
        let options = HttpOptions { dialect, scores: Scores::Signed, ..options(server.url()) };
        assert_eq!(ask(&verifier(options), LONG).await, [Verdict::Correct, Verdict::Incorrect]);
    }
    let (query, requests) = (json!(["2 + 2 = 4", "2 + 2 = 5"]), server.requests());
    let new = json!({"query": query, "prompts": ["2 + 2 = ", "2 + 2 = "], "labels": ["4", "4"]});
    assert_eq!(requests[0].json(), new);
    assert_eq!(requests[1].json(), json!({"query": query}));
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn a_server_for_slime_is_asked_per_sample_and_each_verdict_finds_its_response() {
    let server = Server::start(|_, request| match request.json()["response"].as_str().unwrap() {
        "4" => Act::After(Duration::from_millis(50), Box::new(Act::Good("1".into()))),
        _ => Act::json(json!({"acc": 0, "score": 0.0})),
    });
    let server = server.await;
    let options = HttpOptions { dialect: Dialect::Slime, reward_key: "acc".into(), ..options(server.url()) };
    assert_eq!(ask(&verifier(options), LONG).await, [Verdict::Correct, Verdict::Incorrect]);
    let bodies = server.requests().into_iter().map(|request| request.json());
    let mut responses: Vec<_> = bodies
        .map(|body| {
            assert_eq!((body["prompt"].as_str(), body["label"].as_str()), (Some("2 + 2 = "), Some("4")));
            body["response"].as_str().unwrap().to_owned()
        })
        .collect();
    responses.sort_unstable();
    assert_eq!(responses, ["4", "5"]);
}

#[tokio::test]
async fn one_sample_that_fails_costs_only_its_own_verdict() {
    let server = Server::start(|_, request| match request.json()["response"].as_str().unwrap() {
        "4" => Act::Good("1".into()),
        _ => Act::status("404 Not Found"),
    });
    let server = server.await;
    let options = HttpOptions { dialect: Dialect::Slime, ..options(server.url()) };
    assert_eq!(ask(&verifier(options), LONG).await, [Verdict::Correct, crate::void("HTTP 404 Not Found")]);
}

#[tokio::test]
async fn a_definition_in_the_configuration_is_enough() {
    let server = Server::start(|_, request| Act::all_right(request)).await;
    let section = json!({"name": "graders", "define": {"graders": {"kind": "http", "url": server.url()}}});
    let config: VerifierConfig = serde_json::from_value(section).unwrap();
    let verifier = Registry::default().build(&config).unwrap();
    verifier.start(&Default::default()).await.unwrap();
    assert_eq!(verifier.verify(&question()).await, [Verdict::Correct, Verdict::Correct]);
    // The start looked whether anybody is there, and asked nothing.
    assert_eq!((server.connections(), server.seen()), (2, 1));
    verifier.stop().await;
    // Judging again starts it again.
    assert_eq!(verifier.verify(&question()).await, [Verdict::Correct, Verdict::Correct]);
}

#[tokio::test]
async fn for_a_self_test_the_same_request_is_sent_a_few_bytes_at_a_time() {
    let server = Server::start(|_, request| Act::all_right(request)).await;
    let pace = Pace { bytes: 16, pause: Duration::from_millis(2) };
    let (fast, begin) = (verifier(options(server.url())), Instant::now());
    let slow = fast.slowly(pace).unwrap();
    assert_eq!(slow.verify(&question()).await, [Verdict::Correct, Verdict::Correct]);
    let requests = server.requests();
    let length = requests[0].body.len();
    assert!(begin.elapsed() >= pace.pause * (length / pace.bytes) as u32, "{:?}", begin.elapsed());
    assert_eq!(requests[0].header("content-length"), Some(length.to_string().as_str()));
    assert_eq!(ask(&fast, LONG).await, [Verdict::Correct, Verdict::Correct]);
    assert_eq!(server.requests()[1].body, requests[0].body);
}

#[tokio::test]
async fn an_explanation_has_the_servers_reason() {
    let server = Server::start(|_, _| {
        Act::json(json!({"items": [
            {"id": "p7/0", "verdict": "void", "reason": "no sandbox"},
            {"id": "p7/1", "verdict": "incorrect", "reason": "expected 4, got 5"},
        ]}))
    });
    let server = server.await;
    let mut explained = verifier(options(server.url())).explain(&question()).await.unwrap();
    for object in &mut explained {
        assert!(object.as_object_mut().unwrap().remove("milliseconds").unwrap().is_u64());
    }
    let expected = |verdict: &str, score: serde_json::Value, reason: &str| json!({"server": server.url(), "dialect": "counterpoint", "verdict": verdict, "score": score, "reason": reason});
    let wrong = expected("incorrect", json!(0.0), "expected 4, got 5");
    assert_eq!(explained, [expected("void", json!(null), "no sandbox"), wrong]);
}
