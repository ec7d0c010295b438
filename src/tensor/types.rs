//! What an array is before it has memory: its shape and element type.

use std::fmt;

use super::dtype::DType;

/// Shape and element type. Activations are `[N, H, W, C]` or `[N, T, C]`, scalars `[]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
}

impl TensorType {
    /// A type from extents, outermost first.
    pub fn new(shape: impl Into<Vec<usize>>, dtype: DType) -> Self {
        Self {
            shape: shape.into(),
            dtype,
        }
    }

    /// An `f32` type.
    pub fn f32(shape: impl Into<Vec<usize>>) -> Self {
        Self::new(shape, DType::F32)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of a dense tensor of this type.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size_bytes()
    }

    /// Innermost extent, 1 for a scalar: the channels of an activation.
    pub fn channels(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Elements per innermost row: pixels times batch of an activation.
    pub fn rows(&self) -> usize {
        self.len().checked_div(self.channels()).unwrap_or(0)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}
