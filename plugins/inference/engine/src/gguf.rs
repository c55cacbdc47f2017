//! Reads GGUF: header, metadata, tensor directory, and single tensors on demand. Every count and length is checked
//! against the bytes that are really there before anything is allocated, so that a damaged or hostile file costs an
//! error and nothing else. What the metadata means is left to the tokenizer and the decoder.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

mod cursor;
mod metadata;

pub(crate) use metadata::Metadata;

use std::collections::HashMap;
use std::io::{Read, Seek};
use std::ops::Range;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor, ggml_file::qtensor_from_ggml};

use crate::error::LoadError;
use cursor::Cursor;

const MAGIC: [u8; 4] = *b"GGUF";
/// Real files have a few dozen keys and at most some thousands of tensors.
const MAX_ENTRIES: u64 = 1 << 16;
/// Alignment of the data section where the file names none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Where a tensor lies and what it is.
#[derive(Debug, Clone)]
struct Entry {
    code: u32,
    /// Outermost first: a matrix is rows, columns.
    shape: Vec<usize>,
    elements: u64,
    /// From the start of the data section, in bytes.
    offset: u64,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Gguf<R> {
    reader: Cursor<R>,
    pub(crate) metadata: Metadata,
    tensors: HashMap<String, Entry>,
    data_start: u64,
}

impl<R: Read + Seek> Gguf<R> {
    pub(crate) fn read(source: R) -> Result<Self, LoadError> {
        let mut reader = Cursor::new(source)?;
        if reader.len < 4 || reader.array::<4>("the magic number")? != MAGIC {
            return Err(LoadError::NotGguf);
        }
        let version = reader.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(LoadError::Version(version));
        }
        let tensor_count = reader.count("the tensor count", MAX_ENTRIES)?;
        let pair_count = reader.count("the metadata count", MAX_ENTRIES)?;

        let mut metadata = Metadata::default();
        for _ in 0..pair_count {
            let key = reader.string("a metadata key")?;
            let kind = reader.u32("a metadata type")?;
            let value = reader.value(kind)?;
            metadata.insert(key, value);
        }
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let (name, entry) = reader.entry()?;
            tensors.insert(name, entry);
        }

        let alignment = match metadata.count("general.alignment")? {
            None => DEFAULT_ALIGNMENT,
            Some(0) => return Err(metadata.bad("general.alignment", "at least one")),
            Some(n) => n as u64,
        };
        let data_start = reader.at.next_multiple_of(alignment);
        let file = Self {
            reader,
            metadata,
            tensors,
            data_start,
        };
        for (name, entry) in &file.tensors {
            file.check_bounds(name, entry)?;
        }
        Ok(file)
    }

    fn check_bounds(&self, name: &str, entry: &Entry) -> Result<(), LoadError> {
        // Types that nothing here can compute with are an error only where they are asked for.
        let Some(dtype) = dtype(entry.code) else { return Ok(()) };
        let need = bytes_of(dtype, entry.elements)
            .and_then(|bytes| self.data_start.checked_add(entry.offset)?.checked_add(bytes))
            .ok_or_else(|| LoadError::Damaged(format!("the tensor `{name}` has an impossible size")))?;
        if need > self.reader.len {
            return Err(LoadError::Truncated {
                inside: format!("the tensor `{name}`"),
                have: self.reader.len,
                need,
            });
        }
        Ok(())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Elements of all tensors: the number of parameters.
    pub(crate) fn parameters(&self) -> u64 {
        self.tensors
            .values()
            .fold(0, |sum, entry| sum.saturating_add(entry.elements))
    }

    /// The type that most parameters are stored in, as it is usually written (`Q8_0`, `Q4_K`).
    pub(crate) fn dominant_type(&self) -> String {
        let mut by_type: HashMap<u32, u64> = HashMap::new();
        for entry in self.tensors.values() {
            let sum = by_type.entry(entry.code).or_default();
            *sum = sum.saturating_add(entry.elements);
        }
        let most = by_type.into_iter().max_by_key(|(code, elements)| (*elements, *code));
        most.map(|(code, _)| type_name(code)).unwrap_or_default()
    }

    /// Reads some rows of a matrix, or a whole vector (`shape` of one dimension, `rows` its range).
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<QTensor, LoadError> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| LoadError::MissingTensor(name.to_owned()))?;
        if entry.shape != shape {
            let (found, expected) = (entry.shape.clone(), shape.to_vec());
            return Err(LoadError::TensorShape {
                name: name.to_owned(),
                found,
                expected,
            });
        }
        let unsupported = || LoadError::TensorType {
            name: name.to_owned(),
            code: entry.code,
        };
        let dtype = dtype(entry.code).ok_or_else(unsupported)?;
        let per_row: usize = shape[1..].iter().product();
        let damaged = || LoadError::Damaged(format!("the rows of `{name}` do not fill whole blocks"));
        let row_bytes = bytes_of(dtype, per_row as u64).ok_or_else(damaged);
        // A vector is one row of its length; its type is a plain number or fills blocks as a whole.
        let (start, bytes, dims) = if shape.len() == 1 {
            (
                0,
                bytes_of(dtype, rows.len() as u64).ok_or_else(damaged)?,
                vec![rows.len()],
            )
        } else {
            let row = row_bytes?;
            let mut dims = shape.to_vec();
            dims[0] = rows.len();
            (row * rows.start as u64, row * rows.len() as u64, dims)
        };
        let from = self.data_start + entry.offset + start;
        let raw = self.reader.bytes_at(from, bytes, name)?;
        Ok(qtensor_from_ggml(dtype, &raw, dims, &Device::Cpu)?)
    }
}

fn dtype(code: u32) -> Option<GgmlDType> {
    Some(match code {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

fn type_name(code: u32) -> String {
    let name = match code {
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        _ => return dtype(code).map_or_else(|| format!("type {code}"), |dtype| format!("{dtype:?}")),
    };
    name.to_owned()
}

/// Bytes of so many elements, or `None` where they do not fill whole blocks or overflow.
fn bytes_of(dtype: GgmlDType, elements: u64) -> Option<u64> {
    let block = dtype.block_size() as u64;
    if !elements.is_multiple_of(block) {
        return None;
    }
    (elements / block).checked_mul(dtype.type_size() as u64)
}
