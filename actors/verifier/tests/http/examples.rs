//! The servers and adapters of `examples/`, as real processes.

use std::path::Path;
use std::process::Stdio;

use counterpoint_verifier::{HttpOptions, SelfTest, Verdict, Verifier};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::server::{Act, Server};
use crate::*;

/// A Python server of `examples/`, killed with the test.
struct Example {
    url: String,
    _process: Child,
}

impl Example {
    async fn start(name: &str, more: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let mut command = Command::new("python3");
        command.arg(script).arg("0").args(more).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = timeout(LONG, lines.next_line()).await.unwrap().unwrap().unwrap();
        Self { url, _process: process }
    }

    fn verifier(&self) -> Arc<HttpVerifier> {
        verifier(HttpOptions { check_at_start: true, retries: 0, ..options(&self.url) })
    }
}

fn responses(prompt: Value, responses: &[&str]) -> Question {
    let prompt = Arc::new(serde_json::from_value(prompt).unwrap());
    Question::new(prompt, responses.iter().map(|&response| response.to_owned()).collect())
}

#[tokio::test]
async fn the_example_server_judges_a_group_and_passes_the_self_test() {
    let example = Example::start("http_verifier.py", &[]).await;
    let verifier = example.verifier();
    let prompt = json!({"id": "p", "content": "What is 2 + 2?", "answer": "4", "source": "test"});
    let question = responses(prompt, &["2 + 2 is 4.", "5", "four", "it is 4.0", "-4", "4 or 5"]);
    let verdicts: Vec<Verdict> = [true, false, false, true, false, false].map(Verdict::from).into();
    assert_eq!(verifier.verify(&question).await, verdicts);
    let mut wrong = Vec::new();
    let mut tests = Vec::new();
    SelfTest::new("numbers", verifier, LONG, Vec::new())
        .run(|finding| {
            tests.push(finding.test);
            wrong.extend(finding.outcome.err());
        })
        .await;
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(tests, ["start", "known", "groups", "at once", "hostile", "slow"]);
}

/// What SandboxFusion replies to a program, which here says by a comment what is to become of it.
fn sandbox(code: &str, stdin: &str) -> Act {
    let run = |status: &str, code: i32, stdout: &str| json!({"status": status, "execution_time": 0.01, "return_code": code, "stdout": stdout, "stderr": "a trace"});
    let reply = |status: &str, compiled: Value, run: Value| {
        Act::json(json!({"status": status, "message": "", "compile_result": compiled, "run_result": run, "files": {}}))
    };
    let fate = code.lines().next().unwrap().trim_start_matches("# ");
    match fate {
        "prints" => reply("Success", json!(null), run("Finished", 0, &format!("{}! \n", stdin.trim()))),
        "prints for 1" if stdin.trim() == "1" => reply("Success", json!(null), run("Finished", 0, "1!")),
        "prints for 1" => reply("Success", json!(null), run("Finished", 0, "?")),
        "asserts" if code.ends_with("assert f(1) == 2\n") => reply("Success", json!(null), run("Finished", 0, "")),
        "fails" => reply("Failed", json!(null), run("Finished", 1, "1!")),
        "loops" => {
            reply("Failed", json!(null), json!({"status": "TimeLimitExceeded", "execution_time": 10, "stdout": "1!"}))
        }
        "does not compile" => reply("Failed", run("Finished", 1, ""), json!(null)),
        "breaks the sandbox" => reply("SandboxError", json!(null), json!(null)),
        "breaks a command" => reply("Failed", json!(null), run("Error", 1, "")),
        "says nothing" => reply("Success", json!(null), json!(null)),
        "is overloaded" => Act::status("503 Service Unavailable"),
        "is cut off" => Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()),
        "is new" => reply("Paused", json!(null), run("Finished", 0, "1!")),
        other => panic!("{other}"),
    }
}

async fn sandbox_server() -> Server {
    Server::start(|_, request| {
        let body = request.json();
        assert_eq!((request.path(), body["language"].as_str()), ("/run_code", Some("python")));
        sandbox(body["code"].as_str().unwrap(), body["stdin"].as_str().unwrap())
    })
    .await
}

/// The verdicts of the adapter on programs with these fates, each in a fenced block.
async fn adapted(info: Value, fates: &[&str]) -> Vec<Verdict> {
    let server = sandbox_server().await;
    let example = Example::start("sandboxfusion_adapter.py", &[&format!("http://{}/", server.address)]).await;
    let prompt = json!({"id": "p", "content": "Write it.", "answer": "!", "source": "test", "info": info});
    let texts: Vec<String> = fates.iter().map(|fate| format!("Well:\n```python\n# {fate}\n```\nDone.")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    example.verifier().verify(&responses(prompt, &texts)).await
}

fn tests() -> Value {
    json!({"tests": [{"stdin": "1\n", "stdout": "1!\n"}, {"stdin": "2\n", "stdout": "2!"}]})
}

#[tokio::test]
async fn programs_are_right_if_they_pass_every_test_of_their_question() {
    let verdicts = adapted(tests(), &["prints", "prints for 1", "fails", "loops", "does not compile"]).await;
    assert_eq!(verdicts, [true, false, false, false, false].map(Verdict::from));
    let asserts = json!({"tests": ["assert f(1) == 2"]});
    assert_eq!(adapted(asserts, &["asserts", "fails"]).await, [Verdict::Correct, Verdict::Incorrect]);
    // Without tests the output is held against the answer.
    assert_eq!(adapted(json!({}), &["prints", "fails"]).await, [Verdict::Correct, Verdict::Incorrect]);
}

#[tokio::test]
async fn a_fault_of_the_sandbox_is_void_and_never_wrong() {
    let fates =
        ["breaks the sandbox", "breaks a command", "says nothing", "is overloaded", "is cut off", "is new", "prints"];
    let mut verdicts = adapted(tests(), &fates).await;
    assert_eq!(verdicts.pop(), Some(Verdict::Correct), "one fault leaves the others alone");
    for (verdict, fate) in verdicts.iter().zip(fates) {
        let Verdict::Void(VoidReason::Verifier(reason)) = verdict else { panic!("{fate}: {verdict:?}") };
        assert!(reason.contains("sandbox: "), "{fate}: {reason}");
    }
    assert_eq!(adapted(json!({"tests": []}), &["prints"]).await, [void("the list of tests is empty")]);
}

#[tokio::test]
async fn an_answer_without_code_is_wrong_and_a_sandbox_that_is_not_there_is_void() {
    let example = Example::start("sandboxfusion_adapter.py", &["http://127.0.0.1:1"]).await;
    let prompt = json!({"id": "p", "content": "Write it.", "answer": "!", "source": "test"});
    let question = responses(prompt, &["I will not.", "```\nprint()\n```", "`print()`"]);
    let verdicts = example.verifier().verify(&question).await;
    assert_eq!((&verdicts[0], &verdicts[2]), (&Verdict::Incorrect, &Verdict::Incorrect));
    assert!(
        matches!(&verdicts[1], Verdict::Void(VoidReason::Verifier(reason)) if reason.starts_with("sandbox: URLError"))
    );
}
