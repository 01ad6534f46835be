//! The key-value part of a GGUF file.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::error::{Refusal, invalid, quoted, unsupported};

/// More keys than any writer makes; bounds the memory that a hostile file can ask for.
const MOST_KEYS: usize = 1 << 16;
/// The specification's limit.
const LONGEST_KEY: usize = (1 << 16) - 1;
/// Key length, type and a value of one byte.
const LEAST_BYTES: usize = 8 + 4 + 1;

/// One value. Arrays of numbers stay where they are in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Integer(i128),
    Real(f64),
    Flag(bool),
    Text(&'a str),
    Texts(Vec<&'a str>),
    Numbers(Numbers<'a>),
}

/// An array of numbers or flags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Numbers<'a> {
    kind: Scalar,
    bytes: &'a [u8],
}

impl Numbers<'_> {
    /// The numbers, if they are whole ones.
    fn integers(&self) -> Option<impl ExactSizeIterator<Item = i128>> {
        let kind = self.kind;
        let whole = !matches!(kind, Scalar::F32 | Scalar::F64 | Scalar::Bool);
        whole.then(|| self.bytes.chunks_exact(kind.bytes()).map(move |bytes| kind.integer(bytes)))
    }
}

/// The metadata of a file, by key.
#[derive(Debug)]
pub(super) struct Metadata<'a>(BTreeMap<&'a str, Value<'a>>);

impl<'a> Metadata<'a> {
    /// Reads `count` pairs.
    pub(super) fn read(cursor: &mut Cursor<'a>, count: u64) -> Result<Self, Refusal> {
        let most = MOST_KEYS.min(cursor.left() / LEAST_BYTES) as u64;
        if count > most {
            return Err(invalid(format!("the number of metadata keys is {count}, here at most {most} are possible")));
        }
        let mut all = BTreeMap::new();
        for number in 0..count {
            let key = cursor.text(|| format!("metadata key {number}"))?;
            if key.is_empty() || key.len() > LONGEST_KEY {
                let length = key.len();
                return Err(invalid(format!(
                    "metadata key {number} has {length} bytes, allowed are 1 to {LONGEST_KEY}"
                )));
            }
            let value = read_value(cursor, key)?;
            if all.insert(key, value).is_some() {
                return Err(invalid(format!("metadata key {} is there twice", quoted(key))));
            }
        }
        Ok(Self(all))
    }

    /// The keys, ascending.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.0.keys().copied()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        self.get(key, "a text", |value| match value {
            Value::Text(text) => Some(*text),
            _ => None,
        })
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<&[&'a str]>, Refusal> {
        self.get(key, "an array of texts", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Refusal> {
        self.get(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, Refusal> {
        self.get(key, "a whole number of 0 or more", |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    pub(super) fn real(&self, key: &str) -> Result<Option<f64>, Refusal> {
        self.get(key, "a finite number", |value| match value {
            Value::Real(number) => Some(*number).filter(|n| n.is_finite()),
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        })
    }

    pub(super) fn integers(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = i128>>, Refusal> {
        self.get(key, "an array of whole numbers", |value| match value {
            Value::Numbers(numbers) => numbers.integers(),
            _ => None,
        })
    }

    fn get<'s, T>(
        &'s self,
        key: &str,
        wanted: &str,
        convert: impl Fn(&'s Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let wrong = || invalid(format!("metadata key {} must be {wanted}, it is {}", quoted(key), describe(value)));
        convert(value).ok_or_else(wrong).map(Some)
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Text(text) => quoted(text),
        Value::Texts(_) => "an array of texts".to_owned(),
        Value::Numbers(_) => "an array of numbers".to_owned(),
    }
}

/// The types of fixed width.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    Bool,
}

impl Scalar {
    fn of(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The whole number that the bytes are: little-endian, with the sign that the type has.
    fn integer(self, bytes: &[u8]) -> i128 {
        let signed = matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64);
        let fill = if signed && bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    }

    fn value(self, bytes: &[u8]) -> Option<Value<'static>> {
        let bits = self.integer(bytes);
        Some(match self {
            Self::F32 => Value::Real(shortest(f32::from_bits(bits as u32))),
            Self::F64 => Value::Real(f64::from_bits(bits as u64)),
            Self::Bool => Value::Flag(match bits {
                0 => false,
                1 => true,
                _ => return None,
            }),
            _ => Value::Integer(bits),
        })
    }
}

/// The number with the fewest decimals that a writer can have meant by this float32: 1e-5, not 9.999999747378752e-6.
pub(super) fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

fn read_value<'a>(cursor: &mut Cursor<'a>, key: &str) -> Result<Value<'a>, Refusal> {
    let field = || format!("metadata key {}", quoted(key));
    match cursor.u32(|| format!("{}: its type", field()))? {
        TEXT => cursor.text(field).map(Value::Text),
        ARRAY => read_array(cursor, key),
        id => {
            let kind = Scalar::of(id).ok_or_else(|| unknown_type(key, id))?;
            let bytes = cursor.take(kind.bytes() as u64, field)?;
            kind.value(bytes)
                .ok_or_else(|| invalid(format!("{} is a flag of {}, allowed are 0 and 1", field(), bytes[0])))
        }
    }
}

fn read_array<'a>(cursor: &mut Cursor<'a>, key: &str) -> Result<Value<'a>, Refusal> {
    let field = || format!("metadata key {}", quoted(key));
    let length = || format!("{}: its number of elements", field());
    match cursor.u32(|| format!("{}: its element type", field()))? {
        TEXT => {
            let count = cursor.count(8, length)?;
            let text = |i| cursor.text(|| format!("{}[{i}]", field()));
            (0..count).map(text).collect::<Result<_, _>>().map(Value::Texts)
        }
        ARRAY => Err(unsupported(format!("{}, an array of arrays,", field()), "arrays of numbers and of texts are")),
        id => {
            let kind = Scalar::of(id).ok_or_else(|| unknown_type(key, id))?;
            let count = cursor.count(kind.bytes(), length)?;
            let bytes = cursor.take((count * kind.bytes()) as u64, field)?;
            Ok(Value::Numbers(Numbers { kind, bytes }))
        }
    }
}

fn unknown_type(key: &str, id: u32) -> Refusal {
    invalid(format!("metadata key {} is of the unknown type {id}, allowed are 0 to 12", quoted(key)))
}
