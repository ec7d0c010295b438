//! Naive definition in `f64`.

use super::{Binary, broadcast_index};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for Binary {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let shape = &outputs[0].shape;
        let data = (0..outputs[0].len())
            .map(|i| {
                let a = inputs[0].data[broadcast_index(&inputs[0].shape, shape, i)];
                let b = inputs[1].data[broadcast_index(&inputs[1].shape, shape, i)];
                match self {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::Div => a / b,
                }
            })
            .collect();
        vec![Array::new(shape.clone(), data)]
    }
}
