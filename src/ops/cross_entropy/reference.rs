//! Naive definitions in `f64`.

use super::{CrossEntropy, CrossEntropyGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for CrossEntropy {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let classes = inputs[0].channels();
        let rows = inputs[0].data.chunks(classes).zip(&inputs[1].data);
        let sum: f64 = rows
            .map(|(row, &label)| {
                let total: f64 = row.iter().map(|z| z.exp()).sum();
                -(row[label as usize].exp() / total).ln()
            })
            .sum();
        vec![Array::scalar(sum / inputs[0].dim(0) as f64)]
    }
}

impl ReferenceOperator for CrossEntropyGrad {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let classes = inputs[0].channels();
        let scale = inputs[2].data[0] / inputs[0].dim(0) as f64;
        let mut dz = inputs[0].clone();
        for (row, &label) in dz.data.chunks_mut(classes).zip(&inputs[1].data) {
            let total: f64 = row.iter().map(|z| z.exp()).sum();
            for (k, z) in row.iter_mut().enumerate() {
                let target = f64::from(u8::from(k == label as usize));
                *z = scale * (z.exp() / total - target);
            }
        }
        vec![dz]
    }
}
