//! The Python files in `examples/`: the helper, a verifier made with it, and the adapter for rewards of verl and TRL.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod children;

use std::sync::Arc;
use std::time::Duration;

use children::*;
use counterpoint_rollout::{ChatMessage, Prompt, PromptContent};
use counterpoint_verifier::{Home, Known, Process, ProcessOptions, Question, SelfTest, Verdict, Verifier, VoidReason};
use serde_json::{Map, Value, json};

const CORRECT: Verdict = Verdict::Correct;
const INCORRECT: Verdict = Verdict::Incorrect;

fn void(reason: &str) -> Verdict {
    Verdict::Void(VoidReason::Verifier(reason.into()))
}

fn process(arguments: &[&str]) -> Process {
    // The helper is found next to the verifiers that use it; those of the tests lie elsewhere.
    let helper = file("examples");
    let command = [&python(), "-S"].into_iter().chain(arguments.iter().copied()).map(str::to_owned).collect();
    let env = [("PYTHONPATH", helper.as_str()), ("PYTHONDONTWRITEBYTECODE", "1")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Process::new(ProcessOptions { command, env, deadline_seconds: 20.0, ..Default::default() }).unwrap()
}

/// The question `2 + 2`, whose truth is `4`.
fn question(responses: &[&str], info: Value, chat: bool) -> Question {
    let text = || "2 + 2".to_owned();
    let content = match chat {
        true => PromptContent::Chat(vec![ChatMessage::new("user", text())]),
        false => PromptContent::Text(text()),
    };
    let info: Map<String, Value> = serde_json::from_value(info).unwrap();
    let prompt = Prompt { id: "1".into(), content, answer: "4".into(), source: "gsm8k".into(), info };
    Question::new(Arc::new(prompt), responses.iter().map(|&response| response.to_owned()).collect())
}

async fn verdicts(arguments: &[&str], questions: &[Question]) -> Vec<Vec<Verdict>> {
    let process = process(arguments);
    process.start(&Home::default()).await.unwrap();
    let mut verdicts = Vec::new();
    for question in questions {
        verdicts.push(process.verify(question).await);
    }
    process.stop().await;
    verdicts
}

#[tokio::test]
async fn the_example_judges_by_parity_and_passes_the_self_test() {
    let example = file("examples/parity_verifier.py");
    let asked = question(&["4", "7", " 10\n", "seven", ""], json!({}), false);
    let expected = [CORRECT, INCORRECT, CORRECT, INCORRECT, INCORRECT];
    assert_eq!(verdicts(&[&example], &[asked]).await, [expected]);
    let known = |response: &str, answer: &str, expected| {
        let (response, answer) = (response.into(), answer.into());
        Known { response, answer, expected }
    };
    let cases = vec![known("8", "4", true), known("7", "4", false)];
    let test = SelfTest::new("parity", Arc::new(process(&[&example])), Duration::from_secs(20), cases);
    let mut findings = Vec::new();
    test.run(|finding| findings.push(finding)).await;
    assert!(findings.len() == 6 && findings.iter().all(|finding| finding.outcome.is_ok()), "{findings:?}");
}

#[tokio::test]
async fn the_helper_takes_every_kind_of_result_and_makes_faults_void() {
    let judges = file("actors/verifier/tests/python/judges.py");
    let responses =
        ["4", "5", "true", "false", "half", "one", "none", "void", "text", "two", "nan", "raise", "read", "info"];
    let asked = question(&responses, json!({"unit": "cm"}), false);
    let expected = [
        CORRECT,
        INCORRECT,
        CORRECT,
        INCORRECT,
        Verdict::Soft(0.5),
        CORRECT,
        void("no reason given"),
        void("no unit"),
        void("the judge returned the text '1.0'"),
        void("score 2.0 is not within 0 and 1"),
        void("score nan is not within 0 and 1"),
        void("RuntimeError: a bug"),
        CORRECT,
        CORRECT,
    ];
    let again = question(&["4"], json!({}), false);
    assert_eq!(verdicts(&[&judges], &[asked, again]).await, [expected.to_vec(), vec![CORRECT]]);
}

#[tokio::test]
async fn the_helper_can_show_a_judge_the_whole_group() {
    let judges = file("actors/verifier/tests/python/judges.py");
    let asked = [["4", "5"], ["raise", "4"], ["few", "4"]].map(|responses| question(&responses, json!({}), false));
    let (bug, few) = (void("RuntimeError: a bug"), void("0 results for 2 responses"));
    let expected = [[CORRECT, INCORRECT], [bug.clone(), bug], [few.clone(), few]];
    assert_eq!(verdicts(&[&judges, "group"], &asked).await, expected);
}

async fn adapted(options: &[&str], asked: Question) -> Vec<Verdict> {
    let (adapter, rewards) = (file("examples/reward_adapter.py"), file("actors/verifier/tests/python/rewards.py"));
    let options = options.iter().map(|option| option.replace("rewards.py", &rewards)).collect::<Vec<_>>();
    let arguments: Vec<&str> = [adapter.as_str()].into_iter().chain(options.iter().map(String::as_str)).collect();
    verdicts(&arguments, &[asked]).await.remove(0)
}

#[tokio::test]
async fn a_reward_of_verl_runs_unchanged() {
    let responses = ["4", "5", "dict", "none", "nan", "source", "read"];
    let expected = [
        CORRECT,
        INCORRECT,
        Verdict::Soft(0.5),
        void("the reward function returned None"),
        void("reward nan is not within 0.0 and 1.0 (--range)"),
        CORRECT,
        INCORRECT,
    ];
    let asked = question(&responses, json!({"index": 7}), false);
    assert_eq!(adapted(&["--verl", "rewards.py"], asked).await, expected);
    // The data's own columns of these names come before the prompt's source and the other columns.
    let info = json!({"data_source": "gsm8k", "extra_info": {"index": 7}, "more": 1});
    assert_eq!(adapted(&["--verl", "rewards.py:compute_score"], question(&["source"], info, true)).await, [CORRECT]);
    let plain = || question(&["4", "5"], json!({}), false);
    assert_eq!(adapted(&["--verl", "rewards.py:later"], plain()).await, [CORRECT, INCORRECT]);
    assert_eq!(adapted(&["--verl", "rewards.py:signed", "--range", "-1", "1"], plain()).await, [CORRECT, INCORRECT]);
    let outside = void("reward -1.0 is not within 0.0 and 1.0 (--range)");
    assert_eq!(adapted(&["--verl", "rewards.py:signed"], plain()).await, [CORRECT, outside]);
    let half = question(&["two", "x"], json!({}), false);
    assert_eq!(
        adapted(&["--verl", "rewards.py:half", "--range", "0", "4"], half).await,
        [Verdict::Soft(0.5), INCORRECT]
    );
}

#[tokio::test]
async fn an_exception_of_a_reward_is_void_whatever_is_in_its_text() {
    let verdicts = adapted(&["--verl", "rewards.py"], question(&["crash", "4"], json!({}), false)).await;
    assert!(
        matches!(&verdicts[0], Verdict::Void(VoidReason::Verifier(text)) if text.starts_with("ValueError: cannot"))
    );
    assert_eq!(verdicts[1], CORRECT);
}

#[tokio::test]
async fn a_reward_of_trl_runs_unchanged() {
    let trl = ["--trl", "rewards.py:accuracy_reward", "--truth-column", "solution"];
    for chat in [false, true] {
        let asked = question(&["4", "5", "skip"], json!({}), chat);
        assert_eq!(adapted(&trl, asked).await, [CORRECT, INCORRECT, void("the reward function returned None")]);
        let columns = question(&["x", "y"], json!({"level": 3}), chat);
        assert_eq!(adapted(&["--trl", "rewards.py:columns_reward"], columns).await, [CORRECT, CORRECT]);
    }
    let crash = void("KeyError: 'solution'");
    assert_eq!(adapted(&trl, question(&["crash", "4"], json!({}), false)).await, [crash.clone(), crash]);
    let few = void("ValueError: 1 rewards for 2 completions");
    assert_eq!(adapted(&trl, question(&["few", "4"], json!({}), false)).await, [few.clone(), few]);
}

#[tokio::test]
async fn the_adapter_says_what_is_wrong_with_its_arguments() {
    let adapter = file("examples/reward_adapter.py");
    let rewards = file("actors/verifier/tests/python/rewards.py");
    let error = async |arguments: &[&str]| {
        let arguments: Vec<&str> = [adapter.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        process(&arguments).start(&Home::default()).await.unwrap_err().to_string()
    };
    assert!(error(&[]).await.ends_with("one of the arguments --verl --trl is required"));
    let none = format!("{rewards}:nothing");
    assert!(error(&["--verl", &none]).await.ends_with("rewards.py has no function `nothing`"));
    assert!(error(&["--trl", &rewards]).await.contains("--trl: name the function"));
    assert!(error(&["--verl", &rewards, "--range", "1", "-1"]).await.contains("LOW must be less than HIGH"));
}
