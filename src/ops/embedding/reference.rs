//! Naive definitions in `f64`.

use super::{Embedding, EmbeddingGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for Embedding {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (table, index) = (inputs[0], inputs[1]);
        let channels = table.channels();
        let data = (0..outputs[0].len())
            .map(|at| match index.data[at / channels] {
                -1.0 => 0.0,
                row => table.data[row as usize * channels + at % channels],
            })
            .collect();
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}

impl ReferenceOperator for EmbeddingGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (index, dy) = (inputs[0], inputs[1]);
        let channels = dy.channels();
        let mut table = Array::zeros(outputs[0].shape.clone());
        for (at, dy) in dy.data.iter().enumerate() {
            if index.data[at / channels] >= 0.0 {
                table.data[index.data[at / channels] as usize * channels + at % channels] += dy;
            }
        }
        vec![table]
    }
}
