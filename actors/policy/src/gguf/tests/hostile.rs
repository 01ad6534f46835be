//! Files that lie about their lengths. The tests' own memory is the witness that nothing is allocated for a lie: a buffer of
//! the sizes claimed here could not be had.

use proptest::prelude::*;

use super::*;

const HUGE: u64 = 1 << 60;

/// The place of `needle` in a file, just behind it.
fn behind(file: &[u8], needle: &[u8]) -> usize {
    file.windows(needle.len()).position(|window| window == needle).unwrap() + needle.len()
}

/// A valid file with the bytes behind `needle` (at `skip` from there) replaced.
fn with(needle: &str, skip: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = Fixture::model("llama").text("general.name", "").bytes();
    let at = behind(&file, needle.as_bytes()) + skip;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// The file with another last letter to `name`.
fn with_last(mut file: Vec<u8>, name: &str, letter: u8) -> Vec<u8> {
    let at = behind(&file, name.as_bytes());
    file[at - 1] = letter;
    file
}

#[track_caller]
fn assert_names(file: &[u8], wanted: &[&str]) {
    let error = complaint(file);
    assert!(wanted.iter().all(|part| error.contains(part)), "{wanted:?} wanted: {error}");
}

#[test]
fn every_field_of_the_header_is_checked_and_named() {
    assert_names(b"", &["not a GGUF file"]);
    assert_names(b"GGML\0\0\0\0", &["not a GGUF file"]);
    assert_names(b"GGUF\x03\0", &["the version"]);
    assert_names(&with("GGUF", 0, &1u32.to_le_bytes()), &["GGUF version 1 is not supported"]);
    assert_names(&with("GGUF", 0, &4u32.to_le_bytes()), &["GGUF version 4"]);
    assert_names(&with("GGUF", 0, &3u32.to_be_bytes()), &["big-endian"]);
    for count in [HUGE, u64::MAX, 200_000] {
        assert_names(&with("GGUF", 4, &count.to_le_bytes()), &["number of tensors", &count.to_string()]);
        assert_names(&with("GGUF", 12, &count.to_le_bytes()), &["number of metadata keys", &count.to_string()]);
    }
    // One fewer than there are: what follows is then no tensor.
    complaint(&with("GGUF", 12, &5u64.to_le_bytes()));
}

#[test]
fn every_field_of_a_metadata_pair_is_checked_and_named() {
    let mut first_length = Fixture::model("llama").bytes();
    first_length[24..32].copy_from_slice(&HUGE.to_le_bytes());
    assert_names(&first_length, &["metadata key 0"]);
    first_length[24..32].copy_from_slice(&0u64.to_le_bytes());
    assert_names(&first_length, &["metadata key 0", "has 0 bytes"]);
    assert_names(&with("general.architect", 0, b"\xff\xff\xff"), &["metadata key 0", "UTF-8"]);
    assert_names(&with("general.architecture", 0, &13u32.to_le_bytes()), &["general.architecture", "unknown type 13"]);
    for length in [HUGE, u64::MAX] {
        let text = with("general.architecture", 4, &length.to_le_bytes());
        assert_names(&text, &["general.architecture", &length.to_string(), "are left"]);
        let array = with("tokenizer.ggml.tokens", 8, &length.to_le_bytes());
        assert_names(&array, &["tokenizer.ggml.tokens", "number of elements", &length.to_string()]);
        let element = with("tokenizer.ggml.tokens", 16, &length.to_le_bytes());
        assert_names(&element, &["tokenizer.ggml.tokens\"[0]", &length.to_string()]);
        let numbers = with("tokenizer.ggml.token_type", 8, &length.to_le_bytes());
        assert_names(&numbers, &["tokenizer.ggml.token_type", "number of elements"]);
    }
    assert_names(&with("tokenizer.ggml.token_type", 4, &9u32.to_le_bytes()), &["token_type", "array of arrays"]);
    assert_names(&with("tokenizer.ggml.token_type", 4, &77u32.to_le_bytes()), &["token_type", "unknown type 77"]);
    assert_names(&Fixture::model("llama").flag("general.flag", 2).bytes(), &["general.flag", "flag of 2"]);
    assert_names(&with("llama.block_cou", 0, b"xx"), &["llama.block_count", "missing"]);
    let almost = Fixture::model("llama").count("llama.block_counx", 1).bytes();
    assert_names(&with_last(almost, "llama.block_counx", b't'), &["llama.block_count", "twice"]);
}

#[test]
fn every_field_of_a_tensor_is_checked_and_named() {
    let norm = "output_norm.weight";
    assert_names(&with(norm, 0, &0u32.to_le_bytes()), &[norm, "number of dimensions is 0"]);
    assert_names(&with(norm, 0, &5u32.to_le_bytes()), &[norm, "number of dimensions is 5"]);
    for size in [0, HUGE, u64::MAX] {
        assert_names(&with(norm, 4, &size.to_le_bytes()), &[norm, "its sizes"]);
    }
    assert_names(&with(norm, 4, &(1u64 << 39).to_le_bytes()), &[norm, "the file holds"]);
    assert_names(&with(norm, 12, &2u32.to_le_bytes()), &[norm, "whole blocks of 32", "Q4_0"]);
    assert_names(&with(norm, 16, &33u64.to_le_bytes()), &[norm, "offset is 33", "alignment 32"]);
    assert_names(&with(norm, 16, &0u64.to_le_bytes()), &["inside tensor"]);
    for offset in [1 << 40, u64::MAX - 31] {
        assert_names(&with(norm, 16, &offset.to_le_bytes()), &[norm, "offset", "the file holds"]);
    }
    let renamed = with("blk.0.attn_", 0, b"k.weight\x02\0\0\0");
    complaint(&renamed);
    let almost = Fixture::model("llama").counted("blk.0.ffn_norm.weighx", &[8]).bytes();
    assert_names(&with_last(almost, "blk.0.ffn_norm.weighx", b't'), &["blk.0.ffn_norm.weight", "twice"]);
}

#[test]
fn alignments_that_are_none_are_refused() {
    for alignment in [0, 3, 1 << 21] {
        let file = Fixture::model("llama").count("general.alignment", alignment);
        assert_refused(&file, &["general.alignment", &alignment.to_string()]);
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = Fixture::model("qwen3").bytes();
    for length in 0..file.len() {
        complaint(&file[..length]);
    }
}

/// One byte, or the 4 or 8 from there on, is something else.
#[derive(Clone, Debug)]
enum Edit {
    Byte(usize, u8),
    Word(usize, u32),
    Long(usize, u64),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn edits(length: usize) -> impl Strategy<Value = Edit> {
    let words = prop_oneof![any::<u32>(), Just(0), Just(1), Just(u32::MAX), 0..40u32];
    let longs = prop_oneof![any::<u64>(), Just(0), Just(1), Just(u64::MAX), Just(1 << 40), 0..300u64];
    prop_oneof![
        (0..length, any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        (0..length - 4, words).prop_map(|(at, word)| Edit::Word(at, word)),
        (0..length - 8, longs).prop_map(|(at, long)| Edit::Long(at, long)),
        (0..length - 40, 1..40usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        (0..length - 40, 1..40usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
    ]
}

fn apply(file: &mut Vec<u8>, edit: &Edit) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = file.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    match *edit {
        Edit::Byte(at, byte) => put(at, &[byte]),
        Edit::Word(at, word) => put(at, &word.to_le_bytes()),
        Edit::Long(at, long) => put(at, &long.to_le_bytes()),
        Edit::Remove(at, count) if at + count <= file.len() => drop(file.drain(at..at + count)),
        Edit::Repeat(at, count) if at + count <= file.len() => {
            let again = file[at..at + count].to_vec();
            file.splice(at..at, again);
        }
        Edit::Remove(..) | Edit::Repeat(..) => {}
    }
}

fn models() -> impl Strategy<Value = Vec<u8>> {
    let quantised = Fixture::model("llama")
        .tensor("token_embd.weight", &[32, 6], 8, vec![7; 34 * 6])
        .text("tokenizer.chat_template", "{{ messages }}");
    prop_oneof![
        Just(Fixture::model("llama").bytes()),
        Just(Fixture::model("qwen2").bytes()),
        Just(Fixture::model("qwen3").bytes()),
        Just(quantised.bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Edits of the part before the weights: a change there is seldom harmless.
    #[test]
    fn a_spoilt_file_is_converted_or_refused_in_one_line(
        (file, edits) in models().prop_flat_map(|file| {
            let header = file.len() * 2 / 3;
            (Just(file), prop::collection::vec(edits(header), 1..4))
        })
    ) {
        let mut spoilt = file;
        edits.iter().for_each(|edit| apply(&mut spoilt, edit));
        match Content::read(&spoilt) {
            Err(refusal) => {
                let error = refusal.of(Path::new("model.gguf")).to_string();
                prop_assert!(error.lines().count() == 1 && error.len() < 1000, "{error}");
            }
            Ok(content) => {
                let scratch = tempfile::tempdir().unwrap();
                let written = content.write(&scratch.path().join("out"), WeightFormat::Bfloat16, SHARD_BYTES);
                prop_assert_eq!(written.is_ok(), scratch.path().join("out").exists());
            }
        }
    }

    #[test]
    fn any_bytes_behind_the_magic_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for version in [2u32, 3] {
            let file = [b"GGUF", &version.to_le_bytes()[..], &1u64.to_le_bytes(), &1u64.to_le_bytes(), &bytes].concat();
            prop_assert!(Content::read(&file).is_err());
        }
    }
}
