//! Reads the numbers, texts and lists of the format, each checked against what is left of the file.

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::Entry;
use super::metadata::Value;
use crate::error::LoadError;

/// The longest arrays are vocabularies and their merges, about half a million today.
const MAX_ARRAY: u64 = 1 << 24;
/// Strings are names, tokens and chat templates; the last are tens of kilobytes.
const MAX_STRING: u64 = 1 << 24;
/// ggml has no more dimensions than this.
const MAX_DIMENSIONS: u32 = 4;

/// A reader that knows where it is and how much is left.
#[derive(Debug)]
pub(super) struct Cursor<R> {
    inner: BufReader<R>,
    pub(super) at: u64,
    pub(super) len: u64,
}

impl<R: Read + Seek> Cursor<R> {
    pub(super) fn new(mut source: R) -> Result<Self, LoadError> {
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

    pub(super) fn array<const N: usize>(&mut self, inside: &str) -> Result<[u8; N], LoadError> {
        self.need(N as u64, inside)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(unreadable)?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, inside: &str) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.array(inside)?))
    }

    fn u64(&mut self, inside: &str) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.array(inside)?))
    }

    pub(super) fn count(&mut self, inside: &str, most: u64) -> Result<u64, LoadError> {
        let count = self.u64(inside)?;
        if count > most {
            return Err(LoadError::Damaged(format!(
                "{inside} is {count}, and at most {most} are possible"
            )));
        }
        Ok(count)
    }

    pub(super) fn string(&mut self, inside: &str) -> Result<String, LoadError> {
        let len = self.count(inside, MAX_STRING)?;
        self.need(len, inside)?;
        let mut bytes = vec![0; len as usize];
        self.inner.read_exact(&mut bytes).map_err(unreadable)?;
        self.at += len;
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    pub(super) fn value(&mut self, kind: u32) -> Result<Value, LoadError> {
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

    pub(super) fn entry(&mut self) -> Result<(String, Entry), LoadError> {
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

    pub(super) fn bytes_at(&mut self, from: u64, bytes: u64, name: &str) -> Result<Vec<u8>, LoadError> {
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
