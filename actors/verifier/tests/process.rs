//! The kind `process` with real children that misbehave in every way that `bad_plugin.py` knows: the verdict says why, the
//! slot is back in time, the next question is judged, and nothing is left in the process table.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod children;

use std::sync::Arc;
use std::time::Duration;

use children::*;
use counterpoint_rollout::{Prompt, PromptContent};
use counterpoint_verifier::{
    Home, Limits, MARKER, Process, ProcessOptions, Question, SelfTest, Verdict, Verifier, VoidReason,
};
use tokio::time::{Instant, timeout};

/// The deadline of a request where the plug-in will miss it.
const SHORT: f64 = 0.6;

const CORRECT: Verdict = Verdict::Correct;
const INCORRECT: Verdict = Verdict::Incorrect;

fn void(reason: VoidReason) -> Verdict {
    Verdict::Void(reason)
}

/// A plug-in with the mark of a test in its environment and on its descendants' command lines.
struct Plugin {
    process: Process,
    mark: String,
    options: ProcessOptions,
    /// How long its first start took.
    start: Duration,
}

impl Plugin {
    async fn start(mode: &str, adjust: impl FnOnce(&mut ProcessOptions)) -> Self {
        let (options, mark) = options(mode, adjust);
        let (process, begin) = (Process::new(options.clone()).unwrap(), Instant::now());
        process.start(&Home::default()).await.unwrap();
        Self { process, mark, options, start: begin.elapsed() }
    }

    /// Asks for a verdict on each response to a question whose truth is `4`.
    async fn ask(&self, responses: &[&str]) -> Vec<Verdict> {
        self.process.verify(&question(responses)).await
    }

    async fn judges_rightly(&self) {
        assert_eq!(self.ask(&["4", "5"]).await, [CORRECT, INCORRECT]);
    }

    /// The same after at most so many questions that were asked of a process about to end, and are void for that reason.
    async fn judges_rightly_after(&self, most: usize, reason: VoidReason) {
        for _ in 0..most {
            let verdicts = self.ask(&["4"]).await;
            assert!(verdicts == [CORRECT] || verdicts == [void(reason.clone())], "{verdicts:?}");
        }
        self.judges_rightly().await;
    }

    async fn end(self) {
        self.process.stop().await;
        nothing_is_left_of(&self.mark).await;
    }
}

fn options(mode: &str, adjust: impl FnOnce(&mut ProcessOptions)) -> (ProcessOptions, String) {
    let mark = mark();
    let plugin = file("actors/verifier/tests/bad_plugin.py");
    let command = [&python(), "-S", &plugin, "--mode", mode, "--mark", &mark].map(str::to_owned).into();
    let mut options = ProcessOptions { command, deadline_seconds: SHORT, ..Default::default() };
    options.env.insert("TEST_MARK".into(), mark.clone());
    adjust(&mut options);
    (options, mark)
}

fn question(responses: &[&str]) -> Question {
    let mut question = Question::pair("", "4");
    question.responses = responses.iter().map(|&response| response.to_owned()).collect();
    question
}

/// One misbehaviour: the verdicts that it gets (for two responses), then a question that is judged rightly and in time.
async fn misbehaves(mode: &str, verdicts: [Verdict; 2]) {
    let plugin = Plugin::start(mode, |_| {}).await;
    plugin.judges_rightly().await;
    let begin = Instant::now();
    assert_eq!(plugin.ask(&["misbehave", "4"]).await, verdicts, "{mode}");
    assert!(begin.elapsed() < Duration::from_secs_f64(SHORT + 0.5), "{mode}: verdicts after {:?}", begin.elapsed());
    plugin.judges_rightly().await;
    // The start of a Python is not the slot's affair, and the machine may be busy with other tests.
    let bound = Duration::from_secs_f64(SHORT + 1.0) + 3 * plugin.start;
    assert!(begin.elapsed() < bound, "{mode}: the slot was back after {:?}", begin.elapsed());
    plugin.end().await;
}

async fn is_void(mode: &str, reason: VoidReason) {
    misbehaves(mode, [void(reason.clone()), void(reason)]).await;
}

#[tokio::test]
async fn a_plugin_that_hangs_is_timed_out_killed_and_replaced() {
    is_void("hang", VoidReason::Timeout).await;
    is_void("never", VoidReason::Timeout).await;
}

#[tokio::test]
async fn one_that_ignores_every_signal_it_can_is_killed_all_the_same() {
    is_void("ignore-term", VoidReason::Timeout).await;
}

#[tokio::test]
async fn one_that_crashes_or_exits_is_void_and_replaced() {
    for mode in ["crash", "exit", "raise-error"] {
        is_void(mode, VoidReason::Crash).await;
    }
}

#[tokio::test]
async fn children_that_outlive_the_plugin_are_found_and_killed() {
    is_void("fork-and-exit", VoidReason::Crash).await;
    is_void("fork-and-hang", VoidReason::Timeout).await;
    is_void("fork-chain", VoidReason::Timeout).await;
}

#[tokio::test]
async fn daemons_and_zombies_of_a_plugin_that_goes_on_end_with_it() {
    for mode in ["fork-and-go-on", "zombies"] {
        misbehaves(mode, [INCORRECT, CORRECT]).await;
    }
}

#[tokio::test]
async fn a_line_without_end_is_cut_off_in_bounded_memory() {
    let plugin = Plugin::start("flood", |options| options.deadline_seconds = 20.0).await;
    plugin.judges_rightly().await;
    let before = memory();
    assert_eq!(plugin.ask(&["misbehave"]).await, [void(VoidReason::OutputLimit)]);
    plugin.judges_rightly().await;
    let grown = memory().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more after a line of 64 MiB");
    plugin.end().await;
}

#[tokio::test]
async fn a_flood_of_lines_ends_at_the_first_that_is_no_answer() {
    is_void("flood-lines", VoidReason::Protocol).await;
}

#[tokio::test]
async fn a_flood_on_standard_error_hurts_nobody() {
    for mode in ["flood-stderr", "flood-stderr-line"] {
        let plugin = Plugin::start(mode, |options| options.deadline_seconds = 20.0).await;
        assert_eq!(plugin.ask(&["misbehave", "4"]).await, [INCORRECT, CORRECT]);
        plugin.judges_rightly().await;
        plugin.end().await;
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_is_void_for_that_reason() {
    for mode in ["wrong-id", "invalid-utf8", "nan", "out-of-range", "wrong-count", "no-json"] {
        is_void(mode, VoidReason::Protocol).await;
    }
}

#[tokio::test]
async fn an_answer_given_twice_counts_once_and_costs_the_plugin_its_process() {
    for mode in ["twice", "unasked"] {
        let plugin = Plugin::start(mode, |_| {}).await;
        assert_eq!(plugin.ask(&["misbehave", "4"]).await, [INCORRECT, CORRECT]);
        // What is asked before the answer too much is seen shares its fate; and that answer may even bear the next one's id.
        plugin.judges_rightly_after(2, VoidReason::Protocol).await;
        plugin.end().await;
    }
}

#[tokio::test]
async fn a_plugin_may_say_that_it_cannot_judge() {
    is_void("error", VoidReason::Verifier("cannot judge this".into())).await;
}

#[tokio::test]
async fn one_that_closes_its_input_or_output_is_replaced() {
    is_void("close-stdin", VoidReason::Timeout).await;
    is_void("close-stdout", VoidReason::Crash).await;
    let plugin = Plugin::start("close-stdin-after", |_| {}).await;
    assert_eq!(plugin.ask(&["misbehave", "4"]).await, [INCORRECT, CORRECT]);
    // It answers before it closes its input, so the next question may still find it open.
    let next = plugin.ask(&["4"]).await;
    assert!(next == [void(VoidReason::Crash)] || next == [void(VoidReason::Timeout)], "{next:?}");
    plugin.judges_rightly().await;
    plugin.end().await;
}

#[tokio::test]
async fn an_answer_given_just_before_the_end_is_heard() {
    let plugin = Plugin::start("answer-and-exit", |_| {}).await;
    assert_eq!(plugin.ask(&["misbehave", "4"]).await, [INCORRECT, CORRECT]);
    plugin.judges_rightly_after(1, VoidReason::Crash).await;
    plugin.end().await;
}

#[tokio::test]
async fn a_plugin_that_does_not_read_cannot_block_a_long_request() {
    let plugin = Plugin::start("stop-reading", |_| {}).await;
    assert_eq!(plugin.ask(&["misbehave", "4"]).await, [INCORRECT, CORRECT]);
    let (long, begin) = ("x".repeat(4 << 20), Instant::now());
    assert_eq!(plugin.ask(&[&long]).await, [void(VoidReason::Timeout)]);
    assert!(begin.elapsed() < Duration::from_secs_f64(SHORT + 0.5), "{:?}", begin.elapsed());
    assert_eq!(plugin.ask(&[&long, "4"]).await, [INCORRECT, CORRECT]);
    plugin.end().await;
}

#[tokio::test]
async fn every_misbehaviour_one_after_the_other_costs_one_verifier_no_more_than_its_verdicts() {
    let plugin = Plugin::start("ask", |options| options.deadline_seconds = SHORT).await;
    let modes = [
        ("hang", VoidReason::Timeout),
        ("crash", VoidReason::Crash),
        ("exit", VoidReason::Crash),
        ("fork-and-exit", VoidReason::Crash),
        ("flood", VoidReason::OutputLimit),
        ("wrong-id", VoidReason::Protocol),
        ("never", VoidReason::Timeout),
        ("invalid-utf8", VoidReason::Protocol),
        ("nan", VoidReason::Protocol),
        ("close-stdin", VoidReason::Timeout),
        ("ignore-term", VoidReason::Timeout),
    ];
    for (mode, reason) in modes {
        let info = serde_json::Map::from_iter([("misbehave".to_owned(), mode.into())]);
        let content = PromptContent::Text("2 + 2 = ".into());
        let prompt = Prompt { id: mode.into(), content, answer: "4".into(), source: "test".into(), info };
        let question = Question::new(Arc::new(prompt), vec!["4".into()]);
        assert_eq!(plugin.process.verify(&question).await, [void(reason)], "{mode}");
        plugin.judges_rightly().await;
    }
    plugin.end().await;
}

#[tokio::test]
async fn the_innocent_are_asked_again_of_a_new_process() {
    let plugin = Plugin::start("hang", |options| options.pipeline = 4).await;
    let ask = |responses: &'static [&'static str]| plugin.ask(responses);
    let (guilty, one, other) = tokio::join!(ask(&["misbehave"]), ask(&["4"]), ask(&["5", "4"]));
    assert_eq!(guilty, [void(VoidReason::Timeout)]);
    assert_eq!((one, other), (vec![CORRECT], vec![INCORRECT, CORRECT]));
    plugin.end().await;
}

#[tokio::test]
async fn a_question_shares_the_fate_of_others_once_and_no_more() {
    let plugin = Plugin::start("hang", |options| options.pipeline = 4).await;
    let ask = |responses: &'static [&'static str]| plugin.ask(responses);
    let (first, second, third) = tokio::join!(ask(&["misbehave"]), ask(&["misbehave", ""]), ask(&["4"]));
    assert_eq!(first, [void(VoidReason::Timeout)]);
    assert_eq!(second, [void(VoidReason::Timeout), void(VoidReason::Timeout)]);
    assert_eq!(third, [void(VoidReason::Crash)]);
    plugin.judges_rightly().await;
    plugin.end().await;
}

#[tokio::test]
async fn several_processes_work_at_the_same_time() {
    let plugin = Plugin::start("slow", |options| (options.processes, options.deadline_seconds) = (4, 20.0)).await;
    let begin = Instant::now();
    let ask = || plugin.ask(&["misbehave", "4"]);
    let answers = tokio::join!(ask(), ask(), ask(), ask());
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        assert_eq!(answer, [INCORRECT, CORRECT]);
    }
    // One after the other would be 1.2 s.
    assert!(begin.elapsed() < Duration::from_millis(1000), "{:?}", begin.elapsed());
    plugin.end().await;
}

#[tokio::test]
async fn one_that_fails_again_and_again_is_out_of_service_and_says_so_at_once() {
    let plugin = Plugin::start("crash", |options| options.max_restarts = 2).await;
    for _ in 0..3 {
        assert_eq!(plugin.ask(&["misbehave"]).await, [void(VoidReason::Crash)]);
    }
    let begin = Instant::now();
    loop {
        match plugin.ask(&["4"]).await.as_slice() {
            [Verdict::Void(VoidReason::Unavailable)] => break,
            // Asked before the third end was noticed.
            [Verdict::Void(VoidReason::Crash)] if begin.elapsed() < Duration::from_secs(5) => {}
            other => panic!("{other:?}"),
        }
    }
    let begin = Instant::now();
    assert_eq!(plugin.ask(&["4", "4"]).await, [void(VoidReason::Unavailable), void(VoidReason::Unavailable)]);
    assert!(begin.elapsed() < Duration::from_millis(100));
    // Stopped and started again, it has another chance.
    plugin.process.stop().await;
    plugin.judges_rightly().await;
    plugin.end().await;
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_any_more_blocks_its_process_no_longer_than_its_deadline() {
    let plugin = Plugin::start("hang", |_| {}).await;
    let cancelled = timeout(Duration::from_millis(100), plugin.ask(&["misbehave"])).await;
    assert!(cancelled.is_err());
    let begin = Instant::now();
    plugin.judges_rightly().await;
    assert!(begin.elapsed() < Duration::from_secs_f64(SHORT + 1.0) + 3 * plugin.start, "{:?}", begin.elapsed());
    plugin.end().await;
}

#[tokio::test]
async fn the_verdicts_come_before_the_deadline_of_the_question_even_if_that_is_nearer() {
    let plugin = Plugin::start("hang", |options| options.deadline_seconds = 60.0).await;
    let (begin, mut question) = (Instant::now(), question(&["misbehave"]));
    question.deadline = begin + Duration::from_millis(500);
    assert_eq!(plugin.process.verify(&question).await, [void(VoidReason::Timeout)]);
    assert!(Instant::now() < question.deadline);
    plugin.judges_rightly().await;
    plugin.end().await;
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_said_with_the_command_and_its_last_words() {
    let error = async |mode: &str, adjust: fn(&mut ProcessOptions)| {
        let (options, mark) = options(mode, adjust);
        let process = Process::new(options).unwrap();
        let error = process.start(&Home::default()).await.unwrap_err().to_string();
        nothing_is_left_of(&mark).await;
        error
    };
    let missing = error("good", |options| options.command = vec!["no-such-program".into(), "x".into()]).await;
    assert_eq!(missing, "cannot start `no-such-program x`: No such file or directory (os error 2)");
    let dies = error("dies", |_| {}).await;
    assert!(
        dies.ends_with(
            "it exited with code 1 before its hello; last line of its standard error: the plug-in has no licence"
        ),
        "{dies}"
    );
    assert!(dies.contains("bad_plugin.py"), "{dies}");
    let bad = error("bad-hello", |_| {}).await;
    assert!(bad.contains(r#"its first line is "Loading the model ...", not {"protocol""#), "{bad}");
    let old = error("old-hello", |_| {}).await;
    assert!(old.ends_with("this program speaks version 1"), "{old}");
    let silent = error("no-hello", |options| options.start_seconds = 0.5).await;
    assert!(silent.ends_with("no hello within 0.5 s"), "{silent}");
    let slow = error("slow-start", |options| (options.start_seconds, options.processes) = (0.5, 3)).await;
    assert!(slow.ends_with("no hello within 0.5 s"), "{slow}");
}

#[tokio::test]
async fn it_starts_by_itself_when_asked_again_after_a_stop_and_starting_twice_starts_one() {
    let plugin = Plugin::start("good", |_| {}).await;
    let running = marked(&plugin.mark);
    plugin.process.start(&Home::default()).await.unwrap();
    assert_eq!(marked(&plugin.mark), running);
    plugin.process.stop().await;
    plugin.process.stop().await;
    nothing_is_left_of(&plugin.mark).await;
    plugin.judges_rightly().await;
    assert_eq!(plugin.process.verify(&question(&[])).await, []);
    let Plugin { process, mark, options, .. } = plugin;
    // Forgotten without a stop, it ends too.
    drop(process);
    nothing_is_left_of(&mark).await;
    assert_eq!(options.processes, 1);
}

#[test]
fn when_the_runtime_goes_so_do_the_children() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mark = runtime.block_on(async {
        let plugin = Plugin::start("fork-and-hang", |options| options.deadline_seconds = 60.0).await;
        let stuck = timeout(Duration::from_secs(1), plugin.ask(&["misbehave"])).await;
        assert!(stuck.is_err());
        assert!(marked(&plugin.mark).len() >= 5);
        std::mem::forget(plugin.process);
        plugin.mark
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    let gone = || marked(&mark).is_empty();
    let again = tokio::runtime::Runtime::new().unwrap();
    again.block_on(async {
        let deadline = Instant::now() + Duration::from_secs(3);
        while !gone() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(gone(), "{:?}", marked(&mark));
}

/// Not a test by itself: the next one runs it in a process of its own, and kills that.
#[tokio::test]
#[ignore = "waits to be killed by the test below"]
async fn victim() {
    let Ok(mark) = std::env::var("VICTIM") else { return };
    let plugin = Plugin::start("hang", |options| {
        options.env.insert("TEST_MARK".into(), mark);
        options.deadline_seconds = 600.0;
    });
    let plugin = plugin.await;
    println!("started");
    plugin.ask(&["misbehave"]).await;
}

#[tokio::test]
async fn when_the_program_is_killed_its_children_die_with_it() {
    let mark = mark();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "victim", "--ignored"]).env("VICTIM", &mark);
    command.stdout(std::process::Stdio::null());
    let mut victim = command.spawn().unwrap();
    let children = || marked(&format!("TEST_MARK={mark}")).len();
    let deadline = Instant::now() + Duration::from_secs(20);
    while children() == 0 {
        assert!(Instant::now() < deadline, "the plug-in did not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    // What it left came to this process, where the end of any child reaps it.
    Plugin::start("good", |_| {}).await.end().await;
    nothing_is_left_of(&mark).await;
}

/// A plug-in in a few lines of shell, which answers every request with an error that tells of its surroundings.
fn shell(what: &str, adjust: impl FnOnce(&mut ProcessOptions)) -> Process {
    let script = r#"
        echo '{"protocol": "counterpoint-verifier", "version": 1}'
        id=0
        while read -r line; do
            id=$((id + 1))
            echo "{\"id\": $id, \"error\": \"$( (WHAT) | tr '\n' ' ' )\"}"
        done"#;
    let command = ["sh", "-c", &script.replace("WHAT", what)].map(str::to_owned).into();
    let mut options = ProcessOptions { command, ..Default::default() };
    adjust(&mut options);
    Process::new(options).unwrap()
}

async fn tells(what: &str, adjust: impl FnOnce(&mut ProcessOptions)) -> String {
    let process = shell(what, adjust);
    let verdicts = process.verify(&question(&["x"])).await;
    process.stop().await;
    match verdicts.as_slice() {
        [Verdict::Void(VoidReason::Verifier(text))] => text.trim().to_owned(),
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn its_surroundings_are_as_configured() {
    let limits = Limits { memory_mib: Some(512), open_files: Some(50), cpu_seconds: Some(77), ..Default::default() };
    let limited = |options: &mut ProcessOptions| options.limits = limits;
    assert_eq!(
        tells("ulimit -v; ulimit -n; ulimit -t; ulimit -c", limited).await.split_whitespace().collect::<Vec<_>>(),
        ["524288", "50", "77", "0"]
    );
    let here = tells("pwd", |options| options.directory = Some("/".into())).await;
    assert_eq!(here, "/");
    let env = |clear: bool| {
        move |options: &mut ProcessOptions| {
            options.clear_env = clear;
            options.env.insert("MINE".into(), "is set".into());
        }
    };
    assert_eq!(tells("echo $MINE, ${CARGO_MANIFEST_DIR:+inherited}", env(false)).await, "is set, inherited");
    assert_eq!(tells("echo $MINE, ${CARGO_MANIFEST_DIR:+inherited}", env(true)).await, "is set,");
    let marker = tells(&format!("echo ${MARKER}"), |_| {}).await;
    assert!(marker.starts_with(&format!("{}.", std::process::id())), "{marker}");
    // Standard input, output and error, and the directory that is being listed.
    assert_eq!(tells("ls /proc/self/fd | wc -l", |_| {}).await.trim(), "4");
    assert_eq!(tells("grep -c 'NoNewPrivs:.1' /proc/self/status", |_| {}).await, "1");
    let session = tells("cut -d' ' -f5,6 /proc/$$/stat | tr ' ' '-'; echo $$-$$", |_| {}).await;
    let (its, own) = session.split_once(char::is_whitespace).unwrap_or_default();
    assert_eq!(its, own);
}

#[tokio::test]
async fn the_self_test_passes_a_good_plugin_also_when_it_is_spoken_to_slowly() {
    let (options, mark) = options("good", |options| options.deadline_seconds = 10.0);
    let process = Arc::new(Process::new(options).unwrap());
    let mut findings = Vec::new();
    let test = SelfTest::new("good", process, Duration::from_secs(10), Vec::new());
    test.run(|finding| findings.push(finding)).await;
    assert_eq!(findings.len(), 6);
    assert!(findings.iter().all(|finding| finding.outcome.is_ok()), "{findings:?}");
    nothing_is_left_of(&mark).await;
}
