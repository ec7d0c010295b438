//! Naive definition in `f64`.

use super::Concat;
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for Concat {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let outer: usize = outputs[0].shape[..self.axis].iter().product();
        let mut data = Vec::with_capacity(outputs[0].len());
        for row in 0..outer {
            for input in inputs {
                let run = input.data.len() / outer.max(1);
                data.extend(&input.data[row * run..(row + 1) * run]);
            }
        }
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}
