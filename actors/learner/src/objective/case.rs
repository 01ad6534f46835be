//! `counterpoint loss` as a library: one JSON line in, the loss and its gradient out, in float64, through the objectives that
//! training uses. Inputs are padded (B, T) arrays with a mask, as a reader of the paper would write them down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Answer, Objective, Tokens, settings};
use crate::LearnerError;

/// What `function` may say.
const FUNCTIONS: &[&str] = &["nft", "clipped_pg", "infonca", "contrast", "sft", "overlong_penalty"];

/// The loss of a case and its gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The loss; for `overlong_penalty` the penalty.
    pub loss: f64,
    /// (B, T): d loss / d logp_new; 0 under the mask. Empty for `overlong_penalty`.
    pub grad: Vec<Vec<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    /// (B, T).
    logp_new: Vec<Vec<f64>>,
    /// (B, T).
    logp_old: Vec<Vec<f64>>,
    /// (B, T): 1 on trained tokens, else 0.
    mask: Vec<Vec<f64>>,
    /// (B): scores in [0, 1].
    reward: Vec<f64>,
    /// (B): which question.
    group: Vec<i64>,
}

/// Evaluates one case: a JSON object with `function`, that function's settings (see [`settings`](super::settings)) and
/// `inputs` {`logp_new`, `logp_old`, `mask`, `reward`, `group`}.
///
/// Errors say which key is wrong, what it must be and what it is.
pub fn evaluate_case(line: &str) -> Result<CaseResult, LearnerError> {
    evaluate_in(line, Kind::Double)
}

/// The same in another number format (`Kind::Float`: what training computes in).
pub fn evaluate_in(line: &str, kind: Kind) -> Result<CaseResult, LearnerError> {
    let mut case = parse(line)?;
    if case["function"] == "overlong_penalty" {
        return Ok(CaseResult { loss: settings::penalty(case)?, grad: Vec::new() });
    }
    let inputs = case.as_object_mut().and_then(|case| case.remove("inputs"));
    let inputs = inputs.ok_or_else(|| LearnerError::Case("inputs: missing".to_owned()))?;
    let objective = settings::objective(case)?;
    // The path names the key: "inputs.reward[3]: invalid type: ...".
    let inputs: Inputs = serde_path_to_error::deserialize(inputs)
        .map_err(|e| LearnerError::Case(format!("inputs.{}: {}", e.path(), e.inner())))?;
    check(&inputs)?;
    gradient(objective.as_ref(), &inputs, kind)
}

/// Only the mask's tokens reach the objective, as in training.
fn gradient(objective: &dyn Objective, inputs: &Inputs, kind: Kind) -> Result<CaseResult, LearnerError> {
    let Inputs { logp_new, logp_old, mask, .. } = inputs;
    let trained =
        || mask.iter().enumerate().flat_map(|(b, row)| row.iter().enumerate().map(move |(t, m)| (b, t, *m != 0.0)));
    let places: Vec<(usize, usize)> = trained().filter(|(_, _, on)| *on).map(|(b, t, _)| (b, t)).collect();
    let pick = |from: &[Vec<f64>]| -> Result<Tensor, LearnerError> {
        let values: Vec<f64> = places.iter().map(|(b, t)| from[*b][*t]).collect();
        Ok(Tensor::f_from_slice(&values)?.f_to_kind(kind)?)
    };
    let leaf = pick(logp_new)?.f_set_requires_grad(true)?;
    let answer = Tensor::f_from_slice(&places.iter().map(|(b, _)| *b as i64).collect::<Vec<_>>())?;
    let answers: Vec<usize> = (0..mask.len()).collect();
    let tokens = Tokens { logp_new: &leaf, logp_old: &pick(logp_old)?, answer: &answer, answers: &answers };

    let mut plan = objective.plan(&facts(inputs));
    if plan.couples_answers() {
        let mut log_ratios = vec![0.0; mask.len()];
        for (b, t) in &places {
            log_ratios[*b] += logp_new[*b][*t] - logp_old[*b][*t];
        }
        plan.observe(&log_ratios);
    }
    let loss = plan.loss(&tokens)?.total;
    loss.f_backward()?;
    let flat = Vec::<f64>::try_from(leaf.f_grad()?.f_to_kind(Kind::Double)?)?;
    let mut grad: Vec<Vec<f64>> = mask.iter().map(|row| vec![0.0; row.len()]).collect();
    for ((b, t), value) in places.iter().zip(flat) {
        grad[*b][*t] = value + 0.0; // no negative zeros
    }
    Ok(CaseResult { loss: loss.f_to_kind(Kind::Double)?.f_double_value(&[])? + 0.0, grad })
}

fn parse(line: &str) -> Result<serde_json::Value, LearnerError> {
    let value: serde_json::Value =
        serde_json::from_str(line).map_err(|e| LearnerError::Case(format!("a case is one JSON object: {e}")))?;
    let known = FUNCTIONS.join("\", \"");
    match value.get("function").and_then(serde_json::Value::as_str) {
        Some(name) if FUNCTIONS.contains(&name) => Ok(value),
        Some(name) => Err(LearnerError::Case(format!("function: \"{name}\" is unknown; known: \"{known}\""))),
        None => Err(LearnerError::Case(format!("function: missing, must be one of \"{known}\""))),
    }
}

/// Score, rate and length of each answer; the rate is the mean reward of its group.
fn facts(inputs: &Inputs) -> Vec<Answer> {
    let mut totals: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (group, reward) in inputs.group.iter().zip(&inputs.reward) {
        let (sum, count) = totals.entry(*group).or_default();
        *sum += reward;
        *count += 1.0;
    }
    let number: BTreeMap<i64, usize> = totals.keys().enumerate().map(|(n, g)| (*g, n)).collect();
    let answer = |((group, score), mask): ((&i64, &f64), &Vec<f64>)| Answer {
        group: number[group],
        score: *score,
        rate: totals[group].0 / totals[group].1,
        tokens: mask.iter().filter(|m| **m != 0.0).count() as u64,
    };
    inputs.group.iter().zip(&inputs.reward).zip(&inputs.mask).map(answer).collect()
}

fn check(inputs: &Inputs) -> Result<(), LearnerError> {
    let Inputs { logp_new, logp_old, mask, reward, group } = inputs;
    let answers = logp_new.len();
    let length = logp_new.first().map_or(0, Vec::len);
    for (key, rows) in [("logp_new", logp_new), ("logp_old", logp_old), ("mask", mask)] {
        require(rows.len() == answers, || {
            format!("inputs.{key}: expected {answers} rows as in logp_new, got {}", rows.len())
        })?;
        for (b, row) in rows.iter().enumerate() {
            require(row.len() == length, || {
                format!("inputs.{key}[{b}]: expected {length} entries, got {}", row.len())
            })?;
        }
    }
    require(answers > 0 && length > 0, || {
        "inputs.logp_new: expected at least one row with one entry, got none".to_owned()
    })?;
    for (key, entries) in [("reward", reward.len()), ("group", group.len())] {
        require(entries == answers, || format!("inputs.{key}: expected {answers} entries, got {entries}"))?;
    }
    for (b, row) in mask.iter().enumerate() {
        let odd = row.iter().find(|m| **m != 0.0 && **m != 1.0);
        require(odd.is_none(), || format!("inputs.mask[{b}]: expected 0 or 1, got {}", odd.unwrap_or(&0.0)))?;
    }
    for (b, score) in reward.iter().enumerate() {
        require((0.0..=1.0).contains(score), || {
            format!("inputs.reward[{b}]: expected a score in [0, 1], got {score}")
        })?;
    }
    Ok(())
}

fn require(ok: bool, problem: impl FnOnce() -> String) -> Result<(), LearnerError> {
    if ok { Ok(()) } else { Err(LearnerError::Case(problem())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two answers of one question, one right, one wrong, two tokens each.
    fn case(edit: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut value = serde_json::json!({"function": "nft", "inputs": {
            "logp_new": [[-0.5, -1.0], [-0.7, -0.2]], "logp_old": [[-0.6, -1.0], [-0.6, -0.3]],
            "mask": [[1, 1], [1, 0]], "reward": [1, 0], "group": [7, 7]}});
        edit(&mut value);
        value.to_string()
    }

    fn error(edit: impl FnOnce(&mut serde_json::Value)) -> String {
        evaluate_case(&case(edit)).unwrap_err().to_string()
    }

    #[test]
    fn a_case_by_hand() {
        // r = 1/2, w = 1 - r = 1/2, sum over 1000. Right answer: -w x and -w. Wrong answer: x = -0.1, R = exp(-0.1), p = 2 - R > 1.
        let got = evaluate_case(&case(|_| ())).unwrap();
        let ratio = (-0.1f64).exp();
        let loss = 0.5 * (-0.1 - (2.0 - ratio).ln()) / 1000.0;
        assert!((got.loss - loss).abs() < 1e-15, "{} is not {loss}", got.loss);
        let wrong = 0.5 * ratio / (2.0 - ratio) / 1000.0;
        let want = [[-0.0005, -0.0005], [wrong, 0.0]];
        for (got, want) in got.grad.iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() < 1e-15, "{got} is not {want}");
        }
    }

    #[test]
    fn what_is_malformed_is_named_with_what_was_expected() {
        assert_eq!(
            error(|v| v["function"] = "ppo".into()),
            "function: \"ppo\" is unknown; known: \"nft\", \"clipped_pg\", \"infonca\", \"contrast\", \"sft\", \"overlong_penalty\""
        );
        assert_eq!(
            error(|v| v["inputs"]["logp_old"] = serde_json::json!([[0.0, 0.0]])),
            "inputs.logp_old: expected 2 rows as in logp_new, got 1"
        );
        assert_eq!(
            error(|v| v["inputs"]["mask"][1] = serde_json::json!([1])),
            "inputs.mask[1]: expected 2 entries, got 1"
        );
        assert_eq!(
            error(|v| v["inputs"]["reward"] = serde_json::json!([1])),
            "inputs.reward: expected 2 entries, got 1"
        );
        assert_eq!(
            error(|v| v["inputs"]["reward"][0] = 2.into()),
            "inputs.reward[0]: expected a score in [0, 1], got 2"
        );
        assert_eq!(
            error(|v| v["weight"] = "r".into()),
            "weight: unknown variant `r`, expected one of `1`, `one`, `1-r`, `sqrt`"
        );
        assert_eq!(
            error(|v| v["inputs"]["reward"][1] = "wrong".into()),
            "inputs.reward[1]: invalid type: string \"wrong\", expected f64"
        );
        assert!(
            error(|v| v["epsilon"] = 1.into())
                .starts_with("epsilon: unknown field `epsilon`, expected one of `weight`")
        );
        assert!(evaluate_case("{").unwrap_err().to_string().starts_with("a case is one JSON object: "));
        assert!(error(|v| v["reduction"] = "const_len".into()).starts_with("max_len: expected"));
    }
}
