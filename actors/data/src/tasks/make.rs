//! One question of each task.

use serde_json::{Map, Value, json};

use super::rng::Rng;
use super::{Operation, Task, TaskOptions};

/// A question before its text.
#[derive(Debug)]
pub(super) struct Instance {
    /// What the template's places become.
    pub(super) places: Vec<(&'static str, String)>,
    pub(super) answer: String,
    /// The same for questions that are one question in another dress.
    pub(super) key: String,
    pub(super) info: Map<String, Value>,
}

impl Instance {
    fn new(input: String, answer: impl ToString, key: String) -> Self {
        Self { places: vec![("input", input)], answer: answer.to_string(), key, info: Map::new() }
    }

    fn and(mut self, place: &'static str, text: impl ToString) -> Self {
        self.places.push((place, text.to_string()));
        self
    }
}

/// `None` where the drawn numbers make no question.
pub(super) fn instance(task: Task, options: &TaskOptions, rng: &mut Rng) -> Option<Instance> {
    match task {
        Task::Arithmetic => Some(arithmetic(options, rng)),
        Task::Countdown => countdown(options, rng),
        Task::Reverse => {
            let word = letters(options, rng, 26);
            let reversed: String = word.chars().rev().collect();
            let key = word.clone().min(reversed.clone());
            Some(Instance::new(word, reversed, key))
        }
        Task::Sort => Some(sort(options, rng)),
        Task::Compare => compare(options, rng),
        Task::CountLetters => Some(count_letters(options, rng)),
        Task::Remainder => {
            let (number, divisor) = (rng.number(options.digits()), rng.number(options.digits()));
            let remainder = number.checked_rem(divisor).filter(|_| divisor > 1)?;
            Some(Instance::new(number.to_string(), remainder, format!("{number} {divisor}")).and("divisor", divisor))
        }
        Task::Binary => {
            let number = rng.number(options.digits());
            Some(Instance::new(number.to_string(), format!("{number:b}"), number.to_string()))
        }
    }
}

fn numbers(options: &TaskOptions, rng: &mut Rng, n: u32) -> Vec<i128> {
    (0..n).map(|_| i128::from(rng.number(options.digits()))).collect()
}

fn arithmetic(options: &TaskOptions, rng: &mut Rng) -> Instance {
    let mut operands = numbers(options, rng, options.operands(Task::Arithmetic));
    let joins: Vec<Operation> = operands[1..].iter().map(|_| rng.of(options.operations(Task::Arithmetic))).collect();
    let (mut sum, mut term, mut first, mut sign) = (0, operands[0], 0, 1);
    for (at, join) in (1..).zip(&joins) {
        match join {
            Operation::Add | Operation::Subtract => {
                sum += sign * term;
                sign = if *join == Operation::Add { 1 } else { -1 };
                (term, first) = (operands[at], at);
            }
            Operation::Multiply => term *= operands[at],
            Operation::Divide => {
                // The term's first factor takes the divisor in, so that from left to right nothing ever remains.
                operands[at] = operands[at].max(1);
                operands[first] *= operands[at];
            }
        }
    }
    let answer = sum + sign * term;
    let mut input = operands[0].to_string();
    for (join, operand) in joins.iter().zip(&operands[1..]) {
        input.push_str(&format!(" {} {operand}", join.sign()));
    }
    // Sums in another order are the same sum; to take more for the same than is, costs nothing.
    operands.sort_unstable();
    let mut signs: Vec<char> = joins.iter().map(|join| join.sign()).collect();
    signs.sort_unstable();
    Instance::new(input, answer, format!("{operands:?} {signs:?}"))
}

/// The numbers are joined at random to find a target that can be reached.
fn countdown(options: &TaskOptions, rng: &mut Rng) -> Option<Instance> {
    let given: Vec<i128> =
        numbers(options, rng, options.operands(Task::Countdown)).into_iter().map(|n| n.max(1)).collect();
    let mut parts: Vec<(i128, String)> = given.iter().map(|n| (*n, n.to_string())).collect();
    while parts.len() > 1 {
        let (a, left) = parts.swap_remove(rng.below(parts.len() as u64) as usize);
        let (b, right) = parts.swap_remove(rng.below(parts.len() as u64) as usize);
        let join = rng.of(options.operations(Task::Countdown));
        let value = match join {
            Operation::Add => a + b,
            Operation::Subtract => a - b,
            Operation::Multiply => a * b,
            Operation::Divide if b != 0 && a % b == 0 => a / b,
            Operation::Divide => return None,
        };
        parts.push((value, format!("({left} {} {right})", join.sign())));
    }
    let (target, solution) = parts.pop()?;
    let solution = solution.strip_prefix('(').and_then(|s| s.strip_suffix(')')).unwrap_or(&solution).to_owned();
    let list: Vec<String> = given.iter().map(i128::to_string).collect();
    let mut sorted = given.clone();
    sorted.sort_unstable();
    let mut instance = Instance::new(list.join(", "), target, format!("{sorted:?} {target}")).and("target", target);
    // Numbers beyond 64 bits have no JSON; targets are texts, and the given numbers have at most nine digits.
    let numbers: Vec<i64> = given.iter().filter_map(|n| i64::try_from(*n).ok()).collect();
    instance.info.insert("numbers".to_owned(), json!(numbers));
    instance.info.insert("solution".to_owned(), json!(solution));
    (target > 0).then_some(instance)
}

fn letters(options: &TaskOptions, rng: &mut Rng, alphabet: u64) -> String {
    let (least, most) = options.length();
    let length = rng.between(u64::from(least), u64::from(most));
    (0..length).map(|_| char::from(b'a' + rng.below(alphabet) as u8)).collect()
}

fn sort(options: &TaskOptions, rng: &mut Rng) -> Instance {
    let (least, most) = options.length();
    let length = rng.between(u64::from(least), u64::from(most)) as u32;
    let mut numbers = numbers(options, rng, length);
    let join = |numbers: &[i128]| numbers.iter().map(i128::to_string).collect::<Vec<_>>().join(", ");
    let input = join(&numbers);
    numbers.sort_unstable();
    let sorted = join(&numbers);
    Instance::new(input, &sorted, sorted.clone())
}

fn compare(options: &TaskOptions, rng: &mut Rng) -> Option<Instance> {
    let decimals = options.decimals.unwrap_or(0);
    // Up to so many digits behind the point: 9.11 against 9.9 is what is hard.
    let mut number = || {
        let whole = rng.number(options.digits());
        let shown = rng.between(u64::from(decimals.min(1)), u64::from(decimals)) as u32;
        let part = rng.below(10_u64.pow(shown));
        let text =
            if shown == 0 { whole.to_string() } else { format!("{whole}.{part:0width$}", width = shown as usize) };
        (whole * 10_u64.pow(decimals) + part * 10_u64.pow(decimals - shown), text)
    };
    let ((a, left), (b, right)) = (number(), number());
    let larger = match a.cmp(&b) {
        std::cmp::Ordering::Less => right.clone(),
        std::cmp::Ordering::Greater => left.clone(),
        std::cmp::Ordering::Equal => return None,
    };
    Some(Instance::new(left, larger, format!("{} {}", a.min(b), a.max(b))).and("other", right))
}

fn count_letters(options: &TaskOptions, rng: &mut Rng) -> Instance {
    // Few different letters, so that one occurs several times.
    let word = letters(options, rng, 6);
    let letter = char::from(b'a' + rng.below(6) as u8);
    let count = word.chars().filter(|c| *c == letter).count();
    Instance::new(word.clone(), count, word).and("letter", letter)
}
