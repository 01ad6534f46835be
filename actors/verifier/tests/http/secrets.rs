//! Secrets reach the server and nothing else.

use std::collections::BTreeMap;
use std::io::Write;

use counterpoint_verifier::{Home, HttpOptions, Verifier};
use serde_json::json;

use crate::server::{Act, Request, Server};
use crate::start::again;
use crate::*;

/// What must not be seen anywhere: the token, the password and the key in the address.
const CANARIES: [&str; 3] = ["canary-token", "canary-password", "canary-key"];

/// The user and the password as a header has them.
const BASIC: &str = "dXNlcjpjYW5hcnktcGFzc3dvcmQ=";

/// Echoes every secret in every place that a server has for it.
fn echo(number: usize, request: &Request) -> Act {
    let secrets = format!("{} {}", request.header("authorization").unwrap(), CANARIES.join(" "));
    let reply = |fields: serde_json::Value| {
        let items = ["p7/0", "p7/1"].map(|id| {
            let mut item = fields.clone();
            item["id"] = id.into();
            item
        });
        Act::json(json!({ "items": items }))
    };
    match number {
        0 => Act::Status("500 Internal Server Error", String::new(), secrets),
        1 => Act::Status("401 Unauthorized", String::new(), secrets),
        2 => Act::with(
            "307 Temporary Redirect",
            format!("location: http://canary-password@h/canary-token?{}", CANARIES[2]),
        ),
        3 => reply(json!({"verdict": "void", "reason": secrets})),
        4 => reply(json!({"verdict": secrets})),
        5 => reply(json!({"verdict": "incorrect", "reason": secrets})),
        6 => Act::Status("400 Bad Request", String::new(), format!("key={}, Basic {BASIC}", CANARIES[2])),
        _ => Act::Raw(secrets.into_bytes()),
    }
}

/// Runs in a process of its own, with the secret in its environment, and prints and logs all it can.
async fn talk() {
    let server = Server::start(echo).await;
    let headers = BTreeMap::from([("Authorization".to_owned(), "Bearer ${CANARY}".into())]);
    let url = format!("http://user:{}@{}/judge?key={}", CANARIES[1], server.address, CANARIES[2]);
    let options = HttpOptions { headers, breaker_failures: 1, check_at_start: true, ..options(url) };
    println!("{options:?}");
    let verifier = verifier(options.clone());
    verifier.start(&Home::default()).await.unwrap();
    println!("{verifier:?}");
    // A 500, which is tried again, and a 401; a redirect; a void verdict; no verdict.
    for _ in 0..4 {
        println!("{:?}", ask(&verifier, LONG).await);
    }
    println!("{:?}", verifier.explain(&question()).await);
    println!("{:?}", ask(&verifier, LONG).await);
    println!("{:?}", ask(&verifier, LONG).await);
    let requests = server.requests();
    assert!(requests.len() >= 8, "{}", requests.len());
    for request in requests {
        assert_eq!(request.header("authorization"), Some("Bearer canary-token"));
        assert_eq!(request.path(), "/judge?key=canary-key");
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:{}@{}/?{}", CANARIES[1], listener.local_addr().unwrap(), CANARIES[2]);
    drop(listener);
    let gone = crate::verifier(HttpOptions { url: url.into(), retries: 1, ..options });
    let error = gone.start(&Home::default()).await.unwrap_err();
    println!("{error:?} {error}");
    println!("{:?}", ask(&gone, LONG).await);
    println!("{:?}", ask(&gone, LONG).await);
    println!("said all");
}

#[tokio::test]
async fn no_secret_is_in_any_log_line_debug_text_error_verdict_or_explanation() {
    const NAME: &str = "secrets::no_secret_is_in_any_log_line_debug_text_error_verdict_or_explanation";
    if std::env::var_os("CANARY").is_some() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::stderr).init();
        talk().await;
        std::io::stdout().flush().unwrap();
        return;
    }
    let output = again(NAME, &[("CANARY", CANARIES[0])]);
    let (said, logged) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && said.contains("said all"), "{said}\n{logged}");
    for canary in CANARIES.into_iter().chain([BASIC]) {
        assert!(!said.contains(canary), "{canary} is in\n{said}");
        assert!(!logged.contains(canary), "{canary} is in\n{logged}");
    }
    // That all of it was said, with the secrets cut out.
    for part in ["HTTP 401 Unauthorized", "/***?***, another server", "***", "url: no connection to 127.0.0.1:"] {
        assert!(said.contains(part), "no {part} in\n{said}");
    }
    for part in ["is asked again", "gave no verdicts", "is left alone", "HTTP 401 Unauthorized: ***"] {
        assert!(logged.contains(part), "no {part} in\n{logged}");
    }
}
