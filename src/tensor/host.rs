//! A tensor in host memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};
use thiserror::Error;

use super::DType;

/// Named tensors in name order: a state dict, one file of a model folder.
pub type TensorMap = BTreeMap<String, Tensor>;

/// What can be wrong with a host tensor.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TensorError {
    /// The bytes are not as many as type and shape take.
    #[error("a {dtype} tensor of shape {shape:?} takes {expected} bytes, found {found}")]
    ByteCount {
        /// Element type.
        dtype: DType,
        /// Extents, outermost first.
        shape: Vec<usize>,
        /// Bytes of a tensor of this type and shape.
        expected: usize,
        /// Bytes at hand.
        found: usize,
    },
    /// The number of bytes of this shape does not fit a `usize`.
    #[error("the element count of shape {shape:?} overflows")]
    TooLarge {
        /// Extents, outermost first.
        shape: Vec<usize>,
    },
    /// A tensor is read as an element type that it does not have.
    #[error("expected {expected}, found a tensor of dtype {found}")]
    WrongDType {
        /// What the reader takes.
        expected: &'static str,
        /// Element type of the tensor.
        found: DType,
    },
}

/// Bytes that tensors share: owned, or a file's in memory.
pub trait Storage: AsRef<[u8]> + Send + Sync {
    /// Gives the memory of a range back where it can be had again: a mapped file's pages, which count as the process's
    /// while they are mapped.
    fn release(&self, _start: usize, _len: usize) {}
}

impl Storage for Vec<u8> {}

/// A dense row-major tensor in host memory: little-endian bytes behind a cheap, shared handle.
/// The bytes are owned or a window into a memory-mapped file.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
}

#[derive(Clone)]
struct Bytes {
    owner: Arc<dyn Storage>,
    start: usize,
    len: usize,
}

impl Tensor {
    /// A tensor over bytes it owns.
    ///
    /// # Errors
    /// If `bytes` is not exactly what `dtype` and `shape` take.
    pub fn from_bytes(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        bytes: Vec<u8>,
    ) -> Result<Self, TensorError> {
        let len = bytes.len();
        Self::from_shared(dtype, shape, Arc::new(bytes), 0, len)
    }

    /// A tensor over `len` bytes at `start` of a shared owner, such as a memory map.
    ///
    /// # Errors
    /// If the window is not exactly what `dtype` and `shape` take, or leaves the owner.
    pub fn from_shared(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        owner: Arc<dyn Storage>,
        start: usize,
        len: usize,
    ) -> Result<Self, TensorError> {
        let shape = shape.into();
        let expected = shape
            .iter()
            .try_fold(dtype.size_bytes(), |bytes, &dim| bytes.checked_mul(dim));
        let Some(expected) = expected else {
            return Err(TensorError::TooLarge { shape });
        };
        let available = (*owner).as_ref().len().saturating_sub(start).min(len);
        if expected != len || available != len {
            return Err(TensorError::ByteCount {
                dtype,
                shape,
                expected,
                found: available,
            });
        }
        Ok(Self {
            dtype,
            shape,
            bytes: Bytes { owner, start, len },
        })
    }

    /// An `f32` tensor.
    ///
    /// # Panics
    /// If `values` does not hold the product of `shape`.
    pub fn from_f32(shape: impl Into<Vec<usize>>, values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::from_bytes(DType::F32, shape, bytes).expect("value count matches the shape")
    }

    /// An `i64` tensor.
    ///
    /// # Panics
    /// If `values` does not hold the product of `shape`.
    pub fn from_i64(shape: impl Into<Vec<usize>>, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::from_bytes(DType::I64, shape, bytes).expect("value count matches the shape")
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len / self.dtype.size_bytes()
    }

    /// True if the tensor holds no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.len == 0
    }

    /// The elements as little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        &(*self.bytes.owner).as_ref()[self.bytes.start..][..self.bytes.len]
    }

    /// Lets go of the memory behind the elements if it is a file's: they are read again when they are next needed. For
    /// who has made a copy, so that a large model is not resident twice.
    pub fn release(&self) {
        self.bytes.owner.release(self.bytes.start, self.bytes.len);
    }

    /// The elements as `f32`, borrowed where they already are; `f64` rounds to nearest.
    ///
    /// # Errors
    /// If the tensor is not of a floating-point type.
    pub fn to_f32(&self) -> Result<Cow<'_, [f32]>, TensorError> {
        let bytes = self.bytes();
        let values = match self.dtype {
            DType::F32 => {
                if let Ok(values) = bytemuck::try_cast_slice(bytes) {
                    return Ok(Cow::Borrowed(values));
                }
                decode(bytes, f32::from_le_bytes)
            }
            DType::F16 => decode(bytes, |b| f16::from_le_bytes(b).to_f32()),
            DType::BF16 => decode(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F64 => decode(bytes, |b| f64::from_le_bytes(b) as f32),
            found => {
                return Err(TensorError::WrongDType {
                    expected: "floats",
                    found,
                });
            }
        };
        Ok(Cow::Owned(values))
    }

    /// The elements as `f64`.
    ///
    /// # Errors
    /// If the tensor is not of a floating-point type.
    pub fn to_f64(&self) -> Result<Vec<f64>, TensorError> {
        match self.dtype {
            DType::F64 => Ok(decode(self.bytes(), f64::from_le_bytes)),
            _ => Ok(self.to_f32()?.iter().map(|&v| f64::from(v)).collect()),
        }
    }

    /// The elements as `i64`.
    ///
    /// # Errors
    /// If the tensor is not of an integer type.
    pub fn to_i64(&self) -> Result<Vec<i64>, TensorError> {
        let bytes = self.bytes();
        Ok(match self.dtype {
            DType::I64 => decode(bytes, i64::from_le_bytes),
            DType::I32 => decode(bytes, |b| i64::from(i32::from_le_bytes(b))),
            DType::I16 => decode(bytes, |b| i64::from(i16::from_le_bytes(b))),
            DType::I8 => decode(bytes, |b| i64::from(i8::from_le_bytes(b))),
            DType::U8 | DType::Bool => decode(bytes, |[b]: [u8; 1]| i64::from(b)),
            found => {
                return Err(TensorError::WrongDType {
                    expected: "integers",
                    found,
                });
            }
        })
    }

    /// A copy of a float tensor in another float type, rounded to nearest even.
    ///
    /// # Errors
    /// If either type is not a floating-point type.
    pub fn cast(&self, dtype: DType) -> Result<Self, TensorError> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        let bytes: Vec<u8> = match dtype {
            DType::F64 => encode(&self.to_f64()?, |v| v.to_le_bytes()),
            DType::F32 => encode(&self.to_f32()?, |v| v.to_le_bytes()),
            DType::F16 if self.dtype == DType::F64 => {
                encode(&self.to_f64()?, |v| f16::from_f64(v).to_le_bytes())
            }
            DType::F16 => encode(&self.to_f32()?, |v| f16::from_f32(v).to_le_bytes()),
            DType::BF16 if self.dtype == DType::F64 => {
                encode(&self.to_f64()?, |v| bf16::from_f64(v).to_le_bytes())
            }
            DType::BF16 => encode(&self.to_f32()?, |v| bf16::from_f32(v).to_le_bytes()),
            found => {
                return Err(TensorError::WrongDType {
                    expected: "a float type to cast to",
                    found,
                });
            }
        };
        Self::from_bytes(dtype, self.shape.clone(), bytes)
    }
}

impl PartialEq for Tensor {
    /// Equal type, shape and bits.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {:?})", self.dtype, self.shape)
    }
}

fn decode<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&chunk| read(chunk))
        .collect()
}

fn encode<T: Copy, const N: usize>(values: &[T], write: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&v| write(v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_are_checked() {
        let error = Tensor::from_bytes(DType::F32, [2, 3], vec![0; 20]).unwrap_err();
        assert!(matches!(
            error,
            TensorError::ByteCount {
                expected: 24,
                found: 20,
                ..
            }
        ));
        assert!(Tensor::from_bytes(DType::F32, [usize::MAX, 2], vec![]).is_err());
    }

    #[test]
    fn casts_round_to_nearest() {
        let t = Tensor::from_f32([3], &[1.0, 1.0 + f32::EPSILON, -65520.0]);
        let half = t.cast(DType::F16).unwrap();
        assert_eq!(&*half.to_f32().unwrap(), &[1.0, 1.0, f32::NEG_INFINITY]);
        assert!(t.cast(DType::I64).is_err());
        assert!(t.to_i64().is_err());
    }

    #[test]
    fn unaligned_windows_are_read() {
        let mut bytes = vec![7u8];
        bytes.extend(2.5f32.to_le_bytes());
        let t = Tensor::from_shared(DType::F32, [1], Arc::new(bytes), 1, 4).unwrap();
        assert_eq!(t.to_f32().unwrap()[0], 2.5);
    }
}
