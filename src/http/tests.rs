use std::io::ErrorKind;

use counterpoint_rollout::telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::exposition::tests::exporter_with;
use super::*;
use crate::status::Status;

fn config(port: u16) -> TelemetryConfig {
    TelemetryConfig { port, ..TelemetryConfig::default() }
}

fn start() -> (Server, StatusBoard) {
    let board = StatusBoard::new(Status { run_dir: "runs/<x>".into(), step: 3, max_steps: 9, ..Status::default() });
    let exporter = exporter_with(telemetry::group_issued);
    (bind(&config(0)).unwrap().serve(exporter, board.clone()).unwrap(), board)
}

async fn ask(server: &Server, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    match stream.read_to_string(&mut answer).await {
        Err(e) if e.kind() != ErrorKind::ConnectionReset => panic!("{e}"),
        _ => answer,
    }
}

async fn get_path(server: &Server, path: &str) -> String {
    ask(server, &format!("GET {path} HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn each_path_answers_and_ready_waits_for_the_run() {
    let (server, board) = start();
    assert!(get_path(&server, "/healthz").await.starts_with("HTTP/1.1 200"));
    let waiting = get_path(&server, "/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503") && waiting.ends_with("not ready: starting\n"), "{waiting}");
    server.set_ready(true);
    assert!(get_path(&server, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get_path(&server, "/metrics").await.contains("counterpoint_groups_issued_total 1\n"));
    board.update(|s| s.step = 4);
    let answer = get_path(&server, "/status").await;
    let status: Status = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(status, board.snapshot());
    let page = get_path(&server, "/").await;
    assert!(page.contains("runs/&lt;x&gt;") && page.contains("content-security-policy: default-src 'none'"), "{page}");
    assert!(get_path(&server, "/status.js").await.contains("text/javascript"));
    assert!(get_path(&server, "/nothing").await.starts_with("HTTP/1.1 404"));
    server.stop().await;
}

#[tokio::test]
async fn only_reading_is_allowed_and_only_through_a_name_of_loopback() {
    let (server, _board) = start();
    let post =
        ask(&server, "POST /status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    for host in ["Host: evil.example", "Host: localhost.evil.example:80", "X-Nothing: 1"] {
        let answer = ask(&server, &format!("GET /status HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
    }
    for host in ["127.0.0.1:9184", "[::1]:9184", "[::1]", "LOCALHOST"] {
        let answer = ask(&server, &format!("GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    server.stop().await;
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let first = bind(&config(0)).unwrap();
    let port = first.address().port();
    let error = bind(&config(port)).unwrap_err().to_string();
    assert_eq!(error, format!("telemetry.port: 127.0.0.1:{port} is in use; choose another or 0"));
    let foreign = TelemetryConfig { host: "192.0.2.1".into(), port: 0, ..TelemetryConfig::default() };
    assert!(bind(&foreign).unwrap_err().to_string().starts_with("telemetry.host: cannot listen on 192.0.2.1:0: "));
}

#[tokio::test]
async fn a_stopped_server_frees_its_port() {
    let (server, _board) = start();
    let address = server.address();
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
