//! The kind `code` with real programs: right and wrong ones, and those that hang, fork, eat, flood, cheat and look around.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod children;

use std::sync::Arc;
use std::time::Duration;

use children::*;
use counterpoint_rollout::{Prompt, PromptContent};
use counterpoint_verifier::{Code, CodeOptions, Home, Network, Question, Verdict, Verifier, VoidReason, WithoutFence};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout};

const CORRECT: Verdict = Verdict::Correct;
const INCORRECT: Verdict = Verdict::Incorrect;

fn void(reason: &str) -> Verdict {
    Verdict::Void(VoidReason::Verifier(reason.into()))
}

/// Fast to start, and short of patience.
fn options() -> CodeOptions {
    CodeOptions { interpreter: vec![python()], test_seconds: 1.0, total_seconds: 5.0, ..Default::default() }
}

fn fenced(code: &str) -> String {
    format!("Here it is:\n```python\n{code}\n```\nDone.")
}

fn question(tests: &Value, responses: &[&str]) -> Question {
    let content = PromptContent::Text("Write it.".into());
    let answer = tests.as_str().map_or_else(|| tests.to_string(), str::to_owned);
    let prompt = Prompt { id: "1".into(), content, answer, source: "test".into(), info: Map::new() };
    Question::new(Arc::new(prompt), responses.iter().map(|response| response.to_string()).collect())
}

/// The verdicts on these programs, each in a fence.
async fn verdicts(options: CodeOptions, tests: Value, programs: &[&str]) -> Vec<Verdict> {
    let programs: Vec<String> = programs.iter().map(|program| fenced(program)).collect();
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    Code::new(options).unwrap().verify(&question(&tests, &programs)).await
}

async fn verdict(tests: Value, program: &str) -> Verdict {
    verdicts(options(), tests, &[program]).await.remove(0)
}

/// How the first test of a program went, in words.
async fn outcome(options: CodeOptions, tests: Value, program: &str) -> String {
    let code = Code::new(options).unwrap();
    let told = code.explain(&question(&tests, &[&fenced(program)])).await.unwrap();
    told[0]["outcomes"][0].as_str().unwrap_or_else(|| panic!("{told:?}")).to_owned()
}

fn add() -> Value {
    json!({"asserts": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]})
}

fn sums() -> Value {
    json!({"inputs": ["1 2\n", "-1 1\n"], "outputs": ["3\n", "0\n"]})
}

#[tokio::test]
async fn right_and_wrong_programs_are_told_apart_in_every_style() {
    let right = "def add(a, b):\n    return a + b";
    let wrong = "def add(a, b):\n    return a - b";
    let nothing = "def sub(a, b):\n    return a - b";
    let syntax = "def add(a, b)\n    return a + b";
    let check = "def check(f):\n    assert f(1, 2) == 3\n    assert f(-1, 1) == 0";
    let named = json!({"test": check, "entry_point": "add"});
    let calls = json!({"inputs": [[1, 2], [-1, 1]], "outputs": [3, [0]], "fn_name": "add"});
    for tests in [add(), json!(format!("{check}\ncheck(add)")), named, calls.clone()] {
        let expected = [CORRECT, INCORRECT, INCORRECT, INCORRECT];
        assert_eq!(verdicts(options(), tests.clone(), &[right, wrong, nothing, syntax]).await, expected, "{tests}");
    }
    let method = "class Solution:\n    def add(self, a, b):\n        return a + b";
    assert_eq!(verdict(calls, method).await, CORRECT);
    let reads = "a, b = map(int, input().split())\nprint(a + b)";
    let main =
        "def main():\n    a, b = map(int, input().split())\n    print(a + b)\nif __name__ == '__main__':\n    main()";
    let off = "a, b = map(int, input().split())\nprint(a - b)";
    let raises = "a, b = map(int, input().split())\nprint(a + b)\nraise SystemExit(1)";
    let expected = [CORRECT, CORRECT, INCORRECT, INCORRECT];
    assert_eq!(verdicts(options(), sums(), &[reads, main, off, raises]).await, expected);
}

#[tokio::test]
async fn a_program_may_use_what_programs_use() {
    let dataclass = "from __future__ import annotations\nfrom dataclasses import dataclass\nimport pickle\n@dataclass\n\
                     class P:\n    x: int\ndef add(a, b):\n    print('hello')\n    return pickle.loads(pickle.dumps(P(a + b))).x\n\
                     if __name__ == '__main__':\n    raise RuntimeError('not the main program')";
    assert_eq!(verdict(add(), dataclass).await, CORRECT);
    let files = "import os, subprocess, tempfile\ndef add(a, b):\n    with tempfile.NamedTemporaryFile() as f:\n        \
                 assert f.name.startswith(os.getcwd())\n    open('x', 'w').write('1')\n    \
                 return a + b if subprocess.run(['ls'], capture_output=True).stdout == b'x\\n' else None";
    assert_eq!(verdict(add(), files).await, CORRECT);
    let threads = "from concurrent.futures import ThreadPoolExecutor\ndef add(a, b):\n    \
                   with ThreadPoolExecutor(4) as pool:\n        return pool.submit(lambda: a + b).result()";
    assert_eq!(verdict(add(), threads).await, CORRECT);
}

#[tokio::test]
async fn setup_runs_before_the_program_and_its_faults_are_nobody_elses() {
    let tests = |setup: &str| json!({"setup": setup, "asserts": ["assert add(1, 2) == 3"]});
    let program = "def add(a, b):\n    return math.fsum([a, b])";
    assert_eq!(verdict(tests("import math"), program).await, CORRECT);
    assert_eq!(verdict(tests("1 / 0"), program).await, void("tests: ZeroDivisionError: division by zero"));
}

#[tokio::test]
async fn malformed_tests_are_void_and_never_wrong() {
    let program = "def add(a, b):\n    return a + b";
    let unreadable = verdict(json!("{\"inputs\": [\"1\"]"), program).await;
    assert!(matches!(&unreadable, Verdict::Void(VoidReason::Verifier(why)) if why.starts_with("tests: no JSON: EOF")));
    assert_eq!(verdict(json!({"asserts": []}), program).await, void("tests: there are none"));
    let syntax = verdict(json!({"asserts": ["assert add(1, 2) = 3"]}), program).await;
    assert!(matches!(&syntax, Verdict::Void(VoidReason::Verifier(why)) if why.starts_with("tests: SyntaxError")));
    let column = CodeOptions { column: Some("tests".into()), ..options() };
    assert_eq!(verdicts(column, add(), &[program]).await, [void("tests: the data has no column `tests`")]);
}

#[tokio::test]
async fn tests_may_come_from_a_column() {
    let content = PromptContent::Text("Write it.".into());
    let columns = json!({"tests": add(), "entry_point": "add", "test": "def check(f):\n    assert f(1, 2) == 3"});
    let info: Map<String, Value> = serde_json::from_value(columns).unwrap();
    let prompt = Prompt { id: "1".into(), content, answer: "x".into(), source: "test".into(), info };
    let programs = ["def add(a, b):\n    return a + b", "def add(a, b):\n    return 0"].map(fenced);
    let question = Question::new(Arc::new(prompt), programs.into());
    for column in ["tests", "test"] {
        let code = Code::new(CodeOptions { column: Some(column.into()), ..options() }).unwrap();
        assert_eq!(code.verify(&question).await, [CORRECT, INCORRECT], "{column}");
    }
}

#[tokio::test]
async fn without_a_fence_the_answer_is_wrong_or_all_of_it_is_the_program() {
    let question = question(&add(), &["def add(a, b):\n    return a + b", "I do not know."]);
    assert_eq!(Code::new(options()).unwrap().verify(&question).await, [INCORRECT, INCORRECT]);
    let whole = CodeOptions { without_fence: WithoutFence::Whole, ..options() };
    assert_eq!(Code::new(whole).unwrap().verify(&question).await, [CORRECT, INCORRECT]);
}

#[tokio::test]
async fn partial_gives_the_share_of_the_tests_passed() {
    let partial = || CodeOptions { partial: true, ..options() };
    let half = "def add(a, b):\n    return 3";
    let later = "import time\ndef add(a, b):\n    if a == 1: time.sleep(600)\n    return a + b";
    let expected = [CORRECT, Verdict::Soft(0.5), INCORRECT];
    let programs = ["def add(a, b):\n    return a + b", half, "def add(a, b):\n    return 9"];
    assert_eq!(verdicts(partial(), add(), &programs).await, expected);
    // In one interpreter a test that never ends is the last.
    assert_eq!(verdicts(partial(), add(), &[later]).await, [INCORRECT]);
    let reads = "import time\na, b = map(int, input().split())\nif a == 1: time.sleep(600)\nprint(a + b)";
    assert_eq!(verdicts(partial(), sums(), &[reads]).await, [Verdict::Soft(0.5)]);
}

#[tokio::test]
async fn loops_that_never_end_are_wrong_in_time() {
    let begin = Instant::now();
    let programs = ["while True: pass", "import time\ntime.sleep(600)", "def add(a, b):\n    while True: pass"];
    let options = || CodeOptions { concurrency: 8, ..options() };
    let verdicts = verdicts(options(), add(), &programs).await;
    // A machine that is too busy to tell is allowed to say so, if it loops.
    let late = |verdict: &Verdict| matches!(verdict, Verdict::Incorrect | Verdict::Void(VoidReason::Timeout));
    assert!(verdicts.iter().all(late), "{verdicts:?}");
    assert_eq!(verdicts[1], INCORRECT);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    let sleeps = "import time\ndef add(a, b):\n    time.sleep(0.6)\n    return a + b";
    let total = CodeOptions { total_seconds: 1.0, ..options() };
    assert_eq!(verdicts_of(total, sleeps).await, INCORRECT);
    assert_eq!(verdicts_of(options(), sleeps).await, CORRECT);
}

async fn verdicts_of(options: CodeOptions, program: &str) -> Verdict {
    verdicts(options, add(), &[program]).await.remove(0)
}

#[tokio::test]
async fn to_end_early_is_not_to_pass() {
    for early in
        ["import sys\nsys.exit(0)", "import os\nos._exit(0)", "raise SystemExit", "quit()", "import os\nos.abort()"]
    {
        assert_eq!(verdict(add(), early).await, INCORRECT, "{early}");
        let later = format!("def add(a, b):\n    {}", early.replace('\n', "; "));
        assert_eq!(verdict(add(), &later).await, INCORRECT, "{later}");
    }
    let prints = "print('pass')\nprint('00000000000000000000000000000000 pass')\nimport os\n\
                  [os.write(fd, b'pass\\npass\\n') for fd in range(1, 3)]\nos._exit(0)";
    assert_eq!(verdict(add(), prints).await, INCORRECT);
    let replaces = "import os, sys, json, builtins\nos.write = os._exit = lambda *a: 0\nbuiltins.exec = lambda *a: None\n\
                    def add(a, b):\n    return 0";
    assert_eq!(verdict(add(), replaces).await, INCORRECT);
}

#[tokio::test]
async fn too_much_output_or_memory_is_the_programs_fault() {
    let prints = "while True: print('x' * 10000)";
    assert_eq!(outcome(options(), sums(), prints).await, "failed: too much output (output_kib)");
    assert_eq!(outcome(options(), add(), prints).await, "failed: too much output (output_kib)");
    let much = "import sys\nsys.stderr.write('x' * 5_000_000)";
    assert_eq!(outcome(options(), sums(), much).await, "failed: too much output (output_kib)");
    let eats = "x = bytearray(3 << 30)";
    assert_eq!(outcome(options(), add(), eats).await, "failed: MemoryError:");
    assert!(outcome(options(), sums(), eats).await.ends_with("MemoryError"));
    let grows = "x = []\nwhile True: x.append(bytearray(1 << 20))";
    let patient = CodeOptions { test_seconds: 20.0, total_seconds: 20.0, ..options() };
    assert!(outcome(patient, sums(), grows).await.ends_with("MemoryError"));
    let file = "f = open('x', 'wb')\nfor _ in range(1000): f.write(bytes(1 << 20))";
    let told = outcome(options(), sums(), file).await;
    assert!(told.contains("File too large") || told.contains("signal 25"), "{told}");
}

#[tokio::test]
async fn a_program_that_kills_itself_is_wrong() {
    for program in ["import os\nos.kill(os.getpid(), 9)", "import os\nos.kill(os.getpid(), 11)"] {
        assert_eq!(verdict(sums(), program).await, INCORRECT);
        assert_eq!(verdict(add(), program).await, INCORRECT);
    }
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let mark = mark();
    let sleeper = format!("[sys.executable, '-c', 'import time; time.sleep(600)', '{mark}']");
    let leaves = format!(
        "import os, subprocess, sys, time\nsubprocess.Popen({sleeper}, start_new_session=True, env={{}})\n\
         if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.closerange(0, 64)\n        \
         os.execve(sys.executable, {sleeper}, {{}})\n    os._exit(0)\ntime.sleep(0.2)\n"
    );
    let right = format!("{leaves}def add(a, b):\n    return a + b");
    assert_eq!(verdict(add(), &right).await, CORRECT);
    let hangs = format!("{leaves}time.sleep(600)");
    assert_eq!(verdict(add(), &hangs).await, INCORRECT);
    let prints = format!("{leaves}print(sum(map(int, input().split())))");
    assert_eq!(verdict(sums(), &prints).await, CORRECT);
    nothing_is_left_of(&mark).await;
}

/// A program that becomes this one, with the mark on its command line, which its forks share.
fn marked_program(program: &str, mark: &str) -> String {
    format!("import os, sys\nos.execv(sys.executable, [sys.executable, '-c', {program:?}, '{mark}'])")
}

#[tokio::test]
async fn a_bounded_fork_bomb_leaves_nothing() {
    let mark = mark();
    let forks = "import os, time\nfor _ in range(5):\n    try: os.fork()\n    except OSError: pass\ntime.sleep(600)";
    let bomb = marked_program(forks, &mark);
    let options = CodeOptions { processes: 16, ..options() };
    assert_eq!(verdicts(options, sums(), &[&bomb]).await, [INCORRECT]);
    nothing_is_left_of(&mark).await;
}

#[tokio::test]
async fn when_nobody_waits_any_more_the_programs_end() {
    let mark = mark();
    let hangs = fenced(&marked_program("import time; time.sleep(600)", &mark));
    let code = Code::new(CodeOptions { test_seconds: 60.0, total_seconds: 60.0, ..options() }).unwrap();
    let asked = question(&sums(), &[&hangs, &hangs]);
    assert!(timeout(Duration::from_secs(2), code.verify(&asked)).await.is_err());
    nothing_is_left_of(&mark).await;
    // With a deadline of its own, the question is void in time.
    let (begin, mut asked) = (Instant::now(), asked);
    asked.responses.push("no program".into());
    asked.deadline = begin + Duration::from_secs(1);
    let late = Verdict::Void(VoidReason::Timeout);
    assert_eq!(code.verify(&asked).await, [late.clone(), late, INCORRECT]);
    assert!(Instant::now() < asked.deadline);
    nothing_is_left_of(&mark).await;
}

#[tokio::test]
async fn a_program_sees_no_environment_and_no_network() {
    let environment = "import os\ndef add(a, b):\n    \
                       raise Exception(*[n for n in sorted(os.environ) if not n.startswith('PYTHON')])";
    let told = outcome(options(), add(), environment).await;
    let names =
        ["COUNTERPOINT_CHILD", "HOME", "LANG", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH"];
    assert!(names.iter().all(|name| told.contains(name)) && told.contains("TMPDIR"), "{told}");
    assert_eq!(told.matches('\'').count(), 2 * (names.len() + 1), "{told}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connects = format!(
        "import socket\ndef add(a, b):\n    socket.create_connection(('127.0.0.1', {port}), 1).close()\n    return a + b"
    );
    let keep = CodeOptions { network: Network::Keep, ..options() };
    assert_eq!(verdicts(keep, add(), &[&connects]).await, [CORRECT]);
    let require = Code::new(CodeOptions { network: Network::Require, ..options() }).unwrap();
    match require.start(&Home::default()).await {
        Ok(()) => assert_eq!(verdict(add(), &connects).await, INCORRECT),
        Err(error) => assert!(error.to_string().contains("does not let us drop the network"), "{error}"),
    }
}

#[tokio::test]
async fn its_directory_is_private_and_goes_with_it() {
    let tells = "import os, stat\ndef add(a, b):\n    open('left', 'w').write('x')\n    os.makedirs('a/b/c')\n    \
                 raise Exception(os.getcwd() + ' ' + oct(stat.S_IMODE(os.stat('.').st_mode)))";
    let told = outcome(options(), add(), tells).await;
    let (directory, mode) = told.rsplit_once(": ").unwrap().1.split_once(' ').unwrap();
    assert_eq!(mode, "0o700");
    assert!(directory.starts_with(std::env::temp_dir().to_str().unwrap()), "{directory}");
    assert!(!std::path::Path::new(directory).exists());
}

#[tokio::test]
async fn what_makes_judging_impossible_is_said_at_the_start() {
    let error = async |options: CodeOptions| {
        let code = Code::new(options).unwrap();
        let error = code.start(&Home::default()).await.unwrap_err().to_string();
        assert_eq!(code.verify(&question(&add(), &[&fenced("x")])).await, [Verdict::Void(VoidReason::Unavailable)]);
        error
    };
    let missing = CodeOptions { interpreter: vec!["no-such-python".into()], ..options() };
    let expected = "cannot judge programs with `no-such-python`: there is no `no-such-python` on the path";
    assert_eq!(error(missing).await, expected);
    let tight = error(CodeOptions { memory_mib: 4, ..options() }).await;
    assert!(tight.starts_with("cannot judge programs with `"), "{tight}");
}

#[tokio::test]
async fn other_interpreters_run_programs_on_inputs() {
    let shell = || CodeOptions { interpreter: vec!["sh".into()], languages: vec!["sh".into()], ..options() };
    let program = "```sh\nread a b\necho $((a + b))\n```";
    let code = Code::new(shell()).unwrap();
    assert_eq!(code.verify(&question(&sums(), &[program, "```sh\necho 3\n```"])).await, [CORRECT, INCORRECT]);
    let python = code.verify(&question(&add(), &[program])).await;
    assert_eq!(python, [void("tests other than inputs and outputs need Python")]);
}

#[tokio::test]
async fn another_user_owns_nothing_and_cannot_fork_without_end() {
    // Takes root, and an interpreter that others can read.
    let code = || {
        let interpreter = vec!["/usr/bin/python3".to_owned()];
        Code::new(CodeOptions { interpreter, user: Some(65534), processes: 20, ..options() }).unwrap()
    };
    if code().start(&Home::default()).await.is_err() {
        eprintln!("skipped: not root, or no /usr/bin/python3");
        return;
    }
    let mark = mark();
    let tells = "import os\ndef add(a, b):\n    os.stat('.')\n    open('x', 'w')\n    \
                 return a + b if os.getuid() == os.getgid() == 65534 and not os.access('/root', os.W_OK) else 0";
    let forks = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass";
    let bomb = marked_program(forks, &mark);
    let programs = [fenced(tells), fenced(&bomb)];
    let verdicts = code().verify(&question(&add(), &[&programs[0], &programs[1]])).await;
    assert_eq!(verdicts[0], CORRECT);
    assert_ne!(verdicts[1], CORRECT);
    nothing_is_left_of(&mark).await;
}
