//! Naive definition in `f64`.

use super::SumTo;
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};
use crate::ops::binary::broadcast_index;

impl ReferenceOperator for SumTo {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let mut y = Array::zeros(self.shape.clone());
        for (i, value) in inputs[0].data.iter().enumerate() {
            y.data[broadcast_index(&self.shape, &inputs[0].shape, i)] += value;
        }
        vec![y]
    }
}
