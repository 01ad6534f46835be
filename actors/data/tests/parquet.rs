//! Parquet files written by pyarrow (`data/make.py`) are read as they were meant; damaged ones are refused in one line.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write;
use std::path::{Path, PathBuf};

use counterpoint_data::{DataError, Format, Rows};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(path: &Path) -> Result<Vec<Value>, DataError> {
    let mut rows = Rows::open(path, Format::of(path)?)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next_row()? {
        all.push(row.value.map_or_else(Value::String, Value::Object));
    }
    Ok(all)
}

#[test]
fn nested_structs_and_lists_over_several_row_groups_are_json() {
    let rows = read(&fixture("verl.parquet")).unwrap();
    assert_eq!(rows.len(), 7);
    let expected = json!({
        "data_source": "sums", "prompt": [{"role": "user", "content": "What is 5 + 5?"}], "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "10"},
        "extra_info": {"index": 5, "split": "train", "tags": ["a", null]},
    });
    assert_eq!(rows[5], expected);
    assert_eq!(rows[0]["extra_info"]["tags"], json!([]));
}

#[test]
fn every_codec_and_both_page_versions_are_read() {
    assert_eq!(read(&fixture("gsm8k.parquet")).unwrap()[4]["answer"], "Add.\n#### 5");
    assert_eq!(read(&fixture("trl.parquet")).unwrap()[3]["ground_truth"], 6);
    assert_eq!(read(&fixture("lz4.parquet")).unwrap()[1], json!({"prompt": "r", "answer": "b"}));
}

#[test]
fn types_keep_their_values() {
    let rows = read(&fixture("types.parquet")).unwrap();
    let expected = json!({
        "problem": "p1", "solution": r"So \boxed{\frac{1}{2}}.", "i8": -1, "u32": 4294967295_u32,
        "i64": 9007199254740993_i64, "f32": 0.1, "f64": 0.1, "flag": true, "raw": "text", "day": "1970-01-01",
        "map": {"k": 1}, "nested": [[1, 2], []], "large": "l",
    });
    assert_eq!(rows[0], expected);
    for null in ["i8", "i64", "f32", "f64", "flag", "raw", "day", "nested", "large"] {
        assert_eq!(rows[1][null], Value::Null, "{null}");
    }
}

fn read_bytes(bytes: &[u8]) -> Result<Vec<Value>, DataError> {
    let mut file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path())
}

/// GiB of address space that this process ever had: an allocation that a file talked the reader into shows here, even if
/// nothing was written to it.
fn peak_gib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / f64::from(1 << 20)
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let bytes = std::fs::read(fixture("gsm8k.parquet")).unwrap();
    for length in 0..bytes.len() {
        let error = read_bytes(&bytes[..length]).unwrap_err().to_string();
        assert!(error.contains("Parquet file") && error.lines().count() == 1, "{length}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn flipped_bits_give_rows_or_one_line(
        name in prop::sample::select(vec!["verl.parquet", "gsm8k.parquet", "trl.parquet", "types.parquet", "lz4.parquet"]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..6),
        footer in any::<bool>(),
    ) {
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        let from = if footer { bytes.len() * 2 / 3 } else { 0 };
        for (at, bit) in flips {
            let at = from + at.index(bytes.len() - from);
            bytes[at] ^= 1 << bit;
        }
        if let Err(error) = read_bytes(&bytes) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
        prop_assert!(peak_gib() < 2.0, "{} GiB", peak_gib());
    }

    #[test]
    fn hostile_bytes_between_the_magics_are_refused(body in prop::collection::vec(any::<u8>(), 0..300), claim in any::<bool>()) {
        let mut bytes = b"PAR1".to_vec();
        bytes.extend(&body);
        let size = if claim { body.len() as u32 } else { u32::MAX };
        bytes.extend(size.to_le_bytes());
        bytes.extend(b"PAR1");
        if let Err(error) = read_bytes(&bytes) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
        prop_assert!(peak_gib() < 2.0, "{} GiB", peak_gib());
    }
}
