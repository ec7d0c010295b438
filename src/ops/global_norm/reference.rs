//! Naive definition in `f64`.

use super::{EPSILON, GlobalNorm};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for GlobalNorm {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let (arrays, scale) = match self.scaled {
            true => (
                &inputs[..inputs.len() - 1],
                inputs[inputs.len() - 1].data[0],
            ),
            false => (inputs, 1.0),
        };
        let squares: Vec<f64> = arrays
            .iter()
            .map(|array| array.data.iter().map(|v| v * v).sum())
            .collect();
        let norm = squares.iter().sum::<f64>().sqrt() / scale;
        let factor = (f64::from(self.max_norm) / (norm + EPSILON)).min(1.0);
        let each = squares.iter().map(|s| s.sqrt() / scale).collect();
        vec![
            Array::scalar(norm),
            Array::scalar(factor / scale),
            Array::scalar(f64::from(u8::from(norm.is_finite()))),
            Array::new([arrays.len()], each),
        ]
    }
}
