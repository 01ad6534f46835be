//! The parts of a GGUF file: metadata, and where each tensor's bytes lie.
//!
//! Contract: versions 2 and 3, little-endian. Every number that the file gives is checked against what the file has before
//! anything is made of it; what is returned lies within the file, and no two tensors overlap. Memory taken is at most a small
//! multiple of the metadata's own size.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::error::{Refusal, invalid, quoted, unsupported};
use super::format::{Format, format, names};
use super::metadata::Metadata;

const MAGIC: &[u8] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
const MOST_ALIGNMENT: u64 = 1 << 20;
/// More tensors than any model of the families has.
const MOST_TENSORS: usize = 1 << 17;
/// Name length, number of dimensions, type and offset.
const LEAST_TENSOR_BYTES: usize = 8 + 4 + 4 + 8;
const MOST_DIMENSIONS: u32 = 4;
/// Far more than any model has; keeps products of sizes far from where 64 bits overflow.
const MOST_ELEMENTS: u64 = 1 << 40;

/// A file's content.
#[derive(Debug)]
pub(super) struct Gguf<'a> {
    pub(super) metadata: Metadata<'a>,
    pub(super) tensors: BTreeMap<&'a str, Stored<'a>>,
}

/// A tensor as the file has it.
#[derive(Clone, Debug)]
pub(super) struct Stored<'a> {
    pub(super) format: Format,
    /// Outermost dimension first, as in Hugging Face files (GGUF writes the innermost first).
    pub(super) shape: Vec<u64>,
    pub(super) bytes: &'a [u8],
}

impl Stored<'_> {
    /// Length of the innermost dimension: blocks do not cross it.
    pub(super) fn row_values(&self) -> usize {
        // The reader saw to it that there is a dimension, and that it fits.
        self.shape.last().map_or(1, |&n| n as usize)
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.row_values() / self.format.values * self.format.bytes
    }

    pub(super) fn rows(&self) -> usize {
        self.bytes.len() / self.row_bytes()
    }
}

impl<'a> Gguf<'a> {
    /// Reads all but the tensors' values.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut cursor = Cursor::new(bytes);
        if !bytes.starts_with(MAGIC) {
            return Err(invalid("not a GGUF file: it does not begin with \"GGUF\""));
        }
        cursor.take(MAGIC.len() as u64, || "the magic number".to_owned())?;
        check_version(cursor.u32(|| "the version".to_owned())?)?;
        let tensors = cursor.u64(|| "the number of tensors".to_owned())?;
        let keys = cursor.u64(|| "the number of metadata keys".to_owned())?;
        let metadata = Metadata::read(&mut cursor, keys)?;
        let alignment = alignment(&metadata)?;
        let headers = read_headers(&mut cursor, tensors)?;
        let start = cursor.position().next_multiple_of(alignment as usize);
        let data = bytes.get(start..).unwrap_or_default();
        let tensors = place(headers, data, alignment)?;
        Ok(Self { metadata, tensors })
    }
}

fn check_version(version: u32) -> Result<(), Refusal> {
    match version {
        2 | 3 => Ok(()),
        // Read the wrong way round, a small number has only its upper half.
        swapped if swapped & 0xffff == 0 && swapped != 0 => {
            Err(unsupported("a big-endian file", "little-endian ones are"))
        }
        other => Err(unsupported(format!("GGUF version {other}"), "2 and 3 are")),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, Refusal> {
    let alignment = metadata.count("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment.is_power_of_two() && alignment <= MOST_ALIGNMENT {
        Ok(alignment)
    } else {
        Err(invalid(format!("general.alignment must be a power of two up to {MOST_ALIGNMENT}, got {alignment}")))
    }
}

/// What the file says about a tensor.
struct Header<'a> {
    name: &'a str,
    shape: Vec<u64>,
    format: Format,
    offset: u64,
    bytes: u64,
}

fn read_headers<'a>(cursor: &mut Cursor<'a>, count: u64) -> Result<Vec<Header<'a>>, Refusal> {
    let most = MOST_TENSORS.min(cursor.left() / LEAST_TENSOR_BYTES) as u64;
    if count > most {
        return Err(invalid(format!("the number of tensors is {count}, here at most {most} are possible")));
    }
    (0..count).map(|number| read_header(cursor, number)).collect()
}

fn read_header<'a>(cursor: &mut Cursor<'a>, number: u64) -> Result<Header<'a>, Refusal> {
    let name = cursor.text(|| format!("tensor {number}: its name"))?;
    let field = |what: &str| format!("tensor {}: its {what}", quoted(name));
    let dimensions = cursor.u32(|| field("number of dimensions"))?;
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        let problem = format!("{} is {dimensions}, allowed are 1 to {MOST_DIMENSIONS}", field("number of dimensions"));
        return Err(invalid(problem));
    }
    let sizes = (0..dimensions).map(|_| cursor.u64(|| field("size")));
    let mut shape: Vec<u64> = sizes.collect::<Result<_, _>>()?;
    let id = cursor.u32(|| field("type"))?;
    let offset = cursor.u64(|| field("offset"))?;
    let format = format(id)
        .map_err(|other| unsupported(format!("tensor {} in {other}", quoted(name)), format!("{} are", names())))?;
    let bytes = size(&shape, &format).map_err(|problem| invalid(format!("tensor {}: {problem}", quoted(name))))?;
    shape.reverse();
    Ok(Header { name, shape, format, offset, bytes })
}

/// The bytes of a tensor, from its sizes, innermost first.
fn size(sizes: &[u64], format: &Format) -> Result<u64, String> {
    let elements = sizes.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
    let elements = elements
        .filter(|n| (1..=MOST_ELEMENTS).contains(n))
        .ok_or_else(|| format!("its sizes {sizes:?} must multiply to between 1 and {MOST_ELEMENTS}"))?;
    let (values, bytes) = (format.values as u64, format.bytes as u64);
    match sizes.first() {
        Some(row) if row % values == 0 => Ok(elements / values * bytes),
        _ => Err(format!("its rows of {sizes:?} must be of whole blocks of {values} values, as {} has", format.name)),
    }
}

/// Finds the bytes of every tensor.
fn place<'a>(
    mut headers: Vec<Header<'a>>,
    data: &'a [u8],
    alignment: u64,
) -> Result<BTreeMap<&'a str, Stored<'a>>, Refusal> {
    headers.sort_by_key(|header| header.offset);
    let mut tensors = BTreeMap::new();
    let mut end = (0, "");
    for Header { name, shape, format, offset, bytes } in headers {
        let field = format!("tensor {}: its offset", quoted(name));
        if offset % alignment != 0 {
            return Err(invalid(format!("{field} is {offset}, it must be a multiple of the alignment {alignment}")));
        }
        if offset < end.0 {
            return Err(invalid(format!("{field} is {offset}, inside tensor {}", quoted(end.1))));
        }
        // Both are within usize if they are within the file.
        let range = offset.checked_add(bytes).filter(|&end| end <= data.len() as u64);
        let range = range.map(|end| offset as usize..end as usize).ok_or_else(|| {
            let held = data.len();
            invalid(format!("{field} is {offset} and its size {bytes}, but the file holds {held} bytes of tensors"))
        })?;
        end = (offset + bytes, name);
        if tensors.insert(name, Stored { format, shape, bytes: &data[range] }).is_some() {
            return Err(invalid(format!("tensor {} is there twice", quoted(name))));
        }
    }
    Ok(tensors)
}
