//! What the built-in tasks ask has the answer that they give, and what is held out is not trained on.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashSet;

use counterpoint_data::tasks::{Operation, Task, TaskOptions, make};
use counterpoint_rollout::Prompt;
use counterpoint_verifier::{Question, Registry, Verdict, VerifierConfig};
use proptest::prelude::*;

/// The question's parts: what its template holds, in order.
fn parts(prompt: &Prompt) -> Vec<String> {
    prompt.content.display().split('|').map(str::to_owned).collect()
}

fn templated(task: Task) -> TaskOptions {
    let places: Vec<String> = task.places().iter().map(|place| format!("{{{place}}}")).collect();
    TaskOptions { count: 60, held_out: 20, template: Some(places.join("|")), ..TaskOptions::default() }
}

fn valid(options: &TaskOptions, task: Task) {
    let mut errors = Vec::new();
    options.validate(task, &mut errors);
    assert_eq!(errors, [""; 0]);
}

/// Evaluates with the usual precedence, by recursive descent; written apart from the code under test.
fn value(expression: &str) -> Option<(i128, i128)> {
    struct Reader<'a>(std::iter::Peekable<std::str::Chars<'a>>);
    impl Reader<'_> {
        fn peek(&mut self) -> Option<char> {
            while self.0.next_if_eq(&' ').is_some() {}
            self.0.peek().copied()
        }
        fn sum(&mut self) -> Option<(i128, i128)> {
            let mut left = self.product()?;
            while let Some(sign @ ('+' | '-')) = self.peek() {
                self.0.next();
                let right = self.product()?;
                let part = right.0 * left.1;
                left = (left.0 * right.1 + if sign == '+' { part } else { -part }, left.1 * right.1);
            }
            Some(left)
        }
        fn product(&mut self) -> Option<(i128, i128)> {
            let mut left = self.atom()?;
            while let Some(sign @ ('*' | '/')) = self.peek() {
                self.0.next();
                let right = self.atom()?;
                left = if sign == '*' {
                    (left.0 * right.0, left.1 * right.1)
                } else {
                    (left.0 * right.1, left.1 * right.0)
                };
                if left.1 != 0 && left.0 % left.1 == 0 {
                    left = (left.0 / left.1, 1);
                }
            }
            Some(left)
        }
        fn atom(&mut self) -> Option<(i128, i128)> {
            if self.peek()? == '(' {
                self.0.next();
                let inside = self.sum()?;
                return (self.peek()? == ')').then(|| self.0.next()).map(|_| inside);
            }
            let mut digits = String::new();
            while let Some(digit) = self.0.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            Some((digits.parse().ok()?, 1))
        }
    }
    let mut reader = Reader(expression.chars().peekable());
    let value = reader.sum()?;
    reader.peek().is_none().then_some(value)
}

fn number(text: &str) -> i128 {
    text.parse().unwrap()
}

fn right(task: Task, prompt: &Prompt) -> bool {
    let (parts, answer) = (parts(prompt), prompt.answer.as_str());
    match task {
        Task::Arithmetic => value(&parts[0]).is_some_and(|(n, d)| d != 0 && n % d == 0 && n / d == number(answer)),
        Task::Countdown => {
            let solution = prompt.info["solution"].as_str().unwrap();
            let (n, d) = value(solution).unwrap();
            let used = solution.split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty());
            let mut used: Vec<i128> = used.map(number).collect();
            let mut given: Vec<i128> = parts[0].split(", ").map(number).collect();
            used.sort_unstable();
            given.sort_unstable();
            d != 0 && n == d * number(answer) && parts[1] == answer && used == given
        }
        Task::Reverse => answer.chars().rev().eq(parts[0].chars()),
        Task::Sort => {
            let read = |text: &str| text.split(", ").map(number).collect::<Vec<_>>();
            let (mut input, sorted) = (read(&parts[0]), read(answer));
            let ascending = sorted.is_sorted();
            input.sort_unstable();
            ascending && input == sorted
        }
        Task::Compare => {
            let (a, b): (f64, f64) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
            a != b && answer == if a > b { &parts[0] } else { &parts[1] }
        }
        Task::CountLetters => parts[0].matches(parts[1].as_str()).count().to_string() == answer,
        Task::Remainder => number(&parts[0]) % number(&parts[1]) == number(answer),
        Task::Binary => i128::from_str_radix(answer, 2).unwrap() == number(&parts[0]),
    }
}

/// What makes two questions one, computed apart from the code under test.
fn essence(task: Task, prompt: &Prompt) -> String {
    let parts = parts(prompt);
    let mut words: Vec<&str> = match task {
        Task::Arithmetic | Task::Countdown | Task::Sort => parts[0].split([' ', ',']).collect(),
        Task::Compare => parts.iter().map(String::as_str).collect(),
        _ => vec![&parts[0]],
    };
    words.sort_unstable();
    let reversed: String = parts[0].chars().rev().collect();
    match task {
        Task::Countdown => format!("{words:?} {}", parts[1]),
        Task::Remainder => parts.join(" "),
        Task::Reverse => parts[0].clone().min(reversed),
        _ => format!("{words:?}"),
    }
}

fn check(task: Task, options: &TaskOptions) {
    valid(options, task);
    let made = make(task, options);
    assert_eq!(made, make(task, options), "not a function of its options");
    let mut texts = HashSet::new();
    let mut ids = HashSet::new();
    for prompt in made.train.iter().chain(&made.held_out) {
        assert!(right(task, prompt), "{task}: {prompt:?}");
        assert!(texts.insert(prompt.content.display()), "{task}: twice {prompt:?}");
        assert!(ids.insert(prompt.id.clone()));
    }
    let trained: HashSet<String> = made.train.iter().map(|p| essence(task, p)).collect();
    for prompt in &made.held_out {
        assert!(!trained.contains(&essence(task, prompt)), "{task}: trained on {prompt:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]
    #[test]
    fn answers_are_right_and_nothing_held_out_is_trained_on(
        task in prop::sample::select(Task::ALL.to_vec()),
        seed in 0_u64..1 << 40,
        least in 1_u32..4,
        more in 0_u32..3,
        operands in 2_u32..6,
        signs in prop::sample::subsequence(
            vec![Operation::Add, Operation::Subtract, Operation::Multiply, Operation::Divide], 1..=4),
        decimals in 0_u32..3,
    ) {
        let mut options = TaskOptions { seed, ..templated(task) };
        if !matches!(task, Task::Reverse | Task::CountLetters) {
            (options.min_digits, options.max_digits) = (Some(least), Some(least + more));
        }
        if matches!(task, Task::Arithmetic | Task::Countdown) {
            (options.operands, options.operations) = (Some(operands), Some(signs));
        }
        if matches!(task, Task::Sort | Task::Reverse | Task::CountLetters) {
            (options.min_length, options.max_length) = (Some(least + 1), Some(least + more + 1));
        }
        if task == Task::Compare {
            options.decimals = Some(decimals);
        }
        check(task, &options);
    }
}

#[test]
fn every_task_has_questions_with_its_default_options() {
    for task in Task::ALL {
        let made = make(task, &TaskOptions::default());
        assert!(made.train.len() > 80 && !made.held_out.is_empty(), "{task}: {}", made.train.len());
        let text = made.train[0].content.display();
        assert!(!text.contains(['{', '}']), "{text}");
    }
}

#[test]
fn a_task_with_fewer_questions_than_asked_for_says_so() {
    let options = TaskOptions { count: 80, held_out: 40, max_digits: Some(1), ..TaskOptions::default() };
    let made = make(Task::Arithmetic, &options);
    // One-digit sums: a hundred pairs, all of them found.
    assert_eq!((made.train.len() + made.held_out.len(), made.short), (100, 20));
    assert!(made.train.len() > 50 && made.held_out.len() > 15, "{}", made.train.len());
}

#[test]
fn another_seed_asks_other_questions() {
    let of = |seed| make(Task::Sort, &TaskOptions { seed, ..TaskOptions::default() });
    assert_ne!(of(0).train[0], of(1).train[0]);
}

#[test]
fn options_that_cannot_work_are_named() {
    let refused = |task, options: TaskOptions| {
        let mut errors = Vec::new();
        options.validate(task, &mut errors);
        errors.join("; ")
    };
    let default = TaskOptions::default;
    assert!(
        refused(Task::Sort, TaskOptions { operands: Some(3), ..default() })
            .contains("operands: is of no use to the task sort")
    );
    assert!(refused(Task::Sort, TaskOptions { max_digits: Some(10), ..default() }).contains("max_digits <= 9"));
    assert!(refused(Task::Arithmetic, TaskOptions { operations: Some(vec![]), ..default() }).contains("operations"));
    assert!(
        refused(Task::Countdown, TaskOptions { template: Some("{input}".into()), ..default() })
            .contains("must hold {target}")
    );
    assert!(
        refused(Task::Arithmetic, TaskOptions { operands: Some(8), max_digits: Some(9), ..default() })
            .contains("at most 36")
    );
    assert!(refused(Task::Binary, TaskOptions { count: 0, ..default() }).contains("count: must be at least 1"));
}

#[tokio::test]
async fn the_verifier_that_is_recommended_takes_the_answer_for_right_and_another_for_wrong() {
    for task in Task::ALL {
        let config = VerifierConfig { name: task.verifier().into(), ..VerifierConfig::default() };
        let verifier = Registry::default().build(&config).unwrap();
        let options = TaskOptions { count: 20, held_out: 0, ..TaskOptions::default() };
        let prompts = make(task, &options).train;
        for (index, prompt) in prompts.iter().enumerate() {
            let response = |prompt: &Prompt| match prompt.info.get("solution") {
                Some(solution) if task == Task::Countdown => solution.as_str().unwrap().to_owned(),
                _ => prompt.answer.clone(),
            };
            let other = &prompts[(index + 1) % prompts.len()];
            let question = Question::new(prompt.clone(), vec![response(prompt), response(other)]);
            let verdicts = verifier.verify(&question).await;
            assert_eq!(verdicts[0], Verdict::Correct, "{task}: {prompt:?}");
            let same = other.answer == prompt.answer && task != Task::Countdown;
            assert!(same || verdicts[1] == Verdict::Incorrect, "{task}: {prompt:?} against {other:?}");
        }
    }
}
