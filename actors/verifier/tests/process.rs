//! The kind `process` with real children that misbehave.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use counterpoint_verifier::{
    Home, Judge, Process, ProcessOptions, Question, TruncatedPolicy, Verdict, Verifier, VoidReason,
};
use serde_json::json;

/// Right if equal; what the response asks for is done first.
const CHILD: &str = r#"
import json, os, subprocess, sys, time
print(json.dumps({"protocol": "counterpoint-verifier", "version": 1}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    say = lambda **more: print(json.dumps({"id": request["id"], "verdicts": [], **more}), flush=True)
    act = request["responses"][0]
    if act == "hang": time.sleep(1000)
    if act == "exit": sys.exit(3)
    if act == "crash": os.abort()
    if act == "fork": subprocess.Popen(["sleep", "1000"], start_new_session=True); time.sleep(1000)
    if act == "flood": sys.stdout.write("x" * 4000000); sys.stdout.flush(); time.sleep(1000)
    if act == "other id": say(id=request["id"] + 7)
    if act == "count": say(verdicts=["correct"] * 5)
    if act == "bytes": os.write(1, b"\xff\xfe\n")
    if act == "nan": print('{"id": %d, "verdicts": [NaN]}' % request["id"], flush=True)
    verdicts = ["correct" if r == request["prompt"]["answer"] else "incorrect" for r in request["responses"]]
    say(verdicts=verdicts)
    if act == "twice": say(verdicts=verdicts)
"#;

fn process(deadline: f64) -> Process {
    let options = json!({"command": ["python3", "-c", CHILD], "processes": 1, "deadline_seconds": deadline});
    let options: ProcessOptions = serde_json::from_value(options).unwrap();
    Process::new(options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_costs_its_own_group_a_void_verdict_and_the_next_is_judged() {
    let verifier = process(1.5);
    verifier.start(&Home::default()).await.unwrap();
    for (act, reason) in [
        ("hang", Some(VoidReason::Timeout)),
        ("exit", Some(VoidReason::Crash)),
        ("crash", Some(VoidReason::Crash)),
        ("fork", Some(VoidReason::Timeout)),
        ("flood", Some(VoidReason::OutputLimit)),
        ("other id", Some(VoidReason::Protocol)),
        ("count", Some(VoidReason::Protocol)),
        ("bytes", Some(VoidReason::Protocol)),
        ("nan", Some(VoidReason::Protocol)),
        ("twice", None),
    ] {
        let verdicts = verifier.verify(&Question::pair(act, "4")).await;
        assert_eq!(verdicts, [reason.map_or(Verdict::Incorrect, Verdict::Void)], "{act}");
        let next = verifier.verify(&Question::pair("4", "4")).await;
        assert_eq!(next, [Verdict::Correct], "after {act}");
    }
    verifier.stop().await;
    let left = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let mark = format!("COUNTERPOINT_VERIFIER_MARK={}-", std::process::id());
        let own = entry.file_name().to_str() == Some(std::process::id().to_string().as_str());
        !own && String::from_utf8_lossy(&read("environ")).contains(&mark)
    });
    assert!(!left, "no process of a child is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_work_is_told_at_the_start() {
    for (command, expected) in [
        (vec!["/nonexistent/verifier"], "could not be started"),
        (vec!["echo", "hello"], "its first line must be"),
        (vec!["true"], "it ended"),
    ] {
        let options: ProcessOptions = serde_json::from_value(json!({"command": command})).unwrap();
        let error = Process::new(options).unwrap().start(&Home::default()).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(command[0]), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_given_up_leaves_its_slot_to_the_next() {
    let verifier = std::sync::Arc::new(process(30.0));
    let judge = Judge::new("mine", verifier.clone(), TruncatedPolicy::Judge);
    judge.start(&Home::default()).await.unwrap();
    let late = judge.pair("hang", "4", Duration::from_millis(300)).await;
    assert_eq!(late, Verdict::Void(VoidReason::Timeout));
    assert_eq!(judge.pair("4", "4", Duration::from_secs(20)).await, Verdict::Correct);
    judge.stop().await;
}
