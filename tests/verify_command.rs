//! `counterpoint verify` as a command in a pipe.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use common::{counterpoint, output, pipe, stderr, stdout};

#[test]
fn whoever_waits_for_each_verdict_before_the_next_line_gets_it() {
    let mut command = counterpoint();
    command.args(["verify", "--verifier", "exact"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let (sender, verdicts) = mpsc::channel();
    let reader = std::thread::spawn(move || from.lines().for_each(|line| drop(sender.send(line.unwrap()))));
    for (response, verdict) in [("4", "correct"), ("5", "incorrect"), ("4", "correct")] {
        writeln!(to, "{{\"response\":\"{response}\",\"answer\":4}}").unwrap();
        let line = verdicts.recv_timeout(Duration::from_secs(30)).expect("a verdict within 30 s");
        assert_eq!(line, format!("{{\"verdict\":\"{verdict}\"}}"));
    }
    drop(to);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
}

#[test]
fn many_lines_come_back_in_order() {
    let mut command = counterpoint();
    command.args(["verify", "--verifier", "exact", "--workers", "3"]);
    let lines: Vec<String> = (0..5000).map(|i| format!("{{\"response\":\"{}\",\"answer\":\"3\"}}\n", i % 7)).collect();
    let output = pipe(command, &lines.concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let verdicts: Vec<bool> = stdout(&output).lines().map(|line| line == "{\"verdict\":\"correct\"}").collect();
    assert_eq!(verdicts, (0..5000).map(|i| i % 7 == 3).collect::<Vec<_>>());
}

#[test]
fn the_self_test_says_what_it_tried() {
    let mut command = counterpoint();
    command.args(["verify", "--self-test", "exact"]);
    let output = output(command);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    let tests: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("ok    ")).collect();
    assert_eq!(tests.len(), 6, "{said}");
}
