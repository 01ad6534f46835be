//! The tests of a prompt, read from its answer or a column. Pure.

use serde_json::{Map, Value};

/// What a program is held against.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tests {
    /// Run it on each input; its output must be as expected.
    Streams(Vec<Stream>),
    /// Run it, then each test in its name space.
    Asserts {
        /// Run before the program.
        setup: String,
        tests: Vec<String>,
    },
    /// Run it, then call one of its functions with each list of arguments; the result must be as expected.
    Calls { setup: String, function: String, calls: Vec<Call> },
}

/// Standard input, and the standard output that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) input: String,
    pub(super) output: String,
}

/// The arguments of a call, and the result that belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) arguments: Vec<Value>,
    pub(super) result: Value,
}

impl Tests {
    /// How many there are; never none.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Streams(streams) => streams.len(),
            Self::Asserts { tests, .. } => tests.len(),
            Self::Calls { calls, .. } => calls.len(),
        }
    }

    /// Reads tests from the text of an answer.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn from_text(text: &str, info: &Map<String, Value>) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed.starts_with(['{', '[']) {
            let value = serde_json::from_str(trimmed).map_err(|error| format!("no JSON: {error}"))?;
            return Self::from_value(&value, info);
        }
        if trimmed.is_empty() {
            return Err("there are none".into());
        }
        Self::from_value(&serde_json::json!({ "test": text }), info)
    }

    /// Reads tests from the value of a column.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn from_value(value: &Value, info: &Map<String, Value>) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::from_text(text, info),
            Value::Array(_) => Self::from_object(&Map::from_iter([("asserts".to_owned(), value.clone())]), info),
            Value::Object(object) => Self::from_object(object, info),
            other => Err(format!("an object, a list or a text was expected, got {other}")),
        }
    }

    fn from_object(object: &Map<String, Value>, info: &Map<String, Value>) -> Result<Self, String> {
        // `fn_name` is what APPS and its like call it.
        let function = ["entry_point", "fn_name"].iter().find_map(|name| object.get(*name).or_else(|| info.get(*name)));
        let function = function.filter(|name| !name.is_null()).map(identifier).transpose()?;
        let setup = object.get("setup").map_or(Ok(String::new()), |setup| text(setup, "setup"))?;
        let tests = match (object.get("inputs"), object.get("outputs"), object.get("asserts"), object.get("test")) {
            (Some(inputs), Some(outputs), None, None) => {
                let (inputs, outputs) = (list(inputs, "inputs")?, list(outputs, "outputs")?);
                if inputs.len() != outputs.len() {
                    return Err(format!("{} inputs and {} outputs", inputs.len(), outputs.len()));
                }
                match function {
                    Some(function) => Self::Calls { setup, function, calls: calls(inputs, outputs)? },
                    None if !setup.is_empty() => return Err("setup: has no use with inputs and outputs".into()),
                    None => Self::Streams(streams(inputs, outputs)?),
                }
            }
            (None, None, Some(asserts), None) => {
                let asserts = list(asserts, "asserts")?;
                Self::Asserts {
                    setup,
                    tests: asserts.iter().map(|one| text(one, "asserts")).collect::<Result<_, _>>()?,
                }
            }
            (None, None, None, Some(test)) => {
                let mut test = text(test, "test")?;
                if let Some(function) = function {
                    test.push_str(&format!("\n\ncheck({function})\n"));
                }
                Self::Asserts { setup, tests: vec![test] }
            }
            _ => return Err("either `inputs` and `outputs`, or `asserts`, or `test` was expected".into()),
        };
        if tests.len() == 0 { Err("there are none".into()) } else { Ok(tests) }
    }
}

fn streams(inputs: &[Value], outputs: &[Value]) -> Result<Vec<Stream>, String> {
    let lines = |value: &Value, name| match value {
        // Some data sets have a list of lines.
        Value::Array(lines) => Ok(lines.iter().map(|line| text(line, name)).collect::<Result<Vec<_>, _>>()?.join("\n")),
        other => text(other, name),
    };
    let stream = |(input, output)| Ok(Stream { input: lines(input, "inputs")?, output: lines(output, "outputs")? });
    inputs.iter().zip(outputs).map(stream).collect()
}

fn calls(inputs: &[Value], outputs: &[Value]) -> Result<Vec<Call>, String> {
    let call = |(input, output): (&Value, &Value)| {
        if has_rounded_integer(output) {
            return Err("outputs: an integer of more than 64 bits cannot be compared".to_owned());
        }
        Ok(Call { arguments: list(input, "inputs")?.to_vec(), result: output.clone() })
    };
    inputs.iter().zip(outputs).map(call).collect()
}

/// Whether a number may have been an integer too large to be read exactly.
fn has_rounded_integer(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_some_and(|number| number.abs() >= 2_f64.powi(63))
        }
        Value::Array(values) => values.iter().any(has_rounded_integer),
        Value::Object(object) => object.values().any(has_rounded_integer),
        _ => false,
    }
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a [Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{name}: a list was expected, got {value}"))
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{name}: text was expected, got {value}"))
}

fn identifier(value: &Value) -> Result<String, String> {
    let name = value.as_str().unwrap_or_default();
    let fits = name.chars().all(|c| c.is_alphanumeric() || "_.".contains(c)) && !name.is_empty();
    if fits {
        Ok(name.to_owned())
    } else {
        Err(format!("entry_point: the name of a function was expected, got {value}"))
    }
}

/// Whether an output is the expected one: line by line, white space at both ends of a line and empty lines at the end aside.
pub(super) fn same_output(output: &str, expected: &str) -> bool {
    let lines = |text: &'_ str| -> Vec<String> { text.trim_end().lines().map(|line| line.trim().to_owned()).collect() };
    lines(output) == lines(expected)
}

/// Whether a result is the expected one, or the only element of it (as APPS has it). Numbers are equal if their values are.
pub(super) fn same_result(result: &Value, expected: &Value) -> bool {
    let only = |list: &Value| list.as_array().filter(|list| list.len() == 1).map(|list| list[0].clone());
    equal(result, expected) || only(expected).is_some_and(|expected| equal(result, &expected))
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64() == other.as_f64() && one.is_f64() != other.is_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| equal(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, a)| other.get(key).is_some_and(|b| equal(a, b)))
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Tests, String> {
        let info = Map::new();
        // As a value and as text it is the same.
        let tests = Tests::from_value(&value, &info);
        if !value.is_string() {
            assert_eq!(Tests::from_text(&value.to_string(), &info), tests);
        }
        tests
    }

    fn asserts(tests: &[&str]) -> Result<Tests, String> {
        Ok(Tests::Asserts { setup: String::new(), tests: tests.iter().map(|&test| test.to_owned()).collect() })
    }

    #[test]
    fn every_shape_is_read() {
        let stream = |input: &str, output: &str| Stream { input: input.into(), output: output.into() };
        assert_eq!(
            read(json!({"inputs": ["1\n", ["2", "3"]], "outputs": ["1", ["4", "5"]], "fn_name": null})),
            Ok(Tests::Streams(vec![stream("1\n", "1"), stream("2\n3", "4\n5")]))
        );
        let call = Call { arguments: vec![json!([1, 2]), json!(3)], result: json!(6) };
        let calls = Tests::Calls { setup: String::new(), function: "f".into(), calls: vec![call] };
        assert_eq!(read(json!({"inputs": [[[1, 2], 3]], "outputs": [6], "fn_name": "f"})), Ok(calls));
        assert_eq!(read(json!({"asserts": ["assert f(1) == 2"]})), asserts(&["assert f(1) == 2"]));
        assert_eq!(
            read(json!(["assert f(1) == 2", "assert f(2) == 3"])),
            asserts(&["assert f(1) == 2", "assert f(2) == 3"])
        );
        let check = "def check(candidate):\n    assert candidate(1) == 2";
        let expected = format!("{check}\n\ncheck(f)\n");
        assert_eq!(read(json!({"test": check, "entry_point": "f"})), asserts(&[&expected]));
        assert_eq!(read(json!(check)), asserts(&[check]));
        let info = Map::from_iter([("entry_point".to_owned(), json!("f"))]);
        assert_eq!(Tests::from_text(check, &info), asserts(&[&expected]));
        let setup = Tests::Asserts { setup: "import math".into(), tests: vec!["assert True".into()] };
        assert_eq!(read(json!({"setup": "import math", "asserts": ["assert True"]})), Ok(setup));
    }

    #[test]
    fn what_is_wrong_with_tests_is_said() {
        let wrong = |value| read(value).unwrap_err();
        assert_eq!(wrong(json!({"inputs": ["1"], "outputs": []})), "1 inputs and 0 outputs");
        assert_eq!(wrong(json!({"inputs": [], "outputs": []})), "there are none");
        assert_eq!(wrong(json!([])), "there are none");
        assert_eq!(wrong(json!(" ")), "there are none");
        assert_eq!(wrong(json!({"inputs": [1], "outputs": ["1"]})), "inputs: text was expected, got 1");
        assert_eq!(wrong(json!({"inputs": "1", "outputs": ["1"]})), "inputs: a list was expected, got \"1\"");
        assert_eq!(wrong(json!({"asserts": [1]})), "asserts: text was expected, got 1");
        assert!(wrong(json!({"test": "x", "entry_point": "f()"})).starts_with("entry_point: the name of a function"));
        assert!(
            wrong(json!({"inputs": [[1]], "outputs": [10000000000000000000000_f64], "fn_name": "f"}))
                .contains("64 bits")
        );
        for neither in [json!({}), json!({"test": "x", "asserts": []}), json!({"inputs": []})] {
            assert!(wrong(neither).starts_with("either `inputs`"));
        }
        assert!(wrong(json!("{\"inputs\": [")).starts_with("no JSON: EOF"));
        assert!(Tests::from_value(&json!(4), &Map::new()).is_err());
    }

    #[test]
    fn outputs_are_compared_by_line_and_results_by_value() {
        assert!(same_output("1 2 \n3\n\n", "1 2\r\n  3"));
        assert!(!same_output("1\n2", "1 2"));
        assert!(!same_output("", "1"));
        assert!(same_output("\n", ""));
        assert!(same_result(&json!([1, 2.0]), &json!([1.0, 2])));
        assert!(same_result(&json!(3), &json!([3])));
        assert!(!same_result(&json!([3]), &json!(3)));
        assert!(!same_result(&json!(true), &json!(1)));
        assert!(!same_result(&json!("1"), &json!(1)));
        assert!(!same_result(&json!(9007199254740993_u64), &json!(9007199254740992_u64)));
        assert!(same_result(&json!({"a": [1]}), &json!({"a": [1]})));
        assert!(!same_result(&json!({"a": 1}), &json!({"b": 1})));
    }
}
