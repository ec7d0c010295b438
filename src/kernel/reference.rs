//! The naive `f64` side of an op: arrays, and what the oracle asks of each op.

use crate::tensor::TensorType;

/// A dense row-major array; integers are held exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements, the last axis fastest.
    pub data: Vec<f64>,
}

impl Array {
    /// An array from its extents and elements.
    ///
    /// # Panics
    /// If `data` does not hold the product of `shape`.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f64>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{shape:?}");
        Self { shape, data }
    }

    /// All elements zero.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let len = shape.iter().product();
        Self::new(shape, vec![0.0; len])
    }

    /// A scalar.
    pub fn scalar(value: f64) -> Self {
        Self::new(Vec::new(), vec![value])
    }

    /// Extent of axis `axis`.
    pub fn dim(&self, axis: usize) -> usize {
        self.shape[axis]
    }

    /// Innermost extent.
    pub fn channels(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// The naive definition of an op.
pub trait ReferenceOperator {
    /// Results from inputs, in `f64`. For ops that update operands, the new values of
    /// `updates()` follow the results. `outputs` are the inferred result types.
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array>;
}
