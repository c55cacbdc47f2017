//! Reads a safetensors file: its header at once, single tensors on demand. The header is bounded and checked against
//! the bytes that are really there before anything is allocated for a tensor, and a tensor is turned into numbers piece
//! by piece, so that reading never holds the weights twice. What the tensors mean is left to the encoder.
//!
//! Format: <https://huggingface.co/docs/safetensors/index>.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::digest::digest;
use crate::error::LoadError;

/// Bytes before the header, which tell its length.
const LENGTH_BYTES: u64 = 8;
/// Longest header: a hundred bytes for each tensor, of which encoders have some hundreds.
const HEADER_BYTES: u64 = 4 << 20;
/// Bytes of a tensor that are read and turned into numbers at once.
const CHUNK: usize = 1 << 18;

/// An open file.
#[derive(Debug)]
pub(crate) struct SafeTensors {
    file: File,
    header: Metadata,
    data_start: u64,
    /// SHA-256 of the whole file.
    pub(crate) digest: [u8; 32],
}

impl SafeTensors {
    /// Reads the header, and then the whole file once for its digest.
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let unreadable = |source| LoadError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let have = file.metadata().map_err(unreadable)?.len();
        let cut = |inside: &str, need| LoadError::Truncated {
            inside: inside.to_owned(),
            have,
            need,
        };
        if have < LENGTH_BYTES {
            return Err(cut("the length of the header", LENGTH_BYTES));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(unreadable)?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_BYTES {
            let text = format!("it claims a header of `{length}` bytes, and no model's is longer than {HEADER_BYTES}");
            return Err(LoadError::Damaged(text));
        }
        let data_start = LENGTH_BYTES + length;
        if data_start > have {
            return Err(cut("the header", data_start));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(unreadable)?;
        // Reading it proves that tensors lie one after another, each as long as its shape and type ask for.
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| LoadError::Damaged(format!("its header is no list of tensors ({error})")))?;
        let need = data_start.saturating_add(header.data_len() as u64);
        if need > have {
            return Err(cut("the tensors", need));
        }
        file.rewind().map_err(unreadable)?;
        let digest = digest(&mut file).map_err(unreadable)?;
        Ok(Self {
            file,
            header,
            data_start,
            digest,
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// Elements of all tensors.
    pub(crate) fn parameters(&self) -> u64 {
        let tensors = self.header.tensors();
        tensors
            .values()
            .map(|tensor| tensor.shape.iter().product::<usize>() as u64)
            .fold(0, u64::saturating_add)
    }

    /// The type of this tensor as it is usually written (`F32`, `BF16`).
    pub(crate) fn type_of(&self, name: &str) -> String {
        self.header
            .info(name)
            .map_or_else(String::new, |tensor| format!("{:?}", tensor.dtype))
    }

    /// The numbers of a tensor that must have this shape.
    pub(crate) fn numbers(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let tensor = self
            .header
            .info(name)
            .ok_or_else(|| LoadError::MissingTensor(name.to_owned()))?;
        if tensor.shape != shape {
            return Err(LoadError::TensorShape {
                name: name.to_owned(),
                found: tensor.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let (size, number): (usize, fn(&[u8]) -> f32) = match tensor.dtype {
            Dtype::F32 => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            Dtype::F16 => (2, |b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()),
            Dtype::BF16 => (2, |b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            other => {
                return Err(LoadError::TensorForm {
                    name: name.to_owned(),
                    found: format!("{other:?}"),
                });
            }
        };
        let (start, end) = tensor.data_offsets;
        let broken = |error: std::io::Error| LoadError::Damaged(format!("`{name}` cannot be read ({error})"));
        let from = SeekFrom::Start(self.data_start + start as u64);
        self.file.seek(from).map_err(broken)?;
        let mut numbers = Vec::with_capacity((end - start) / size);
        let mut chunk = vec![0; CHUNK.min(end - start)];
        let mut left = end - start;
        while left > 0 {
            let piece = &mut chunk[..left.min(CHUNK)];
            self.file.read_exact(piece).map_err(broken)?;
            numbers.extend(piece.chunks_exact(size).map(number));
            left -= piece.len();
        }
        Ok(numbers)
    }

    /// The same as a matrix for the tensor library: `rows` times `columns`.
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Tensor, LoadError> {
        let numbers = self.numbers(name, &[rows, columns])?;
        Ok(Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)?)
    }
}
