//! The header of a safetensors file, checked before any of its tensors is touched.
//!
//! Contract: 8 bytes of length (little endian), so many bytes of JSON that name each tensor's format, shape and range of the
//! data behind it. What passes is what the safetensors library takes, with every tensor declared once: the ranges follow
//! each other from the first byte of the data to the last, and each is as long as its shape says. Every error names the
//! tensor. Nothing is allocated but for what the header itself spells out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use safetensors::Dtype;
use serde::de::value::{Error as NameError, StrDeserializer};
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest header that the format allows.
const LONGEST: u64 = 100_000_000;

/// What a header says of one tensor.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// In the file.
    pub(super) bytes: Range<usize>,
}

/// The tensors of a file, in the order of their data.
pub(super) fn read(file: &[u8]) -> Result<Vec<Declared>, String> {
    let cut = |problem: String| format!("not a safetensors file, or cut short: {problem}");
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(cut(format!("it has {} bytes, the length of the header alone takes 8", file.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST {
        return Err(cut(format!("its header would be {length} bytes long, at most {LONGEST} are allowed")));
    }
    // At most 10^8, so that it fits.
    let length = length as usize;
    let Some(header) = rest.get(..length) else {
        return Err(cut(format!("its header is {length} bytes long, {} are there", rest.len())));
    };
    let Header(tensors) =
        serde_json::from_slice(header).map_err(|e| cut(format!("its header is not what it must be: {e}")))?;
    let (start, available) = (8 + length, rest.len() - length);
    let declared = ranges(tensors, start)?;
    match declared.last().map_or(0, |last| last.bytes.end - start) {
        needed if needed > available => Err(cut(format!("its tensors take {needed} bytes, {available} are there"))),
        needed if needed < available => {
            Err(format!("not a valid safetensors file: {} bytes behind its last tensor", available - needed))
        }
        _ => Ok(declared),
    }
}

/// Checks that each tensor's data is as long as its shape says and begins where that of the one before ends.
fn ranges(tensors: BTreeMap<String, Entry>, start: usize) -> Result<Vec<Declared>, String> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    let mut declared: Vec<Declared> = Vec::with_capacity(tensors.len());
    for (name, Entry { dtype, shape, data_offsets: (first, last) }) in tensors {
        let refuse = |problem: String| Err(format!("not a valid safetensors file: {name} {problem}"));
        let unknown: Result<Dtype, NameError> = Dtype::deserialize(dtype_name(&dtype));
        let Ok(dtype) = unknown else { return refuse(format!("is of an unknown format \"{dtype}\"")) };
        if last < first {
            return refuse(format!("ends at byte {last}, before it begins at {first}"));
        }
        if first < end {
            let other = declared.last().map_or("", |before| &before.name);
            return refuse(format!("begins at byte {first}, inside {other}, which ends at {end}"));
        }
        if first > end {
            return refuse(format!("begins at byte {first}, but bytes from {end} on belong to no tensor"));
        }
        match size(dtype, &shape) {
            Some(size) if size == last - first => {}
            Some(size) => {
                return refuse(format!("is {dtype} of shape {shape:?}, {size} bytes, but has {}", last - first));
            }
            None => return refuse(format!("is {dtype} of shape {shape:?}, which is no whole number of bytes")),
        }
        end = last;
        let in_file = start.checked_add(first).zip(start.checked_add(last));
        let Some((first, last)) = in_file else { return refuse(format!("ends at byte {last}, which no file has")) };
        declared.push(Declared { name, dtype, shape, bytes: first..last });
    }
    Ok(declared)
}

fn dtype_name(name: &str) -> StrDeserializer<'_, NameError> {
    name.into_deserializer()
}

/// Bytes of a tensor; `None` if they are too many to count, or end within a byte.
fn size(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    (bits % 8 == 0).then_some(bits / 8)
}

#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The tensors by name. serde's own maps let the last of two equal names win; here they are an error.
struct Header(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut tensors = BTreeMap::new();
        let mut metadata = None;
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == "__metadata__" {
                metadata.replace(map.next_value::<Option<BTreeMap<String, String>>>()?).is_some()
            } else {
                let entry: Entry = map.next_value().map_err(|e| A::Error::custom(format_args!("{name}: {e}")))?;
                tensors.insert(name.clone(), entry).is_some()
            };
            if twice {
                return Err(A::Error::custom(format_args!("it declares {name} twice")));
            }
        }
        Ok(Header(tensors))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![7; data]].concat()
    }

    fn problem(header: &str, data: usize) -> String {
        read(&file(header, data)).unwrap_err()
    }

    #[test]
    fn a_sound_header_is_read_in_the_order_of_the_data() {
        let header = r#"{"b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]}, "__metadata__": {"format": "pt"},
                         "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}   "#;
        let tensors = read(&file(header, 16)).unwrap();
        let start = 8 + header.len();
        let found: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.dtype, &t.shape[..], t.bytes.clone())).collect();
        let expected: [(&str, Dtype, &[usize], _); 2] =
            [("a", Dtype::F32, &[], start..start + 4), ("b", Dtype::BF16, &[2, 3], start + 4..start + 16)];
        assert_eq!(found, expected);
    }

    #[test]
    fn every_fault_is_named_with_its_tensor() {
        let a = r#""a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}"#;
        let with = |second: &str, data| problem(&format!("{{{a}, {second}}}"), data);
        let valid = "not a valid safetensors file: ";
        assert_eq!(
            with(r#""b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}"#, 24),
            format!("{valid}b begins at byte 8, inside a, which ends at 16")
        );
        assert_eq!(
            with(r#""b": {"dtype": "F32", "shape": [1], "data_offsets": [20, 24]}"#, 24),
            format!("{valid}b begins at byte 20, but bytes from 16 on belong to no tensor")
        );
        assert_eq!(
            with(r#""b": {"dtype": "F32", "shape": [3], "data_offsets": [16, 32]}"#, 32),
            format!("{valid}b is F32 of shape [3], 12 bytes, but has 16")
        );
        assert_eq!(
            with(r#""b": {"dtype": "F32", "shape": [1], "data_offsets": [20, 16]}"#, 24),
            format!("{valid}b ends at byte 16, before it begins at 20")
        );
        assert_eq!(
            with(r#""b": {"dtype": "F99", "shape": [1], "data_offsets": [16, 20]}"#, 20),
            format!("{valid}b is of an unknown format \"F99\"")
        );
        assert_eq!(
            with(r#""b": {"dtype": "F32", "shape": [4294967296, 4294967296, 16], "data_offsets": [16, 32]}"#, 32),
            format!("{valid}b is F32 of shape [4294967296, 4294967296, 16], which is no whole number of bytes")
        );
        assert_eq!(problem(&format!("{{{a}}}"), 17), format!("{valid}1 bytes behind its last tensor"));
        let cut = "not a safetensors file, or cut short: ";
        assert_eq!(problem(&format!("{{{a}}}"), 15), format!("{cut}its tensors take 16 bytes, 15 are there"));
        let header = format!("{cut}its header is not what it must be: ");
        assert!(with(a, 16).starts_with(&format!("{header}it declares a twice")), "{}", with(a, 16));
        let twice = problem(r#"{"__metadata__": {}, "__metadata__": {}}"#, 0);
        assert!(twice.starts_with(&format!("{header}it declares __metadata__ twice")), "{twice}");
        let typed = with(r#""b": {"dtype": "F32", "shape": [-1], "data_offsets": [16, 20]}"#, 20);
        assert!(typed.starts_with(&format!("{header}b: invalid value: integer `-1`")), "{typed}");
        assert!(problem("[]", 0).contains("expected an object with an entry for each tensor"), "{}", problem("[]", 0));
        assert!(problem(&"{\"a\":".repeat(100_000), 0).starts_with(&header));
    }

    #[test]
    fn a_header_that_cannot_be_there_is_not_looked_for() {
        let cut = "not a safetensors file, or cut short: ";
        assert_eq!(
            read(b"1234567").unwrap_err(),
            format!("{cut}it has 7 bytes, the length of the header alone takes 8")
        );
        let long = |length: u64| read(&[&length.to_le_bytes()[..], b"{}"].concat()).unwrap_err();
        assert_eq!(long(3), format!("{cut}its header is 3 bytes long, 2 are there"));
        for length in [100_000_001, u64::MAX] {
            let expected = format!("{cut}its header would be {length} bytes long, at most 100000000 are allowed");
            assert_eq!(long(length), expected);
        }
    }

    /// Entries that are sound more often than not, so that single faults are met behind sound ones.
    fn headers() -> impl Strategy<Value = (String, usize)> {
        let dtype = prop::sample::select(vec!["F32", "F16", "BF16", "I8", "F8_E4M3", "F4", "F99"]);
        let offset = prop_oneof![8 => Just(0i64), 1 => -4i64..5, 1 => any::<i64>()];
        let shape = prop::collection::vec(prop_oneof![9 => 0u64..5, 1 => any::<u64>()], 0..3);
        let entry = (dtype, shape, offset.clone(), offset, 0..5);
        (prop::collection::vec(entry, 0..4), -1i64..2).prop_map(|(entries, surplus)| {
            let mut end = 0i64;
            let parts = entries.into_iter().map(|(dtype, shape, first, last, name)| {
                let bits = match dtype {
                    "F32" => 32,
                    "F16" | "BF16" => 16,
                    "F4" => 4,
                    _ => 8,
                };
                let size = shape.iter().fold(bits, |product: u64, n| product.saturating_mul(*n)) / 8;
                let begin = end.wrapping_add(first);
                end = begin.wrapping_add(size.min(1000) as i64).wrapping_add(last);
                format!(r#""t{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#)
            });
            let header = format!("{{{}}}", parts.collect::<Vec<_>>().join(","));
            (header, end.clamp(0, 4000).saturating_add(surplus).max(0) as usize)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Two readers of one format: ours takes what the library takes, but for names that are there twice.
        #[test]
        fn what_is_taken_is_what_the_library_takes((header, data) in headers()) {
            let bytes = file(&header, data);
            match (read(&bytes), SafeTensors::deserialize(&bytes)) {
                (Ok(ours), Ok(theirs)) => {
                    prop_assert_eq!(ours.len(), theirs.len());
                    for tensor in ours {
                        let view = theirs.tensor(&tensor.name).unwrap();
                        prop_assert_eq!((tensor.dtype, &tensor.shape[..]), (view.dtype(), view.shape()));
                        prop_assert_eq!(&bytes[tensor.bytes.clone()], view.data());
                        prop_assert_eq!(bytes[tensor.bytes].as_ptr(), view.data().as_ptr());
                    }
                }
                (Err(problem), Ok(_)) => prop_assert!(problem.contains("twice"), "{header}: {problem}"),
                (Ok(_), Err(theirs)) => prop_assert!(false, "{header}: the library says {theirs}"),
                (Err(_), Err(_)) => {}
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), length in 0u64..70) {
            let _ = read(&bytes);
            let _ = read(&[&length.to_le_bytes()[..], &bytes].concat());
        }
    }
}
