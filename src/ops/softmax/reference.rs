//! Naive definitions in `f64`.

use super::{Softmax, SoftmaxGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for Softmax {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let rows = inputs[0].data.chunks(inputs[0].channels());
        let data = rows.flat_map(|row| {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
            row.iter().map(move |x| (x - largest).exp() / sum)
        });
        vec![Array::new(outputs[0].shape.clone(), data.collect())]
    }
}

impl ReferenceOperator for SoftmaxGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let channels = inputs[0].channels();
        let rows = inputs[0]
            .data
            .chunks(channels)
            .zip(inputs[1].data.chunks(channels));
        let data = rows.flat_map(|(y, dy)| {
            let mean: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
            y.iter().zip(dy).map(move |(y, dy)| y * (dy - mean))
        });
        vec![Array::new(outputs[0].shape.clone(), data.collect())]
    }
}
