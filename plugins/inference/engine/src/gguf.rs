//! Reads GGUF: header, metadata, tensor directory, and single tensors on demand. Every count and length is checked
//! against the bytes that are really there before anything is allocated, so that a damaged or hostile file costs an
//! error and nothing else. What the metadata means is left to the tokenizer and the decoder.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor, ggml_file::qtensor_from_ggml};

use crate::error::LoadError;

const MAGIC: [u8; 4] = *b"GGUF";
/// Real files have a few dozen keys and at most some thousands of tensors.
const MAX_ENTRIES: u64 = 1 << 16;
/// The longest arrays are vocabularies and their merges, about half a million today.
const MAX_ARRAY: u64 = 1 << 24;
/// Strings are names, tokens and chat templates; the last are tens of kilobytes.
const MAX_STRING: u64 = 1 << 24;
/// ggml has no more dimensions than this.
const MAX_DIMENSIONS: u32 = 4;
/// Alignment of the data section where the file names none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// A metadata value. Integers of all widths are widened, floats too.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
}

impl Value {
    /// A form short enough for an error message.
    fn brief(&self) -> String {
        match self {
            Value::Integer(v) => v.to_string(),
            Value::Float(v) => v.to_string(),
            Value::Bool(v) => v.to_string(),
            Value::String(v) => v.chars().take(40).collect(),
            Value::Strings(v) => format!("a list of {} strings", v.len()),
            Value::Integers(v) => format!("a list of {} integers", v.len()),
            Value::Floats(v) => format!("a list of {} numbers", v.len()),
        }
    }
}

/// All key-value pairs of a file.
#[derive(Debug, Default)]
pub(crate) struct Metadata(HashMap<String, Value>);

impl Metadata {
    fn bad(&self, key: &str, expected: &'static str) -> LoadError {
        let found = self.0.get(key).map(Value::brief).unwrap_or_default();
        LoadError::BadKey {
            key: key.to_owned(),
            found,
            expected,
        }
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&str>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(key, "a text")),
        }
    }

    /// A count: zero to `u32::MAX`.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Integer(n)) => {
                let n = u32::try_from(*n).map_err(|_| self.bad(key, "a count"))?;
                Ok(Some(n as usize))
            }
            // Some converters write one equal count per layer.
            Some(Value::Integers(list)) if !list.is_empty() && list.iter().all(|n| *n == list[0]) => {
                let n = u32::try_from(list[0]).map_err(|_| self.bad(key, "a count"))?;
                Ok(Some(n as usize))
            }
            Some(_) => Err(self.bad(key, "a count")),
        }
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) if x.is_finite() => Ok(Some(*x as f32)),
            Some(Value::Integer(n)) => Ok(Some(*n as f32)),
            Some(_) => Err(self.bad(key, "a finite number")),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.bad(key, "true or false")),
        }
    }

    pub(crate) fn strings(&self, key: &str) -> Result<Option<&[String]>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Strings(list)) => Ok(Some(list)),
            Some(_) => Err(self.bad(key, "a list of texts")),
        }
    }

    pub(crate) fn integers(&self, key: &str) -> Result<Option<&[i64]>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Integers(list)) => Ok(Some(list)),
            Some(_) => Err(self.bad(key, "a list of integers")),
        }
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<&[f32]>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Floats(list)) => Ok(Some(list)),
            Some(_) => Err(self.bad(key, "a list of numbers")),
        }
    }

    pub(crate) fn needed<T>(key: &str, value: Option<T>) -> Result<T, LoadError> {
        value.ok_or_else(|| LoadError::MissingKey(key.to_owned()))
    }
}

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
            metadata.0.insert(key, value);
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

/// A reader that knows where it is and how much is left.
#[derive(Debug)]
struct Cursor<R> {
    inner: BufReader<R>,
    at: u64,
    len: u64,
}

impl<R: Read + Seek> Cursor<R> {
    fn new(mut source: R) -> Result<Self, LoadError> {
        let len = source.seek(SeekFrom::End(0)).map_err(unreadable)?;
        source.rewind().map_err(unreadable)?;
        Ok(Self {
            inner: BufReader::new(source),
            at: 0,
            len,
        })
    }

    fn need(&self, bytes: u64, inside: &str) -> Result<(), LoadError> {
        let need = self.at.saturating_add(bytes);
        if need > self.len {
            return Err(LoadError::Truncated {
                inside: inside.to_owned(),
                have: self.len,
                need,
            });
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, inside: &str) -> Result<[u8; N], LoadError> {
        self.need(N as u64, inside)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(unreadable)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, inside: &str) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.array(inside)?))
    }

    fn u64(&mut self, inside: &str) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.array(inside)?))
    }

    fn count(&mut self, inside: &str, most: u64) -> Result<u64, LoadError> {
        let count = self.u64(inside)?;
        if count > most {
            return Err(LoadError::Damaged(format!(
                "{inside} is {count}, and at most {most} are possible"
            )));
        }
        Ok(count)
    }

    fn string(&mut self, inside: &str) -> Result<String, LoadError> {
        let len = self.count(inside, MAX_STRING)?;
        self.need(len, inside)?;
        let mut bytes = vec![0; len as usize];
        self.inner.read_exact(&mut bytes).map_err(unreadable)?;
        self.at += len;
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    fn value(&mut self, kind: u32) -> Result<Value, LoadError> {
        Ok(match kind {
            7 => Value::Bool(self.array::<1>("a flag")?[0] != 0),
            8 => Value::String(self.string("a text")?),
            9 => self.list()?,
            6 | 12 => Value::Float(self.float(kind)?),
            _ => Value::Integer(self.integer(kind)?),
        })
    }

    fn integer(&mut self, kind: u32) -> Result<i128, LoadError> {
        const WHAT: &str = "a number";
        Ok(match kind {
            0 => u8::from_le_bytes(self.array(WHAT)?).into(),
            1 => i8::from_le_bytes(self.array(WHAT)?).into(),
            2 => u16::from_le_bytes(self.array(WHAT)?).into(),
            3 => i16::from_le_bytes(self.array(WHAT)?).into(),
            4 => self.u32(WHAT)?.into(),
            5 => i32::from_le_bytes(self.array(WHAT)?).into(),
            7 => self.array::<1>(WHAT)?[0].into(),
            10 => self.u64(WHAT)?.into(),
            11 => i64::from_le_bytes(self.array(WHAT)?).into(),
            _ => return Err(LoadError::Damaged(format!("there is no metadata type {kind}"))),
        })
    }

    fn float(&mut self, kind: u32) -> Result<f64, LoadError> {
        Ok(match kind {
            6 => f32::from_le_bytes(self.array("a number")?).into(),
            _ => f64::from_le_bytes(self.array("a number")?),
        })
    }

    fn list(&mut self) -> Result<Value, LoadError> {
        let kind = self.u32("a list's type")?;
        let len = self.count("a list's length", MAX_ARRAY)?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(LoadError::Damaged("a list holds lists".to_owned())),
            _ => return Err(LoadError::Damaged(format!("there is no metadata type {kind}"))),
        };
        self.need(len * least, "a list")?;
        Ok(match kind {
            8 => Value::Strings(
                (0..len)
                    .map(|_| self.string("a list of texts"))
                    .collect::<Result<_, _>>()?,
            ),
            6 | 12 => Value::Floats(
                (0..len)
                    .map(|_| Ok(self.float(kind)? as f32))
                    .collect::<Result<_, LoadError>>()?,
            ),
            _ => {
                let wide = (0..len).map(|_| self.integer(kind));
                let fits = |n| i64::try_from(n).map_err(|_| LoadError::Damaged("a number is out of range".to_owned()));
                Value::Integers(wide.map(|n| fits(n?)).collect::<Result<_, _>>()?)
            }
        })
    }

    fn entry(&mut self) -> Result<(String, Entry), LoadError> {
        let name = self.string("a tensor's name")?;
        let dimensions = self.u32("a tensor's dimensions")?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(LoadError::Damaged(format!(
                "the tensor `{name}` has {dimensions} dimensions"
            )));
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        let mut elements = 1u64;
        for _ in 0..dimensions {
            let size = self.u64("a tensor's dimensions")?;
            elements = elements
                .checked_mul(size)
                .filter(|n| *n <= i64::MAX as u64 && size > 0)
                .ok_or_else(|| LoadError::Damaged(format!("the tensor `{name}` has an impossible size")))?;
            shape.push(size as usize);
        }
        shape.reverse();
        let code = self.u32("a tensor's type")?;
        let offset = self.u64("a tensor's offset")?;
        Ok((
            name,
            Entry {
                code,
                shape,
                elements,
                offset,
            },
        ))
    }

    fn bytes_at(&mut self, from: u64, bytes: u64, name: &str) -> Result<Vec<u8>, LoadError> {
        self.inner.seek(SeekFrom::Start(from)).map_err(unreadable)?;
        self.at = from;
        self.need(bytes, name)?;
        let mut raw = vec![0; bytes as usize];
        self.inner.read_exact(&mut raw).map_err(unreadable)?;
        self.at += bytes;
        Ok(raw)
    }
}

fn unreadable(source: std::io::Error) -> LoadError {
    LoadError::Read {
        path: "the model".into(),
        source,
    }
}
