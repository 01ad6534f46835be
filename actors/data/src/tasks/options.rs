//! `[data.task_options]`: how hard a task's questions are, and how many there are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;

/// Questions that are made at most: they are held in memory.
const MOST_QUESTIONS: u64 = 5_000_000;

/// `[data.task_options]`: difficulty and number of the questions that `data.task` makes. An option that the task has no use for
/// is refused.
///
/// ```
/// use counterpoint_data::tasks::{Operation, Task, TaskOptions, make};
///
/// let options = TaskOptions { count: 50, held_out: 10, max_digits: Some(1), ..TaskOptions::default() };
/// let made = make(Task::Arithmetic, &options);
/// assert_eq!((made.train.len(), made.held_out.len()), (50, 10));
/// assert_eq!(made.train[0].source, "arithmetic");
/// let hard = TaskOptions { operands: Some(4), operations: Some(vec![Operation::Multiply, Operation::Subtract]), ..options };
/// assert!(make(Task::Arithmetic, &hard).train[0].content.display().contains(" "));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskOptions {
    /// Training questions, at most: fewer where no more differ. At most 5,000,000 with the held-out ones.
    pub count: u64,
    /// Held-out questions for evaluations, at most; none of them is in training. 0: none.
    pub held_out: u64,
    /// The questions are a function of this, the task and its options. At most 2^63 - 1.
    pub seed: u64,
    /// Fewest digits of a number, at most 9. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_digits: Option<u32>,
    /// Most digits of a number, at most 9. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_digits: Option<u32>,
    /// Numbers in an expression (arithmetic: 2 to 8, default 2; countdown: 2 to 6, default 3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operands: Option<u32>,
    /// What joins them, of "+", "-", "*" and "/". Default: "+" for arithmetic, "+", "-" and "*" for countdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<Operation>>,
    /// Fewest letters, or numbers to sort; at least 2. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u32>,
    /// Most letters, or numbers to sort; at most 64. Default: 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// Digits behind the point of the numbers to compare, at most 4. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u32>,
    /// The question's text, with `{input}` (and `{other}`, `{target}`, `{letter}`, `{divisor}` where the task has them). Default:
    /// a sentence that asks for the answer only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// What joins two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// Plus.
    #[serde(rename = "+")]
    Add,
    /// Minus.
    #[serde(rename = "-")]
    Subtract,
    /// Times.
    #[serde(rename = "*")]
    Multiply,
    /// Divided by; what is divided is chosen so that nothing remains, and may have more digits.
    #[serde(rename = "/")]
    Divide,
}

impl Operation {
    pub(super) fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            count: 4096,
            held_out: 256,
            seed: 0,
            min_digits: None,
            max_digits: None,
            operands: None,
            operations: None,
            min_length: None,
            max_length: None,
            decimals: None,
            template: None,
        }
    }
}

impl TaskOptions {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn digits(&self) -> (u32, u32) {
        let least = self.min_digits.unwrap_or(1);
        (least, self.max_digits.unwrap_or(least.max(2)))
    }

    pub(super) fn length(&self) -> (u32, u32) {
        let least = self.min_length.unwrap_or(3);
        (least, self.max_length.unwrap_or(least.max(6)))
    }

    pub(super) fn operands(&self, task: Task) -> u32 {
        self.operands.unwrap_or(if task == Task::Countdown { 3 } else { 2 })
    }

    pub(super) fn operations(&self, task: Task) -> &[Operation] {
        use Operation::{Add, Multiply, Subtract};
        match (&self.operations, task) {
            (Some(operations), _) => operations,
            (None, Task::Countdown) => &[Add, Subtract, Multiply],
            (None, _) => &[Add],
        }
    }

    /// Pushes one message per problem.
    pub fn validate(&self, task: Task, errors: &mut Vec<String>) {
        let mut problem = |key: &str, text: String| errors.push(format!("data.task_options.{key}: {text}"));
        if self.count == 0 {
            problem("count", "must be at least 1, got 0".to_owned());
        }
        if self.count.saturating_add(self.held_out) > MOST_QUESTIONS {
            problem("count", format!("must be at most {MOST_QUESTIONS} together with held_out"));
        }
        if self.seed > i64::MAX as u64 {
            problem("seed", format!("must be at most {}, got {}", i64::MAX, self.seed));
        }
        for (key, used) in self.unused(task) {
            problem(key, format!("is of no use to the task {task}; {used}"));
        }
        let ranges = [("digits", self.digits(), 1, 9), ("length", self.length(), 2, 64)];
        for (what, (least, most), smallest, largest) in ranges {
            if least < smallest || most > largest || least > most {
                let text =
                    format!("must be {smallest} <= min_{what} <= max_{what} <= {largest}, got {least} and {most}");
                problem(&format!("max_{what}"), text);
            }
        }
        let most = if task == Task::Countdown { 6 } else { 8 };
        let operands = self.operands(task);
        if !(2..=most).contains(&operands) {
            problem("operands", format!("must lie between 2 and {most}, got {operands}"));
        }
        // A product, or a number made divisible by all others, must fit in 128 bits.
        if operands.saturating_mul(self.digits().1) > 36 {
            problem("operands", "times max_digits must be at most 36".to_owned());
        }
        if self.operations.as_ref().is_some_and(Vec::is_empty) {
            problem("operations", "must hold at least one of \"+\", \"-\", \"*\", \"/\"".to_owned());
        }
        if self.decimals.is_some_and(|n| n > 4) {
            problem("decimals", format!("must be at most 4, got {}", self.decimals.unwrap_or(0)));
        }
        if let Some(template) = &self.template {
            for place in task.places().iter().filter(|place| !template.contains(&format!("{{{place}}}"))) {
                problem("template", format!("must hold {{{place}}}"));
            }
        }
    }

    /// Options that are set and that the task has no use for, each with what it is for.
    fn unused(&self, task: Task) -> Vec<(&'static str, &'static str)> {
        let expressions = matches!(task, Task::Arithmetic | Task::Countdown);
        let letters = matches!(task, Task::Reverse | Task::CountLetters);
        let lists = letters || task == Task::Sort;
        let checks = [
            ("min_digits", self.min_digits.is_some(), !letters, "it is for numbers"),
            ("max_digits", self.max_digits.is_some(), !letters, "it is for numbers"),
            ("operands", self.operands.is_some(), expressions, "it is for arithmetic and countdown"),
            ("operations", self.operations.is_some(), expressions, "they are for arithmetic and countdown"),
            ("min_length", self.min_length.is_some(), lists, "it is for letters and for sort"),
            ("max_length", self.max_length.is_some(), lists, "it is for letters and for sort"),
            ("decimals", self.decimals.is_some(), task == Task::Compare, "it is for compare"),
        ];
        checks.into_iter().filter(|(_, set, useful, _)| *set && !*useful).map(|(key, .., what)| (key, what)).collect()
    }
}
