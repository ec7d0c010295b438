//! Naive definitions in `f64`.

use super::{Pad, Slice};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

/// Position along `axis` of element `at`, and its index in an array whose extent along `axis` is
/// `extent` and where it stands at `position + shift`.
fn moved(shape: &[usize], axis: usize, at: usize, extent: usize, shift: isize) -> Option<usize> {
    let inner: usize = shape[axis + 1..].iter().product();
    let (outer, position, rest) = (
        at / inner / shape[axis],
        at / inner % shape[axis],
        at % inner,
    );
    let position = position.checked_add_signed(shift).filter(|&p| p < extent)?;
    Some((outer * extent + position) * inner + rest)
}

impl ReferenceOperator for Slice {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (x, y) = (inputs[0], &outputs[0]);
        let shift = self.start as isize;
        let from = |at| moved(&y.shape, self.axis, at, x.dim(self.axis), shift).expect("inside");
        let data = (0..y.len()).map(|at| x.data[from(at)]).collect();
        vec![Array::new(y.shape.clone(), data)]
    }
}

impl ReferenceOperator for Pad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (x, y) = (inputs[0], &outputs[0]);
        let shift = -(self.before as isize);
        let from = |at| moved(&y.shape, self.axis, at, x.dim(self.axis), shift);
        let data = (0..y.len())
            .map(|at| from(at).map_or(0.0, |from| x.data[from]))
            .collect();
        vec![Array::new(y.shape.clone(), data)]
    }
}
